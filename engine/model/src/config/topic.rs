//! The effective configuration of a topic: its own values over the broker's defaults.
//!
//! Invariant: a [`TopicConfig`] exists only for values that passed the registry's checks, so its users check nothing.

use std::collections::BTreeMap;

use crate::record::{CompressedValidation, Compression, TimestampType, ValidationRules};

use super::broker::BrokerConfig;
use super::error::ConfigError;
use super::key::{Key, Value};
use super::typed::{Values, typed_settings};
use super::{topic_key, topic_keys};

/// What a produce waits for before it is acknowledged (`ringlog.durability`).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub enum Durability {
    /// The journal write has completed: survives the end of the process.
    Written,
    /// The journal write is durable on the device: survives power loss.
    #[default]
    Flushed,
}

/// What happens to old records (`cleanup.policy`). Both false: they are kept for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments are deleted by age and size.
    pub delete: bool,
    /// Only the last record of each key is kept in the end.
    pub compact: bool,
}

/// What batches are stored with (`compression.type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionType {
    /// As the producer sent them.
    Producer,
    /// This codec, whatever was sent; [`Compression::None`] is `uncompressed`.
    Codec(Compression),
}

typed_settings! {
    /// Every effective setting of a topic. Sizes in bytes, times in milliseconds; -1 is "no limit" where Kafka says so.
    pub struct TopicConfig {
        durability: Durability = durability("ringlog.durability"),
        compressed_validation: CompressedValidation = compressed_validation("ringlog.compressed.validation"),
        batch_decompressed_bytes_max: i64 = long("ringlog.batch.decompressed.bytes.max"),
        cleanup_policy: CleanupPolicy = cleanup_policy("cleanup.policy"),
        compression_type: CompressionType = compression_type("compression.type"),
        compression_gzip_level: i32 = int("compression.gzip.level"),
        compression_lz4_level: i32 = int("compression.lz4.level"),
        compression_zstd_level: i32 = int("compression.zstd.level"),
        delete_retention_ms: i64 = long("delete.retention.ms"),
        file_delete_delay_ms: i64 = long("file.delete.delay.ms"),
        flush_messages: i64 = long("flush.messages"),
        flush_ms: i64 = long("flush.ms"),
        follower_replication_throttled_replicas: Vec<String> = list("follower.replication.throttled.replicas"),
        index_interval_bytes: i32 = int("index.interval.bytes"),
        leader_replication_throttled_replicas: Vec<String> = list("leader.replication.throttled.replicas"),
        local_retention_bytes: i64 = long("local.retention.bytes"),
        local_retention_ms: i64 = long("local.retention.ms"),
        max_compaction_lag_ms: i64 = long("max.compaction.lag.ms"),
        max_message_bytes: i32 = int("max.message.bytes"),
        message_timestamp_after_max_ms: i64 = long("message.timestamp.after.max.ms"),
        message_timestamp_before_max_ms: i64 = long("message.timestamp.before.max.ms"),
        message_timestamp_type: TimestampType = timestamp_type("message.timestamp.type"),
        min_cleanable_dirty_ratio: f64 = double("min.cleanable.dirty.ratio"),
        min_compaction_lag_ms: i64 = long("min.compaction.lag.ms"),
        min_insync_replicas: i32 = int("min.insync.replicas"),
        preallocate: bool = boolean("preallocate"),
        remote_log_copy_disable: bool = boolean("remote.log.copy.disable"),
        remote_log_delete_on_disable: bool = boolean("remote.log.delete.on.disable"),
        remote_storage_enable: bool = boolean("remote.storage.enable"),
        retention_bytes: i64 = long("retention.bytes"),
        retention_ms: i64 = long("retention.ms"),
        segment_bytes: i32 = int("segment.bytes"),
        segment_index_bytes: i32 = int("segment.index.bytes"),
        segment_jitter_ms: i64 = long("segment.jitter.ms"),
        segment_ms: i64 = long("segment.ms"),
        unclean_leader_election_enable: bool = boolean("unclean.leader.election.enable"),
    }
}

impl TopicConfig {
    /// The configuration of a topic that sets nothing.
    pub fn defaults(broker: &BrokerConfig) -> Result<TopicConfig, ConfigError> {
        TopicConfig::from_overrides(&BTreeMap::new(), broker)
    }

    /// The configuration of a topic with these values of its own.
    pub fn from_overrides(
        overrides: &BTreeMap<String, String>,
        broker: &BrokerConfig,
    ) -> Result<TopicConfig, ConfigError> {
        for name in overrides.keys() {
            topic_key(name)?;
        }
        let mut values = BTreeMap::new();
        for key in topic_keys() {
            let value = match overrides.get(key.name) {
                Some(text) => key.parse(text)?,
                None => default_value(key, broker)?,
            };
            values.insert(key.name, value);
        }
        let config = TopicConfig::from_values(&Values(values))?;
        config.check(broker)?;
        Ok(config)
    }

    /// The same for values as requests carry them: a null is an error when a topic is created.
    pub fn from_nullable_overrides<'a>(
        overrides: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
        broker: &BrokerConfig,
    ) -> Result<TopicConfig, ConfigError> {
        let mut map = BTreeMap::new();
        for (name, value) in overrides {
            let value = value.ok_or_else(|| ConfigError::Null(name.to_owned()))?;
            map.insert(name.to_owned(), value.to_owned());
        }
        TopicConfig::from_overrides(&map, broker)
    }

    /// Rules about more than one key.
    fn check(&self, broker: &BrokerConfig) -> Result<(), ConfigError> {
        let conflict = |text: &str| Err(ConfigError::Conflict(text.to_owned()));
        if self.min_compaction_lag_ms > self.max_compaction_lag_ms {
            return conflict("min.compaction.lag.ms must not be above max.compaction.lag.ms");
        }
        if self.remote_storage_enable {
            if !broker.remote_log_storage_system_enable {
                return conflict(
                    "remote.storage.enable needs a broker with remote.log.storage.system.enable",
                );
            }
            if self.cleanup_policy.compact {
                return conflict("tiered storage does not go with cleanup.policy=compact");
            }
        }
        Ok(())
    }

    /// The level for a codec that the broker compresses with.
    pub fn compression_level(&self, codec: Compression) -> Option<i32> {
        match codec {
            Compression::None | Compression::Snappy => None,
            Compression::Gzip => Some(self.compression_gzip_level),
            Compression::Lz4 => Some(self.compression_lz4_level),
            Compression::Zstd => Some(self.compression_zstd_level),
        }
    }

    /// What a produced batch must satisfy. Internal topics decide on keys themselves.
    pub fn validation_rules(&self) -> ValidationRules {
        let bytes = |value: i32| usize::try_from(value).unwrap_or(0);
        ValidationRules {
            batch_bytes_max: bytes(self.max_message_bytes),
            segment_bytes_max: bytes(self.segment_bytes),
            key_required: self.cleanup_policy.compact,
            timestamp_type: self.message_timestamp_type,
            timestamp_before_ms_max: self.message_timestamp_before_max_ms,
            timestamp_after_ms_max: self.message_timestamp_after_max_ms,
            compressed_validation: self.compressed_validation,
            // The registry's range begins at 1 MiB.
            decompressed_bytes_max: self.batch_decompressed_bytes_max.unsigned_abs(),
            zstd_allowed: true,
        }
    }
}

/// What a topic key is when the topic does not set it.
pub(super) fn default_value(key: &Key, broker: &BrokerConfig) -> Result<Value, ConfigError> {
    for synonym in key.synonyms {
        if let Some(value) = broker.value(synonym) {
            return Ok(in_milliseconds(synonym, value.clone()));
        }
    }
    match key.default {
        Some(default) => key.parse(default),
        None => Err(ConfigError::Null(key.name.to_owned())),
    }
}

/// Hours and minutes become milliseconds; negative ones, "never", stay as they are.
pub(super) fn in_milliseconds(name: &str, value: Value) -> Value {
    let factor = match name.rsplit('.').next() {
        Some("hours") => 3_600_000,
        Some("minutes") => 60_000,
        _ => return value,
    };
    match value {
        Value::Whole(number) if number > 0 => Value::Whole(number.saturating_mul(factor)),
        Value::Whole(number) if number < 0 => Value::Whole(-1),
        other => other,
    }
}
