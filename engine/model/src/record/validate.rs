//! What a leader checks before it appends a batch that a client produced.
//!
//! The order of checks and the code of each defect are those of Apache Kafka 4.3.1, in two stages that differ in the
//! answer: defects of the request's framing and of the batch's size and checksum are answered without a log start offset,
//! defects of its content with one ([`ValidationError::has_log_start_offset`]).
//!
//! Hot path. An uncompressed batch costs its CRC and one walk over the records, without allocation. What Kafka lets pass
//! and every consumer would stumble over is refused here: offset deltas other than 0, 1, 2 ..., and lengths below -1.

use crate::error_code::ErrorCode;
use crate::primitives::{PrimitiveError, Reader};
use crate::time::Timestamp;

use super::compression::{
    Compression, CompressionError, DecompressionScratch, check_frame, decompress,
};
use super::crc::crc_matches;
use super::header::{BatchHeader, HEADER_LEN, LOG_OVERHEAD, TimestampType};
use super::record::skip_headers;

/// Rejected records that an answer lists; the rest is only counted.
pub const REJECTED_RECORDS_LISTED_MAX: usize = 100;
/// `batch_length` below this cannot be a batch of any format: the overhead of a magic 0 message.
const LENGTH_MIN: i32 = 14;
/// Bytes up to and including the magic.
const LEN_UP_TO_MAGIC: usize = 17;

/// How deep compressed batches are checked (`ringlog.compressed.validation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressedValidation {
    /// Decompress and walk every record.
    #[default]
    Full,
    /// Trust the checksum and look at the codec's frame header only. Compacted topics are walked all the same.
    Frame,
}

/// What the topic and the request demand of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidationRules {
    /// Largest batch as sent, in bytes (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// Largest append, in bytes (`segment.bytes`).
    pub segment_bytes_max: usize,
    /// Whether each record needs a key (`cleanup.policy` has `compact`).
    pub key_required: bool,
    /// Who stamps the records (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
    /// How far behind the broker's clock a record may be, in ms (`message.timestamp.before.max.ms`).
    pub timestamp_before_ms_max: i64,
    /// How far ahead of it, in ms (`message.timestamp.after.max.ms`).
    pub timestamp_after_ms_max: i64,
    /// How deep compressed batches are checked.
    pub compressed_validation: CompressedValidation,
    /// Whether zstd is allowed: Produce v7 and later (KIP-110).
    pub zstd_allowed: bool,
}

impl Default for ValidationRules {
    /// The rules of a topic with Kafka's defaults.
    fn default() -> Self {
        ValidationRules {
            batch_bytes_max: 1_048_588,
            segment_bytes_max: 1 << 30,
            key_required: false,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_ms_max: i64::MAX,
            timestamp_after_ms_max: 3_600_000,
            compressed_validation: CompressedValidation::Full,
            zstd_allowed: true,
        }
    }
}

/// What validation learned about a good batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    /// The header as sent.
    pub header: BatchHeader,
    /// Bytes of the batch; what follows in the request is dropped.
    pub size_bytes: usize,
    /// The codec it came with.
    pub compression: Compression,
    /// The largest timestamp of the records, or the broker's clock on a `LogAppendTime` topic; -1 if none has one.
    pub max_timestamp: Timestamp,
    /// Offset delta of the first record with that timestamp.
    pub offset_delta_of_max_timestamp: i32,
    /// Whether the header's timestamp type or largest timestamp differ from what must be stored: call
    /// [`super::set_max_timestamp`] with the topic's type and [`BatchInfo::max_timestamp`] before appending.
    pub timestamp_patch_needed: bool,
}

/// A record that its topic does not accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRecord {
    /// Its index in the batch.
    pub batch_index: i32,
    /// Why.
    pub message: String,
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
        /// The first [`REJECTED_RECORDS_LISTED_MAX`] of them.
        records: Vec<RejectedRecord>,
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
            E::MagicUnknown(_) | E::LengthInvalid(_) | E::RecordsRejected { .. }
        )
        .then(|| self.to_string())
    }

    /// The records the answer lists.
    pub fn rejected_records(&self) -> &[RejectedRecord] {
        match self {
            ValidationError::RecordsRejected { records, .. } => records,
            _ => &[],
        }
    }

    /// The records the answer lists, as index and text.
    pub fn record_errors(&self) -> Vec<(i32, String)> {
        let records = self.rejected_records().iter();
        records
            .map(|record| (record.batch_index, record.message.clone()))
            .collect()
    }
}

/// Checks what a client sent for one partition. `batch` may be followed by stray bytes, which are ignored.
///
/// `now` is the broker's clock.
pub fn validate(
    batch: &[u8],
    rules: &ValidationRules,
    now: Timestamp,
    scratch: &mut DecompressionScratch,
) -> Result<BatchInfo, ValidationError> {
    let (header, batch) = split_request(batch)?;
    if header.attributes.codec() == Compression::Zstd.id() && !rules.zstd_allowed {
        return Err(ValidationError::ZstdTooEarly);
    }
    if header.base_offset.0 != 0 {
        return Err(ValidationError::BaseOffsetInvalid(header.base_offset.0));
    }
    if batch.len() > rules.batch_bytes_max {
        return Err(ValidationError::BatchTooLarge {
            size_bytes: batch.len(),
            size_bytes_max: rules.batch_bytes_max,
        });
    }
    if !crc_matches(batch) {
        return Err(ValidationError::CrcMismatch);
    }
    let compression = header.compression()?;
    check_header(&header)?;
    let payload = batch.get(HEADER_LEN..).unwrap_or_default();
    let frame_only = compression != Compression::None
        && rules.compressed_validation == CompressedValidation::Frame
        && !rules.key_required;
    let newest = if frame_only {
        check_frame(compression, payload)?;
        check_header_timestamp(&header, rules, now)?
    } else {
        let records = decompress(compression, payload, scratch)?;
        Walk::new(&header, rules, now).run(records)?
    };
    if batch.len() > rules.segment_bytes_max {
        return Err(ValidationError::LargerThanSegment {
            size_bytes: batch.len(),
            segment_bytes_max: rules.segment_bytes_max,
        });
    }
    let newest = match rules.timestamp_type {
        TimestampType::CreateTime => newest,
        TimestampType::LogAppendTime => Newest {
            timestamp: now,
            offset_delta: 0,
        },
    };
    Ok(BatchInfo {
        header,
        size_bytes: batch.len(),
        compression,
        max_timestamp: newest.timestamp,
        offset_delta_of_max_timestamp: newest.offset_delta,
        timestamp_patch_needed: header.timestamp_type() != rules.timestamp_type
            || header.max_timestamp != newest.timestamp,
    })
}

/// Bytes of the whole batch at the front of a request's records; `None` if it is not whole.
///
/// Accepts every format's magic, as the request stage must name outdated ones.
fn framed_size(bytes: &[u8]) -> Result<Option<usize>, ValidationError> {
    let Some(prefix) = bytes.first_chunk::<LOG_OVERHEAD>() else {
        return Ok(None);
    };
    let [.., a, b, c, d] = *prefix;
    let length = i32::from_be_bytes([a, b, c, d]);
    if length < LENGTH_MIN {
        return Err(ValidationError::LengthInvalid(length));
    }
    let Some([.., magic]) = bytes.first_chunk::<LEN_UP_TO_MAGIC>() else {
        return Ok(None);
    };
    if *magic > 2 {
        return Err(ValidationError::MagicUnknown(magic.cast_signed()));
    }
    let size = LOG_OVERHEAD.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    Ok((size <= bytes.len()).then_some(size))
}

/// The request stage: exactly one whole batch of magic 2.
fn split_request(bytes: &[u8]) -> Result<(BatchHeader, &[u8]), ValidationError> {
    let size = framed_size(bytes)?.ok_or(ValidationError::NoBatch)?;
    let (batch, rest) = bytes
        .split_at_checked(size)
        .ok_or(ValidationError::NoBatch)?;
    if let Some(magic @ 0..2) = batch.get(LEN_UP_TO_MAGIC - 1).copied() {
        return Err(ValidationError::MagicOutdated(magic.cast_signed()));
    }
    if framed_size(rest)?.is_some() {
        return Err(ValidationError::MoreThanOneBatch);
    }
    let length = size.saturating_sub(LOG_OVERHEAD);
    // Long enough for an old message, too short for a header of magic 2.
    let header = BatchHeader::parse(batch)
        .map_err(|_| ValidationError::LengthInvalid(i32::try_from(length).unwrap_or(i32::MAX)))?;
    Ok((header, batch))
}

fn check_header(header: &BatchHeader) -> Result<(), ValidationError> {
    let slots = i64::from(header.last_offset_delta) + 1;
    if header.record_count <= 0 || slots != i64::from(header.record_count) {
        return Err(ValidationError::CountInvalid {
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    if header.is_control() {
        return Err(ValidationError::ControlBatch);
    }
    if header.is_idempotent() && header.base_sequence < 0 {
        return Err(ValidationError::SequenceMissing);
    }
    Ok(())
}

/// The largest timestamp so far and where it was first seen.
#[derive(Clone, Copy)]
struct Newest {
    timestamp: Timestamp,
    offset_delta: i32,
}

/// Timestamps that a topic accepts; "no timestamp" is always accepted.
#[derive(Clone, Copy)]
struct TimestampWindow {
    min: i64,
    max: i64,
}

impl TimestampWindow {
    fn new(rules: &ValidationRules, now: Timestamp) -> TimestampWindow {
        match rules.timestamp_type {
            TimestampType::LogAppendTime => TimestampWindow {
                min: i64::MIN,
                max: i64::MAX,
            },
            TimestampType::CreateTime => TimestampWindow {
                min: now.0.saturating_sub(rules.timestamp_before_ms_max),
                max: now.0.saturating_add(rules.timestamp_after_ms_max),
            },
        }
    }

    #[inline(always)]
    fn accepts(self, timestamp: i64) -> bool {
        (timestamp >= self.min && timestamp <= self.max) || timestamp == Timestamp::NONE.0
    }

    fn rejection(self, timestamp: i64) -> String {
        format!(
            "timestamp {timestamp} is outside the accepted range {} to {}",
            self.min, self.max
        )
    }
}

/// The `frame` level sees no records: the header's largest timestamp stands for them.
fn check_header_timestamp(
    header: &BatchHeader,
    rules: &ValidationRules,
    now: Timestamp,
) -> Result<Newest, ValidationError> {
    let window = TimestampWindow::new(rules, now);
    let timestamp = header.max_timestamp;
    if !window.accepts(timestamp.0) {
        return Err(ValidationError::RecordsRejected {
            count: header.record_count,
            timestamp: true,
            records: vec![RejectedRecord {
                batch_index: 0,
                message: window.rejection(timestamp.0),
            }],
        });
    }
    Ok(Newest {
        timestamp: timestamp.max(Timestamp::NONE),
        offset_delta: header.last_offset_delta,
    })
}

/// The fields of a record that validation needs.
struct Fields {
    timestamp_delta: i64,
    offset_delta: i32,
    has_key: bool,
}

/// One pass over the records of a batch.
struct Walk {
    record_count: i32,
    base_timestamp: i64,
    /// On batches that claim `LogAppendTime` every record has the batch's timestamp.
    batch_timestamp: Option<i64>,
    window: TimestampWindow,
    key_required: bool,
    newest: Newest,
    rejected: Rejected,
}

/// Records rejected so far.
#[derive(Default)]
struct Rejected {
    count: i32,
    timestamp: bool,
    records: Vec<RejectedRecord>,
}

impl Walk {
    fn new(header: &BatchHeader, rules: &ValidationRules, now: Timestamp) -> Walk {
        let batch_timestamp = (header.timestamp_type() == TimestampType::LogAppendTime)
            .then_some(header.max_timestamp.0);
        Walk {
            record_count: header.record_count,
            base_timestamp: header.base_timestamp.0,
            batch_timestamp,
            window: TimestampWindow::new(rules, now),
            key_required: rules.key_required,
            newest: Newest {
                timestamp: Timestamp::NONE,
                offset_delta: 0,
            },
            rejected: Rejected::default(),
        }
    }

    fn run(mut self, records: &[u8]) -> Result<Newest, ValidationError> {
        let mut rest = Reader::new(records);
        for index in 0..self.record_count {
            if rest.is_empty() {
                return Err(ValidationError::RecordsMissing {
                    present: index,
                    announced: self.record_count,
                });
            }
            let fields = read_fields(&mut rest, index)?;
            if fields.offset_delta != index {
                return Err(ValidationError::OffsetDeltaInvalid {
                    index,
                    offset_delta: fields.offset_delta,
                });
            }
            let timestamp = match self.batch_timestamp {
                None => self.base_timestamp.wrapping_add(fields.timestamp_delta),
                Some(timestamp) => timestamp,
            };
            if timestamp > self.newest.timestamp.0 {
                self.newest = Newest {
                    timestamp: Timestamp(timestamp),
                    offset_delta: index,
                };
            }
            if (self.key_required && !fields.has_key) || !self.window.accepts(timestamp) {
                self.reject(index, fields.has_key, timestamp);
            }
        }
        if !rest.is_empty() {
            return Err(ValidationError::RecordsLeftOver(self.record_count));
        }
        if self.rejected.count > 0 {
            let Rejected {
                count,
                timestamp,
                records,
            } = self.rejected;
            return Err(ValidationError::RecordsRejected {
                count,
                timestamp,
                records,
            });
        }
        Ok(self.newest)
    }

    /// Notes a rejected record. A missing key hides a bad timestamp, as in Kafka.
    #[cold]
    fn reject(&mut self, index: i32, has_key: bool, timestamp: i64) {
        let missing_key = self.key_required && !has_key;
        self.rejected.count = self.rejected.count.saturating_add(1);
        self.rejected.timestamp |= !missing_key;
        if self.rejected.records.len() < REJECTED_RECORDS_LISTED_MAX {
            let message = if missing_key {
                "a compacted topic takes no record without a key".to_owned()
            } else {
                self.window.rejection(timestamp)
            };
            self.rejected.records.push(RejectedRecord {
                batch_index: index,
                message,
            });
        }
    }
}

#[inline(always)]
fn read_fields(rest: &mut Reader<'_>, index: i32) -> Result<Fields, ValidationError> {
    let length = match rest.varint() {
        Ok(length) => length,
        Err(error) => return Err(length_error(index, error)),
    };
    let body = usize::try_from(length)
        .map_err(|_| PrimitiveError::NegativeLength)
        .and_then(|length| rest.take(length));
    let mut body = match body {
        Ok(body) => Reader::new(body),
        Err(error) => return Err(malformed(index, error)),
    };
    match read_body(&mut body) {
        Ok(fields) if body.is_empty() => Ok(fields),
        Ok(_) => Err(ValidationError::RecordOverlong(index)),
        Err(error) => Err(malformed(index, error)),
    }
}

#[inline(always)]
fn read_body(body: &mut Reader<'_>) -> Result<Fields, PrimitiveError> {
    body.u8()?;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let has_key = body.varint_nullable_bytes()?.is_some();
    body.varint_nullable_bytes()?;
    // Almost every record has no headers: one zero byte.
    if body.rest() == [0] {
        body.u8()?;
    } else {
        skip_headers(body)?;
    }
    Ok(Fields {
        timestamp_delta,
        offset_delta,
        has_key,
    })
}

#[cold]
fn malformed(index: i32, error: PrimitiveError) -> ValidationError {
    ValidationError::RecordMalformed { index, error }
}

#[cold]
fn length_error(index: i32, error: PrimitiveError) -> ValidationError {
    match error {
        PrimitiveError::VarintTooLong => ValidationError::RecordLengthUnreadable(index),
        error => malformed(index, error),
    }
}
