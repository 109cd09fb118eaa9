//! What a replica does with a log that another broker leads: appends batches as the leader has them, and notes epochs; and
//! what the metadata quorum keeps with its log.

use std::rc::Rc;

use model::record::{BatchHeader, crc_matches};
use model::{LeaderEpoch, Offset, Timestamp};
use runtime::Io;

use crate::append::{NewMark, control_of};
use crate::encoding::Encoder;
use crate::error::{AppendError, FollowError, ReadError};
use crate::inner::Inner;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::journal::room::Claim;
use crate::log::{Log, ReadBatches, ReadRequest};
use crate::options::Durability;
use crate::producer_state::Openings;
use crate::quorum_state::{QUORUM_STATE_BYTES, QuorumState};
use crate::segment::BatchPlace;
use crate::storage::{Mark, Storage};

/// A batch as its leader has it.
#[derive(Clone, Copy, Debug)]
pub struct ReplicatedBatch<'a> {
    /// Exactly one batch, with its base offset and leader epoch.
    pub bytes: &'a [u8],
    /// Which of its records has the largest timestamp: known to the leader from validation.
    pub offset_delta_of_max_timestamp: i32,
}

/// What a log that ends at some offset is continued with, as far as memory knows.
#[derive(Clone, Debug)]
pub enum TailRead {
    /// Batches, and of each which of its records has the largest timestamp.
    Batches(ReadBatches, Vec<i32>),
    /// Nothing that can be read: it is the end, or what follows is in the open commit group.
    Nothing,
    /// What follows is in segments.
    InSegments,
}

impl<I: Io> Storage<I> {
    /// Reads what was sealed, durable or not, without suspending: what a leader gives its followers.
    pub fn read_tail(&self, log: &Log, request: &ReadRequest) -> Result<TailRead, ReadError> {
        self.inner.check_range(log, request.from)?;
        let state = log.state();
        if request.from >= request.end.min(log.log_end_offset()) {
            return Ok(TailRead::Nothing);
        }
        if !state.tail_covers(request.from) {
            return Ok(match request.from < state.written_end_offset {
                true => TailRead::InSegments,
                false => TailRead::Nothing,
            });
        }
        let read = state.read_tail(request);
        let deltas = state.max_timestamp_deltas(request.from, read.next_offset);
        Ok(match deltas.is_empty() {
            true => TailRead::Nothing,
            false => TailRead::Batches(read, deltas),
        })
    }

    /// Appends what the leader sent: offsets and epochs as given, checksums and order verified. All of it or nothing.
    /// Offsets that the leader skips (compaction) are skipped here too. Returns the log's new end.
    pub fn append_replicated(
        &self,
        log: &Rc<Log>,
        batches: &[ReplicatedBatch<'_>],
        durability: Durability,
        now: Timestamp,
    ) -> Result<Offset, FollowError> {
        let claim = Claim::Append;
        self.inner
            .append_replicated(log, batches, durability, now, claim)
    }

    /// The same for what was decided already, durable when flushed: a full device takes it as it takes marks.
    pub fn append_decided(
        &self,
        log: &Rc<Log>,
        batches: &[ReplicatedBatch<'_>],
        now: Timestamp,
    ) -> Result<Offset, FollowError> {
        let durability = Durability::Flushed;
        let claim = Claim::Mark;
        self.inner
            .append_replicated(log, batches, durability, now, claim)
    }

    /// Notes that `epoch` begins at the log's end, before anything is appended under it. Durable with the mark.
    pub fn start_epoch(&self, log: &Rc<Log>, epoch: LeaderEpoch) -> Result<Mark, AppendError> {
        let inner = &self.inner;
        inner.check_mark(log, 0)?;
        let latest = log.latest_leader_epoch();
        if let Some(latest) = latest.filter(|latest| *latest > epoch) {
            return Err(AppendError::LeaderEpochStale {
                found: epoch,
                latest,
            });
        }
        let end = log.log_end_offset();
        log.state_mut().leader_epochs.assign(epoch, end);
        let mark = inner.add_mark(log, NewMark::epoch(epoch, end));
        inner.kick();
        Ok(Mark::of(mark))
    }

    /// Notes what this member of the metadata quorum promises. It must not act on it before the mark is durable.
    pub fn set_quorum_state(&self, log: &Rc<Log>, next: QuorumState) -> Result<Mark, AppendError> {
        let inner = &self.inner;
        inner.check_mark(log, QUORUM_STATE_BYTES)?;
        let present = log.quorum_state();
        assert!(
            present.may_become(&next),
            "{present:?} cannot become {next:?}"
        );
        log.state_mut().quorum = next;
        let mut bytes = Encoder::default();
        next.encode(&mut bytes);
        let mark = NewMark::with_bytes(EntryKind::QuorumState, &bytes.bytes);
        let mark = inner.add_mark(log, mark);
        inner.kick();
        Ok(Mark::of(mark))
    }
}

impl<I: Io> Inner<I> {
    /// Whether a mark with `bytes` of its own may be set.
    fn check_mark(&self, log: &Log, bytes: usize) -> Result<(), AppendError> {
        self.life.check_appends()?;
        self.check_takes(log)?;
        if !self.journal_has_room(ENTRY_HEADER_BYTES + bytes, Claim::Mark) {
            self.reclaim_signal.raise();
            return Err(AppendError::JournalFull);
        }
        Ok(())
    }

    fn append_replicated(
        &self,
        log: &Rc<Log>,
        batches: &[ReplicatedBatch<'_>],
        durability: Durability,
        now: Timestamp,
        claim: Claim,
    ) -> Result<Offset, FollowError> {
        self.check_writable(claim == Claim::Mark)?;
        self.check_takes(log)?;
        let mut follows = log.log_end_offset();
        let mut epoch = log.latest_leader_epoch();
        let mut bytes = 0;
        let mut headers = Vec::with_capacity(batches.len());
        let state = log.state();
        let mut openings = Openings::new(&state.producers);
        for batch in batches {
            let header = check_replicated(batch, follows, epoch)?;
            self.check_size(batch.bytes, &header)?;
            let control = control_of(&header, batch.bytes);
            let control = control.map_err(|_| FollowError::Damaged(header.base_offset))?;
            openings.add(&header, control)?;
            follows = header.next_offset();
            epoch = Some(header.leader_epoch);
            bytes += 2 * ENTRY_HEADER_BYTES + batch.bytes.len();
            headers.push((header, control));
        }
        drop(state);
        let fits = self.journal_has_room(bytes, claim)
            || (batches.len() == 1 && self.journal_takes(bytes, claim));
        if !fits {
            return Err(AppendError::JournalFull.into());
        }
        for (batch, (header, control)) in batches.iter().zip(&headers) {
            self.add_replicated(log, batch, header, durability, now)?;
            let mut state = log.state_mut();
            state.producers.learn(header, *control, now);
        }
        self.kick();
        Ok(log.log_end_offset())
    }

    fn add_replicated(
        &self,
        log: &Rc<Log>,
        batch: &ReplicatedBatch<'_>,
        header: &BatchHeader,
        durability: Durability,
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let follows = log.log_end_offset();
        // A gap and its batch stand in one group.
        self.open_room(2 * ENTRY_HEADER_BYTES + batch.bytes.len());
        if header.base_offset > follows {
            self.add_mark(log, NewMark::at(EntryKind::Gap, follows));
        }
        let delta = batch
            .offset_delta_of_max_timestamp
            .clamp(0, header.last_offset_delta);
        let place = BatchPlace {
            follows,
            base_offset: header.base_offset,
            next_offset: header.next_offset(),
            max_timestamp: header.max_timestamp,
            offset_of_max_timestamp: header.base_offset.plus(delta.into()),
        };
        let entry = EntryHeader {
            kind: EntryKind::Batch,
            id: log.id(),
            leader_epoch: header.leader_epoch,
            offset: header.base_offset,
            length: u32::try_from(batch.bytes.len()).map_err(|_| AppendError::Malformed)?,
            batch_crc: 0,
            offset_delta_of_max_timestamp: delta,
        };
        let mut state = log.state_mut();
        self.add_to_group(log, &mut state, batch.bytes, entry, place, |_| Ok(()))?;
        self.journal.borrow_mut().open.flushed |= durability == Durability::Flushed;
        let bytes = batch.bytes.len() as u64;
        self.appended(log, &mut state, header.leader_epoch, bytes, place);
        state.appended_at = now;
        Ok(())
    }
}

/// Whether a batch from the leader continues a log that ends at `follows` under `epoch`.
fn check_replicated(
    batch: &ReplicatedBatch<'_>,
    follows: Offset,
    epoch: Option<LeaderEpoch>,
) -> Result<BatchHeader, FollowError> {
    let header = BatchHeader::parse(batch.bytes).map_err(|_| AppendError::Malformed)?;
    if header.size_bytes() != batch.bytes.len() || header.last_offset_delta < 0 {
        return Err(AppendError::Malformed.into());
    }
    let next = header
        .base_offset
        .0
        .checked_add(header.last_offset_delta.into());
    if next.is_none_or(|last| last == i64::MAX) {
        return Err(AppendError::Malformed.into());
    }
    if header.base_offset < follows {
        return Err(FollowError::NotNext {
            found: header.base_offset,
            log_end_offset: follows,
        });
    }
    if let Some(latest) = epoch.filter(|latest| header.leader_epoch < *latest) {
        let found = header.leader_epoch;
        return Err(AppendError::LeaderEpochStale { found, latest }.into());
    }
    if !crc_matches(batch.bytes) {
        return Err(FollowError::Damaged(header.base_offset));
    }
    Ok(header)
}
