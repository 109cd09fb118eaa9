//! The partitions that one shard serves, by identity.

use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use indexmap::IndexMap;
use model::{ShardId, TopicId, TopicPartition};

use crate::partition::Partition;

/// The shard that serves a partition when the broker has `shard_count`. Shard 0 keeps the metadata log.
pub fn owner(partition: TopicPartition, shard_count: u16) -> ShardId {
    if partition.topic == TopicId::METADATA {
        ShardId(0)
    } else {
        metadata::shard_of(partition, shard_count)
    }
}

/// Folds the bytes of an identity. Topic ids are random numbers drawn by the controller, so no client can choose
/// colliding ones; and unlike std's hasher it is the same in every run.
#[derive(Default)]
pub struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_i32(&mut self, number: i32) {
        self.write_u64(u64::from(number.cast_unsigned()));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

#[derive(Default)]
pub struct PartitionTable {
    partitions: IndexMap<TopicPartition, Rc<Partition>, BuildHasherDefault<IdentityHasher>>,
}

impl PartitionTable {
    pub fn get(&self, id: TopicPartition) -> Option<Rc<Partition>> {
        self.partitions.get(&id).cloned()
    }

    /// Adds a partition. There must be none of that identity.
    pub fn insert(&mut self, partition: Rc<Partition>) {
        let previous = self.partitions.insert(partition.id, partition);
        assert!(previous.is_none(), "a partition was added twice");
    }

    pub fn remove(&mut self, id: TopicPartition) -> Option<Rc<Partition>> {
        self.partitions.swap_remove(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rc<Partition>> {
        self.partitions.values()
    }

    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}
