//! Applying records to the image, one way for live changes and for replay.
//!
//! Invariant: a record that does not fit is a typed error, never a panic. The caller must then stop, because a log
//! that contradicts itself cannot be trusted; the image may have taken part of the batch.

use std::sync::Arc;

use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, TopicId};
use model::{ProducerId, TopicPartition};
use smallvec::SmallVec;

use super::MetadataImage;
use super::state::{BrokerRegistration, PartitionState, Reassignment, Replicas, Topic};
use crate::delta::MetadataDelta;
use crate::record::{
    BrokerRegistrationChangeRecord, ConfigRecord, ConfigResourceType, FeatureLevelRecord,
    LeaderChange, LeaderRecoveryState, MetadataRecord, PartitionChangeRecord, PartitionRecord,
    RegisterBrokerRecord, RemoveTopicRecord, TopicRecord, UnregisterBrokerRecord,
};
use crate::topic_name;

/// Why a record does not fit the image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The batch does not start where the image ends.
    #[error("the batch starts at offset {found}, the image ends at {expected}")]
    Gap {
        /// `end_offset` of the image.
        expected: Offset,
        /// Where the batch starts.
        found: Offset,
    },
    /// More records than offsets.
    #[error("the metadata offset overflows")]
    OffsetOverflow,
    /// A topic record for a name or id that exists.
    #[error("topic {name:?} with id {id} exists already")]
    TopicExists {
        /// Its name.
        name: String,
        /// Its id.
        id: TopicId,
    },
    /// A record for a topic that does not exist.
    #[error("no topic has the id {0}")]
    UnknownTopic(TopicId),
    /// A partition record that leaves a hole.
    #[error("partition {found} of topic {topic} is not one of the {count} or the next one")]
    PartitionHole {
        /// The topic.
        topic: TopicId,
        /// Partitions that exist.
        count: usize,
        /// The record's.
        found: PartitionIndex,
    },
    /// A change of a partition that does not exist.
    #[error("there is no partition {0}")]
    UnknownPartition(TopicPartition),
    /// A partition with an epoch that went back or ran out.
    #[error("an epoch of partition {0} went back or overflows")]
    PartitionEpoch(TopicPartition),
    /// Directories that do not match the replicas.
    #[error("partition {0} has another number of directories than of replicas")]
    Directories(TopicPartition),
    /// A change of a broker that is not registered, or of another registration of it.
    #[error("broker {id} is not registered with epoch {epoch}")]
    UnknownBroker {
        /// The broker.
        id: BrokerId,
        /// The record's epoch.
        epoch: BrokerEpoch,
    },
    /// Producer ids went back.
    #[error("the next producer id went back from {before} to {found}")]
    ProducerIdsWentBack {
        /// The image's.
        before: ProducerId,
        /// The record's.
        found: ProducerId,
    },
}

fn list(brokers: &[BrokerId]) -> Replicas {
    SmallVec::from_slice(brokers)
}

impl MetadataImage {
    /// Applies the records of one committed batch, the first of which has the offset `base_offset`, and says what
    /// changed. After an error the image must be discarded.
    pub fn apply_batch(
        &mut self,
        base_offset: Offset,
        records: &[MetadataRecord],
    ) -> Result<MetadataDelta, ApplyError> {
        if base_offset != self.end_offset {
            return Err(ApplyError::Gap {
                expected: self.end_offset,
                found: base_offset,
            });
        }
        let count = i64::try_from(records.len()).map_err(|_| ApplyError::OffsetOverflow)?;
        let end = base_offset.0.checked_add(count);
        let end = end.ok_or(ApplyError::OffsetOverflow)?;
        let mut delta = MetadataDelta::default();
        for record in records {
            self.apply(record, &mut delta)?;
        }
        self.end_offset = Offset(end);
        Ok(delta)
    }

    /// Passes over offsets that hold no records for an image: the control batches of the log's own making.
    pub fn pass(&mut self, end: Offset) {
        assert!(end > self.end_offset, "the metadata log went back to {end}");
        self.end_offset = end;
    }

    /// Applies one record and adds what changed to `delta`. Does not move `end_offset`.
    pub fn apply(
        &mut self,
        record: &MetadataRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        match record {
            MetadataRecord::RegisterBroker(record) => self.register_broker(record, delta),
            MetadataRecord::UnregisterBroker(record) => self.unregister_broker(record, delta)?,
            MetadataRecord::Topic(record) => self.add_topic(record, delta)?,
            MetadataRecord::Partition(record) => self.set_partition(record, delta)?,
            MetadataRecord::Config(record) => self.set_config(record, delta),
            MetadataRecord::PartitionChange(record) => self.change_partition(record, delta)?,
            MetadataRecord::FenceBroker(record) => {
                self.broker_mut(record.id, record.epoch, delta)?.fenced = true;
            }
            MetadataRecord::UnfenceBroker(record) => {
                self.broker_mut(record.id, record.epoch, delta)?.fenced = false;
            }
            MetadataRecord::RemoveTopic(record) => self.remove_topic(*record, delta)?,
            MetadataRecord::FeatureLevel(record) => self.set_feature(record, delta),
            MetadataRecord::ProducerIds(record) => {
                if record.next_producer_id < self.next_producer_id {
                    return Err(ApplyError::ProducerIdsWentBack {
                        before: self.next_producer_id,
                        found: record.next_producer_id,
                    });
                }
                self.next_producer_id = record.next_producer_id;
            }
            MetadataRecord::BrokerRegistrationChange(record) => {
                self.change_broker(record, delta)?
            }
            MetadataRecord::NoOp => {}
        }
        Ok(())
    }

    fn register_broker(&mut self, record: &RegisterBrokerRecord, delta: &mut MetadataDelta) {
        let broker = BrokerRegistration {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation: record.incarnation_id,
            endpoints: record.endpoints.clone(),
            features: record.features.clone(),
            rack: record.rack.clone(),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs.clone(),
            cordoned_log_dirs: record.cordoned_log_dirs.clone().unwrap_or_default(),
            shard_count: record.shard_count,
        };
        self.brokers.insert(broker.id, Arc::new(broker));
        delta.brokers.insert(record.broker_id);
    }

    fn unregister_broker(
        &mut self,
        record: &UnregisterBrokerRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        self.broker_mut(record.broker_id, record.broker_epoch, delta)?;
        self.brokers.remove(&record.broker_id);
        Ok(())
    }

    fn broker_mut(
        &mut self,
        id: BrokerId,
        epoch: BrokerEpoch,
        delta: &mut MetadataDelta,
    ) -> Result<&mut BrokerRegistration, ApplyError> {
        let broker = self.brokers.get_mut(&id);
        let broker = broker.filter(|broker| broker.epoch == epoch);
        let broker = broker.ok_or(ApplyError::UnknownBroker { id, epoch })?;
        delta.brokers.insert(id);
        Ok(Arc::make_mut(broker))
    }

    fn change_broker(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        let broker = self.broker_mut(record.broker_id, record.broker_epoch, delta)?;
        if let Some(fenced) = record.fenced {
            broker.fenced = fenced;
        }
        broker.in_controlled_shutdown |= record.in_controlled_shutdown;
        if let Some(log_dirs) = &record.log_dirs {
            broker.log_dirs.clone_from(log_dirs);
        }
        if let Some(cordoned) = &record.cordoned_log_dirs {
            broker.cordoned_log_dirs.clone_from(cordoned);
        }
        Ok(())
    }

    fn add_topic(
        &mut self,
        record: &TopicRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        let name: Arc<str> = Arc::from(record.name.as_str());
        let id = record.topic_id;
        if self.topics.contains_key(&id) || self.topic_ids.contains_key(&name) {
            let name = record.name.clone();
            return Err(ApplyError::TopicExists { name, id });
        }
        if let Some(key) = topic_name::collision_key(&name) {
            self.collision_keys.insert((Arc::from(key), name.clone()));
        }
        let topic = Topic {
            id,
            name: name.clone(),
            partitions: Vec::new(),
        };
        self.topics.insert(id, Arc::new(topic));
        self.topic_ids.insert(name.clone(), id);
        delta.topic_created(id, name);
        Ok(())
    }

    fn remove_topic(
        &mut self,
        record: RemoveTopicRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        let id = record.topic_id;
        let topic = self.topics.remove(&id);
        let topic = topic.ok_or(ApplyError::UnknownTopic(id))?;
        self.topic_ids.remove(&topic.name);
        if let Some(key) = topic_name::collision_key(&topic.name) {
            self.collision_keys
                .remove(&(Arc::from(key), topic.name.clone()));
        }
        self.forget_configs(ConfigResourceType::Topic, &topic.name);
        let left = self.partition_count.checked_sub(topic.partitions.len());
        self.partition_count = left.expect("a partition is counted when it is made");
        for (partition, _) in topic.partitions() {
            delta.partition_deleted(TopicPartition {
                topic: id,
                partition,
            });
        }
        delta.topic_deleted(id, topic.name.clone());
        Ok(())
    }

    fn set_partition(
        &mut self,
        record: &PartitionRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        let id = TopicPartition {
            topic: record.topic_id,
            partition: record.partition_id,
        };
        let topic = self.topics.get_mut(&id.topic);
        let topic = Arc::make_mut(topic.ok_or(ApplyError::UnknownTopic(id.topic))?);
        let state = partition_of_record(record).ok_or(ApplyError::Directories(id))?;
        let count = topic.partitions.len();
        let hole = ApplyError::PartitionHole {
            topic: id.topic,
            count,
            found: id.partition,
        };
        let index = usize::try_from(id.partition.0).map_err(|_| hole.clone())?;
        if index == count {
            topic.partitions.push(state);
            self.partition_count += 1;
            delta.partition_created(id);
            return Ok(());
        }
        let before = topic.partitions.get_mut(index).ok_or(hole)?;
        if state.leader_epoch < before.leader_epoch
            || state.partition_epoch < before.partition_epoch
        {
            return Err(ApplyError::PartitionEpoch(id));
        }
        let leader_epoch_changed = state.leader_epoch != before.leader_epoch;
        *before = state;
        delta.partition_changed(id, leader_epoch_changed);
        Ok(())
    }

    fn change_partition(
        &mut self,
        record: &PartitionChangeRecord,
        delta: &mut MetadataDelta,
    ) -> Result<(), ApplyError> {
        let id = TopicPartition {
            topic: record.topic_id,
            partition: record.partition_id,
        };
        let topic = self.topics.get_mut(&id.topic);
        let topic = Arc::make_mut(topic.ok_or(ApplyError::UnknownTopic(id.topic))?);
        let index = usize::try_from(id.partition.0).ok();
        let state = index.and_then(|index| topic.partitions.get_mut(index));
        let state = state.ok_or(ApplyError::UnknownPartition(id))?;
        let leader_epoch = state.leader_epoch;
        merge(state, record).ok_or(ApplyError::PartitionEpoch(id))?;
        if !state.directories.is_empty() && state.directories.len() != state.replicas.len() {
            return Err(ApplyError::Directories(id));
        }
        delta.partition_changed(id, state.leader_epoch != leader_epoch);
        delta.unclean_elections += u64::from(is_unclean_election(record));
        Ok(())
    }

    fn set_config(&mut self, record: &ConfigRecord, delta: &mut MetadataDelta) {
        let kind = record.resource_type;
        let name: Arc<str> = Arc::from(record.resource_name.as_str());
        if let Some(value) = &record.value {
            let of_kind = self.configs.entry(kind).or_default();
            let map = of_kind.entry(name.clone()).or_default();
            Arc::make_mut(map).insert(record.name.clone(), value.clone());
        } else if let Some(map) = self.configs.get_mut(&kind).and_then(|of| of.get_mut(&name)) {
            Arc::make_mut(map).remove(&record.name);
            if map.is_empty() {
                self.forget_configs(kind, &name);
            }
        }
        delta.configs.insert((kind, name));
    }

    /// Nothing is left behind where nothing is set: a snapshot would not have it.
    fn forget_configs(&mut self, kind: ConfigResourceType, name: &str) {
        if let Some(of_kind) = self.configs.get_mut(&kind) {
            of_kind.remove(name);
            if of_kind.is_empty() {
                self.configs.remove(&kind);
            }
        }
    }

    fn set_feature(&mut self, record: &FeatureLevelRecord, delta: &mut MetadataDelta) {
        if record.feature_level == 0 {
            self.features.remove(&record.name);
        } else {
            self.features
                .insert(record.name.clone(), record.feature_level);
        }
        delta.features_changed = true;
    }
}

fn partition_of_record(record: &PartitionRecord) -> Option<PartitionState> {
    let directories = SmallVec::from_slice(&record.directories);
    if !directories.is_empty() && directories.len() != record.replicas.len() {
        return None;
    }
    let extra = Reassignment {
        adding: list(&record.adding_replicas),
        removing: list(&record.removing_replicas),
        eligible_leader_replicas: list(record.eligible_leader_replicas.as_deref().unwrap_or(&[])),
        last_known_elr: list(record.last_known_elr.as_deref().unwrap_or(&[])),
    };
    Some(PartitionState {
        replicas: list(&record.replicas),
        isr: list(&record.isr),
        leader: record.leader,
        leader_epoch: record.leader_epoch,
        partition_epoch: record.partition_epoch,
        leader_recovery_state: record.leader_recovery_state,
        directories,
        reassignment: (extra != Reassignment::default()).then(|| Box::new(extra)),
    })
}

/// Only an election makes a leader recover.
fn is_unclean_election(record: &PartitionChangeRecord) -> bool {
    record.leader_recovery_state == Some(LeaderRecoveryState::Recovering)
        && matches!(record.leader, LeaderChange::Leader(_))
}

/// Merges a change; `None` when an epoch overflows.
pub(crate) fn merge(state: &mut PartitionState, record: &PartitionChangeRecord) -> Option<()> {
    let mut extra = state
        .reassignment
        .take()
        .map_or_else(Reassignment::default, |extra| *extra);
    let set = |target: &mut Replicas, value: &Option<Vec<BrokerId>>| {
        if let Some(value) = value {
            *target = list(value);
        }
    };
    set(&mut state.isr, &record.isr);
    set(&mut state.replicas, &record.replicas);
    set(&mut extra.removing, &record.removing_replicas);
    set(&mut extra.adding, &record.adding_replicas);
    set(
        &mut extra.eligible_leader_replicas,
        &record.eligible_leader_replicas,
    );
    set(&mut extra.last_known_elr, &record.last_known_elr);
    if let Some(recovery) = record.leader_recovery_state {
        state.leader_recovery_state = recovery;
    }
    if let Some(directories) = &record.directories {
        state.directories = SmallVec::from_slice(directories);
    }
    state.reassignment = (extra != Reassignment::default()).then(|| Box::new(extra));
    let raise_leader_epoch = match record.leader {
        LeaderChange::Unchanged => false,
        LeaderChange::NoLeader => {
            state.leader = None;
            true
        }
        LeaderChange::Leader(leader) => {
            state.leader = Some(leader);
            true
        }
    };
    if raise_leader_epoch {
        state.leader_epoch = LeaderEpoch(state.leader_epoch.0.checked_add(1)?);
    }
    state.partition_epoch = PartitionEpoch(state.partition_epoch.0.checked_add(1)?);
    Some(())
}
