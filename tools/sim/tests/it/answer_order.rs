//! Answers leave a connection in the order of its requests, whatever the order in which they become complete
//! (README, invariant 13).

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use client::{
    Acks, Cluster, ClusterOptions, Connection, ConnectionOptions, NewTopic, OffsetSpec, Pending,
};
use model::record::BatchBuilder;
use model::{PartitionIndex, ShardId, Timestamp, TopicPartition};
use protocol::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use protocol::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use protocol::{Records, Text};
use ringlog_sim::cluster::{Broker, BrokerSettings, PORT, Start};
use runtime::Io;
use runtime::sim::{Fault, FaultRule, Generator, SimIo, Simulation};
use shard::partition_table::owner;

/// Where the broker runs.
const NODE: usize = 0;
const SHARDS: u16 = 2;
const PARTITIONS: i32 = 8;
const SEEDS: u64 = 12;
const TOPIC: &str = "ordered";
/// Long after everything that does not wait for a hanging device is done.
const SETTLE: Duration = Duration::from_secs(2);
/// Requests behind the one that hangs.
const BEHIND: u64 = 10;

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(1_000), None, Some(b"value"));
    builder.build().unwrap()
}

fn produce(id: TopicPartition) -> ProduceRequest {
    ProduceRequest {
        transactional_id: None,
        acks: Acks::All.code(),
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: Text::from_static(TOPIC),
            topic_id: id.topic,
            partition_data: vec![PartitionProduceData {
                index: id.partition.0,
                records: Some(Records::from(batch())),
            }],
        }],
    }
}

async fn connect(io: &SimIo, simulation: &Simulation) -> Connection<SimIo> {
    let options = ConnectionOptions {
        in_flight_max: 16,
        request_timeout: Duration::from_secs(60),
        ..ConnectionOptions::default()
    };
    let address = simulation.address(NODE, PORT);
    Connection::connect(io, address, options).await.unwrap()
}

/// A running broker, with a partition on each shard.
struct Bed {
    broker: Rc<Broker>,
    cluster: Cluster<SimIo>,
    /// On the shard whose journal will hang.
    slow: TopicPartition,
    /// On the other one.
    fast: TopicPartition,
    hanging: u16,
}

async fn start(simulation: &Simulation, io: &SimIo, seed: u64) -> Bed {
    let broker = Broker::new(NODE, BrokerSettings::draw(&Generator::new(seed, 7)));
    broker.start(simulation, SHARDS);
    while broker.progress() != Start::Done {
        io.sleep(Duration::from_millis(1)).await;
    }
    let bootstrap = simulation.address(NODE, PORT).to_string();
    let options = ClusterOptions::default();
    let mut cluster = Cluster::connect(io, &bootstrap, options).await.unwrap();
    let new = NewTopic {
        name: TOPIC.to_owned(),
        partitions: PARTITIONS,
        replication_factor: 1,
        configs: Vec::new(),
    };
    let topic = cluster.create_topic(&new).await.unwrap();
    io.sleep(SETTLE).await;
    let owned_by = |number: u16| {
        let mut all = (0..PARTITIONS).map(|index| TopicPartition {
            topic: topic.id,
            partition: PartitionIndex(index),
        });
        all.find(|id| owner(*id, SHARDS) == ShardId(number))
            .unwrap_or_else(|| panic!("seed {seed}: shard {number} has no partition"))
    };
    let hanging = Generator::new(seed, 8).below(u64::from(SHARDS)) as u16;
    Bed {
        broker,
        cluster,
        slow: owned_by(hanging),
        fast: owned_by(1 - hanging),
        hanging,
    }
}

/// A request behind the one that hangs.
enum Behind {
    Produce(Pending<ProduceResponse>),
    Metadata(Pending<MetadataResponse>),
}

/// Sends requests that can be answered at once; how many of them are produces.
async fn send_behind(
    connection: &mut Connection<SimIo>,
    to: TopicPartition,
    random: &Generator,
) -> (Vec<Behind>, i64) {
    let (mut behind, mut produced) = (Vec::new(), 0);
    for _ in 0..BEHIND {
        if random.one_in(2) {
            produced += 1;
            let pending = connection.send(&produce(to)).await.unwrap();
            behind.push(Behind::Produce(pending));
        } else {
            let about = MetadataRequest {
                topics: None::<Vec<MetadataRequestTopic>>,
                ..MetadataRequest::default()
            };
            let pending = connection.send(&about).await.unwrap();
            behind.push(Behind::Metadata(pending));
        }
    }
    (behind, produced)
}

/// A produce whose journal hangs; behind it, on the same connection, requests that are complete long before it.
async fn play(simulation: &Simulation, io: &SimIo, seed: u64) {
    let mut bed = start(simulation, io, seed).await;
    let journal = format!("journal/{}", bed.hanging);
    let rule = FaultRule::new(Fault::Hang).node(NODE).path(&journal);
    simulation.faults().add(rule);
    let mut connection = connect(io, simulation).await;
    let first = connection.send(&produce(bed.slow)).await.unwrap();
    let random = Generator::new(seed, 9);
    let (behind, produced) = send_behind(&mut connection, bed.fast, &random).await;
    io.sleep(SETTLE).await;
    // What was sent later is acknowledged, for everybody to read. What was sent first is not.
    let ends = bed.cluster.offsets(TOPIC, OffsetSpec::Latest).await;
    let ends = ends.unwrap();
    let end = |id: TopicPartition| {
        let found = ends.iter().find(|(other, _)| *other == id.partition);
        found.map(|(_, offset)| offset.0).unwrap()
    };
    assert_eq!((end(bed.slow), end(bed.fast)), (0, produced), "seed {seed}");
    simulation.faults().clear();
    simulation.release_hung(NODE);
    // Each answer is that of the oldest request: the connection holds it to its correlation id.
    let answer = connection.receive(first).await;
    let answer = answer.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    let mut offset = 0;
    for pending in behind {
        match pending {
            Behind::Produce(pending) => {
                let answer = connection.receive(pending).await.unwrap();
                let part = &answer.responses[0].partition_responses[0];
                assert_eq!((part.error_code, part.base_offset), (0, offset));
                offset += 1;
            }
            Behind::Metadata(pending) => {
                let answer = connection.receive(pending).await.unwrap();
                assert_eq!(answer.topics.len(), 1);
            }
        }
    }
    bed.broker.ended();
}

#[test]
fn answers_leave_in_request_order() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 1, usize::from(SHARDS));
        let io = simulation.io(simulation.client(), 0);
        simulation.block_on(simulation.client(), play(&simulation, &io, seed));
    }
}
