//! Bytes behind the end of a segment that commit groups describe, or may describe as far as replay has come. Pure.
//!
//! [`Shields`] are owned by a log from a start until segments hold these batches elsewhere. Invariant: what is shielded is not
//! written over, and goes only after a checkpoint that has the batches in another place.

use model::Offset;

use crate::index::SegmentId;
use crate::removals::Removal;
use crate::segment::Segment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shield {
    segment: SegmentId,
    size_bytes: u64,
    /// Where the last of the batches ends that were found there.
    until: Offset,
    /// Replay has ended: there are no others.
    is_settled: bool,
}

impl Shield {
    /// Behind this segment, which has ended. Nothing was found there yet.
    fn behind(segment: &Segment) -> Shield {
        assert!(segment.sealed, "nothing more is written to it");
        Shield {
            segment: segment.id,
            size_bytes: segment.size_bytes,
            until: Offset::ZERO,
            is_settled: false,
        }
    }
}

/// The shields of one log: at most one for each of its segments.
#[derive(Default)]
pub(crate) struct Shields {
    shields: Vec<Shield>,
}

impl Shields {
    /// Batches up to `until` were found behind the end of this segment, or, with `until` 0, may be found. Returns the removal that
    /// is not to be made for now.
    pub(crate) fn found(&mut self, segment: &Segment, until: Offset) -> Removal {
        let known = self
            .shields
            .iter()
            .position(|shield| shield.segment == segment.id);
        let place = known.unwrap_or_else(|| {
            self.shields.push(Shield::behind(segment));
            self.shields.len() - 1
        });
        let shield = &mut self.shields[place];
        shield.until = shield.until.max(until);
        shield.removal()
    }

    /// Replay has ended: no more batches are found.
    pub(crate) fn settle(&mut self) {
        for shield in &mut self.shields {
            shield.is_settled = true;
        }
    }

    /// Whether what lies behind this segment may be the only copy of batches, as long as segments hold the log up to
    /// `written_end` only.
    pub(crate) fn covers(&self, segment: SegmentId, written_end: Offset) -> bool {
        let mut of_segment = self.shields.iter();
        of_segment.any(|shield| shield.segment == segment && !shield.is_over(written_end))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shields.is_empty()
    }

    /// The log was cut at `end`.
    pub(crate) fn cut(&mut self, end: Offset) {
        for shield in &mut self.shields {
            shield.until = shield.until.min(end);
        }
    }

    /// The log was emptied: its segments go.
    pub(crate) fn clear(&mut self) {
        self.shields.clear();
    }

    /// Removals of bytes that nobody needs any more, once a checkpoint knows that segments hold the log up to `written_end`.
    pub(crate) fn take_over(&mut self, written_end: Offset) -> Vec<Removal> {
        let is_over = |shield: &Shield| shield.is_over(written_end);
        let over = self.shields.iter().filter(|shield| is_over(shield));
        let over = over.map(Shield::removal).collect();
        self.shields.retain(|shield| !is_over(shield));
        over
    }

    /// The removals of all others, which checkpoints list for a start that does not come to know what lies there.
    pub(crate) fn removals(&self) -> Vec<Removal> {
        self.shields.iter().map(Shield::removal).collect()
    }
}

impl Shield {
    fn is_over(&self, written_end: Offset) -> bool {
        self.is_settled && self.until <= written_end
    }

    fn removal(&self) -> Removal {
        Removal::Behind(self.segment, self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use model::TopicPartition;

    use super::*;

    fn segment(base: i64, size_bytes: u64) -> Segment {
        let mut segment = Segment::new(SegmentId {
            base_offset: Offset(base),
            ..SegmentId::first_of(TopicPartition::default())
        });
        segment.size_bytes = size_bytes;
        segment.sealed = true;
        segment
    }

    #[test]
    fn bytes_stay_until_their_batches_are_elsewhere() {
        let mut shields = Shields::default();
        let behind = shields.found(&segment(0, 100), Offset(9));
        assert_eq!(shields.found(&segment(0, 100), Offset(7)), behind);
        let other = shields.found(&segment(5, 50), Offset::ZERO);
        assert_eq!(shields.removals(), [behind, other]);
        let first = segment(0, 100).id;
        assert!(shields.covers(first, Offset(9)), "more may be found");
        assert_eq!(shields.take_over(Offset(20)), [], "more may be found");
        shields.settle();
        assert_eq!(shields.take_over(Offset(8)), [other]);
        assert_eq!(shields.take_over(Offset(8)), []);
        assert!(shields.covers(first, Offset(8)) && !shields.covers(first, Offset(9)));
        shields.cut(Offset(5));
        assert_eq!(shields.take_over(Offset(5)), [behind]);
        assert!(shields.removals().is_empty());
    }
}
