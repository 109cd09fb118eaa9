//! Where replicas and partitions go: brokers for new partitions, and the shard of a partition within a broker.
//!
//! Pure and deterministic: the same image and the same `start` give the same placement.

mod replicas;

use model::{ShardId, TopicPartition};

pub use replicas::{PlacementError, place};

/// The shard of a broker that owns a partition.
///
/// Consecutive partitions of a topic go to consecutive shards, so any topic is spread evenly; the topic's identity
/// decides where it begins. Stable: nothing but the topic's id, the index and the count matter. Panics if
/// `shard_count` is 0: a broker has a shard.
pub fn shard_of(partition: TopicPartition, shard_count: u16) -> ShardId {
    assert!(shard_count > 0, "a broker has at least one shard");
    let topic = topic_hash(&partition.topic.0);
    // An index is never negative in an image; if it were, it would still land on some shard.
    let index = u64::from(partition.partition.0.cast_unsigned());
    let slot = (topic % u64::from(shard_count) + index) % u64::from(shard_count);
    ShardId(slot as u16)
}

/// FNV-1a, 64 bits, finished with a multiply-and-shift so that the low bits depend on all bytes.
pub(crate) fn topic_hash(id: &[u8; 16]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in id {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}
