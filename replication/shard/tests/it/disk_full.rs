//! A device without space: decisions wait a little, then are refused; the end comes all the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use metadata::controller::{CreateTopicsRequest, DeletableTopic, NewTopic};
use model::record::BatchBuilder;
use model::{PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::Io;
use runtime::sim::{SimIo, Simulation};
use shard::refusal::{AppendRefusal, MetadataRefusal, WriteRefusal};
use shard::request::{Acks, Produce, ProducePartition, ProduceResult};
use shard::{Closed, Shard, ShardOptions};

use crate::bed::{Broker, try_start};

const TOPIC: TopicId = TopicId([9; 16]);

fn small(options: &mut ShardOptions) {
    let storage = &mut options.storage;
    storage.journal_first_file_bytes = 128 << 10;
    storage.journal_file_bytes = 192 << 10;
    storage.journal_bytes_max = 1 << 20;
    storage.group_bytes_max = 32 << 10;
    storage.tail_bytes_max = 192 << 10;
}

async fn create(
    shard: &Rc<Shard<SimIo>>,
    name: &str,
    topic_id: TopicId,
) -> Result<(), MetadataRefusal> {
    let create = CreateTopicsRequest {
        topics: vec![NewTopic {
            name: name.into(),
            topic_id,
            partition_count: 1,
            replication_factor: 1,
            ..NewTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let created = shard.ask(ShardId(0), create).await?;
    assert!(created[0].1.is_ok(), "{created:?}");
    Ok(())
}

async fn produce(shard: &Rc<Shard<SimIo>>) -> ProduceResult {
    let mut batch = BatchBuilder::new();
    batch.push(shard.io.wall_clock(), None, Some(&[7; 4000]));
    let request = Produce {
        acks: Acks::All,
        timeout_ms: 2_000,
        zstd_allowed: true,
        partitions: vec![ProducePartition {
            id: TopicPartition {
                topic: TOPIC,
                partition: PartitionIndex(0),
            },
            records: batch.build().unwrap(),
            checked: shard::request::Checked::Not,
        }],
    };
    let mut produced = shard.ask(ShardId(0), request).await;
    produced.results.pop().unwrap()
}

/// A broker whose device is full, and how many records it acknowledged.
fn full(simulation: &Simulation) -> (Broker, i64) {
    let broker = try_start(simulation, small).unwrap();
    let acknowledged = simulation.block_on(0, async {
        create(&broker[0], "orders", TOPIC).await.unwrap();
        broker[0].io.sleep(Duration::from_secs(1)).await;
        let files = simulation.files(0);
        let sizes = files.iter().map(|path| simulation.file_bytes(0, path));
        let held: usize = sizes.map(|bytes| bytes.unwrap().len()).sum();
        simulation.set_disk_capacity(0, held as u64);
        let mut acknowledged = 0;
        while produce(&broker[0]).await.is_ok() {
            acknowledged += 1;
            assert!(acknowledged < 2000, "the device is not full");
        }
        acknowledged
    });
    assert!(broker[0].storage.is_disk_full());
    (broker, acknowledged)
}

#[test]
fn a_decision_waits_for_space_and_not_for_ever() {
    let simulation = Simulation::new(1, 1, 1);
    let (broker, _) = full(&simulation);
    simulation.block_on(0, async {
        let begun = broker[0].io.now();
        let refused = create(&broker[0], "first", TopicId([1; 16])).await;
        let took = broker[0].io.now().since(begun);
        let refused = refused.unwrap_err();
        let full = WriteRefusal::Append(AppendRefusal::DiskFull);
        assert_eq!(refused, MetadataRefusal::NotWritten(full));
        let text = "the metadata log cannot be written: no space left on the device";
        assert_eq!(refused.to_string(), text);
        assert!(took < Duration::from_secs(5), "{took:?}");
        let outcome = Rc::new(RefCell::new(None));
        let (shard, to) = (broker[0].clone(), outcome.clone());
        broker[0]
            .io
            .spawn(runtime::TaskClass::Foreground, async move {
                let created = create(&shard, "second", TopicId([2; 16])).await;
                *to.borrow_mut() = Some(created);
            });
        broker[0].io.sleep(Duration::from_millis(500)).await;
        simulation.set_disk_capacity(0, u64::MAX);
        broker[0].io.sleep(Duration::from_secs(3)).await;
        assert_eq!(outcome.take(), Some(Ok(())), "space came in time");
    });
}

#[test]
fn a_shard_ends_on_a_full_device_and_loses_nothing() {
    let simulation = Simulation::new(2, 1, 1);
    let (broker, acknowledged) = full(&simulation);
    simulation.block_on(0, async {
        let begun = broker[0].io.now();
        let closed = broker[0].close().await.unwrap();
        let took = broker[0].io.now().since(begun);
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_eq!(closed, Closed::Clean);
    });
    drop(broker);
    simulation.kill(0);
    simulation.restart(0);
    let broker = try_start(&simulation, small).unwrap();
    let id = TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(0),
    };
    let end = broker[0].partition(id).unwrap().log.log_end_offset();
    assert!(end.0 >= acknowledged, "{end} of {acknowledged}");
}

#[test]
fn deleting_a_topic_gives_a_full_device_its_space_back() {
    for seed in 0..20 {
        let simulation = Simulation::new(30 + seed, 1, 1);
        let (broker, _) = full(&simulation);
        simulation.block_on(0, async {
            let topics = vec![DeletableTopic {
                name: Some("orders".into()),
                topic_id: TopicId::default(),
            }];
            let deleted = broker[0].ask(ShardId(0), topics).await;
            let deleted = deleted.unwrap_or_else(|refusal| panic!("seed {seed}: {refusal}"));
            assert!(deleted[0].result.is_ok(), "seed {seed}: {deleted:?}");
            broker[0].io.sleep(Duration::from_secs(5)).await;
            assert!(!broker[0].storage.is_disk_full(), "seed {seed}");
            create(&broker[0], "orders", TOPIC).await.unwrap();
            assert!(produce(&broker[0]).await.is_ok(), "seed {seed}");
        });
    }
}
