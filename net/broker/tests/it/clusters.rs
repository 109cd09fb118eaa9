//! Several brokers of one cluster: how they come together, and that they decide as one.

use std::time::Duration;

use broker::{BrokerPlan, PeerPlan, Running};
use metadata::controller::{CreateTopicsRequest, NewTopic};
use model::config::{Listener, Voter};
use model::{BrokerId, ShardId, TopicId};
use runtime::sim::{SimIo, Simulation};
use shard::request::CreatedTopics;

use crate::bed::{PORT, Started, plan_with, start_on};

const PEER_PORT: u16 = 9093;
const SHARDS: u16 = 2;
/// A leader of the metadata log is silent for 1.2 s at most before another one stands; then two rounds and the disk.
const FAILOVER_MAX: Duration = Duration::from_secs(5);

/// The plan of a broker on a node, whose number is one more. `voters` and `seeds` are nodes.
fn plan(simulation: &Simulation, node: usize, voters: &[usize], seeds: &[usize]) -> BrokerPlan {
    let id = (node + 1).to_string();
    let settings = [
        ("node.id", id.as_str()),
        ("listeners", "PLAINTEXT://:0"),
        ("broker.heartbeat.interval.ms", "250"),
        ("broker.session.timeout.ms", "2000"),
    ];
    let address = |node: usize| simulation.address(node, PEER_PORT);
    let voter = |node: &usize| Voter {
        node: BrokerId(*node as i32 + 1),
        address: Listener {
            name: String::new(),
            host: address(*node).ip().to_string(),
            port: PEER_PORT,
        },
    };
    let seed = |node: &usize| (address(*node).ip().to_string(), PEER_PORT);
    let peers = PeerPlan {
        listen: address(node),
        advertised: (address(node).ip().to_string(), 0),
        voters: voters.iter().map(voter).collect(),
        seeds: seeds.iter().map(seed).collect(),
        resolve: peer::resolve_literal,
    };
    BrokerPlan {
        peers: Some(peers),
        ..plan_with(SHARDS, &[simulation.address(node, PORT)], &settings)
    }
}

struct World {
    simulation: Simulation,
    brokers: Vec<Option<Vec<Running<SimIo>>>>,
    topics: u8,
}

impl World {
    /// Three voters that are started together.
    fn of_voters(seed: u64) -> World {
        let simulation = Simulation::new(seed, 3, usize::from(SHARDS));
        let all = [0, 1, 2];
        let started: Vec<Started> = all
            .iter()
            .map(|node| start_on(&simulation, *node, plan(&simulation, *node, &all, &[])))
            .collect();
        let brokers = started.into_iter();
        let brokers = brokers.map(|started| Some(started.running(&simulation, SHARDS)));
        World {
            brokers: brokers.collect(),
            simulation,
            topics: 0,
        }
    }

    fn start(&mut self, node: usize, voters: &[usize], seeds: &[usize]) {
        let plan = plan(&self.simulation, node, voters, seeds);
        let started = start_on(&self.simulation, node, plan);
        self.brokers[node] = Some(started.running(&self.simulation, SHARDS));
    }

    fn kill(&mut self, node: usize) {
        self.brokers[node] = None;
        self.simulation.kill(node);
        self.simulation.restart(node);
    }

    /// Asks a broker for a topic; what that was answered.
    fn create(&mut self, node: usize) -> (TopicId, Result<CreatedTopics, String>) {
        self.topics += 1;
        let topic_id = TopicId([self.topics; 16]);
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: format!("topic-{}", self.topics),
                topic_id,
                partition_count: 4,
                replication_factor: 1,
                ..NewTopic::default()
            }],
            partition_count_default: 1,
            replication_factor_default: 1,
            ..CreateTopicsRequest::default()
        };
        let shard = self.brokers[node].as_ref().unwrap()[1].shard.clone();
        let asked = async move { shard.ask(ShardId(0), request).await };
        let answer = self.simulation.block_on(node, asked);
        (topic_id, answer.map_err(|error| error.to_string()))
    }

    /// Lets time pass until a broker's shards all know the topic.
    fn knows(&self, node: usize, topic: TopicId) -> bool {
        let deadline = self.simulation.now().plus(FAILOVER_MAX);
        let shards = self.brokers[node].as_ref().unwrap();
        let knows = || {
            shards
                .iter()
                .all(|one| one.shard.image().topic_by_id(topic).is_some())
        };
        while !knows() && self.simulation.now() < deadline {
            self.simulation.run_for(Duration::from_millis(5));
        }
        knows()
    }

    /// The controller, as each broker that runs knows it.
    fn leader(&self) -> Option<usize> {
        let known = self
            .brokers
            .iter()
            .flatten()
            .map(|shards| shards[0].shard.controller_id());
        let mut known: Vec<Option<BrokerId>> = known.collect();
        known.dedup();
        match known.as_slice() {
            [Some(leader)] => Some(leader.0 as usize - 1),
            _ => None,
        }
    }

    fn voters(&self, node: usize) -> usize {
        let shards = self.brokers[node].as_ref().unwrap();
        let status = shards[0].shard.quorum_status();
        status
            .replicas
            .iter()
            .filter(|replica| replica.is_voter)
            .count()
    }

    fn run_until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = self.simulation.now().plus(Duration::from_secs(20));
        while !done() {
            assert!(self.simulation.now() < deadline, "not in time: {what}");
            self.simulation.run_for(Duration::from_millis(10));
        }
    }
}

#[test]
fn three_voters_come_together_and_decide_as_one() {
    for seed in 0..5 {
        let mut world = World::of_voters(seed);
        let clusters: Vec<_> = world.brokers.iter().flatten().collect();
        let cluster = |shards: &Vec<Running<SimIo>>| shards[0].shard.options.cluster_id.clone();
        assert!(
            clusters
                .iter()
                .all(|one| cluster(one) == cluster(clusters[0]))
        );
        world.run_until("three votes", || (0..3).all(|node| world.voters(node) == 3));
        for node in [2, 0, 1] {
            let (topic, answer) = world.create(node);
            assert!(answer.unwrap()[0].1.is_ok(), "seed {seed}");
            assert!((0..3).all(|other| world.knows(other, topic)), "seed {seed}");
        }
        // Each partition is led by a broker that is there, and all of them lead some.
        let image = world.brokers[0].as_ref().unwrap()[0].shard.image().clone();
        let leaders: std::collections::BTreeSet<_> =
            image.partitions().map(|(_, state)| state.leader).collect();
        assert_eq!(leaders.len(), 3, "{leaders:?}");
    }
}

#[test]
fn another_one_decides_when_the_controller_is_killed() {
    for seed in 0..10 {
        let mut world = World::of_voters(seed);
        world.run_until("three votes", || (0..3).all(|node| world.voters(node) == 3));
        for _ in 0..3 {
            world.run_until("a leader", || world.leader().is_some());
            let leader = world.leader().unwrap();
            world.kill(leader);
            let began = world.simulation.now();
            let other = (leader + 1) % 3;
            // What was sent to the one that is dead may have been decided: then the client asks again.
            let topic = loop {
                let (topic, answer) = world.create(other);
                let took = world.simulation.now().since(began);
                match answer {
                    Ok(created) => break created[0].1.as_ref().map(|_| topic).unwrap(),
                    Err(error) => assert!(took <= FAILOVER_MAX, "seed {seed}: {error}"),
                }
            };
            let took = world.simulation.now().since(began);
            assert!(took <= FAILOVER_MAX, "seed {seed}: {took:?}");
            world.start(leader, &[0, 1, 2], &[]);
            assert!((0..3).all(|node| world.knows(node, topic)), "seed {seed}");
        }
    }
}

#[test]
fn a_new_broker_joins_by_the_address_of_one() {
    for seed in 0..5 {
        let simulation = Simulation::new(seed, 4, usize::from(SHARDS));
        let mut world = World {
            simulation,
            brokers: vec![None, None, None, None],
            topics: 0,
        };
        world.start(0, &[], &[]);
        let (first, answer) = world.create(0);
        assert!(answer.unwrap()[0].1.is_ok());
        for node in 1..4 {
            world.start(node, &[], &[node - 1]);
            assert!(world.knows(node, first), "seed {seed}");
            let (topic, answer) = world.create(node);
            assert!(answer.unwrap()[0].1.is_ok(), "seed {seed}");
            assert!(world.knows(0, topic), "seed {seed}");
        }
        world.run_until("three votes", || (0..4).all(|node| world.voters(node) == 3));
    }
}

#[test]
fn a_silent_broker_is_fenced_and_let_in_again() {
    let mut world = World::of_voters(3);
    world.run_until("three votes", || (0..3).all(|node| world.voters(node) == 3));
    let leader = world.leader().expect("all know it");
    let victim = (leader + 1) % 3;
    world.kill(victim);
    let is_fenced = |world: &World, node: usize| {
        let shards = world.brokers[node].as_ref().unwrap();
        let image = shards[1].shard.image();
        image.broker(BrokerId(victim as i32 + 1)).unwrap().fenced
    };
    let began = world.simulation.now();
    world.run_until("fenced", || is_fenced(&world, leader));
    assert!(world.simulation.now().since(began) >= Duration::from_millis(1_500));
    world.start(victim, &[0, 1, 2], &[]);
    world.run_until("let in", || (0..3).all(|node| !is_fenced(&world, node)));
}

#[test]
fn a_wiped_voter_begins_no_cluster_and_gets_its_vote_again() {
    let mut world = World::of_voters(4);
    world.run_until("three votes", || (0..3).all(|node| world.voters(node) == 3));
    let (topic, answer) = world.create(1);
    assert!(answer.unwrap()[0].1.is_ok());
    assert!(world.knows(0, topic));
    world.brokers[0] = None;
    world.simulation.kill(0);
    world.simulation.wipe(0);
    world.simulation.restart(0);
    world.start(0, &[0, 1, 2], &[]);
    assert!(world.knows(0, topic));
    let directory = world.brokers[0].as_ref().unwrap()[0]
        .shard
        .options
        .directory_id;
    world.run_until("its vote", || {
        let shards = world.brokers[1].as_ref().unwrap();
        let status = shards[0].shard.quorum_status();
        let mut voters = status.replicas.iter().filter(|replica| replica.is_voter);
        voters.any(|replica| replica.key.directory.0 == directory.0)
    });
}
