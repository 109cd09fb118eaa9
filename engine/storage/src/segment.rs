//! What memory knows of one segment: its extent, timestamps and the parts of its indexes that are not on disk yet. Pure.
//!
//! Invariants: a sealed segment has no pending index entries, unless it was cut or ended early; `pending` holds at most two pages of
//! entries.

use model::{Offset, Timestamp};

use crate::encoding::{Decoder, Encoder, Short};
use crate::index::{
    ChunkBuilder, ChunkEntry, ENTRY_BYTES, PAGE_ENTRIES, PageEntry as _, SegmentId,
};
use crate::options::LogConfig;
use crate::retention::SegmentSummary;
use crate::transaction_index::SegmentTransactions;

/// Largest segment file: positions and relative offsets of an index entry are at most 2^31 - 1, as in Kafka.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// Bytes of an encoded segment, at least.
const SEGMENT_BYTES_MIN: usize = 8 * 6 + 1 + 4 + 4 + ENTRY_BYTES;

/// One segment of a log.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    /// The offset after the last batch in the file.
    pub(crate) next_offset: Offset,
    /// Bytes of batches in the file.
    pub(crate) size_bytes: u64,
    /// Largest timestamp of the first batch: the segment's age counts from it (`segment.ms`).
    pub(crate) first_timestamp: Timestamp,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) offset_of_max_timestamp: Offset,
    /// Cut to its exact size, index complete: nothing is written any more.
    pub(crate) sealed: bool,
    /// Pages of its index file.
    pub(crate) index_pages: u32,
    /// Closed chunks that are not in the index file yet.
    pub(crate) pending: Vec<ChunkEntry>,
    pub(crate) chunks: ChunkBuilder,
    /// Transactions whose abort marker is in the file.
    pub(crate) transactions: SegmentTransactions,
    /// When the file was written last, by the broker's clock: the age of records without a timestamp, as in Kafka.
    pub(crate) written_at: Timestamp,
    /// How far the file is allocated.
    pub(crate) allocated_bytes: u64,
    /// The last, partial block of the file, or `None` if it must be read back before it can be rewritten.
    pub(crate) partial: Option<Box<[u8]>>,
    /// Whether the file is there, as far as this run or the checkpoint knows.
    pub(crate) file_created: bool,
    /// The checkpoint that first said that batches may be placed in it; 0 if none did. From then on a start does not write
    /// behind its end before it knows what is there.
    placeable_by: u64,
}

impl Segment {
    /// An empty segment that begins at `id.base_offset`.
    pub(crate) fn new(id: SegmentId) -> Segment {
        Segment {
            id,
            next_offset: id.base_offset,
            size_bytes: 0,
            first_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            offset_of_max_timestamp: Offset::NONE,
            sealed: false,
            index_pages: 0,
            pending: Vec::new(),
            chunks: ChunkBuilder::new(id),
            transactions: SegmentTransactions::default(),
            written_at: Timestamp::NONE,
            allocated_bytes: 0,
            partial: None,
            file_created: false,
            placeable_by: 0,
        }
    }

    /// Checkpoint `sequence` will say that batches may be placed in it, if it has a file.
    pub(crate) fn allow_placing(&mut self, sequence: u64) {
        if self.placeable_by == 0 && self.size_bytes > 0 && !self.sealed {
            self.placeable_by = sequence;
        }
    }

    /// Whether a checkpoint up to this one has said so: its file is durably there then.
    pub(crate) fn is_placeable_by(&self, sequence: u64) -> bool {
        (1..=sequence).contains(&self.placeable_by)
    }

    /// Whether a whole page of an index waits to be written.
    pub(crate) fn owes_page(&self) -> bool {
        self.pending.len() >= PAGE_ENTRIES || self.transactions.owes_page()
    }

    /// Ends it as it is, without its file: what follows goes to another one.
    pub(crate) fn end_early(&mut self) {
        assert!(!self.sealed && self.size_bytes > 0, "an open segment ends");
        self.pending.extend(self.chunks.close());
        self.sealed = true;
        self.partial = None;
    }

    /// Whether a batch of this size and place must go to the next segment, after `more_bytes` and the batch that
    /// began them, `first_timestamp`, have been added to this one. Depends on the data and the settings alone.
    pub(crate) fn must_roll(
        &self,
        more: Planned,
        batch_bytes: usize,
        place: &BatchPlace,
        config: &LogConfig,
    ) -> bool {
        if self.sealed {
            return true;
        }
        let present = self.size_bytes.saturating_add(more.bytes);
        if present == 0 {
            return false;
        }
        let first_timestamp = if self.size_bytes == 0 {
            more.first_timestamp
        } else {
            self.first_timestamp
        };
        let (next_offset, timestamp) = (place.next_offset, place.max_timestamp);
        let size = present.saturating_add(batch_bytes as u64);
        let age = timestamp.0.saturating_sub(first_timestamp.0);
        size > config.segment_bytes.min(SEGMENT_BYTES_MAX)
            || (first_timestamp.0 >= 0 && timestamp.0 >= 0 && age > config.segment_ms)
            || next_offset.0.saturating_sub(self.id.base_offset.0) > i64::from(i32::MAX)
    }

    /// Its file and how large that is, if there is one.
    pub(crate) fn file_bytes(&self) -> Option<(SegmentId, u64)> {
        let bytes = self.allocated_bytes.max(self.size_bytes);
        self.file_created.then_some((self.id, bytes))
    }

    /// Notes a batch that is in the file now.
    pub(crate) fn push(&mut self, batch: &[u8], entry: BatchPlace, chunk_bytes: u32) {
        assert!(
            entry.follows == self.next_offset || self.size_bytes == 0,
            "a segment has no gaps but those of the log"
        );
        assert!(!self.sealed, "a sealed segment does not change");
        let relative = entry.base_offset.0 - self.id.base_offset.0;
        let relative =
            u32::try_from(relative).expect("the segment rolls before offsets exceed 31 bits");
        self.pending.extend(
            self.chunks
                .push(batch, relative, entry.max_timestamp, chunk_bytes),
        );
        if self.size_bytes == 0 {
            self.first_timestamp = entry.max_timestamp;
        }
        if entry.max_timestamp > self.max_timestamp {
            self.max_timestamp = entry.max_timestamp;
            self.offset_of_max_timestamp = entry.offset_of_max_timestamp;
        }
        assert!(
            entry.next_offset > self.next_offset && !batch.is_empty(),
            "a segment grows"
        );
        self.size_bytes += batch.len() as u64;
        self.next_offset = entry.next_offset;
        assert!(
            self.pending.len() <= 2 * PAGE_ENTRIES + 1,
            "index pages are written in time"
        );
    }

    /// Cuts off what lies behind, and ends the segment: what follows goes to another one. Its file is not written over, since
    /// the cut may not be durable yet. The index keeps its whole pages; the chunks behind them stay in memory and in
    /// checkpoints, at most two pages.
    pub(crate) fn cut(&mut self, cut: SegmentCut) {
        assert_eq!(self.id, cut.id, "the segment that was looked at");
        assert!(
            cut.next_offset < self.next_offset && cut.size_bytes < self.size_bytes,
            "something is cut off"
        );
        assert!(
            cut.next_offset > self.id.base_offset && cut.size_bytes > 0,
            "something is left"
        );
        self.next_offset = cut.next_offset;
        self.size_bytes = cut.size_bytes;
        self.index_pages = cut.index_pages;
        self.pending = cut.pending;
        self.chunks = ChunkBuilder::new(self.id);
        self.transactions.cut(cut.next_offset);
        self.max_timestamp = cut.max_timestamp;
        self.offset_of_max_timestamp = cut.offset_of_max_timestamp;
        self.sealed = true;
        self.partial = None;
    }

    /// What retention looks at.
    pub(crate) fn summary(&self) -> SegmentSummary {
        SegmentSummary {
            base_offset: self.id.base_offset,
            next_offset: self.next_offset,
            size_bytes: self.size_bytes,
            max_timestamp: self.max_timestamp,
            written_at: self.written_at,
        }
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.offset(self.id.base_offset);
        out.u32(self.id.generation);
        out.offset(self.next_offset);
        out.u64(self.size_bytes);
        out.timestamp(self.first_timestamp);
        out.timestamp(self.max_timestamp);
        out.offset(self.offset_of_max_timestamp);
        out.timestamp(self.written_at);
        out.u8(u8::from(self.sealed));
        out.u32(self.index_pages);
        out.count(self.pending.len());
        for entry in &self.pending {
            entry.encode(out);
        }
        self.chunks.open().encode(out);
        out.u8(u8::from(self.placeable_by > 0));
        self.transactions.encode(out);
    }

    pub(crate) fn decode(
        partition: model::TopicPartition,
        from: &mut Decoder<'_>,
        format: u16,
    ) -> Result<Segment, Short> {
        let id = SegmentId {
            partition,
            base_offset: from.offset()?,
            generation: if format > 2 { from.u32()? } else { 0 },
            incarnation: 0,
        };
        let mut segment = Segment::new(id);
        segment.next_offset = from.offset()?;
        segment.size_bytes = from.u64()?;
        segment.first_timestamp = from.timestamp()?;
        segment.max_timestamp = from.timestamp()?;
        segment.offset_of_max_timestamp = from.offset()?;
        if format > 1 {
            segment.written_at = from.timestamp()?;
        }
        segment.sealed = from.u8()? != 0;
        segment.index_pages = from.u32()?;
        for _ in 0..from.count(ENTRY_BYTES)? {
            segment.pending.push(ChunkEntry::decode(from)?);
        }
        segment.chunks = ChunkBuilder::resume(id, ChunkEntry::decode(from)?);
        if format > 3 {
            segment.placeable_by = u64::from(from.u8()?);
            segment.transactions = SegmentTransactions::decode(from)?;
        }
        // A checkpoint may name a segment that was about to be begun: its file may not be there, or not durably.
        segment.file_created = segment.size_bytes > 0;
        Ok(segment)
    }

    /// Smallest encoding, for bounds on counts.
    pub(crate) const fn encoded_bytes_min() -> usize {
        SEGMENT_BYTES_MIN
    }
}

/// Batches that are about to be added to a segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planned {
    pub(crate) bytes: u64,
    /// Of the first of them.
    pub(crate) first_timestamp: Timestamp,
}

/// Offsets and timestamps of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchPlace {
    /// Where the log ended before it: at its base offset, unless the leader's log has a gap there (compaction).
    pub(crate) follows: Offset,
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) offset_of_max_timestamp: Offset,
}

/// What is left of a segment that is cut.
#[derive(Debug)]
pub(crate) struct SegmentCut {
    pub(crate) id: SegmentId,
    pub(crate) next_offset: Offset,
    pub(crate) size_bytes: u64,
    /// Whole pages of its index that still hold.
    pub(crate) index_pages: u32,
    /// The chunks behind these.
    pub(crate) pending: Vec<ChunkEntry>,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) offset_of_max_timestamp: Offset,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a checkpoint makes of a segment.
    fn restored(segment: &Segment) -> Segment {
        let mut out = Encoder::default();
        segment.encode(&mut out);
        Segment::decode(segment.id.partition, &mut Decoder::new(&out.bytes), 4).unwrap()
    }

    #[test]
    fn only_a_segment_that_was_written_has_a_file_after_a_start() {
        let id = SegmentId {
            partition: model::TopicPartition::default(),
            base_offset: Offset(7),
            generation: 0,
            incarnation: 0,
        };
        let mut segment = Segment::new(id);
        assert!(!restored(&segment).file_created);
        let place = BatchPlace {
            follows: Offset(7),
            base_offset: Offset(7),
            next_offset: Offset(8),
            max_timestamp: Timestamp(1),
            offset_of_max_timestamp: Offset(7),
        };
        segment.push(&[1; 100], place, 1 << 10);
        segment.file_created = true;
        let sealed = restored(&segment);
        assert!(sealed.file_created);
        assert_eq!(sealed.file_bytes(), Some((id, 100)));
        // The format before had nothing of placing and transactions behind the rest.
        let mut out = Encoder::default();
        segment.encode(&mut out);
        let transactions = 1 + 4 + 8 + 4;
        let mut from = Decoder::new(&out.bytes[..out.bytes.len() - transactions]);
        let before = Segment::decode(id.partition, &mut from, 3).unwrap();
        assert!(from.is_empty());
        assert_eq!(before.file_bytes(), Some((id, 100)));
        assert_eq!(before.transactions, SegmentTransactions::default());
    }
}
