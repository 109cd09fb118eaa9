//! What of a topic's configuration matters per request.

use model::config::{CompressionType, TopicConfig};
use model::record::{Compression, TimestampType, ValidationRules};
use storage::Durability;

/// What of the topic's configuration matters per request.
#[derive(Clone)]
pub struct PartitionRules {
    /// For incoming record batches.
    pub validation: ValidationRules,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Whether the broker stamps records with its own time.
    pub log_append_time: bool,
    /// Whether old records may be deleted (`cleanup.policy` contains `delete`).
    pub deletes: bool,
    /// Whether it is an internal topic that clients may not write to.
    pub internal: bool,
    /// The codec the broker stores, if not the producer's own.
    pub recompress: Option<(Compression, Option<i32>)>,
}

impl PartitionRules {
    /// Of a topic with this configuration.
    pub fn of_topic(config: &TopicConfig, internal: bool) -> PartitionRules {
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
