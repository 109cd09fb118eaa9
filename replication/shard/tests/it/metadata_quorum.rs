//! The metadata log under its quorum of one voter: what was answered is there whenever the broker ends, and a failed disk
//! ends the decisions.

use std::time::Duration;

use metadata::controller::{CreateTopicsRequest, NewTopic};
use model::{PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::Io;
use runtime::sim::{Fault, FaultRule, Simulation};
use shard::refusal::MetadataRefusal;

use crate::bed::start;
use crate::lost_metadata::{create, elsewhere, end_of, produce, restart, segments_of};

const METADATA: TopicPartition = TopicPartition {
    topic: TopicId::METADATA,
    partition: PartitionIndex(0),
};

/// A log is made as soon as its topic's record is committed; that this is so is written to the disk later.
#[test]
fn a_topic_is_known_whenever_the_broker_ends_after_its_creation() {
    for seed in 0..60 {
        let simulation = Simulation::new(seed, 1, 2);
        let broker = start(&simulation);
        let kept = elsewhere(&broker, TopicId([8; 16]));
        simulation.block_on(0, async {
            create(&broker[0], "kept", TopicId([8; 16]), 16).await;
            produce(&broker[0], kept).await;
        });
        simulation.run_for(Duration::from_micros(seed % 20 * 15));
        drop(broker);
        match seed % 2 {
            0 => simulation.kill(0),
            _ => simulation.power_cut(0),
        }
        restart(&simulation);
        let broker = start(&simulation);
        assert!(broker[0].image().topic_by_name("kept").is_some(), "{seed}");
        assert_eq!(segments_of(&simulation, "lost+found", kept), 0, "{seed}");
        let end = simulation.block_on(0, end_of(&broker, kept)).0;
        assert_eq!(end.0, 10, "{seed}");
    }
}

#[test]
fn each_start_is_a_term_and_the_log_says_so() {
    let simulation = Simulation::new(1, 1, 1);
    let mut terms = Vec::new();
    for _ in 0..3 {
        let broker = start(&simulation);
        let log = broker[0].storage.log(METADATA).unwrap();
        let epoch = log.latest_leader_epoch().unwrap();
        terms.push((log.quorum_state().term, i64::from(epoch.0)));
        assert_eq!(log.high_watermark(), broker[0].image().end_offset());
        drop((log, broker));
        simulation.kill(0);
        restart(&simulation);
    }
    assert_eq!(terms, [(2, 2), (3, 3), (4, 4)]);
}

#[test]
fn a_disk_that_has_failed_decides_nothing() {
    let simulation = Simulation::new(3, 1, 1);
    let broker = start(&simulation);
    let rule = FaultRule::new(Fault::WriteError).path("journal").times(1);
    simulation.faults().add(rule);
    simulation.block_on(0, async {
        for _ in 0..2 {
            let create = CreateTopicsRequest {
                topics: vec![NewTopic {
                    name: "orders".into(),
                    topic_id: TopicId([8; 16]),
                    partition_count: 1,
                    replication_factor: 1,
                    ..NewTopic::default()
                }],
                ..CreateTopicsRequest::default()
            };
            let refused = broker[0].ask(ShardId(0), create).await.unwrap_err();
            assert!(
                matches!(refused, MetadataRefusal::NotWritten(_)),
                "{refused}"
            );
            broker[0].io.sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(broker[0].storage.fence_reason().is_some());
    assert!(broker[0].image().topic_by_name("orders").is_none());
}
