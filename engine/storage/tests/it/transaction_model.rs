//! Which transactions a log holds, found the plain way: by walking over all batches that were ever appended to it.

use bytes::Bytes;
use model::record::{
    BatchBuilder, BatchHeader, ControlRecord, EndMarker, control, read_control_batch,
};
use model::{Offset, ProducerEpoch, ProducerId, Timestamp};
use runtime::Io as _;
use runtime::sim::SimIo;
use storage::{AbortedTransaction, Log};

/// A transaction of a log.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    producer: ProducerId,
    /// Base offset and next offset of its batches.
    data: Vec<(Offset, Offset)>,
    /// Its marker.
    end: Option<(Offset, EndMarker)>,
}

impl Transaction {
    /// Its first batch of which something is left in a log that begins at `start`. A log that has learned its producers
    /// anew takes that one for the first; one that has not may know an earlier one.
    fn visible(&self, start: Offset) -> Option<Offset> {
        let mut left = self.data.iter().filter(|(_, next)| *next > start);
        left.next().map(|(base, _)| *base)
    }

    fn marker(&self) -> Option<Offset> {
        self.end.map(|(marker, _)| marker)
    }
}

/// All transactions of these batches, by first offset.
pub(crate) fn transactions_of<'a>(batches: impl Iterator<Item = &'a Bytes>) -> Vec<Transaction> {
    let mut all: Vec<Transaction> = Vec::new();
    for bytes in batches {
        let header = BatchHeader::parse(bytes).unwrap();
        let id = header.producer_id;
        let open = all
            .iter_mut()
            .rev()
            .find(|known| known.producer == id && known.end.is_none());
        if header.is_control() {
            let control = read_control_batch(bytes).unwrap();
            if let (Some(open), Some(ControlRecord::EndMarker { marker, .. })) = (open, control) {
                open.end = Some((header.base_offset, marker));
            }
        } else if header.is_transactional() {
            let place = (header.base_offset, header.next_offset());
            match open {
                Some(open) => open.data.push(place),
                None => all.push(Transaction {
                    producer: id,
                    data: vec![place],
                    end: None,
                }),
            }
        }
    }
    all
}

/// Compares the last stable offset of a log with its transactions.
pub(crate) fn check_stable(log: &Log, transactions: &[Transaction]) -> Result<(), String> {
    let (start, high_watermark) = (log.log_start_offset(), log.high_watermark());
    let unstable = || {
        let all = transactions.iter();
        all.filter(|one| one.marker().is_none_or(|marker| marker >= high_watermark))
    };
    let bound = |first: Option<Offset>| {
        first.map_or(high_watermark, |first| first.max(start).min(high_watermark))
    };
    let lowest = bound(unstable().map(|one| one.data[0].0).min());
    let highest = bound(unstable().filter_map(|one| one.visible(start)).min());
    let found = log.last_stable_offset();
    if found < lowest || found > highest {
        return Err(format!(
            "{log:?}: stable up to {found}, which should be {lowest}..={highest}; high watermark {high_watermark}"
        ));
    }
    Ok(())
}

/// Compares what a log that begins at `start` has answered to a reader of `from..end` with its transactions.
pub(crate) fn check_aborted(
    found: &[AbortedTransaction],
    transactions: &[Transaction],
    start: Offset,
    (from, end): (Offset, Offset),
) -> Result<(), String> {
    let aborted: Vec<&Transaction> = transactions
        .iter()
        .filter(|one| one.end.is_some_and(|(_, how)| how == EndMarker::Abort))
        .collect();
    for one in found {
        let same = |known: &&&Transaction| known.marker() == Some(one.last_offset);
        let Some(known) = aborted.iter().find(same) else {
            return Err(format!("nobody aborted {one:?}"));
        };
        let is_first = known.data.iter().any(|(base, _)| *base == one.first_offset)
            && known
                .visible(start)
                .is_none_or(|visible| one.first_offset <= visible);
        let is_wanted = one.last_offset >= from && one.first_offset < end;
        if known.producer != one.producer_id || !is_first || !is_wanted {
            return Err(format!("{one:?} for {from}..{end}, which was {known:?}"));
        }
    }
    if !found.is_sorted_by(|before, after| before.last_offset < after.last_offset) {
        return Err(format!("not in order: {found:?}"));
    }
    for known in aborted {
        let is_needed = known.visible(start).is_some_and(|first| first < end)
            && known.marker().is_some_and(|marker| marker >= from);
        let is_found = found
            .iter()
            .any(|one| Some(one.last_offset) == known.marker());
        if is_needed && !is_found {
            return Err(format!("{known:?} is missing in {from}..{end} of {start}"));
        }
    }
    Ok(())
}

/// The end of a transaction of this producer.
pub(crate) fn end_of(producer: i64, marker: EndMarker, timestamp: i64) -> Bytes {
    let (id, epoch) = (ProducerId(producer), ProducerEpoch(0));
    control::end_marker_batch(marker, id, epoch, 1, Timestamp(timestamp)).unwrap()
}

/// Records of a transaction of this producer.
pub(crate) fn records_of(producer: i64, count: usize, value: &[u8], timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new()
        .producer(ProducerId(producer), ProducerEpoch(0), 0)
        .transactional(true);
    for record in 0..count {
        builder.push(Timestamp(timestamp + record as i64), None, Some(value));
    }
    builder.build().unwrap()
}

/// What one of a few producers does next: more often than not records, sometimes the end of a transaction, begun or not.
pub(crate) fn next_step(io: &SimIo, timestamp: i64) -> Bytes {
    let producer = 1 + (io.random() % 4) as i64;
    match io.random() % 6 {
        0 => end_of(producer, EndMarker::Commit, timestamp),
        1 => end_of(producer, EndMarker::Abort, timestamp),
        _ => {
            let value = vec![b't'; (io.random() % 300) as usize];
            let count = 1 + (io.random() % 3) as usize;
            records_of(producer, count, &value, timestamp)
        }
    }
}
