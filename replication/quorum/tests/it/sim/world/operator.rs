//! Whoever operates the simulated cluster.

use ringlog_quorum::{Quorum, ReplicaKey};

use super::{Event, MILLI, World};

/// What an operator wants of a leader.
#[derive(Clone, Copy)]
enum Order {
    Add(ReplicaKey),
    Remove(ReplicaKey),
    Transfer(Option<ReplicaKey>),
}

impl World {
    /// Voters whose directory is gone are replaced, and sometimes things are moved.
    pub(super) fn operator(&mut self) {
        let churns = self.churn && self.now < self.faults_end;
        let delay = match churns {
            true => self.rng.range(10, 100) * MILLI,
            false => self.rng.range(100, 400) * MILLI,
        };
        self.at(delay, Event::Operator);
        for node in 0..self.nodes.len() {
            let life = self.nodes[node].life;
            let (choice, any) = (self.rng.below(1000), self.rng.next());
            if self.paused_until[node] > self.now {
                continue;
            }
            let Some(live) = &self.nodes[node].live else {
                continue;
            };
            if !live.quorum.status().is_leader {
                continue;
            }
            // What changes one time in ten changes each time if the operator does not rest.
            let choice = if churns { choice / 8 } else { choice };
            if let Some(order) = self.choose(&live.quorum, choice, any) {
                self.give(node, order);
            }
            let effects = self.nodes[node].drain(&mut self.checks);
            self.perform(node, life, effects);
            self.name_observers(node, life);
        }
        self.checks
            .logs_match(self.nodes.iter().map(|node| &node.disk));
    }

    fn choose(&self, leader: &Quorum, choice: u64, any: u64) -> Option<Order> {
        let keys: Vec<ReplicaKey> = self.nodes.iter().map(|node| node.key).collect();
        let any = keys[(any % keys.len() as u64) as usize];
        let status = leader.status();
        let voters = status.replicas.iter().filter(|replica| replica.is_voter);
        let voters: Vec<ReplicaKey> = voters.map(|voter| voter.key).collect();
        let is_voter = voters.contains(&any);
        if let Some(gone) = voters.iter().find(|voter| !keys.contains(voter)) {
            return Some(Order::Remove(*gone));
        }
        if voters.len().is_multiple_of(2) && !self.churn {
            let new = keys.iter().find(|key| !voters.contains(key));
            return new.map(|new| Order::Add(*new));
        }
        if self.now >= self.faults_end {
            return None;
        }
        match choice {
            0..70 if !is_voter => Some(Order::Add(any)),
            70..110 if is_voter && voters.len() > 3 => Some(Order::Remove(any)),
            110..125 => Some(Order::Transfer(is_voter.then_some(any))),
            _ => None,
        }
    }

    /// Refusals are all right: the operator tries again.
    fn give(&mut self, node: usize, order: Order) {
        let live = self.nodes[node].live.as_mut().expect("it leads");
        match order {
            Order::Add(key) => {
                self.marks.voters_added += u64::from(live.quorum.add_voter(key).is_ok());
            }
            Order::Remove(key) => {
                self.marks.voters_removed += u64::from(live.quorum.remove_voter(key).is_ok());
            }
            Order::Transfer(to) => {
                let transferred = live.quorum.transfer_leadership(to);
                self.marks.transfers += u64::from(transferred.is_ok());
            }
        }
    }
}
