//! One idempotent producer, as one log remembers it: its epoch, its last batches, its open transaction (KIP-98, KIP-890).
//!
//! Pure. Owned by [`crate::ProducerStates`]. Invariant: at most [`BATCHES_REMEMBERED`] batches, all of its present epoch, in
//! append order.

use model::record::{BatchHeader, ControlRecord};
use model::{Offset, ProducerEpoch, Timestamp};
use smallvec::SmallVec;

use crate::encoding::{Decoder, Encoder, Short};
use crate::error::AppendError;

/// Batches remembered per producer: as many as a client may have in flight.
pub(crate) const BATCHES_REMEMBERED: usize = 5;

/// The epoch of a transaction coordinator before the first.
const NO_COORDINATOR: i32 = -1;

const BATCH_BYTES: usize = 28;

/// A batch that a producer may send again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RememberedBatch {
    /// Sequence of its first record.
    pub base_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// Last offset less base offset.
    pub last_offset_delta: i32,
    /// Its largest timestamp, or its append time.
    pub timestamp: Timestamp,
}

impl RememberedBatch {
    /// Offset of its first record.
    pub fn base_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.last_offset_delta))
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Newest epoch seen.
    pub epoch: ProducerEpoch,
    /// Newest epoch of a coordinator that has ended one of its transactions, -1 before the first.
    pub coordinator_epoch: i32,
    /// When it last wrote, by the broker's clock.
    pub last_write: Timestamp,
    /// The first record of its open transaction.
    pub transaction: Option<Offset>,
    /// Its last batches, oldest first.
    pub batches: SmallVec<[RememberedBatch; BATCHES_REMEMBERED]>,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// Append it.
    Append,
    /// It was appended before: answer with these offsets.
    Duplicate(RememberedBatch),
}

/// The sequence after `last`: sequences wrap from 2^31 - 1 to 0.
fn following(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}

impl Producer {
    pub(crate) fn new(epoch: ProducerEpoch, now: Timestamp) -> Producer {
        Producer {
            epoch,
            coordinator_epoch: NO_COORDINATOR,
            last_write: now,
            transaction: None,
            batches: SmallVec::new(),
        }
    }

    /// Judges its next batch. Of a control batch, `control` is what it says.
    pub(crate) fn check(
        &self,
        batch: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> Result<SequenceCheck, AppendError> {
        if batch.is_control() {
            self.check_end(batch, control)?;
            return Ok(SequenceCheck::Append);
        }
        let last_sequence = batch.last_sequence();
        if batch.producer_epoch == self.epoch {
            let same = |known: &&RememberedBatch| {
                known.base_sequence == batch.base_sequence && known.last_sequence == last_sequence
            };
            if let Some(known) = self.batches.iter().find(same) {
                return Ok(SequenceCheck::Duplicate(*known));
            }
        }
        self.check_epoch(batch)?;
        let last = self.batches.last().map_or(-1, |known| known.last_sequence);
        let expected = if batch.producer_epoch == self.epoch {
            // Without a batch the epoch is that of a marker: what follows begins anew, as in Kafka.
            following(last)
        } else if self.epoch == ProducerEpoch::NONE {
            batch.base_sequence
        } else {
            0
        };
        if batch.base_sequence != expected {
            return Err(AppendError::OutOfOrderSequence {
                found: batch.base_sequence,
                last,
            });
        }
        match self.transaction.filter(|_| !batch.is_transactional()) {
            Some(first_offset) => Err(AppendError::TransactionOpen { first_offset }),
            None => Ok(SequenceCheck::Append),
        }
    }

    /// Whether the end of a transaction comes from the present coordinator and is for the present producer.
    fn check_end(
        &self,
        batch: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> Result<(), AppendError> {
        let Some(ControlRecord::EndMarker {
            coordinator_epoch, ..
        }) = control
        else {
            return Ok(());
        };
        self.check_epoch(batch)?;
        if coordinator_epoch < self.coordinator_epoch {
            return Err(AppendError::CoordinatorFenced {
                found: coordinator_epoch,
                current: self.coordinator_epoch,
            });
        }
        Ok(())
    }

    fn check_epoch(&self, batch: &BatchHeader) -> Result<(), AppendError> {
        if batch.producer_epoch < self.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                found: batch.producer_epoch,
                current: self.epoch,
            });
        }
        Ok(())
    }

    pub(crate) fn remember(&mut self, batch: &BatchHeader) {
        if self.batches.len() == BATCHES_REMEMBERED {
            self.batches.remove(0);
        }
        assert!(
            self.batches.len() < BATCHES_REMEMBERED,
            "a producer's memory is bounded"
        );
        self.batches.push(RememberedBatch {
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            last_offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
        });
    }

    /// Its last batch, which began at `base_offset`, was cut off.
    pub(crate) fn forget_last(
        &mut self,
        base_offset: Offset,
        last_write: Timestamp,
        dropped: Option<RememberedBatch>,
    ) {
        self.last_write = last_write;
        self.transaction = self.transaction.filter(|first| *first != base_offset);
        let is_last = |last: &mut RememberedBatch| last.base_offset() == base_offset;
        if self.batches.last_mut().is_some_and(is_last) {
            self.batches.pop();
            if let Some(batch) = dropped {
                self.batches.insert(0, batch);
            }
        }
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.i16(self.epoch.0);
        out.timestamp(self.last_write);
        out.i32(self.coordinator_epoch);
        out.offset(self.transaction.unwrap_or(Offset::NONE));
        out.count(self.batches.len());
        for batch in &self.batches {
            batch.encode(out);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>, format: u16) -> Result<Producer, Short> {
        let epoch = ProducerEpoch(from.i16()?);
        let last_write = from.timestamp()?;
        let mut producer = Producer::new(epoch, last_write);
        // No transaction was begun in earlier formats.
        if format > 3 {
            producer.coordinator_epoch = from.i32()?;
            let transaction = from.offset()?;
            producer.transaction = (transaction >= Offset::ZERO).then_some(transaction);
        }
        for _ in 0..from.count(BATCH_BYTES)?.min(BATCHES_REMEMBERED) {
            producer.batches.push(RememberedBatch::decode(from)?);
        }
        Ok(producer)
    }
}

impl RememberedBatch {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.i32(self.base_sequence);
        out.i32(self.last_sequence);
        out.offset(self.last_offset);
        out.i32(self.last_offset_delta);
        out.timestamp(self.timestamp);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<RememberedBatch, Short> {
        Ok(RememberedBatch {
            base_sequence: from.i32()?,
            last_sequence: from.i32()?,
            last_offset: from.offset()?,
            last_offset_delta: from.i32()?,
            timestamp: from.timestamp()?,
        })
    }
}
