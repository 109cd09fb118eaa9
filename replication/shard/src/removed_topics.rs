//! Topics that were removed and whose logs may still be found on this broker's disk. Pure.
//!
//! Kept on shard 0. A log that belongs to no topic is deleted at start only if the removal of its topic is known, and is
//! taken for the trace of a loss otherwise. So a removal is forgotten only when no start can find a log of its topic
//! again: when every shard has said that its deletions are durable, up to an end of the metadata log behind the removal.
//! Bound: removals since the last snapshot of the metadata log, and since shards last said so. Each is 24 bytes here and
//! four times that in the metadata log.

use std::collections::BTreeMap;

use model::{Offset, TopicId};

/// By topic: an offset of the metadata log behind its removal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemovedTopics(BTreeMap<TopicId, Offset>);

impl RemovedTopics {
    /// A topic was removed by a record before `end`.
    pub(crate) fn removed(&mut self, topic: TopicId, end: Offset) {
        let known = self.0.entry(topic).or_insert(end);
        assert!(*known <= end, "removals are heard of in their order");
        *known = end;
    }

    /// All shards have deleted, durably, the logs of topics that were removed before `end`.
    pub(crate) fn logs_gone(&mut self, end: Offset) {
        self.0.retain(|_, removed| *removed > end);
    }

    /// Whether the removal of this topic is known.
    pub(crate) fn contains(&self, topic: TopicId) -> bool {
        self.0.contains_key(&topic)
    }

    /// All of them.
    pub(crate) fn topics(&self) -> Vec<TopicId> {
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_forgotten_when_all_shards_have_come_behind_it() {
        let topic = |id| TopicId([id; 16]);
        let mut removed = RemovedTopics::default();
        removed.removed(topic(1), Offset(10));
        removed.removed(topic(2), Offset(11));
        removed.removed(topic(3), Offset(20));
        // (all shards have come to) -> left
        let table = [(0, 3), (9, 3), (10, 2), (19, 1), (19, 1), (20, 0)];
        for (end, left) in table {
            removed.logs_gone(Offset(end));
            assert_eq!(removed.topics().len(), left, "{end}");
        }
        assert!(!removed.contains(topic(3)));
    }
}
