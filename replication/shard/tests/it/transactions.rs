//! Readers of committed records: they stop at the first open transaction, hear when it ends, and are told what was aborted.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use metadata::controller::{CreateTopicsRequest, NewTopic};
use model::record::{BatchBuilder, BatchHeader, BatchInfo, Compression, EndMarker, control};
use model::{
    LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, ShardId, TopicId,
    TopicPartition,
};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io as _, Signal};
use shard::Shard;
use shard::request::{Fetch, FetchPartition, Fetched, Isolation, ListOffset, OffsetSpec, Watch};
use shard::watch::WatchState;
use storage::{AppendContext, Durability};

use crate::bed;

const ID: TopicPartition = TopicPartition {
    topic: TopicId([7; 16]),
    partition: PartitionIndex(0),
};

struct Bed {
    shard: Rc<Shard<SimIo>>,
}

impl Bed {
    async fn new(shard: Rc<Shard<SimIo>>) -> Bed {
        let create = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: "orders".into(),
                topic_id: ID.topic,
                partition_count: 1,
                replication_factor: 1,
                ..NewTopic::default()
            }],
            ..CreateTopicsRequest::default()
        };
        let created = shard.ask(ShardId(0), create).await.unwrap();
        assert!(created[0].1.is_ok(), "{created:?}");
        Bed { shard }
    }

    /// Appends as a transaction coordinator will, and waits until all replicas have it.
    async fn append(&self, batch: Bytes) {
        let partition = self.shard.partition(ID).unwrap();
        let header = BatchHeader::parse(&batch).unwrap();
        let info = BatchInfo {
            header,
            size_bytes: batch.len(),
            compression: Compression::None,
            max_timestamp: header.max_timestamp,
            offset_delta_of_max_timestamp: 0,
            timestamp_patch_needed: false,
        };
        let context = AppendContext {
            leader_epoch: partition.leader_epoch(),
            durability: Durability::Flushed,
            now: self.shard.io.wall_clock(),
            log_append_time: None,
            check_producer: true,
        };
        let storage = &self.shard.storage;
        let appended = storage.append(&partition.log, &batch, &info, context);
        let end = appended.unwrap().last_offset.plus(1);
        while partition.high_watermark() < end {
            self.shard.io.sleep(Duration::from_millis(1)).await;
        }
    }

    async fn records(&self, producer: i64, sequence: i32, count: usize) {
        let mut batch = BatchBuilder::new()
            .producer(ProducerId(producer), ProducerEpoch(0), sequence)
            .transactional(producer >= 0);
        for _ in 0..count {
            batch.push(self.shard.io.wall_clock(), None, Some(b"value"));
        }
        self.append(batch.build().unwrap()).await;
    }

    async fn end(&self, producer: i64, marker: EndMarker) {
        let (producer, epoch) = (ProducerId(producer), ProducerEpoch(0));
        let now = self.shard.io.wall_clock();
        let batch = control::end_marker_batch(marker, producer, epoch, 1, now);
        self.append(batch.unwrap()).await;
    }

    async fn fetch(&self, isolation: Isolation, offset: i64) -> Fetched {
        let fetch = Fetch {
            isolation,
            bytes_max: 1 << 20,
            at_least_one_batch: true,
            from_followers: false,
            partitions: vec![FetchPartition {
                id: ID,
                offset: Offset(offset),
                bytes_max: 1 << 20,
                current_leader_epoch: LeaderEpoch::NONE,
                last_fetched_epoch: LeaderEpoch::NONE,
                closest: None,
            }],
        };
        let mut fetched = self.shard.fetch(&fetch).await;
        fetched.pop().unwrap().unwrap()
    }

    async fn latest(&self, isolation: Isolation) -> Offset {
        let list = ListOffset {
            id: ID,
            current_leader_epoch: LeaderEpoch::NONE,
            isolation,
            spec: OffsetSpec::Latest,
        };
        let listed = self.shard.ask(ShardId(0), vec![list]).await;
        listed[0].unwrap().unwrap().offset
    }

    /// Up to where a reader of committed records gets, and what it is told to leave out: from `offset` on.
    async fn committed(&self, offset: i64) -> (Offset, bool, Vec<(ProducerId, Offset)>) {
        let fetched = self.fetch(Isolation::ReadCommitted, offset).await;
        let stable = fetched.last_stable_offset;
        assert_eq!(self.latest(Isolation::ReadCommitted).await, stable);
        (stable, fetched.bytes() > 0, fetched.aborted.unwrap())
    }

    fn watch(&self, isolation: Isolation, seen: Offset) -> Rc<WatchState> {
        let state = WatchState::new(Signal::new());
        let watch = Watch {
            isolation,
            deadline: self.shard.io.now().plus(Duration::from_secs(60)),
            partitions: vec![(ID, seen)],
        };
        self.shard.watch(&watch, &state);
        state
    }
}

#[test]
fn committed_readers_wait_for_transactions_and_are_told_what_was_aborted() {
    let simulation = Simulation::new(1, 1, 1);
    let shard = bed::start(&simulation).pop().unwrap();
    simulation.block_on(0, async {
        let bed = Bed::new(shard).await;
        bed.records(-1, -1, 2).await;
        assert_eq!(bed.committed(0).await, (Offset(2), true, vec![]));
        // Two transactions, records of nobody between them.
        bed.records(1, 0, 3).await;
        bed.records(-1, -1, 1).await;
        bed.records(2, 0, 1).await;
        assert_eq!(bed.committed(0).await, (Offset(2), true, vec![]));
        assert_eq!(bed.committed(2).await, (Offset(2), false, vec![]));
        let all = bed.fetch(Isolation::ReadUncommitted, 0).await;
        assert_eq!((all.high_watermark, all.aborted), (Offset(7), None));
        assert_eq!(bed.latest(Isolation::ReadUncommitted).await, Offset(7));

        let waiting = bed.watch(Isolation::ReadCommitted, Offset(2));
        let other = bed.watch(Isolation::ReadUncommitted, Offset(7));
        bed.end(2, EndMarker::Commit).await;
        assert!(other.has_fired() && !waiting.has_fired());
        assert_eq!(bed.committed(2).await, (Offset(2), false, vec![]));
        bed.end(1, EndMarker::Abort).await;
        assert!(waiting.has_fired(), "its transaction has ended");
        let first = (ProducerId(1), Offset(2));
        assert_eq!(bed.committed(0).await, (Offset(9), true, vec![first]));
        assert_eq!(bed.committed(6).await, (Offset(9), true, vec![first]));
        // Behind the marker nothing is left to leave out.
        bed.records(-1, -1, 1).await;
        assert_eq!(bed.committed(9).await, (Offset(10), true, vec![]));
        assert_eq!(bed.committed(10).await, (Offset(10), false, vec![]));
    });
    simulation.power_cut(0);
    simulation.restart(0);
    let shard = bed::start(&simulation).pop().unwrap();
    simulation.block_on(0, async {
        let bed = Bed { shard };
        let first = (ProducerId(1), Offset(2));
        assert_eq!(bed.committed(0).await, (Offset(10), true, vec![first]));
    });
}
