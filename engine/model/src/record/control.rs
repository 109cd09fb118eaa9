//! Control batches: one record that speaks to the protocol, not to the consumer.
//!
//! The key is (version i16, type i16); an end marker's value is (version i16, coordinator epoch i32). KIP-98.

use bytes::Bytes;

use crate::ids::{ProducerEpoch, ProducerId};
use crate::primitives::{PrimitiveError, Reader};
use crate::time::Timestamp;

use super::builder::{BatchBuilder, BuildError};
use super::record::Record;

const KEY_VERSION: i16 = 0;
const END_MARKER_VERSION: i16 = 0;

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
    /// Another type of the protocol's: 2 leader change, 3 and 4 snapshot header and footer, 5 KRaft version, 6 voters.
    Other(i16),
}

/// Reads the record of a control batch.
pub fn decode_control_record(record: &Record<'_>) -> Result<ControlRecord, PrimitiveError> {
    let mut key = Reader::new(record.key.ok_or(PrimitiveError::UnexpectedNull)?);
    // Later versions only append fields.
    let version = key.i16()?;
    if version < KEY_VERSION {
        return Err(PrimitiveError::NegativeLength);
    }
    let marker = match key.i16()? {
        0 => EndMarker::Abort,
        1 => EndMarker::Commit,
        other => return Ok(ControlRecord::Other(other)),
    };
    let mut value = Reader::new(record.value.ok_or(PrimitiveError::UnexpectedNull)?);
    value.i16()?;
    Ok(ControlRecord::EndMarker {
        marker,
        coordinator_epoch: value.i32()?,
    })
}

/// The control batch that ends a transaction, base offset 0.
pub fn end_marker_batch(
    marker: EndMarker,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    coordinator_epoch: i32,
    now: Timestamp,
) -> Result<Bytes, BuildError> {
    let kind: i16 = match marker {
        EndMarker::Abort => 0,
        EndMarker::Commit => 1,
    };
    let mut key = [0; 4];
    key[..2].copy_from_slice(&KEY_VERSION.to_be_bytes());
    key[2..].copy_from_slice(&kind.to_be_bytes());
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
