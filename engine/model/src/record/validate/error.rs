//! Why a batch was refused, and what the client is told.

use crate::error_code::ErrorCode;
use crate::primitives::PrimitiveError;

use super::super::compression::CompressionError;

/// Rejected records that an answer lists. An uncompressed batch of the default `max.message.bytes` holds fewer, so all of
/// them are listed, as in Kafka; four bytes for each, which has seven itself. Beyond that they are only counted.
pub const REJECTED_RECORDS_LISTED_MAX: usize = 150_000;
/// Listed records that come with a text of their own. For the others clients show the text of the whole answer.
pub const REJECTED_RECORDS_EXPLAINED_MAX: usize = 100;

/// The records that their topic does not accept, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RejectedRecords {
    indices: Vec<i32>,
    reasons: Vec<String>,
}

impl RejectedRecords {
    /// Lists one more, if there is room.
    pub(super) fn push(&mut self, index: i32, reason: impl FnOnce() -> String) {
        if self.indices.len() < REJECTED_RECORDS_LISTED_MAX {
            self.indices.push(index);
        }
        if self.reasons.len() < REJECTED_RECORDS_EXPLAINED_MAX {
            self.reasons.push(reason());
        }
    }

    /// How many are listed.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The index in the batch of each, and why, for the first [`REJECTED_RECORDS_EXPLAINED_MAX`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i32, Option<&str>)> {
        let reasons = |at: usize| self.reasons.get(at).map(String::as_str);
        let indices = self.indices.iter().enumerate();
        indices.map(move |(at, index)| (*index, reasons(at)))
    }
}

/// Why a batch was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidationError {
    /// Not even one whole batch.
    #[error("the request holds no whole record batch for the partition")]
    NoBatch,
    /// A second batch for the same partition.
    #[error("the request holds more than one record batch for the partition")]
    MoreThanOneBatch,
    /// Message formats 0 and 1.
    #[error("message format {0} is no longer accepted")]
    MagicOutdated(i8),
    /// A format that never existed.
    #[error("record format (magic) {0} does not exist")]
    MagicUnknown(i8),
    /// The length field is below the size of any batch.
    #[error("batch length {0} is below the smallest batch")]
    LengthInvalid(i32),
    /// zstd needs Produce v7.
    #[error("zstd needs version 7 of the produce request")]
    ZstdTooEarly,
    /// Clients number from 0.
    #[error("the base offset of a produced batch must be 0, not {0}")]
    BaseOffsetInvalid(i64),
    /// Larger than `max.message.bytes`.
    #[error("the batch has {size_bytes} bytes, the topic allows {size_bytes_max}")]
    BatchTooLarge {
        /// Its size.
        size_bytes: usize,
        /// The bound.
        size_bytes_max: usize,
    },
    /// The checksum does not match.
    #[error("the checksum of the batch does not match its bytes")]
    CrcMismatch,
    /// The attributes name a codec that does not exist, or the records do not decompress.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// Count 0 or less, or a count other than the offsets say.
    #[error(
        "the batch announces {record_count} records and a last offset delta of {last_offset_delta}"
    )]
    CountInvalid {
        /// Records announced.
        record_count: i32,
        /// Offsets announced, less one.
        last_offset_delta: i32,
    },
    /// Clients do not write control records.
    #[error("a client may not write control records")]
    ControlBatch,
    /// An idempotent producer numbers its batches.
    #[error("an idempotent batch must have a sequence number")]
    SequenceMissing,
    /// The length of a record is no number at all.
    #[error("the length of record {0} cannot be read")]
    RecordLengthUnreadable(i32),
    /// A record is malformed.
    #[error("record {index} is malformed: {error}")]
    RecordMalformed {
        /// Its index.
        index: i32,
        /// What is wrong.
        error: PrimitiveError,
    },
    /// A record's fields do not fill its length.
    #[error("record {0} is longer than its fields")]
    RecordOverlong(i32),
    /// Offset deltas are 0, 1, 2 ...
    #[error("record {index} has offset delta {offset_delta}")]
    OffsetDeltaInvalid {
        /// Its index.
        index: i32,
        /// Its delta.
        offset_delta: i32,
    },
    /// The records end before the count.
    #[error("the batch ends after {present} of {announced} records")]
    RecordsMissing {
        /// Records present.
        present: i32,
        /// Records announced.
        announced: i32,
    },
    /// Bytes follow the last record.
    #[error("bytes follow the last of {0} records")]
    RecordsLeftOver(i32),
    /// Records that the topic does not accept.
    #[error("{count} records were rejected, {}", if *timestamp { "at least one for its timestamp" } else { "for having no key" })]
    RecordsRejected {
        /// How many.
        count: i32,
        /// Whether any was rejected for its timestamp.
        timestamp: bool,
        /// Which, up to [`REJECTED_RECORDS_LISTED_MAX`] of them.
        records: RejectedRecords,
    },
    /// Larger than a segment.
    #[error("the batch has {size_bytes} bytes, a segment holds {segment_bytes_max}")]
    LargerThanSegment {
        /// Its size.
        size_bytes: usize,
        /// The bound.
        segment_bytes_max: usize,
    },
}

impl ValidationError {
    /// The code of the answer.
    pub fn error_code(&self) -> ErrorCode {
        use ValidationError as E;
        match self {
            E::MagicUnknown(_) | E::LengthInvalid(_) | E::CrcMismatch => ErrorCode::CorruptMessage,
            E::BatchTooLarge { .. } => ErrorCode::MessageTooLarge,
            E::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            E::ZstdTooEarly => ErrorCode::UnsupportedCompressionType,
            // Kafka has no such bound. The cure is that of a batch that is too large as it is: Java's producer splits it.
            E::Compression(
                CompressionError::TooLarge { .. } | CompressionError::RequestTooLarge { .. },
            ) => ErrorCode::MessageTooLarge,
            // Kafka has no code for these: its decoders throw.
            E::Compression(_) | E::RecordLengthUnreadable(_) => ErrorCode::UnknownServerError,
            E::RecordsRejected {
                timestamp: true, ..
            } => ErrorCode::InvalidTimestamp,
            E::NoBatch
            | E::MoreThanOneBatch
            | E::MagicOutdated(_)
            | E::BaseOffsetInvalid(_)
            | E::CountInvalid { .. }
            | E::ControlBatch
            | E::SequenceMissing
            | E::RecordMalformed { .. }
            | E::RecordOverlong(_)
            | E::OffsetDeltaInvalid { .. }
            | E::RecordsMissing { .. }
            | E::RecordsLeftOver(_)
            | E::RecordsRejected { .. } => ErrorCode::InvalidRecord,
        }
    }

    /// Whether the answer names the partition's log start offset; otherwise that field is -1.
    pub fn has_log_start_offset(&self) -> bool {
        use ValidationError as E;
        !matches!(
            self,
            E::NoBatch
                | E::MoreThanOneBatch
                | E::MagicOutdated(_)
                | E::MagicUnknown(_)
                | E::LengthInvalid(_)
                | E::ZstdTooEarly
                | E::BatchTooLarge { .. }
                | E::CrcMismatch
                | E::LargerThanSegment { .. }
        )
    }

    /// The text of the answer, where Kafka gives one. [`std::fmt::Display`] always has words, for logs.
    pub fn message(&self) -> Option<String> {
        use ValidationError as E;
        matches!(
            self,
            E::MagicUnknown(_)
                | E::LengthInvalid(_)
                | E::RecordsRejected { .. }
                // Where Kafka has no text because it has no such refusal, or only an exception of its decoder.
                | E::Compression(
                    CompressionError::TooLarge { .. }
                        | CompressionError::RequestTooLarge { .. }
                        | CompressionError::NotPortable { .. }
                )
        )
        .then(|| self.to_string())
    }

    /// The records the answer lists.
    pub fn into_rejected_records(self) -> RejectedRecords {
        match self {
            ValidationError::RecordsRejected { records, .. } => records,
            _ => RejectedRecords::default(),
        }
    }
}
