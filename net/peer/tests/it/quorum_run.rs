//! Three replicas of the metadata quorum, each a driver over this network: what the first user of it does.
//!
//! A disk here is a list that outlives the process; writes reach it one after the other, a little later.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::record::BatchBuilder;
use model::{Offset, Timestamp};
use peer::{PeerEvent, PeerNetwork, Purpose, Settings};
use quorum::{
    EntryIndex, HardState, Output, Quorum, Recovered, Recovery, ReplicaKey, Term, VoterSet, Write,
    WriteNumber, bootstrap,
};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, Signal, TaskClass};

use crate::bed::{self, CLUSTER, key, within};

const NODES: usize = 3;
/// Leaders are elected within 0.6 to 1.2 s of silence; then a connection and a round of votes.
const FAILOVER_MAX: Duration = Duration::from_secs(4);

#[derive(Clone, Default)]
struct Disk {
    state: HardState,
    log: Vec<Bytes>,
}

fn base_offset(batch: &Bytes) -> i64 {
    i64::from_be_bytes(*batch.first_chunk().expect("a batch"))
}

impl Disk {
    fn write(&mut self, write: &Write) {
        self.state = write.state.unwrap_or(self.state);
        assert!(write.install.is_none(), "there are no snapshots");
        if let Some(Offset(end)) = write.truncate_to {
            self.log.retain(|batch| base_offset(batch) < end);
        }
        self.log.extend(write.append.iter().cloned());
    }
}

/// What a replica has done in its lives.
#[derive(Default)]
struct Replica {
    disk: RefCell<Disk>,
    /// Of this life: what it was told to be committed.
    committed: RefCell<Vec<(EntryIndex, Term, Bytes)>>,
    leader: Cell<Option<ReplicaKey>>,
    to_propose: RefCell<VecDeque<Bytes>>,
    /// What it has proposed, and was committed.
    decided: Cell<u64>,
    refused: Cell<u64>,
}

struct Driver {
    io: SimIo,
    key: ReplicaKey,
    network: PeerNetwork<SimIo>,
    quorum: Quorum,
    replica: Rc<Replica>,
    wake: Rc<Signal>,
    writes: Rc<RefCell<VecDeque<Write>>>,
    persisted: Rc<RefCell<Vec<WriteNumber>>>,
    own: Vec<(EntryIndex, Term)>,
}

fn keys() -> Vec<ReplicaKey> {
    (0..NODES).map(|node| key(node, 1)).collect()
}

fn key_of(node: model::BrokerId) -> ReplicaKey {
    *keys()
        .iter()
        .find(|key| key.broker == node)
        .expect("one of three")
}

/// Starts a replica over its disk.
fn start(simulation: &Simulation, node: usize, replica: &Rc<Replica>) {
    let io = simulation.io(node, 0);
    let wake = Signal::new();
    let local = peer::Local {
        cluster: CLUSTER.to_owned(),
        key: key(node, 1),
        shard: model::ShardId(0),
    };
    let resolve = Rc::new(peer::resolve_literal);
    let settings = Settings::default();
    let network = PeerNetwork::new(io.clone(), local, settings, resolve, wake.clone()).unwrap();
    network.set_book(bed::book(simulation, node)).unwrap();
    let disk = replica.disk.borrow().clone();
    let mut recovery = Recovery::new(key(node, 1), disk.state, None, Offset::ZERO).unwrap();
    replica.committed.borrow_mut().clear();
    for batch in disk.log {
        recovery.show(batch).unwrap();
    }
    let Recovered::Ready(recovered) = recovery.finish().unwrap() else {
        panic!("there are no snapshots");
    };
    let settings = quorum::Settings {
        seed: node as u64,
        ..quorum::Settings::default()
    };
    let driver = Driver {
        quorum: Quorum::new(io.now(), settings, recovered),
        io: io.clone(),
        key: key(node, 1),
        network: network.clone(),
        replica: replica.clone(),
        wake,
        writes: Rc::default(),
        persisted: Rc::default(),
        own: Vec::new(),
    };
    let address = simulation.address(node, bed::PORT);
    let listening = io.clone();
    simulation.spawn(node, 0, async move {
        network.listen(listening.listen(address, false).await.unwrap());
    });
    simulation.spawn(node, 0, driver.run());
}

impl Driver {
    async fn run(mut self) {
        let (io, wake) = (self.io.clone(), self.wake.clone());
        self.io.spawn(TaskClass::Foreground, async move {
            loop {
                io.sleep(Duration::from_millis(10)).await;
                wake.raise();
            }
        });
        self.start_writer();
        loop {
            self.perform();
            self.wake.wait().await;
            self.take();
        }
    }

    fn start_writer(&self) {
        let (io, wake) = (self.io.clone(), self.wake.clone());
        let (writes, persisted) = (self.writes.clone(), self.persisted.clone());
        let replica = self.replica.clone();
        self.io.spawn(TaskClass::Foreground, async move {
            loop {
                io.sleep(Duration::from_micros(500)).await;
                let Some(write) = writes.borrow_mut().pop_front() else {
                    continue;
                };
                replica.disk.borrow_mut().write(&write);
                persisted.borrow_mut().push(write.number);
                wake.raise();
            }
        });
    }

    fn take(&mut self) {
        for number in self.persisted.take() {
            self.quorum.handle_persisted(number);
            self.perform();
        }
        while let Some(received) = self.network.take_message() {
            let message = quorum::decode(&received.payload).expect("what a replica sent");
            assert_eq!(message.from, received.from.identity.key);
            // A busy replica refuses, and is sent it again.
            let _ = self.quorum.handle_message(message);
            self.perform();
        }
        while let Some(event) = self.network.take_event() {
            if let PeerEvent::Unreachable(target, Purpose::Raft) = event {
                self.quorum.handle_unreachable(key_of(target.node));
                self.perform();
            }
        }
        let proposal = self.replica.to_propose.borrow_mut().pop_front();
        if let Some(batch) = proposal {
            match self.quorum.propose(&batch) {
                Ok(place) => self.own.push((place.index, place.term)),
                Err(_) => self.replica.refused.set(self.replica.refused.get() + 1),
            }
            self.perform();
        }
        self.quorum.handle_timeout(self.io.now());
    }

    /// Does everything that the quorum wants.
    fn perform(&mut self) {
        loop {
            let mut unreachable = Vec::new();
            while let Some(output) = self.quorum.poll_output() {
                unreachable.extend(self.perform_one(output));
            }
            if unreachable.is_empty() {
                return;
            }
            for peer in unreachable {
                self.quorum.handle_unreachable(peer);
            }
        }
    }

    fn perform_one(&mut self, output: Output) -> Option<ReplicaKey> {
        match output {
            Output::Leadership(leadership) => self.replica.leader.set(leadership.leader),
            Output::Write(write) => self.writes.borrow_mut().push_back(write),
            Output::Send(message) => {
                assert_eq!(message.from, self.key);
                let frame = quorum::encode(&message);
                let mut pieces = vec![frame.head];
                pieces.extend(frame.batches);
                let to = message.to;
                let sent = self.network.send(to.broker, Purpose::Raft, pieces);
                return sent.is_err().then_some(to);
            }
            Output::Committed(entry) => {
                let place = (entry.index, entry.term);
                if self.own.contains(&place) {
                    self.replica.decided.set(self.replica.decided.get() + 1);
                }
                let mut committed = self.replica.committed.borrow_mut();
                committed.push((entry.index, entry.term, entry.batch));
            }
            Output::ReadEntries(read) => {
                let disk = self.replica.disk.borrow();
                let wanted = read.start_offset.0..read.end_offset.0;
                let batches = disk.log.iter();
                let batches = batches.filter(|batch| wanted.contains(&base_offset(batch)));
                let batches: Vec<_> = batches.cloned().collect();
                self.quorum.handle_entries_read(read.first, Some(batches));
            }
            other => panic!("there are no snapshots: {other:?}"),
        }
        None
    }
}

struct World {
    simulation: Simulation,
    replicas: Vec<Rc<Replica>>,
    proposed: Cell<u64>,
}

impl World {
    fn new(seed: u64) -> World {
        let world = World {
            simulation: Simulation::new(seed, NODES, 1),
            replicas: (0..NODES).map(|_| Rc::default()).collect(),
            proposed: Cell::new(0),
        };
        let begin = bootstrap(&VoterSet::new(keys()).unwrap());
        for (node, replica) in world.replicas.iter().enumerate() {
            *replica.disk.borrow_mut() = Disk {
                state: begin.state,
                log: vec![begin.batch.clone()],
            };
            start(&world.simulation, node, replica);
        }
        world
    }

    fn leader(&self) -> Option<usize> {
        (0..NODES).find(|node| {
            let is_up = self.simulation.is_up(*node);
            is_up && self.replicas[*node].leader.get() == Some(key(*node, 1))
        })
    }

    /// Has something decided, by whoever leads; false if it does not come about within `limit`.
    fn decide(&self, limit: Duration) -> bool {
        let decided = || self.replicas.iter().map(|r| r.decided.get()).sum::<u64>();
        let before = decided();
        within(&self.simulation, limit, || {
            if decided() > before {
                return true;
            }
            if let Some(leader) = self.leader() {
                let queue = &self.replicas[leader].to_propose;
                if queue.borrow().is_empty() {
                    self.proposed.set(self.proposed.get() + 1);
                    let mut batch = BatchBuilder::new();
                    let value = self.proposed.get().to_be_bytes();
                    batch.push(Timestamp(1), None, Some(&value));
                    queue.borrow_mut().push_back(batch.build().unwrap());
                }
            }
            false
        })
    }

    /// What is committed on several replicas is the same.
    fn check(&self) {
        let logs: Vec<_> = self.replicas.iter().map(|r| r.committed.borrow()).collect();
        for one in &logs {
            for (index, term, batch) in one.iter() {
                for other in &logs {
                    let same = other.iter().find(|(place, ..)| place == index);
                    assert!(same.is_none_or(|(_, t, b)| t == term && b == batch));
                }
            }
        }
    }
}

#[test]
fn a_quorum_decides_over_this_network_and_goes_on_without_its_leader() {
    for seed in bed::seeds(15) {
        let world = World::new(seed);
        assert!(world.decide(FAILOVER_MAX), "seed {seed}: no first leader");
        for _ in 0..20 {
            assert!(world.decide(Duration::from_secs(1)), "seed {seed}");
        }
        for _ in 0..3 {
            let leader = world.leader().expect("it decides");
            let began = world.simulation.now();
            match world.simulation.random().below(3) {
                0 => world.simulation.kill(leader),
                1 => world.simulation.power_cut(leader),
                _ => (0..NODES)
                    .filter(|node| *node != leader)
                    .for_each(|node| world.simulation.cut(leader, node)),
            }
            world.replicas[leader].leader.set(None);
            assert!(
                world.decide(FAILOVER_MAX),
                "seed {seed}: no leader after {leader}"
            );
            let took = world.simulation.now().since(began);
            assert!(took <= FAILOVER_MAX, "{took:?}");
            world.simulation.run_for(Duration::from_secs(2));
            for node in (0..NODES).filter(|node| *node != leader) {
                world.simulation.heal(leader, node);
            }
            if !world.simulation.is_up(leader) {
                world.simulation.restart(leader);
                start(&world.simulation, leader, &world.replicas[leader]);
            }
            // It is back when it has what the others have.
            let last = |node: usize| {
                let committed = world.replicas[node].committed.borrow();
                committed.last().map(|(index, ..)| *index)
            };
            let other = (leader + 1) % NODES;
            let is_back = || last(leader).is_some() && last(leader) >= last(other);
            assert!(world.decide(FAILOVER_MAX), "seed {seed}");
            let returned = within(&world.simulation, FAILOVER_MAX, is_back);
            assert!(returned, "seed {seed}: {leader} does not come back");
            world.check();
        }
        assert!(world.proposed.get() >= 24);
    }
}
