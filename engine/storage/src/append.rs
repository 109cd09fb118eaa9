//! Appends and marks: into the open commit group, if there is room.

use std::rc::Rc;
use std::time::Duration;

use model::record::{
    BatchError, BatchHeader, BatchInfo, ControlError, ControlRecord, TimestampType,
    read_control_batch, set_base_offset, set_leader_epoch, set_log_append_time, set_max_timestamp,
};
use model::{LeaderEpoch, Offset, Timestamp};
use runtime::Io;

use crate::error::AppendError;
use crate::inner::Inner;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::journal::group::GroupBatch;
use crate::journal::room::Claim;
use crate::log::{Log, LogState};
use crate::options::{AppendContext, Durability, PlantedFault};
use crate::producer::{RememberedBatch, SequenceCheck};
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

/// An entry of the journal that is no batch.
#[derive(Clone, Copy)]
pub(crate) struct NewMark<'a> {
    kind: EntryKind,
    leader_epoch: LeaderEpoch,
    offset: Offset,
    bytes: &'a [u8],
}

impl<'a> NewMark<'a> {
    /// About an offset.
    pub(crate) fn at(kind: EntryKind, offset: Offset) -> NewMark<'static> {
        NewMark {
            kind,
            leader_epoch: LeaderEpoch::NONE,
            offset,
            bytes: &[],
        }
    }

    /// The beginning of an epoch.
    pub(crate) fn epoch(leader_epoch: LeaderEpoch, offset: Offset) -> NewMark<'static> {
        NewMark {
            leader_epoch,
            ..NewMark::at(EntryKind::EpochStarted, offset)
        }
    }

    fn is_left_out(&self, planted: Option<PlantedFault>) -> bool {
        let Some(planted) = planted else {
            return false;
        };
        let left_out = match planted {
            PlantedFault::CutUnmarked => EntryKind::Truncated,
            PlantedFault::ResetUnmarked => EntryKind::Reset,
            PlantedFault::GapUnmarked => EntryKind::Gap,
            PlantedFault::QuorumUnmarked => EntryKind::QuorumState,
            PlantedFault::EpochUnmarked => EntryKind::EpochStarted,
            _ => return false,
        };
        self.kind == left_out
    }

    /// With bytes of its own.
    pub(crate) fn with_bytes(kind: EntryKind, bytes: &'a [u8]) -> NewMark<'a> {
        NewMark {
            bytes,
            ..NewMark::at(kind, Offset::ZERO)
        }
    }
}

impl<I: Io> Inner<I> {
    pub(crate) fn check_writable(&self, urgent: bool) -> Result<(), AppendError> {
        self.life.check_appends()?;
        if self.space.is_full() && !urgent {
            return Err(AppendError::DiskFull);
        }
        Ok(())
    }

    pub(crate) async fn admit(&self, bytes: usize) -> Result<(), AppendError> {
        let claim = Claim::Append;
        let entry = bytes.min(self.options.batch_bytes_max());
        let demand = entry + ENTRY_HEADER_BYTES;
        let mut deadline = None;
        loop {
            self.check_writable(false)?;
            // As the append itself will look: who would be taken does not wait for a checkpoint that may never come.
            let has_room =
                self.journal_has_room(demand, claim) || self.journal_takes(demand, claim);
            let journal_full = !has_room && self.journal_can_free();
            let tail_bytes = self.tail.borrow().bytes() + bytes.min(self.options.group_bytes_max);
            let tail_full = tail_bytes > self.options.tail_bytes_max;
            let congested = self.journal_congested();
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

    /// Makes room in the open group: seals it if `bytes` more would make it too large, or move all of it to another file.
    pub(crate) fn open_room(&self, bytes: usize) {
        let full = {
            let journal = self.journal.borrow();
            let (open, grown) = (&journal.open, journal.open.used() + bytes);
            open.entry_count > 0
                && (grown > self.options.group_bytes_max
                    || journal.pipeline.would_roll(open.disk_bytes(), grown))
        };
        if full {
            self.seal();
        }
    }

    /// Adds an entry that is no batch to the open group. Returns the sequence of that group.
    pub(crate) fn add_mark(&self, log: &Rc<Log>, mark: NewMark<'_>) -> u64 {
        if mark.is_left_out(self.options.planted) {
            return self.journal.borrow().pipeline.durable_sequence();
        }
        self.open_room(ENTRY_HEADER_BYTES + mark.bytes.len());
        let mut state = log.state_mut();
        let mut journal = self.journal.borrow_mut();
        let sequence = journal.pipeline.next_sequence();
        journal
            .open
            .log_number(log, &mut state.open_group, sequence, Offset::ZERO);
        let crc = if mark.bytes.is_empty() {
            0
        } else {
            crc32c::crc32c(mark.bytes)
        };
        let entry = EntryHeader {
            kind: mark.kind,
            id: log.id(),
            leader_epoch: mark.leader_epoch,
            offset: mark.offset,
            length: u32::try_from(mark.bytes.len()).expect("a few bytes"),
            batch_crc: crc,
            offset_delta_of_max_timestamp: 0,
        };
        journal
            .open
            .add_mark(entry, mark.bytes, |len| self.io.buffer(len));
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
        self.check_writable(false)?;
        self.check_takes(log)?;
        self.check_size(batch, &info.header)?;
        let claim = Claim::Append;
        let bytes = ENTRY_HEADER_BYTES + batch.len();
        if !self.journal_has_room(bytes, claim) && !self.journal_takes(bytes, claim) {
            return Err(AppendError::JournalFull);
        }
        let control = control_of(&info.header, batch).map_err(|_| AppendError::Malformed)?;
        self.open_room(ENTRY_HEADER_BYTES + batch.len());
        let mut state = log.state_mut();
        if info.header.is_idempotent() {
            if context.check_producer
                && let SequenceCheck::Duplicate(known) =
                    state.producers.check(&info.header, control)?
            {
                return Ok(duplicate_of(&known, &context));
            }
            state.producers.check_room(&info.header)?;
        }
        if let Some(latest) = state.leader_epochs.latest()
            && context.leader_epoch < latest
        {
            return Err(AppendError::LeaderEpochStale {
                found: context.leader_epoch,
                latest,
            });
        }
        let place = place_batch(log.log_end_offset(), info, &context)?;
        let entry = EntryHeader {
            kind: EntryKind::Batch,
            id: log.id(),
            leader_epoch: context.leader_epoch,
            offset: place.base_offset,
            length: u32::try_from(batch.len()).map_err(|_| AppendError::Malformed)?,
            batch_crc: 0,
            offset_delta_of_max_timestamp: info.offset_delta_of_max_timestamp,
        };
        self.add_to_group(log, &mut state, batch, entry, place, |stored| {
            stamp(stored, place.base_offset, info, &context)
        })?;
        self.journal.borrow_mut().open.flushed |= context.durability == Durability::Flushed;
        if info.header.is_idempotent() {
            let stored = BatchHeader {
                base_offset: place.base_offset,
                max_timestamp: place.max_timestamp,
                ..info.header
            };
            state.producers.learn(&stored, control, context.now);
        }
        let bytes = batch.len() as u64;
        self.appended(log, &mut state, context.leader_epoch, bytes, place);
        state.appended_at = context.now;
        drop(state);
        self.kick();
        Ok(Appended {
            base_offset: place.base_offset,
            last_offset: Offset(place.next_offset.0 - 1),
            duplicate: false,
            log_append_time: context.log_append_time,
        })
    }

    /// Whether the log takes anything now.
    pub(crate) fn check_takes(&self, log: &Log) -> Result<(), AppendError> {
        if log.is_deleted() {
            return Err(AppendError::Deleted);
        }
        if log.is_held() {
            return Err(AppendError::Held);
        }
        Ok(())
    }

    /// Refuses what is not one batch, or is larger than a journal file.
    pub(crate) fn check_size(&self, batch: &[u8], header: &BatchHeader) -> Result<(), AppendError> {
        if header.size_bytes() != batch.len() || header.last_offset_delta < 0 {
            return Err(AppendError::Malformed);
        }
        let bytes_max = self.options.batch_bytes_max();
        if batch.len() > bytes_max {
            return Err(AppendError::TooLarge {
                bytes: batch.len(),
                bytes_max,
            });
        }
        Ok(())
    }

    /// Copies a batch into the open group; `patch` makes the copy final.
    pub(crate) fn add_to_group(
        &self,
        log: &Rc<Log>,
        state: &mut LogState,
        batch: &[u8],
        entry: EntryHeader,
        place: BatchPlace,
        patch: impl FnOnce(&mut [u8]) -> Result<(), BatchError>,
    ) -> Result<(), AppendError> {
        let mut journal = self.journal.borrow_mut();
        let start = journal
            .open
            .add_batch(entry, batch, |len| self.io.buffer(len), patch)
            .map_err(|_| AppendError::Malformed)?;
        let sequence = journal.pipeline.next_sequence();
        assert!(
            sequence > log.cut_in_group() || log.cut_in_group() == sequence,
            "what follows a cut stands behind its mark"
        );
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
        Ok(())
    }

    /// A batch of so many bytes is in the open group: the log goes on behind it.
    pub(crate) fn appended(
        &self,
        log: &Log,
        state: &mut LogState,
        leader_epoch: LeaderEpoch,
        bytes: u64,
        place: BatchPlace,
    ) {
        assert_eq!(
            log.log_end_offset(),
            place.follows,
            "batches follow each other"
        );
        assert!(
            place.base_offset >= place.follows && place.next_offset > place.base_offset,
            "a batch has records"
        );
        state.leader_epochs.assign(leader_epoch, place.base_offset);
        log.extend(place.next_offset, bytes);
        log.assert_offsets();
    }
}

/// What a batch says of its producer's transactions; of one without a producer nothing is asked.
pub(crate) fn control_of(
    header: &BatchHeader,
    batch: &[u8],
) -> Result<Option<ControlRecord>, ControlError> {
    if header.is_control() && header.is_idempotent() {
        read_control_batch(batch)
    } else {
        Ok(None)
    }
}

fn duplicate_of(known: &RememberedBatch, context: &AppendContext) -> Appended {
    Appended {
        base_offset: known.base_offset(),
        last_offset: known.last_offset,
        duplicate: true,
        log_append_time: context.log_append_time.map(|_| known.timestamp),
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
        follows: base_offset,
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
