//! The records inside a batch.
//!
//! Reading borrows: keys, values and headers are slices of the batch, or of the scratch buffer it was decompressed into.
//! Timestamps add with wrap-around, as every client does, so that no input can fail there.

use bytes::Bytes;

use crate::offset::Offset;
use crate::primitives::{PrimitiveError, Reader};
use crate::time::Timestamp;

use super::batch::split_first_batch;
use super::compression::CompressionError;
use super::decompression::{DecompressionScratch, decompress};
use super::header::{BatchError, BatchHeader, HEADER_LEN, TimestampType};

/// Bytes of the smallest record: length, attributes, two deltas, null key, null value, no headers.
pub const RECORD_BYTES_MIN: usize = 7;

/// Why the records of a batch could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The batch itself is not one.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The records do not decompress.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record is malformed.
    #[error("record {index} is malformed: {error}")]
    Malformed {
        /// Its index in the batch.
        index: i32,
        /// What is wrong with it.
        error: PrimitiveError,
    },
    /// A record's fields do not fill its length.
    #[error("record {0} is longer than its fields")]
    Overlong(i32),
    /// The records end before or after the count in the header.
    #[error("the batch does not hold the {0} records it announces")]
    CountMismatch(i32),
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset in the partition: the batch's base offset plus its delta.
    pub offset: Offset,
    /// Its own timestamp, or the batch's append time.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: RecordHeaders<'a>,
}

impl Record<'_> {
    /// A copy that owns its bytes.
    pub fn to_owned_record(&self) -> OwnedRecord {
        OwnedRecord {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(Bytes::copy_from_slice),
            value: self.value.map(Bytes::copy_from_slice),
            headers: self
                .headers
                .map(|(key, value)| {
                    (
                        Bytes::copy_from_slice(key),
                        value.map(Bytes::copy_from_slice),
                    )
                })
                .collect(),
        }
    }
}

/// One record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Its offset in the partition.
    pub offset: Offset,
    /// Its own timestamp, or the batch's append time.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Header keys (UTF-8 by convention) and values.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The headers of a record: an iterator of key and value. They were checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeaders<'a> {
    rest: &'a [u8],
    count: u32,
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let mut reader = Reader::new(self.rest);
        let key = reader.varint_nullable_bytes().ok()??;
        let value = reader.varint_nullable_bytes().ok()?;
        self.rest = reader.rest();
        Some((key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count as usize, Some(self.count as usize))
    }
}

/// Reads past the header fields of a record and gives their count; for the reader and for validation.
#[inline]
pub(super) fn skip_headers(body: &mut Reader<'_>) -> Result<u32, PrimitiveError> {
    let count = u32::try_from(body.varint()?).map_err(|_| PrimitiveError::NegativeLength)?;
    // A header takes two bytes or more, so the loop is bounded by the record's bytes.
    if count as usize > body.remaining() / 2 {
        return Err(PrimitiveError::ArrayTooLong);
    }
    for _ in 0..count {
        body.varint_nullable_bytes()?
            .ok_or(PrimitiveError::UnexpectedNull)?;
        body.varint_nullable_bytes()?;
    }
    Ok(count)
}

/// Iterates over the records of one batch. Ends after its first error.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    header: BatchHeader,
    rest: Reader<'a>,
    index: i32,
    failed: bool,
}

/// The records of the batch at the front of `batch`, decompressed into `scratch` if need be.
///
/// Checks the sizes, not the checksum: that is for who received or read the bytes ([`super::crc_matches`]).
pub fn read_records<'a>(
    batch: &'a [u8],
    scratch: &'a mut DecompressionScratch,
) -> Result<RecordIter<'a>, RecordError> {
    let (header, batch, _) = split_first_batch(batch)?;
    let payload = batch.get(HEADER_LEN..).unwrap_or_default();
    let records = decompress(header.compression()?, payload, scratch)?;
    Ok(RecordIter {
        header,
        rest: Reader::new(records),
        index: 0,
        failed: false,
    })
}

/// All records of one batch, owned. For tests, tools and internal topics.
pub fn read_records_owned(batch: &[u8]) -> Result<Vec<OwnedRecord>, RecordError> {
    let mut scratch = DecompressionScratch::new();
    read_records(batch, &mut scratch)?
        .map(|record| Ok(record?.to_owned_record()))
        .collect()
}

impl<'a> RecordIter<'a> {
    /// The header of the batch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        let index = self.index;
        let malformed = |error| RecordError::Malformed { index, error };
        let length = self.rest.varint().map_err(malformed)?;
        let length =
            usize::try_from(length).map_err(|_| malformed(PrimitiveError::NegativeLength))?;
        let mut body = Reader::new(self.rest.take(length).map_err(malformed)?);
        let record = self.read_body(&mut body).map_err(malformed)?;
        if !body.is_empty() {
            return Err(RecordError::Overlong(index));
        }
        Ok(record)
    }

    fn read_body(&self, body: &mut Reader<'a>) -> Result<Record<'a>, PrimitiveError> {
        body.u8()?;
        let timestamp_delta = body.varlong()?;
        let offset_delta = body.varint()?;
        let key = body.varint_nullable_bytes()?;
        let value = body.varint_nullable_bytes()?;
        let mut headers = *body;
        let count = skip_headers(body)?;
        headers.varint()?;
        let timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => {
                Timestamp(self.header.base_timestamp.0.wrapping_add(timestamp_delta))
            }
        };
        Ok(Record {
            offset: Offset(
                self.header
                    .base_offset
                    .0
                    .wrapping_add(i64::from(offset_delta)),
            ),
            timestamp,
            key,
            value,
            headers: RecordHeaders {
                rest: headers.rest(),
                count,
            },
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let announced = self.index < self.header.record_count;
        if announced == self.rest.is_empty() {
            self.failed = true;
            return Some(Err(RecordError::CountMismatch(self.header.record_count)));
        }
        if !announced {
            return None;
        }
        let record = self.read();
        self.failed = record.is_err();
        self.index += 1;
        Some(record)
    }
}
