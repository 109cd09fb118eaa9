//! Why a shard refuses, one enum per operation. Kafka's error codes are chosen where the answers are encoded, not here.

use metadata::controller::ControllerError;
use model::record::ValidationError;
use model::{LeaderEpoch, Offset};
use quorum::{EntryError, ProposeRefusal};
use serde::{Deserialize, Serialize};
use storage::{AppendError, ReadError};

/// The present leader of a partition, told to a client that asked somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    /// The broker that leads, or -1.
    pub broker: i32,
    /// In which epoch.
    pub epoch: LeaderEpoch,
}

/// Why a shard does not act as the leader of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeadRefusal {
    /// No topic has it.
    #[error("there is no such partition")]
    Unknown,
    /// Another broker leads it.
    #[error("another broker leads the partition")]
    NotLeader(LeaderHint),
    /// The client knows an older leader epoch than the partition's.
    #[error("the client's leader epoch is over")]
    EpochOver(LeaderHint),
    /// The client knows a newer one.
    #[error("the client's leader epoch is not known yet")]
    EpochAhead(LeaderHint),
}

impl LeadRefusal {
    /// Who leads instead, if the partition exists.
    pub fn leader(&self) -> Option<LeaderHint> {
        match self {
            LeadRefusal::Unknown => None,
            LeadRefusal::NotLeader(hint)
            | LeadRefusal::EpochOver(hint)
            | LeadRefusal::EpochAhead(hint) => Some(*hint),
        }
    }
}

/// Why an append was refused: nothing was written. The text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum AppendRefusal {
    /// The batch does not continue its producer's sequence.
    #[error("{0}")]
    OutOfOrderSequence(String),
    /// A newer epoch of the producer is known.
    #[error("{0}")]
    InvalidProducerEpoch(String),
    /// Records outside the producer's open transaction.
    #[error("{0}")]
    TransactionOpen(String),
    /// A newer transaction coordinator is known.
    #[error("{0}")]
    CoordinatorFenced(String),
    /// The batch does not fit.
    #[error("{0}")]
    TooLarge(String),
    /// The device is full. Goes away by itself.
    #[error("no space left on the device")]
    DiskFull,
    /// Nothing can be appended now: the log is fenced, being closed, or has no room.
    #[error("{0}")]
    Unavailable(String),
    /// The partition's log was deleted.
    #[error("the log was deleted")]
    Deleted,
    /// An offset beyond the end of the log.
    #[error("{0}")]
    OffsetOutOfRange(String),
    /// A newer leader epoch is in the log.
    #[error("{0}")]
    LeaderEpochStale(String),
    /// The bytes are not one batch.
    #[error("{0}")]
    Malformed(String),
}

impl From<AppendError> for AppendRefusal {
    fn from(error: AppendError) -> AppendRefusal {
        let text = error.to_string();
        match error {
            AppendError::OutOfOrderSequence { .. } => AppendRefusal::OutOfOrderSequence(text),
            AppendError::InvalidProducerEpoch { .. } => AppendRefusal::InvalidProducerEpoch(text),
            AppendError::TransactionOpen { .. } => AppendRefusal::TransactionOpen(text),
            AppendError::CoordinatorFenced { .. } => AppendRefusal::CoordinatorFenced(text),
            AppendError::TooLarge { .. } => AppendRefusal::TooLarge(text),
            AppendError::DiskFull => AppendRefusal::DiskFull,
            AppendError::JournalFull
            | AppendError::TooManyTransactions { .. }
            | AppendError::Closing
            | AppendError::Held
            | AppendError::Fenced(_) => AppendRefusal::Unavailable(text),
            AppendError::Deleted => AppendRefusal::Deleted,
            AppendError::OffsetOutOfRange { .. } => AppendRefusal::OffsetOutOfRange(text),
            AppendError::LeaderEpochStale { .. } => AppendRefusal::LeaderEpochStale(text),
            AppendError::Malformed => AppendRefusal::Malformed(text),
        }
    }
}

/// Why records that are in a log are not acknowledged: they may be there for good, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum WaitFailure {
    /// The shard acknowledges nothing more until the broker is started again.
    #[error("the log is fenced")]
    Fenced,
    #[error("the topic was deleted")]
    Deleted,
    /// Another broker leads the partition now.
    #[error("another broker leads the partition now")]
    NotLeader,
    /// The request's time is over.
    #[error("not acknowledged in time")]
    TimedOut,
}

/// Why records that a client produced to one partition were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceRefusal {
    /// This shard does not lead the partition.
    #[error(transparent)]
    Lead(#[from] LeadRefusal),
    /// Too few replicas are in sync for `acks=all`.
    #[error("too few replicas are in sync")]
    NotEnoughInSync,
    /// The records break a rule.
    #[error(transparent)]
    Invalid(Box<ValidationError>),
    /// The log does not take them.
    #[error(transparent)]
    Append(#[from] AppendRefusal),
    /// The log has taken them, but nobody acknowledges them.
    #[error(transparent)]
    NotAcknowledged(#[from] WaitFailure),
}

/// A refusal of produced records, and what is told with it.
#[derive(Clone, Debug)]
pub struct ProduceRefused {
    pub reason: ProduceRefusal,
    /// First offset still in the log, or -1 where it was not looked at.
    pub log_start_offset: Offset,
}

impl ProduceRefused {
    /// A refusal without further details.
    pub fn because(reason: impl Into<ProduceRefusal>) -> Box<ProduceRefused> {
        Box::new(ProduceRefused {
            reason: reason.into(),
            log_start_offset: Offset::NONE,
        })
    }
}

/// Why nothing was read from a partition, or no offset looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadRefusal {
    /// This shard does not lead the partition.
    #[error(transparent)]
    Lead(#[from] LeadRefusal),
    #[error("the offset is not in the log")]
    OffsetOutOfRange,
    /// The bytes cannot be read, or are damaged. The broker's log says more.
    #[error("the log cannot be read")]
    Unreadable,
}

impl From<&ReadError> for ReadRefusal {
    fn from(error: &ReadError) -> ReadRefusal {
        match error {
            ReadError::OffsetOutOfRange { .. } => ReadRefusal::OffsetOutOfRange,
            ReadError::Corrupt { .. } | ReadError::Io { .. } | ReadError::Fenced(_) => {
                ReadRefusal::Unreadable
            }
        }
    }
}

/// Why records were not removed from the front of a partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteRecordsRefusal {
    /// This shard does not lead the partition.
    #[error(transparent)]
    Lead(#[from] LeadRefusal),
    /// The topic's `cleanup.policy` keeps them.
    #[error("the topic's cleanup.policy does not delete")]
    NotDeletable,
    /// The offset lies beyond what can be removed.
    #[error("the offset is beyond the high watermark")]
    OffsetOutOfRange,
    /// The log does not take the new start.
    #[error(transparent)]
    Append(#[from] AppendRefusal),
    /// The new start did not become durable.
    #[error("the new start of the log is not durable")]
    NotDurable,
}

/// Why a decision is not in the metadata log, or may be there without anybody knowing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum WriteRefusal {
    /// The log does not take it.
    #[error(transparent)]
    Append(#[from] AppendRefusal),
    /// It may be in the log.
    #[error(transparent)]
    NotAcknowledged(#[from] WaitFailure),
}

/// Why the controller did not carry out a request as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum MetadataRefusal {
    /// It decided against it.
    #[error("{}", .0.message)]
    Decided(ControllerError),
    /// What it decided does not fit into one batch of the metadata log.
    #[error("the decision does not fit into one batch of the metadata log")]
    TooLarge,
    /// What it decided could not be made durable.
    #[error("the metadata log cannot be written: {0}")]
    NotWritten(WriteRefusal),
    /// Another broker is the controller, or becomes it: what was decided here last may stand or not.
    #[error("this broker is not the controller")]
    NotController,
    /// Too much waits to be committed, or a snapshot is overdue.
    #[error("the controller has too much to do: {0}")]
    Busy(String),
}

impl From<ProposeRefusal> for MetadataRefusal {
    fn from(refusal: ProposeRefusal) -> MetadataRefusal {
        match refusal {
            ProposeRefusal::NotLeader(_) | ProposeRefusal::Transferring => {
                MetadataRefusal::NotController
            }
            ProposeRefusal::Busy | ProposeRefusal::LogFull => {
                MetadataRefusal::Busy(refusal.to_string())
            }
            ProposeRefusal::Malformed(EntryError::Size(..)) => MetadataRefusal::TooLarge,
            ProposeRefusal::Malformed(_) | ProposeRefusal::Control => {
                unreachable!("the controller builds batches of records: {refusal}")
            }
        }
    }
}
