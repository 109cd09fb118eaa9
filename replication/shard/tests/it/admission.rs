//! Requests whose parts do not fit the journal at once: each part waits for its room, none is refused for it.

use std::cell::Cell;
use std::rc::Rc;

use metadata::controller::{CreateTopicsRequest, NewTopic};
use model::record::BatchBuilder;
use model::{PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::Io;
use runtime::sim::{SimIo, Simulation};
use shard::request::{Acks, Checked, Produce, ProducePartition};
use shard::{Shard, ShardOptions};

use crate::bed::try_start;

const TOPIC: TopicId = TopicId([9; 16]);
const PARTITIONS: i32 = 8;

fn small(options: &mut ShardOptions) {
    let storage = &mut options.storage;
    storage.journal_first_file_bytes = 128 << 10;
    storage.journal_file_bytes = 128 << 10;
    storage.journal_bytes_max = 512 << 10;
    storage.group_bytes_max = 32 << 10;
    storage.tail_bytes_max = 384 << 10;
}

async fn create(shard: &Rc<Shard<SimIo>>) {
    let create = CreateTopicsRequest {
        topics: vec![NewTopic {
            name: "orders".into(),
            topic_id: TOPIC,
            partition_count: PARTITIONS,
            replication_factor: 1,
            ..NewTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let created = shard.ask(ShardId(0), create).await.unwrap();
    assert!(created[0].1.is_ok(), "{created:?}");
}

/// A batch for every partition.
fn request(shard: &Shard<SimIo>, value_bytes: usize) -> Produce {
    let parts = (0..PARTITIONS).map(|partition| {
        let mut batch = BatchBuilder::new();
        let value = vec![7; value_bytes];
        batch.push(shard.io.wall_clock(), None, Some(&value));
        ProducePartition {
            id: TopicPartition {
                topic: TOPIC,
                partition: PartitionIndex(partition),
            },
            records: batch.build().unwrap(),
            checked: Checked::Not,
        }
    });
    Produce {
        acks: Acks::All,
        timeout_ms: 60_000,
        zstd_allowed: true,
        partitions: parts.collect(),
    }
}

/// Two writers, whose requests are `value_bytes` for each partition.
fn all_are_taken(seed: u64, value_bytes: usize) {
    let simulation = Simulation::new(seed, 1, 1);
    let broker = try_start(&simulation, small).unwrap();
    let done = Rc::new(Cell::new(0));
    simulation.block_on(0, create(&broker[0]));
    for _ in 0..2 {
        let (shard, done) = (broker[0].clone(), done.clone());
        simulation.spawn(0, 0, async move {
            for number in 0..40 {
                let produced = shard.ask(ShardId(0), request(&shard, value_bytes)).await;
                for result in produced.results {
                    result.unwrap_or_else(|refused| panic!("request {number}: {refused:?}"));
                }
            }
            done.set(done.get() + 1);
        });
    }
    simulation.run_until(|| done.get() == 2);
}

#[test]
fn no_part_of_a_request_is_refused_while_the_journal_is_emptied() {
    for seed in 0..20 {
        all_are_taken(seed, 5_000);
    }
}

#[test]
fn a_request_larger_than_the_journal_is_taken_in_parts() {
    for seed in 0..5 {
        all_are_taken(seed, 80_000);
    }
}
