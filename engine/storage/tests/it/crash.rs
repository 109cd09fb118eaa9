//! Crashes at random moments: nothing acknowledged is lost, changed or doubled, and recovery may be repeated.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use model::{LeaderEpoch, Offset, ShardId, Timestamp, TopicPartition};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, Snapshot, labels};
use storage::dump::{self, CheckpointContents, CheckpointSegment};
use storage::{
    AppendContext, CutError, Durability, FlushMethod, LogConfig, PlantedFault, QuorumState,
    ReplicatedBatch, Storage, StorageOptions, recover_data_dir,
};

use crate::harness::{
    DIRECTORY, Model, ModelLog, append_as, batch, context, listener, partition, partition_files,
    pause, stored, tiny_log, tiny_options, verify, verify_transactions,
};
use crate::transaction_model::next_step;

const LIVES: u64 = 4;
/// Logs of topic 5, which get a batch now and then: most of them are as the checkpoint before says.
const QUIET_LOGS: i32 = 24;

/// What a run met, to know that it tested something.
#[derive(Default, Debug)]
struct Sights {
    appends: u64,
    checkpoints: u64,
    segments: u64,
    carried: u64,
    crashes_in_recovery: u64,
    torn: u64,
    replayed: u64,
    resharded: u64,
    taken_over: u64,
    cuts: u64,
    cuts_in_segments: u64,
    resets: u64,
    gaps: u64,
    increments: u64,
    placed: u64,
    aborted: u64,
    indexes: u64,
}

/// Half of the logs keep little, so that their new segments take over the files of expired ones.
fn config_of(id: TopicPartition) -> LogConfig {
    let retention_bytes = if id.partition.0 < 2 { 50 << 10 } else { -1 };
    LogConfig {
        retention_bytes,
        ..tiny_log()
    }
}

fn owner(shards: u16) -> impl Fn(TopicPartition) -> ShardId {
    move |id| ShardId((id.partition.0 as u16 + u16::from(id.topic.0[0])) % shards)
}

/// One writer of one shard: appends, and now and then reads, deletes and cuts logs.
async fn write(
    io: SimIo,
    storage: Storage<SimIo>,
    model: Model,
    ids: Vec<TopicPartition>,
    sights: Rc<RefCell<Sights>>,
) {
    let mut timestamp = 1_000_000;
    loop {
        let id = ids[(io.random() % ids.len() as u64) as usize];
        let written_only = id.topic.0[0] == 2;
        let log = storage.create_log(id, tiny_log());
        let config = config_of(id);
        {
            let mut model = model.borrow_mut();
            let known = model.entry(id).or_default();
            known.written_only = written_only;
            if config.retention_bytes >= 0 {
                known.start_max = Offset(i64::MAX);
            }
        }
        storage.set_config(&log, config);
        timestamp += 10;
        if id.topic.0[0] == 4 && !follow(&storage, &model, &log, &io, &sights).await {
            return;
        }
        let size = if io.random().is_multiple_of(8) {
            6000
        } else {
            (io.random() % 700) as usize
        };
        // Transactions of a few producers, which others' records lie between.
        let is_transactional = io.random().is_multiple_of(2);
        let bytes = if is_transactional {
            next_step(&io, timestamp)
        } else {
            batch(&io, 1 + (io.random() % 4) as usize, size, timestamp)
        };
        if storage.admit(bytes.len()).await.is_err() {
            return;
        }
        let durability = if written_only {
            Durability::Written
        } else {
            Durability::Flushed
        };
        let appended = if id.topic.0[0] == 4 {
            replicate(&storage, &model, &log, &bytes, &io, &sights)
        } else {
            // Sequences are not what is looked at here.
            let context = AppendContext {
                check_producer: false,
                ..context(durability)
            };
            append_as(&storage, &model, &log, &bytes, context).is_ok()
        };
        if !appended {
            return;
        }
        sights.borrow_mut().appends += 1;
        if io.random().is_multiple_of(10) {
            log.set_high_watermark(log.durable_end_offset());
        }
        match io.random() % 200 {
            0 => advance(&storage, &model, &log, &io).await,
            1 if id.topic.0[0] >= 3 => {
                storage.delete_log(id);
                // The deletion is durable with the next committed group; until then the log may come back.
                model.borrow_mut().remove(&id);
                model.borrow_mut().entry(id).or_default().deleted = true;
                return;
            }
            // What cannot be compared here is compared after the crash; this only exercises reads under load.
            2..5 => {
                let read = crate::harness::read_all(&storage, &log, 5000).await;
                let cut = log.log_start_offset() > Offset::ZERO;
                assert!(
                    read.is_ok() || cut,
                    "a log that was never cut cannot be read: {read:?}"
                );
                check_transactions(&storage, &model, &log, &sights).await;
            }
            _ => {}
        }
        if id.topic.0[0] == 5 {
            pause(&io, 5_000 + io.random() % 5_000).await;
        } else if io.random().is_multiple_of(3) {
            pause(&io, io.random() % 300).await;
        }
    }
}

/// Appends a batch as a leader would send it, sometimes behind a gap.
fn replicate(
    storage: &Storage<SimIo>,
    model: &Model,
    log: &Rc<storage::Log>,
    bytes: &[u8],
    io: &SimIo,
    sights: &Rc<RefCell<Sights>>,
) -> bool {
    let follows = log.log_end_offset();
    let gap = if io.random().is_multiple_of(6) {
        1 + (io.random() % 5) as i64
    } else {
        0
    };
    let base = follows.plus(gap);
    let epoch = log.latest_leader_epoch().unwrap_or(LeaderEpoch(3));
    let bytes = stored(bytes, base, epoch);
    let batch = ReplicatedBatch {
        bytes: &bytes,
        offset_delta_of_max_timestamp: 0,
    };
    let now = Timestamp(1 << 40);
    let Ok(next) = storage.append_replicated(log, &[batch], Durability::Flushed, now) else {
        return false;
    };
    let mut model = model.borrow_mut();
    let known = model.entry(log.id()).or_default();
    known.attempted.insert(base, (next, bytes.clone()));
    known.gaps.remove(&base);
    if gap > 0 {
        known.gaps.insert(base, follows);
        sights.borrow_mut().gaps += 1;
    }
    true
}

/// What else happens to the log of a replica, now and then: it is cut, emptied, learns of an epoch or keeps a promise.
/// False if the storage has ended.
async fn follow(
    storage: &Storage<SimIo>,
    model: &Model,
    log: &Rc<storage::Log>,
    io: &SimIo,
    sights: &Rc<RefCell<Sights>>,
) -> bool {
    let id = log.id();
    let known = |change: &mut dyn FnMut(&mut ModelLog)| {
        change(model.borrow_mut().entry(id).or_default());
    };
    match io.random() % 60 {
        0..3 => {
            let (start, end) = (log.log_start_offset(), log.log_end_offset());
            let span = (end.0 - start.0) as u64 + 1;
            // Mostly near the end, as after a change of leaders.
            let back = if io.random().is_multiple_of(3) {
                io.random() % span
            } else {
                io.random() % span.min(40)
            };
            let to = Offset(end.0 - back as i64);
            known(&mut |log| {
                log.cut = Some(log.border(to));
                log.epoch = 0;
            });
            let before = log.segment_count();
            match storage.truncate(&[(log.clone(), to)]).await {
                Ok(ends) => {
                    known(&mut |log| log.is_cut(ends[0]));
                    check_transactions(storage, model, log, sights).await;
                }
                // Retention came first.
                Err(CutError::BelowStart { .. }) => known(&mut |log| log.cut = None),
                Err(_) => return false,
            }
            let mut sights = sights.borrow_mut();
            sights.cuts += 1;
            sights.cuts_in_segments += u64::from(log.segment_count() < before);
        }
        3 if io.random().is_multiple_of(3) => {
            let start = log.log_end_offset().plus(1 + (io.random() % 9) as i64);
            known(&mut |log| {
                log.reset = Some(start);
                log.epoch = 0;
            });
            if storage.reset(log, start).await.is_err() {
                return false;
            }
            known(&mut |log| log.is_empty_from(start));
            check_transactions(storage, model, log, sights).await;
            sights.borrow_mut().resets += 1;
        }
        4 => {
            let epoch = log.latest_leader_epoch().map_or(3, |epoch| epoch.0) + 1;
            let Ok(mark) = storage.start_epoch(log, LeaderEpoch(epoch)) else {
                return false;
            };
            if storage.wait_for_mark(mark).await.is_err() {
                return false;
            }
            // A later cut may take it back.
            known(&mut |log| log.epoch = epoch);
        }
        5 => {
            let present = log.quorum_state();
            let next = QuorumState {
                term: present.term + 1,
                vote: 1 + io.random() % 3,
                commit: present.commit + 1,
            };
            known(&mut |log| log.quorum = vec![present, next]);
            let Ok(mark) = storage.set_quorum_state(log, next) else {
                return false;
            };
            if storage.wait_for_mark(mark).await.is_err() {
                return false;
            }
            known(&mut |log| log.quorum = vec![next]);
        }
        _ => {}
    }
    true
}

/// While the broker runs: nobody else appends to the log.
async fn check_transactions(
    storage: &Storage<SimIo>,
    model: &Model,
    log: &Rc<storage::Log>,
    sights: &Rc<RefCell<Sights>>,
) {
    let transactions = model.borrow()[&log.id()].transactions();
    match verify_transactions(storage, log, &transactions).await {
        Ok(aborted) => sights.borrow_mut().aborted += aborted,
        // Fenced by the end of this life.
        Err(_) if storage.fence_reason().is_some() => {}
        Err(error) => panic!("{error}"),
    }
}

async fn advance(storage: &Storage<SimIo>, model: &Model, log: &Rc<storage::Log>, io: &SimIo) {
    let span = (log.durable_end_offset().0 - log.log_start_offset().0).max(1) as u64;
    let offset = log.log_start_offset().plus((io.random() % span) as i64);
    let mut model = model.borrow_mut();
    let known = model.entry(log.id()).or_default();
    if storage.advance_log_start(log, offset).is_ok() {
        known.start_max = known.start_max.max(offset);
    }
}

fn options_of(simulation: &Simulation, seed: u64) -> StorageOptions {
    let io = simulation.io(0, 0);
    let method = if io.random().is_multiple_of(2) {
        FlushMethod::DurableWrite
    } else {
        FlushMethod::WriteThenSync
    };
    StorageOptions {
        flush_method: method,
        groups_in_flight_max: 1 + (seed % 4) as usize,
        sync_files_max: [1, 4, 100][(seed % 3) as usize],
        place_bytes_min: [0, 1_000, 4_000][(io.random() % 3) as usize],
        placed_bytes_max: 40 << 10,
        ..tiny_options()
    }
}

fn of_shard(options: &StorageOptions, shard: u16, shard_count: u16) -> StorageOptions {
    StorageOptions {
        shard: ShardId(shard),
        shard_count,
        ..options.clone()
    }
}

/// Several lives of one node. The error says what was lost.
fn run(
    seed: u64,
    planted: Option<PlantedFault>,
    sights: &Rc<RefCell<Sights>>,
) -> Result<(), String> {
    let simulation = Simulation::new(seed, 1, 3);
    let mut options = options_of(&simulation, seed);
    options.planted = planted;
    let model = Model::default();
    let mut power_cut = false;
    for life in 0..LIVES {
        let fail = |error: String| format!("seed {seed}, life {life}: {error}");
        let ios = if life == 0 {
            simulation.ios(0)
        } else {
            simulation.restart(0)
        };
        let io = ios[0].clone();
        let shards = 1 + (io.random() % 3) as u16;
        if life > 0 && io.random().is_multiple_of(3) {
            let again = (io.clone(), options.clone());
            simulation.spawn(0, 0, async move {
                // Cut off in the middle: whatever it answers is of no interest.
                let (io, options) = again;
                let recovered = recover_data_dir(&io, &options, owner(shards), shards).await;
                for shard in 0..shards {
                    if recovered.is_ok() {
                        drop(Storage::open(io.clone(), of_shard(&options, shard, shards)).await);
                    }
                }
            });
            simulation.run_for(Duration::from_micros(io.random() % 20_000));
            sights.borrow_mut().crashes_in_recovery += 1;
            if io.random().is_multiple_of(2) {
                simulation.power_cut(0);
                power_cut = true;
            } else {
                simulation.kill(0);
            }
            simulation.restart(0);
        }
        let ios = simulation.ios(0);
        let io = ios[0].clone();
        let report = simulation
            .block_on(0, recover_data_dir(&io, &options, owner(shards), shards))
            .map_err(|error| fail(error.to_string()))?;
        sights.borrow_mut().resharded += report.logs_moved as u64;
        if io.random().is_multiple_of(4) {
            let before = partition_files(&simulation);
            simulation
                .block_on(0, recover_data_dir(&io, &options, owner(shards), shards))
                .map_err(|error| fail(error.to_string()))?;
            if partition_files(&simulation) != before {
                return Err(fail("the second recovery changed something".to_owned()));
            }
        }
        let mut storages = Vec::new();
        for shard in 0..shards {
            let options = of_shard(&options, shard, shards);
            let io = ios[usize::from(shard)].clone();
            let storage = simulation
                .block_on(0, Storage::open(io, options))
                .map_err(|error| fail(error.to_string()))?;
            let found = storage.recovery_report();
            sights.borrow_mut().torn += u64::from(found.torn_tail || report.torn_tail);
            sights.borrow_mut().replayed += found.groups_replayed;
            storages.push(storage);
        }
        let ids: Vec<TopicPartition> = model.borrow().keys().copied().collect();
        for id in ids {
            let mut known = model.borrow()[&id].clone();
            let storage = &storages[usize::from(owner(shards)(id).0)];
            if known.deleted {
                // Gone, or back because the deletion was not durable yet: either is right, neither is compared.
                storage.delete_log(id);
                model.borrow_mut().remove(&id);
                continue;
            }
            known.start_max = known.start_max.max(known.start);
            simulation
                .block_on(0, verify(storage, id, &mut known, power_cut))
                .map_err(fail)?;
            model.borrow_mut().insert(id, known);
        }
        power_cut = false;
        for (shard, storage) in storages.iter().enumerate() {
            storage.start(listener(&model));
            let is_mine = |id: &TopicPartition| usize::from(owner(shards)(*id).0) == shard;
            let busy = (1..5u8).flat_map(|topic| (0..4).map(move |index| partition(topic, index)));
            let busy: Vec<TopicPartition> = busy.filter(is_mine).collect();
            let quiet = (0..QUIET_LOGS).map(|index| partition(5, index));
            let quiet: Vec<TopicPartition> = quiet.filter(is_mine).collect();
            for id in &quiet {
                storage.create_log(*id, tiny_log());
                model.borrow_mut().entry(*id).or_default();
            }
            let every_other = |first| -> Vec<TopicPartition> {
                busy.iter().copied().skip(first).step_by(2).collect()
            };
            for ids in [every_other(0), every_other(1), quiet] {
                if !ids.is_empty() {
                    let io = ios[shard].clone();
                    simulation.spawn(
                        0,
                        shard,
                        write(io, storage.clone(), model.clone(), ids, sights.clone()),
                    );
                }
            }
        }
        simulation.run_for(Duration::from_micros(2_000 + io.random() % 120_000));
        for storage in &storages {
            let mut counted = Snapshot::new();
            storage.snapshot_into(&mut counted);
            let segment = labels([("kind", "segment")]);
            let segments = counted.number("ringlog_device_writes_total", &segment);
            let mut sights = sights.borrow_mut();
            sights.checkpoints += counted.total("ringlog_checkpoints_total") - 1;
            sights.increments += counted.total("ringlog_checkpoint_increments_total");
            sights.placed += counted.total("ringlog_placed_bytes_total");
            sights.segments += segments;
            sights.taken_over += counted.total("ringlog_segments_taken_over_total");
            sights.carried += counted.total("ringlog_journal_carried_bytes_total");
            let rebuilt = counted.total("ringlog_transaction_indexes_rebuilt_total");
            if rebuilt > 0 {
                return Err(fail("an index was damaged without a fault".to_owned()));
            }
            if let Some(reason) = storage.fence_reason() {
                return Err(fail(format!("fenced without a fault: {reason}")));
            }
        }
        let files = partition_files(&simulation);
        let is_index = |path: &Path| path.extension().is_some_and(|kind| kind == "txnindex");
        let indexes = files.iter().filter(|(path, _)| is_index(path));
        sights.borrow_mut().indexes += indexes.count() as u64;
        if io.random().is_multiple_of(2) {
            simulation.power_cut(0);
            power_cut = true;
        } else {
            simulation.kill(0);
        }
    }
    no_leftovers(&simulation, &options).map_err(|error| format!("seed {seed}: {error}"))
}

/// Starts a last time: soon there are no files but those that belong to a log.
fn no_leftovers(simulation: &Simulation, options: &StorageOptions) -> Result<(), String> {
    let io = simulation.restart(0)[0].clone();
    let storage = simulation.block_on(0, async {
        let recovered = recover_data_dir(&io, options, owner(1), 1).await;
        recovered.map_err(|error| error.to_string())?;
        let opened = Storage::open(io.clone(), of_shard(options, 0, 1)).await;
        opened.map_err(|error| error.to_string())
    })?;
    storage.start(listener(&Model::default()));
    simulation.run_for(Duration::from_secs(1));
    let stopped = simulation.block_on(0, storage.shutdown());
    stopped.map_err(|error| error.to_string())?;
    let mut left: BTreeMap<String, BTreeMap<i64, usize>> = BTreeMap::new();
    let files = partition_files(simulation);
    let is_there = |wanted: &Path| files.iter().any(|(path, _)| path == wanted);
    for (path, bytes) in &files {
        let is_index = path.extension().is_some_and(|kind| kind == "txnindex");
        if is_index && !is_there(&path.with_extension("log")) {
            return Err(format!("{} is of no segment", path.display()));
        }
        let directory = path.parent().and_then(Path::file_name).expect("a folder");
        let log = directory.to_string_lossy().into_owned();
        let found = left.entry(log).or_default();
        if let Some(name) = path.file_name().filter(|_| is_log_file(path)) {
            let base: i64 = name.to_string_lossy()[..20].parse().expect("a base offset");
            // Of two segments that begin alike one should have gone.
            let is_alone = found.insert(base, bytes.len()).is_none();
            found.extend((!is_alone).then_some((i64::MIN, 0)));
        }
    }
    // Records that were acknowledged unflushed may be lost from the journal and be in a segment's file all the same:
    // nobody removes what may be the only copy.
    for index in 0..4 {
        left.remove(&partition(2, index).to_string());
    }
    for log in last_checkpoint(simulation)?.logs {
        let id = log.partition;
        let files = left.remove(&id.to_string()).unwrap_or_default();
        if id.topic.0[0] == 2 {
            continue;
        }
        // A segment that is open, and that this run did not write to, may have space ahead.
        let is_its = |segment: &CheckpointSegment| {
            let bytes = files.get(&segment.offsets.0.0).copied();
            let size = usize::try_from(segment.size_bytes).expect("in memory");
            bytes.map_or(size == 0, |bytes| {
                bytes == size || (bytes > size && !segment.sealed)
            })
        };
        if files.len() > log.segments.len() || !log.segments.iter().all(is_its) {
            let segments = log.segments;
            return Err(format!("{id} has files {files:?} for {segments:?}"));
        }
    }
    match left.first_key_value() {
        None => Ok(()),
        Some((log, _)) => Err(format!("files of {log}, which is no log, are left")),
    }
}

fn is_log_file(path: &Path) -> bool {
    path.extension().is_some_and(|kind| kind == "log")
}

/// The last checkpoint of the only shard.
fn last_checkpoint(simulation: &Simulation) -> Result<CheckpointContents, String> {
    let mut newest: Option<CheckpointContents> = None;
    for slot in 0..2 {
        let path = Path::new(DIRECTORY).join(format!("checkpoint/0.{slot}"));
        let bytes = simulation.file_bytes(0, &path).expect("both were written");
        let found = dump::checkpoint(&bytes)?;
        let known = newest.as_ref().map_or(0, |known| known.sequence);
        if found.sequence > known {
            newest = Some(found);
        }
    }
    newest.ok_or_else(|| "no checkpoint".to_owned())
}

#[test]
fn nothing_acknowledged_is_lost() {
    let sights = Rc::new(RefCell::new(Sights::default()));
    let seeds = std::env::var("STORAGE_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(200);
    let first = std::env::var("STORAGE_SEED_FIRST")
        .ok()
        .and_then(|first| first.parse().ok())
        .unwrap_or(0);
    for seed in first..first + seeds {
        if let Err(error) = run(seed, None, &sights) {
            panic!("{error}");
        }
    }
    let sights = sights.borrow();
    println!("{sights:?}");
    if seeds >= 100 {
        let all = [
            sights.appends,
            sights.checkpoints,
            sights.segments,
            sights.carried,
            sights.crashes_in_recovery,
            sights.torn,
            sights.replayed,
            sights.resharded,
            sights.taken_over,
            sights.cuts,
            sights.cuts_in_segments,
            sights.resets,
            sights.gaps,
            sights.increments,
            sights.placed,
            sights.aborted,
            sights.indexes,
        ];
        assert!(
            all.iter().all(|count| *count > 0),
            "the runs did not reach everything: {sights:?}"
        );
    }
}

/// What is wrong on purpose, and how many seeds may pass before a run notices. A run that panics has noticed, too: an
/// assertion of the storage came first.
const PLANTED: [(PlantedFault, u64); 19] = [
    (PlantedFault::EarlyAcknowledgement, 50),
    (PlantedFault::CutUnmarked, 50),
    (PlantedFault::CutOnlyInMemory, 500),
    (PlantedFault::CutTrimsAtOnce, 500),
    (PlantedFault::CutKeepsGeneration, 500),
    (PlantedFault::CutWithoutBarrier, 200),
    (PlantedFault::ResetUnmarked, 200),
    (PlantedFault::GapUnmarked, 50),
    (PlantedFault::QuorumUnmarked, 50),
    (PlantedFault::EpochUnmarked, 500),
    (PlantedFault::IncrementLeavesOut, 50),
    (PlantedFault::IncrementUnsynced, 500),
    (PlantedFault::PlacedUnsynced, 500),
    (PlantedFault::PlacedUnnamed, 500),
    (PlantedFault::PlacedWrittenOver, 500),
    (PlantedFault::CutKeepsEnded, 200),
    (PlantedFault::CutKeepsAborted, 500),
    (PlantedFault::AbortedUnsynced, 500),
    (PlantedFault::AbortedForgotten, 50),
];

#[test]
fn what_is_wrong_on_purpose_is_caught() {
    let sights = Rc::new(RefCell::new(Sights::default()));
    for (fault, seeds_max) in PLANTED {
        let is_noticed = |seed| {
            let run = || run(seed, Some(fault), &sights);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            outcome.map_or(true, |outcome| outcome.is_err())
        };
        let noticed = (0..seeds_max).find(|seed| is_noticed(*seed));
        println!("{fault:?}: noticed at seed {noticed:?}");
        assert!(
            noticed.is_some(),
            "{seeds_max} seeds did not notice {fault:?}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let trace = |seed| {
        let sights = Rc::new(RefCell::new(Sights::default()));
        run(seed, None, &sights).unwrap();
        let sights = sights.borrow();
        (
            sights.appends,
            sights.checkpoints,
            sights.segments,
            sights.carried,
        )
    };
    assert_eq!(trace(11), trace(11));
}
