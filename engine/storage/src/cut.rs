//! Cuts logs: what lies from an offset on goes (KIP-101: the leader never had it), or all of it does (a replica that begins
//! anew).
//!
//! First nobody may change the log, and everything of it that is on its way is brought to the journal. Then, if the cut lies
//! in a segment, its place is looked for on the device. Then, without a pause, the mark goes into the open group and memory
//! changes. Segment files are never written over: the segment that is cut ends there, later ones go, and what comes next
//! begins a segment of a new generation. Replay does the same where it meets a mark that the checkpoint did not know.
//!
//! Invariants: a log that is cut has nothing in the open group or on its way; after a cut its end is the end of a batch. One
//! that would keep nothing is emptied instead.

use std::rc::Rc;

use bytes::Bytes;
use model::record::{BatchHeader, Batches};
use model::{Offset, Timestamp};
use runtime::Io;

use crate::append::NewMark;
use crate::error::{CutError, ReadError};
use crate::index::{ChunkEntry, PAGE_ENTRIES};
use crate::inner::Inner;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryKind};
use crate::journal::room::Claim;
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::log::{Hold, Log, LogState};
use crate::options::PlantedFault;
use crate::producer_state::ProducerStates;
use crate::segment::SegmentCut;
use crate::segment_view::{SegmentView, Snapshot};
use crate::storage::Storage;

/// What becomes of a log.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Where it ends then.
    pub(crate) end: Offset,
    /// What is left of the segment that the cut lies in.
    segment: Option<SegmentCut>,
    /// Its producers, if what they did cannot be undone.
    producers: Option<ProducerStates>,
}

/// Where an offset lies.
enum Place {
    /// Behind the end.
    Nowhere,
    /// At the border of a batch that memory knows; the end of what is left.
    Border(Offset),
    /// In a segment.
    Segment(Snapshot),
}

/// A batch of a segment and where it begins.
struct Found {
    header: BatchHeader,
    position: usize,
}

impl<I: Io> Storage<I> {
    /// Cuts off what lies at or behind the given offsets; a batch that spans one goes as a whole. Returns where each log
    /// ends then, once that is durable. One barrier and one group for all logs.
    ///
    /// Appends to these logs are refused meanwhile. After an error some of them may have been cut.
    pub async fn truncate(&self, cuts: &[(Rc<Log>, Offset)]) -> Result<Vec<Offset>, CutError> {
        self.inner.truncate(cuts).await
    }

    /// Empties a log and lets it begin at `start`. Returns once that is durable.
    pub async fn reset(&self, log: &Rc<Log>, start: Offset) -> Result<(), CutError> {
        self.inner.reset(log, start).await
    }

    /// The same before [`Storage::start`], when nothing of the log is under way: it is durable before all that comes later.
    pub fn reset_before_start(&self, log: &Rc<Log>, start: Offset) -> Result<(), CutError> {
        let inner = &self.inner;
        inner.life.check()?;
        assert!(inner.life.is_opening(), "it has started");
        if !inner.journal_has_room(ENTRY_HEADER_BYTES, Claim::Mark) {
            return Err(CutError::JournalFull);
        }
        inner.mark_reset(log, start);
        Ok(())
    }
}

impl<I: Io> Inner<I> {
    async fn truncate(&self, cuts: &[(Rc<Log>, Offset)]) -> Result<Vec<Offset>, CutError> {
        let logs: Vec<Rc<Log>> = cuts.iter().map(|(log, _)| log.clone()).collect();
        let holds = self.hold(&logs).await?;
        let mut found = Vec::with_capacity(cuts.len());
        for (log, to) in cuts {
            let log_start_offset = log.log_start_offset();
            if *to < log_start_offset {
                return Err(CutError::BelowStart {
                    offset: *to,
                    log_start_offset,
                });
            }
            found.push(self.find_cut(log, *to).await?);
        }
        self.check_marks(&logs)?;
        let mut through = 0;
        let mut ends = Vec::with_capacity(cuts.len());
        for (log, cut) in logs.iter().zip(found) {
            let start = log.log_start_offset();
            let end = log.log_end_offset();
            let is_epoch_cut = log.state().leader_epochs.begins_from(end);
            match cut {
                // An epoch that has no records yet goes, too: the leader does not know it (KIP-101).
                None if is_epoch_cut => {
                    through = self.add_mark(log, NewMark::at(EntryKind::Truncated, end));
                    log.note_cut(through);
                    log.state_mut().leader_epochs.truncate_back(end);
                }
                None => {}
                // Nothing is left that may be read.
                Some(cut) if cut.end <= start => through = self.mark_reset(log, start),
                Some(cut) => {
                    through = self.add_mark(log, NewMark::at(EntryKind::Truncated, cut.end));
                    log.note_cut(through);
                    self.clean(self.apply_cut(log, cut));
                }
            }
            ends.push(log.log_end_offset());
        }
        drop(holds);
        if self.options.is_planted(PlantedFault::CutTrimsAtOnce) {
            self.remove_files(self.removals.all()).await;
        }
        self.end_cut(&logs, through).await?;
        Ok(ends)
    }

    async fn reset(&self, log: &Rc<Log>, start: Offset) -> Result<(), CutError> {
        let logs = [log.clone()];
        let holds = self.hold(&logs).await?;
        self.check_marks(&logs)?;
        let through = self.mark_reset(log, start);
        drop(holds);
        self.end_cut(&logs, through).await
    }

    fn mark_reset(&self, log: &Rc<Log>, start: Offset) -> u64 {
        let through = self.add_mark(log, NewMark::at(EntryKind::Reset, start));
        log.note_cut(through);
        self.clean(self.apply_reset(log, start));
        through
    }

    /// Stops everything that changes these logs, and brings what is under way to its end.
    async fn hold(&self, logs: &[Rc<Log>]) -> Result<Vec<Hold>, CutError> {
        let holds: Option<Vec<Hold>> = logs.iter().map(Log::hold).collect();
        let holds = holds.ok_or(CutError::Busy)?;
        if !self.options.is_planted(PlantedFault::CutWithoutBarrier) {
            let through = self.request_barrier();
            self.wait_durable(through).await?;
        }
        for log in logs {
            while log.state().writer.is_writing() {
                self.life.check()?;
                self.write_queue.changed.changed().await;
            }
        }
        Ok(holds)
    }

    /// Whether the marks may be set now, without a pause from here on.
    fn check_marks(&self, logs: &[Rc<Log>]) -> Result<(), CutError> {
        self.life.check()?;
        if !self.life.is_running() {
            return Err(CutError::Closing);
        }
        if logs.iter().any(|log| log.is_deleted()) {
            return Err(CutError::Deleted);
        }
        if !self.journal_has_room(logs.len() * ENTRY_HEADER_BYTES, Claim::Mark) {
            self.reclaim_signal.raise();
            return Err(CutError::JournalFull);
        }
        for log in logs {
            if self.options.is_planted(PlantedFault::CutWithoutBarrier) {
                continue;
            }
            assert_eq!(
                log.durable_end_offset(),
                log.log_end_offset(),
                "nothing of a log that is held is under way"
            );
        }
        Ok(())
    }

    async fn end_cut(&self, logs: &[Rc<Log>], through: u64) -> Result<(), CutError> {
        self.kick();
        self.removal_signal.raise();
        for log in logs {
            self.queue_if_dirty(log);
        }
        self.wait_durable(through).await?;
        Ok(())
    }

    /// These groups hold a batch less each that is to be kept.
    fn clean(&self, groups: Vec<u64>) {
        let mut tail = self.tail.borrow_mut();
        for sequence in groups {
            tail.cleaned(sequence, 1);
        }
    }

    /// What a cut at `to` leaves of a log; `None` if the log ends there or before.
    pub(crate) async fn find_cut(
        &self,
        log: &Rc<Log>,
        to: Offset,
    ) -> Result<Option<Cut>, ReadError> {
        let place = place_of(log, to);
        let (end, segment) = match place {
            Place::Nowhere => return Ok(None),
            Place::Border(end) => (end, None),
            Place::Segment(snapshot) => {
                let base_offset = snapshot.id.base_offset;
                match self.find_cut_in_segment(log, snapshot, to).await? {
                    Some(cut) => (cut.next_offset, Some(cut)),
                    // Its first batch is not kept: it goes as a whole.
                    None => (end_before(log, base_offset), None),
                }
            }
        };
        let producers = if log.state().producers.reaches(end) {
            None
        } else {
            Some(self.learn_from_log(log, end).await?)
        };
        Ok(Some(Cut {
            end,
            segment,
            producers,
        }))
    }

    /// What a cut at `to`, before its end, leaves of a segment; `None` if nothing.
    async fn find_cut_in_segment(
        &self,
        log: &Rc<Log>,
        snapshot: Snapshot,
        to: Offset,
    ) -> Result<Option<SegmentCut>, ReadError> {
        let id = snapshot.id;
        let view = self.view(log, snapshot.clone()).await?;
        let lost = |position: u64| self.corrupt(id, position, "no batch where the index says");
        let mut number = view.chunk_of(to).ok_or_else(|| lost(0))?;
        let mut bytes = self.chunk_bytes(&view, number).await?;
        let mut kept = kept_batches(&bytes, to).map_err(lost)?;
        if kept.is_none() {
            // All of this chunk goes: what is left ends with the one before.
            let Some(before) = number.checked_sub(1) else {
                return Ok(None);
            };
            number = before;
            bytes = self.chunk_bytes(&view, number).await?;
            kept = kept_batches(&bytes, to).map_err(lost)?;
        }
        let (last, max_timestamp) = kept.ok_or_else(|| lost(0))?;
        let next_offset = last.header.next_offset();
        let chunk = *view.chunk(number).ok_or_else(|| lost(0))?;
        let left = last.position + last.header.size_bytes();
        assert!(
            next_offset <= to && left <= bytes.len(),
            "what is left was there"
        );
        let before = number.checked_sub(1).and_then(|number| view.chunk(number));
        let max_timestamp = before.map_or(max_timestamp, |before| {
            before.max_timestamp.max(max_timestamp)
        });
        let found = match max_timestamp.0 >= 0 {
            true => {
                self.find_in_segment(log, snapshot, max_timestamp, next_offset)
                    .await
            }
            false => Ok(None),
        };
        let offset_of_max_timestamp = match found {
            Ok(found) => found.unwrap_or(Offset::NONE),
            // Its records cannot be read, which is no reason to keep what must go.
            Err(ReadError::Corrupt { .. }) => Offset::NONE,
            Err(error) => return Err(error),
        };
        let (index_pages, mut pending) = pages_before(&view, number);
        pending.push(chunk.cut(id, &bytes[..left], max_timestamp));
        Ok(Some(SegmentCut {
            id,
            next_offset,
            size_bytes: u64::from(chunk.position) + left as u64,
            index_pages,
            pending,
            max_timestamp,
            offset_of_max_timestamp,
        }))
    }

    /// Cuts a log in memory. Returns the groups of batches that were in the journal only, one by one.
    #[must_use]
    pub(crate) fn apply_cut(&self, log: &Log, cut: Cut) -> Vec<u64> {
        let end = cut.end;
        let mut state = log.state_mut();
        let state = &mut *state;
        assert!(!state.writer.is_writing(), "nobody writes what is cut");
        let mut gone_bytes = 0;
        let mut groups = Vec::new();
        while let Some(last) = state.tail.pop_back_if(|last| last.place.next_offset > end) {
            assert!(last.place.base_offset >= end, "a batch is not cut in two");
            if state.tail.len() < state.tail_written {
                // It is in a segment, too, which is cut below.
                state.tail_written -= 1;
                continue;
            }
            let bytes = last.bytes.len() as u64;
            assert!(state.dirty_bytes >= bytes, "dirty batches are counted");
            state.dirty_bytes -= bytes;
            gone_bytes += bytes;
            groups.push(last.sequence);
        }
        while let Some(last) = state.segments.pop_if(|last| last.id.base_offset >= end) {
            gone_bytes += last.size_bytes;
            let bytes = last.file_bytes().map(|(_, bytes)| bytes);
            self.removals.segment_gone(last.id, bytes);
        }
        if let Some(cut) = cut.segment {
            let segment = state
                .segments
                .last_mut()
                .expect("the segment is still there");
            assert!(segment.size_bytes >= cut.size_bytes, "a cut is in the file");
            gone_bytes += segment.size_bytes - cut.size_bytes;
            let planted = self.options.is_planted(PlantedFault::CutKeepsAborted);
            let kept = planted.then(|| segment.transactions.clone());
            segment.cut(cut);
            if let Some(kept) = kept {
                segment.transactions = kept;
            }
            segment.sealed = !self.options.is_planted(PlantedFault::CutOnlyInMemory);
            self.removals.behind(segment.id, segment.size_bytes);
            self.extents.forget_index(segment.id);
        }
        // Also if no segment was cut: no name comes again, whatever waits for its removal.
        if !self.options.is_planted(PlantedFault::CutKeepsGeneration) {
            state.generation += 1;
        }
        let last = state.segments.last();
        assert!(
            last.is_none_or(|last| last.next_offset <= end),
            "segments end where the log does"
        );
        state.written_end_offset = state.written_end_offset.min(end);
        state.shields.cut(end);
        self.removals.add(state.take_shields());
        state.leader_epochs.truncate_back(end);
        self.cut_producers(state, end, cut.producers);
        state.cold_read_end = Offset::NONE;
        assert_eq!(
            state.tail.len() - state.tail_written == 0,
            state.dirty_bytes == 0,
            "dirty bytes are those of dirty batches"
        );
        log.shrink(gone_bytes);
        log.moved_end(end);
        groups
    }

    fn cut_producers(&self, state: &mut LogState, end: Offset, learned: Option<ProducerStates>) {
        match learned {
            Some(producers) => state.producers = producers,
            None if self.options.is_planted(PlantedFault::CutKeepsProducers) => {}
            None => {
                let reopens = !self.options.is_planted(PlantedFault::CutKeepsEnded);
                state.producers.undo_until(end, reopens);
            }
        }
    }

    /// Empties a log in memory. Returns the groups of batches that were in the journal only, one by one.
    #[must_use]
    pub(crate) fn apply_reset(&self, log: &Log, start: Offset) -> Vec<u64> {
        let mut state = log.state_mut();
        let state = &mut *state;
        assert!(!state.writer.is_writing(), "nobody writes what is cut");
        let dirty = state.tail.range(state.tail_written..);
        let groups = dirty.map(|batch| batch.sequence).collect();
        state.tail.clear();
        state.tail_written = 0;
        state.dirty_bytes = 0;
        for segment in state.segments.drain(..) {
            let bytes = segment.file_bytes().map(|(_, bytes)| bytes);
            self.removals.segment_gone(segment.id, bytes);
        }
        state.generation += 1;
        state.written_end_offset = start;
        state.shields.clear();
        state.leader_epochs = LeaderEpochCache::default();
        state.producers = ProducerStates::default();
        state.producers.forget_undo(start);
        state.cold_read_end = Offset::NONE;
        log.moved(start);
        groups
    }
}

fn place_of(log: &Log, to: Offset) -> Place {
    let state = log.state();
    let first = state
        .segments
        .partition_point(|segment| segment.next_offset <= to);
    if let Some(segment) = state.segments.get(first) {
        if segment.id.base_offset < to {
            return Place::Segment(Snapshot::of(segment));
        }
        return Place::Border(end_before(log, segment.id.base_offset));
    }
    let first = state
        .tail
        .partition_point(|batch| batch.place.next_offset <= to);
    match state.tail.get(first) {
        Some(batch) => Place::Border(batch.place.follows),
        None => Place::Nowhere,
    }
}

/// Where a log ends without its segment of this base offset and what comes behind.
fn end_before(log: &Log, base_offset: Offset) -> Offset {
    let state = log.state();
    let mut before = state.segments.iter().rev();
    let before = before.find(|segment| segment.id.base_offset < base_offset);
    // If nothing is left, it ends where it starts.
    before.map_or(log.log_start_offset(), |before| before.next_offset)
}

/// The last batch that ends at or before `to`, and the largest timestamp up to it. An error gives the position of what is
/// not a batch.
fn kept_batches(bytes: &Bytes, to: Offset) -> Result<Option<(Found, Timestamp)>, u64> {
    let mut kept = None;
    let mut max_timestamp = Timestamp::NONE;
    let mut batches = Batches::new(bytes);
    loop {
        let position = bytes.len() - batches.rest().len();
        let Some(next) = batches.next() else {
            return Ok(kept);
        };
        let (header, _) = next.map_err(|_| position as u64)?;
        if header.next_offset() > to {
            return Ok(kept);
        }
        max_timestamp = max_timestamp.max(header.max_timestamp);
        kept = Some((Found { header, position }, max_timestamp));
    }
}

/// How many whole pages of the index lie before this chunk, and the chunks between them and it.
fn pages_before(view: &SegmentView, number: usize) -> (u32, Vec<ChunkEntry>) {
    let pages = view.stored_len().min(number) / PAGE_ENTRIES;
    let first = pages * PAGE_ENTRIES;
    let pending = (first..number).filter_map(|number| view.chunk(number).copied());
    let pages = u32::try_from(pages).expect("a segment has fewer chunks than bytes");
    (pages, pending.collect())
}
