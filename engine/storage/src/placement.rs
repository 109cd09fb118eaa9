//! What a commit group has placed in segments, and how much of it no checkpoint knows. Pure.

use std::cell::Cell;
use std::rc::Rc;

use crate::index::SegmentId;
use crate::journal::placed::Placed;
use crate::log::Log;

/// Bytes that lie in segments, or are on their way there, and that no checkpoint knows of.
#[derive(Default)]
pub(crate) struct PlacedBytes {
    outstanding: Cell<u64>,
    /// Of those, the ones whose groups are committed.
    committed: Cell<u64>,
    /// What the checkpoint that is under way knows.
    encoded: Cell<u64>,
}

impl PlacedBytes {
    pub(crate) fn outstanding(&self) -> u64 {
        self.outstanding.get()
    }

    pub(crate) fn begin(&self, bytes: u64) {
        self.outstanding.set(self.outstanding.get() + bytes);
    }

    pub(crate) fn commit(&self, bytes: u64) {
        self.committed.set(self.committed.get() + bytes);
        assert!(
            self.committed.get() <= self.outstanding.get(),
            "what is committed was placed"
        );
    }

    /// A checkpoint is about to be encoded. What is committed from here on it may not know.
    pub(crate) fn encode(&self) {
        self.encoded.set(self.committed.get());
    }

    /// It is durable.
    pub(crate) fn encoded(&self) {
        let known = self.encoded.take();
        self.committed.set(self.committed.get() - known);
        self.outstanding.set(self.outstanding.get() - known);
    }
}

/// Batches of one log that are to go to their segment.
pub(crate) struct Chosen {
    pub(crate) placed: Placed,
    pub(crate) log: Rc<Log>,
    pub(crate) segment: SegmentId,
}

/// One write to a segment that belongs to a commit group.
pub(crate) struct Placement<F> {
    pub(crate) log: Rc<Log>,
    pub(crate) segment: SegmentId,
    /// Of the block that the write begins with.
    pub(crate) position: u64,
    pub(crate) block: F,
    /// Batches, the log's dirty remains included, and their bytes.
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    /// Bytes of those that the group has placed.
    pub(crate) placed_bytes: u64,
    pub(crate) allocated_bytes: u64,
}
