//! The partitions that this shard leads. They come and go with the metadata log.
//!
//! Owned by the shard; whoever needs a partition asks here. What follows for others from a change is returned
//! ([`PartitionChange`]), not done: the shard tells them.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use metadata::{ConfigResourceType, MetadataDelta, PartitionDelta, PartitionState, Topic};
use model::config::TopicConfig;
use model::{BrokerId, LeaderEpoch, PartitionIndex, ShardId, TopicId, TopicPartition};
use replica::{Assignment, LeaderReplica, LeaderSettings};
use runtime::{Io, Snapshot};
use storage::{LogConfig, Storage};

use crate::metadata_cache::{MetadataCache, has_broker_configs};
use crate::metrics::TopicTable;
use crate::partition::{AcknowledgeTarget, Partition};
use crate::partition_rules::PartitionRules;
use crate::partition_table::{PartitionTable, owner};
use crate::refusal::{LeadRefusal, WaitFailure};

/// The partition that holds the metadata log.
pub(crate) const METADATA_PARTITION: TopicPartition = TopicPartition {
    topic: TopicId::METADATA,
    partition: PartitionIndex(0),
};

/// Whose partitions they are.
pub(crate) struct Place {
    pub(crate) broker: BrokerId,
    pub(crate) shard: ShardId,
    pub(crate) shard_count: u16,
}

/// What others are to hear of.
#[must_use]
pub(crate) enum PartitionChange {
    /// This shard leads it from now on.
    Opened(TopicPartition, Arc<str>),
    /// It no longer does: these will never be acknowledged.
    Closed {
        id: TopicPartition,
        waiting: Vec<AcknowledgeTarget>,
        why: WaitFailure,
    },
    /// These need not wait any more.
    Settled(Vec<AcknowledgeTarget>),
}

/// The partitions of one shard.
pub(crate) struct Partitions<I: Io> {
    io: I,
    storage: Storage<I>,
    cache: Rc<MetadataCache>,
    place: Place,
    table: RefCell<PartitionTable>,
    topics: TopicTable,
}

impl<I: Io> Partitions<I> {
    /// Without any partition yet.
    pub(crate) fn new(
        io: I,
        storage: Storage<I>,
        cache: Rc<MetadataCache>,
        place: Place,
    ) -> Partitions<I> {
        Partitions {
            io,
            storage,
            cache,
            place,
            table: RefCell::default(),
            topics: TopicTable::default(),
        }
    }

    pub(crate) fn get(&self, id: TopicPartition) -> Option<Rc<Partition>> {
        self.table.borrow().get(id)
    }

    /// The partition, if this shard leads it and the client's idea of the epoch is right.
    pub(crate) fn lead(
        &self,
        id: TopicPartition,
        believed: LeaderEpoch,
    ) -> Result<Rc<Partition>, LeadRefusal> {
        let hint = || self.cache.leader_hint(id);
        let Some(partition) = self.get(id) else {
            return Err(hint().map_or(LeadRefusal::Unknown, LeadRefusal::NotLeader));
        };
        let epoch = partition.leader_epoch();
        if believed < LeaderEpoch(0) || believed == epoch {
            return Ok(partition);
        }
        Err(match hint() {
            None => LeadRefusal::Unknown,
            Some(hint) if believed < epoch => LeadRefusal::EpochOver(hint),
            Some(hint) => LeadRefusal::EpochAhead(hint),
        })
    }

    pub(crate) fn table(&self) -> Ref<'_, PartitionTable> {
        self.table.borrow()
    }

    pub(crate) fn snapshot_topics(&self, into: &mut Snapshot) {
        self.topics.snapshot_into(into);
    }

    /// Nothing more will be acknowledged on this shard: returns everybody who waits.
    pub(crate) fn fail_all(&self) -> Vec<AcknowledgeTarget> {
        let table = self.table.borrow();
        table
            .iter()
            .flat_map(|partition| partition.fail_waiters())
            .collect()
    }

    /// Opens every partition of the image that belongs to this shard; at start.
    pub(crate) fn open_all(&self) -> Vec<PartitionChange> {
        let mine: Vec<TopicPartition> = {
            let image = self.cache.image();
            let all = image.partitions().map(|(id, _)| id);
            all.filter(|id| self.is_mine(*id)).collect()
        };
        mine.into_iter().filter_map(|id| self.open(id)).collect()
    }

    /// Deletes this shard's logs among `deleted`: their topics were deleted, durably, before the broker stopped. Every
    /// other log has a topic: shard 0 has set aside those that have none, or did not start.
    pub(crate) fn delete_logs(&self, deleted: &BTreeSet<TopicPartition>) {
        let image = self.cache.image();
        for id in self.storage.logs() {
            if deleted.contains(&id) {
                tracing::info!(partition = %id, "deleting the log of a deleted topic");
                self.storage.delete_log(id);
            } else {
                let is_known = id == METADATA_PARTITION || image.partition(id).is_some();
                assert!(is_known, "the log {id} was neither set aside nor deleted");
            }
        }
    }

    /// Follows a change of the metadata, which the cache holds already.
    pub(crate) fn follow(&self, delta: &MetadataDelta) -> Vec<PartitionChange> {
        let mut changes = Vec::new();
        for (id, change) in &delta.partitions {
            if self.is_mine(*id) {
                changes.extend(match change {
                    PartitionDelta::Created => self.open(*id),
                    PartitionDelta::Deleted => Some(self.close(*id, WaitFailure::Deleted)),
                    PartitionDelta::Changed { .. } => self.change(*id),
                });
            }
        }
        if has_broker_configs(delta) {
            changes.push(PartitionChange::Settled(self.broker_configured()));
        }
        for (kind, name) in &delta.configs {
            if *kind == ConfigResourceType::Topic {
                let settled = self.topic_configured(name);
                changes.push(PartitionChange::Settled(settled));
            }
        }
        changes
    }

    /// What of a topic's configuration matters per request.
    pub(crate) fn topic_rules(&self, topic: &Arc<Topic>) -> PartitionRules {
        let config = self.cache.topic_config(topic);
        PartitionRules::of_topic(&config, crate::is_internal(topic.name()))
    }

    fn is_mine(&self, id: TopicPartition) -> bool {
        owner(id, self.place.shard_count) == self.place.shard
    }

    /// Opens a partition if this broker leads it.
    fn open(&self, id: TopicPartition) -> Option<PartitionChange> {
        let (topic, state) = {
            let image = self.cache.image();
            let topic = image.topic_by_id(id.topic).cloned()?;
            let state = topic.partition(id.partition).cloned()?;
            (topic, state)
        };
        if state.leader != Some(self.place.broker) {
            return None;
        }
        let config = self.cache.topic_config(&topic);
        let log = self.storage.create_log(id, self.log_config(&config));
        let durable_end = log.durable_end_offset();
        // A quorum of one replica: everything it holds durably was acknowledged or may be.
        let replica = LeaderReplica::new(
            self.io.now(),
            self.place.broker,
            self.leader_settings(&config),
            assignment(&state),
            durable_end,
            durable_end,
        );
        let rules = PartitionRules::of_topic(&config, crate::is_internal(topic.name()));
        let counters = self.topics.of(topic.name());
        let partition = Partition::new(id, log, rules, replica, counters);
        self.table.borrow_mut().insert(partition);
        Some(PartitionChange::Opened(id, topic.name().clone()))
    }

    /// Leads a partition no longer. Its log goes with its topic.
    fn close(&self, id: TopicPartition, why: WaitFailure) -> PartitionChange {
        let partition = self.table.borrow_mut().remove(id);
        let waiting = partition.map_or_else(Vec::new, |partition| partition.delete());
        if why == WaitFailure::Deleted {
            self.storage.delete_log(id);
        }
        PartitionChange::Closed { id, waiting, why }
    }

    /// A partition's leader or ISR changed.
    fn change(&self, id: TopicPartition) -> Option<PartitionChange> {
        let state = self.cache.image().partition(id).cloned()?;
        match self.get(id) {
            None => self.open(id),
            Some(partition) if state.leader == Some(self.place.broker) => {
                let settled = partition.assigned(self.io.now(), assignment(&state));
                Some(PartitionChange::Settled(settled))
            }
            Some(_) => Some(self.close(id, WaitFailure::NotLeader)),
        }
    }

    /// Returns who need not wait any more.
    fn topic_configured(&self, name: &str) -> Vec<AcknowledgeTarget> {
        let Some(topic) = self.cache.image().topic_by_name(name).cloned() else {
            return Vec::new();
        };
        let id = |partition| TopicPartition {
            topic: topic.id(),
            partition,
        };
        let ids = topic.partitions().map(|(partition, _)| id(partition));
        let mine = ids.filter_map(|id| self.get(id)).collect();
        self.configure(&topic, mine)
    }

    /// The defaults of all topics may have changed. Work in proportion to the partitions of this shard. Returns who need not
    /// wait any more.
    fn broker_configured(&self) -> Vec<AcknowledgeTarget> {
        let mut settled = Vec::new();
        let mut by_topic: BTreeMap<TopicId, Vec<Rc<Partition>>> = BTreeMap::new();
        for partition in self.table.borrow().iter() {
            let of_topic = by_topic.entry(partition.id.topic).or_default();
            of_topic.push(partition.clone());
        }
        for (id, partitions) in by_topic {
            let topic = self.cache.image().topic_by_id(id).cloned();
            if let Some(topic) = topic {
                settled.extend(self.configure(&topic, partitions));
            }
        }
        settled
    }

    /// Tells partitions of a topic what is configured now. Returns who need not wait any more.
    fn configure(
        &self,
        topic: &Arc<Topic>,
        partitions: Vec<Rc<Partition>>,
    ) -> Vec<AcknowledgeTarget> {
        let mut settled = Vec::new();
        if partitions.is_empty() {
            return settled;
        }
        let config = self.cache.topic_config(topic);
        let rules = PartitionRules::of_topic(&config, crate::is_internal(topic.name()));
        for partition in partitions {
            let before = partition.rules().durability;
            let mut table = self.table.borrow_mut();
            table.durability_changes(before, rules.durability);
            drop(table);
            let settings = self.leader_settings(&config);
            settled.extend(partition.configure(self.io.now(), rules.clone(), settings));
            self.storage
                .set_config(&partition.log, self.log_config(&config));
        }
        settled
    }

    /// `replica.lag.time.max.ms`.
    fn replica_lag_max(&self) -> Duration {
        let ms = self.cache.config().replica_lag_time_max_ms;
        // A negative one is as good as none: whoever lags is out.
        Duration::from_millis(ms.max(0).unsigned_abs())
    }

    fn leader_settings(&self, config: &TopicConfig) -> LeaderSettings {
        LeaderSettings {
            // The registry's range begins at 1.
            min_insync_replicas: config.min_insync_replicas.unsigned_abs(),
            replica_lag_max: self.replica_lag_max(),
        }
    }

    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        LogConfig {
            // The registry's range begins at 1 MiB.
            segment_bytes: config.segment_bytes.unsigned_abs().into(),
            segment_ms: config.segment_ms,
            retention_bytes: config.retention_bytes,
            retention_ms: config.retention_ms,
            delete_enabled: config.cleanup_policy.delete,
            producer_id_expiration_ms: i64::from(self.cache.config().producer_id_expiration_ms),
        }
    }
}

fn assignment(state: &PartitionState) -> Assignment<'_> {
    Assignment {
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        replicas: &state.replicas,
        isr: &state.isr,
    }
}
