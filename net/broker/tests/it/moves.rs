//! Replicas that move between brokers of a cluster, under load and with brokers that are killed meanwhile: every
//! acknowledged record is there afterwards, and nothing of a replica is left where it was.

use std::collections::BTreeSet;
use std::time::Duration;

use metadata::controller::{
    AlterConfigsRequest, AlterReassignmentsRequest, ConfigChange, ConfigOperation, ConfigResource,
    PartitionReassignment, Refusal,
};
use metadata::{ConfigResourceType, PartitionState};
use model::record::BatchBuilder;
use model::{BrokerId, PartitionIndex, ShardId, Timestamp, TopicId, TopicPartition};
use shard::request::{Acks, Checked, Produce, ProducePartition};

use crate::clusters::World;

const VOTERS: [usize; 3] = [0, 1, 2];

/// Partitions of a topic of its own, with three replicas on nodes 0 to 2 of four.
pub(crate) struct Bed {
    pub(crate) world: World,
    topic: TopicId,
    pub(crate) ids: Vec<TopicPartition>,
    acknowledged: u64,
}

impl Bed {
    pub(crate) fn new(seed: u64, partition_count: i32) -> Bed {
        let mut world = World::with_room(seed, 4);
        world.run_until("three votes", || {
            VOTERS.iter().all(|node| world.voters(*node) == 3)
        });
        // What moves here is what the tests say.
        configure(
            &world,
            ConfigResourceType::Broker,
            "",
            &[("ringlog.moves.max", "0")],
        );
        let (topic, answer) = world.create_with(0, partition_count, 3);
        assert!(answer.unwrap()[0].1.is_ok(), "seed {seed}");
        assert!(VOTERS.iter().all(|node| world.knows(*node, topic)));
        let id = |index| TopicPartition {
            topic,
            partition: PartitionIndex(index),
        };
        Bed {
            world,
            topic,
            ids: (0..partition_count).map(id).collect(),
            acknowledged: 0,
        }
    }

    pub(crate) fn join(&mut self, node: usize) {
        self.world.start(node, &[], &[0]);
        assert!(self.world.knows(node, self.topic));
    }

    pub(crate) fn produce(&mut self, count: u64) {
        for _ in 0..count {
            for id in &self.ids {
                self.world.produce(*id, self.acknowledged);
            }
            self.acknowledged += 1;
        }
    }

    /// Asks the broker on a node for replicas; `None` gives up what is under way.
    fn alter(
        &self,
        node: usize,
        id: TopicPartition,
        replicas: Option<&[i32]>,
    ) -> Result<(), Refusal> {
        let shards = self.world.brokers[node].as_ref().expect("it runs");
        let shard = shards[1].shard.clone();
        let name = {
            let image = shard.image();
            let topic = image.topic_by_id(id.topic).expect("it is known");
            topic.name().as_ref().to_owned()
        };
        let wanted = PartitionReassignment {
            partition: id.partition,
            replicas: replicas.map(|ids| ids.iter().copied().map(BrokerId).collect()),
        };
        let request = AlterReassignmentsRequest {
            topics: vec![(name, vec![wanted])],
            allow_replication_factor_change: true,
        };
        let asked = async move { shard.ask(ShardId(0), request).await };
        let mut answer = self.world.simulation.block_on(node, asked).unwrap();
        let (_, mut results) = answer.remove(0);
        results.remove(0).1.map_err(|error| error.refusal)
    }

    pub(crate) fn state(&self, node: usize, id: TopicPartition) -> PartitionState {
        let shards = self.world.brokers[node].as_ref().expect("it runs");
        let image = shards[0].shard.image();
        image.partition(id).expect("it exists").clone()
    }

    /// Lets time pass until every partition has these replicas, all in sync, as a node has it.
    fn settled(&self, node: usize, replicas: impl Fn(TopicPartition) -> Vec<i32>) {
        for id in &self.ids {
            let wanted: Vec<BrokerId> = replicas(*id).into_iter().map(BrokerId).collect();
            self.world.run_until("the move's end", || {
                let state = self.state(node, *id);
                !state.is_moving()
                    && state.replicas[..] == wanted[..]
                    && state.isr.len() == wanted.len()
            });
        }
    }

    /// Lets time pass until nothing of a partition is left on a node, in memory or on its disk.
    pub(crate) fn gone(&self, node: usize, id: TopicPartition) {
        self.world.run_until("no files of it", || {
            let shards = self.world.brokers[node].as_ref().expect("it runs");
            let owner = usize::from(shards[0].shard.owner(id).0);
            let name = id.to_string();
            let mut files = self.world.simulation.files(node).into_iter();
            shards[owner].shard.storage.log(id).is_none()
                && !files.any(|path| path.to_string_lossy().contains(&name))
        });
    }

    /// Every acknowledged record is there once, but for those that were sent again.
    pub(crate) fn check(&self) {
        for id in &self.ids {
            let mut values = self.world.values(*id);
            values.dedup();
            let expected: Vec<u64> = (0..self.acknowledged).collect();
            assert_eq!(values, expected, "{id}");
        }
    }
}

fn configure(world: &World, kind: ConfigResourceType, name: &str, values: &[(&str, &str)]) {
    let resource = ConfigResource {
        kind,
        name: name.to_owned(),
    };
    let changes = values.iter().map(|(name, value)| ConfigChange {
        name: (*name).to_owned(),
        operation: Some(ConfigOperation::Set),
        value: Some((*value).to_owned()),
    });
    let request = AlterConfigsRequest {
        resources: vec![(resource, changes.collect())],
        replaces: false,
        validate_only: false,
    };
    let shards = world.brokers[0].as_ref().expect("it runs");
    let shard = shards[1].shard.clone();
    let asked = async move { shard.ask(ShardId(0), request).await };
    let altered = world.simulation.block_on(0, asked).unwrap();
    assert!(
        altered.iter().all(|(_, result)| result.is_ok()),
        "{altered:?}"
    );
}

/// Broker 4 takes the place of another one, which differs by partition.
fn with_broker_4(id: TopicPartition) -> Vec<i32> {
    let mut replicas = vec![1, 2, 3];
    replicas[id.partition.0 as usize % 3] = 4;
    replicas
}

#[test]
fn a_fourth_broker_takes_replicas_over_under_load() {
    for seed in 0..6 {
        let mut bed = Bed::new(seed, 3);
        bed.produce(20);
        bed.join(3);
        for id in bed.ids.clone() {
            assert_eq!(bed.alter(3, id, Some(&with_broker_4(id))), Ok(()));
        }
        bed.produce(5);
        // Who leads, who is joining, or who is asked: somebody is killed in the middle of it.
        let victim = seed as usize % 4;
        bed.world.kill(victim);
        bed.produce(5);
        match victim {
            3 => bed.world.start(3, &[], &[0]),
            voter => bed.world.start(voter, &VOTERS, &[]),
        }
        bed.produce(5);
        bed.settled(3, with_broker_4);
        bed.produce(5);
        for id in bed.ids.clone() {
            let left = id.partition.0 as usize % 3;
            bed.gone(left, id);
        }
        bed.check();
        // What broker 4 has is the same: it leads, with nobody else.
        for id in bed.ids.clone() {
            assert_eq!(bed.alter(0, id, Some(&[4])), Ok(()));
        }
        bed.settled(3, |_| vec![4]);
        bed.produce(3);
        bed.check();
        for (node, id) in VOTERS
            .iter()
            .flat_map(|node| bed.ids.iter().map(move |id| (*node, *id)))
        {
            bed.gone(node, id);
        }
    }
}

#[test]
fn a_replica_that_comes_back_begins_anew() {
    for seed in 0..4 {
        let mut bed = Bed::new(seed, 2);
        for round in 0..3 {
            bed.produce(10);
            let alone = 1 + (round + seed as i32) % 3;
            for id in bed.ids.clone() {
                assert_eq!(bed.alter(0, id, Some(&[alone])), Ok(()));
            }
            bed.settled(0, |_| vec![alone]);
            bed.produce(10);
            for id in bed.ids.clone() {
                assert_eq!(bed.alter(0, id, Some(&[3, 1, 2])), Ok(()));
            }
            bed.produce(5);
            bed.settled(0, |_| vec![3, 1, 2]);
        }
        bed.check();
        let ends = |node: usize, id: TopicPartition| {
            let shards = bed.world.brokers[node].as_ref().unwrap();
            let owner = usize::from(shards[0].shard.owner(id).0);
            let log = shards[owner].shard.storage.log(id).expect("a replica");
            (log.log_start_offset(), log.log_end_offset())
        };
        for id in &bed.ids {
            let all: BTreeSet<_> = VOTERS.iter().map(|node| ends(*node, *id)).collect();
            assert_eq!(all.len(), 1, "{id}: {all:?}");
        }
    }
}

#[test]
fn a_move_to_a_broker_that_is_away_waits_and_can_be_given_up() {
    let mut bed = Bed::new(1, 1);
    let id = bed.ids[0];
    bed.join(3);
    bed.produce(10);
    bed.world.kill(3);
    assert_eq!(bed.alter(0, id, Some(&[1, 2, 4])), Ok(()));
    bed.produce(10);
    bed.world.simulation.run_for(Duration::from_secs(5));
    let state = bed.state(0, id);
    assert_eq!(state.adding_replicas(), [BrokerId(4)]);
    assert_eq!(state.removing_replicas(), [BrokerId(3)]);
    assert_eq!(bed.alter(0, id, None), Ok(()));
    let refused = bed.alter(0, id, None);
    assert_eq!(refused, Err(Refusal::NoReassignmentInProgress));
    bed.settled(0, |_| vec![1, 2, 3]);
    bed.world.start(3, &[], &[0]);
    bed.produce(10);
    bed.gone(3, id);
    bed.check();
}

#[test]
fn a_replica_that_was_taken_away_meanwhile_is_deleted_at_the_start() {
    let mut bed = Bed::new(2, 2);
    bed.join(3);
    bed.produce(10);
    bed.world.kill(2);
    bed.produce(5);
    for id in bed.ids.clone() {
        assert_eq!(bed.alter(0, id, Some(&[1, 2, 4])), Ok(()));
    }
    bed.settled(0, |_| vec![1, 2, 4]);
    bed.world.start(2, &VOTERS, &[]);
    for id in bed.ids.clone() {
        bed.gone(2, id);
    }
    // Back, while its broker runs.
    for id in bed.ids.clone() {
        assert_eq!(bed.alter(2, id, Some(&[3, 1, 2])), Ok(()));
    }
    bed.settled(0, |_| vec![3, 1, 2]);
    bed.produce(5);
    bed.check();
}

/// What is copied may be limited, and the limit lifted while it is: what was read before counts no longer then.
#[test]
fn a_throttle_holds_for_what_is_copied_and_for_nothing_else() {
    const RECORD_BYTES: usize = 16 << 10;
    const RECORDS: usize = 192;
    let mut bed = Bed::new(5, 1);
    let id = bed.ids[0];
    bed.join(3);
    let (node, shard) = bed.world.leader_of(id).expect("it is led");
    for _ in 0..RECORDS {
        let mut batch = BatchBuilder::new();
        batch.push(Timestamp(1), None, Some(&[7; RECORD_BYTES]));
        let produce = Produce {
            acks: Acks::All,
            timeout_ms: 5_000,
            zstd_allowed: true,
            partitions: vec![ProducePartition {
                id,
                records: batch.build().unwrap(),
                checked: Checked::Not,
            }],
        };
        let (me, shard) = (shard.id(), shard.clone());
        let produced = bed
            .world
            .simulation
            .block_on(node, async move { shard.ask(me, produce).await });
        assert!(produced.results[0].is_ok(), "{:?}", produced.results);
    }
    // Each of two shards reads half of it: 3 MiB take half a minute.
    let rate = ("leader.replication.throttled.rate", "200000");
    configure(&bed.world, ConfigResourceType::Broker, "", &[rate]);
    let all = ("leader.replication.throttled.replicas", "*");
    configure(&bed.world, ConfigResourceType::Topic, "topic-1", &[all]);
    let begun = bed.world.simulation.now();
    assert_eq!(bed.alter(0, id, Some(&[1, 2, 4])), Ok(()));
    let end = |node: usize| {
        let shards = bed.world.brokers[node].as_ref().unwrap();
        let owner = usize::from(shards[0].shard.owner(id).0);
        let log = shards[owner].shard.storage.log(id);
        log.map_or(0, |log| log.log_end_offset().0)
    };
    bed.world.simulation.run_for(Duration::from_secs(8));
    let copied = end(3);
    assert!((1..RECORDS as i64).contains(&copied), "{copied} in 8 s");
    let none = ("leader.replication.throttled.rate", "1000000000");
    configure(&bed.world, ConfigResourceType::Broker, "", &[none]);
    bed.settled(0, |_| vec![1, 2, 4]);
    let took = bed.world.simulation.now().since(begun);
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!((end(3), end(0)), (RECORDS as i64, RECORDS as i64));
}
