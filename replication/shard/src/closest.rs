//! Which replica a consumer reads from best: one in its rack (KIP-392).
//!
//! Pure. In-sync replicas have everything below the high watermark, so each of them will do; partitions take turns among them.

use metadata::MetadataImage;
use model::{BrokerId, TopicPartition};

/// The replica in this rack, if the leader is not in it. Brokers that are not active are left out.
pub fn closest_replica(
    image: &MetadataImage,
    partition: TopicPartition,
    rack: &str,
) -> Option<BrokerId> {
    let state = image.partition(partition)?;
    let is_near = |id: &BrokerId| {
        let broker = image.broker(*id);
        let broker = broker.filter(|broker| broker.is_active());
        broker.is_some_and(|broker| broker.rack.as_deref() == Some(rack))
    };
    let leader = state.leader?;
    if is_near(&leader) {
        return None;
    }
    let near: Vec<BrokerId> = state.isr.iter().copied().filter(is_near).collect();
    let turn = usize::try_from(partition.partition.0).unwrap_or(0);
    let count = near.len();
    near.get(turn.checked_rem(count)?).copied()
}

#[cfg(test)]
mod tests {
    use metadata::record::{
        BrokerEndpoint, BrokerRegistrationChangeRecord, RegisterBrokerRecord, Uuid,
    };
    use metadata::{MetadataRecord, PartitionRecord, TopicRecord};
    use model::{BrokerEpoch, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId};

    use super::*;

    const TOPIC: TopicId = TopicId([7; 16]);

    fn register(id: i32, rack: Option<&str>) -> MetadataRecord {
        MetadataRecord::RegisterBroker(RegisterBrokerRecord {
            broker_id: BrokerId(id),
            incarnation_id: Uuid([id as u8; 16]),
            broker_epoch: BrokerEpoch(0),
            endpoints: vec![BrokerEndpoint {
                name: "PLAINTEXT".into(),
                host: "localhost".into(),
                port: 9092,
                security_protocol: 0,
            }],
            rack: rack.map(str::to_owned),
            fenced: false,
            ..RegisterBrokerRecord::default()
        })
    }

    fn partition(index: i32, isr: &[i32]) -> MetadataRecord {
        let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        MetadataRecord::Partition(PartitionRecord {
            partition_id: PartitionIndex(index),
            topic_id: TOPIC,
            replicas: ids(&[1, 2, 3, 4]),
            isr: ids(isr),
            leader: Some(BrokerId(1)),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            removing_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            leader_recovery_state: metadata::LeaderRecoveryState::Recovered,
            directories: Vec::new(),
            eligible_leader_replicas: None,
            last_known_elr: None,
        })
    }

    #[test]
    fn a_consumer_reads_in_its_rack() {
        let mut image = MetadataImage::new("cluster");
        let topic = TopicRecord {
            name: "t".into(),
            topic_id: TOPIC,
        };
        let mut records = vec![
            register(1, Some("a")),
            register(2, Some("b")),
            register(3, Some("b")),
            register(4, None),
            MetadataRecord::Topic(topic),
            partition(0, &[1, 2, 3, 4]),
            partition(1, &[1, 2, 3, 4]),
            partition(2, &[1, 3]),
            partition(3, &[1, 4]),
        ];
        image.apply_batch(image.end_offset(), &records).unwrap();
        // (partition, rack of the consumer, replica)
        let table = [
            (0, "a", None),
            (0, "b", Some(2)),
            (1, "b", Some(3)),
            (2, "b", Some(3)),
            (3, "b", None),
            (0, "c", None),
            (0, "", None),
            (9, "b", None),
        ];
        let closest = |image: &MetadataImage, index, rack: &str| {
            let id = TopicPartition {
                topic: TOPIC,
                partition: PartitionIndex(index),
            };
            closest_replica(image, id, rack).map(|id| id.0)
        };
        for (index, rack, expected) in table {
            assert_eq!(closest(&image, index, rack), expected, "{index} {rack}");
        }
        // Who is fenced is not asked.
        records = vec![MetadataRecord::BrokerRegistrationChange(
            BrokerRegistrationChangeRecord {
                broker_id: BrokerId(3),
                broker_epoch: BrokerEpoch(0),
                fenced: Some(true),
                ..BrokerRegistrationChangeRecord::default()
            },
        )];
        image.apply_batch(image.end_offset(), &records).unwrap();
        assert_eq!(closest(&image, 1, "b"), Some(2));
        assert_eq!(closest(&image, 2, "b"), None);
    }
}
