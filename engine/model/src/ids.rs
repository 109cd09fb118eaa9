//! Names of things: topics, partitions, brokers, shards, producers.

use serde::{Deserialize, Serialize};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

macro_rules! number_newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_newtype!(
    /// Number of a broker in the cluster (`node.id`).
    BrokerId(i32)
);
number_newtype!(
    /// Number of a shard within its broker, from 0.
    ShardId(u16)
);
number_newtype!(
    /// Index of a partition within its topic, from 0.
    PartitionIndex(i32)
);
number_newtype!(
    /// Generation of a partition's leadership. -1 on the wire is "unknown".
    LeaderEpoch(i32)
);
number_newtype!(
    /// Version of a partition's metadata: one more at every change of its record.
    PartitionEpoch(i32)
);
number_newtype!(
    /// Identity of one registration of a broker: the metadata offset of its record. -1 is "unknown".
    BrokerEpoch(i64)
);
number_newtype!(
    /// Identity of an idempotent producer. -1 is "none".
    ProducerId(i64)
);
number_newtype!(
    /// Generation of a producer id. -1 is "none".
    ProducerEpoch(i16)
);

impl LeaderEpoch {
    /// The wire's "unknown".
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl ProducerId {
    /// A batch of a producer that is not idempotent.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl ProducerEpoch {
    /// A batch of a producer that is not idempotent.
    pub const NONE: ProducerEpoch = ProducerEpoch(-1);
}

/// Identity of a topic: 128 bits, shown as 22 characters of unpadded URL-safe base64.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The wire's "no topic id".
    pub const ZERO: TopicId = TopicId([0; 16]);
    /// The metadata log, `__cluster_metadata` (reserved by Kafka).
    pub const METADATA: TopicId = TopicId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// Reads the 22-character form.
    pub fn parse(text: &str) -> Option<TopicId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(TopicId(bytes.try_into().ok()?))
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Identity of a partition. It outlives renames and differs when a topic is deleted and created anew.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The index within the topic.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}
