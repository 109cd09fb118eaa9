//! A broker ends in order: all shards answer, all close their logs, and only then may another process come.

use std::path::Path;
use std::time::Duration;

use broker::data_directory::{DataDirectory, DirectoryError};
use broker::identity::Owner;
use broker::{DRAIN_MARGIN, LEAVE_PATIENCE, StopError};
use client::{Acks, Cluster, ClusterOptions, NewTopic, Topic};
use model::record::BatchBuilder;
use model::{BrokerId, PartitionIndex, ShardId, Timestamp, TopicPartition};
use runtime::sim::{Fault, FaultRule, SimIo, Simulation};
use shard::Closed;
use shard::partition_table::owner;

use crate::bed::{DATA, Ends, PORT, STOP_PATIENCE, start, stop};

const SHARDS: u16 = 3;
const PARTITIONS: i32 = 12;
/// Long enough for whatever does not wait for somebody.
const SETTLE: Duration = Duration::from_secs(2);
/// Connections until one is accepted by the only shard that still serves.
const TRIES_MAX: usize = 200;

/// Whether another process could have the directory at once or soon.
async fn is_free(io: &SimIo) -> bool {
    let owner = Owner {
        node: BrokerId(1),
        cluster_id: None,
    };
    match DataDirectory::open(io, Path::new(DATA), &owner).await {
        Ok(directory) => {
            directory.release();
            true
        }
        Err(DirectoryError::Locked(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn connect(simulation: &Simulation) -> Option<Cluster<SimIo>> {
    let io = simulation.io(simulation.client(), 0);
    let bootstrap = simulation.address(0, PORT).to_string();
    Cluster::connect(&io, &bootstrap, ClusterOptions::default())
        .await
        .ok()
}

async fn make_topic(simulation: &Simulation) -> Topic {
    let mut cluster = connect(simulation).await.unwrap();
    let new = NewTopic {
        name: "orders".to_owned(),
        partitions: PARTITIONS,
        replication_factor: 1,
        configs: Vec::new(),
    };
    cluster.create_topic(&new).await.unwrap()
}

/// Appends a batch to every partition, which each shard has some of, through whatever shard still accepts connections.
async fn produce_everywhere(simulation: &Simulation, topic: &Topic) {
    let mut owners = std::collections::BTreeSet::new();
    let mut batch = BatchBuilder::new();
    batch.push(Timestamp(1_000), None, Some(b"value"));
    let batch = batch.build().unwrap();
    for index in 0..PARTITIONS {
        let partition = PartitionIndex(index);
        let mut produced = false;
        for _ in 0..TRIES_MAX {
            let Some(mut cluster) = connect(simulation).await else {
                continue;
            };
            let sent = cluster.produce(topic, partition, Acks::All, batch.clone());
            produced = sent.await.is_ok();
            if produced {
                break;
            }
        }
        assert!(produced, "partition {index} takes no records");
        let id = TopicPartition {
            topic: topic.id,
            partition,
        };
        owners.insert(owner(id, SHARDS));
    }
    assert_eq!(owners.len(), usize::from(SHARDS), "each shard has some");
}

/// Two of three shards are told to stop: they drain, and their logs are open for the third one's clients as long as
/// that has not drained. Then all close, while the lock is held until the slowest has.
#[test]
fn no_log_closes_before_all_have_drained_and_no_lock_is_let_go_before_all_are_closed() {
    for seed in 0..6 {
        let simulation = Simulation::new(seed, 1, usize::from(SHARDS));
        let mut running = start(&simulation, SHARDS).running(&simulation, SHARDS);
        let client = simulation.client();
        let topic = simulation.block_on(client, make_topic(&simulation));
        let ends = Ends::default();
        // The slowest is shard 0, which has the lock, or another one.
        let slow = (seed % u64::from(SHARDS)) as usize;
        let late = running.remove(slow);
        let slow_number = late.shard.id();
        for shard in running {
            stop(shard, &ends);
        }
        simulation.run_for(SETTLE);
        assert!(ends.borrow().is_empty(), "seed {seed}: {:?}", ends.borrow());
        simulation.block_on(client, produce_everywhere(&simulation, &topic));

        let checkpoint = format!("checkpoint/{slow_number}");
        let hang = FaultRule::new(Fault::Hang).path(&checkpoint);
        simulation.faults().add(hang);
        stop(late, &ends);
        simulation.run_for(SETTLE);
        assert!(ends.borrow().is_empty(), "seed {seed}: {:?}", ends.borrow());
        let io = simulation.io(0, 0);
        assert!(!simulation.block_on(0, is_free(&io)), "seed {seed}");

        simulation.faults().clear();
        simulation.release_hung(0);
        simulation.run_for(SETTLE);
        let ended = ends.take();
        assert_eq!(ended.len(), usize::from(SHARDS), "seed {seed}");
        let clean = |end: &Result<Closed, StopError>| matches!(end, Ok(Closed::Clean));
        assert!(ended.values().all(clean), "seed {seed}: {ended:?}");
        assert!(simulation.block_on(0, is_free(&io)), "seed {seed}");
        // What was acknowledged during the end is there, and nothing has to be replayed.
        simulation.kill(0);
        simulation.restart(0);
        let again = start(&simulation, SHARDS).running(&simulation, SHARDS);
        let report = again[0].recovery.as_ref().unwrap();
        assert!(report.clean, "seed {seed}: {report:?}");
        let mut cluster = simulation.block_on(client, connect(&simulation)).unwrap();
        let offsets = cluster.offsets("orders", client::OffsetSpec::Latest);
        for (partition, end) in simulation.block_on(client, offsets).unwrap() {
            assert!(end.0 >= 1, "seed {seed}: {partition} has lost a record");
        }
    }
}

/// A shard that does not come is not waited for for ever, nobody closes, and the directory goes with the process.
#[test]
fn without_one_shard_the_others_give_up_in_time() {
    let simulation = Simulation::new(1, 1, usize::from(SHARDS));
    let mut running = start(&simulation, SHARDS).running(&simulation, SHARDS);
    let absent = running.pop().unwrap();
    let shards: Vec<_> = running.iter().map(|shard| shard.shard.clone()).collect();
    let ends = Ends::default();
    for shard in running {
        stop(shard, &ends);
    }
    simulation.run_for(LEAVE_PATIENCE + DRAIN_MARGIN + STOP_PATIENCE + DRAIN_MARGIN + SETTLE);
    let ended = ends.take();
    assert_eq!(ended.len(), usize::from(SHARDS) - 1);
    for end in ended.values() {
        assert!(matches!(end, Err(StopError::TimedOut("drain"))), "{end:?}");
    }
    assert!(
        shards
            .iter()
            .all(|shard| shard.storage.fence_reason().is_none())
    );
    let io = simulation.io(0, 0);
    assert!(!simulation.block_on(0, is_free(&io)));
    drop(absent);
    simulation.kill(0);
    simulation.restart(0);
    let again = start(&simulation, SHARDS).running(&simulation, SHARDS);
    assert!(!again[0].recovery.as_ref().unwrap().clean);
}

/// A log that cannot be closed: the others close theirs and do not wait for long, and the lock is not let go.
#[test]
fn a_shard_that_fails_does_not_keep_the_others_from_closing() {
    let simulation = Simulation::new(2, 1, usize::from(SHARDS));
    let running = start(&simulation, SHARDS).running(&simulation, SHARDS);
    let client = simulation.client();
    let topic = simulation.block_on(client, make_topic(&simulation));
    simulation.block_on(client, produce_everywhere(&simulation, &topic));
    let rule = FaultRule::new(Fault::WriteError).path("checkpoint/1");
    simulation.faults().add(rule);
    let ends = Ends::default();
    for shard in running {
        stop(shard, &ends);
    }
    simulation.run_for(SETTLE);
    let ended = ends.take();
    assert_eq!(ended.len(), usize::from(SHARDS), "{ended:?}");
    for (shard, end) in &ended {
        let failed = matches!(end, Err(StopError::Storage(_)));
        assert_eq!(failed, *shard == ShardId(1), "{shard}: {end:?}");
    }
    let io = simulation.io(0, 0);
    assert!(!simulation.block_on(0, is_free(&io)));
}
