//! What one log remembers of its idempotent producers (KIP-98).
//!
//! Pure. Owned by the log. Invariants: at most [`BATCHES_REMEMBERED`] batches per producer, all of its current epoch,
//! in append order; at most [`PRODUCERS_MAX`] producers. Learning a batch twice changes nothing (recovery relies on it).

use std::collections::BTreeMap;

use model::record::BatchHeader;
use model::{Offset, ProducerEpoch, ProducerId, Timestamp};
use smallvec::SmallVec;

use crate::encoding::{Decoder, Encoder, Short};
use crate::error::AppendError;
use crate::undo::{Before, Undo, UndoLog};

/// Batches remembered per producer: as many as a client may have in flight.
pub(crate) const BATCHES_REMEMBERED: usize = 5;

/// Producers remembered per log. Beyond it the eighth that wrote longest ago is forgotten: such a producer may then
/// continue with any sequence, as after its expiry. 10,000 x about 300 bytes bound a log's share of memory.
pub(crate) const PRODUCERS_MAX: usize = 10_000;

const BATCH_BYTES: usize = 28;
const PRODUCER_BYTES: usize = 22;

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
        Offset(
            self.last_offset
                .0
                .saturating_sub(i64::from(self.last_offset_delta)),
        )
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Newest epoch seen.
    pub epoch: ProducerEpoch,
    /// When it last wrote, by the broker's clock.
    pub last_write: Timestamp,
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

/// All producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, Producer>,
    undo: UndoLog,
}

/// The sequence after `last`: sequences wrap from 2^31 - 1 to 0.
fn following(last: i32) -> i32 {
    if last == i32::MAX {
        0
    } else {
        last.saturating_add(1)
    }
}

impl ProducerStates {
    /// Judges a batch of an idempotent producer. Control batches carry no sequence and pass.
    pub fn check(&self, batch: &BatchHeader) -> Result<SequenceCheck, AppendError> {
        let Some(producer) = self.producers.get(&batch.producer_id) else {
            return Ok(SequenceCheck::Append);
        };
        if batch.is_control() {
            return Ok(SequenceCheck::Append);
        }
        let last_sequence = batch.last_sequence();
        if batch.producer_epoch == producer.epoch {
            let same = |known: &&RememberedBatch| {
                known.base_sequence == batch.base_sequence && known.last_sequence == last_sequence
            };
            if let Some(known) = producer.batches.iter().find(same) {
                return Ok(SequenceCheck::Duplicate(*known));
            }
        }
        if batch.producer_epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                found: batch.producer_epoch,
                current: producer.epoch,
            });
        }
        let last = producer
            .batches
            .last()
            .map_or(-1, |known| known.last_sequence);
        let expected = if batch.producer_epoch > producer.epoch {
            if producer.epoch == ProducerEpoch::NONE {
                batch.base_sequence
            } else {
                0
            }
        } else if producer.batches.is_empty() {
            batch.base_sequence
        } else {
            following(last)
        };
        if batch.base_sequence != expected {
            return Err(AppendError::OutOfOrderSequence {
                found: batch.base_sequence,
                last,
            });
        }
        Ok(SequenceCheck::Append)
    }

    /// Learns an appended batch. `batch` carries its final base offset.
    pub fn learn(&mut self, batch: &BatchHeader, now: Timestamp) {
        if !batch.is_idempotent() {
            return;
        }
        let last_offset = batch.last_offset();
        let undo = |before| Undo {
            base_offset: batch.base_offset,
            producer_id: batch.producer_id,
            before,
        };
        let producer = match self.producers.get_mut(&batch.producer_id) {
            Some(producer) => {
                let last = producer.batches.last();
                if last.is_some_and(|known| known.last_offset >= last_offset) {
                    return;
                }
                self.undo.push(undo(before(producer, batch)));
                producer
            }
            None => {
                if self.producers.len() >= PRODUCERS_MAX {
                    self.forget_oldest();
                }
                self.undo.push(undo(Before::Unknown));
                let new = Producer {
                    epoch: batch.producer_epoch,
                    last_write: now,
                    batches: SmallVec::new(),
                };
                self.producers.entry(batch.producer_id).or_insert(new)
            }
        };
        producer.last_write = producer.last_write.max(now);
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        if batch.is_control() {
            return;
        }
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.remove(0);
        }
        assert!(
            producer.batches.len() < BATCHES_REMEMBERED,
            "a producer's memory is bounded"
        );
        producer.batches.push(RememberedBatch {
            base_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            last_offset,
            last_offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
        });
    }

    /// What lies below the high watermark is not cut off any more.
    pub fn settle(&mut self, high_watermark: Offset) {
        self.undo.settle(high_watermark);
    }

    /// Whether [`ProducerStates::truncate`] can undo what lies at or behind `end`. If not, the states are to be learned
    /// anew from the batches below.
    pub fn reaches(&self, end: Offset) -> bool {
        self.undo.reaches(end)
    }

    /// States of which nothing that was learned up to now can be undone, in a log that ends at `end`.
    pub(crate) fn forget_undo(&mut self, end: Offset) {
        self.undo = UndoLog::from(end);
    }

    /// Undoes all batches at or behind `end`: the log has been cut there.
    pub fn truncate(&mut self, end: Offset) {
        assert!(self.reaches(end), "what cannot be undone is learned anew");
        while let Some(undo) = self.undo.pop_from(end) {
            match undo.before {
                Before::Unknown => {
                    self.producers.remove(&undo.producer_id);
                }
                Before::Whole(producer) => {
                    self.producers.insert(undo.producer_id, *producer);
                }
                Before::Batch {
                    last_write,
                    dropped,
                } => {
                    // It may have expired since.
                    if let Some(producer) = self.producers.get_mut(&undo.producer_id) {
                        producer.last_write = last_write;
                        let is_last =
                            |last: &mut RememberedBatch| last.base_offset() == undo.base_offset;
                        if producer.batches.last_mut().is_some_and(is_last) {
                            producer.batches.pop();
                            if let Some(batch) = dropped {
                                producer.batches.insert(0, batch);
                            }
                        }
                    }
                }
            }
        }
    }

    fn forget_oldest(&mut self) {
        let mut ages: Vec<(Timestamp, ProducerId)> = self
            .producers
            .iter()
            .map(|(id, producer)| (producer.last_write, *id))
            .collect();
        assert!(ages.len() <= PRODUCERS_MAX, "producers are bounded");
        ages.sort_unstable();
        for (_, id) in ages.iter().take(PRODUCERS_MAX / 8) {
            self.producers.remove(id);
        }
    }

    /// Forgets producers that wrote nothing for `expiration_ms` (`producer.id.expiration.ms`). Returns whether there were any.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) -> bool {
        let before = self.producers.len();
        self.producers
            .retain(|_, producer| now.0.saturating_sub(producer.last_write.0) < expiration_ms);
        self.producers.len() < before
    }

    /// Producers remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// What is known of a producer.
    pub fn get(&self, id: ProducerId) -> Option<&Producer> {
        self.producers.get(&id)
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.count(self.producers.len());
        for (id, producer) in &self.producers {
            out.i64(id.0);
            producer.encode(out);
        }
        self.undo.encode(out);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>, format: u16) -> Result<ProducerStates, Short> {
        let mut producers = BTreeMap::new();
        for _ in 0..from.count(PRODUCER_BYTES)? {
            let id = ProducerId(from.i64()?);
            producers.insert(id, Producer::decode(from)?);
        }
        let undo = if format > 2 {
            UndoLog::decode(from)?
        } else {
            // Nothing was cut in these formats; from the end of the start on it can be.
            UndoLog::from(Offset(i64::MAX))
        };
        Ok(ProducerStates { producers, undo })
    }
}

/// What a producer is like before `batch` is learned.
fn before(producer: &Producer, batch: &BatchHeader) -> Before {
    if producer.epoch != batch.producer_epoch || batch.is_control() {
        return Before::Whole(Box::new(producer.clone()));
    }
    let is_full = producer.batches.len() == BATCHES_REMEMBERED;
    Before::Batch {
        last_write: producer.last_write,
        dropped: is_full.then(|| producer.batches[0]),
    }
}

impl Producer {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.i16(self.epoch.0);
        out.timestamp(self.last_write);
        out.count(self.batches.len());
        for batch in &self.batches {
            batch.encode(out);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Producer, Short> {
        let epoch = ProducerEpoch(from.i16()?);
        let last_write = from.timestamp()?;
        let mut batches = SmallVec::new();
        for _ in 0..from.count(BATCH_BYTES)?.min(BATCHES_REMEMBERED) {
            batches.push(RememberedBatch::decode(from)?);
        }
        Ok(Producer {
            epoch,
            last_write,
            batches,
        })
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
