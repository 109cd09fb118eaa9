//! What a leader checks before it appends a batch that a client produced.
//!
//! The order of checks and the code of each defect are those of Apache Kafka 4.3.1, in two stages that differ in the
//! answer: defects of the request's framing and of the batch's size and checksum are answered without a log start offset,
//! defects of its content with one ([`ValidationError::has_log_start_offset`]).
//!
//! Hot path. An uncompressed batch costs its CRC and one walk over the records, without allocation. What Kafka lets pass
//! and every consumer would stumble over is refused here: offset deltas other than 0, 1, 2 ..., and lengths below -1.

mod check;
mod error;
mod partial_record;
mod walk;

use crate::time::Timestamp;

use super::compression::Compression;
use super::crc::crc_matches;
use super::decompression::{DECOMPRESSED_BYTES_MAX, DecompressionScratch};
use super::header::{BatchHeader, HEADER_LEN, LOG_OVERHEAD, TimestampType};

use walk::{Newest, Walk};

pub use check::{BatchCheck, CheckedBatch};
pub use error::{
    REJECTED_RECORDS_EXPLAINED_MAX, REJECTED_RECORDS_LISTED_MAX, RejectedRecords, ValidationError,
};

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
    /// What one compressed batch may decompress to, in bytes (`ringlog.batch.decompressed.bytes.max`).
    pub decompressed_bytes_max: u64,
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
            decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
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

/// Checks what a client sent for one partition, in one go. `batch` may be followed by stray bytes, which are ignored.
///
/// `now` is the broker's clock. Whoever must let others run in between uses [`BatchCheck`].
pub fn validate(
    batch: &[u8],
    rules: &ValidationRules,
    now: Timestamp,
    scratch: &mut DecompressionScratch,
) -> Result<BatchInfo, ValidationError> {
    let front = Front::check(batch, rules)?;
    if front.compression != Compression::None {
        let checked = BatchCheck::of_front(front, rules, now)?.run(scratch)?;
        return Ok(checked.info(rules.timestamp_type, now));
    }
    let newest = Walk::new(&front.header, rules, now).run(front.payload())?;
    check_segment(front.batch.len(), rules)?;
    let size_bytes = front.batch.len();
    let (header, compression) = (front.header, front.compression);
    let timestamp_type = rules.timestamp_type;
    Ok(BatchInfo::new(
        header,
        size_bytes,
        compression,
        newest,
        timestamp_type,
        now,
    ))
}

impl BatchInfo {
    /// Of a good batch, on a topic of this timestamp type, at `now`.
    #[inline(always)]
    fn new(
        header: BatchHeader,
        size_bytes: usize,
        compression: Compression,
        newest: Newest,
        timestamp_type: TimestampType,
        now: Timestamp,
    ) -> BatchInfo {
        let newest = match timestamp_type {
            TimestampType::CreateTime => newest,
            TimestampType::LogAppendTime => Newest {
                timestamp: now,
                offset_delta: 0,
            },
        };
        BatchInfo {
            header,
            size_bytes,
            compression,
            max_timestamp: newest.timestamp,
            offset_delta_of_max_timestamp: newest.offset_delta,
            timestamp_patch_needed: header.timestamp_type() != timestamp_type
                || header.max_timestamp != newest.timestamp,
        }
    }
}

/// An append is at most one segment.
#[inline(always)]
fn check_segment(size_bytes: usize, rules: &ValidationRules) -> Result<(), ValidationError> {
    if size_bytes > rules.segment_bytes_max {
        return Err(ValidationError::LargerThanSegment {
            size_bytes,
            segment_bytes_max: rules.segment_bytes_max,
        });
    }
    Ok(())
}

/// A batch of which everything but the records has been checked.
#[derive(Clone, Copy)]
struct Front<'a> {
    header: BatchHeader,
    batch: &'a [u8],
    compression: Compression,
}

impl<'a> Front<'a> {
    fn check(bytes: &'a [u8], rules: &ValidationRules) -> Result<Front<'a>, ValidationError> {
        let (header, batch) = split_request(bytes)?;
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
        Ok(Front {
            header,
            batch,
            compression,
        })
    }

    fn payload(&self) -> &'a [u8] {
        self.batch.get(HEADER_LEN..).unwrap_or_default()
    }

    /// The records are good, too.
    fn checked(
        &self,
        newest: Newest,
        rules: &ValidationRules,
    ) -> Result<CheckedBatch, ValidationError> {
        CheckedBatch::new(
            self.header,
            self.batch.len(),
            self.compression,
            newest,
            rules,
        )
    }
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
