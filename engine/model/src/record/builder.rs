//! Builds record batches: for tests, the load generator and internal topics.
//!
//! Offset deltas are dense from 0. The timestamp of the first record becomes the base timestamp.

use bytes::{BufMut, Bytes};

use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use crate::offset::Offset;
use crate::primitives::{
    put_varint, put_varint_nullable_bytes, put_varlong, varint_size, varlong_size,
};
use crate::time::Timestamp;

use super::compression::{Compression, CompressionError, compress};
use super::header::{
    Attributes, BatchError, BatchHeader, HEADER_LEN, LOG_OVERHEAD, MAGIC, TimestampType, set_crc,
};

/// Why a batch could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A batch holds at least one record.
    #[error("a batch needs at least one record")]
    Empty,
    /// The batch does not fit its 31-bit length.
    #[error("a batch of {0} bytes is too large")]
    TooLarge(usize),
    /// The bytes that were written are no batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A codec failed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
}

/// Collects records and writes them as one batch.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    compression: Compression,
    level: Option<i32>,
    records: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// A builder of an uncompressed batch without producer, with base offset 0 and no leader epoch, as a client sends it.
    pub fn new() -> BatchBuilder {
        BatchBuilder {
            header: BatchHeader {
                base_offset: Offset::ZERO,
                batch_length: 0,
                leader_epoch: LeaderEpoch::NONE,
                magic: MAGIC,
                crc: 0,
                attributes: Attributes::default(),
                last_offset_delta: -1,
                base_timestamp: Timestamp::NONE,
                max_timestamp: Timestamp::NONE,
                producer_id: ProducerId::NONE,
                producer_epoch: ProducerEpoch::NONE,
                base_sequence: -1,
                record_count: 0,
            },
            compression: Compression::None,
            level: None,
            records: Vec::new(),
        }
    }

    /// The codec.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The codec's level; without it the codec's default.
    #[must_use]
    pub fn level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// The offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, base_offset: Offset) -> Self {
        self.header.base_offset = base_offset;
        self
    }

    /// The leader epoch.
    #[must_use]
    pub fn leader_epoch(mut self, leader_epoch: LeaderEpoch) -> Self {
        self.header.leader_epoch = leader_epoch;
        self
    }

    /// The idempotent producer and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn transactional(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(on);
        self
    }

    /// Whether the batch holds a control record.
    #[must_use]
    pub fn control(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_control(on);
        self
    }

    /// Marks the batch as stamped by the broker at `now`, whatever the records' own timestamps are.
    #[must_use]
    pub fn log_append_time(mut self, now: Timestamp) -> Self {
        self.header.attributes = self
            .header
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        self.header.max_timestamp = now;
        self
    }

    /// Adds a record without headers.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> &mut Self {
        self.push_with_headers(timestamp, key, value, &[])
    }

    /// Adds a record.
    ///
    /// Panics if a field is 2 GiB or larger: callers bound their records far below.
    pub fn push_with_headers(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> &mut Self {
        if self.header.record_count == 0 {
            self.header.base_timestamp = timestamp;
        }
        if self.header.attributes.timestamp_type() == TimestampType::CreateTime {
            self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        }
        let timestamp_delta = timestamp.0.wrapping_sub(self.header.base_timestamp.0);
        let offset_delta = self.header.record_count;
        let header_bytes: usize = headers
            .iter()
            .map(|(key, value)| field_size(Some(key.as_bytes())) + field_size(*value))
            .sum();
        let header_count = wire_length(headers.len());
        let length = 1
            + varlong_size(timestamp_delta)
            + varint_size(offset_delta)
            + field_size(key)
            + field_size(value)
            + varint_size(header_count)
            + header_bytes;
        let out = &mut self.records;
        out.reserve(length + 5);
        put_varint(out, wire_length(length));
        out.put_u8(0);
        put_varlong(out, timestamp_delta);
        put_varint(out, offset_delta);
        put_varint_nullable_bytes(out, key);
        put_varint_nullable_bytes(out, value);
        put_varint(out, header_count);
        for (key, value) in headers {
            put_varint_nullable_bytes(out, Some(key.as_bytes()));
            put_varint_nullable_bytes(out, *value);
        }
        self.header.last_offset_delta = offset_delta;
        self.header.record_count = offset_delta
            .checked_add(1)
            .expect("a batch holds fewer than 2^31 records");
        self
    }

    /// Count of records so far.
    pub fn len(&self) -> usize {
        usize::try_from(self.header.record_count).unwrap_or(0)
    }

    /// Whether there is no record yet.
    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Bytes of the batch if it were built now without compression.
    pub fn uncompressed_bytes(&self) -> usize {
        HEADER_LEN + self.records.len()
    }

    /// Writes the batch. The builder keeps its records and may be built again or added to.
    pub fn build(&self) -> Result<Bytes, BuildError> {
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        write_batch(self.header, self.compression, self.level, &self.records)
    }
}

/// Bytes of a field with its varint length.
fn field_size(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => varint_size(wire_length(bytes.len())) + bytes.len(),
    }
}

fn wire_length(length: usize) -> i32 {
    i32::try_from(length).expect("a record has fewer than 2^31 bytes")
}

/// Writes header and records; fills in the length, the codec and the CRC.
fn write_batch(
    mut header: BatchHeader,
    compression: Compression,
    level: Option<i32>,
    records: &[u8],
) -> Result<Bytes, BuildError> {
    let mut out = Vec::with_capacity(HEADER_LEN + records.len());
    out.extend_from_slice(&[0; HEADER_LEN]);
    compress(compression, level, records, &mut out)?;
    header.batch_length =
        i32::try_from(out.len() - LOG_OVERHEAD).map_err(|_| BuildError::TooLarge(out.len()))?;
    header.attributes = header.attributes.with_compression(compression);
    out[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    set_crc(&mut out)?;
    Ok(Bytes::from(out))
}
