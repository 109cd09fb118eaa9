//! What can go wrong, one enum per operation. Kafka's error codes are chosen at the edge, not here.

use std::io;
use std::path::PathBuf;

use model::{LeaderEpoch, Offset, ProducerEpoch, ShardId};

/// Why a data directory cannot be opened. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The machine refused.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The machine's answer.
        source: io::Error,
    },
    /// Bytes that were known to be durable are damaged or gone.
    #[error(
        "{file} is damaged at byte {position}: {reason}. Acknowledged records may be affected, so nothing was \
         changed. Restore the file, or move the data directory away and let the broker copy its partitions from other \
         replicas",
        file = path.display()
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where, in bytes.
        position: u64,
        /// What was expected and found.
        reason: String,
    },
    /// A shard that was there before has left nothing.
    #[error(
        "checkpoints and journal of shard {shard} are gone from {directory}, which has had {shards} shards. They held \
         acknowledged records, so nothing was changed. Restore {directory}/checkpoint/{shard}.* and \
         {directory}/journal/{shard} together with everything else from one copy, or start once with \
         ringlog.accept.lost.data=true (--accept-lost-data): segments that no checkpoint names are then set aside in \
         lost+found",
        directory = directory.display()
    )]
    ShardLost {
        /// Which.
        shard: ShardId,
        /// How many there were.
        shards: u32,
        /// The data directory.
        directory: PathBuf,
    },
    /// The data of another broker.
    #[error(
        "{directory} holds data of {found}: nothing was changed. Start the broker that it belongs to, or give this one \
         a directory of its own",
        directory = directory.display()
    )]
    OtherBroker {
        /// The data directory.
        directory: PathBuf,
        /// Whose it is.
        found: String,
    },
    /// A format of another version.
    #[error("{file} has format {found}, this build reads {supported}: use the release that wrote it", file = path.display())]
    FormatUnsupported {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: u16,
        /// The version that can be read.
        supported: u16,
    },
    /// Dividing the logs over another number of shards needs space, and there is none.
    #[error(
        "no space left on the device to divide the logs over another number of cores: start with {present} cores as before, \
         free space, and then change the number"
    )]
    NoSpaceToDivide {
        /// Shards there are.
        present: u16,
    },
    /// Options that cannot work together.
    #[error("storage options: {0}")]
    Options(String),
    /// Writing what recovery found failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why the storage of a shard could not do background or final work.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// A write or flush failed before: nothing is acknowledged any more until the process restarts.
    #[error("storage is fenced: {0}")]
    Fenced(String),
    /// The device is full. Goes away by itself when space returns.
    #[error("no space left on the device")]
    DiskFull,
    /// Stored bytes do not match their checksum.
    #[error("{0}")]
    Corrupt(String),
}

/// Why an append was refused. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The batch does not continue its producer's sequence (KIP-98).
    #[error("sequence {found} does not follow {last}")]
    OutOfOrderSequence {
        /// The first sequence of the batch.
        found: i32,
        /// The last sequence known, -1 if none.
        last: i32,
    },
    /// A newer epoch of the producer is known (KIP-98).
    #[error("producer epoch {found} is older than {current}")]
    InvalidProducerEpoch {
        /// The batch's epoch.
        found: ProducerEpoch,
        /// The newest epoch known.
        current: ProducerEpoch,
    },
    /// Records outside a transaction, of a producer that has one open in this log (KIP-98).
    #[error("the producer's transaction, open from offset {first_offset} on, has not ended")]
    TransactionOpen {
        /// The transaction's first offset.
        first_offset: Offset,
    },
    /// A newer coordinator has ended a transaction of the producer.
    #[error("transaction coordinator epoch {found} is older than {current}")]
    CoordinatorFenced {
        /// The marker's epoch.
        found: i32,
        /// The newest known.
        current: i32,
    },
    /// As many transactions are open in the log as there is room for; retriable.
    #[error("{open} transactions are open in the log")]
    TooManyTransactions {
        /// How many.
        open: usize,
    },
    /// The device is full; retriable.
    #[error("no space left on the device")]
    DiskFull,
    /// The journal has no room until older records have reached their segments; retriable, and does not happen to
    /// who waits for admission first.
    #[error("the journal is full for the moment")]
    JournalFull,
    /// A write or flush failed: this shard's storage takes no more appends until the process restarts.
    #[error("storage is fenced: {0}")]
    Fenced(String),
    /// The storage is being closed: what came after would be missing in the checkpoint of a clean stop.
    #[error("storage is being closed")]
    Closing,
    /// The batch does not fit a journal file.
    #[error("a batch of {bytes} bytes is larger than {bytes_max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest possible.
        bytes_max: usize,
    },
    /// The log was deleted.
    #[error("the log was deleted")]
    Deleted,
    /// The log is being cut: this replica has just changed its leader. Retriable.
    #[error("the log is being cut")]
    Held,
    /// The bytes are not exactly one record batch.
    #[error("not a record batch")]
    Malformed,
    /// The leader epoch is older than the log's latest.
    #[error("leader epoch {found} is older than {latest}")]
    LeaderEpochStale {
        /// The append's epoch.
        found: LeaderEpoch,
        /// The log's latest.
        latest: LeaderEpoch,
    },
    /// An offset to delete up to that lies beyond the log's end.
    #[error("offset {offset} is beyond the log end {log_end_offset}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The log's end.
        log_end_offset: Offset,
    },
}

/// Why what a leader sent was refused. Nothing of it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowError {
    /// As any append.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A batch whose checksum does not match.
    #[error("the batch at offset {0} from the leader is damaged")]
    Damaged(Offset),
    /// A batch that begins before the log's end.
    #[error("a batch at offset {found} from the leader in a log that ends at {log_end_offset}")]
    NotNext {
        /// Its first offset.
        found: Offset,
        /// The log's end.
        log_end_offset: Offset,
    },
}

/// Why a read was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {offset} is outside {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// The log's start.
        log_start_offset: Offset,
        /// The log's end (exclusive).
        log_end_offset: Offset,
    },
    /// Stored bytes do not match their checksum. They are never served.
    #[error("{file} is damaged at byte {position}: {reason}", file = path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// Where, in bytes.
        position: u64,
        /// What did not match.
        reason: String,
    },
    /// The machine refused.
    #[error("reading {path}: {kind}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The machine's answer.
        kind: io::ErrorKind,
    },
    /// The storage is fenced.
    #[error("storage is fenced: {0}")]
    Fenced(String),
}

/// Why a log was not cut. It is as before.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CutError {
    /// The log is being cut already.
    #[error("the log is being cut already")]
    Busy,
    /// The log was deleted.
    #[error("the log was deleted")]
    Deleted,
    /// The storage is being closed.
    #[error("storage is being closed")]
    Closing,
    /// The journal has no room for the marks; retriable.
    #[error("the journal is full for the moment")]
    JournalFull,
    /// The log would end before it begins: it is to be reset instead.
    #[error("offset {offset} is below the log start {log_start_offset}")]
    BelowStart {
        /// Where it was to be cut.
        offset: Offset,
        /// The log's start.
        log_start_offset: Offset,
    },
    /// What is left could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writes fail.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Wraps an I/O error with what was tried on which file.
pub(crate) fn open_io(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.into();
    move |source| OpenError::Io {
        action,
        path,
        source,
    }
}
