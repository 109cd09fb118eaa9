//! Transactions of one log: which are open, which have ended above the high watermark, and which were aborted in batches
//! that are in no segment yet. Pure.
//!
//! Owned by [`crate::ProducerStates`], whose producers know the first offset of their open transaction; `open` is the same
//! by offset. Invariants: one transaction begins at an offset; `ended` and `aborted` are in the order of their markers.
//!
//! Bounds: at most [`OPEN_TRANSACTIONS_MAX`] are open, others are refused; of ended ones at most [`ENDED_MAX`] are told
//! apart; `aborted` holds a marker of the tail for each, and the tail has a bound.

use std::collections::{BTreeMap, VecDeque};

use model::record::EndMarker;
use model::{Offset, ProducerId};

use crate::encoding::{Decoder, Encoder, Short};
use crate::index::PageEntry as _;
use crate::transaction_index::{ABORTED_BYTES, AbortedTransaction};

/// Open transactions of one log. Who would begin another one has to wait: their producers are not forgotten, and half of
/// the places of a log's producers stay for others.
pub(crate) const OPEN_TRANSACTIONS_MAX: usize = 5_000;

/// Ended transactions above the high watermark that are told apart. Of more, the oldest two become one, which is stable
/// when both are.
const ENDED_MAX: usize = 1_000;

const ENDED_BYTES: usize = 16;

/// A transaction whose end may not be on enough replicas yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    first_offset: Offset,
    marker_offset: Offset,
}

/// The transactions of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    /// By first offset.
    open: BTreeMap<Offset, ProducerId>,
    ended: VecDeque<Ended>,
    aborted: VecDeque<AbortedTransaction>,
}

impl Transactions {
    /// How many are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// A producer's transaction begins.
    pub(crate) fn open(&mut self, producer_id: ProducerId, first_offset: Offset) {
        let known = self.open.insert(first_offset, producer_id);
        assert!(known.is_none(), "one transaction begins at {first_offset}");
        assert!(
            self.open.len() <= OPEN_TRANSACTIONS_MAX,
            "others are refused"
        );
    }

    /// A producer's open transaction was never begun: its first batch was cut off.
    pub(crate) fn unopen(&mut self, producer_id: ProducerId, first_offset: Offset) {
        let known = self.open.remove(&first_offset);
        assert_eq!(known, Some(producer_id), "what was open at {first_offset}");
    }

    /// A producer's transaction has ended. If it returns an offset, a cut below it cannot be undone from now on.
    #[must_use]
    pub(crate) fn end(
        &mut self,
        producer_id: ProducerId,
        first_offset: Offset,
        marker_offset: Offset,
        marker: EndMarker,
    ) -> Option<Offset> {
        self.unopen(producer_id, first_offset);
        assert!(first_offset < marker_offset, "it has records");
        if marker == EndMarker::Abort {
            let last = self.aborted.back();
            assert!(
                last.is_none_or(|last| last.last_offset < marker_offset),
                "markers come in order"
            );
            let next_open = self.open.first_key_value().map(|(first, _)| *first);
            self.aborted.push_back(AbortedTransaction {
                producer_id,
                first_offset,
                last_offset: marker_offset,
                last_stable_offset: next_open.unwrap_or(marker_offset.plus(1)),
            });
        }
        self.ended.push_back(Ended {
            first_offset,
            marker_offset,
        });
        self.bound_ended()
    }

    fn bound_ended(&mut self) -> Option<Offset> {
        if self.ended.len() <= ENDED_MAX {
            return None;
        }
        let oldest = self.ended.pop_front()?;
        let next = self.ended.front_mut()?;
        assert!(
            oldest.marker_offset < next.marker_offset,
            "markers come in order"
        );
        next.first_offset = next.first_offset.min(oldest.first_offset);
        Some(next.marker_offset.plus(1))
    }

    /// The first record of a transaction that is open, or whose end is not below the high watermark: it may still be cut
    /// off. At most [`ENDED_MAX`] comparisons.
    pub(crate) fn first_unstable_offset(&self, high_watermark: Offset) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let ended = self.ended.iter();
        let unsettled = ended.filter(|ended| ended.marker_offset >= high_watermark);
        let ended = unsettled.map(|ended| ended.first_offset).min();
        match (open, ended) {
            (Some(open), Some(ended)) => Some(open.min(ended)),
            (open, ended) => open.or(ended),
        }
    }

    /// What has ended below the high watermark stays so.
    pub(crate) fn settle(&mut self, high_watermark: Offset) {
        while let Some(ended) = self.ended.front()
            && ended.marker_offset < high_watermark
        {
            self.ended.pop_front();
        }
    }

    /// The markers at or behind `end` were cut off. Who reopens what they ended knows the producers.
    pub(crate) fn truncate(&mut self, end: Offset) {
        self.ended.retain(|ended| ended.marker_offset < end);
        self.aborted.retain(|aborted| aborted.last_offset < end);
    }

    /// Those whose markers are in segments up to `end`, or gone with the start of the log: they are kept there from now on.
    pub(crate) fn take_aborted(&mut self, end: Offset) -> Vec<AbortedTransaction> {
        let count = self
            .aborted
            .partition_point(|aborted| aborted.last_offset < end);
        self.aborted.drain(..count).collect()
    }

    /// Aborted transactions whose markers are in no segment.
    pub(crate) fn aborted(&self) -> &VecDeque<AbortedTransaction> {
        &self.aborted
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.count(self.ended.len());
        for ended in &self.ended {
            out.offset(ended.first_offset);
            out.offset(ended.marker_offset);
        }
        out.count(self.aborted.len());
        for aborted in &self.aborted {
            aborted.encode(out);
        }
    }

    /// Without those that are open: the producers know them.
    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Transactions, Short> {
        let mut transactions = Transactions::default();
        for _ in 0..from.count(ENDED_BYTES)? {
            transactions.ended.push_back(Ended {
                first_offset: from.offset()?,
                marker_offset: from.offset()?,
            });
        }
        for _ in 0..from.count(ABORTED_BYTES)? {
            let aborted = AbortedTransaction::decode(from)?;
            transactions.aborted.push_back(aborted);
        }
        let (ended, aborted) = (&transactions.ended, &transactions.aborted);
        let is_sound = ended.len() <= ENDED_MAX
            && ended.iter().is_sorted_by_key(|one| one.marker_offset)
            && aborted.iter().is_sorted_by_key(|one| one.last_offset);
        if is_sound {
            Ok(transactions)
        } else {
            Err(Short)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(transactions: &mut Transactions, producer: i64, first: i64, marker: i64) {
        let abort = EndMarker::Abort;
        let (producer, first, marker) = (ProducerId(producer), Offset(first), Offset(marker));
        let limit = transactions.end(producer, first, marker, abort);
        assert_eq!(limit, None, "few have ended");
    }

    #[test]
    fn what_is_unstable_depends_on_the_high_watermark() {
        let mut transactions = Transactions::default();
        transactions.open(ProducerId(1), Offset(10));
        transactions.open(ProducerId(2), Offset(20));
        end(&mut transactions, 1, 10, 30);
        transactions.open(ProducerId(3), Offset(35));
        end(&mut transactions, 2, 20, 40);
        let stable: Vec<i64> = transactions
            .aborted()
            .iter()
            .map(|aborted| aborted.last_stable_offset.0)
            .collect();
        assert_eq!(stable, [20, 35]);
        // high watermark -> first unstable offset
        let table = [(5, 10), (30, 10), (31, 20), (40, 20), (41, 35), (99, 35)];
        for (high_watermark, first) in table {
            let found = transactions.first_unstable_offset(Offset(high_watermark));
            assert_eq!(
                found,
                Some(Offset(first)),
                "high watermark {high_watermark}"
            );
        }
        transactions.settle(Offset(31));
        assert_eq!(transactions.ended.len(), 1);
        end(&mut transactions, 3, 35, 50);
        assert_eq!(transactions.first_unstable_offset(Offset(51)), None);
        // Its marker is cut off.
        transactions.truncate(Offset(50));
        transactions.open(ProducerId(3), Offset(35));
        let found = transactions.first_unstable_offset(Offset(50));
        assert_eq!(found, Some(Offset(35)));
        let taken: Vec<Offset> = transactions
            .take_aborted(Offset(40))
            .iter()
            .map(|aborted| aborted.last_offset)
            .collect();
        assert_eq!(taken, [Offset(30)]);
        assert_eq!(transactions.aborted().len(), 1);
    }

    #[test]
    fn many_that_have_ended_are_taken_together() {
        let mut transactions = Transactions::default();
        for number in 0..=ENDED_MAX as i64 {
            let (first, marker) = (Offset(2 * number), Offset(2 * number + 1));
            transactions.open(ProducerId(number), first);
            let commit = EndMarker::Commit;
            let limit = transactions.end(ProducerId(number), first, marker, commit);
            let is_full = number == ENDED_MAX as i64;
            assert_eq!(limit, is_full.then_some(Offset(4)), "transaction {number}");
        }
        assert_eq!(transactions.ended.len(), ENDED_MAX);
        // The first has ended below, but the second, with which it was taken together, has not.
        let first = transactions.first_unstable_offset(Offset(2));
        assert_eq!(first, Some(Offset(0)));
        let first = transactions.first_unstable_offset(Offset(4));
        assert_eq!(first, Some(Offset(4)));
        let mut out = Encoder::default();
        transactions.encode(&mut out);
        let read = Transactions::decode(&mut Decoder::new(&out.bytes));
        assert_eq!(read, Ok(transactions));
    }
}
