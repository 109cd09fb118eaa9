//! The fault atlas: what may happen to which broker next, so that of everything promised one good copy survives.
//!
//! Pure. Owned by the nemesis, which asks before each act and says what it did. A group of brokers shares one atlas and
//! one promise. Invariants: brokers whose disk has lost what it was told are never more than the promise survives, and
//! one counts as such until the scenario has seen that it caught up; what needs a broker to be down happens to none
//! that runs.

use std::collections::BTreeMap;

/// What the clients of a group of brokers are promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Nothing that survives the loss of a disk: any disk may go at any time.
    Nothing,
    /// What is acknowledged is durable on `min_in_sync` replicas of `replication_factor`, and decisions of the
    /// controller on a majority of `voters` (0: each broker decides for itself, and is its only voter).
    Copies {
        replication_factor: usize,
        min_in_sync: usize,
        voters: usize,
    },
}

/// How much may be away at once. Safety needs no bound: all may lose their power together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Everything.
    Total,
    /// So much that every partition takes records with `acks=all` all the time.
    Available,
}

/// What may be done to a broker or its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// `kill -9`.
    Kill,
    /// The machine loses its power.
    PowerCut,
    /// SIGSTOP.
    Pause,
    /// An empty disk, while it is down.
    Wipe,
    /// The disk of an earlier time, while it is down.
    OldDisk,
    /// Every operation may take long.
    SlowDisk,
    /// Operations do not end.
    HungDisk,
    /// Nothing more can be written.
    FullDisk,
    /// The wall clock is set.
    ClockJump,
    /// The monotonic clock changes its rate.
    ClockDrift,
}

/// Every harm.
pub const HARMS: [Harm; 10] = [
    Harm::Kill,
    Harm::PowerCut,
    Harm::Pause,
    Harm::Wipe,
    Harm::OldDisk,
    Harm::SlowDisk,
    Harm::HungDisk,
    Harm::FullDisk,
    Harm::ClockJump,
    Harm::ClockDrift,
];

/// What ends a harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relief {
    /// Starts a broker that is down.
    Start,
    /// Lets a paused one go on.
    Resume,
    /// Makes a disk fast, answering and large again.
    MendDisk,
}

/// Why a harm is not allowed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It needs a broker that runs, or one that is down, or a disk that is well.
    NotInThatState,
    /// There is no earlier disk.
    NoOldDisk,
    /// It might take the last good copy of something.
    LastCopy,
    /// Too many would be away.
    TooManyAway,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Up,
    Paused,
    Down,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    process: Process,
    /// Which of the three harms the disk suffers.
    disk: Option<Harm>,
    /// Whether the disk holds all that it ever made durable.
    is_whole: bool,
    has_old_disk: bool,
}

impl Standing {
    /// Whether it serves nobody, or not what it should.
    fn is_away(&self) -> bool {
        let stuck = matches!(self.disk, Some(Harm::HungDisk | Harm::FullDisk));
        self.process != Process::Up || stuck || !self.is_whole
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Atlas {
    promise: Promise,
    outage: Outage,
    nodes: BTreeMap<usize, Standing>,
}

impl Atlas {
    /// Brokers that run and are well.
    pub fn new(promise: Promise, outage: Outage, nodes: impl IntoIterator<Item = usize>) -> Atlas {
        let well = Standing {
            process: Process::Up,
            disk: None,
            is_whole: true,
            has_old_disk: false,
        };
        let nodes: BTreeMap<usize, Standing> = nodes.into_iter().map(|node| (node, well)).collect();
        if let Promise::Copies {
            replication_factor,
            min_in_sync,
            voters,
        } = promise
        {
            assert!(
                (1..=replication_factor).contains(&min_in_sync)
                    && replication_factor <= nodes.len()
                    && voters <= nodes.len(),
                "{promise:?} cannot be kept by {} brokers",
                nodes.len()
            );
        }
        Atlas {
            promise,
            outage,
            nodes,
        }
    }

    /// Whether this atlas is about that node.
    pub fn has(&self, node: usize) -> bool {
        self.nodes.contains_key(&node)
    }

    /// Disks that may be lost at once. A record is on `min_in_sync` disks when it is acknowledged, a decision on a
    /// majority of the voters' when it is committed; one of them must stay.
    fn losses_max(&self) -> usize {
        match self.promise {
            Promise::Nothing => self.nodes.len(),
            Promise::Copies {
                min_in_sync,
                voters,
                ..
            } => (min_in_sync - 1).min(voters / 2),
        }
    }

    /// Brokers that may be away at once.
    fn away_max(&self) -> usize {
        match (self.outage, self.promise) {
            (Outage::Total, _) | (_, Promise::Nothing) => self.nodes.len(),
            (
                Outage::Available,
                Promise::Copies {
                    replication_factor,
                    min_in_sync,
                    voters,
                },
            ) => {
                let spare_replicas = replication_factor - min_in_sync;
                match voters {
                    0 => spare_replicas,
                    // What is left is a majority.
                    voters => spare_replicas.min((voters - 1) / 2),
                }
            }
        }
    }

    fn standing(&self, node: usize) -> &Standing {
        let found = self.nodes.get(&node);
        found.unwrap_or_else(|| panic!("node {node} is not in this atlas"))
    }

    fn standing_mut(&mut self, node: usize) -> &mut Standing {
        let found = self.nodes.get_mut(&node);
        found.unwrap_or_else(|| panic!("node {node} is not in this atlas"))
    }

    /// Whether a harm may happen to a broker now.
    pub fn check(&self, node: usize, harm: Harm) -> Result<(), Refusal> {
        let standing = self.standing(node);
        let is_in_state = match harm {
            Harm::Kill | Harm::PowerCut => standing.process != Process::Down,
            Harm::Pause => standing.process == Process::Up,
            Harm::Wipe | Harm::OldDisk => standing.process == Process::Down,
            Harm::SlowDisk | Harm::HungDisk | Harm::FullDisk => {
                standing.process == Process::Up && standing.disk.is_none()
            }
            Harm::ClockJump | Harm::ClockDrift => true,
        };
        if !is_in_state {
            return Err(Refusal::NotInThatState);
        }
        if harm == Harm::OldDisk && !standing.has_old_disk {
            return Err(Refusal::NoOldDisk);
        }
        let others = || self.nodes.iter().filter(|(other, _)| **other != node);
        if matches!(harm, Harm::Wipe | Harm::OldDisk) {
            let lost = others().filter(|(_, other)| !other.is_whole).count();
            if lost + 1 > self.losses_max() {
                return Err(Refusal::LastCopy);
            }
        }
        let mut after = *standing;
        after.suffer(harm);
        if after.is_away() {
            let away = others().filter(|(_, other)| other.is_away()).count();
            if away + 1 > self.away_max() {
                return Err(Refusal::TooManyAway);
            }
        }
        Ok(())
    }

    /// Everything that may happen next.
    pub fn allowed(&self) -> Vec<(usize, Harm)> {
        let all = self
            .nodes
            .keys()
            .flat_map(|node| HARMS.map(|harm| (*node, harm)));
        all.filter(|(node, harm)| self.check(*node, *harm).is_ok())
            .collect()
    }

    /// A harm happens.
    pub fn suffer(&mut self, node: usize, harm: Harm) {
        if let Err(refusal) = self.check(node, harm) {
            panic!("{harm:?} must not happen to node {node}: {refusal:?}");
        }
        self.standing_mut(node).suffer(harm);
    }

    /// What would help now.
    pub fn reliefs(&self) -> Vec<(usize, Relief)> {
        let mut all = Vec::new();
        for (node, standing) in &self.nodes {
            match standing.process {
                Process::Up => {}
                Process::Paused => all.push((*node, Relief::Resume)),
                Process::Down => all.push((*node, Relief::Start)),
            }
            if standing.disk.is_some() {
                all.push((*node, Relief::MendDisk));
            }
        }
        all
    }

    /// A harm ends.
    pub fn relieve(&mut self, node: usize, relief: Relief) {
        assert!(
            self.reliefs().contains(&(node, relief)),
            "there is nothing to {relief:?} on node {node}"
        );
        let standing = self.standing_mut(node);
        match relief {
            Relief::Start | Relief::Resume => standing.process = Process::Up,
            Relief::MendDisk => standing.disk = None,
        }
    }

    /// A copy of a broker's disk was put aside.
    pub fn has_copied(&mut self, node: usize) {
        self.standing_mut(node).has_old_disk = true;
    }

    /// A broker that had lost its disk, or a part of it, holds everything again: the scenario has seen it.
    pub fn caught_up(&mut self, node: usize) {
        let standing = self.standing_mut(node);
        assert!(
            standing.process != Process::Down,
            "node {node} is down: it catches up with nobody"
        );
        standing.is_whole = true;
    }

    /// Whether a broker's disk holds all that it ever made durable.
    pub fn is_whole(&self, node: usize) -> bool {
        self.standing(node).is_whole
    }

    /// Whether nothing is the matter with a broker's disk now.
    pub fn is_disk_well(&self, node: usize) -> bool {
        self.standing(node).disk.is_none()
    }
}

impl Standing {
    fn suffer(&mut self, harm: Harm) {
        match harm {
            Harm::Kill | Harm::PowerCut => self.process = Process::Down,
            Harm::Pause => self.process = Process::Paused,
            Harm::Wipe | Harm::OldDisk => self.is_whole = false,
            Harm::SlowDisk | Harm::HungDisk | Harm::FullDisk => self.disk = Some(harm),
            Harm::ClockJump | Harm::ClockDrift => {}
        }
    }
}

#[cfg(test)]
mod tests;
