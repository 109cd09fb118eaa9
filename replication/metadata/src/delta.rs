//! What a batch of records changed, so that a shard can act on the difference instead of comparing images.
//!
//! Invariant: net effect only. A partition created and deleted by the same batch does not appear.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{BrokerId, TopicId, TopicPartition};

use crate::record::ConfigResourceType;

/// What happened to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionDelta {
    /// It is new.
    Created,
    /// Some of its state is new. `leader_epoch_changed` says whether leaders and followers must start anew.
    Changed {
        /// Whether the leader epoch rose.
        leader_epoch_changed: bool,
    },
    /// It is gone, with its topic.
    Deleted,
}

/// The net difference between two images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataDelta {
    /// Changed partitions.
    pub partitions: BTreeMap<TopicPartition, PartitionDelta>,
    /// New topics, by identity, with their names.
    pub topics_created: BTreeMap<TopicId, Arc<str>>,
    /// Deleted topics, by identity, with the names they had.
    pub topics_deleted: BTreeMap<TopicId, Arc<str>>,
    /// Resources with a changed configuration value.
    pub configs: BTreeSet<(ConfigResourceType, Arc<str>)>,
    /// Brokers that registered, unregistered or changed.
    pub brokers: BTreeSet<BrokerId>,
    /// Whether a feature level changed.
    pub features_changed: bool,
    /// Unclean elections: each may have cost acknowledged records, and is to be counted and told.
    pub unclean_elections: u64,
}

impl MetadataDelta {
    /// Whether nothing changed that a shard could act on.
    pub fn is_empty(&self) -> bool {
        *self == MetadataDelta::default()
    }

    pub(crate) fn topic_created(&mut self, id: TopicId, name: Arc<str>) {
        self.topics_created.insert(id, name);
    }

    pub(crate) fn topic_deleted(&mut self, id: TopicId, name: Arc<str>) {
        if self.topics_created.remove(&id).is_none() {
            self.topics_deleted.insert(id, name);
        }
    }

    pub(crate) fn partition_created(&mut self, partition: TopicPartition) {
        self.partitions.insert(partition, PartitionDelta::Created);
    }

    pub(crate) fn partition_changed(
        &mut self,
        partition: TopicPartition,
        leader_epoch_changed: bool,
    ) {
        match self.partitions.get_mut(&partition) {
            Some(PartitionDelta::Created | PartitionDelta::Deleted) => {}
            Some(PartitionDelta::Changed {
                leader_epoch_changed: before,
            }) => *before |= leader_epoch_changed,
            None => {
                self.partitions.insert(
                    partition,
                    PartitionDelta::Changed {
                        leader_epoch_changed,
                    },
                );
            }
        }
    }

    pub(crate) fn partition_deleted(&mut self, partition: TopicPartition) {
        if self.partitions.get(&partition) == Some(&PartitionDelta::Created) {
            self.partitions.remove(&partition);
        } else {
            self.partitions.insert(partition, PartitionDelta::Deleted);
        }
    }
}
