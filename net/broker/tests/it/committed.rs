//! A consumer of committed records over the wire: what Fetch answers, and when.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use client::{Cluster, ClusterOptions, NewTopic, Topic};
use model::record::{BatchBuilder, BatchHeader, BatchInfo, Compression, EndMarker, control};
use model::{PartitionIndex, ProducerEpoch, ProducerId, Timestamp, TopicPartition};
use protocol::fetch::{
    AbortedTransaction, FetchPartition, FetchRequest, FetchTopic, PartitionData,
};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, TaskClass};
use shard::Shard;
use storage::{AppendContext, Durability};

use crate::bed::{PORT, start};

/// How long a fetch waits for more.
const WAIT: Duration = Duration::from_secs(5);

async fn connect(simulation: &Simulation) -> Cluster<SimIo> {
    let io = simulation.io(simulation.client(), 0);
    let bootstrap = simulation.address(0, PORT).to_string();
    let options = ClusterOptions::default();
    Cluster::connect(&io, &bootstrap, options).await.unwrap()
}

/// Appends as a transaction coordinator will.
fn append(shard: &Shard<SimIo>, id: TopicPartition, batch: &Bytes) {
    let partition = shard.partition(id).unwrap();
    let header = BatchHeader::parse(batch).unwrap();
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
        now: shard.io.wall_clock(),
        log_append_time: None,
        check_producer: true,
    };
    let appended = shard.storage.append(&partition.log, batch, &info, context);
    appended.unwrap();
}

fn records() -> Bytes {
    let mut batch = BatchBuilder::new()
        .producer(ProducerId(9), ProducerEpoch(0), 0)
        .transactional(true);
    batch.push(Timestamp(1_000), None, Some(b"value"));
    batch.build().unwrap()
}

fn abort() -> Bytes {
    let (producer, epoch) = (ProducerId(9), ProducerEpoch(0));
    control::end_marker_batch(EndMarker::Abort, producer, epoch, 1, Timestamp(1_000)).unwrap()
}

/// Asks for what is there from offset 0 on, one byte at least.
async fn fetch(cluster: &mut Cluster<SimIo>, topic: &Topic, isolation_level: i8) -> PartitionData {
    let request = FetchRequest {
        max_wait_ms: WAIT.as_millis() as i32,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level,
        topics: vec![FetchTopic {
            topic_id: topic.id,
            partitions: vec![FetchPartition {
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let mut response = cluster.ask_any(&request).await.unwrap();
    assert_eq!(response.error_code, 0);
    let mut topic = response.responses.pop().unwrap();
    topic.partitions.pop().unwrap()
}

#[test]
fn a_fetch_of_committed_records_waits_for_the_end_of_the_transaction() {
    let simulation = Simulation::new(1, 2, 1);
    let started = start(&simulation, 1);
    let running = started.running(&simulation, 1).pop().unwrap();
    let client = simulation.client();
    simulation.block_on(client, async {
        let mut cluster = connect(&simulation).await;
        let new = NewTopic {
            name: "orders".to_owned(),
            partitions: 1,
            replication_factor: 1,
            configs: Vec::new(),
        };
        let topic = cluster.create_topic(&new).await.unwrap();
        let id = TopicPartition {
            topic: topic.id,
            partition: PartitionIndex(0),
        };
        let shard: Rc<Shard<SimIo>> = running.shard.clone();
        append(&shard, id, &records());
        let all = fetch(&mut cluster, &topic, 0).await;
        assert_eq!((all.high_watermark, all.last_stable_offset), (1, 0));
        assert_eq!(all.aborted_transactions, None);

        let io = simulation.io(client, 0);
        let begun = io.now();
        let nothing = fetch(&mut cluster, &topic, 1).await;
        assert!(io.now() >= begun.plus(WAIT), "there was nothing to read");
        assert_eq!(nothing.aborted_transactions, Some(Vec::new()));
        assert_eq!((nothing.high_watermark, nothing.last_stable_offset), (1, 0));
        assert!(nothing.records.is_none_or(|records| records.is_empty()));

        let later = shard.clone();
        shard.io.spawn(TaskClass::Foreground, async move {
            later.io.sleep(WAIT / 5).await;
            append(&later, id, &abort());
        });
        let begun = io.now();
        let ended = fetch(&mut cluster, &topic, 1).await;
        assert!(io.now() < begun.plus(WAIT / 2), "the marker ends the wait");
        assert_eq!((ended.high_watermark, ended.last_stable_offset), (2, 2));
        let aborted = AbortedTransaction {
            producer_id: 9,
            first_offset: 0,
        };
        assert_eq!(ended.aborted_transactions, Some(vec![aborted]));
        assert!(ended.records.is_some_and(|records| !records.is_empty()));
    });
}
