//! What the storage of a shard counts about itself, and the registry of its metrics.

use runtime::{Counter, Histogram, MetricDefinition, Unit};

/// Counters since start. Plain cells: one shard, one core.
#[derive(Default)]
pub(crate) struct Counters {
    /// Bytes of each commit group as written, padding included; its count is the count of groups.
    pub(crate) group_bytes: Histogram,
    /// Batches of each commit group.
    pub(crate) group_batches: Histogram,
    pub(crate) journal: DeviceCounters,
    pub(crate) segment: DeviceCounters,
    pub(crate) index: DeviceCounters,
    pub(crate) checkpoint: DeviceCounters,
    /// Bytes of zeros in new journal files.
    pub(crate) journal_prepared_bytes: Counter,
    /// Writes of groups that were durable by themselves (O_DSYNC).
    pub(crate) journal_durable_writes: Counter,
    /// One flush for all files.
    pub(crate) file_system_flushes: Counter,
    pub(crate) checkpoints: Counter,
    /// Those of them that say only what has changed.
    pub(crate) checkpoint_increments: Counter,
    pub(crate) carried_bytes: Counter,
    /// Batches that went straight to their segment.
    pub(crate) placed_bytes: Counter,
    pub(crate) segments_taken_over: Counter,
    pub(crate) tail_reads: Counter,
    pub(crate) cold_reads: Counter,
    pub(crate) transaction_indexes_rebuilt: Counter,
}

/// What one kind of file did to the device.
#[derive(Default)]
pub(crate) struct DeviceCounters {
    pub(crate) writes: Counter,
    pub(crate) write_bytes: Counter,
    pub(crate) reads: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) flushes: Counter,
}

impl DeviceCounters {
    /// Counts one write.
    pub(crate) fn wrote(&self, bytes: u64) {
        self.writes.increment();
        self.write_bytes.add(bytes);
    }

    /// Counts one read.
    pub(crate) fn read(&self, bytes: u64) {
        self.reads.increment();
        self.read_bytes.add(bytes);
    }
}

/// Size of the commit groups.
pub static COMMIT_GROUP_BYTES: MetricDefinition = MetricDefinition::histogram(
    "ringlog_commit_group_bytes",
    Unit::Bytes,
    "Bytes of each commit group as written to the journal, padding included.",
);
/// Batches in the commit groups.
pub static COMMIT_GROUP_BATCHES: MetricDefinition = MetricDefinition::histogram(
    "ringlog_commit_group_batches",
    Unit::Count,
    "Record batches in each commit group.",
);
/// Writes to the device, by kind of file.
pub static DEVICE_WRITES: MetricDefinition = MetricDefinition::counter(
    "ringlog_device_writes_total",
    Unit::Count,
    "Writes to files, by kind of file.",
);
/// Their bytes.
pub static DEVICE_WRITE_BYTES: MetricDefinition = MetricDefinition::counter(
    "ringlog_device_write_bytes_total",
    Unit::Bytes,
    "Bytes written to files, by kind of file. journal_prepared: zeros that make room for the journal.",
);
/// Reads from the device, by kind of file.
pub static DEVICE_READS: MetricDefinition = MetricDefinition::counter(
    "ringlog_device_reads_total",
    Unit::Count,
    "Reads from files, by kind of file.",
);
/// Their bytes.
pub static DEVICE_READ_BYTES: MetricDefinition = MetricDefinition::counter(
    "ringlog_device_read_bytes_total",
    Unit::Bytes,
    "Bytes read from files, by kind of file.",
);
/// Flushes of the device, by kind of file.
pub static DEVICE_FLUSHES: MetricDefinition = MetricDefinition::counter(
    "ringlog_device_flushes_total",
    Unit::Count,
    "Flushes of files besides durable writes, by kind of file; file_system: one flush for all files.",
);
/// Group writes that need no flush.
pub static JOURNAL_DURABLE_WRITES: MetricDefinition = MetricDefinition::counter(
    "ringlog_journal_durable_writes_total",
    Unit::Count,
    "Commit groups written so that the write itself was durable (O_DSYNC).",
);
/// The journal's files that replay would need.
pub static JOURNAL_USED_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_journal_used_bytes",
    Unit::Bytes,
    "Bytes of the journal that are not free for new groups.",
);
/// The journal's files together.
pub static JOURNAL_CAPACITY_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_journal_capacity_bytes",
    Unit::Bytes,
    "Bytes of the journal's files.",
);
/// How many they are.
pub static JOURNAL_FILES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_journal_files",
    Unit::Count,
    "Files of the journal.",
);
/// The extent cache now.
pub static CACHE_USED_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_cache_used_bytes",
    Unit::Bytes,
    "Memory of the extent cache in use.",
);
/// The extent cache's budget.
pub static CACHE_CAPACITY_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_cache_capacity_bytes",
    Unit::Bytes,
    "Memory that the extent cache may use.",
);
/// Extents found.
pub static CACHE_HITS: MetricDefinition = MetricDefinition::counter(
    "ringlog_cache_hits_total",
    Unit::Count,
    "Extents found in the cache.",
);
/// Extents not found.
pub static CACHE_MISSES: MetricDefinition = MetricDefinition::counter(
    "ringlog_cache_misses_total",
    Unit::Count,
    "Extents read from the device.",
);
/// Extents that gave way.
pub static CACHE_EVICTIONS: MetricDefinition = MetricDefinition::counter(
    "ringlog_cache_evictions_total",
    Unit::Count,
    "Entries that left the cache because others needed their memory.",
);
/// Memory behind the recent batches.
pub static TAIL_USED_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_tail_used_bytes",
    Unit::Bytes,
    "Memory of commit groups that the tails of the logs keep.",
);
/// Its limit.
pub static TAIL_CAPACITY_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_tail_capacity_bytes",
    Unit::Bytes,
    "Memory that the tails of the logs may keep.",
);
/// Reads by where they were served from.
pub static LOG_READS: MetricDefinition = MetricDefinition::counter(
    "ringlog_log_reads_total",
    Unit::Count,
    "Reads of logs by where they were served: from memory of recent batches (tail) or from segments.",
);
/// Checkpoints written.
pub static CHECKPOINTS: MetricDefinition = MetricDefinition::counter(
    "ringlog_checkpoints_total",
    Unit::Count,
    "Checkpoints written.",
);
/// Checkpoints that say what has changed.
pub static CHECKPOINT_INCREMENTS: MetricDefinition = MetricDefinition::counter(
    "ringlog_checkpoint_increments_total",
    Unit::Count,
    "Checkpoints that were written as what has changed since the one before.",
);
/// Batches written to the journal twice.
pub static CARRIED_BYTES: MetricDefinition = MetricDefinition::counter(
    "ringlog_journal_carried_bytes_total",
    Unit::Bytes,
    "Batches written to the journal a second time, so that a file of it could be used again.",
);
/// Batches written once.
pub static PLACED_BYTES: MetricDefinition = MetricDefinition::counter(
    "ringlog_placed_bytes_total",
    Unit::Bytes,
    "Batches that were written to their segment only, not to the journal.",
);
/// Files open.
pub static OPEN_FILES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_open_files",
    Unit::Count,
    "Segment and index files that are open.",
);
/// Files used again.
pub static SEGMENTS_TAKEN_OVER: MetricDefinition = MetricDefinition::counter(
    "ringlog_segments_taken_over_total",
    Unit::Count,
    "Segments that were begun in the file of one that is gone.",
);
/// Indexes of aborted transactions that were read from the log again.
pub static TRANSACTION_INDEXES_REBUILT: MetricDefinition = MetricDefinition::counter(
    "ringlog_transaction_indexes_rebuilt_total",
    Unit::Count,
    "Indexes of aborted transactions that were damaged or missing, and were written anew from their log.",
);
/// Files kept for that.
pub static SPARES_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_spares_bytes",
    Unit::Bytes,
    "Bytes of files of gone segments that are kept for new ones.",
);
/// Logs of the shard.
pub static LOGS: MetricDefinition =
    MetricDefinition::gauge("ringlog_logs", Unit::Count, "Partition logs.");
