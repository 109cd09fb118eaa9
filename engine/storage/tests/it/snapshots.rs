//! Snapshots of a log: whatever ends a snapshot, the newest sound one and the log behind it give all that was there.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::record::{BatchBuilder, read_records_owned};
use model::{LeaderEpoch, Offset, ShardId, Timestamp, TopicPartition};
use runtime::sim::{Fault, FaultRule, SimIo, Simulation};
use runtime::{Buffer, File, Io, OpenMode};
use storage::{
    CommitListener, CommitTimes, Durability, Layout, LoadSnapshotError, Log, NewSnapshot,
    PlantedFault, SnapshotError, SnapshotId, Storage, StorageOptions, recover_data_dir,
};

use crate::harness::{
    DIRECTORY, Model, append, batch, context, info, listener, open_single, partition, pause,
    read_all, tiny_log, tiny_options,
};

const EPOCH: LeaderEpoch = LeaderEpoch(3);

/// The log that has snapshots. What its records add up to is the list of their values.
fn kept() -> TopicPartition {
    partition(7, 0)
}

/// What the log was given, by offset, and how much of it was acknowledged.
#[derive(Default)]
struct State {
    values: RefCell<Vec<Bytes>>,
    acknowledged: Cell<i64>,
}

impl CommitListener for State {
    fn committed(&self, log: &Rc<Log>, durable_end: Offset, _: CommitTimes) {
        if log.id() == kept() {
            self.acknowledged
                .set(self.acknowledged.get().max(durable_end.0));
        }
    }
    fn group_done(&self) {}
    fn fenced(&self, _: &str) {}
}

struct Bed {
    simulation: Simulation,
    options: StorageOptions,
    state: Rc<State>,
}

/// A life of the storage.
#[derive(Clone)]
struct Life {
    io: SimIo,
    storage: Storage<SimIo>,
    log: Rc<Log>,
    state: Rc<State>,
    /// The snapshot that it went on from.
    loaded: Option<SnapshotId>,
    /// The newest one that is known to be sound.
    newest: Rc<Cell<Option<SnapshotId>>>,
}

impl Bed {
    fn new(seed: u64, planted: Option<PlantedFault>) -> Bed {
        Bed {
            simulation: Simulation::new(seed, 1, 1),
            options: StorageOptions {
                sync_files_max: [1, 4, 100][(seed % 3) as usize],
                planted,
                ..tiny_options()
            },
            state: Rc::default(),
        }
    }

    /// Starts with so many shards and compares what is there with what was given.
    fn begin(&self, shards: u16) -> Result<Life, String> {
        let io = self.simulation.io(0, 0);
        let options = StorageOptions {
            shard_count: shards,
            ..self.options.clone()
        };
        let life = self.simulation.block_on(0, async {
            let recovered = recover_data_dir(&io, &options, |_| ShardId(0), shards).await;
            recovered.map_err(|error| error.to_string())?;
            let opened = Storage::open(io.clone(), options.clone()).await;
            let storage = opened.map_err(|error| error.to_string())?;
            let log = storage.create_log(kept(), tiny_log());
            let (values, loaded) = values_of(&storage, &log).await?;
            let mut given = self.state.values.borrow_mut();
            let acknowledged = self.state.acknowledged.get();
            if (values.len() as i64) < acknowledged || values.len() > given.len() {
                let (found, of) = (values.len(), given.len());
                return Err(format!(
                    "{found} values of {of}, {acknowledged} acknowledged"
                ));
            }
            given.truncate(values.len());
            if *given != values {
                return Err("other values than those given".to_owned());
            }
            self.state.acknowledged.set(values.len() as i64);
            Ok(Life {
                io: io.clone(),
                storage,
                log,
                state: self.state.clone(),
                loaded,
                newest: Rc::new(Cell::new(loaded)),
            })
        })?;
        life.storage.start(self.state.clone());
        Ok(life)
    }

    fn end(&self, power_cut: bool) {
        if power_cut {
            self.simulation.power_cut(0);
        } else {
            self.simulation.kill(0);
        }
        self.simulation.restart(0);
    }

    /// Names of files in the log's directory that end so.
    fn files(&self, end: &str) -> Vec<PathBuf> {
        let directory = Path::new(DIRECTORY).join(format!("partitions/{}", kept()));
        let files = self.simulation.files(0);
        let ours = files
            .into_iter()
            .filter(|path| path.starts_with(&directory) && path.to_string_lossy().ends_with(end));
        ours.collect()
    }

    fn newest(&self) -> PathBuf {
        self.files(".checkpoint")
            .pop()
            .expect("there is a snapshot")
    }
}

/// What the newest snapshot and the log add up to, and which snapshot that was.
async fn values_of(
    storage: &Storage<SimIo>,
    log: &Rc<Log>,
) -> Result<(Vec<Bytes>, Option<SnapshotId>), String> {
    let snapshot = storage.load_snapshot(log).await;
    let snapshot = snapshot.map_err(|error| error.to_string())?;
    let mut values = Vec::new();
    let mut add = |batch: &[u8], from: Offset| {
        for record in read_records_owned(batch).unwrap() {
            if record.offset >= from {
                values.push(record.value.unwrap());
            }
        }
        values.len() as i64
    };
    let mut from = Offset::ZERO;
    if let Some(snapshot) = &snapshot {
        let mut count = 0;
        for batch in snapshot.batches() {
            count = add(batch.unwrap().1, Offset::ZERO);
        }
        from = snapshot.id.end_offset;
        if count != from.0 {
            return Err(format!("{count} values in a snapshot up to {from}"));
        }
    }
    for (base, next, bytes) in read_all(storage, log, 4000).await? {
        let count = add(&bytes, from);
        if base >= from && count != next.0 {
            return Err(format!("{count} values up to {next}"));
        }
    }
    Ok((values, snapshot.map(|snapshot| snapshot.id)))
}

impl Life {
    /// Appends a batch of some records. False if the storage takes no more.
    async fn append(&self) -> bool {
        let mut builder = BatchBuilder::new();
        let mut added = Vec::new();
        for _ in 0..1 + self.io.random() % 4 {
            let len = [8, 100, 700][(self.io.random() % 3) as usize];
            let mut value = vec![0; len];
            value[..8].copy_from_slice(&self.io.random().to_le_bytes());
            builder.push(Timestamp(1 << 40), None, Some(&value));
            added.push(Bytes::from(value));
        }
        let bytes = builder.build().unwrap();
        if self.storage.admit(bytes.len()).await.is_err() {
            return false;
        }
        let context = context(Durability::Flushed);
        let appended = self
            .storage
            .append(&self.log, &bytes, &info(&bytes), context);
        let Ok(appended) = appended else {
            return false;
        };
        let mut values = self.state.values.borrow_mut();
        assert_eq!(appended.base_offset.0, values.len() as i64);
        values.extend(added);
        true
    }

    async fn fill(&self, batches: usize) {
        for _ in 0..batches {
            assert!(self.append().await);
            pause(&self.io, 50).await;
        }
        while self.log.durable_end_offset() < self.log.log_end_offset() {
            pause(&self.io, 50).await;
        }
    }

    /// A snapshot of all that is durable.
    async fn snapshot(&self) -> Result<SnapshotId, SnapshotError> {
        let end_offset = self.log.durable_end_offset();
        let id = SnapshotId {
            end_offset,
            epoch: EPOCH,
        };
        let values = self.state.values.borrow()[..end_offset.0 as usize].to_vec();
        let snapshot = NewSnapshot {
            id,
            last_contained_log_timestamp: Timestamp(1 << 40),
            mark: Bytes::new(),
            previous: self.newest.get(),
        };
        let written = self
            .storage
            .snapshot(&self.log, snapshot, values.into_iter());
        written.await?;
        self.newest.set(Some(id));
        Ok(id)
    }
}

/// What runs met, to know that they tested something.
#[derive(Debug, Default)]
struct Sights {
    before: u32,
    after: u32,
    /// The new snapshot was there, and the log not cut.
    uncut: u32,
    /// Half a file was there.
    parts: u32,
    /// The new one, the one before it and the one that is to go were there.
    all: u32,
}

/// How a life ends that is in the middle of its third snapshot.
#[derive(Clone, Copy)]
struct Ending {
    moment: u32,
    power_cut: bool,
}

const MOMENTS: u32 = 24;

/// Two snapshots, then a third one that is ended at a moment; how long the third takes if it is not.
fn ended(
    seed: u64,
    planted: Option<PlantedFault>,
    ending: Option<(Ending, Duration)>,
    sights: &mut Sights,
) -> Result<Duration, String> {
    let bed = Bed::new(seed, planted);
    let life = bed.begin(1)?;
    let second = bed.simulation.block_on(0, async {
        let mut last = None;
        for _ in 0..2 {
            life.fill(60).await;
            last = Some(life.snapshot().await.map_err(|error| error.to_string())?);
        }
        life.fill(60).await;
        // Removals of segments are another subject.
        pause(&life.io, 100_000).await;
        last.ok_or("no snapshot".to_owned())
    })?;
    let third = life.log.durable_end_offset();
    let done = Rc::new(Cell::new(false));
    let (writing, told) = (life.clone(), done.clone());
    let begun_at = bed.simulation.now();
    bed.simulation.spawn(0, 0, async move {
        let written = writing.snapshot().await;
        told.set(written.is_ok());
    });
    let appending = life.clone();
    bed.simulation.spawn(0, 0, async move {
        while appending.append().await {
            pause(&appending.io, appending.io.random() % 400).await;
        }
    });
    let Some((ending, took)) = ending else {
        bed.simulation.run_until(|| done.get());
        return Ok(bed.simulation.now().since(begun_at));
    };
    bed.simulation.run_for(took * ending.moment / MOMENTS);
    drop(life);
    bed.end(ending.power_cut);
    sights.parts += u32::from(!bed.files(".part").is_empty());
    sights.all += u32::from(bed.files(".checkpoint").len() > 2);
    let life = bed.begin(1)?;
    let loaded = life.loaded.ok_or("no snapshot")?;
    if loaded.end_offset == third {
        sights.after += 1;
        sights.uncut += u32::from(life.log.log_start_offset() < second.end_offset);
    } else if loaded == second {
        sights.before += 1;
    } else {
        return Err(format!("{loaded} was never written, or not kept"));
    }
    // It goes on, and leaves nothing behind.
    let fourth = bed.simulation.block_on(0, async {
        life.fill(5).await;
        life.snapshot().await.map_err(|error| error.to_string())
    })?;
    if !bed.files(".part").is_empty() || bed.files(".checkpoint").len() != 2 {
        return Err(format!("left: {:?}", bed.simulation.files(0)));
    }
    drop(life);
    bed.end(true);
    let life = bed.begin(1)?;
    if life.loaded != Some(fourth) || life.log.log_start_offset() != loaded.end_offset {
        return Err(format!("{:?} of {:?}", life.loaded, life.log));
    }
    drop(life);
    // What the device spoils then is in the one before and in the log.
    bed.end(true);
    bed.simulation.flip_bit(0, &bed.newest(), 200, 1);
    let life = bed.begin(1)?;
    if life.loaded != Some(loaded) {
        return Err(format!("{:?} instead of {loaded}", life.loaded));
    }
    Ok(took)
}

/// A third snapshot that is ended at every moment, by a kill and by a power cut.
fn ended_everywhere(
    seed: u64,
    planted: Option<PlantedFault>,
    sights: &mut Sights,
) -> Result<(), String> {
    let took = ended(seed, planted, None, sights)?;
    for power_cut in [false, true] {
        for moment in 0..=MOMENTS {
            let ending = Ending { moment, power_cut };
            ended(seed, planted, Some((ending, took)), sights)
                .map_err(|error| format!("seed {seed}, {power_cut}, moment {moment}: {error}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_snapshot_that_is_ended_at_any_moment_costs_nothing() {
    let mut sights = Sights::default();
    for seed in 0..4 {
        ended_everywhere(seed, None, &mut sights).unwrap();
    }
    println!("{sights:?}");
    let Sights {
        before,
        after,
        uncut,
        parts,
        all,
    } = sights;
    for seen in [before, after, uncut, parts, all] {
        assert!(seen > 0, "{sights:?}");
    }
}

#[test]
fn what_is_wrong_with_snapshots_on_purpose_is_caught() {
    for fault in [
        PlantedFault::SnapshotUnsynced,
        PlantedFault::SnapshotCutsEarly,
        PlantedFault::SnapshotRemovesEarly,
    ] {
        let noticed = (0..4).find_map(|seed| {
            let run = || ended_everywhere(seed, Some(fault), &mut Sights::default());
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            outcome.map_or(Some("a panic".to_owned()), Result::err)
        });
        println!("{fault:?}: {noticed:?}");
        assert!(noticed.is_some(), "nobody noticed {fault:?}");
    }
}

/// Snapshots all the time, in several lives that end anyhow, with another count of shards in each.
fn lives(seed: u64) -> Result<u64, String> {
    let bed = Bed::new(seed, None);
    let written = Rc::new(Cell::new(0));
    for life in 0..4 {
        let fail = |error: String| format!("seed {seed}, life {life}: {error}");
        let io = bed.simulation.io(0, 0);
        let life = bed.begin(1 + (io.random() % 3) as u16).map_err(fail)?;
        let (appending, writing, other) = (life.clone(), life.clone(), life.clone());
        bed.simulation.spawn(0, 0, async move {
            while appending.append().await {
                pause(&appending.io, appending.io.random() % 900).await;
            }
        });
        let counted = written.clone();
        bed.simulation.spawn(0, 0, async move {
            while writing.snapshot().await.is_ok() {
                counted.set(counted.get() + 1);
                pause(&writing.io, writing.io.random() % 9000).await;
            }
        });
        // Another log, so that checkpoints and recycling go on.
        bed.simulation.spawn(0, 0, async move {
            let model = Model::default();
            let log = other.storage.create_log(partition(2, 0), tiny_log());
            loop {
                let bytes = batch(&other.io, 2, 900, 1 << 40);
                if other.storage.admit(bytes.len()).await.is_err()
                    || append(&other.storage, &model, &log, &bytes, Durability::Written).is_err()
                {
                    return;
                }
                pause(&other.io, other.io.random() % 600).await;
            }
        });
        bed.simulation
            .run_for(Duration::from_micros(1_000 + io.random() % 60_000));
        if let Some(reason) = life.storage.fence_reason() {
            return Err(fail(format!("fenced without a fault: {reason}")));
        }
        drop(life);
        bed.end(io.random().is_multiple_of(2));
    }
    bed.begin(1)?;
    Ok(written.get())
}

#[test]
fn lives_with_snapshots_forget_nothing() {
    let written: u64 = (0..60).map(|seed| lives(seed).unwrap()).sum();
    assert!(written > 200, "{written} snapshots");
}

/// A log that begins behind the older one of its two snapshots, and some records; which snapshots these are.
fn cut_log(seed: u64) -> (Bed, [SnapshotId; 2]) {
    let bed = Bed::new(seed, None);
    let life = bed.begin(1).unwrap();
    let ids = bed.simulation.block_on(0, async {
        let mut ids = Vec::new();
        for _ in 0..3 {
            life.fill(40).await;
            ids.push(life.snapshot().await.unwrap());
        }
        life.fill(10).await;
        assert_eq!(life.log.log_start_offset(), ids[1].end_offset);
        [ids[1], ids[2]]
    });
    assert_eq!(bed.files(".checkpoint").len(), 2);
    bed.end(false);
    (bed, ids)
}

/// Writes a file as it is not to be.
async fn write_file(io: &SimIo, path: &Path, bytes: &[u8]) {
    io.remove_file(path).await.unwrap();
    let file = io.open(path, OpenMode::Write).await.unwrap();
    let padded = bytes.len().max(1).next_multiple_of(4096);
    let mut buffer = io.buffer(padded);
    buffer.truncate(padded);
    buffer.as_mut()[..bytes.len()].copy_from_slice(bytes);
    buffer.as_mut()[bytes.len()..].fill(0);
    file.write_at(buffer.freeze(), 0).await.unwrap();
    file.truncate(bytes.len() as u64).await.unwrap();
    file.sync_data().await.unwrap();
}

#[test]
fn a_damaged_snapshot_is_refused_if_the_log_is_cut_behind_it() {
    for (seed, position) in [(1, 20), (2, 100), (3, 5000), (4, u64::MAX)] {
        let (bed, _) = cut_log(seed);
        let newest = bed.newest();
        let flip = |file: &PathBuf| {
            let len = bed.simulation.file_bytes(0, file).unwrap().len() as u64;
            let position = position.min(len - 1);
            bed.simulation.flip_bit(0, file, position, 3);
        };
        bed.files(".checkpoint").iter().for_each(flip);
        for _ in 0..2 {
            let refused = bed.begin(1).err().expect("refused");
            let name = newest.display().to_string();
            assert!(refused.contains(&name), "{refused}");
            assert!(refused.contains("is damaged at byte"), "{refused}");
            bed.end(false);
        }
        // What is put back is taken.
        flip(&newest);
        bed.begin(1).unwrap();
    }
}

#[test]
fn a_snapshot_that_the_device_has_spoiled_costs_nothing() {
    for unreadable in [false, true] {
        let (bed, [older, newer]) = cut_log(10);
        if unreadable {
            let rule = FaultRule::new(Fault::ReadError).path(&newer.to_string());
            bed.simulation.faults().add(rule);
        } else {
            bed.simulation.flip_bit(0, &bed.newest(), 100, 3);
        }
        let life = bed.begin(1).unwrap();
        assert_eq!(life.loaded, Some(older));
        // It is not built on: the next one keeps the older one, the one after that keeps the next.
        for (kept, count) in [(older, 3), (newer, 2)] {
            let next = bed.simulation.block_on(0, async {
                life.fill(10).await;
                life.snapshot().await.unwrap()
            });
            assert_eq!(bed.files(".checkpoint").len(), count);
            let is_kept = life.log.log_start_offset() == kept.end_offset;
            assert_eq!(is_kept, count == 3, "{next}");
        }
    }
}

#[test]
fn half_a_snapshot_and_none_are_refused_if_the_log_is_cut_behind_it() {
    let (bed, [older, _]) = cut_log(5);
    let newest = bed.newest();
    let io = bed.simulation.io(0, 0);
    bed.simulation.block_on(0, async {
        let older = newest.with_file_name(format!("{older}.checkpoint"));
        io.remove_file(&older).await.unwrap();
    });
    let whole = bed.simulation.file_bytes(0, &newest).unwrap();
    for len in [whole.len() - 1, whole.len() / 2, 90] {
        let half = whole.slice(..len);
        let io = bed.simulation.io(0, 0);
        bed.simulation.block_on(0, write_file(&io, &newest, &half));
        let refused = bed.begin(1).err().expect("refused");
        assert!(refused.contains("is damaged at byte"), "{refused}");
        bed.end(false);
    }
    let io = bed.simulation.io(0, 0);
    bed.simulation.block_on(0, async {
        io.remove_file(&newest).await.unwrap();
    });
    let refused = bed.begin(1).err().expect("refused");
    assert!(refused.contains("there is no snapshot"), "{refused}");
}

#[test]
fn a_damaged_snapshot_is_passed_over_if_the_log_says_the_same() {
    let (bed, [_, id]) = cut_log(6);
    let layout = Layout::new(Path::new(DIRECTORY));
    let directory = layout.partition(kept());
    let end = bed.state.values.borrow().len();
    let io = bed.simulation.io(0, 0);
    // Newer ones, of a run that did not come to the cut.
    for (name, bytes) in [
        (format!("{:020}-0000000003.checkpoint", end - 1), vec![]),
        (format!("{end:020}-0000000003.checkpoint"), vec![7; 5000]),
        (
            format!("{:020}-0000000004.checkpoint", end + 9),
            vec![0; 99],
        ),
    ] {
        let path = directory.join(name);
        bed.simulation.block_on(0, write_file(&io, &path, &bytes));
    }
    let life = bed.begin(1).unwrap();
    assert_eq!(life.loaded, Some(id));
    let next = bed.simulation.block_on(0, async {
        life.fill(10).await;
        life.snapshot().await.unwrap()
    });
    assert_eq!(bed.newest(), directory.join(format!("{next}.checkpoint")));
    // With the one that was taken and the next, until there is one more.
    assert_eq!(bed.files(".checkpoint").len(), 2 + 3);
}

#[test]
fn a_log_that_ends_before_its_snapshot_has_lost_something() {
    let (bed, [_, id]) = cut_log(7);
    let newest = bed.newest();
    let bytes = bed.simulation.file_bytes(0, &newest).unwrap();
    let io = bed.simulation.io(0, 0);
    let ahead = newest.with_file_name(format!("{:020}-0000000003.checkpoint", 9999));
    bed.simulation.block_on(0, write_file(&io, &ahead, &bytes));
    let storage = bed.simulation.block_on(0, open_single(&io, &bed.options));
    let log = storage.create_log(kept(), tiny_log());
    let loaded = bed.simulation.block_on(0, storage.load_snapshot(&log));
    assert!(
        matches!(
            loaded,
            Err(LoadSnapshotError::Ahead {
                end_offset: Offset(9999),
                ..
            })
        ),
        "{loaded:?} {id}"
    );
}

#[test]
fn a_full_disk_gives_a_snapshot_up_and_nothing_else() {
    let bed = Bed::new(8, None);
    let life = bed.begin(1).unwrap();
    bed.simulation.block_on(0, async {
        life.fill(40).await;
        let first = life.snapshot().await.unwrap();
        life.fill(20).await;
        life.snapshot().await.unwrap();
        life.fill(80).await;
        let held: usize = (bed.simulation.files(0).iter())
            .map(|path| bed.simulation.file_bytes(0, path).unwrap().len())
            .sum();
        for spare in [0, 4096, 20_000] {
            bed.simulation.set_disk_capacity(0, held as u64 + spare);
            let refused = life.snapshot().await;
            assert!(
                matches!(refused, Err(SnapshotError::DiskFull)),
                "{refused:?}"
            );
            assert_eq!(life.log.log_start_offset(), first.end_offset);
            assert_eq!(bed.files(".checkpoint").len(), 2);
            assert!(bed.files(".part").is_empty());
        }
        assert_eq!(life.storage.fence_reason(), None);
        bed.simulation.set_disk_capacity(0, u64::MAX);
        // Who waits for space finds it first.
        pause(&life.io, 2_000_000).await;
        life.snapshot().await.unwrap();
        assert!(life.log.log_start_offset() > first.end_offset);
    });
}

#[test]
fn a_snapshot_that_cannot_be_flushed_fences_and_cuts_nothing() {
    for fault in [Fault::SyncError, Fault::WriteError, Fault::MetadataError] {
        let bed = Bed::new(9, None);
        let life = bed.begin(1).unwrap();
        bed.simulation.block_on(0, async {
            life.fill(40).await;
            // The first operation removes what may be left of an earlier one, and may fail.
            let spared = u32::from(fault == Fault::MetadataError);
            let rule = FaultRule::new(fault).path(".part").after(spared).times(1);
            bed.simulation.faults().add(rule);
            let refused = life.snapshot().await;
            assert!(
                matches!(refused, Err(SnapshotError::Storage(_))),
                "{fault:?}: {refused:?}"
            );
            assert_eq!(life.log.log_start_offset(), Offset::ZERO);
        });
        assert!(life.storage.fence_reason().is_some(), "{fault:?}");
        drop(life);
        bed.simulation.faults().clear();
        bed.end(true);
        assert_eq!(bed.begin(1).unwrap().loaded, None);
    }
}

/// Deletes logs and cuts the power once the deletions count as durable. How many logs are back.
fn come_back(seed: u64, planted: Option<PlantedFault>) -> usize {
    let simulation = Simulation::new(seed, 1, 1);
    let io = simulation.io(0, 0);
    let options = StorageOptions {
        planted,
        ..tiny_options()
    };
    let model = Model::default();
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        for index in 0..20 {
            let log = storage.create_log(partition(1, index), tiny_log());
            let bytes = batch(&io, 2, 400, 1 << 40);
            storage.admit(bytes.len()).await.unwrap();
            append(&storage, &model, &log, &bytes, Durability::Flushed).unwrap();
        }
        pause(&io, 100_000).await;
        for index in 0..20 {
            storage.delete_log(partition(1, index));
        }
        storage.wait_for_deletions().await.unwrap();
    });
    simulation.power_cut(0);
    simulation.restart(0);
    let io = simulation.io(0, 0);
    let report = simulation.block_on(0, recover_data_dir(&io, &options, |_| ShardId(0), 1));
    report.unwrap().found.len()
}

#[test]
fn deletions_that_were_waited_for_are_durable() {
    let planted = Some(PlantedFault::DeletionsConfirmedEarly);
    let back: usize = (0..20).map(|seed| come_back(seed, planted)).sum();
    assert!(back > 0, "deletions are durable at once");
    for seed in 0..20 {
        assert_eq!(come_back(seed, None), 0, "seed {seed}");
    }
}
