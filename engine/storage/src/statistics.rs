//! What the storage counts about itself.

use std::cell::Cell;

use runtime::Io;

use crate::storage::Inner;

/// Counters since start. Plain cells: one shard, one core.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) groups: Cell<u64>,
    pub(crate) flushes: Cell<u64>,
    pub(crate) journal_bytes: Cell<u64>,
    pub(crate) journal_prepared_bytes: Cell<u64>,
    pub(crate) segment_bytes: Cell<u64>,
    pub(crate) segment_writes: Cell<u64>,
    pub(crate) index_bytes: Cell<u64>,
    pub(crate) checkpoint_bytes: Cell<u64>,
    pub(crate) checkpoints: Cell<u64>,
    pub(crate) carried_bytes: Cell<u64>,
    pub(crate) tail_reads: Cell<u64>,
    pub(crate) cold_reads: Cell<u64>,
    pub(crate) device_read_bytes: Cell<u64>,
}

/// Adds to a counter.
pub(crate) fn count(counter: &Cell<u64>, amount: u64) {
    counter.set(counter.get().wrapping_add(amount));
}

/// A view of a shard's storage: counts since start, sizes at this moment, all bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageStatistics {
    /// Commit groups written.
    pub groups: u64,
    /// Journal flushes besides durable writes.
    pub flushes: u64,
    /// Written to the journal by commit groups, padding included.
    pub journal_bytes: u64,
    /// Written to make new journal files.
    pub journal_prepared_bytes: u64,
    /// Written to segment files.
    pub segment_bytes: u64,
    /// Writes to segment files.
    pub segment_writes: u64,
    /// Written to index files.
    pub index_bytes: u64,
    /// Written to checkpoints.
    pub checkpoint_bytes: u64,
    /// Checkpoints written.
    pub checkpoints: u64,
    /// Batches written to the journal a second time.
    pub carried_bytes: u64,
    /// Memory that the tails pin now.
    pub tail_bytes: u64,
    /// Memory of the extent cache now.
    pub cache_bytes: u64,
    /// Extents found in the cache.
    pub cache_hits: u64,
    /// Extents read from the device.
    pub cache_misses: u64,
    /// Reads served by the tails.
    pub tail_reads: u64,
    /// Reads served by segments.
    pub cold_reads: u64,
    /// Read from the device by cold reads.
    pub device_read_bytes: u64,
    /// Size of the journal's files.
    pub journal_file_bytes: u64,
    /// Segment and index files open now.
    pub open_files: u64,
    /// Logs of the shard.
    pub logs: u64,
}

impl<I: Io> Inner<I> {
    pub(crate) fn statistics(&self) -> StorageStatistics {
        let counters = &self.counters;
        StorageStatistics {
            groups: counters.groups.get(),
            flushes: counters.flushes.get(),
            journal_bytes: counters.journal_bytes.get(),
            journal_prepared_bytes: counters.journal_prepared_bytes.get(),
            segment_bytes: counters.segment_bytes.get(),
            segment_writes: counters.segment_writes.get(),
            index_bytes: counters.index_bytes.get(),
            checkpoint_bytes: counters.checkpoint_bytes.get(),
            checkpoints: counters.checkpoints.get(),
            carried_bytes: counters.carried_bytes.get(),
            tail_bytes: self.tail.borrow().bytes() as u64,
            cache_bytes: self.extents.bytes(),
            cache_hits: self.extents.hits(),
            cache_misses: self.extents.misses(),
            tail_reads: counters.tail_reads.get(),
            cold_reads: counters.cold_reads.get(),
            device_read_bytes: counters.device_read_bytes.get(),
            journal_file_bytes: self.journal.borrow().files.total_bytes(),
            open_files: self.files.len() as u64,
            logs: self.logs.borrow().len() as u64,
        }
    }
}
