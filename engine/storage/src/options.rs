//! Settings of a shard's storage, of one log, and of one append.

use std::path::PathBuf;
use std::time::Duration;

use model::{LeaderEpoch, ShardId, Timestamp};
use runtime::ALIGNMENT;

use crate::error::OpenError;
use crate::identity::BrokerIdentity;
use crate::journal::frame::{ENTRY_HEADER_BYTES, GROUP_HEADER_BYTES};

/// How a commit group becomes durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushMethod {
    /// Measure both at start and take the faster.
    #[default]
    Probe,
    /// O_DSYNC writes.
    DurableWrite,
    /// A write, then fdatasync.
    WriteThenSync,
}

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After the device has made it durable: survives power loss.
    #[default]
    Flushed,
    /// After the write has completed: survives `kill -9`.
    Written,
}

/// What is wrong on purpose.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedFault {
    /// Groups are acknowledged before they are durable.
    EarlyAcknowledgement,
    /// A cut leaves no mark in the journal.
    CutUnmarked,
    /// A cut leaves segment files as they are, and what comes next is written behind them.
    CutOnlyInMemory,
    /// What is cut off is given back before a checkpoint knows of the cut.
    CutTrimsAtOnce,
    /// Segments after a cut have the names of those before.
    CutKeepsGeneration,
    /// A log is cut while groups of it are under way.
    CutWithoutBarrier,
    /// Emptying a log leaves no mark in the journal.
    ResetUnmarked,
    /// A gap of the leader's log is not noted.
    GapUnmarked,
    /// Producers are left as they were before a cut.
    CutKeepsProducers,
    /// What the quorum member promises is not written.
    QuorumUnmarked,
    /// The beginning of an epoch is not written.
    EpochUnmarked,
    /// A checkpoint that says what has changed leaves it out.
    IncrementLeavesOut,
    /// It is built on before it is durable.
    IncrementUnsynced,
    /// What a group has placed in a segment is not flushed with it.
    PlacedUnsynced,
    /// Batches are placed in segments whose files may not be durably there.
    PlacedUnnamed,
    /// A start writes where batches were placed that no checkpoint knows.
    PlacedWrittenOver,
    /// A snapshot gets its name without having been flushed.
    SnapshotUnsynced,
    /// A log is cut before the snapshot behind it is durable.
    SnapshotCutsEarly,
    /// Older snapshots are removed before the newer one is durable.
    SnapshotRemovesEarly,
    /// Deletions count as durable while they are not.
    DeletionsConfirmedEarly,
    /// A cut leaves aborted transactions whose markers it took.
    CutKeepsAborted,
    /// A checkpoint names pages of aborted transactions that are not durable.
    AbortedUnsynced,
    /// Aborted transactions are lost on the way from the tail to a segment.
    AbortedForgotten,
    /// A cut does not reopen the transactions whose markers it took.
    CutKeepsEnded,
}

/// Settings of one shard's storage. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// The broker's data directory.
    pub directory: PathBuf,
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shard_count: u16,
    /// Size of the first journal file of a fresh node, small so that it is ready at once.
    pub journal_first_file_bytes: u64,
    /// Size of further journal files.
    pub journal_file_bytes: u64,
    /// Bound of the shard's journal files together.
    pub journal_bytes_max: u64,
    /// A commit group is sealed when it reaches this size; a larger batch makes a group of its own.
    pub group_bytes_max: usize,
    /// Groups being written at once.
    pub groups_in_flight_max: usize,
    /// While a group is in flight, the next is sealed only if it has this size: small groups gain more from filling
    /// than from overlapping.
    pub group_overlap_bytes_min: usize,
    /// Batches of one log in a group go straight to their segment if they have so many bytes together, and the journal
    /// only describes them; 0: never. The segment's file must have the space already, and a checkpoint must know it.
    pub place_bytes_min: usize,
    /// Bound of what is placed between two checkpoints: a start brings it back into memory.
    pub placed_bytes_max: u64,
    /// Memory of the tails, by capacity of the group buffers they pin.
    pub tail_bytes_max: usize,
    /// Memory of the extent cache for cold reads.
    pub cache_bytes_max: u64,
    /// Segment and index files open at once.
    pub open_files_max: usize,
    /// How flushed groups become durable.
    pub flush_method: FlushMethod,
    /// A log's tail goes to its segment when it has this much that is not there yet. Small, because a commit group that is
    /// written meanwhile waits for the device; when much comes, more has gathered when its turn comes.
    pub segment_write_bytes: usize,
    /// Dirty remains up to this size are carried over in the journal instead of written to their segment.
    pub carry_bytes_max: usize,
    /// Smallest run of batches under one checksum and one index entry.
    pub index_chunk_bytes: u32,
    /// Cold reads fetch about this much at once.
    pub extent_bytes: u32,
    /// Above this many files to be flushed, one syncfs replaces the fdatasyncs.
    pub sync_files_max: usize,
    /// Bound of the files that are kept for new segments (`ringlog.spares.bytes.max`).
    pub spares_bytes_max: u64,
    /// Smaller ones are not kept: they are not worth two changes of names.
    pub spare_bytes_min: u64,
    /// Tasks that write segments.
    pub segment_writers: usize,
    /// Time between two looks for expired segments and producers (`log.retention.check.interval.ms`).
    pub retention_check_interval: Duration,
    /// An operation that the device has not answered for so long fences the shard (reliability R10).
    pub io_time_max: Duration,
    /// Shards that the data directory is known to have had: one that is missing is damage, not news. 0 if that was not
    /// noted, then the shards that are there tell of those before them.
    pub shards_known: u16,
    /// Whose data it is: a directory of another broker is refused. `None` asks nothing and notes nothing.
    pub identity: Option<BrokerIdentity>,
    /// Start although a shard's journal and checkpoints are gone (`ringlog.accept.lost.data`).
    pub accept_lost_data: bool,
    /// Something that is wrong on purpose, so that tests can prove that they would notice.
    #[doc(hidden)]
    pub planted: Option<PlantedFault>,
}

impl Default for StorageOptions {
    fn default() -> StorageOptions {
        StorageOptions {
            directory: PathBuf::from("ringlog-data"),
            shard: ShardId(0),
            shard_count: 1,
            journal_first_file_bytes: 1 << 20,
            journal_file_bytes: 64 << 20,
            journal_bytes_max: 512 << 20,
            group_bytes_max: 1 << 20,
            groups_in_flight_max: 3,
            group_overlap_bytes_min: 64 << 10,
            place_bytes_min: 0,
            placed_bytes_max: 64 << 20,
            tail_bytes_max: 256 << 20,
            cache_bytes_max: 64 << 20,
            open_files_max: 1024,
            flush_method: FlushMethod::Probe,
            segment_write_bytes: 256 << 10,
            carry_bytes_max: 8 << 10,
            index_chunk_bytes: 64 << 10,
            extent_bytes: 256 << 10,
            sync_files_max: 32,
            spares_bytes_max: 4 << 30,
            spare_bytes_min: 1 << 20,
            segment_writers: 4,
            retention_check_interval: Duration::from_secs(300),
            io_time_max: Duration::from_secs(30),
            shards_known: 0,
            identity: None,
            accept_lost_data: false,
            planted: None,
        }
    }
}

impl StorageOptions {
    /// Whether this is wrong on purpose.
    pub(crate) fn is_planted(&self, fault: PlantedFault) -> bool {
        self.planted == Some(fault)
    }

    /// The largest batch that can be appended: one that fills a whole journal file.
    pub fn batch_bytes_max(&self) -> usize {
        let file = usize::try_from(self.journal_file_bytes).unwrap_or(usize::MAX);
        file.saturating_sub(GROUP_HEADER_BYTES + ENTRY_HEADER_BYTES + ALIGNMENT)
            .min(i32::MAX as usize)
    }

    /// Tails are kept up to this, so that whoever asks for admission finds room for a group above it. Were it higher,
    /// an appender could wait for an eviction that nobody has a reason to make.
    pub(crate) fn tail_kept_bytes_max(&self) -> usize {
        let headroom = self.tail_bytes_max.saturating_sub(self.group_bytes_max);
        (self.tail_bytes_max / 4 * 3).min(headroom)
    }

    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let aligned = |bytes: u64| bytes > 0 && bytes.is_multiple_of(ALIGNMENT as u64);
        let refuse = |reason: &str| Err(OpenError::Options(reason.to_owned()));
        if !aligned(self.journal_first_file_bytes) || !aligned(self.journal_file_bytes) {
            return refuse("journal file sizes must be multiples of 4096");
        }
        let journal_min = self
            .journal_first_file_bytes
            .saturating_add(self.journal_file_bytes.saturating_mul(2));
        if self.journal_bytes_max < journal_min {
            return refuse("journal_bytes_max must hold the first journal file and two more");
        }
        if self.group_bytes_max < 2 * ALIGNMENT
            || self.group_bytes_max as u64 > self.journal_file_bytes
        {
            return refuse("group_bytes_max must be at least 8192 and at most journal_file_bytes");
        }
        let identity = self.identity.as_ref();
        if identity.is_some_and(|identity| !identity.is_storable()) {
            return refuse("a cluster id has at most 255 bytes");
        }
        if self.tail_bytes_max < 2 * self.group_bytes_max {
            return refuse("tail_bytes_max must hold two groups");
        }
        if self.groups_in_flight_max == 0 || self.segment_writers == 0 || self.open_files_max == 0 {
            return refuse("counts must not be zero");
        }
        Ok(())
    }
}

/// Settings of one log, from its topic's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `retention.bytes`; -1 is no bound.
    pub retention_bytes: i64,
    /// `retention.ms`; -1 is for ever.
    pub retention_ms: i64,
    /// Whether `cleanup.policy` contains `delete`.
    pub delete_enabled: bool,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 604_800_000,
            retention_bytes: -1,
            retention_ms: 604_800_000,
            delete_enabled: true,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}

/// Circumstances of one append.
#[derive(Clone, Copy, Debug)]
pub struct AppendContext {
    /// Stamped into the batch.
    pub leader_epoch: LeaderEpoch,
    /// When to report it as committed.
    pub durability: Durability,
    /// Wall-clock time, for producer expiry.
    pub now: Timestamp,
    /// Set if the topic's timestamps are `LogAppendTime`: stamped into the batch.
    pub log_append_time: Option<Timestamp>,
    /// Whether to hold an idempotent producer to its sequence (leaders do, followers do not).
    pub check_producer: bool,
}
