//! Control batches: one record that speaks to the protocol, not to the consumer.
//!
//! The key is (version i16, type i16); an end marker's value is (version i16, coordinator epoch i32). KIP-98.
//! A snapshot of a log begins with a header, whose value is (version i16, timestamp of the last record it stands for i64,
//! tagged fields), and ends with a footer (version i16, tagged fields). KIP-630. The header may hold a tagged field of ours.

use bytes::{BufMut as _, Bytes};

use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId};
use crate::offset::Offset;
use crate::primitives::{PrimitiveError, Reader, put_no_tagged_fields, put_tagged_fields};
use crate::time::Timestamp;

use super::batch::split_first_batch;
use super::builder::{BatchBuilder, BuildError};
use super::compression::Compression;
use super::decompression::DecompressionScratch;
use super::record::{Record, RecordError, read_records};

const KEY_VERSION: i16 = 0;
const END_MARKER_VERSION: i16 = 0;
const SNAPSHOT_VERSION: i16 = 0;

/// The tagged field of a snapshot's header that is ours. Kafka passes over tags that it does not know.
const SNAPSHOT_MARK_TAG: u32 = 10_000;

/// Types of control records.
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndMarker {
    /// Its records must not be seen by `read_committed` consumers.
    Abort,
    /// Its records may be seen.
    Commit,
}

/// What a control record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// The end of a transaction.
    EndMarker {
        /// How it ended.
        marker: EndMarker,
        /// Epoch of the coordinator that wrote the marker.
        coordinator_epoch: i32,
    },
    /// A snapshot begins.
    SnapshotHeader {
        /// Of the last record that the snapshot stands for.
        last_contained_log_timestamp: Timestamp,
    },
    /// A snapshot is complete.
    SnapshotFooter,
    /// Another type of the protocol's: 2 leader change, 5 KRaft version, 6 voters.
    Other(i16),
}

/// Why a control batch cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// Control batches are never compressed.
    #[error("a control batch is compressed")]
    Compressed,
    /// The batch or its record is none.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The key or the value is malformed.
    #[error("the control record is malformed: {0}")]
    Malformed(#[from] PrimitiveError),
    /// The end of a transaction is a record alone.
    #[error("a transaction ends with {0} records")]
    NotAlone(i32),
}

/// What the control batch at the front of `batch` says; `None` if compaction has left nothing but its header (KIP-534).
///
/// Only the first record is looked at: what the metadata quorum writes may hold more, of other types. Checks sizes and
/// fields, not the checksum.
pub fn read_control_batch(batch: &[u8]) -> Result<Option<ControlRecord>, ControlError> {
    let (header, batch, _) = split_first_batch(batch).map_err(RecordError::from)?;
    if header.compression().map_err(RecordError::from)? != Compression::None {
        return Err(ControlError::Compressed);
    }
    // Nothing is decompressed: it stays empty.
    let mut scratch = DecompressionScratch::new();
    let mut records = read_records(batch, &mut scratch)?;
    let Some(record) = records.next() else {
        return Ok(None);
    };
    let control = decode_control_record(&record?)?;
    let is_end = matches!(control, ControlRecord::EndMarker { .. });
    if is_end && (records.next().is_some() || header.last_offset_delta != 0) {
        return Err(ControlError::NotAlone(header.record_count));
    }
    Ok(Some(control))
}

/// Reads the record of a control batch.
pub fn decode_control_record(record: &Record<'_>) -> Result<ControlRecord, PrimitiveError> {
    let mut key = Reader::new(record.key.ok_or(PrimitiveError::UnexpectedNull)?);
    // Later versions only append fields.
    let version = key.i16()?;
    if version < KEY_VERSION {
        return Err(PrimitiveError::NegativeLength);
    }
    let kind = key.i16()?;
    if !matches!(kind, ABORT | COMMIT | SNAPSHOT_HEADER | SNAPSHOT_FOOTER) {
        return Ok(ControlRecord::Other(kind));
    }
    let mut value = Reader::new(record.value.ok_or(PrimitiveError::UnexpectedNull)?);
    value.i16()?;
    Ok(match kind {
        SNAPSHOT_HEADER => ControlRecord::SnapshotHeader {
            last_contained_log_timestamp: Timestamp(value.i64()?),
        },
        SNAPSHOT_FOOTER => ControlRecord::SnapshotFooter,
        _ => ControlRecord::EndMarker {
            marker: match kind {
                ABORT => EndMarker::Abort,
                _ => EndMarker::Commit,
            },
            coordinator_epoch: value.i32()?,
        },
    })
}

fn control_key(kind: i16) -> [u8; 4] {
    let mut key = [0; 4];
    key[..2].copy_from_slice(&KEY_VERSION.to_be_bytes());
    key[2..].copy_from_slice(&kind.to_be_bytes());
    key
}

/// The control batch that ends a transaction, base offset 0.
pub fn end_marker_batch(
    marker: EndMarker,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    coordinator_epoch: i32,
    now: Timestamp,
) -> Result<Bytes, BuildError> {
    let key = control_key(match marker {
        EndMarker::Abort => ABORT,
        EndMarker::Commit => COMMIT,
    });
    let mut value = [0; 6];
    value[..2].copy_from_slice(&END_MARKER_VERSION.to_be_bytes());
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new()
        .producer(producer_id, producer_epoch, -1)
        .transactional(true)
        .control(true);
    builder.push(now, Some(&key), Some(&value));
    builder.build()
}

/// The batch that begins a snapshot; its offset is 0. `mark` is whatever its owner keeps with it; empty: nothing.
pub fn snapshot_header_batch(
    epoch: LeaderEpoch,
    last_contained_log_timestamp: Timestamp,
    mark: &[u8],
    now: Timestamp,
) -> Result<Bytes, BuildError> {
    let mut value = Vec::new();
    value.put_i16(SNAPSHOT_VERSION);
    value.put_i64(last_contained_log_timestamp.0);
    let marks = [(SNAPSHOT_MARK_TAG, mark)];
    put_tagged_fields(&mut value, &marks[..usize::from(!mark.is_empty())]);
    snapshot_control(SNAPSHOT_HEADER, &value, Offset::ZERO, epoch, now)
}

/// What its owner keeps with a snapshot, in the record that begins it; empty: nothing.
pub fn snapshot_mark<'a>(header: &Record<'a>) -> Result<&'a [u8], PrimitiveError> {
    let mut value = Reader::new(header.value.ok_or(PrimitiveError::UnexpectedNull)?);
    value.i16()?;
    value.i64()?;
    let mut mark: &[u8] = &[];
    value.tagged_fields(|tag, field| {
        if tag == SNAPSHOT_MARK_TAG {
            mark = field;
        }
        Ok::<(), PrimitiveError>(())
    })?;
    Ok(mark)
}

/// The batch that ends a snapshot, at the offset behind that of its last record.
pub fn snapshot_footer_batch(
    offset: Offset,
    epoch: LeaderEpoch,
    now: Timestamp,
) -> Result<Bytes, BuildError> {
    let mut value = Vec::new();
    value.put_i16(SNAPSHOT_VERSION);
    put_no_tagged_fields(&mut value);
    snapshot_control(SNAPSHOT_FOOTER, &value, offset, epoch, now)
}

fn snapshot_control(
    kind: i16,
    value: &[u8],
    offset: Offset,
    epoch: LeaderEpoch,
    now: Timestamp,
) -> Result<Bytes, BuildError> {
    let mut builder = BatchBuilder::new()
        .base_offset(offset)
        .leader_epoch(epoch)
        .control(true);
    builder.push(now, Some(&control_key(kind)), Some(value));
    builder.build()
}
