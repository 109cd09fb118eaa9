//! Files of expired segments that their logs will use again. Pure.
//!
//! A log that is in balance loses a segment for each that it begins. To give back the old one's blocks and ask for new
//! ones costs twice: file systems mounted with `discard` tell the device to forget the blocks, and devices that allocate
//! on write (most virtual ones) have to find them anew. So the next segment takes over the file of an expired one, by
//! renaming it, and writes over blocks that the device knows.
//!
//! Invariants: at most one spare per log and [`SPARES_MAX`] of a shard; a spare's removal stays listed in checkpoints, so
//! that a start after a crash removes the file if nobody took it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{MonotonicTime, TopicPartition};

use crate::index::SegmentId;

/// Spares of a shard.
const SPARES_MAX: usize = 256;
/// A log that has begun no segment for so long is no longer in balance: its spare only takes space.
const SPARE_AGE_MAX: Duration = Duration::from_secs(600);

/// Which logs want a file, and which have one.
#[derive(Default)]
pub(crate) struct Spares {
    wanted: BTreeSet<TopicPartition>,
    kept: BTreeMap<TopicPartition, (SegmentId, MonotonicTime)>,
}

impl Spares {
    /// How many files are kept.
    pub(crate) fn count(&self) -> usize {
        self.kept.len()
    }

    /// The log has filled a segment: the file of an expired one will be useful, after the one that is kept perhaps.
    pub(crate) fn want(&mut self, log: TopicPartition) {
        self.wanted.insert(log);
    }

    /// Whether the file of this expired segment is to be kept.
    pub(crate) fn keep(&mut self, segment: SegmentId, now: MonotonicTime) -> bool {
        if let Some((kept, _)) = self.kept.get(&segment.partition) {
            return *kept == segment;
        }
        if self.kept.len() >= SPARES_MAX || !self.wanted.remove(&segment.partition) {
            return false;
        }
        self.kept.insert(segment.partition, (segment, now));
        true
    }

    /// The file that the log's next segment takes over.
    pub(crate) fn take(&mut self, log: TopicPartition) -> Option<SegmentId> {
        self.kept.remove(&log).map(|(segment, _)| segment)
    }

    /// Keeps nothing for this log any more.
    pub(crate) fn forget(&mut self, log: TopicPartition) {
        self.wanted.remove(&log);
        self.kept.remove(&log);
    }

    /// Lets go of what nobody has taken for long.
    pub(crate) fn expire(&mut self, now: MonotonicTime) {
        self.kept
            .retain(|_, (_, since)| now.since(*since) < SPARE_AGE_MAX);
    }

    /// Keeps nothing any more.
    pub(crate) fn clear(&mut self) {
        *self = Spares::default();
    }
}

#[cfg(test)]
mod tests {
    use model::{Offset, PartitionIndex, TopicId};

    use super::*;

    fn segment(partition: i32, base_offset: i64) -> SegmentId {
        SegmentId {
            partition: TopicPartition {
                topic: TopicId::default(),
                partition: PartitionIndex(partition),
            },
            base_offset: Offset(base_offset),
            incarnation: 0,
        }
    }

    #[test]
    fn one_file_for_a_log_that_wants_it() {
        let mut spares = Spares::default();
        let (old, newer, now) = (segment(0, 0), segment(0, 10), MonotonicTime(5));
        let log = old.partition;
        assert!(!spares.keep(old, now));
        spares.want(log);
        assert!(!spares.keep(segment(1, 0), now));
        assert!(spares.keep(old, now) && spares.keep(old, now));
        spares.want(log);
        assert!(!spares.keep(newer, now));
        assert_eq!((spares.take(log), spares.take(log)), (Some(old), None));
        // It had filled another one before it took the first.
        assert!(spares.keep(newer, now));
        spares.take(log);
        assert!(!spares.keep(old, now), "none was filled since");
        spares.want(log);
        spares.forget(log);
        assert!(!spares.keep(newer, now));
    }

    #[test]
    fn bounds() {
        let mut spares = Spares::default();
        for partition in 0..=SPARES_MAX as i32 {
            spares.want(segment(partition, 0).partition);
            spares.keep(segment(partition, 0), MonotonicTime(0));
        }
        assert_eq!(spares.count(), SPARES_MAX);
        spares.expire(MonotonicTime(0).plus(SPARE_AGE_MAX / 2));
        assert_eq!(spares.count(), SPARES_MAX);
        spares.expire(MonotonicTime(0).plus(SPARE_AGE_MAX));
        assert_eq!(spares.count(), 0);
    }
}
