//! The entries of a replica: where each lies in the metadata log, and the newest of them in memory.
//!
//! Pure. Holds a few words for every entry of the log and the bytes of the newest; the bytes of older ones are the driver's
//! to read. Entries are in it as soon as they are decided, durable or not.
//! Invariants: entries follow each other without a gap, in indexes and in offsets; terms do not decrease. What is in memory
//! is a tail of the log, and all of it that is not applied or not durable.

use std::collections::VecDeque;

use bytes::Bytes;
use model::Offset;

use crate::entry::{Entry, EntryKind};
use crate::message::SnapshotMark;
use crate::place::{EntryIndex, Term};

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    base_offset: Offset,
    /// Bytes of all entries that were ever appended before it.
    position: u64,
    term: u32,
    size: u32,
    is_voters: bool,
}

/// The entry before the first: its bytes are gone, its place is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) end_offset: Offset,
}

impl From<&SnapshotMark> for Before {
    fn from(mark: &SnapshotMark) -> Before {
        Before {
            index: mark.index.0,
            term: mark.term.0,
            end_offset: mark.end_offset,
        }
    }
}

impl Before {
    /// `entry`, which is the one at `index`.
    pub(crate) fn entry(index: u64, entry: &Entry) -> Before {
        Before {
            index,
            term: entry.term.0,
            end_offset: entry.end_offset,
        }
    }
}

/// The entries of one replica.
#[derive(Debug)]
pub(crate) struct EntryLog {
    before: Before,
    places: VecDeque<Place>,
    end_offset: Offset,
    /// Bytes of all entries that were ever appended and not cut off.
    end_position: u64,
    /// Bytes of the newest entries: of the last `tail.len()` places.
    tail: VecDeque<Bytes>,
    tail_bytes: usize,
}

impl EntryLog {
    pub(crate) fn new(before: Before) -> EntryLog {
        EntryLog {
            before,
            places: VecDeque::new(),
            end_offset: before.end_offset,
            end_position: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
        }
    }

    /// The entry behind which this log begins.
    pub(crate) fn before(&self) -> Before {
        self.before
    }

    pub(crate) fn first_index(&self) -> u64 {
        self.before.index + 1
    }

    pub(crate) fn last_index(&self) -> u64 {
        self.before.index + self.places.len() as u64
    }

    /// Count of entries.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Where the next entry begins.
    pub(crate) fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The first entry whose bytes are in memory, or the one behind the last.
    pub(crate) fn first_in_memory(&self) -> u64 {
        self.last_index() + 1 - self.tail.len() as u64
    }

    fn place(&self, index: u64) -> Option<&Place> {
        let at = index.checked_sub(self.first_index())?;
        self.places.get(usize::try_from(at).ok()?)
    }

    /// The term of an entry of the log, or of the one before it.
    pub(crate) fn term(&self, index: u64) -> Option<u64> {
        if index == self.before.index {
            return Some(self.before.term);
        }
        self.place(index).map(|place| place.term.into())
    }

    /// Where an entry of the log begins.
    pub(crate) fn base_offset(&self, index: u64) -> Option<Offset> {
        self.place(index).map(|place| place.base_offset)
    }

    /// Where an entry of the log ends, or the one before it.
    pub(crate) fn end_offset_of(&self, index: u64) -> Option<Offset> {
        if index == self.last_index() {
            return Some(self.end_offset);
        }
        if index == self.before.index {
            return Some(self.before.end_offset);
        }
        self.base_offset(index + 1)
    }

    /// Bytes of an entry of the log.
    pub(crate) fn size(&self, index: u64) -> Option<usize> {
        self.place(index).map(|place| place.size as usize)
    }

    /// Bytes of the entries behind `index`.
    pub(crate) fn bytes_behind(&self, index: u64) -> u64 {
        let next = self.place(index + 1);
        next.map_or(0, |next| self.end_position - next.position)
    }

    /// Whether the entry changes the voters.
    pub(crate) fn is_voters(&self, index: u64) -> bool {
        self.place(index).is_some_and(|place| place.is_voters)
    }

    /// The bytes of an entry, if they are in memory.
    pub(crate) fn batch(&self, index: u64) -> Option<&Bytes> {
        let at = index.checked_sub(self.first_in_memory())?;
        self.tail.get(usize::try_from(at).ok()?)
    }

    /// Adds an entry at the end; its bytes stay in memory.
    pub(crate) fn append(&mut self, entry: &Entry) {
        self.append_place(entry);
        self.tail_bytes += entry.batch.len();
        self.tail.push_back(entry.batch.clone());
    }

    /// Adds an entry at the end whose bytes the log on disk has. None before it may be in memory.
    pub(crate) fn append_on_disk(&mut self, entry: &Entry) {
        assert!(self.tail.is_empty(), "what is in memory is the log's tail");
        self.append_place(entry);
    }

    fn append_place(&mut self, entry: &Entry) {
        assert_eq!(entry.base_offset, self.end_offset, "a gap in the log");
        let last = self.term(self.last_index()).expect("the last has a place");
        assert!(last <= entry.term.0, "{:?} behind term {last}", entry.term);
        self.places.push_back(Place {
            base_offset: entry.base_offset,
            position: self.end_position,
            term: u32::try_from(entry.term.0).expect("a leader epoch"),
            size: u32::try_from(entry.batch.len()).expect("ENTRY_BYTES_MAX"),
            is_voters: matches!(entry.kind, EntryKind::Voters(_)),
        });
        self.end_offset = entry.end_offset;
        self.end_position += entry.batch.len() as u64;
    }

    /// Numbers the entries anew, so that the last is the one at `last`.
    pub(crate) fn number_from_end(&mut self, last: u64) {
        let count = self.places.len() as u64;
        self.before.index = last.checked_sub(count).expect("no entry before the first");
    }

    /// Drops the entries from `index` on. Returns where the log ends then.
    pub(crate) fn truncate(&mut self, index: u64) -> Offset {
        let first = *self.place(index).expect("an entry of the log");
        while self.last_index() >= index {
            // The bytes first: the end of what is in memory is counted from the end of the places.
            if let Some(batch) = self.tail.pop_back() {
                self.tail_bytes -= batch.len();
            }
            self.places.pop_back();
        }
        self.end_offset = first.base_offset;
        self.end_position = first.position;
        first.base_offset
    }

    /// Drops the entries up to `index`, which is at or behind the one before the first.
    pub(crate) fn compact(&mut self, index: u64) {
        let before = Before {
            index,
            term: self.term(index).expect("an entry of the log"),
            end_offset: self.end_offset_of(index).expect("an entry of the log"),
        };
        let count = usize::try_from(index - self.before.index).expect("a count of entries");
        self.places.drain(..count);
        self.before = before;
        while self.tail.len() > self.places.len() {
            self.pop_from_memory();
        }
    }

    /// Begins anew behind `before`.
    pub(crate) fn reset(&mut self, before: Before) {
        *self = EntryLog::new(before);
    }

    /// Gives up bytes of the oldest entries, up to the one at `through`, while more than `bytes_max` are in memory.
    pub(crate) fn evict(&mut self, through: u64, bytes_max: usize) {
        while self.tail_bytes > bytes_max && self.first_in_memory() <= through {
            self.pop_from_memory();
        }
    }

    fn pop_from_memory(&mut self) {
        let batch = self.tail.pop_front().expect("more in memory than that");
        self.tail_bytes -= batch.len();
    }

    /// The mark of everything up to `index`.
    pub(crate) fn position(&self, index: u64) -> (EntryIndex, Term, Offset) {
        let term = self.term(index).expect("an entry of the log");
        let end_offset = self.end_offset_of(index).expect("an entry of the log");
        (EntryIndex(index), Term(term), end_offset)
    }
}
