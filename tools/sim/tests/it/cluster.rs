//! A cluster of brokers on their nodes: what becomes of them when their disks do not stay what they were, and clients
//! that know several of them.

use std::time::Duration;

use protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use ringlog_sim::cluster::{BROKERS_MAX, BrokerSettings, Cluster, SHARDS_MAX};
use ringlog_sim::workload::Link;
use runtime::Io;
use runtime::sim::{Generator, SimIo, Simulation};

const SEEDS: u64 = 6;

/// Brokers whose messages between shards wait up to 5 ms.
fn settings(seed: u64, count: usize) -> Vec<BrokerSettings> {
    let random = Generator::new(seed, 7);
    let slow = |settings| BrokerSettings {
        mailbox_delay: Some(Duration::from_millis(5)),
        ..settings
    };
    (0..count)
        .map(|_| slow(BrokerSettings::draw(&random)))
        .collect()
}

async fn start_all(cluster: &Cluster<'_>, io: &SimIo) {
    for node in cluster.nodes() {
        cluster.start(node);
    }
    for node in cluster.nodes() {
        cluster.await_start(node, io).await.unwrap();
    }
}

/// The numbers of the brokers that the one which answers knows; nothing if none does.
async fn known(link: &mut Link) -> Option<Vec<i32>> {
    let request = MetadataRequest {
        topics: Some(Vec::<MetadataRequestTopic>::new()),
        ..MetadataRequest::default()
    };
    let answer = link.call(&request).await.ok()?;
    Some(answer.brokers.iter().map(|broker| broker.node_id).collect())
}

#[test]
fn five_brokers_are_five_machines() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, BROKERS_MAX, SHARDS_MAX);
        let cluster = Cluster::new(&simulation, settings(seed, BROKERS_MAX));
        let io = simulation.io(simulation.client(), 0);
        simulation.block_on(simulation.client(), async {
            start_all(&cluster, &io).await;
            for node in cluster.nodes() {
                let mut link = Link::new(io.clone(), &cluster.bootstrap(&[node]));
                assert_eq!(known(&mut link).await, Some(vec![node as i32 + 1]));
                assert_eq!(cluster.broker(node).lives(), 1);
            }
        });
        let ids = cluster.brokers().iter().map(|broker| broker.cluster_id());
        let mut ids: Vec<_> = ids.map(|id| id.expect("it serves")).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), BROKERS_MAX, "each draws its own, seed {seed}");
        cluster.ended();
    }
}

#[test]
fn a_broker_is_what_its_disk_says() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 2, SHARDS_MAX);
        let cluster = Cluster::new(&simulation, settings(seed, 2));
        let io = simulation.io(simulation.client(), 0);
        simulation.block_on(simulation.client(), async {
            start_all(&cluster, &io).await;
            let id = || cluster.broker(0).cluster_id();
            let (first, copy) = (id(), simulation.disk_snapshot(0));
            cluster.kill(0);
            simulation.wipe(0);
            cluster.start(0);
            cluster.await_start(0, &io).await.unwrap();
            assert_ne!(id(), first, "an empty disk is a new broker, seed {seed}");
            cluster.power_cut(0);
            simulation.restore_disk(0, &copy);
            cluster.start(0);
            cluster.await_start(0, &io).await.unwrap();
            assert_eq!(id(), first, "an old disk is the old one, seed {seed}");
            assert_eq!(cluster.broker(0).lives(), 3);
            // The disk of another broker is refused.
            cluster.kill(1);
            simulation.restore_disk(1, &copy);
            cluster.start(1);
            let refused = cluster.await_start(1, &io).await.unwrap_err();
            assert!(refused.contains("node.id"), "{refused}");
        });
        cluster.ended();
    }
}

#[test]
fn a_client_goes_on_with_the_next_broker_that_it_knows() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 3, SHARDS_MAX);
        let cluster = Cluster::new(&simulation, settings(seed, 3));
        let io = simulation.io(simulation.client(), 0);
        simulation.block_on(simulation.client(), async {
            start_all(&cluster, &io).await;
            let mut link = Link::new(io.clone(), &cluster.bootstrap(&[0, 1, 2]));
            assert_eq!(known(&mut link).await, Some(vec![1]));
            cluster.kill(0);
            simulation.isolate(1);
            let mut tries = 0;
            let answered = loop {
                tries += 1;
                if let Some(known) = known(&mut link).await {
                    break known;
                }
            };
            assert_eq!(answered, [3], "seed {seed}");
            assert!(tries <= 4, "{tries} tries for three addresses, seed {seed}");
            io.sleep(Duration::from_millis(1)).await;
        });
        cluster.ended();
    }
}
