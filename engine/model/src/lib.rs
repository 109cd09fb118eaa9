//! The vocabulary of Ringlog, shared by every layer.
//!
//! Pure: no I/O, no clock, no threads, no randomness. Depends on nothing else in the workspace.

pub mod config;
pub mod error_code;
pub mod ids;
pub mod offset;
pub mod primitives;
pub mod quantity;
pub mod record;
pub mod time;

pub use error_code::ErrorCode;
pub use ids::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerEpoch, ProducerId,
    ShardId, TopicId, TopicPartition,
};
pub use offset::Offset;
pub use time::{MonotonicTime, Timestamp};
