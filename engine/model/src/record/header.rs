//! The 61-byte header of a record batch: read it, and patch it in place.
//!
//! [`BatchHeader::parse`] checks sizes and the magic only; meaning is checked in `validate`.

use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use crate::offset::Offset;
use crate::time::Timestamp;

use super::compression::{Compression, CompressionError};
use super::crc::batch_crc;

/// Bytes of a batch header.
pub const HEADER_LEN: usize = 61;
/// Bytes before what `batch_length` counts: base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// The only record batch format that is written.
pub const MAGIC: i8 = 2;

const LEADER_EPOCH_START: usize = 12;
const MAGIC_START: usize = 16;
pub(super) const CRC_START: usize = 17;
/// First byte that the CRC covers.
pub(super) const CRC_FROM: usize = 21;
const ATTRIBUTES_START: usize = 21;
const MAX_TIMESTAMP_START: usize = 35;
/// The smallest legal `batch_length`: a header without records.
const BATCH_LENGTH_MIN: i32 = (HEADER_LEN - LOG_OVERHEAD) as i32;

/// Why bytes are not a record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header.
    #[error("{0} bytes are too few for a batch header")]
    HeaderCut(usize),
    /// `batch_length` is smaller than the rest of a header.
    #[error("batch length {0} is below the smallest batch")]
    LengthInvalid(i32),
    /// Not magic 2.
    #[error("record format (magic) {0} is not supported")]
    MagicUnsupported(i8),
    /// The batch announces more bytes than there are.
    #[error("a batch of {needed} bytes has only {present}")]
    Cut {
        /// Bytes the batch announces.
        needed: usize,
        /// Bytes there are.
        present: usize,
    },
    /// The checksum does not match.
    #[error("the checksum of the batch does not match its bytes")]
    CrcMismatch,
}

/// Where the timestamps of a batch come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer stamped each record (`CreateTime`).
    #[default]
    CreateTime,
    /// The broker stamped the batch (`LogAppendTime`).
    LogAppendTime,
}

/// The attribute bits of a batch: 0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC_MASK: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// The codec number, 0 to 7.
    #[inline]
    pub fn codec(self) -> u8 {
        (self.0 & Self::CODEC_MASK) as u8
    }

    /// The codec; an error for the numbers 5 to 7.
    #[inline]
    pub fn compression(self) -> Result<Compression, CompressionError> {
        Compression::from_id(self.codec())
    }

    /// Where the timestamps come from.
    #[inline]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[inline]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record.
    #[inline]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is a delete horizon (KIP-534).
    #[inline]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// These bits with another codec.
    #[must_use]
    pub fn with_compression(self, compression: Compression) -> Attributes {
        Attributes(self.0 & !Self::CODEC_MASK | i16::from(compression.id()))
    }

    /// These bits with another timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, timestamp_type: TimestampType) -> Attributes {
        self.with(
            Self::LOG_APPEND_TIME,
            timestamp_type == TimestampType::LogAppendTime,
        )
    }

    /// These bits with the transactional bit set or cleared.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Attributes {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// These bits with the control bit set or cleared.
    #[must_use]
    pub fn with_control(self, on: bool) -> Attributes {
        self.with(Self::CONTROL, on)
    }

    fn with(self, bit: i16, on: bool) -> Attributes {
        Attributes(if on { self.0 | bit } else { self.0 & !bit })
    }
}

/// The header of a record batch, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record slot. 0 from clients.
    pub base_offset: Offset,
    /// Bytes after this field: the size of the batch less [`LOG_OVERHEAD`].
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch. -1 from clients.
    pub leader_epoch: LeaderEpoch,
    /// Always 2.
    pub magic: i8,
    /// CRC-32C over bytes 21 to the end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record slot less the base offset; kept even if that record was compacted away.
    pub last_offset_delta: i32,
    /// Timestamp that record deltas add to, or the delete horizon.
    pub base_timestamp: Timestamp,
    /// Largest timestamp of the records, or the append time.
    pub max_timestamp: Timestamp,
    /// The producer, or -1.
    pub producer_id: ProducerId,
    /// Its epoch, or -1.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// Count of records present.
    pub record_count: i32,
}

fn field<const N: usize>(header: &[u8; HEADER_LEN], start: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[start..start + N]);
    bytes
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may hold more or less than the whole batch.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header = bytes
            .first_chunk::<HEADER_LEN>()
            .ok_or(BatchError::HeaderCut(bytes.len()))?;
        let batch_length = i32::from_be_bytes(field(header, 8));
        if batch_length < BATCH_LENGTH_MIN {
            return Err(BatchError::LengthInvalid(batch_length));
        }
        let magic = i8::from_be_bytes(field(header, MAGIC_START));
        if magic != MAGIC {
            return Err(BatchError::MagicUnsupported(magic));
        }
        Ok(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(field(header, 0))),
            batch_length,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(field(header, LEADER_EPOCH_START))),
            magic,
            crc: u32::from_be_bytes(field(header, CRC_START)),
            attributes: Attributes(i16::from_be_bytes(field(header, ATTRIBUTES_START))),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: Timestamp(i64::from_be_bytes(field(header, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(header, MAX_TIMESTAMP_START))),
            producer_id: ProducerId(i64::from_be_bytes(field(header, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(field(header, 51))),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        })
    }

    /// The header as bytes, `crc` as it stands in the field.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let mut put = |start: usize, bytes: &[u8]| {
            out[start..start + bytes.len()].copy_from_slice(bytes);
        };
        put(0, &self.base_offset.0.to_be_bytes());
        put(8, &self.batch_length.to_be_bytes());
        put(LEADER_EPOCH_START, &self.leader_epoch.0.to_be_bytes());
        put(MAGIC_START, &self.magic.to_be_bytes());
        put(CRC_START, &self.crc.to_be_bytes());
        put(ATTRIBUTES_START, &self.attributes.0.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.0.to_be_bytes());
        put(MAX_TIMESTAMP_START, &self.max_timestamp.0.to_be_bytes());
        put(43, &self.producer_id.0.to_be_bytes());
        put(51, &self.producer_epoch.0.to_be_bytes());
        put(53, &self.base_sequence.to_be_bytes());
        put(57, &self.record_count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch. At least [`HEADER_LEN`] for a parsed header.
    #[inline]
    pub fn size_bytes(&self) -> usize {
        usize::try_from(self.batch_length)
            .unwrap_or(0)
            .saturating_add(LOG_OVERHEAD)
    }

    /// Offset of the last record slot. Saturates on a header that was not validated.
    #[inline]
    pub fn last_offset(&self) -> Offset {
        Offset(
            self.base_offset
                .0
                .saturating_add(i64::from(self.last_offset_delta)),
        )
    }

    /// The offset after the last record slot. Saturates on a header that was not validated.
    #[inline]
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// Sequence number of the last record; sequences wrap from 2^31 - 1 to 0. -1 if the batch has none.
    #[inline]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta.max(0));
        (last & i64::from(i32::MAX)) as i32
    }

    /// Whether an idempotent producer wrote the batch.
    #[inline]
    pub fn is_idempotent(&self) -> bool {
        self.producer_id.0 >= 0
    }

    /// Whether the batch belongs to a transaction.
    #[inline]
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Whether the batch holds a control record.
    #[inline]
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// The codec; an error for a number that no codec has.
    #[inline]
    pub fn compression(&self) -> Result<Compression, CompressionError> {
        self.attributes.compression()
    }

    /// Where the timestamps come from.
    #[inline]
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }
}

fn patch(batch: &mut [u8], start: usize, bytes: &[u8]) -> Result<(), BatchError> {
    if batch.len() < HEADER_LEN {
        return Err(BatchError::HeaderCut(batch.len()));
    }
    batch[start..start + bytes.len()].copy_from_slice(bytes);
    Ok(())
}

/// Stamps the base offset. The CRC does not cover it.
#[inline]
pub fn set_base_offset(batch: &mut [u8], base_offset: Offset) -> Result<(), BatchError> {
    patch(batch, 0, &base_offset.0.to_be_bytes())
}

/// Stamps the leader epoch. The CRC does not cover it.
#[inline]
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: LeaderEpoch) -> Result<(), BatchError> {
    patch(batch, LEADER_EPOCH_START, &leader_epoch.0.to_be_bytes())
}

/// Sets the timestamp type and the largest timestamp, and the CRC if that changed anything.
///
/// `batch` must be exactly one batch.
pub fn set_max_timestamp(
    batch: &mut [u8],
    timestamp_type: TimestampType,
    max_timestamp: Timestamp,
) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.size_bytes() != batch.len() {
        return Err(BatchError::Cut {
            needed: header.size_bytes(),
            present: batch.len(),
        });
    }
    if header.timestamp_type() == timestamp_type && header.max_timestamp == max_timestamp {
        return Ok(());
    }
    let attributes = header.attributes.with_timestamp_type(timestamp_type);
    patch(batch, ATTRIBUTES_START, &attributes.0.to_be_bytes())?;
    patch(batch, MAX_TIMESTAMP_START, &max_timestamp.0.to_be_bytes())?;
    set_crc(batch)
}

/// Marks the batch as stamped by the broker at `now` and computes the CRC anew. `batch` must be exactly one batch.
pub fn set_log_append_time(batch: &mut [u8], now: Timestamp) -> Result<(), BatchError> {
    set_max_timestamp(batch, TimestampType::LogAppendTime, now)
}

/// Computes the CRC of exactly one batch and stores it.
pub fn set_crc(batch: &mut [u8]) -> Result<(), BatchError> {
    let crc = batch_crc(batch).ok_or(BatchError::HeaderCut(batch.len()))?;
    patch(batch, CRC_START, &crc.to_be_bytes())
}
