//! Partitions come and go with the metadata image: this file makes the shard's table follow it.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use metadata::{PartitionState, Topic};
use model::config::{CompressionType, TopicConfig};
use model::record::{TimestampType, ValidationRules};
use model::{ErrorCode, TopicPartition};
use replica::{Assignment, LeaderReplica, LeaderSettings};
use runtime::Io;
use storage::{Durability, LogConfig};

use crate::partition::{Partition, PartitionRules};
use crate::purgatory::Ending;
use crate::quorum_driver::METADATA_PARTITION;
use crate::shard::Shard;

impl<I: Io> Shard<I> {
    /// Opens every partition of the image that belongs to this shard; at start.
    pub(crate) fn open_partitions(self: &Rc<Self>) {
        let mine: Vec<TopicPartition> = {
            let image = self.image.borrow();
            let all = image.partitions().map(|(id, _)| id);
            all.filter(|id| self.owner(*id) == self.id()).collect()
        };
        for id in mine {
            self.open_partition(id);
        }
    }

    /// Deletes this shard's logs among `deleted`: their topics were deleted, durably, before the broker stopped. Every
    /// other log has a topic: shard 0 has set aside those that have none, or did not start.
    pub(crate) fn delete_logs(&self, deleted: &BTreeSet<TopicPartition>) {
        let image = self.image.borrow();
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

    /// Opens one partition that this broker leads.
    pub(crate) fn open_partition(self: &Rc<Self>, id: TopicPartition) {
        let (topic, state) = {
            let image = self.image.borrow();
            let Some(topic) = image.topic_by_id(id.topic).cloned() else {
                return;
            };
            let Some(state) = topic.partition(id.partition).cloned() else {
                return;
            };
            (topic, state)
        };
        if state.leader != Some(self.options.broker) {
            return;
        }
        let config = self.topic_config(&topic);
        let log = self.storage.create_log(id, self.log_config(&config));
        let durable_end = log.durable_end_offset();
        // A quorum of one replica: everything it holds durably was acknowledged or may be.
        let replica = LeaderReplica::new(
            self.io.now(),
            self.options.broker,
            leader_settings(&config, self.replica_lag_max()),
            assignment(&state),
            durable_end,
            durable_end,
        );
        let rules = PartitionRules::of_topic(&config, crate::is_internal(topic.name()));
        let counters = self.counters.topics.of(topic.name());
        let partition = Partition::new(id, log, rules, replica, counters);
        self.partitions.borrow_mut().insert(partition);
        self.coordinator_partition_opened(id, topic.name());
    }

    /// A partition's topic was deleted.
    pub(crate) fn close_partition(self: &Rc<Self>, id: TopicPartition) {
        self.checks.forget_rules();
        self.coordinator_partition_closed(id);
        let partition = self.partitions.borrow_mut().remove(id);
        if let Some(partition) = partition {
            let waiting = partition.delete();
            let ending = Ending::failed(ErrorCode::UnknownTopicOrPartition, self.io.now());
            self.tell(waiting, ending);
        }
        self.storage.delete_log(id);
    }

    /// A partition's leader or ISR changed.
    pub(crate) fn change_partition(self: &Rc<Self>, id: TopicPartition) {
        let state = self.image.borrow().partition(id).cloned();
        let Some(state) = state else {
            return;
        };
        match self.partition(id) {
            None => self.open_partition(id),
            Some(partition) if state.leader == Some(self.options.broker) => {
                partition.assigned(self.io.now(), assignment(&state));
            }
            Some(partition) => {
                self.coordinator_partition_closed(id);
                self.partitions.borrow_mut().remove(id);
                let waiting = partition.delete();
                let ending = Ending::failed(ErrorCode::NotLeaderOrFollower, self.io.now());
                self.tell(waiting, ending);
            }
        }
    }

    /// A topic's configuration changed.
    pub(crate) fn topic_configured(&self, name: &str) {
        self.checks.forget_rules();
        let Some(topic) = self.image.borrow().topic_by_name(name).cloned() else {
            return;
        };
        let config = self.topic_config(&topic);
        let lag_max = self.replica_lag_max();
        for (index, _) in topic.partitions() {
            let id = TopicPartition {
                topic: topic.id(),
                partition: index,
            };
            if let Some(partition) = self.partition(id) {
                let rules = PartitionRules::of_topic(&config, crate::is_internal(topic.name()));
                let before = partition.rules().durability;
                let mut partitions = self.partitions.borrow_mut();
                partitions.durability_changes(before, rules.durability);
                drop(partitions);
                partition.configure(self.io.now(), rules, leader_settings(&config, lag_max));
                self.storage
                    .set_config(&partition.log, self.log_config(&config));
            }
        }
    }

    /// What of a topic's configuration matters per request.
    pub(crate) fn topic_rules(&self, topic: &Arc<Topic>) -> PartitionRules {
        PartitionRules::of_topic(&self.topic_config(topic), crate::is_internal(topic.name()))
    }

    /// The effective configuration of a topic.
    pub fn topic_config(&self, topic: &Arc<Topic>) -> TopicConfig {
        let image = self.image.borrow();
        let empty = metadata::ConfigMap::new();
        let overrides = image.topic_configs(topic.name());
        let overrides = overrides.map_or(&empty, |map| map.as_ref());
        // What the controller accepted an older or newer release may not know: then the defaults hold, loudly.
        TopicConfig::from_overrides(overrides, &self.options.config).unwrap_or_else(|error| {
            tracing::error!(topic = %topic.name(), %error, "stored configuration is invalid: using defaults");
            TopicConfig::from_overrides(&empty, &self.options.config)
                .expect("the broker's own defaults were checked at start")
        })
    }
}

impl<I: Io> Shard<I> {
    /// `replica.lag.time.max.ms`.
    pub(crate) fn replica_lag_max(&self) -> Duration {
        let ms = self.options.config.replica_lag_time_max_ms;
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        LogConfig {
            segment_bytes: u64::try_from(config.segment_bytes).unwrap_or(u64::MAX),
            segment_ms: config.segment_ms,
            retention_bytes: config.retention_bytes,
            retention_ms: config.retention_ms,
            delete_enabled: config.cleanup_policy.delete,
            producer_id_expiration_ms: i64::from(self.options.config.producer_id_expiration_ms),
        }
    }
}

impl PartitionRules {
    fn of_topic(config: &TopicConfig, internal: bool) -> PartitionRules {
        let recompress = match config.compression_type {
            CompressionType::Producer => None,
            CompressionType::Codec(codec) => Some((codec, config.compression_level(codec))),
        };
        PartitionRules {
            validation: config.validation_rules(),
            durability: match config.durability {
                model::config::Durability::Flushed => Durability::Flushed,
                model::config::Durability::Written => Durability::Written,
            },
            log_append_time: config.message_timestamp_type == TimestampType::LogAppendTime,
            deletes: config.cleanup_policy.delete,
            internal,
            recompress,
        }
    }

    /// Of a topic that is not known (any more).
    pub(crate) fn unknown() -> PartitionRules {
        PartitionRules {
            validation: ValidationRules::default(),
            durability: Durability::Flushed,
            log_append_time: false,
            deletes: true,
            internal: false,
            recompress: None,
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

fn leader_settings(config: &TopicConfig, replica_lag_max: Duration) -> LeaderSettings {
    LeaderSettings {
        // The registry's range begins at 1.
        min_insync_replicas: config.min_insync_replicas.unsigned_abs(),
        replica_lag_max,
    }
}
