//! What the batches above the high watermark changed in the producers of a log, so that cutting them off undoes it. Pure.
//!
//! Owned by [`crate::ProducerStates`]. Invariants: entries are in offset order; at most [`UNDO_MAX`] of them.

use std::collections::VecDeque;

use model::record::BatchHeader;
use model::{Offset, ProducerId, Timestamp};

use crate::encoding::{Decoder, Encoder, Short};
use crate::producer::{BATCHES_REMEMBERED, Producer, RememberedBatch};

/// Batches that can be undone, markers of transactions among them. A replica that is cut further back reads the headers of what is left instead; 1,000 batches
/// above the high watermark are a replica that has fallen behind. They take about 100 KiB.
pub(crate) const UNDO_MAX: usize = 1_000;

const ENTRY_BYTES_MIN: usize = 17;

/// What a producer was like before a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// It was not known.
    Unknown,
    /// It had not sent the last of its batches, and remembered one more. If its open transaction begins with the batch, it
    /// had none.
    Batch {
        last_write: Timestamp,
        dropped: Option<RememberedBatch>,
    },
    /// Anything else; rare, so that it does not make every entry large.
    Whole(Box<Producer>),
}

/// One batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undo {
    pub(crate) base_offset: Offset,
    pub(crate) producer_id: ProducerId,
    pub(crate) before: Before,
}

impl Undo {
    /// Of a batch that is about to be learned, by a producer that is like this before.
    pub(crate) fn of(batch: &BatchHeader, producer: Option<&Producer>) -> Undo {
        let before = match producer {
            None => Before::Unknown,
            Some(producer) if producer.epoch != batch.producer_epoch || batch.is_control() => {
                Before::Whole(Box::new(producer.clone()))
            }
            Some(producer) => {
                let is_full = producer.batches.len() == BATCHES_REMEMBERED;
                Before::Batch {
                    last_write: producer.last_write,
                    dropped: is_full.then(|| producer.batches[0]),
                }
            }
        };
        Undo {
            base_offset: batch.base_offset,
            producer_id: batch.producer_id,
            before,
        }
    }
}

/// The batches that can be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UndoLog {
    entries: VecDeque<Undo>,
    /// Cutting a log at or behind this offset can be undone.
    from: Offset,
}

impl Default for UndoLog {
    fn default() -> UndoLog {
        UndoLog::from(Offset::ZERO)
    }
}

impl UndoLog {
    /// Nothing before `from` can be undone.
    pub(crate) fn from(from: Offset) -> UndoLog {
        UndoLog {
            entries: VecDeque::new(),
            from,
        }
    }

    pub(crate) fn push(&mut self, undo: Undo) {
        let last = self.entries.back();
        assert!(
            last.is_none_or(|last| last.base_offset < undo.base_offset),
            "batches come in order"
        );
        if self.entries.len() == UNDO_MAX
            && let Some(oldest) = self.entries.pop_front()
        {
            self.from = self.from.max(oldest.base_offset.plus(1));
        }
        self.entries.push_back(undo);
        assert!(self.entries.len() <= UNDO_MAX, "bounded");
    }

    /// What lies below the high watermark stays.
    pub(crate) fn settle(&mut self, high_watermark: Offset) {
        while let Some(first) = self.entries.front()
            && first.base_offset < high_watermark
        {
            self.entries.pop_front();
        }
        self.from = self.from.max(high_watermark);
    }

    /// Whether cutting a log at `end` can be undone.
    pub(crate) fn reaches(&self, end: Offset) -> bool {
        self.from <= end
    }

    /// The last batch at or behind `end`.
    pub(crate) fn pop_from(&mut self, end: Offset) -> Option<Undo> {
        self.entries.pop_back_if(|last| last.base_offset >= end)
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.offset(self.from);
        out.count(self.entries.len());
        for undo in &self.entries {
            out.offset(undo.base_offset);
            out.i64(undo.producer_id.0);
            match &undo.before {
                Before::Unknown => out.u8(0),
                Before::Batch {
                    last_write,
                    dropped,
                } => {
                    out.u8(if dropped.is_some() { 2 } else { 1 });
                    out.timestamp(*last_write);
                    if let Some(batch) = dropped {
                        batch.encode(out);
                    }
                }
                Before::Whole(producer) => {
                    out.u8(3);
                    producer.encode(out);
                }
            }
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>, format: u16) -> Result<UndoLog, Short> {
        let mut log = UndoLog::from(from.offset()?);
        for _ in 0..from.count(ENTRY_BYTES_MIN)? {
            let base_offset = from.offset()?;
            let producer_id = ProducerId(from.i64()?);
            let before = match from.u8()? {
                0 => Before::Unknown,
                kind @ (1 | 2) => Before::Batch {
                    last_write: from.timestamp()?,
                    dropped: match kind {
                        1 => None,
                        _ => Some(RememberedBatch::decode(from)?),
                    },
                },
                3 => Before::Whole(Box::new(Producer::decode(from, format)?)),
                _ => return Err(Short),
            };
            log.entries.push_back(Undo {
                base_offset,
                producer_id,
                before,
            });
        }
        Ok(log)
    }
}
