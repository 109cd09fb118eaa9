//! Appends and marks: into the open commit group, if there is room.

use std::rc::Rc;
use std::time::Duration;

use model::record::{
    BatchError, BatchHeader, BatchInfo, TimestampType, set_base_offset, set_leader_epoch,
    set_log_append_time, set_max_timestamp,
};
use model::{LeaderEpoch, Offset, Timestamp};
use runtime::Io;

use crate::error::AppendError;
use crate::inner::Inner;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::journal::group::GroupBatch;
use crate::journal::room::Claim;
use crate::log::{Log, LogState};
use crate::options::{AppendContext, Durability};
use crate::producer_state::SequenceCheck;
use crate::segment::BatchPlace;

/// Who asks for admission is refused after this time: a client retries, and must not wait for an answer that never
/// comes.
const ADMISSION_TIME_MAX: Duration = Duration::from_secs(10);

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record. Committed once the log's durable end is beyond it.
    pub last_offset: Offset,
    /// The batch had been appended before; these are its offsets.
    pub duplicate: bool,
    /// The stamped time, on `LogAppendTime` topics.
    pub log_append_time: Option<Timestamp>,
}

impl<I: Io> Inner<I> {
    fn check_writable(&self, urgent: bool) -> Result<(), AppendError> {
        self.life.check_appends()?;
        if self.space.is_full() && !urgent {
            return Err(AppendError::DiskFull);
        }
        Ok(())
    }

    pub(crate) async fn admit(&self, bytes: usize, urgent: bool) -> Result<(), AppendError> {
        let claim = if urgent { Claim::Urgent } else { Claim::Append };
        let entry = bytes.min(self.options.batch_bytes_max());
        let demand = entry + ENTRY_HEADER_BYTES;
        let mut deadline = None;
        loop {
            self.check_writable(urgent)?;
            let journal_full = !self.journal_has_room(demand, claim) && self.journal_can_free();
            let tail_bytes = self.tail.borrow().bytes() + bytes.min(self.options.group_bytes_max);
            let tail_full = tail_bytes > self.options.tail_bytes_max && !urgent;
            let congested = self.journal_congested() && !urgent;
            if !congested && !tail_full && !journal_full {
                return Ok(());
            }
            let now = self.io.now();
            if now >= *deadline.get_or_insert_with(|| now.plus(ADMISSION_TIME_MAX)) {
                return Err(AppendError::JournalFull);
            }
            if journal_full {
                let known = self.journal_demand.get();
                self.journal_demand.set(known.max(demand));
                self.extend_demand.set(self.extend_demand.get().max(demand));
            }
            if tail_full || journal_full {
                self.reclaim_signal.raise();
                self.journal_extend.raise();
            }
            self.admission.changed().await;
        }
    }

    /// Makes room in the open group: seals it if `bytes` more would make it too large.
    fn open_room(&self, bytes: usize) {
        let full = {
            let journal = self.journal.borrow();
            journal.open.entry_count > 0
                && journal.open.used() + bytes > self.options.group_bytes_max
        };
        if full {
            self.seal();
        }
    }

    /// Adds an entry without payload to the open group.
    /// Returns the sequence of the group that holds the mark.
    pub(crate) fn add_mark(&self, log: &Rc<Log>, kind: EntryKind, offset: Offset) -> u64 {
        self.open_room(ENTRY_HEADER_BYTES);
        let mut state = log.state.borrow_mut();
        let mut journal = self.journal.borrow_mut();
        let sequence = journal.pipeline.next_sequence();
        journal
            .open
            .log_number(log, &mut state.open_group, sequence, Offset::ZERO);
        let entry = EntryHeader {
            kind,
            id: log.id(),
            leader_epoch: LeaderEpoch::NONE,
            offset,
            length: 0,
            batch_crc: 0,
            offset_delta_of_max_timestamp: 0,
        };
        journal.open.add_mark(entry, |len| self.io.buffer(len));
        journal.open.flushed = true;
        sequence
    }

    pub(crate) fn append(
        &self,
        log: &Rc<Log>,
        batch: &[u8],
        info: &BatchInfo,
        context: AppendContext,
    ) -> Result<Appended, AppendError> {
        self.check_writable(context.urgent)?;
        self.check_size(log, batch, info, context.urgent)?;
        self.open_room(ENTRY_HEADER_BYTES + batch.len());
        let mut state = log.state.borrow_mut();
        if context.check_producer
            && info.header.is_idempotent()
            && let SequenceCheck::Duplicate(known) = state.producers.check(&info.header)?
        {
            return Ok(Appended {
                base_offset: known.base_offset(),
                last_offset: known.last_offset,
                duplicate: true,
                log_append_time: context.log_append_time.map(|_| known.timestamp),
            });
        }
        if let Some(latest) = state.leader_epochs.latest()
            && context.leader_epoch < latest
        {
            return Err(AppendError::LeaderEpochStale {
                found: context.leader_epoch,
                latest,
            });
        }
        let place = place_batch(log.log_end_offset.get(), info, &context)?;
        self.add_to_group(log, &mut state, batch, info, &context, place)?;
        state
            .leader_epochs
            .assign(context.leader_epoch, place.base_offset);
        if info.header.is_idempotent() {
            let stored = BatchHeader {
                base_offset: place.base_offset,
                max_timestamp: place.max_timestamp,
                ..info.header
            };
            state.producers.learn(&stored, context.now);
        }
        state.appended_at = context.now;
        drop(state);
        log.log_end_offset.set(place.next_offset);
        log.size_bytes
            .set(log.size_bytes.get() + batch.len() as u64);
        self.kick();
        Ok(Appended {
            base_offset: place.base_offset,
            last_offset: Offset(place.next_offset.0 - 1),
            duplicate: false,
            log_append_time: context.log_append_time,
        })
    }

    /// Refuses what is not one batch, or has no room.
    fn check_size(
        &self,
        log: &Log,
        batch: &[u8],
        info: &BatchInfo,
        urgent: bool,
    ) -> Result<(), AppendError> {
        if log.deleted.get() {
            return Err(AppendError::Deleted);
        }
        if info.header.size_bytes() != batch.len() || info.header.last_offset_delta < 0 {
            return Err(AppendError::Malformed);
        }
        let bytes_max = self.options.batch_bytes_max();
        if batch.len() > bytes_max {
            return Err(AppendError::TooLarge {
                bytes: batch.len(),
                bytes_max,
            });
        }
        let claim = if urgent { Claim::Urgent } else { Claim::Append };
        let bytes = ENTRY_HEADER_BYTES + batch.len();
        if !self.journal_has_room(bytes, claim) && !self.journal_takes(bytes, claim) {
            return Err(AppendError::JournalFull);
        }
        Ok(())
    }

    /// Copies the batch into the open group, stamping the copy.
    fn add_to_group(
        &self,
        log: &Rc<Log>,
        state: &mut LogState,
        batch: &[u8],
        info: &BatchInfo,
        context: &AppendContext,
        place: BatchPlace,
    ) -> Result<(), AppendError> {
        let entry = EntryHeader {
            kind: EntryKind::Batch,
            id: log.id(),
            leader_epoch: context.leader_epoch,
            offset: place.base_offset,
            length: u32::try_from(batch.len()).map_err(|_| AppendError::Malformed)?,
            batch_crc: 0,
            offset_delta_of_max_timestamp: info.offset_delta_of_max_timestamp,
        };
        let mut journal = self.journal.borrow_mut();
        let start = journal
            .open
            .add_batch(
                entry,
                batch,
                |len| self.io.buffer(len),
                |stored| stamp(stored, place.base_offset, info, context),
            )
            .map_err(|_| AppendError::Malformed)?;
        let sequence = journal.pipeline.next_sequence();
        let number =
            journal
                .open
                .log_number(log, &mut state.open_group, sequence, place.next_offset);
        journal.open.batches.push(GroupBatch {
            log: number,
            place,
            start,
            len: batch.len(),
            carried: false,
        });
        journal.open.flushed |= context.durability == Durability::Flushed;
        Ok(())
    }
}

/// The offsets and the time of a batch that goes to the end of a log.
fn place_batch(
    base_offset: Offset,
    info: &BatchInfo,
    context: &AppendContext,
) -> Result<BatchPlace, AppendError> {
    let count = i64::from(info.header.last_offset_delta) + 1;
    let next_offset = base_offset.0.checked_add(count);
    let next_offset = next_offset.ok_or(AppendError::Malformed)?;
    Ok(BatchPlace {
        base_offset,
        next_offset: Offset(next_offset),
        max_timestamp: context.log_append_time.unwrap_or(info.max_timestamp),
        offset_of_max_timestamp: base_offset.plus(info.offset_delta_of_max_timestamp.max(0).into()),
    })
}

/// Makes the stored copy of a batch final.
fn stamp(
    stored: &mut [u8],
    base_offset: Offset,
    info: &BatchInfo,
    context: &AppendContext,
) -> Result<(), BatchError> {
    set_base_offset(stored, base_offset)?;
    set_leader_epoch(stored, context.leader_epoch)?;
    match context.log_append_time {
        Some(now) => set_log_append_time(stored, now),
        None if info.timestamp_patch_needed => {
            set_max_timestamp(stored, TimestampType::CreateTime, info.max_timestamp)
        }
        None => Ok(()),
    }
}
