//! The metadata log of a release without a quorum becomes one of a quorum, whenever that is interrupted.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use metadata::{MetadataRecord, removal_records};
use model::record::{BatchBuilder, DecompressionScratch, ValidationRules, validate};
use model::{LeaderEpoch, Offset, PartitionIndex, ShardId, Timestamp, TopicId, TopicPartition};
use runtime::Io;
use runtime::sim::{SimIo, Simulation};
use storage::{
    AppendContext, CommitListener, CommitTimes, Durability, Log, LogConfig, NewSnapshot,
    SnapshotId, Storage, StorageOptions,
};

use crate::bed::{options, start};
use crate::lost_metadata::{create, elsewhere, produce, restart, segments_of};

const METADATA: TopicPartition = TopicPartition {
    topic: TopicId::METADATA,
    partition: PartitionIndex(0),
};
const KEPT: TopicId = TopicId([8; 16]);
const REMOVED: TopicId = TopicId([9; 16]);

struct Nobody;

impl CommitListener for Nobody {
    fn committed(&self, _log: &Rc<Log>, _durable_end: Offset, _times: CommitTimes) {}
    fn group_done(&self) {}
    fn fenced(&self, reason: &str) {
        panic!("{reason}");
    }
}

/// What a broker knows that has made topics.
fn records(seed: u64) -> Vec<MetadataRecord> {
    let simulation = Simulation::new(seed, 1, 2);
    let broker = start(&simulation);
    simulation.block_on(0, create(&broker[0], "kept", KEPT, 16));
    broker[0].image().to_records().collect()
}

async fn append(storage: &Storage<SimIo>, io: &SimIo, log: &Rc<Log>, values: &[Bytes]) {
    let mut batch = BatchBuilder::new();
    for value in values {
        batch.push(Timestamp(1 << 40), None, Some(value));
    }
    let batch = batch.build().unwrap();
    let rules = ValidationRules::default();
    let mut scratch = DecompressionScratch::new();
    let info = validate(&batch, &rules, Timestamp(1 << 40), &mut scratch).unwrap();
    let context = AppendContext {
        leader_epoch: LeaderEpoch(0),
        durability: Durability::Flushed,
        now: Timestamp(1 << 40),
        log_append_time: None,
        check_producer: false,
    };
    storage.append(log, &batch, &info, context).unwrap();
    while log.durable_end_offset() < log.log_end_offset() {
        io.sleep(Duration::from_micros(50)).await;
    }
}

/// A directory as such a release left it: topics, one of which was removed, and logs of both on shard 1; with
/// `snapshot`, the metadata log begins behind one.
fn old_directory(seed: u64, snapshot: bool) -> (Simulation, TopicPartition, TopicPartition) {
    let known: Vec<Bytes> = records(seed).iter().map(MetadataRecord::encode).collect();
    let removal: Vec<Bytes> = removal_records(REMOVED)
        .iter()
        .map(MetadataRecord::encode)
        .collect();
    let simulation = Simulation::new(seed, 1, 2);
    let logs = [KEPT, REMOVED].map(|topic| {
        let ids = (0..16).map(|index| TopicPartition {
            topic,
            partition: PartitionIndex(index),
        });
        let on_1 = |id: &TopicPartition| shard::partition_table::owner(*id, 2) == ShardId(1);
        ids.into_iter().find(on_1).unwrap()
    });
    simulation.block_on(0, async {
        let io = simulation.io(0, 0);
        let first = storage_options(0);
        storage::recover_data_dir(&io, &first, |id| shard::partition_table::owner(id, 2), 2)
            .await
            .unwrap();
        let storage = Storage::open(io.clone(), first).await.unwrap();
        storage.start(Rc::new(Nobody));
        let log = storage.create_log(METADATA, LogConfig::default());
        append(&storage, &io, &log, &known).await;
        if snapshot {
            let id = SnapshotId {
                end_offset: log.log_end_offset(),
                epoch: LeaderEpoch(0),
            };
            let new = NewSnapshot {
                id,
                last_contained_log_timestamp: Timestamp(1 << 40),
                mark: Bytes::new(),
                previous: None,
            };
            let written = storage.snapshot(&log, new, known.clone().into_iter());
            written.await.unwrap();
            let mark = storage.advance_log_start(&log, id.end_offset).unwrap();
            storage.wait_for_mark(mark).await.unwrap();
        }
        append(&storage, &io, &log, &removal).await;
    });
    simulation.block_on(0, async {
        let io = simulation.io(0, 1);
        let storage = Storage::open(io.clone(), storage_options(1)).await.unwrap();
        storage.start(Rc::new(Nobody));
        for id in logs {
            let log = storage.create_log(id, LogConfig::default());
            append(&storage, &io, &log, &[Bytes::from_static(b"record")]).await;
        }
    });
    simulation.kill(0);
    restart(&simulation);
    (simulation, logs[0], logs[1])
}

fn storage_options(shard: u16) -> StorageOptions {
    StorageOptions {
        shard_count: 2,
        ..options(ShardId(shard)).storage
    }
}

/// Starts until it has come so far, ends, and starts for good.
fn upgraded(seed: u64, snapshot: bool, ended_after: Duration) -> bool {
    let (simulation, kept, removed) = old_directory(seed, snapshot);
    let (done, _outcome) = crate::bed::begin(&simulation, |_| {});
    simulation.run_for(ended_after);
    let was_done = done.get();
    match seed % 2 {
        0 => simulation.kill(0),
        _ => simulation.power_cut(0),
    }
    restart(&simulation);
    let broker = start(&simulation);
    let topic = broker[0].image().topic_by_name("kept").unwrap().clone();
    assert_eq!((topic.id(), topic.partition_count()), (KEPT, 16));
    let log = broker[1].storage.log(kept).unwrap();
    assert_eq!(log.log_end_offset(), Offset(1), "{ended_after:?}");
    assert!(broker[1].storage.log(removed).is_none(), "{ended_after:?}");
    assert_eq!(segments_of(&simulation, "lost+found", kept), 0);
    let metadata = broker[0].storage.log(METADATA).unwrap();
    assert!(metadata.quorum_state().term > 0);
    simulation.block_on(0, async {
        produce(&broker[0], kept).await;
        create(&broker[0], "new", TopicId([7; 16]), 16).await;
        produce(&broker[0], elsewhere(&broker, TopicId([7; 16]))).await;
    });
    drop(broker);
    simulation.power_cut(0);
    restart(&simulation);
    let broker = start(&simulation);
    let names = ["kept", "new"].map(|name| broker[0].image().topic_by_name(name).is_some());
    assert_eq!(names, [true, true]);
    was_done
}

#[test]
fn an_old_metadata_log_is_taken_over_whenever_that_is_interrupted() {
    for snapshot in [false, true] {
        let mut ended = [0, 0];
        for seed in 0..24 {
            let was_done = upgraded(seed, snapshot, Duration::from_micros(seed * 4_000));
            ended[usize::from(was_done)] += 1;
        }
        assert!(ended.iter().all(|count| *count > 0), "{ended:?}");
    }
}
