//! Appending: records of coordinators become batches of their partitions.
//!
//! One task per shard, so that the order of records is the order in which they were given out; it may run ahead of
//! the acknowledgements. What several requests left behind since its last turn goes into one batch.
//!
//! Old records of `__consumer_offsets` pile up until the topic is compacted. To bound what a load has to read, the task
//! writes a coordinator's whole state again when its log has become several times larger, and then moves the start of
//! the log there. That happens while nothing is in flight, so that no older record can come to lie behind a newer one.

use std::rc::Rc;

use coordinator::{AppendFailure, KeyValue};
use model::record::BatchBuilder;
use model::{LeaderEpoch, Offset};
use runtime::Io;

use super::CoordinatorHost;
use super::hosted::{Hosted, Purpose, record_bytes};
use crate::partition::{AcknowledgeTarget, Partition};
use crate::refusal::{AppendRefusal, LeadRefusal, WaitFailure};
use crate::request::Acks;

/// Bytes of records in one batch, unless one unit is larger (`message.max.bytes` of Kafka).
const BATCH_BYTES_MAX: usize = 1 << 20;

pub(super) async fn run<I: Io>(host: Rc<CoordinatorHost<I>>) {
    loop {
        let next = host.appending.borrow_mut().pop_front();
        match next {
            Some(hosted) => {
                hosted.queued.set(false);
                append_for(&host, &hosted).await;
                if hosted.has_work_for_log() {
                    host.want_append(&hosted);
                }
            }
            None => host.append_wanted.wait().await,
        }
    }
}

/// One turn of a coordinator: one batch, and before it a rewrite if that is due.
async fn append_for<I: Io>(host: &CoordinatorHost<I>, hosted: &Rc<Hosted>) {
    if !hosted.has_work_for_log() {
        return;
    }
    if hosted.is_rewrite_due() {
        rewrite(host, hosted).await;
    }
    let units = hosted.take_pending(BATCH_BYTES_MAX);
    if units.is_empty() {
        return;
    }
    let records = units.iter().flat_map(|unit| &unit.records);
    let Some(appended) = append_records(host, hosted, records).await else {
        return;
    };
    match appended {
        Ok((partition, base, until)) => {
            let mut offset = base;
            let units = units.iter().map(|unit| {
                let first = offset;
                offset = offset.plus(count(unit.records.len()));
                (unit.id, first)
            });
            let number = hosted.sent(Purpose::Appends(units.collect()));
            await_batch(host, hosted, &partition, until, number);
        }
        Err(failure) => {
            let units = units.iter().map(|unit| (unit.id, Offset::NONE));
            let number = hosted.sent(Purpose::Appends(units.collect()));
            finished(host, hosted, number, Err(failure));
        }
    }
}

/// Writes the durable state again. Nothing is in flight, and nothing is appended for this coordinator until this
/// returns, so the state does not change meanwhile.
async fn rewrite<I: Io>(host: &CoordinatorHost<I>, hosted: &Rc<Hosted>) {
    let records = hosted.snapshot();
    let mut start = None;
    let mut live_bytes = 0;
    let mut last = None;
    for chunk in chunks(&records, BATCH_BYTES_MAX) {
        let Some(appended) = append_records(host, hosted, chunk).await else {
            return;
        };
        match appended {
            Ok((partition, base, until)) => {
                start.get_or_insert(base);
                last = Some((partition, until));
                live_bytes += chunk.iter().map(record_bytes).sum::<usize>();
            }
            Err(failure) => {
                tracing::warn!(partition = %hosted.id, ?failure, "group state not written again");
                hosted.postpone_rewrite();
                return;
            }
        }
    }
    // Without any live record the start moves with a later rewrite.
    match (start, last) {
        (Some(start), Some((partition, until))) => {
            hosted.rewritten(live_bytes);
            let number = hosted.sent(Purpose::Rewrite { start });
            await_batch(host, hosted, &partition, until, number);
        }
        _ => hosted.postpone_rewrite(),
    }
}

/// A batch of a coordinator that is in the log: its partition, its base offset and the offset behind it.
type Batch = (Rc<Partition>, Offset, Offset);

/// Appends records as one batch, once there is room for it. `None`: the coordinator was closed meanwhile.
async fn append_records<'a, I: Io>(
    host: &CoordinatorHost<I>,
    hosted: &Hosted,
    records: impl IntoIterator<Item = &'a KeyValue>,
) -> Option<Result<Batch, AppendFailure>> {
    let now = host.tools.io.wall_clock();
    let mut batch = BatchBuilder::new();
    for (key, value) in records {
        batch.push(now, Some(key), value.as_deref());
    }
    let batch = match batch.build() {
        Ok(batch) => batch,
        Err(error) => {
            tracing::error!(partition = %hosted.id, %error, "group records do not fit a batch");
            return Some(Err(AppendFailure::Rejected));
        }
    };
    host.tools.appender.admit(batch.len()).await;
    (!hosted.is_closed()).then(|| append_batch(host, hosted, &batch))
}

fn append_batch<I: Io>(
    host: &CoordinatorHost<I>,
    hosted: &Hosted,
    batch: &[u8],
) -> Result<Batch, AppendFailure> {
    let partitions = &host.tools.partitions;
    let partition = partitions
        .lead(hosted.id, LeaderEpoch::NONE)
        .map_err(not_led)?;
    if !partition.has_enough_in_sync() {
        return Err(AppendFailure::Unavailable);
    }
    let appended = host
        .tools
        .appender
        .append_own(&partition, batch)
        .map_err(|refusal| refused(&refusal))?;
    hosted.add_load_bytes(batch.len());
    let end = appended.last_offset.plus(1);
    Ok((partition, appended.base_offset, end))
}

fn await_batch<I: Io>(
    host: &CoordinatorHost<I>,
    hosted: &Rc<Hosted>,
    partition: &Partition,
    until: Offset,
    number: u64,
) {
    if partition.is_acknowledged(Acks::All, until) {
        finished(host, hosted, number, Ok(()));
    } else {
        let target = AcknowledgeTarget::Coordinator(hosted.id, number);
        partition.wait(Acks::All, until, target);
    }
}

/// A batch of a coordinator is acknowledged, or will never be.
pub(super) fn finished<I: Io>(
    host: &CoordinatorHost<I>,
    hosted: &Rc<Hosted>,
    number: u64,
    outcome: Result<(), AppendFailure>,
) {
    let new_start = hosted.finished(host.now(), number, outcome);
    if let (Some(start), Some(partition)) = (new_start, host.tools.partitions.get(hosted.id))
        && let Err(error) = host.tools.storage.advance_log_start(&partition.log, start)
    {
        tracing::warn!(partition = %hosted.id, %error, "the start of the log stays where it is");
        hosted.postpone_rewrite();
    }
    host.settle(hosted);
}

fn not_led(refusal: LeadRefusal) -> AppendFailure {
    match refusal {
        LeadRefusal::Unknown => AppendFailure::Unavailable,
        LeadRefusal::NotLeader(_) | LeadRefusal::EpochOver(_) | LeadRefusal::EpochAhead(_) => {
            AppendFailure::NotLeader
        }
    }
}

fn refused(refusal: &AppendRefusal) -> AppendFailure {
    match refusal {
        AppendRefusal::Deleted => AppendFailure::Unavailable,
        AppendRefusal::DiskFull
        | AppendRefusal::Unavailable(_)
        | AppendRefusal::LeaderEpochStale(_) => AppendFailure::NotLeader,
        AppendRefusal::TooLarge(_)
        | AppendRefusal::Malformed(_)
        | AppendRefusal::OffsetOutOfRange(_)
        | AppendRefusal::OutOfOrderSequence(_)
        | AppendRefusal::TransactionOpen(_)
        | AppendRefusal::CoordinatorFenced(_)
        | AppendRefusal::InvalidProducerEpoch(_) => AppendFailure::Rejected,
    }
}

/// What a coordinator is told of a batch that nobody acknowledges.
pub(super) fn not_acknowledged(failure: WaitFailure) -> AppendFailure {
    match failure {
        WaitFailure::Fenced | WaitFailure::NotLeader => AppendFailure::NotLeader,
        WaitFailure::Deleted | WaitFailure::TimedOut => AppendFailure::Unavailable,
    }
}

/// Splits records into runs of about `bytes_max`, each with at least one record.
fn chunks(records: &[KeyValue], bytes_max: usize) -> impl Iterator<Item = &[KeyValue]> {
    let mut bytes = 0;
    records.chunk_by(move |before, after| {
        bytes += record_bytes(before);
        if bytes + record_bytes(after) > bytes_max {
            bytes = 0;
            return false;
        }
        true
    })
}

fn count(records: usize) -> i64 {
    i64::try_from(records).expect("a batch counts its records in 32 bits")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn chunks_hold_every_record_once_and_respect_the_bound() {
        let record = |key: usize| (Bytes::from(vec![0; key]), None);
        let table: [(&[usize], &[usize]); 5] = [
            (&[], &[]),
            (&[500], &[1]),
            (&[10, 10, 10], &[3]),
            (&[40, 40, 40], &[1, 1, 1]),
            (&[10, 10, 10, 10, 500, 10], &[4, 1, 1]),
        ];
        for (sizes, expected) in table {
            let records: Vec<KeyValue> = sizes.iter().map(|size| record(*size)).collect();
            let lengths: Vec<usize> = chunks(&records, 100).map(<[KeyValue]>::len).collect();
            assert_eq!(lengths, expected, "{sizes:?}");
        }
    }
}
