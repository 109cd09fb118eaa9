//! Aborted transactions of one segment: what a reader of committed records must leave out. Pure.
//!
//! An entry belongs to the segment that holds its abort marker. Entries come in the order of their markers; those that fill
//! no page of the `.txnindex` file are in memory and in checkpoints, as with the index of chunks. Pages are written once,
//! when full or when the segment is sealed. FORMAT.md, section "Segments".
//!
//! Invariants: entries are in the order of their markers; at most [`PENDING_MAX`] of a segment are in memory; an entry of
//! the file at or behind the segment's end is of a log that was cut, and is none.

use model::{Offset, ProducerId};

use crate::encoding::{Decoder, Encoder, Short};
use crate::index::{PageEntry, page_entries};

/// Bytes of an entry.
pub(crate) const ABORTED_BYTES: usize = 32;
/// Entries of a full page.
pub(crate) const PAGE_ABORTED: usize = page_entries(ABORTED_BYTES);
/// Bytes of the batch of an end marker, at least.
const MARKER_BYTES_MIN: usize = 78;
/// Bytes that one write of a segment adds to it. A larger batch comes alone, and holds no marker.
pub(crate) const SEGMENT_WRITE_BYTES_MAX: usize = 1 << 20;
/// Entries of a segment in memory: pages are written behind each write, so less than a page and what one write brings.
const PENDING_MAX: usize = PAGE_ABORTED + SEGMENT_WRITE_BYTES_MAX / MARKER_BYTES_MIN;

/// An aborted transaction of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose records are to be left out.
    pub producer_id: ProducerId,
    /// Offset of its first record.
    pub first_offset: Offset,
    /// Offset of its abort marker.
    pub last_offset: Offset,
    /// Records below it belonged to no open transaction when it had ended, whatever the high watermark was. Whatever ends
    /// later has no records below it.
    pub last_stable_offset: Offset,
}

impl PageEntry for AbortedTransaction {
    const MAGIC: u32 = u32::from_le_bytes(*b"RLGT");
    const BYTES: usize = ABORTED_BYTES;

    fn encode(&self, out: &mut Encoder) {
        out.i64(self.producer_id.0);
        out.offset(self.first_offset);
        out.offset(self.last_offset);
        out.offset(self.last_stable_offset);
    }

    fn decode(from: &mut Decoder<'_>) -> Result<AbortedTransaction, Short> {
        let aborted = AbortedTransaction {
            producer_id: ProducerId(from.i64()?),
            first_offset: from.offset()?,
            last_offset: from.offset()?,
            last_stable_offset: from.offset()?,
        };
        let is_sound = aborted.first_offset >= Offset::ZERO
            && aborted.first_offset < aborted.last_offset
            && aborted.last_stable_offset >= Offset::ZERO;
        if is_sound { Ok(aborted) } else { Err(Short) }
    }
}

/// The offsets that a reader has got records of: those from `from` on, below `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadRange {
    pub(crate) from: Offset,
    pub(crate) end: Offset,
}

impl ReadRange {
    /// Adds those of `entries` that concern the reader, as Kafka chooses them. True if no later entry can.
    #[must_use]
    pub(crate) fn choose<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a AbortedTransaction>,
        chosen: &mut Vec<AbortedTransaction>,
    ) -> bool {
        for entry in entries {
            if entry.last_offset >= self.from && entry.first_offset < self.end {
                chosen.push(*entry);
            }
            if entry.last_stable_offset >= self.end {
                return true;
            }
        }
        false
    }
}

/// What memory knows of a segment's aborted transactions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentTransactions {
    /// Pages of the file.
    pages: u32,
    /// Entries that are not in the file yet.
    pending: Vec<AbortedTransaction>,
    /// The smallest first offset of all, or a smaller one after a cut; `None` without any. Who reads only below it need not
    /// look.
    first_offset: Option<Offset>,
}

impl SegmentTransactions {
    /// Notes a transaction whose marker is in the segment now.
    pub(crate) fn add(&mut self, aborted: AbortedTransaction) {
        let last = self.pending.last();
        assert!(
            last.is_none_or(|last| last.last_offset < aborted.last_offset),
            "markers come in order"
        );
        let first = aborted.first_offset;
        self.first_offset = Some(self.first_offset.map_or(first, |known| known.min(first)));
        self.pending.push(aborted);
        assert!(
            self.pending.len() <= PENDING_MAX,
            "pages of aborted transactions are written in time"
        );
    }

    /// Whether somebody who reads below `end` has to look.
    pub(crate) fn concerns(&self, end: Offset) -> bool {
        self.first_offset.is_some_and(|first| first < end)
    }

    /// Pages of the file.
    pub(crate) fn pages(&self) -> u32 {
        self.pages
    }

    /// Entries that are not in the file.
    pub(crate) fn pending(&self) -> &[AbortedTransaction] {
        &self.pending
    }

    /// Whether a whole page waits to be written.
    pub(crate) fn owes_page(&self) -> bool {
        self.pending.len() >= PAGE_ABORTED
    }

    /// The next page to write, with its number, if at least `entries_min` entries wait for one.
    pub(crate) fn next_page(&self, entries_min: usize) -> Option<(u32, Vec<AbortedTransaction>)> {
        let count = self.pending.len().min(PAGE_ABORTED);
        (count >= entries_min.max(1)).then(|| (self.pages, self.pending[..count].to_vec()))
    }

    /// The next page is in the file, with so many entries.
    pub(crate) fn page_written(&mut self, entries: usize) {
        assert!(
            entries > 0 && entries <= self.pending.len(),
            "what was written had waited"
        );
        self.pending.drain(..entries);
        self.pages += 1;
    }

    /// The segment was cut and ends at `end`. The file is not written over: its entries from there on count no longer.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.pending.retain(|aborted| aborted.last_offset < end);
        if self.pages == 0 && self.pending.is_empty() {
            self.first_offset = None;
        }
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u32(self.pages);
        out.offset(self.first_offset.unwrap_or(Offset::NONE));
        out.count(self.pending.len());
        for aborted in &self.pending {
            aborted.encode(out);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<SegmentTransactions, Short> {
        let pages = from.u32()?;
        let first_offset = Some(from.offset()?).filter(|first| *first >= Offset::ZERO);
        let mut pending = Vec::new();
        for _ in 0..from.count(ABORTED_BYTES)? {
            pending.push(AbortedTransaction::decode(from)?);
        }
        if pending.len() > PENDING_MAX
            || (pages > 0 || !pending.is_empty()) && first_offset.is_none()
        {
            return Err(Short);
        }
        Ok(SegmentTransactions {
            pages,
            pending,
            first_offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use model::TopicPartition;

    use super::*;
    use crate::index::{PAGE_BYTES, SegmentId, read_page, write_page};

    fn aborted(producer: i64, first: i64, last: i64, stable: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId(producer),
            first_offset: Offset(first),
            last_offset: Offset(last),
            last_stable_offset: Offset(stable),
        }
    }

    #[test]
    fn readers_get_what_overlaps() {
        // Two that overlap, one inside the second, and one behind.
        let entries = [
            aborted(1, 0, 10, 5),
            aborted(2, 12, 20, 5),
            aborted(3, 5, 30, 31),
            aborted(4, 40, 50, 51),
        ];
        // (from, end) -> producers, whether that is all for certain
        let table: [(i64, i64, &[i64], bool); 9] = [
            (0, 5, &[1], true),
            (0, 1, &[1], true),
            (11, 12, &[3], true),
            (11, 13, &[2, 3], true),
            (0, 31, &[1, 2, 3], true),
            (10, 11, &[1, 3], true),
            (31, 40, &[], true),
            (31, 60, &[4], false),
            (51, 60, &[], false),
        ];
        for (from, end, producers, is_complete) in table {
            let mut chosen = Vec::new();
            let range = ReadRange {
                from: Offset(from),
                end: Offset(end),
            };
            let complete = range.choose(&entries, &mut chosen);
            let found: Vec<i64> = chosen.iter().map(|entry| entry.producer_id.0).collect();
            assert_eq!(
                (&*found, complete),
                (producers, is_complete),
                "{from}..{end}"
            );
        }
    }

    #[test]
    fn pages_are_bound_to_their_segment_and_kind() {
        let id = SegmentId {
            base_offset: Offset(7),
            ..SegmentId::first_of(TopicPartition::default())
        };
        let entries: Vec<AbortedTransaction> = (0..PAGE_ABORTED as i64)
            .map(|i| aborted(i, 2 * i, 2 * i + 1, 2 * i + 2))
            .collect();
        let mut page = vec![0xff; PAGE_BYTES];
        write_page(id, 3, &entries, &mut page);
        assert_eq!(read_page(id, 3, &page), Some(entries));
        let later = SegmentId {
            generation: 1,
            ..id
        };
        assert_eq!(read_page::<AbortedTransaction>(later, 3, &page), None);
        assert_eq!(read_page::<AbortedTransaction>(id, 2, &page), None);
        assert_eq!(read_page::<crate::index::ChunkEntry>(id, 3, &page), None);
        for byte in 0..PAGE_BYTES {
            page[byte] ^= 0x10;
            assert_eq!(read_page::<AbortedTransaction>(id, 3, &page), None);
            page[byte] ^= 0x10;
        }
    }

    #[test]
    fn pages_are_filled_in_order_and_the_rest_waits() {
        let mut segment = SegmentTransactions::default();
        assert!(!segment.concerns(Offset(i64::MAX)));
        let count = PAGE_ABORTED as i64 + 3;
        for i in 0..count {
            segment.add(aborted(i, 100 + i, 1000 + i, 100));
        }
        assert!(segment.concerns(Offset(101)) && !segment.concerns(Offset(100)));
        let (number, page) = segment.next_page(PAGE_ABORTED).unwrap();
        assert_eq!((number, page.len()), (0, PAGE_ABORTED));
        segment.page_written(page.len());
        assert_eq!(segment.next_page(PAGE_ABORTED), None);
        let mut out = Encoder::default();
        segment.encode(&mut out);
        let read = SegmentTransactions::decode(&mut Decoder::new(&out.bytes));
        assert_eq!(read, Ok(segment.clone()));
        // The entries of the page stay in the file, whatever was cut off.
        segment.cut(Offset(1000 + count - 2));
        assert_eq!(segment.pending().len(), 1);
        segment.cut(Offset(0));
        assert_eq!((segment.pages(), segment.pending().len()), (1, 0));
        assert!(segment.concerns(Offset(101)));
        assert_eq!(segment.next_page(1), None);
        let mut cut_to_nothing = SegmentTransactions::default();
        cut_to_nothing.add(aborted(1, 5, 9, 10));
        cut_to_nothing.cut(Offset(9));
        assert_eq!(cut_to_nothing, SegmentTransactions::default());
    }
}
