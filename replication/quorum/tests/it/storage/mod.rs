//! The storage engine as the quorum's disk, as `src/lib.rs` says that a driver uses it: three brokers, each with a simulated
//! machine of its own, power cuts in the middle of writes, and logs that are equal byte by byte in the end.

mod disk;

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::record::BatchBuilder;
use model::{BrokerId, MonotonicTime, Offset, Timestamp};
use ringlog_quorum::{
    DirectoryId, Entry, HardState, Message, Output, Quorum, Recovered, Recovery, ReplicaKey,
    Settings, Shown, SnapshotMark, VoterSet, bootstrap,
};
use runtime::Io as _;
use runtime::sim::{SimIo, Simulation};
use storage::{Durability, Log, QuorumState, ReplicatedBatch, Storage};

use crate::sim::image::Image;
use crate::sim::rng::Rng;

use disk::{carry_out, open, read};

const SEEDS: u64 = 10;

struct Running {
    storage: Storage<SimIo>,
    log: Rc<Log>,
    quorum: Quorum,
    image: Image,
    fetched: Option<(SnapshotMark, Image)>,
}

struct Broker {
    key: ReplicaKey,
    simulation: Simulation,
    running: Option<Running>,
    /// The snapshot file: the storage has nothing to do with it.
    snapshot: Option<(SnapshotMark, Image)>,
    now: MonotonicTime,
}

/// What the others have to do with.
enum Effect {
    Send(Message),
    Fetch(ReplicaKey, SnapshotMark),
}

impl Broker {
    fn new(broker: i32, seed: u64) -> Broker {
        Broker {
            key: ReplicaKey {
                broker: BrokerId(broker),
                directory: DirectoryId([broker as u8 + 1; 16]),
            },
            simulation: Simulation::new(seed, 1, 1),
            running: None,
            snapshot: None,
            now: MonotonicTime(0),
        }
    }

    /// Every start, as `src/lib.rs` has it.
    fn start(&mut self, io: &SimIo, voters: &VoterSet, seed: u64) {
        let snapshot = self.snapshot.clone();
        let key = self.key;
        let (storage, log, recovered, image) = self.simulation.block_on(0, async {
            let (storage, log) = open(io).await;
            if log.log_end_offset() == Offset::ZERO && log.quorum_state().vote == 0 {
                let begin = bootstrap(voters);
                let HardState { term, vote, commit } = begin.state;
                let state = QuorumState { term, vote, commit };
                storage.set_quorum_state(&log, state).unwrap();
                let batches = [ReplicatedBatch {
                    bytes: &begin.batch,
                    offset_delta_of_max_timestamp: 0,
                }];
                storage
                    .append_replicated(&log, &batches, Durability::Flushed, Timestamp(0))
                    .unwrap();
                while log.durable_end_offset() < log.log_end_offset() {
                    io.sleep(Duration::from_micros(50)).await;
                }
            }
            loop {
                let QuorumState { term, vote, commit } = log.quorum_state();
                let state = HardState { term, vote, commit };
                let mark = snapshot.as_ref().map(|(mark, _)| mark.clone());
                let mut image = snapshot
                    .as_ref()
                    .map(|(_, image)| *image)
                    .unwrap_or_default();
                let start = log.log_start_offset();
                let mut recovery = Recovery::new(key, state, mark, start).unwrap();
                for batch in read(&storage, &log, start, log.durable_end_offset()).await {
                    if recovery.show(batch.clone()).unwrap() == Shown::Apply {
                        image.apply(&Entry::read(batch).unwrap());
                    }
                }
                match recovery.finish().unwrap() {
                    Recovered::Ready(recovered) => return (storage, log, recovered, image),
                    Recovered::ResetLog(mark) => {
                        storage.reset(&log, mark.end_offset).await.unwrap();
                    }
                }
            }
        });
        let settings = Settings {
            seed,
            memory_bytes_max: 1_000,
            keep_entries: 5,
            ..Settings::default()
        };
        self.running = Some(Running {
            storage,
            log,
            quorum: Quorum::new(self.now, settings, recovered),
            image,
            fetched: None,
        });
    }

    fn power_cut(&mut self, voters: &VoterSet, seed: u64) {
        self.running = None;
        self.simulation.power_cut(0);
        let io = self.simulation.restart(0)[0].clone();
        self.start(&io, voters, seed);
    }

    /// Does everything that the quorum wants. `None`: the power goes in the middle of a write.
    fn drain(&mut self, rng: &mut Rng) -> Option<Vec<Effect>> {
        let io = self.simulation.io(0, 0);
        let running = self.running.as_mut().unwrap();
        let (mut effects, mut reads) = (Vec::new(), Vec::new());
        loop {
            let mut written = None;
            while let Some(output) = running.quorum.poll_output() {
                match output {
                    Output::Write(write) => {
                        if let Some(mark) = &write.install {
                            let (fetched, image) = running.fetched.take().unwrap();
                            assert_eq!(fetched, *mark);
                            running.image = image;
                            self.snapshot = Some((fetched, image));
                        }
                        let waits = !rng.chance(30);
                        let disk = (&running.storage, &running.log);
                        let carried = carry_out(&io, disk, &write, waits);
                        self.simulation.block_on(0, carried)?;
                        written = Some(write.number);
                    }
                    Output::Committed(entry) => {
                        running.image.apply(&Entry::read(entry.batch).unwrap());
                        running.log.set_high_watermark(entry.end_offset);
                    }
                    Output::Send(message) => effects.push(Effect::Send(message)),
                    Output::FetchSnapshot(from, mark) => effects.push(Effect::Fetch(from, mark)),
                    Output::DiscardSnapshot(_) => running.fetched = None,
                    Output::ReadEntries(read) => reads.push(read),
                    Output::Leadership(_) => {}
                }
            }
            if let Some(number) = written {
                running.quorum.handle_persisted(number);
            } else if let Some(wanted) = reads.pop() {
                let (start, end) = (wanted.start_offset, wanted.end_offset);
                let reading = read(&running.storage, &running.log, start, end);
                let batches = self.simulation.block_on(0, reading);
                running
                    .quorum
                    .handle_entries_read(wanted.first, Some(batches));
            } else {
                return Some(effects);
            }
        }
    }
}

struct World {
    rng: Rng,
    brokers: Vec<Broker>,
    voters: VoterSet,
    network: VecDeque<Message>,
    power_cuts: u64,
    cuts_in_writes: u64,
    fetches: u64,
    deaf: Option<usize>,
    calm: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let brokers: Vec<Broker> = (0..3).map(|broker| Broker::new(broker, seed)).collect();
        let keys = brokers.iter().map(|broker| broker.key).collect();
        let voters = VoterSet::new(keys).unwrap();
        let mut world = World {
            rng: Rng(seed),
            brokers,
            voters,
            network: VecDeque::new(),
            power_cuts: 0,
            cuts_in_writes: 0,
            fetches: 0,
            deaf: None,
            calm: false,
        };
        for broker in &mut world.brokers {
            let io = broker.simulation.io(0, 0);
            broker.start(&io, &world.voters, world.rng.next());
        }
        (0..3).for_each(|broker| world.drain(broker));
        world
    }

    fn quorum(&mut self, broker: usize) -> &mut Quorum {
        &mut self.brokers[broker].running.as_mut().unwrap().quorum
    }

    fn drain(&mut self, broker: usize) {
        let mut calm = Rng(0);
        let rng = match self.calm {
            true => &mut calm,
            false => &mut self.rng,
        };
        let Some(effects) = self.brokers[broker].drain(rng) else {
            self.cuts_in_writes += 1;
            return self.power_cut(broker);
        };
        for effect in effects {
            match effect {
                Effect::Send(message) => self.network.push_back(message),
                Effect::Fetch(from, mark) => {
                    let file = self.brokers[from.broker.0 as usize].snapshot.clone();
                    let file = file.filter(|(offered, _)| *offered == mark);
                    self.fetches += u64::from(file.is_some());
                    let running = self.brokers[broker].running.as_mut().unwrap();
                    match file {
                        Some(file) => {
                            running.fetched = Some(file);
                            running.quorum.handle_snapshot_fetched();
                        }
                        None => running.quorum.handle_snapshot_failed(),
                    }
                    self.drain(broker);
                }
            }
        }
    }

    fn power_cut(&mut self, broker: usize) {
        self.power_cuts += 1;
        let seed = self.rng.next();
        self.brokers[broker].power_cut(&self.voters, seed);
        self.drain(broker);
    }

    fn tick(&mut self, broker: usize) {
        let due = self.quorum(broker).next_timeout().unwrap();
        self.brokers[broker].now = due;
        self.quorum(broker).handle_timeout(due);
        self.drain(broker);
    }

    fn deliver(&mut self) {
        let Some(message) = self.network.pop_front() else {
            return;
        };
        let broker = message.to.broker.0 as usize;
        if !self.calm && (self.rng.chance(50) || self.deaf == Some(broker)) {
            return;
        }
        self.quorum(broker).handle_message(message).unwrap();
        self.drain(broker);
    }

    fn propose(&mut self, broker: usize) {
        let value = [self.rng.below(256) as u8; 100];
        let mut builder = BatchBuilder::new();
        for _ in 0..self.rng.range(1, 3) {
            builder.push(Timestamp(1), None, Some(&value));
        }
        let batch = builder.build().unwrap();
        // Refused where this broker does not lead.
        if self.quorum(broker).propose(&batch).is_ok() {
            self.drain(broker);
        }
    }

    fn snapshot(&mut self, broker: usize) {
        let Broker {
            running,
            snapshot,
            simulation,
            ..
        } = &mut self.brokers[broker];
        let running = running.as_mut().unwrap();
        let Some(mark) = running.quorum.snapshot_mark() else {
            return;
        };
        *snapshot = Some((mark.clone(), running.image));
        if let Some(start) = running.quorum.handle_snapshot_written(&mark) {
            let mark = running
                .storage
                .advance_log_start(&running.log, start)
                .unwrap();
            let waited = simulation.block_on(0, running.storage.wait_for_mark(mark));
            waited.unwrap();
        }
    }

    fn step(&mut self) {
        let broker = self.rng.below(3) as usize;
        match self.rng.below(100) {
            0..25 => self.tick(broker),
            25..75 => self.deliver(),
            75..93 => self.propose(broker),
            93..97 => self.snapshot(broker),
            97..99 => self.power_cut(broker),
            // Somebody hears nothing for a while, or everybody does again.
            _ => self.deaf = (broker != 0).then_some(broker),
        }
    }

    fn settle(&mut self) {
        self.calm = true;
        for _ in 0..100 {
            (0..3).for_each(|broker| self.propose(broker));
            (0..3).for_each(|broker| self.tick(broker));
            while !self.network.is_empty() {
                self.deliver();
            }
        }
    }

    /// What each broker has applied, and its log.
    fn logs(&self) -> Vec<(Image, BTreeMap<Offset, Bytes>)> {
        let log = |broker: &Broker| {
            let running = broker.running.as_ref().unwrap();
            let (log, storage) = (&running.log, &running.storage);
            let reading = read(
                storage,
                log,
                log.log_start_offset(),
                log.durable_end_offset(),
            );
            let batches = broker.simulation.block_on(0, reading).into_iter();
            let entries = batches.map(|batch| Entry::read(batch).unwrap());
            let by_offset = entries.map(|entry| (entry.base_offset(), entry.batch().clone()));
            (running.image, by_offset.collect())
        };
        self.brokers.iter().map(log).collect()
    }
}

#[test]
fn the_storage_engine_is_the_quorums_disk() {
    let (mut power_cuts, mut cuts_in_writes, mut fetches) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        (0..3_000).for_each(|_| world.step());
        world.settle();
        (0..3).for_each(|broker| world.power_cut(broker));
        world.settle();
        let logs = world.logs();
        let (image, log) = &logs[0];
        assert!(image.index > 20, "seed {seed}: {image:?}");
        for (other_image, other) in &logs[1..] {
            assert_eq!(image, other_image, "seed {seed}");
            let both = log.iter().filter(|(base, _)| other.contains_key(base));
            let mut count = 0;
            for (base, batch) in both {
                count += 1;
                assert!(other[base] == *batch, "seed {seed}: they differ at {base}");
            }
            assert!(count > 5, "seed {seed}: {count} batches in common");
        }
        power_cuts += world.power_cuts;
        cuts_in_writes += world.cuts_in_writes;
        fetches += world.fetches;
    }
    println!(
        "{power_cuts} power cuts, {cuts_in_writes} of them in writes; {fetches} snapshots fetched"
    );
    assert!(cuts_in_writes > 20 && fetches > 5);
}
