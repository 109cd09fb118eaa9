//! A simulated cluster: brokers, a network that loses, doubles, delays and reorders, disks that forget what is not durable,
//! and an operator who replaces voters whose directories were wiped. One seed, one course.

mod faults;
mod operator;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use model::record::BatchBuilder;
use model::{MonotonicTime, Timestamp};
use ringlog_quorum::{
    PlantedFault, ReadEntries, ReplicaKey, Settings, SnapshotMark, VoterSet, WriteNumber, decode,
    encode,
};

use crate::sim::checks::Checks;
use crate::sim::disk::{Op, Snapshot};
use crate::sim::image::hash;
use crate::sim::marks::Marks;
use crate::sim::node::{Effect, Node};
use crate::sim::rng::Rng;

const MILLI: u64 = 1_000_000;

/// How a cluster is played.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// How long faults happen, in milliseconds.
    pub(crate) faults_ms: u64,
    pub(crate) planted: Option<PlantedFault>,
    /// 0: by the seed.
    pub(crate) voters: u64,
    /// The operator never rests.
    pub(crate) churn: bool,
    /// Writes pile up.
    pub(crate) slow_disks: bool,
}

enum Event {
    Tick(usize, u64),
    Deliver(Bytes),
    DiskStep(usize, u64),
    Persisted(usize, u64, WriteNumber),
    Read(usize, u64, ReadEntries),
    Fetched(usize, u64, ReplicaKey, SnapshotMark),
    SnapshotSynced(usize, u64, Snapshot),
    Start(usize, u64),
    Client,
    Operator,
    Fault,
}

pub(crate) struct World {
    rng: Rng,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) checks: Checks,
    /// From which to which nothing arrives.
    cut: Vec<Vec<bool>>,
    paused_until: Vec<u64>,
    disk_works: Vec<bool>,
    loss: u64,
    doubling: u64,
    delay_max: u64,
    disk_max: u64,
    snapshots: u64,
    generation: u8,
    payload: u64,
    /// A hash over everything that happened.
    pub(crate) trace: u64,
    planted: Option<PlantedFault>,
    faults_end: u64,
    /// Longest time between two faults.
    calm_ms: u64,
    churn: bool,
    pub(crate) marks: Marks,
}

impl World {
    pub(crate) fn new(seed: u64, shape: Shape) -> World {
        let mut rng = Rng(seed);
        let voters = match shape.voters {
            0 => [1, 3, 3, 3, 5][rng.below(5) as usize],
            given => given,
        };
        let observers = rng.below(3);
        let count = (voters + observers) as usize;
        let mut nodes: Vec<Node> = (0..count)
            .map(|broker| Node::new(broker as i32, shape.planted))
            .collect();
        let keys = nodes[..voters as usize].iter().map(|node| node.key);
        let set = VoterSet::new(keys.collect()).expect("a few brokers");
        for node in &mut nodes[..voters as usize] {
            node.begin(&set);
        }
        let mut world = World {
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            nodes,
            checks: Checks::default(),
            cut: vec![vec![false; count]; count],
            paused_until: vec![0; count],
            disk_works: vec![false; count],
            loss: rng.below(4) * 30,
            doubling: rng.below(3) * 50,
            delay_max: [1, 10, 60][rng.below(3) as usize] * MILLI,
            disk_max: match shape.slow_disks {
                true => 300 * MILLI,
                false => [1, 5, 40][rng.below(3) as usize] * MILLI,
            },
            snapshots: rng.below(3) * 30,
            generation: 0,
            payload: 0,
            trace: seed,
            planted: shape.planted,
            faults_end: shape.faults_ms * MILLI,
            calm_ms: [600, 1_500, 4_000][rng.below(3) as usize],
            churn: shape.churn,
            marks: Marks::default(),
            rng,
        };
        for node in 0..count {
            let at = world.rng.below(300 * MILLI);
            world.at(at, Event::Start(node, 0));
        }
        world.at(MILLI, Event::Client);
        world.at(MILLI, Event::Operator);
        world.at(200 * MILLI, Event::Fault);
        world
    }

    fn at(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    fn settings(&mut self) -> Settings {
        Settings {
            seed: self.rng.next(),
            message_bytes_max: self.rng.range(100, 2_000) as usize,
            messages_in_flight_max: self.rng.range(1, 8) as usize,
            memory_bytes_max: self.rng.below(2) as usize * 1_000,
            keep_entries: self.rng.below(20),
            stall_ticks: self.rng.range(10, 60) as usize,
            planted: self.planted,
            ..Settings::default()
        }
    }

    /// Plays until `end` (nanoseconds).
    pub(crate) fn play(&mut self, end: u64) {
        while let Some(next) = self.events.first_entry() {
            if next.key().0 > end {
                break;
            }
            let ((at, _), event) = next.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(node, life) => self.tick(node, life),
            Event::Deliver(frame) => self.deliver(frame),
            Event::DiskStep(node, life) => self.disk_step(node, life),
            Event::Persisted(node, life, number) => {
                if let Some(life) = self.awake(node, life, |l| Event::Persisted(node, l, number)) {
                    let effects = self.nodes[node].persisted(number, &mut self.checks);
                    self.perform(node, life, effects);
                }
            }
            Event::Read(node, life, read) => {
                if let Some(life) = self.awake(node, life, |l| Event::Read(node, l, read)) {
                    let effects = self.nodes[node].read(read, &mut self.checks);
                    self.perform(node, life, effects);
                }
            }
            Event::Fetched(node, life, from, mark) => self.fetched(node, life, from, mark),
            Event::SnapshotSynced(node, life, snapshot) => self.synced(node, life, snapshot),
            Event::Start(node, life) => {
                if self.nodes[node].life == life && self.nodes[node].live.is_none() {
                    self.start(node);
                }
            }
            Event::Client => self.client(),
            Event::Operator => self.operator(),
            Event::Fault => self.fault(),
        }
    }

    /// Whether the event is for this life of the broker; one for a broker that is paused comes later.
    fn awake(&mut self, node: usize, life: u64, again: impl FnOnce(u64) -> Event) -> Option<u64> {
        if self.nodes[node].life != life || self.nodes[node].live.is_none() {
            return None;
        }
        if self.paused_until[node] > self.now {
            let delay = self.paused_until[node] - self.now;
            self.at(delay, again(life));
            return None;
        }
        Some(life)
    }

    fn start(&mut self, node: usize) {
        let settings = self.settings();
        let now = MonotonicTime(self.now);
        let effects = self.nodes[node].start(now, settings, &mut self.checks);
        let life = self.nodes[node].life;
        self.disk_works[node] = false;
        self.note(1, node as u64);
        self.perform(node, life, effects);
        self.at(MILLI, Event::Tick(node, life));
    }

    fn note(&mut self, what: u64, more: u64) {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&what.to_le_bytes());
        bytes[8..16].copy_from_slice(&more.to_le_bytes());
        bytes[16..].copy_from_slice(&self.now.to_le_bytes());
        self.trace = hash(self.trace, &bytes);
    }

    fn tick(&mut self, node: usize, life: u64) {
        let Some(life) = self.awake(node, life, |l| Event::Tick(node, l)) else {
            return;
        };
        let now = MonotonicTime(self.now);
        let live = self.nodes[node].live.as_mut().expect("awake");
        live.quorum.handle_timeout(now);
        let due = live.quorum.next_timeout();
        let effects = self.nodes[node].drain(&mut self.checks);
        self.perform(node, life, effects);
        if let Some(due) = due {
            let delay = due.since(now) + Duration::from_nanos(self.rng.below(MILLI));
            self.at(delay.as_nanos() as u64, Event::Tick(node, life));
        }
    }

    fn deliver(&mut self, frame: Bytes) {
        let message = decode(&frame).expect("what was encoded can be decoded");
        // The network knows brokers, not directories.
        let node = message.to.broker.0 as usize;
        let life = self.nodes[node].life;
        if self.awake(node, life, |_| Event::Deliver(frame)).is_none() {
            return;
        }
        let live = self.nodes[node].live.as_mut().expect("awake");
        if let Err(refusal) = live.quorum.handle_message(message) {
            use ringlog_quorum::MessageRefusal::{Contradiction, FromItself};
            assert!(
                !matches!(refusal, Contradiction | FromItself),
                "disks kept what they promised, and yet: {refusal}"
            );
        }
        let effects = self.nodes[node].drain(&mut self.checks);
        self.perform(node, life, effects);
    }

    fn disk_step(&mut self, node: usize, life: u64) {
        if self.nodes[node].life != life {
            return;
        }
        let under_way = &self.nodes[node].disk.under_way;
        match under_way.front() {
            Some(Op::Truncate(_)) => self.marks.cuts += 1,
            Some(Op::Reset(_)) => self.marks.installs += 1,
            _ => {}
        }
        let writes = under_way.iter().filter(|op| matches!(op, Op::Done(_)));
        self.marks.writes_under_way += u64::from(writes.count() > 1);
        if let Some(number) = self.nodes[node].disk.step() {
            let delay = self.rng.below(MILLI);
            self.at(delay, Event::Persisted(node, life, number));
        }
        self.disk_works[node] = !self.nodes[node].disk.under_way.is_empty();
        if self.disk_works[node] {
            self.later_disk_step(node, life);
        }
    }

    fn later_disk_step(&mut self, node: usize, life: u64) {
        let stalls = self.now < self.faults_end && self.rng.chance(3);
        let slowest = match stalls {
            true => 2_000 * MILLI,
            false => self.disk_max,
        };
        let delay = self.rng.below(slowest);
        self.at(delay, Event::DiskStep(node, life));
    }

    fn perform(&mut self, node: usize, life: u64, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(message) => {
                    let to = message.to.broker.0 as usize;
                    let frame = encode(&message).to_bytes();
                    self.note(2, hash(0, &frame));
                    let copies = 1 + u64::from(self.rng.chance(self.doubling));
                    for _ in 0..copies {
                        if self.cut[node][to] || self.rng.chance(self.loss) {
                            continue;
                        }
                        let delay = self.rng.below(self.delay_max);
                        self.at(delay, Event::Deliver(frame.clone()));
                    }
                }
                Effect::DiskWork => {
                    if !self.disk_works[node] {
                        self.disk_works[node] = true;
                        self.later_disk_step(node, life);
                    }
                }
                Effect::Read(read) => {
                    self.marks.reads += 1;
                    let delay = self.rng.below(2 * self.disk_max);
                    self.at(delay, Event::Read(node, life, read));
                }
                Effect::Fetch(from, mark) => {
                    let delay = self.rng.below(300 * MILLI);
                    self.at(delay, Event::Fetched(node, life, from, mark));
                }
                Effect::Leads(leads) => {
                    self.note(3, u64::from(leads));
                    self.marks.elections += u64::from(leads);
                    if leads {
                        self.name_observers(node, life);
                    }
                }
            }
        }
        self.maybe_snapshot(node, life);
    }

    /// A new leader is told who watches, as its driver would from the registrations.
    fn name_observers(&mut self, node: usize, life: u64) {
        let all: Vec<ReplicaKey> = self.nodes.iter().map(|node| node.key).collect();
        let Some(live) = &mut self.nodes[node].live else {
            return;
        };
        if live.quorum.set_observers(&all).is_ok() {
            let effects = self.nodes[node].drain(&mut self.checks);
            self.perform(node, life, effects);
        }
    }

    fn maybe_snapshot(&mut self, node: usize, life: u64) {
        if !self.rng.chance(self.snapshots) {
            return;
        }
        let Some(live) = &self.nodes[node].live else {
            return;
        };
        if let Some(mark) = live.quorum.snapshot_mark() {
            let snapshot = (mark, live.image);
            assert_eq!(live.image.index, snapshot.0.index.0);
            let delay = self.rng.below(100 * MILLI);
            self.at(delay, Event::SnapshotSynced(node, life, snapshot));
        }
    }

    fn synced(&mut self, node: usize, life: u64, snapshot: Snapshot) {
        let again = snapshot.clone();
        let again = |l| Event::SnapshotSynced(node, l, again);
        let Some(life) = self.awake(node, life, again) else {
            return;
        };
        let mark = snapshot.0.clone();
        self.nodes[node].disk.keep_snapshot(snapshot);
        let live = self.nodes[node].live.as_mut().expect("awake");
        if let Some(start) = live.quorum.handle_snapshot_written(&mark) {
            self.marks.trims += 1;
            self.nodes[node].disk.under_way.push_back(Op::Trim(start));
            self.perform(node, life, vec![Effect::DiskWork]);
        }
    }

    fn fetched(&mut self, node: usize, life: u64, from: ReplicaKey, mark: SnapshotMark) {
        let again = mark.clone();
        let again = |l| Event::Fetched(node, l, from, again);
        let Some(life) = self.awake(node, life, again) else {
            return;
        };
        let source = from.broker.0 as usize;
        let is_there =
            self.nodes[source].live.is_some() && !self.cut[node][source] && !self.cut[source][node];
        let file = self.nodes[source].disk.file(&mark);
        let file = file.filter(|_| is_there);
        let effects = self.nodes[node].fetched(file, &mut self.checks);
        self.perform(node, life, effects);
    }

    /// Somebody who believes to lead is given something to decide.
    fn client(&mut self) {
        let delay = self.rng.below(20 * MILLI);
        self.at(delay, Event::Client);
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        self.propose(node);
    }

    fn propose(&mut self, node: usize) -> bool {
        let life = self.nodes[node].life;
        if self.paused_until[node] > self.now {
            return false;
        }
        let size = self.rng.range(8, 300) as usize;
        self.payload += 1;
        let mut value = vec![0; size];
        value[..8].copy_from_slice(&self.payload.to_be_bytes());
        let mut builder = BatchBuilder::new();
        for _ in 0..self.rng.range(1, 3) {
            builder.push(Timestamp(self.now as i64), None, Some(&value));
        }
        let batch = builder.build().expect("a batch");
        let Some(live) = &mut self.nodes[node].live else {
            return false;
        };
        let Ok(proposed) = live.quorum.propose(&batch) else {
            return false;
        };
        let place = (proposed.index.0, proposed.term.0);
        live.proposals.insert(place, self.payload);
        let effects = self.nodes[node].drain(&mut self.checks);
        self.perform(node, life, effects);
        true
    }

    /// Faults are over: everything is started, everything arrives.
    pub(crate) fn heal(&mut self) {
        self.faults_end = self.now;
        self.loss = 0;
        for row in &mut self.cut {
            row.fill(false);
        }
        self.delay_max = 10 * MILLI;
        self.disk_max = 5 * MILLI;
        self.paused_until.fill(0);
        for node in 0..self.nodes.len() {
            if self.nodes[node].live.is_none() {
                self.start(node);
            }
        }
    }

    /// Within `bound_ms` something new is committed, every broker has it, and no voter is left that does not exist.
    pub(crate) fn settle(&mut self, bound_ms: u64) {
        let end = self.now + bound_ms * MILLI;
        let wanted = self.checks.facts.len() as u64 + 10;
        while let Some(missing) = self.missing(wanted) {
            assert!(self.now < end, "{missing}");
            self.play(self.now + 200 * MILLI);
        }
        self.checks
            .logs_match(self.nodes.iter().map(|node| &node.disk));
    }

    /// What is still to come.
    fn missing(&self, wanted: u64) -> Option<String> {
        if (self.checks.facts.len() as u64) < wanted {
            return Some("nothing is decided".to_owned());
        }
        for node in &self.nodes {
            let applied = node.live.as_ref().map(|live| live.image.index);
            if applied.is_none_or(|applied| applied < wanted) {
                return Some(format!("{} has applied {applied:?} of {wanted}", node.key));
            }
        }
        let (_, voters) = self.checks.voters.as_ref().expect("there are voters");
        let exists = |key: &ReplicaKey| self.nodes.iter().any(|node| node.key == *key);
        let gone = voters.keys().iter().find(|voter| !exists(voter));
        gone.map(|gone| format!("{gone} still has a vote"))
    }
}
