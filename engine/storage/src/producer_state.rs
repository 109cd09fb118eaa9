//! What one log remembers of its idempotent producers and their transactions (KIP-98, KIP-890).
//!
//! Pure. Owned by the log. Invariants: at most [`PRODUCERS_MAX`] producers, and those with an open transaction are not
//! forgotten. Learning a batch twice changes nothing (recovery relies on it).

use std::collections::BTreeMap;

use model::record::{BatchHeader, ControlRecord, EndMarker};
use model::{Offset, ProducerId, Timestamp};

use crate::encoding::{Decoder, Encoder, Short};
use crate::error::AppendError;
use crate::producer::{Producer, SequenceCheck};
use crate::transaction_index::AbortedTransaction;
use crate::transactions::{OPEN_TRANSACTIONS_MAX, Transactions};
use crate::undo::{Before, UNDO_MAX, Undo, UndoLog};

/// Producers remembered per log. Beyond it the eighth that wrote longest ago is forgotten: such a producer may then
/// continue with any sequence, as after its expiry. 10,000 x about 300 bytes bound a log's share of memory.
pub(crate) const PRODUCERS_MAX: usize = 10_000;
// An eighth can always be forgotten: it has no open transaction.
const _: () = assert!(OPEN_TRANSACTIONS_MAX + PRODUCERS_MAX / 8 <= PRODUCERS_MAX);

const PRODUCER_BYTES: usize = 22;

/// How a transaction ended, and by whom.
#[derive(Clone, Copy)]
struct End {
    marker: EndMarker,
    coordinator_epoch: i32,
}

/// All producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<ProducerId, Producer>,
    transactions: Transactions,
    undo: UndoLog,
    /// Batches below have been learned.
    end: Offset,
}

impl ProducerStates {
    /// Judges a batch of an idempotent producer. Of a control batch, `control` is what it says: it carries no sequence.
    pub fn check(
        &self,
        batch: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> Result<SequenceCheck, AppendError> {
        assert!(batch.is_control() || control.is_none(), "no control batch");
        match self.producers.get(&batch.producer_id) {
            Some(producer) => producer.check(batch, control),
            None => Ok(SequenceCheck::Append),
        }
    }

    /// Refuses a batch that would begin one transaction too many, whoever appends it.
    pub fn check_room(&self, batch: &BatchHeader) -> Result<(), AppendError> {
        let open = self.transactions.open_count();
        let is_full = open >= OPEN_TRANSACTIONS_MAX;
        if is_full && begins_transaction(batch) && !self.is_in_transaction(batch.producer_id) {
            return Err(AppendError::TooManyTransactions { open });
        }
        Ok(())
    }

    fn is_in_transaction(&self, id: ProducerId) -> bool {
        self.get(id)
            .is_some_and(|producer| producer.transaction.is_some())
    }

    /// Learns an appended batch. `batch` carries its final base offset; of a control batch, `control` is what it says.
    pub fn learn(&mut self, batch: &BatchHeader, control: Option<ControlRecord>, now: Timestamp) {
        if !batch.is_idempotent() || batch.next_offset() <= self.end {
            return;
        }
        assert!(
            batch.base_offset >= self.end,
            "batches are learned in order"
        );
        let end = match (batch.is_control(), control) {
            (false, None) => None,
            (
                true,
                Some(ControlRecord::EndMarker {
                    marker,
                    coordinator_epoch,
                }),
            ) => Some(End {
                marker,
                coordinator_epoch,
            }),
            (false, Some(_)) => panic!("records at {} are no marker", batch.base_offset),
            // Other types are not about producers, and what compaction has emptied says nothing.
            (true, _) => return,
        };
        let producer = match self.producers.get_mut(&batch.producer_id) {
            Some(producer) => {
                self.undo.push(Undo::of(batch, Some(&*producer)));
                producer
            }
            None => {
                if self.producers.len() >= PRODUCERS_MAX {
                    self.forget_oldest();
                }
                self.undo.push(Undo::of(batch, None));
                let new = Producer::new(batch.producer_epoch, now);
                self.producers.entry(batch.producer_id).or_insert(new)
            }
        };
        producer.last_write = producer.last_write.max(now);
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        match end {
            Some(end) => self.end_transaction(batch, end),
            None => {
                let begins = batch.is_transactional() && producer.transaction.is_none();
                if begins {
                    producer.transaction = Some(batch.base_offset);
                }
                producer.remember(batch);
                if begins {
                    self.transactions.open(batch.producer_id, batch.base_offset);
                }
            }
        }
        self.end = batch.next_offset();
    }

    /// A marker without an open transaction ends none: nothing of it was in this log.
    fn end_transaction(&mut self, batch: &BatchHeader, end: End) {
        let id = batch.producer_id;
        let producer = self.producers.get_mut(&id).expect("it was found just now");
        producer.coordinator_epoch = end.coordinator_epoch;
        let Some(first_offset) = producer.transaction.take() else {
            return;
        };
        let marker_offset = batch.last_offset();
        let limit = self
            .transactions
            .end(id, first_offset, marker_offset, end.marker);
        if let Some(limit) = limit {
            self.undo.settle(limit);
        }
    }

    /// The first record that may still turn out to be aborted: of an open transaction, or of one whose end is not below
    /// the high watermark and may be cut off.
    pub fn first_unstable_offset(&self, high_watermark: Offset) -> Option<Offset> {
        self.transactions.first_unstable_offset(high_watermark)
    }

    /// Aborted transactions whose markers are in no segment, in the order of their markers.
    pub fn aborted(&self) -> impl Iterator<Item = &AbortedTransaction> {
        self.transactions.aborted().iter()
    }

    /// Those whose markers lie below `end`: somebody else keeps them from now on.
    pub(crate) fn take_aborted(&mut self, end: Offset) -> Vec<AbortedTransaction> {
        self.transactions.take_aborted(end)
    }

    /// What lies below the high watermark is not cut off any more.
    pub fn settle(&mut self, high_watermark: Offset) {
        self.undo.settle(high_watermark);
        self.transactions.settle(high_watermark);
    }

    /// Whether [`ProducerStates::truncate`] can undo what lies at or behind `end`. If not, the states are to be learned
    /// anew from the batches below.
    pub fn reaches(&self, end: Offset) -> bool {
        self.undo.reaches(end)
    }

    /// States of which nothing that was learned up to now can be undone, in a log that ends at `end`.
    pub(crate) fn forget_undo(&mut self, end: Offset) {
        self.undo = UndoLog::from(end);
        self.end = self.end.max(end);
    }

    /// Undoes all batches at or behind `end`: the log has been cut there.
    pub fn truncate(&mut self, end: Offset) {
        self.undo_until(end, true);
    }

    /// The same. Without `reopens` transactions stay ended whose markers are gone, which is wrong.
    pub(crate) fn undo_until(&mut self, end: Offset, reopens: bool) {
        assert!(self.reaches(end), "what cannot be undone is learned anew");
        self.end = self.end.min(end);
        self.transactions.truncate(end);
        while let Some(undo) = self.undo.pop_from(end) {
            match undo.before {
                Before::Unknown => self.replace(undo.producer_id, None),
                Before::Whole(mut producer) => {
                    producer.transaction = producer.transaction.filter(|_| reopens);
                    self.replace(undo.producer_id, Some(*producer));
                }
                Before::Batch {
                    last_write,
                    dropped,
                } => {
                    // It may have expired since.
                    if let Some(producer) = self.producers.get(&undo.producer_id) {
                        let mut producer = producer.clone();
                        producer.forget_last(undo.base_offset, last_write, dropped);
                        self.replace(undo.producer_id, Some(producer));
                    }
                }
            }
        }
        assert!(
            self.producers.len() <= PRODUCERS_MAX + UNDO_MAX,
            "what is undone is bounded"
        );
    }

    /// Makes a producer what it was, its open transaction included.
    fn replace(&mut self, id: ProducerId, before: Option<Producer>) {
        let opened = before.as_ref().and_then(|producer| producer.transaction);
        let known = match before {
            Some(producer) => self.producers.insert(id, producer),
            None => self.producers.remove(&id),
        };
        let known = known.and_then(|producer| producer.transaction);
        if known == opened {
            return;
        }
        if let Some(first_offset) = known {
            self.transactions.unopen(id, first_offset);
        }
        if let Some(first_offset) = opened {
            self.transactions.open(id, first_offset);
        }
    }

    fn forget_oldest(&mut self) {
        let idle = self.producers.iter();
        let idle = idle.filter(|(_, producer)| producer.transaction.is_none());
        let mut ages: Vec<(Timestamp, ProducerId)> = idle
            .map(|(id, producer)| (producer.last_write, *id))
            .collect();
        assert!(
            ages.len() >= PRODUCERS_MAX / 8,
            "most producers have no open transaction"
        );
        ages.sort_unstable();
        for (_, id) in ages.iter().take(PRODUCERS_MAX / 8) {
            self.producers.remove(id);
        }
    }

    /// Forgets producers that wrote nothing for `expiration_ms` (`producer.id.expiration.ms`), but for those with an open
    /// transaction: it would be open for ever. Returns whether there were any.
    pub fn expire(&mut self, now: Timestamp, expiration_ms: i64) -> bool {
        let before = self.producers.len();
        self.producers.retain(|_, producer| {
            let age = now.0.saturating_sub(producer.last_write.0);
            producer.transaction.is_some() || age < expiration_ms
        });
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
        out.offset(self.end);
        self.transactions.encode(out);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>, format: u16) -> Result<ProducerStates, Short> {
        let mut states = ProducerStates::default();
        let mut open = BTreeMap::new();
        for _ in 0..from.count(PRODUCER_BYTES)? {
            let id = ProducerId(from.i64()?);
            let producer = Producer::decode(from, format)?;
            let last = producer.batches.last();
            let end = last.map_or(Offset::ZERO, |last| last.last_offset.plus(1));
            states.end = states.end.max(end);
            if let Some(first_offset) = producer.transaction {
                open.insert(first_offset, id);
            }
            states.producers.insert(id, producer);
        }
        states.undo = if format > 2 {
            UndoLog::decode(from, format)?
        } else {
            // Nothing was cut in these formats; from the end of the start on it can be.
            UndoLog::from(Offset(i64::MAX))
        };
        if format > 3 {
            states.end = from.offset()?;
            states.transactions = Transactions::decode(from)?;
        }
        if open.len() > OPEN_TRANSACTIONS_MAX {
            return Err(Short);
        }
        for (first_offset, id) in open {
            states.transactions.open(id, first_offset);
        }
        Ok(states)
    }
}

fn begins_transaction(batch: &BatchHeader) -> bool {
    batch.is_idempotent() && batch.is_transactional() && !batch.is_control()
}

/// How many transactions would be open if a leader's batches were appended, one by one: it must not have begun more than
/// there is room for.
pub(crate) struct Openings<'a> {
    states: &'a ProducerStates,
    /// Producers whose transactions the batches begin or end.
    changed: BTreeMap<ProducerId, bool>,
    open: usize,
}

impl<'a> Openings<'a> {
    pub(crate) fn new(states: &'a ProducerStates) -> Openings<'a> {
        Openings {
            states,
            changed: BTreeMap::new(),
            open: states.transactions.open_count(),
        }
    }

    /// The next batch.
    pub(crate) fn add(
        &mut self,
        batch: &BatchHeader,
        control: Option<ControlRecord>,
    ) -> Result<(), AppendError> {
        let is_end = matches!(control, Some(ControlRecord::EndMarker { .. }));
        if !batch.is_idempotent() || !(is_end || begins_transaction(batch)) {
            return Ok(());
        }
        let id = batch.producer_id;
        let known = self.changed.insert(id, !is_end);
        let was_open = known.unwrap_or_else(|| self.states.is_in_transaction(id));
        match (was_open, is_end) {
            (true, true) => self.open -= 1,
            (false, false) => self.open += 1,
            (true, false) | (false, true) => {}
        }
        if self.open > OPEN_TRANSACTIONS_MAX {
            return Err(AppendError::TooManyTransactions { open: self.open });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::RememberedBatch;
    use model::ProducerEpoch;

    #[test]
    fn the_format_before_has_no_transactions() {
        let batch = RememberedBatch {
            base_sequence: 3,
            last_sequence: 4,
            last_offset: Offset(11),
            last_offset_delta: 1,
            timestamp: Timestamp(70),
        };
        // One producer as format 3 has it, nothing to undo.
        let mut out = Encoder::default();
        out.count(1);
        out.i64(9);
        out.i16(2);
        out.timestamp(Timestamp(80));
        out.count(1);
        batch.encode(&mut out);
        UndoLog::from(Offset(12)).encode(&mut out);
        let mut from = Decoder::new(&out.bytes);
        let states = ProducerStates::decode(&mut from, 3).unwrap();
        assert!(from.is_empty());
        let mut expected = Producer::new(ProducerEpoch(2), Timestamp(80));
        expected.batches.push(batch);
        assert_eq!(states.get(ProducerId(9)), Some(&expected));
        assert_eq!(states.first_unstable_offset(Offset::ZERO), None);
        assert_eq!(
            states.end,
            Offset(12),
            "what was learned is not learned again"
        );
        let mut out = Encoder::default();
        states.encode(&mut out);
        let read = ProducerStates::decode(&mut Decoder::new(&out.bytes), 4);
        assert_eq!(read, Ok(states));
    }
}
