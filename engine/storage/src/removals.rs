//! Files that the next checkpoint no longer names: which there are, and what becomes of them once it is durable.
//!
//! Invariants: a file is removed, or moved to the spares, only after a durable checkpoint that does without it; while a
//! partition's directory waits for its removal, no log of that name is written.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use model::{MonotonicTime, TopicPartition};

use crate::index::SegmentId;
use crate::spares::Spares;

/// Files that the checkpoint no longer names and that may still exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Removal {
    /// A deleted log's directory.
    Partition(TopicPartition),
    /// A segment and its index.
    Segment(SegmentId),
    /// What lies behind this many bytes in the file of a segment that was cut.
    Behind(SegmentId, u64),
}

impl Removal {
    /// Whose files.
    pub(crate) fn partition(self) -> TopicPartition {
        match self {
            Removal::Partition(id) => id,
            Removal::Segment(segment) | Removal::Behind(segment, _) => segment.partition,
        }
    }

    /// The segments that go with it; `None` if all stay.
    pub(crate) fn segments(self) -> Option<RangeInclusive<SegmentId>> {
        match self {
            Removal::Partition(id) => Some(SegmentId::all_of(id)),
            Removal::Segment(segment) => Some(segment..=segment),
            Removal::Behind(..) => None,
        }
    }
}

/// What waits for its removal, and the files that are kept instead.
pub(crate) struct Removals {
    waiting: RefCell<BTreeSet<Removal>>,
    /// What files of removals hold, of segments that were there in this run: others are not known to be whose they say.
    gone_bytes: RefCell<BTreeMap<SegmentId, u64>>,
    spares: RefCell<Spares>,
    /// Whether spares were taken since the last checkpoint.
    spares_unsynced: Cell<bool>,
}

impl Removals {
    pub(crate) fn new(spares: Spares, waiting: impl IntoIterator<Item = Removal>) -> Removals {
        Removals {
            waiting: RefCell::new(waiting.into_iter().collect()),
            gone_bytes: RefCell::default(),
            spares: RefCell::new(spares),
            spares_unsynced: Cell::new(false),
        }
    }

    /// A log is gone, with the files it had in this run.
    pub(crate) fn log_gone(
        &self,
        id: TopicPartition,
        files: impl IntoIterator<Item = (SegmentId, u64)>,
    ) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|removal| {
            matches!(removal, Removal::Partition(_)) || removal.partition() != id
        });
        waiting.insert(Removal::Partition(id));
        for (segment, bytes) in files {
            assert_eq!(segment.partition, id, "a file of another log");
            self.gone_bytes.borrow_mut().insert(segment, bytes);
        }
    }

    /// A segment is gone; `bytes` if it has a file.
    pub(crate) fn segment_gone(&self, id: SegmentId, bytes: Option<u64>) {
        let is_new = self.waiting.borrow_mut().insert(Removal::Segment(id));
        assert!(is_new, "a segment goes once");
        if let Some(bytes) = bytes {
            self.gone_bytes.borrow_mut().insert(id, bytes);
        }
    }

    /// A segment was cut: what lies behind `size_bytes` in its file goes.
    pub(crate) fn behind(&self, id: SegmentId, size_bytes: u64) {
        self.waiting
            .borrow_mut()
            .insert(Removal::Behind(id, size_bytes));
    }

    /// These wait, too.
    pub(crate) fn add(&self, removals: Vec<Removal>) {
        self.waiting.borrow_mut().extend(removals);
    }

    /// What lies there is needed for now: a checkpoint has listed its removal for a start that would not come to know it.
    pub(crate) fn keep(&self, removal: Removal) {
        self.waiting.borrow_mut().remove(&removal);
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// All that waits.
    pub(crate) fn all(&self) -> Vec<Removal> {
        self.waiting.borrow().iter().copied().collect()
    }

    /// Segments of a log that wait.
    pub(crate) fn segments_of(&self, id: TopicPartition) -> Vec<Removal> {
        let waiting = self.waiting.borrow();
        let (first, last) = SegmentId::all_of(id).into_inner();
        let gone = waiting.range(Removal::Segment(first)..=Removal::Segment(last));
        let cut = waiting.range(Removal::Behind(first, 0)..=Removal::Behind(last, u64::MAX));
        gone.chain(cut).copied().collect()
    }

    /// Whether the directory of this name still belongs to a log that is gone.
    pub(crate) fn occupies(&self, id: TopicPartition) -> bool {
        self.waiting.borrow().contains(&Removal::Partition(id))
    }

    /// Its files are gone.
    pub(crate) fn done(&self, removal: Removal) {
        let waited = self.waiting.borrow_mut().remove(&removal);
        let partition = removal.partition();
        assert!(
            waited || self.occupies(partition),
            "what was removed of {partition} had waited"
        );
    }

    /// Segments of a removal that were there in this run, and what their files hold.
    pub(crate) fn take_gone(&self, removal: Removal) -> Vec<(SegmentId, u64)> {
        let mut gone = self.gone_bytes.borrow_mut();
        let Some(segments) = removal.segments() else {
            return Vec::new();
        };
        let found: Vec<(SegmentId, u64)> = gone
            .range(segments)
            .map(|(segment, bytes)| (*segment, *bytes))
            .collect();
        for (segment, _) in &found {
            gone.remove(segment);
        }
        found
    }

    /// A spare for the segment of a log whose last one held `filled_bytes`.
    pub(crate) fn take_spare(&self, filled_bytes: u64) -> Option<u64> {
        let number = self.spares.borrow_mut().take(filled_bytes)?;
        self.spares_unsynced.set(true);
        Some(number)
    }

    /// A number for a file of `bytes` that is to become a spare, if it is of use.
    pub(crate) fn place_spare(&self, bytes: u64, now: MonotonicTime) -> Option<u64> {
        self.spares.borrow_mut().place(bytes, now)
    }

    /// The file could not be moved.
    pub(crate) fn forget_spare(&self, number: u64) {
        self.spares.borrow_mut().forget(number);
    }

    /// The old names of all spares are durably gone: they may be taken.
    pub(crate) fn settle_spares(&self) {
        self.spares.borrow_mut().settle();
    }

    /// Whether spares were taken that no checkpoint has seen; they count as seen from now on.
    pub(crate) fn take_spares_unsynced(&self) -> bool {
        self.spares_unsynced.take()
    }

    /// Bytes of the spares.
    pub(crate) fn spares_bytes(&self) -> u64 {
        self.spares.borrow().bytes()
    }

    /// Spares that are kept no longer.
    pub(crate) fn expired_spares(&self, now: MonotonicTime) -> Vec<u64> {
        self.spares.borrow_mut().expire(now)
    }

    /// All spares: they are kept no longer.
    pub(crate) fn clear_spares(&self) -> Vec<u64> {
        self.spares.borrow_mut().clear()
    }
}
