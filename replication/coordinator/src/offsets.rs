//! Committed offsets of one group. Durable state: changed by replay only.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{LeaderEpoch, Offset, PartitionIndex, Timestamp};

/// What a group committed for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to consume.
    pub offset: Offset,
    /// Epoch of the last consumed record, or -1.
    pub leader_epoch: LeaderEpoch,
    /// The client's note.
    pub metadata: String,
    /// When it was committed.
    pub commit_timestamp: Timestamp,
    /// When it expires, if the client said so (OffsetCommit 2 to 4).
    pub expire_timestamp: Option<Timestamp>,
}

/// All of a group's offsets, by topic and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupOffsets {
    topics: BTreeMap<Arc<str>, BTreeMap<PartitionIndex, CommittedOffset>>,
    count: usize,
}

impl GroupOffsets {
    pub(crate) fn get(&self, topic: &str, partition: PartitionIndex) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn topics(
        &self,
    ) -> impl Iterator<Item = (&Arc<str>, &BTreeMap<PartitionIndex, CommittedOffset>)> {
        self.topics.iter()
    }

    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (&Arc<str>, PartitionIndex, &CommittedOffset)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            let pairs = partitions.iter();
            pairs.map(move |(partition, offset)| (topic, *partition, offset))
        })
    }

    pub(crate) fn set(&mut self, topic: &str, partition: PartitionIndex, value: CommittedOffset) {
        let partitions = match self.topics.get_mut(topic) {
            Some(partitions) => partitions,
            None => self.topics.entry(Arc::from(topic)).or_default(),
        };
        if partitions.insert(partition, value).is_none() {
            self.count += 1;
        }
    }

    pub(crate) fn remove(&mut self, topic: &str, partition: PartitionIndex) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            if partitions.remove(&partition).is_some() {
                self.count -= 1;
            }
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }
}
