//! Values that are set while a broker runs hold on every shard when the answer leaves, and after a restart.

use std::rc::Rc;
use std::sync::Arc;

use metadata::controller::{
    AlterConfigsRequest, ConfigChange, ConfigOperation, ConfigResource, Refusal,
};
use metadata::{ConfigResourceType, Uuid};
use model::{BrokerId, PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::sim::Simulation;
use shard::partition::Partition;
use shard::refusal::MetadataRefusal;
use shard::request::UnregisterBroker;
use storage::Durability;

use crate::bed::{Broker, start, try_start};
use crate::lost_metadata::{create, restart};

const OWN: TopicId = TopicId([8; 16]);
const PLAIN: TopicId = TopicId([9; 16]);
const PARTITIONS: i32 = 8;

/// Changes values through some shard; the refusal of the one resource.
async fn alter(
    broker: &Broker,
    kind: ConfigResourceType,
    name: &str,
    values: &[(&str, Option<&str>)],
) -> Option<Refusal> {
    let resource = ConfigResource {
        kind,
        name: name.to_owned(),
    };
    let changes = values.iter().map(|(name, value)| ConfigChange {
        name: (*name).to_owned(),
        operation: Some(match value {
            Some(_) => ConfigOperation::Set,
            None => ConfigOperation::Delete,
        }),
        value: value.map(str::to_owned),
    });
    let request = AlterConfigsRequest {
        resources: vec![(resource, changes.collect())],
        ..AlterConfigsRequest::default()
    };
    let asked = broker.last().expect("a broker has shards");
    let altered = asked.ask(ShardId(0), request).await.unwrap();
    let result = altered.into_iter().next().expect("one resource").1;
    result.err().map(|error| error.refusal)
}

/// All partitions of a topic, wherever they are, and that more than one shard has some.
fn partitions(broker: &Broker, topic: TopicId) -> Vec<Rc<Partition>> {
    let ids = (0..PARTITIONS).map(|partition| TopicPartition {
        topic,
        partition: PartitionIndex(partition),
    });
    let mut shards = std::collections::BTreeSet::new();
    let found = ids.map(|id| {
        let owner = broker[0].owner(id);
        shards.insert(owner);
        broker[usize::from(owner.0)].partition(id).unwrap()
    });
    let found = found.collect();
    assert!(shards.len() > 1, "all on one shard");
    found
}

/// What each partition of a topic accepts at most, if they agree.
fn batch_bytes_max(broker: &Broker, topic: TopicId) -> usize {
    let all = partitions(broker, topic);
    let mut sizes: Vec<usize> = all
        .iter()
        .map(|partition| partition.rules().validation.batch_bytes_max)
        .collect();
    sizes.dedup();
    assert_eq!(sizes.len(), 1, "partitions differ: {sizes:?}");
    sizes[0]
}

async fn make_topics(broker: &Broker) {
    create(&broker[0], "own", OWN, PARTITIONS).await;
    create(&broker[0], "plain", PLAIN, PARTITIONS).await;
}

#[test]
fn a_topics_values_hold_at_once() {
    let simulation = Simulation::new(1, 1, 3);
    let broker = start(&simulation);
    simulation.block_on(0, async {
        make_topics(&broker).await;
        let before = partitions(&broker, OWN);
        assert!(before.iter().all(|partition| {
            let rules = partition.rules();
            rules.durability == Durability::Flushed && rules.deletes
        }));
        let values = [
            ("max.message.bytes", Some("1000")),
            ("ringlog.durability", Some("written")),
            ("cleanup.policy", Some("compact")),
            ("retention.ms", Some("5")),
            ("retention.bytes", Some("6")),
            ("segment.ms", Some("7")),
            ("segment.bytes", Some("2097152")),
        ];
        let altered = alter(&broker, ConfigResourceType::Topic, "own", &values);
        assert_eq!(altered.await, None);
        for partition in before {
            let rules = partition.rules();
            assert_eq!(rules.validation.batch_bytes_max, 1000);
            assert_eq!(rules.durability, Durability::Written);
            assert!(!rules.deletes && rules.validation.key_required);
            let config = partition.log.config();
            assert_eq!((config.retention_ms, config.retention_bytes), (5, 6));
            assert_eq!((config.segment_ms, config.segment_bytes), (7, 2 << 20));
            assert!(!config.delete_enabled);
        }
        assert_eq!(batch_bytes_max(&broker, PLAIN), 1_048_588);
        let again = values.map(|(name, _)| (name, None));
        let altered = alter(&broker, ConfigResourceType::Topic, "own", &again);
        assert_eq!(altered.await, None);
        for partition in partitions(&broker, OWN) {
            assert_eq!(partition.rules().durability, Durability::Flushed);
            assert!(partition.rules().deletes);
            assert_eq!(partition.log.config().retention_ms, 604_800_000);
        }
    });
}

#[test]
fn a_refused_change_changes_nothing() {
    let simulation = Simulation::new(2, 1, 2);
    let broker = start(&simulation);
    simulation.block_on(0, async {
        make_topics(&broker).await;
        let end = broker[0].image().end_offset();
        let kinds = ConfigResourceType::Topic;
        let half = [("retention.ms", Some("5")), ("segment.bytes", Some("1"))];
        let refused = alter(&broker, kinds, "own", &half).await;
        assert_eq!(refused, Some(Refusal::InvalidConfig));
        let broker_kind = ConfigResourceType::Broker;
        let refusals: &[(ConfigResourceType, &str, &str, &str)] = &[
            (broker_kind, "1", "node.id", "2"),
            (broker_kind, "1", "message.max.bytes", "4K"),
            (broker_kind, "1", "listeners", "PLAINTEXT://:1"),
            (broker_kind, "", "listeners", "PLAINTEXT://:1"),
            (broker_kind, "", "max.connections", "1"),
            (broker_kind, "2", "message.max.bytes", "5"),
            (ConfigResourceType::BrokerLogger, "1", "root", "DEBUG"),
        ];
        for (kind, name, key, value) in refusals {
            let refused = alter(&broker, *kind, name, &[(key, Some(value))]).await;
            assert_eq!(refused, Some(Refusal::InvalidRequest), "{key}={value}");
        }
        assert_eq!(broker[0].image().end_offset(), end);
        for shard in &broker {
            assert_eq!(shard.config().message_max_bytes, 1_048_588);
        }
    });
}

/// Without that, the topic would lose all its values, or no topic could have any.
#[test]
fn a_change_that_does_not_go_with_others_is_refused() {
    let simulation = Simulation::new(5, 1, 2);
    let broker = start(&simulation);
    simulation.block_on(0, async {
        make_topics(&broker).await;
        let (topic, all) = (ConfigResourceType::Topic, ConfigResourceType::Broker);
        let own = [
            ("min.compaction.lag.ms", Some("6")),
            ("retention.ms", Some("5")),
        ];
        assert_eq!(alter(&broker, topic, "own", &own).await, None);
        let max = [("log.cleaner.max.compaction.lag.ms", Some("5"))];
        let refused = Some(Refusal::InvalidRequest);
        assert_eq!(alter(&broker, all, "", &max).await, refused);
        assert_eq!(alter(&broker, all, "1", &max).await, refused);
        for partition in partitions(&broker, OWN) {
            assert_eq!(partition.log.config().retention_ms, 5);
        }
        // Two changes of one request, each of which would be fine alone, and a third that is.
        let one = |kind, name: &str, key: &str, value: &str| {
            let resource = ConfigResource {
                kind,
                name: name.to_owned(),
            };
            let change = ConfigChange {
                name: key.to_owned(),
                operation: Some(ConfigOperation::Set),
                value: Some(value.to_owned()),
            };
            (resource, vec![change])
        };
        for validate_only in [true, false] {
            let request = AlterConfigsRequest {
                resources: vec![
                    one(all, "", "log.cleaner.min.compaction.lag.ms", "100"),
                    one(all, "1", "log.cleaner.max.compaction.lag.ms", "50"),
                    one(topic, "plain", "retention.ms", "7"),
                ],
                validate_only,
                ..AlterConfigsRequest::default()
            };
            let altered = broker[1].ask(ShardId(0), request).await.unwrap();
            let refusals = altered.into_iter().map(|(_, result)| result.err());
            let refusals: Vec<_> = refusals.map(|one| one.map(|e| e.refusal)).collect();
            assert_eq!(refusals, [refused, refused, None]);
            let expected = if validate_only { 604_800_000 } else { 7 };
            for partition in partitions(&broker, PLAIN) {
                assert_eq!(partition.log.config().retention_ms, expected);
            }
        }
    });
}

#[test]
fn values_of_brokers_are_the_defaults_of_topics_and_outlast_a_restart() {
    let simulation = Simulation::new(3, 1, 3);
    let broker = start(&simulation);
    let kind = ConfigResourceType::Broker;
    let set = |name: &'static str, value: &'static str| [(name, Some(value))];
    simulation.block_on(0, async {
        make_topics(&broker).await;
        let own = set("max.message.bytes", "1000");
        let topic = ConfigResourceType::Topic;
        assert_eq!(alter(&broker, topic, "own", &own).await, None);
        let of_all = set("message.max.bytes", "5000");
        assert_eq!(alter(&broker, kind, "", &of_all).await, None);
        assert_eq!(batch_bytes_max(&broker, PLAIN), 5000);
        assert_eq!(batch_bytes_max(&broker, OWN), 1000, "its own value wins");
        let of_one = set("message.max.bytes", "6000");
        assert_eq!(alter(&broker, kind, "1", &of_one).await, None);
        assert_eq!(batch_bytes_max(&broker, PLAIN), 6000, "this broker's wins");
        let unknown = set("no.such.key", "x");
        assert_eq!(alter(&broker, kind, "1", &unknown).await, None);
    });
    drop(broker);
    simulation.kill(0);
    restart(&simulation);
    let broker = try_start(&simulation, |options| {
        // Each process registers anew.
        Arc::make_mut(&mut options.registration).incarnation_id = Uuid([2; 16]);
    });
    let broker = broker.unwrap();
    for shard in &broker {
        assert_eq!(shard.config().message_max_bytes, 6000);
    }
    assert_eq!(batch_bytes_max(&broker, PLAIN), 6000);
    assert_eq!(batch_bytes_max(&broker, OWN), 1000);
    simulation.block_on(0, async {
        let unset = [("message.max.bytes", None)];
        assert_eq!(alter(&broker, kind, "1", &unset).await, None);
        assert_eq!(batch_bytes_max(&broker, PLAIN), 5000);
        assert_eq!(alter(&broker, kind, "", &unset).await, None);
        assert_eq!(batch_bytes_max(&broker, PLAIN), 1_048_588);
    });
}

#[test]
fn a_broker_does_not_unregister_itself() {
    let simulation = Simulation::new(4, 1, 2);
    let broker = start(&simulation);
    simulation.block_on(0, async {
        for (id, expected) in [
            (1, Refusal::InvalidRequest),
            (2, Refusal::BrokerIdNotRegistered),
        ] {
            let unregister = UnregisterBroker {
                broker: BrokerId(id),
            };
            let answer = broker[1].ask(ShardId(0), unregister).await;
            let answer: Result<_, MetadataRefusal> = answer;
            let refused = answer.unwrap().unwrap_err();
            assert_eq!(refused.refusal, expected);
        }
        // It still decides.
        create(&broker[1], "own", OWN, PARTITIONS).await;
    });
}
