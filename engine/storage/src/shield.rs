//! Bytes behind the end of a segment that commit groups describe, or may describe as far as replay has come. Pure.
//!
//! Owned by a log from a start until segments hold these batches elsewhere. Invariant: what is shielded is not written over, and
//! goes only after a checkpoint that has the batches in another place.

use model::Offset;

use crate::index::SegmentId;
use crate::segment::Segment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shield {
    segment: SegmentId,
    size_bytes: u64,
    /// Where the last of the batches ends that were found there.
    until: Offset,
    /// Replay has ended: there are no others.
    is_settled: bool,
}

impl Shield {
    /// Behind this segment, which has ended. Nothing was found there yet.
    pub(crate) fn behind(segment: &Segment) -> Shield {
        assert!(segment.sealed, "nothing more is written to it");
        Shield {
            segment: segment.id,
            size_bytes: segment.size_bytes,
            until: Offset::ZERO,
            is_settled: false,
        }
    }

    /// Batches up to `until` were found there.
    pub(crate) fn found(self, until: Offset) -> Shield {
        Shield {
            until: self.until.max(until),
            ..self
        }
    }

    /// Replay has ended.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// The log was cut at `end`.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.until = self.until.min(end);
    }

    /// Whether nobody needs the bytes any more, once a checkpoint knows that segments hold the log up to `written_end`.
    pub(crate) fn is_over(&self, written_end: Offset) -> bool {
        self.is_settled && self.until <= written_end
    }

    /// The segment, and where the bytes begin.
    pub(crate) fn place(&self) -> (SegmentId, u64) {
        (self.segment, self.size_bytes)
    }
}

#[cfg(test)]
mod tests {
    use model::TopicPartition;

    use super::*;

    #[test]
    fn bytes_stay_until_their_batches_are_elsewhere() {
        let mut segment = Segment::new(SegmentId::first_of(TopicPartition::default()));
        segment.size_bytes = 100;
        segment.sealed = true;
        let mut shield = Shield::behind(&segment).found(Offset(9)).found(Offset(7));
        assert_eq!(shield.place(), (segment.id, 100));
        assert!(!shield.is_over(Offset(20)), "more may be found");
        shield.settle();
        assert!(!shield.is_over(Offset(8)) && shield.is_over(Offset(9)));
        shield.cut(Offset(5));
        assert!(shield.is_over(Offset(5)));
    }
}
