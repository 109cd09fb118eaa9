//! Three brokers in one world, each a machine of its own with its disk, its address and its clients. They do not know
//! each other yet; what happens to one is nothing to the others.

use std::rc::Rc;
use std::time::Duration;

use client::{Acks, Cluster, ClusterOptions, FetchLimits, NewTopic, OffsetSpec};
use model::record::{BatchBuilder, Batches, read_records_owned};
use model::{Offset, PartitionIndex, Timestamp};
use ringlog_sim::cluster::{Broker, BrokerSettings, PORT, Start};
use runtime::Io;
use runtime::sim::{Generator, SimIo, Simulation};

const BROKERS: usize = 3;
const TOPIC: &str = "own";
const SEEDS: u64 = 8;
/// Batches before and after one of the brokers ends.
const BATCHES: i64 = 5;

/// How one of the brokers ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Kill,
    PowerCut,
    Clean,
}

const ENDS: [End; 3] = [End::Kill, End::PowerCut, End::Clean];

async fn serves(broker: &Broker, io: &SimIo) {
    while broker.progress() != Start::Done {
        assert_eq!(broker.progress(), Start::UnderWay);
        io.sleep(Duration::from_millis(1)).await;
    }
}

async fn connect(simulation: &Simulation, node: usize) -> Cluster<SimIo> {
    let io = simulation.io(simulation.client(), 0);
    let bootstrap = simulation.address(node, PORT).to_string();
    let connected = Cluster::connect(&io, &bootstrap, ClusterOptions::default());
    connected.await.unwrap()
}

/// Appends batches of which each record says whose it is.
async fn work(cluster: &mut Cluster<SimIo>, node: usize) {
    let topic = cluster.topic(TOPIC).await.unwrap();
    for _ in 0..BATCHES {
        let mut batch = BatchBuilder::new();
        batch.push(Timestamp(1_000), None, Some(&[node as u8; 8]));
        let batch = batch.build().unwrap();
        let sent = cluster.produce(&topic, PartitionIndex(0), Acks::All, batch);
        sent.await.unwrap();
    }
}

/// The end of the topic, all of whose records must be this broker's.
async fn end_offset(cluster: &mut Cluster<SimIo>, node: usize) -> i64 {
    let ends = cluster.offsets(TOPIC, OffsetSpec::Latest).await.unwrap();
    let end = ends[0].1;
    let topic = cluster.topic(TOPIC).await.unwrap();
    let limits = FetchLimits {
        wait_ms_max: 0,
        bytes_min: 0,
        bytes_max: 1 << 20,
    };
    let mut from = Offset(0);
    while from < end {
        let fetched = cluster.fetch(&topic, PartitionIndex(0), from, limits);
        let records = fetched.await.unwrap().records;
        assert!(!records.is_empty(), "nothing at {from}");
        for batch in Batches::new(&records) {
            let (header, batch) = batch.unwrap();
            for record in read_records_owned(batch).unwrap() {
                assert_eq!(record.value.unwrap(), [node as u8; 8][..]);
            }
            from = header.next_offset();
        }
    }
    end.0
}

async fn play(simulation: &Simulation, io: &SimIo, seed: u64) {
    let random = Generator::new(seed, 7);
    let mut brokers: Vec<Rc<Broker>> = Vec::new();
    let mut shards = Vec::new();
    for node in 0..BROKERS {
        let settings = BrokerSettings::draw(&random).with_node_id(node as i32 + 1);
        shards.push(settings.shards);
        let broker = Broker::new(node, settings);
        broker.start(simulation, shards[node]);
        brokers.push(broker);
    }
    for (node, broker) in brokers.iter().enumerate() {
        serves(broker, io).await;
        let mut cluster = connect(simulation, node).await;
        let ids: Vec<i32> = cluster.brokers().map(|broker| broker.id.0).collect();
        assert_eq!(ids, [node as i32 + 1], "seed {seed}");
        let new = NewTopic {
            name: TOPIC.to_owned(),
            partitions: 1,
            replication_factor: 1,
            configs: Vec::new(),
        };
        cluster.create_topic(&new).await.unwrap();
        work(&mut cluster, node).await;
    }
    let identities: Vec<_> = brokers.iter().map(|broker| broker.cluster_id()).collect();
    let victim = random.index(BROKERS);
    let end = ENDS[random.index(ENDS.len())];
    match end {
        End::Kill => simulation.kill(victim),
        End::PowerCut => simulation.power_cut(victim),
        End::Clean => {
            brokers[victim].stop().await.unwrap();
            simulation.kill(victim);
        }
    }
    brokers[victim].ended();
    for node in (0..BROKERS).filter(|node| *node != victim) {
        let mut cluster = connect(simulation, node).await;
        work(&mut cluster, node).await;
        assert_eq!(
            end_offset(&mut cluster, node).await,
            2 * BATCHES,
            "seed {seed}"
        );
        assert!(brokers[node].fence_reason().is_none());
    }
    simulation.restart(victim);
    brokers[victim].start(simulation, shards[victim]);
    serves(&brokers[victim], io).await;
    let mut cluster = connect(simulation, victim).await;
    let found = end_offset(&mut cluster, victim).await;
    assert_eq!(found, BATCHES, "seed {seed}: {end:?} has lost records");
    for (node, broker) in brokers.iter().enumerate() {
        assert_eq!(broker.cluster_id(), identities[node], "seed {seed}");
        broker.ended();
    }
}

#[test]
fn three_brokers_live_and_die_alone() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, BROKERS, 3);
        let client = simulation.client();
        let io = simulation.io(client, 0);
        simulation.block_on(client, play(&simulation, &io, seed));
    }
}
