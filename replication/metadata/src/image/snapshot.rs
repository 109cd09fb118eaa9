//! An image as records, for a snapshot that replaces the log before it.
//!
//! Invariant: applying the records to an empty image of the same cluster gives an equal image, apart from
//! `end_offset` and the controller, which are not facts of the log's content.

use std::sync::Arc;

use model::{BrokerId, Offset, TopicId, TopicPartition};

use super::state::{BrokerRegistration, PartitionState};
use super::{ApplyError, MetadataImage};
use crate::delta::MetadataDelta;
use crate::record::{
    ConfigRecord, FeatureLevelRecord, MetadataRecord, PartitionRecord, ProducerIdsRecord,
    RegisterBrokerRecord, RemoveTopicRecord, TopicRecord,
};

impl MetadataImage {
    /// The image as records, in the order in which they can be applied.
    pub fn to_records(&self) -> impl Iterator<Item = MetadataRecord> + '_ {
        let features = self.features.iter().map(|(name, level)| {
            MetadataRecord::FeatureLevel(FeatureLevelRecord {
                name: name.clone(),
                feature_level: *level,
            })
        });
        let brokers = self.brokers().map(broker_record);
        let topics = self.topics().flat_map(|topic| {
            let head = MetadataRecord::Topic(TopicRecord {
                name: topic.name().to_string(),
                topic_id: topic.id(),
            });
            let partitions = topic.partitions().map(|(partition, state)| {
                let id = TopicPartition {
                    topic: topic.id(),
                    partition,
                };
                MetadataRecord::Partition(partition_record(id, state))
            });
            std::iter::once(head).chain(partitions)
        });
        let configs = self.configs.iter().flat_map(|(kind, of_kind)| {
            of_kind.iter().flat_map(move |(resource, map)| {
                map.iter().map(move |(name, value)| {
                    MetadataRecord::Config(ConfigRecord {
                        resource_type: *kind,
                        resource_name: resource.to_string(),
                        name: name.clone(),
                        value: Some(value.clone()),
                    })
                })
            })
        });
        let producer_ids = MetadataRecord::ProducerIds(ProducerIdsRecord {
            broker_id: BrokerId(-1),
            broker_epoch: model::BrokerEpoch(-1),
            next_producer_id: self.next_producer_id,
        });
        features
            .chain(brokers)
            .chain(topics)
            .chain(configs)
            .chain(std::iter::once(producer_ids))
    }

    /// The image that the records of a snapshot describe. `end_offset` is the offset the snapshot reaches up to.
    pub fn from_records(
        cluster_id: &str,
        end_offset: Offset,
        records: impl IntoIterator<Item = MetadataRecord>,
    ) -> Result<MetadataImage, ApplyError> {
        MetadataImage::try_from_records(cluster_id, end_offset, records.into_iter().map(Ok))
    }

    /// The same of records that may turn out to be unreadable.
    pub fn try_from_records<E: From<ApplyError>>(
        cluster_id: &str,
        end_offset: Offset,
        records: impl IntoIterator<Item = Result<MetadataRecord, E>>,
    ) -> Result<MetadataImage, E> {
        let mut image = MetadataImage::new(cluster_id);
        for record in records {
            // What changed is of no interest, and would grow.
            image.apply(&record?, &mut MetadataDelta::default())?;
        }
        image.end_offset = end_offset;
        Ok(image)
    }
}

/// Records for the front of a snapshot that say nothing but that a topic of this id was removed. For whoever applies
/// them there is nothing left of it; who looks for removals, because its logs may still be there, finds this one.
pub fn removal_records(topic_id: TopicId) -> [MetadataRecord; 2] {
    [
        MetadataRecord::Topic(TopicRecord {
            // Gone before any other topic comes: it cannot be taken.
            name: topic_id.to_string(),
            topic_id,
        }),
        MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id }),
    ]
}

fn broker_record(broker: &Arc<BrokerRegistration>) -> MetadataRecord {
    let cordoned = &broker.cordoned_log_dirs;
    MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        broker_id: broker.id,
        incarnation_id: broker.incarnation,
        broker_epoch: broker.epoch,
        endpoints: broker.endpoints.clone(),
        features: broker.features.clone(),
        rack: broker.rack.clone(),
        fenced: broker.fenced,
        in_controlled_shutdown: broker.in_controlled_shutdown,
        log_dirs: broker.log_dirs.clone(),
        cordoned_log_dirs: (!cordoned.is_empty()).then(|| cordoned.clone()),
        shard_count: broker.shard_count,
    })
}

/// The whole state of a partition as a record.
pub(crate) fn partition_record(id: TopicPartition, state: &PartitionState) -> PartitionRecord {
    let extra = state.reassignment.as_deref().cloned().unwrap_or_default();
    let elr = extra.eligible_leader_replicas;
    let last_known_elr = extra.last_known_elr;
    PartitionRecord {
        partition_id: id.partition,
        topic_id: id.topic,
        replicas: state.replicas.to_vec(),
        isr: state.isr.to_vec(),
        removing_replicas: extra.removing.to_vec(),
        adding_replicas: extra.adding.to_vec(),
        leader: state.leader,
        leader_recovery_state: state.leader_recovery_state,
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        directories: state.directories.to_vec(),
        eligible_leader_replicas: (!elr.is_empty()).then(|| elr.to_vec()),
        last_known_elr: (!last_known_elr.is_empty()).then(|| last_known_elr.to_vec()),
    }
}
