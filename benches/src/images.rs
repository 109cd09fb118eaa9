//! Lookups in a metadata image of 24,000 partitions: 240 topics of 100, on three brokers.

use metadata::record::LeaderRecoveryState;
use metadata::{MetadataImage, MetadataRecord, PartitionRecord, TopicRecord};
use model::{
    BrokerId, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, TopicId, TopicPartition,
};
use runtime::sim::Generator;

use crate::meter::Meter;

const TOPICS: u8 = 240;
const PARTITIONS_PER_TOPIC: i32 = 100;
const BROKERS: i32 = 3;
/// Keys looked up in turn: enough that the processor does not learn the order.
const KEYS: usize = 4096;
const OPS: u64 = 200_000;

/// Scattered as random ids are.
fn topic_id(topic: u8) -> TopicId {
    let chance = Generator::new(1, u64::from(topic));
    let mut id = [0; 16];
    id[..8].copy_from_slice(&chance.next().to_be_bytes());
    id[8..].copy_from_slice(&chance.next().to_be_bytes());
    TopicId(id)
}

fn topic_name(topic: u8) -> String {
    format!("department-{}.orders-{topic:04}", topic % 7)
}

fn partition_record(topic_id: TopicId, partition: i32) -> PartitionRecord {
    let replicas: Vec<BrokerId> = (0..BROKERS)
        .map(|place| BrokerId((partition + place) % BROKERS))
        .collect();
    PartitionRecord {
        partition_id: PartitionIndex(partition),
        topic_id,
        isr: replicas.clone(),
        leader: replicas.first().copied(),
        replicas,
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        leader_recovery_state: LeaderRecoveryState::Recovered,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        directories: Vec::new(),
        eligible_leader_replicas: None,
        last_known_elr: None,
    }
}

fn image() -> MetadataImage {
    let mut records = Vec::new();
    for topic in 0..TOPICS {
        let id = topic_id(topic);
        records.push(MetadataRecord::Topic(TopicRecord {
            name: topic_name(topic),
            topic_id: id,
        }));
        records.extend(
            (0..PARTITIONS_PER_TOPIC)
                .map(|index| MetadataRecord::Partition(partition_record(id, index))),
        );
    }
    let mut image = MetadataImage::new("AAAAAAAAAAAAAAAAAAAAAA");
    image
        .apply_batch(Offset::ZERO, &records)
        .expect("the records fit an empty image");
    assert_eq!(image.partition_count(), 24_000);
    image
}

fn random_topic(chance: &Generator) -> u8 {
    u8::try_from(chance.below(u64::from(TOPICS))).expect("below a u8")
}

/// The state of a partition by topic id and index.
pub(crate) fn by_partition(meter: &mut Meter) {
    let image = image();
    let chance = Generator::new(2, 0);
    let index = || i32::try_from(chance.below(PARTITIONS_PER_TOPIC as u64)).expect("small");
    let keys: Vec<TopicPartition> = (0..KEYS)
        .map(|_| TopicPartition {
            topic: topic_id(random_topic(&chance)),
            partition: PartitionIndex(index()),
        })
        .collect();
    let mut next = keys.iter().cycle();
    meter.repeat(OPS, 0, || {
        let key = next.next().expect("a cycle has no end");
        image.partition(*key).expect("it exists").leader
    });
}

/// A topic by name.
pub(crate) fn by_topic_name(meter: &mut Meter) {
    let image = image();
    let chance = Generator::new(2, 0);
    let names: Vec<String> = (0..KEYS)
        .map(|_| topic_name(random_topic(&chance)))
        .collect();
    let mut next = names.iter().cycle();
    meter.repeat(OPS, 0, || {
        let name = next.next().expect("a cycle has no end");
        image.topic_by_name(name).expect("it exists").id()
    });
}
