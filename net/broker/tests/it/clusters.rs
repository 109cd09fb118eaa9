//! Several brokers of one cluster: how they come together, and that they decide as one.

use std::rc::Rc;
use std::time::Duration;

use broker::{BrokerPlan, PeerPlan, Running};
use metadata::ConfigResourceType;
use metadata::controller::{
    AlterConfigsRequest, ConfigChange, ConfigOperation, ConfigResource, CreateTopicsRequest,
    NewTopic, candidates,
};
use model::config::{Listener, Voter};
use model::record::{BatchBuilder, Batches, read_records_owned};
use model::{BrokerId, Offset, PartitionIndex, ShardId, Timestamp, TopicId, TopicPartition};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, TaskClass};
use shard::request::{Acks, Checked, CreatedTopics, Produce, ProducePartition};
use shard::{Closed, Shard};
use storage::ReadRequest;

use crate::bed::{Ends, PORT, Started, plan_with, start_on, stop};

const PEER_PORT: u16 = 9093;
const SHARDS: u16 = 2;
/// A leader of the metadata log is silent for 1.2 s at most before another one stands; then two rounds and the disk.
const FAILOVER_MAX: Duration = Duration::from_secs(5);

/// The plan of a broker on a node, whose number is one more. `voters` and `seeds` are nodes.
fn plan(
    simulation: &Simulation,
    node: usize,
    voters: &[usize],
    seeds: &[usize],
    kernel_runs: usize,
) -> BrokerPlan {
    let id = (node + 1).to_string();
    let settings = [
        ("node.id", id.as_str()),
        ("listeners", "PLAINTEXT://:0"),
        ("broker.heartbeat.interval.ms", "250"),
        ("broker.session.timeout.ms", "2000"),
        ("metadata.log.max.record.bytes.between.snapshots", "3000"),
        // Nothing moves by itself but where that is what is tested.
        ("ringlog.moves.max", "0"),
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
        join: Vec::new(),
        resolve: peer::resolve_literal,
    };
    BrokerPlan {
        peers: Some(peers),
        boot_id: Some(format!("run {kernel_runs} of the kernel")),
        ..plan_with(SHARDS, &[simulation.address(node, PORT)], &settings)
    }
}

/// One record for one partition, with `acks=all`.
fn request(id: TopicPartition, value: u64) -> Produce {
    let mut batch = BatchBuilder::new();
    batch.push(Timestamp(1), None, Some(&value.to_be_bytes()));
    Produce {
        acks: Acks::All,
        timeout_ms: 500,
        zstd_allowed: true,
        partitions: vec![ProducePartition {
            id,
            records: batch.build().unwrap(),
            checked: Checked::Not,
        }],
    }
}

pub(crate) struct World {
    pub(crate) simulation: Simulation,
    pub(crate) brokers: Vec<Option<Vec<Running<SimIo>>>>,
    topics: u8,
    /// What the kernel tells of, by which a broker knows that its machine has run on.
    kernel_runs: usize,
}

impl World {
    /// Three voters that are started together.
    fn of_voters(seed: u64) -> World {
        World::with_room(seed, 3)
    }

    /// The same, with nodes on which nothing runs yet.
    pub(crate) fn with_room(seed: u64, nodes: usize) -> World {
        let simulation = Simulation::new(seed, nodes, usize::from(SHARDS));
        let all = [0, 1, 2];
        let started: Vec<Started> = all
            .iter()
            .map(|node| start_on(&simulation, *node, plan(&simulation, *node, &all, &[], 0)))
            .collect();
        let brokers = started.into_iter();
        let brokers = brokers.map(|started| Some(started.running(&simulation, SHARDS)));
        let free = (all.len()..nodes).map(|_| None);
        World {
            brokers: brokers.chain(free).collect(),
            simulation,
            topics: 0,
            kernel_runs: 0,
        }
    }

    /// Nobody is started yet.
    fn empty(seed: u64, nodes: usize) -> World {
        World {
            simulation: Simulation::new(seed, nodes, usize::from(SHARDS)),
            brokers: (0..nodes).map(|_| None).collect(),
            topics: 0,
            kernel_runs: 0,
        }
    }

    /// Sets a value of one broker.
    pub(crate) fn set(&self, node: usize, of: usize, key: &str, value: &str) {
        self.set_of(node, &(of + 1).to_string(), key, value);
    }

    /// Sets a value of all brokers.
    pub(crate) fn set_all(&self, node: usize, key: &str, value: &str) {
        self.set_of(node, "", key, value);
    }

    fn set_of(&self, node: usize, of: &str, key: &str, value: &str) {
        let resource = ConfigResource {
            kind: ConfigResourceType::Broker,
            name: of.to_owned(),
        };
        let change = ConfigChange {
            name: key.to_owned(),
            operation: Some(ConfigOperation::Set),
            value: Some(value.to_owned()),
        };
        let request = AlterConfigsRequest {
            resources: vec![(resource, vec![change])],
            replaces: false,
            validate_only: false,
        };
        let shard = self.brokers[node].as_ref().unwrap()[1].shard.clone();
        let asked = async move { shard.ask(ShardId(0), request).await };
        let altered = self.simulation.block_on(node, asked).unwrap();
        assert!(
            altered.iter().all(|(_, result)| result.is_ok()),
            "{altered:?}"
        );
    }

    /// The nodes that have a vote, as a broker knows it.
    fn voting(&self, node: usize) -> Vec<usize> {
        let shards = self.brokers[node].as_ref().unwrap();
        let status = shards[0].shard.quorum_status();
        let voters = status.replicas.iter().filter(|replica| replica.is_voter);
        let mut nodes: Vec<usize> = voters.map(|one| one.key.broker.0 as usize - 1).collect();
        nodes.sort_unstable();
        nodes
    }

    pub(crate) fn start(&mut self, node: usize, voters: &[usize], seeds: &[usize]) {
        let plan = plan(&self.simulation, node, voters, seeds, self.kernel_runs);
        let started = start_on(&self.simulation, node, plan);
        self.brokers[node] = Some(started.running(&self.simulation, SHARDS));
    }

    /// Starts a broker without waiting until it serves.
    pub(crate) fn begin_to_start(&mut self, node: usize, voters: &[usize], seeds: &[usize]) {
        let plan = plan(&self.simulation, node, voters, seeds, self.kernel_runs);
        drop(start_on(&self.simulation, node, plan));
    }

    pub(crate) fn power_cut(&mut self, node: usize) {
        self.brokers[node] = None;
        self.simulation.power_cut(node);
        self.simulation.restart(node);
        self.kernel_runs += 1;
    }

    /// The controller, as a broker knows it.
    pub(crate) fn controller_of(&self, node: usize) -> Option<usize> {
        let shards = self.brokers[node].as_ref().expect("it runs");
        let id = shards[0].shard.controller_id()?;
        Some(id.0 as usize - 1)
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.brokers[node] = None;
        self.simulation.kill(node);
        self.simulation.restart(node);
    }

    /// Stops a broker in order, and lets `meanwhile` do something again and again until it has ended. How long it took.
    fn stop(&mut self, node: usize, mut meanwhile: impl FnMut(&World)) -> Duration {
        let (begun, ends) = (self.simulation.now(), Ends::default());
        for shard in self.brokers[node].take().expect("it runs") {
            stop(shard, &ends);
        }
        while ends.borrow().len() < usize::from(SHARDS) {
            meanwhile(self);
        }
        let took = self.simulation.now().since(begun);
        for (shard, end) in ends.take() {
            assert!(matches!(end, Ok(Closed::Clean)), "{shard}: {end:?}");
        }
        self.simulation.kill(node);
        self.simulation.restart(node);
        took
    }

    /// Ends all processes at once, by a power cut or not, and starts them together.
    fn restart_all(&mut self, power_cut: bool) {
        let all = [0, 1, 2];
        for node in all {
            self.brokers[node] = None;
            match power_cut {
                true => self.simulation.power_cut(node),
                false => self.simulation.kill(node),
            }
            self.simulation.restart(node);
        }
        self.kernel_runs += usize::from(power_cut);
        let plans = all.map(|node| plan(&self.simulation, node, &all, &[], self.kernel_runs));
        let started: Vec<Started> = plans
            .into_iter()
            .zip(all)
            .map(|(plan, node)| start_on(&self.simulation, node, plan))
            .collect();
        for (node, started) in all.into_iter().zip(started) {
            self.brokers[node] = Some(started.running(&self.simulation, SHARDS));
        }
    }

    /// Asks a broker for a topic; what that was answered.
    fn create(&mut self, node: usize) -> (TopicId, Result<CreatedTopics, String>) {
        self.create_with(node, 4, 1)
    }

    pub(crate) fn create_with(
        &mut self,
        node: usize,
        partition_count: i32,
        replication_factor: i16,
    ) -> (TopicId, Result<CreatedTopics, String>) {
        self.topics += 1;
        let topic_id = TopicId([self.topics; 16]);
        let request = CreateTopicsRequest {
            topics: vec![NewTopic {
                name: format!("topic-{}", self.topics),
                topic_id,
                partition_count,
                replication_factor,
                // While fewer are in sync, who has left may still lead.
                configs: vec![("min.insync.replicas".into(), Some("2".into()))],
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

    /// The shard that leads a partition, as a broker that runs knows it.
    pub(crate) fn leader_of(&self, id: TopicPartition) -> Option<(usize, Rc<Shard<SimIo>>)> {
        self.leader_seen_by(&Vec::from_iter(0..self.brokers.len()), id)
    }

    /// The same, as one of these brokers has it.
    fn leader_seen_by(
        &self,
        nodes: &[usize],
        id: TopicPartition,
    ) -> Option<(usize, Rc<Shard<SimIo>>)> {
        let mut running = nodes.iter().filter_map(|node| self.brokers[*node].as_ref());
        let leader = running.find_map(|shards| {
            let image = shards[0].shard.image();
            image.partition(id)?.leader
        })?;
        let node = leader.0 as usize - 1;
        let shards = self.brokers[node].as_ref()?;
        let owner = shards[0].shard.owner(id);
        Some((node, shards[usize::from(owner.0)].shard.clone()))
    }

    /// Produces one record with `acks=all`, wherever the partition is led, until that is acknowledged.
    pub(crate) fn produce(&self, id: TopicPartition, value: u64) {
        self.produce_at(&Vec::from_iter(0..self.brokers.len()), id, value);
    }

    /// The same, where one of these brokers believes that it is led.
    pub(crate) fn produce_at(&self, nodes: &[usize], id: TopicPartition, value: u64) {
        let deadline = self.simulation.now().plus(FAILOVER_MAX);
        loop {
            if let Some((node, shard)) = self.leader_seen_by(nodes, id) {
                let produce = request(id, value);
                let me = shard.id();
                let asked = async move { shard.ask(me, produce).await };
                let produced = self.simulation.block_on(node, asked);
                if produced.results[0].is_ok() {
                    return;
                }
            }
            assert!(
                self.simulation.now() < deadline,
                "{value} is not acknowledged"
            );
            self.simulation.run_for(Duration::from_millis(10));
        }
    }

    /// Produces one record that nobody waits for: it is on its way when the next thing happens.
    fn begin_to_produce(&self, id: TopicPartition, value: u64) {
        let (_, shard) = self.leader_of(id).expect("it is led");
        let (me, produce) = (shard.id(), request(id, value));
        shard.io.clone().spawn(TaskClass::Foreground, async move {
            shard.ask(me, produce).await;
        });
    }

    /// The values of a partition that are committed, as its leader has them.
    pub(crate) fn values(&self, id: TopicPartition) -> Vec<u64> {
        let (node, shard) = self.leader_of(id).expect("it is led");
        let partition = shard.partition(id).expect("it is open");
        let end = partition.high_watermark();
        let log = partition.log.clone();
        let read = async move {
            let mut values = Vec::new();
            let mut from = Offset(0);
            while from < end {
                let request = ReadRequest {
                    from,
                    end,
                    bytes_max: 1 << 20,
                    at_least_one_batch: true,
                };
                let read = shard.storage.read(&log, request).await.unwrap();
                for bytes in read.batches {
                    for batch in Batches::new(&bytes) {
                        let (header, batch) = batch.unwrap();
                        from = header.next_offset();
                        let records = read_records_owned(batch).unwrap();
                        values.extend(records.into_iter().map(|record| {
                            u64::from_be_bytes(record.value.unwrap()[..].try_into().unwrap())
                        }));
                    }
                }
            }
            values
        };
        self.simulation.block_on(node, read)
    }

    /// Whether nobody leads before suspects have told what they have, as the first broker has it.
    fn waits_for_suspects(&self, id: TopicPartition) -> bool {
        let shards = self.brokers[0].as_ref().unwrap();
        let image = shards[0].shard.image();
        image
            .partition(id)
            .is_some_and(|state| candidates(state).is_some())
    }

    /// Who is in sync, as a broker has it.
    pub(crate) fn isr(&self, node: usize, id: TopicPartition) -> usize {
        let shards = self.brokers[node].as_ref().unwrap();
        let image = shards[0].shard.image();
        image.partition(id).map_or(0, |state| state.isr.len())
    }

    /// Lets time pass until a broker's shards all know the topic.
    pub(crate) fn knows(&self, node: usize, topic: TopicId) -> bool {
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

    pub(crate) fn voters(&self, node: usize) -> usize {
        let shards = self.brokers[node].as_ref().unwrap();
        let status = shards[0].shard.quorum_status();
        status
            .replicas
            .iter()
            .filter(|replica| replica.is_voter)
            .count()
    }

    pub(crate) fn run_until(&self, what: &str, mut done: impl FnMut() -> bool) {
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
        let mut world = World::empty(seed, 4);
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
fn votes_go_where_they_are_wanted() {
    for seed in 0..5 {
        let mut world = World::empty(seed, 5);
        world.start(0, &[], &[]);
        for node in 1..5 {
            world.start(node, &[], &[0]);
        }
        world.run_until("three votes", || (0..5).all(|node| world.voters(node) == 3));
        let leader = world.leader().expect("all know it");
        let voting = world.voting(leader);
        let other = *voting
            .iter()
            .find(|node| **node != leader)
            .expect("of three");
        // Not the leader, then the leader itself, which hands over before.
        world.set(leader, other, "ringlog.broker.vote", "never");
        world.run_until("another one votes", || {
            let voting = world.voting(leader);
            voting.len() == 3 && !voting.contains(&other)
        });
        world.set(other, leader, "ringlog.broker.vote", "never");
        world.run_until("another one leads", || {
            let voting = world.voting(other);
            voting.len() == 3 && !voting.contains(&leader) && world.leader() != Some(leader)
        });
        let rest: Vec<usize> = (0..5)
            .filter(|node| ![leader, other].contains(node))
            .collect();
        assert_eq!(world.voting(other), rest, "seed {seed}");
        // Two that may vote again, and whose wish is more than three.
        world.set(rest[0], leader, "ringlog.broker.vote", "always");
        for node in &rest {
            world.set(rest[0], *node, "ringlog.broker.vote", "always");
        }
        world.set(rest[0], other, "ringlog.broker.vote", "always");
        world.run_until("five vote", || (0..5).all(|node| world.voters(node) == 5));
    }
}

#[test]
fn a_silent_broker_is_fenced_and_let_in_again() {
    for is_killed in [true, false] {
        let mut world = World::of_voters(3);
        world.run_until("three votes", || (0..3).all(|node| world.voters(node) == 3));
        let leader = world.leader().expect("all know it");
        let victim = (leader + 1) % 3;
        let is_fenced = |world: &World, node: usize| {
            let shards = world.brokers[node].as_ref().unwrap();
            let image = shards[1].shard.image();
            image.broker(BrokerId(victim as i32 + 1)).unwrap().fenced
        };
        let others = || (0..3).filter(move |node| *node != victim);
        match is_killed {
            true => world.kill(victim),
            false => others().for_each(|node| world.simulation.cut(victim, node)),
        }
        let began = world.simulation.now();
        world.run_until("fenced", || is_fenced(&world, leader));
        let took = world.simulation.now().since(began);
        // Nobody listens where a process was: that is seen at once. Of a machine that is out of reach only silence tells.
        match is_killed {
            true => assert!(took < Duration::from_secs(1), "{took:?}"),
            false => assert!(took >= Duration::from_millis(1_500), "{took:?}"),
        }
        match is_killed {
            true => world.start(victim, &[0, 1, 2], &[]),
            false => others().for_each(|node| world.simulation.heal(victim, node)),
        }
        world.run_until("let in", || (0..3).all(|node| !is_fenced(&world, node)));
    }
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
    let begun = world.simulation.now();
    world.start(0, &[0, 1, 2], &[]);
    // Once its process before is not waited for any more.
    let took = world.simulation.now().since(begun);
    assert!(took < FAILOVER_MAX, "{took:?}");
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

#[test]
fn what_is_acknowledged_survives_every_leader() {
    for seed in 0..10 {
        let mut world = World::of_voters(seed);
        world.run_until("three votes", || (0..3).all(|node| world.voters(node) == 3));
        let (topic, answer) = world.create_with(0, 4, 3);
        assert!(answer.unwrap()[0].1.is_ok(), "seed {seed}");
        assert!((0..3).all(|node| world.knows(node, topic)));
        let ids: Vec<_> = (0..4)
            .map(|index| TopicPartition {
                topic,
                partition: PartitionIndex(index),
            })
            .collect();
        let mut acknowledged = 0;
        for round in 0..4 {
            for _ in 0..20 {
                for id in &ids {
                    world.produce(*id, acknowledged);
                }
                acknowledged += 1;
            }
            let victim = world.leader_of(ids[round]).expect("it is led").0;
            world.kill(victim);
            for id in &ids {
                world.produce(*id, acknowledged);
            }
            acknowledged += 1;
            world.start(victim, &[0, 1, 2], &[]);
            world.run_until("all in sync", || {
                ids.iter().all(|id| world.isr(0, *id) == 3)
            });
        }
        for id in &ids {
            let mut values = world.values(*id);
            // One that was not acknowledged in time was sent again, and may be there twice.
            values.dedup();
            assert_eq!(
                values,
                (0..acknowledged).collect::<Vec<_>>(),
                "seed {seed}, {id}"
            );
        }
    }
}

/// Clients notice nothing of a rolling restart: others lead before a broker stops, and decide before the controller does.
#[test]
fn a_rolling_restart_keeps_nobody_waiting() {
    /// A client that hears of another leader asks that one; each knows of it within a round between brokers.
    const GAP_MAX: Duration = Duration::from_millis(300);
    const STOP_MAX: Duration = Duration::from_secs(1);
    for seed in 0..10 {
        let mut world = World::of_voters(seed);
        world.run_until("three votes", || (0..3).all(|node| world.voters(node) == 3));
        let (topic, answer) = world.create_with(0, 4, 3);
        assert!(answer.unwrap()[0].1.is_ok(), "seed {seed}");
        assert!((0..3).all(|node| world.knows(node, topic)));
        let ids = [0, 1, 2, 3].map(|index| TopicPartition {
            topic,
            partition: PartitionIndex(index),
        });
        let (mut value, mut gap) = (0, Duration::ZERO);
        for node in 0..3 {
            let was_controller = world.leader() == Some(node);
            let took = world.stop(node, |world| {
                for id in ids {
                    let asked = world.simulation.now();
                    world.produce(id, value);
                    gap = gap.max(world.simulation.now().since(asked));
                }
                value += 1;
            });
            assert!(took < STOP_MAX, "seed {seed}: {took:?}");
            let leader = world.leader();
            assert!(
                leader.is_some_and(|leader| leader != node),
                "seed {seed}: {leader:?}, {was_controller}"
            );
            world.start(node, &[0, 1, 2], &[]);
            world.run_until("all in sync", || {
                ids.iter().all(|id| world.isr(0, *id) == 3)
            });
        }
        assert!(gap < GAP_MAX, "seed {seed}: {gap:?}");
        for id in ids {
            let mut values = world.values(id);
            values.dedup();
            assert_eq!(values, (0..value).collect::<Vec<_>>(), "seed {seed}, {id}");
        }
    }
}

/// Nothing that a process has completed goes with it: who was in sync may lead, though nobody has stopped in order.
#[test]
fn all_may_be_killed_at_once() {
    all_end_at_once(false);
}

/// After that each of them may have lost something, for all that is known. The one that has most leads.
#[test]
fn all_may_lose_power_at_once() {
    all_end_at_once(true);
}

fn all_end_at_once(power_cut: bool) {
    /// Values from here on are not waited for.
    const NOISE: u64 = 1 << 32;
    let mut several_suspects = false;
    for seed in 0..10 {
        let mut world = World::of_voters(seed);
        world.run_until("three votes", || (0..3).all(|node| world.voters(node) == 3));
        let (topic, answer) = world.create_with(0, 2, 3);
        assert!(answer.unwrap()[0].1.is_ok(), "seed {seed}");
        assert!((0..3).all(|node| world.knows(node, topic)));
        let ids = [0, 1].map(|index| TopicPartition {
            topic,
            partition: PartitionIndex(index),
        });
        for round in 0..3 {
            for value in 0..10 {
                for id in ids {
                    world.produce(id, round * 10 + value);
                }
            }
            // The groups of the moment are torn, so a disk shows that something may be missing.
            for value in NOISE..NOISE + 40 {
                ids.iter().for_each(|id| world.begin_to_produce(*id, value));
                let pause = Duration::from_micros(20 + 7 * (seed * 3 + round));
                world.simulation.run_for(pause);
            }
            world.restart_all(power_cut);
            several_suspects |= ids.iter().any(|id| world.waits_for_suspects(*id));
            world.run_until("all in sync", || {
                several_suspects |= ids.iter().any(|id| world.waits_for_suspects(*id));
                ids.iter().all(|id| world.isr(0, *id) == 3)
            });
        }
        for id in ids {
            let mut values = world.values(id);
            values.retain(|value| *value < NOISE);
            values.dedup();
            assert_eq!(values, (0..30).collect::<Vec<_>>(), "seed {seed}, {id}");
        }
    }
    assert_eq!(several_suspects, power_cut);
}
