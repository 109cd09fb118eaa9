//! Brings the groups of a journal back into the logs: each batch that is a log's next is appended to its tail.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use model::record::ControlError;
use model::{Offset, TopicPartition};
use runtime::Io;

use super::RecoveryReport;
use crate::append::control_of;
use crate::at_once::at_once;
use crate::cache::tail::TailGroup;
use crate::encoding::Decoder;
use crate::error::{OpenError, ReadError, StorageError, open_io};
use crate::index::SegmentId;
use crate::inner::Inner;
use crate::journal::frame::{Entry, EntryKind};
use crate::journal::placed::{FoundBatch, Placed};
use crate::journal::replay::{ReplayedGroup, find_placed};
use crate::layout::Layout;
use crate::log::{Log, TailBatch};
use crate::options::{LogConfig, PlantedFault};
use crate::producer_state::ProducerStates;
use crate::quorum_state::QuorumState;
use crate::segment::BatchPlace;

/// Brings replayed groups into the logs.
pub(super) struct Applier<'a, I: Io> {
    inner: &'a Inner<I>,
    /// Logs of which a later batch came before an earlier one; carried batches will close the gap.
    gaps: BTreeMap<TopicPartition, Offset>,
    /// Logs that got batches, or were cut: where their segments ended before, and how far they reached.
    touched: BTreeMap<TopicPartition, Range<Offset>>,
    /// The group that deleted a log of this name.
    deleted: BTreeMap<TopicPartition, u64>,
    /// The last group.
    applied: u64,
    /// It was the last of all.
    is_complete: bool,
    report: &'a mut RecoveryReport,
}

impl<'a, I: Io> Applier<'a, I> {
    pub(super) fn new(inner: &'a Inner<I>, report: &'a mut RecoveryReport) -> Applier<'a, I> {
        Applier {
            inner,
            gaps: BTreeMap::new(),
            touched: BTreeMap::new(),
            deleted: BTreeMap::new(),
            applied: 0,
            is_complete: false,
            report,
        }
    }

    /// Applies the next group. What does not fit memory goes to segments; on a full device it stays in memory all the
    /// same, which the size of the journal bounds.
    pub(super) async fn apply(&mut self, group: ReplayedGroup) -> Result<(), OpenError> {
        let (mut dirty_batches, mut placed_bytes) = (0, 0);
        let mut logs: Vec<Rc<Log>> = Vec::new();
        // Where the log ended before the batch of the next entry.
        let mut gap: Option<(TopicPartition, Offset)> = None;
        let sequence = group.place.sequence;
        for (number, entry) in group.entries.iter().enumerate() {
            let id = entry.header.id;
            let known = self.inner.logs.borrow().get(&id).cloned();
            let is_of = |log: &Rc<Log>| sequence > log.state().created_sequence;
            if known.as_ref().is_some_and(|log| !is_of(log)) {
                continue;
            }
            match entry.header.kind {
                EntryKind::PartitionDeleted => {
                    if let Some(log) = known {
                        let gone = self.delete(&log, sequence);
                        assert!(gone <= dirty_batches, "batches of this group were counted");
                        dirty_batches -= gone;
                        self.deleted.insert(id, sequence);
                        logs.retain(|member| !Rc::ptr_eq(member, &log));
                    }
                }
                EntryKind::Gap => gap = Some((id, entry.header.offset)),
                EntryKind::Placed => {
                    let log = known.unwrap_or_else(|| self.create(id));
                    let (appended, bytes) = self.append_placed(&log, number, &group).await?;
                    dirty_batches += appended;
                    placed_bytes += bytes;
                    if appended > 0 && logs.last().is_none_or(|last| !Rc::ptr_eq(last, &log)) {
                        logs.push(log);
                    }
                }
                EntryKind::Batch | EntryKind::CarriedBatch => {
                    let log = known.unwrap_or_else(|| self.create(id));
                    let follows = match gap.take() {
                        Some((of, follows)) if of == id => follows,
                        Some(_) => return Err(self.damaged(&group)),
                        None => entry.header.offset,
                    };
                    if self.append(&log, entry, follows, &group)? {
                        dirty_batches += 1;
                        if logs.last().is_none_or(|last| !Rc::ptr_eq(last, &log)) {
                            logs.push(log);
                        }
                    }
                }
                _ => {
                    let log = known.unwrap_or_else(|| self.create(id));
                    let gone = self.apply_mark(&log, entry, &group).await?;
                    assert!(gone <= dirty_batches, "batches of this group were counted");
                    dirty_batches -= gone;
                }
            }
        }
        assert!(gap.is_none(), "a gap and its batch stand in one group");
        self.report.groups_replayed += 1;
        self.applied = sequence;
        let capacity = if dirty_batches == 0 {
            0
        } else {
            group.bytes.len() + placed_bytes
        };
        self.inner.tail.borrow_mut().push(TailGroup {
            place: group.place,
            capacity,
            dirty_batches,
            logs,
        });
        self.bound_memory().await
    }

    /// What does not fit memory goes to segments.
    async fn bound_memory(&self) -> Result<(), OpenError> {
        if self.inner.tail.borrow().bytes() > self.inner.options.tail_bytes_max / 2 {
            match self.write_dirty().await {
                Err(OpenError::Storage(StorageError::DiskFull)) => {}
                written => written?,
            }
            self.inner.tail.borrow_mut().evict(0);
        }
        Ok(())
    }

    /// Does to a log what an entry says that holds no batch. Returns how many of the log's batches that belong to this group
    /// are gone.
    async fn apply_mark(
        &mut self,
        log: &Rc<Log>,
        entry: &Entry,
        group: &ReplayedGroup,
    ) -> Result<u32, OpenError> {
        let offset = entry.header.offset;
        let is_cut = matches!(entry.header.kind, EntryKind::Truncated | EntryKind::Reset);
        if !is_cut && self.knew_before(log, group.place.sequence) {
            return Ok(0);
        }
        match entry.header.kind {
            EntryKind::LogStartAdvanced => {
                let start = log.log_start_offset().max(offset);
                log.advance_start(start);
                log.state_mut().leader_epochs.truncate_front(offset);
            }
            EntryKind::Truncated => return self.truncate(log, offset, group.place.sequence).await,
            EntryKind::Reset => return self.reset(log, offset, group.place.sequence),
            EntryKind::EpochStarted => {
                let epochs = &mut log.state_mut().leader_epochs;
                epochs.assign(entry.header.leader_epoch, offset);
            }
            EntryKind::QuorumState => {
                let mut bytes = Decoder::new(&group.bytes[entry.batch_start..]);
                let decoded = QuorumState::decode(&mut bytes);
                log.state_mut().quorum = decoded.map_err(|_| self.damaged(group))?;
            }
            EntryKind::Batch
            | EntryKind::CarriedBatch
            | EntryKind::Placed
            | EntryKind::Gap
            | EntryKind::PartitionDeleted => unreachable!("applied with the group"),
        }
        Ok(0)
    }

    fn create(&self, id: TopicPartition) -> Rc<Log> {
        let created_sequence = self.deleted.get(&id).copied().unwrap_or(0);
        let log = Rc::new(Log::new(id, LogConfig::default(), created_sequence));
        self.inner.logs.borrow_mut().insert(id, log.clone());
        log
    }

    /// Appends a batch if it is the log's next. Returns whether it was.
    ///
    /// Of a batch that the checkpoint knew only its place in the tail is missing. It may be one that was cut off before
    /// the checkpoint: then the mark of that cut comes, too.
    fn append(
        &mut self,
        log: &Rc<Log>,
        entry: &Entry,
        follows: Offset,
        group: &ReplayedGroup,
    ) -> Result<bool, OpenError> {
        let Some(header) = entry.batch else {
            return Err(self.damaged(group));
        };
        let start = entry.batch_start;
        let delta = entry.header.offset_delta_of_max_timestamp;
        let batch = FoundBatch {
            header,
            offset_delta_of_max_timestamp: delta.clamp(0, header.last_offset_delta),
            bytes: group
                .bytes
                .slice(start..start + entry.header.length as usize),
        };
        self.append_batch(log, batch, follows, group.place.sequence)
    }

    /// The same for batches that a group has placed in a segment. Returns how many were the log's next, and their bytes.
    async fn append_placed(
        &mut self,
        log: &Rc<Log>,
        number: usize,
        group: &ReplayedGroup,
    ) -> Result<(u32, usize), OpenError> {
        let (entry, sequence) = (&group.entries[number], group.place.sequence);
        let description =
            &group.bytes[entry.batch_start..entry.batch_start + entry.header.length as usize];
        let placed = Placed::decode(description).map_err(|_| self.damaged(group))?;
        let is_known = self.knows(log, sequence, Some(entry.header.offset))?;
        let found = match group.placed.get(&number) {
            Some(found) => Ok(found.clone()),
            // What segments hold by now is not looked for.
            None if placed.next_offset <= log.log_end_offset() => return Ok((0, 0)),
            None => {
                let (io, layout) = (&self.inner.io, &self.inner.layout);
                let found = find_placed(io, layout, entry, &group.bytes).await?;
                found.expect("it is such an entry")
            }
        };
        let Ok(batches) = found else {
            // The log was deleted later, or its batches have been carried to where they are found, or were cut off before the
            // checkpoint; else they are missed at the end.
            if !is_known {
                let gap = self.gaps.entry(log.id()).or_insert(placed.next_offset);
                *gap = placed.next_offset.max(*gap);
            }
            return Ok((0, 0));
        };
        let (mut appended, mut bytes) = (0, 0);
        for batch in batches {
            let follows = batch.header.base_offset;
            let len = batch.bytes.len();
            if self.append_batch(log, batch, follows, sequence)? {
                appended += 1;
                bytes += len;
            }
        }
        if appended > 0
            && !self
                .inner
                .options
                .is_planted(PlantedFault::PlacedWrittenOver)
        {
            let (base_offset, generation) = (placed.segment, placed.generation);
            let mut state = log.state_mut();
            if let Some(behind) = state.shield(base_offset, generation, placed.next_offset) {
                self.inner.removals.keep(behind);
            }
        }
        Ok((appended, bytes))
    }

    fn append_batch(
        &mut self,
        log: &Rc<Log>,
        batch: FoundBatch,
        follows: Offset,
        sequence: u64,
    ) -> Result<bool, OpenError> {
        let FoundBatch {
            header: batch,
            offset_delta_of_max_timestamp: delta,
            bytes,
        } = batch;
        let (base_offset, next_offset) = (batch.base_offset, batch.next_offset());
        let is_known = self.knows(log, sequence, Some(base_offset))?;
        self.touch(log);
        let end = log.log_end_offset();
        if follows > end && !is_known {
            let gap = self.gaps.entry(log.id()).or_insert(next_offset);
            *gap = next_offset.max(*gap);
        }
        if follows != end {
            return Ok(false);
        }
        assert!(next_offset > base_offset, "a batch has records");
        self.report.batches_replayed += 1;
        self.report.bytes_replayed += bytes.len() as u64;
        let touched = self.touch(log);
        touched.end = touched.end.max(next_offset);
        log.extend(next_offset, bytes.len() as u64);
        log.committed(next_offset);
        let place = BatchPlace {
            follows,
            base_offset,
            next_offset,
            max_timestamp: batch.max_timestamp,
            offset_of_max_timestamp: base_offset.plus(delta.into()),
        };
        let control = control_of(&batch, &bytes);
        let control = control.map_err(|error| self.no_marker(log, base_offset, &error))?;
        let mut state = log.state_mut();
        if !is_known {
            let now = self.inner.io.wall_clock();
            state.leader_epochs.assign(batch.leader_epoch, base_offset);
            state.producers.learn(&batch, control, now);
        }
        state.push_tail(TailBatch {
            place,
            sequence,
            bytes,
        });
        Ok(true)
    }

    /// Whether the checkpoint knew what an entry says: a batch, or with `base_offset` `None` a cut. Checks, when the first comes
    /// that it did not know, that what it knew is all there.
    fn knows(
        &self,
        log: &Log,
        sequence: u64,
        base_offset: Option<Offset>,
    ) -> Result<bool, OpenError> {
        let mut state = log.state_mut();
        let Some(known_end) = state.known_end else {
            state.open_group = (sequence, 0);
            return Ok(false);
        };
        let through = state.open_group.0;
        // A group may have got more after the log was encoded. No cut: what is under way of a log goes before it.
        let is_known = sequence < through
            || (sequence == through
                && base_offset.is_none_or(|base_offset| base_offset < known_end));
        if !is_known {
            self.check_known(log, known_end)?;
            state.known_end = None;
            state.open_group = (sequence, 0);
        }
        Ok(is_known)
    }

    /// Whether the checkpoint knew all that this group says of the log. What the last group says that it knew in part may be
    /// said again.
    fn knew_before(&self, log: &Log, sequence: u64) -> bool {
        let mut state = log.state_mut();
        if state.known_end.is_none() {
            state.open_group = (sequence, 0);
        }
        state.known_end.is_some() && sequence < state.open_group.0
    }

    /// All that the checkpoint knew of a log is there.
    fn check_known(&self, log: &Log, known_end: Offset) -> Result<(), OpenError> {
        let end = log.log_end_offset();
        if end == known_end {
            return Ok(());
        }
        Err(self.nowhere(log, known_end))
    }

    fn nowhere(&self, log: &Log, needed: Offset) -> OpenError {
        let (id, end) = (log.id(), log.log_end_offset());
        OpenError::Corrupt {
            path: self.inner.layout.journal(self.inner.options.shard),
            position: 0,
            reason: format!(
                "partition {id} is known up to offset {needed}, but offset {end} is nowhere"
            ),
        }
    }

    /// The log changes from here on.
    fn touch(&mut self, log: &Log) -> &mut Range<Offset> {
        let written_end = log.state().written_end_offset;
        let touched = self.touched.entry(log.id());
        touched.or_insert(written_end..written_end)
    }

    /// Cuts a log as it was cut. Returns how many of its batches belong to group `sequence`, which is being applied.
    async fn truncate(
        &mut self,
        log: &Rc<Log>,
        end: Offset,
        sequence: u64,
    ) -> Result<u32, OpenError> {
        if self.knows(log, sequence, None)? {
            let is_unwritten = log.state().tail_written == 0;
            assert!(is_unwritten, "nothing is written before the last known cut");
            return Ok(self.cut_tail(log, end, sequence));
        }
        let log_end_offset = log.log_end_offset();
        if self.gaps.contains_key(&log.id()) || log_end_offset < end {
            // What is missing may be that of a log that was deleted later, of which no checkpoint says anything any more.
            self.gaps.insert(log.id(), end);
            log.note_cut(sequence);
            let mut state = log.state_mut();
            state.leader_epochs.truncate_back(end);
            if state.producers.reaches(end) {
                state.producers.truncate(end);
            } else {
                state.producers = ProducerStates::default();
                state.producers.forget_undo(end);
            }
            drop(state);
            return Ok(self.cut_tail(log, end, sequence));
        }
        let cut = self.inner.find_cut(log, end).await;
        let cut = cut.map_err(|error| self.unreadable(log, &error))?;
        log.note_cut(sequence);
        let Some(cut) = cut else {
            log.state_mut().leader_epochs.truncate_back(end);
            return Ok(0);
        };
        assert_eq!(cut.end, end, "a log is cut again where it was");
        let touched = self.touch(log);
        touched.start = touched.start.min(cut.end);
        touched.end = touched.end.max(log_end_offset);
        let groups = self.inner.apply_cut(log, cut);
        Ok(self.clean(groups, sequence))
    }

    /// Empties a log as it was emptied. Returns the same.
    fn reset(&mut self, log: &Rc<Log>, start: Offset, sequence: u64) -> Result<u32, OpenError> {
        if self.knows(log, sequence, None)? {
            return Ok(self.cut_tail(log, Offset::ZERO, sequence));
        }
        self.gaps.remove(&log.id());
        log.note_cut(sequence);
        let log_end_offset = log.log_end_offset();
        let touched = self.touch(log);
        touched.start = touched.start.min(start);
        touched.end = touched.end.max(log_end_offset);
        let groups = self.inner.apply_reset(log, start);
        Ok(self.clean(groups, sequence))
    }

    /// A cut that the checkpoint knew: its segments are as they were left by it and by what came later. Only what replay has
    /// put into the tail goes.
    fn cut_tail(&mut self, log: &Log, end: Offset, sequence: u64) -> u32 {
        self.touch(log);
        let mut state = log.state_mut();
        let end = end.max(state.written_end_offset);
        state.shields.cut(end);
        let mut groups = Vec::new();
        let mut bytes = 0;
        while let Some(last) = state.tail.pop_back_if(|last| last.place.next_offset > end) {
            bytes += last.bytes.len() as u64;
            groups.push(last.sequence);
        }
        assert!(state.dirty_bytes >= bytes, "dirty batches are counted");
        state.dirty_bytes -= bytes;
        let last = state.tail.back();
        let end = last.map_or(state.written_end_offset, |last| last.place.next_offset);
        drop(state);
        log.fall_back(end, bytes);
        self.clean(groups, sequence)
    }

    /// These groups hold a batch less each that is to be kept. Returns how many of them are `sequence`, which is not held
    /// yet.
    fn clean(&self, groups: Vec<u64>, sequence: u64) -> u32 {
        let mut tail = self.inner.tail.borrow_mut();
        let mut of_this_group = 0;
        for group in groups {
            if group == sequence {
                of_this_group += 1;
            } else {
                tail.cleaned(group, 1);
            }
        }
        of_this_group
    }

    fn unreadable(&self, log: &Log, error: &ReadError) -> OpenError {
        OpenError::Corrupt {
            path: self.inner.layout.partition(log.id()),
            position: 0,
            reason: error.to_string(),
        }
    }

    fn no_marker(&self, log: &Log, offset: Offset, error: &ControlError) -> OpenError {
        OpenError::Corrupt {
            path: self.inner.layout.journal(self.inner.options.shard),
            position: 0,
            reason: format!("the batch of partition {} at {offset}: {error}", log.id()),
        }
    }

    fn damaged(&self, group: &ReplayedGroup) -> OpenError {
        let (inner, place) = (self.inner, group.place);
        OpenError::Corrupt {
            path: inner.layout.journal_file(inner.options.shard, place.file),
            position: place.position,
            reason: format!(
                "the entries of group {} do not fit each other",
                place.sequence
            ),
        }
    }

    /// Takes a log out. Returns how many of its batches belong to group `sequence`, which is being applied.
    fn delete(&mut self, log: &Rc<Log>, sequence: u64) -> u32 {
        self.inner.logs.borrow_mut().remove(&log.id());
        log.note_deleted();
        let mut state = log.state_mut();
        let dirty = state.tail.range(state.tail_written..);
        let groups = dirty.map(|batch| batch.sequence).collect();
        let of_this_group = self.clean(groups, sequence);
        state.tail.clear();
        state.tail_written = 0;
        state.dirty_bytes = 0;
        drop(state);
        self.gaps.remove(&log.id());
        self.touched.remove(&log.id());
        self.inner.removals.log_gone(log.id(), []);
        self.inner
            .unsynced
            .borrow_mut()
            .retain(|id, _| id.partition != log.id());
        of_this_group
    }

    /// Writes what the logs hold, except logs whose place a deleted one still occupies.
    pub(super) async fn write_dirty(&self) -> Result<(), OpenError> {
        let logs = self.touched_logs();
        at_once(&logs, async |log| {
            // What a cut that is to come takes back does not go to segments first.
            let is_settled = log.cut_in_group() <= self.applied;
            if is_settled && log.state().is_dirty() {
                let planted = PlantedFault::PlacedWrittenOver;
                if !self.is_complete && !self.inner.options.is_planted(planted) {
                    log.state_mut().shield_open_segment();
                }
                self.inner.write_now(log).await?;
                self.inner.io.yield_if_needed().await;
            }
            Ok(())
        })
        .await
    }

    fn touched_logs(&self) -> Vec<Rc<Log>> {
        let logs = self.inner.logs.borrow();
        let touched = self.touched.keys();
        touched.filter_map(|id| logs.get(id).cloned()).collect()
    }

    /// Every group was applied: checks that nothing is missing.
    pub(super) fn complete(&mut self) -> Result<(), OpenError> {
        self.is_complete = true;
        for (id, log) in self.inner.logs.borrow().iter() {
            if let Some(known_end) = log.state_mut().known_end.take() {
                self.check_known(log, known_end)?;
            }
            let mut state = log.memory_mut();
            state.shields.settle();
            self.inner.removals.add(state.take_shields());
            drop(state);
            let noted = self.gaps.get(id).copied().unwrap_or(Offset::ZERO);
            let needed = noted.max(log.log_start_offset());
            if log.log_end_offset() < needed {
                return Err(self.nowhere(log, needed));
            }
        }
        Ok(())
    }

    /// Removes files of segments that were begun after the checkpoint and are not named now: all that they can hold is in
    /// the journal, and this time segments may begin elsewhere. Other files stay, whatever they are.
    pub(super) async fn remove_strangers(&self) -> Result<(), OpenError> {
        let (io, layout) = (&self.inner.io, &self.inner.layout);
        let partitions = layout.partitions();
        let existing = io.read_dir(&partitions).await;
        let existing: BTreeSet<PathBuf> = existing
            .map_err(open_io("list", &partitions))?
            .into_iter()
            .collect();
        let mut logs = self.touched_logs();
        logs.retain(|log| {
            let directory = layout.partition(log.id());
            existing.contains(Path::new(directory.file_name().unwrap_or_default()))
        });
        at_once(&logs, async |log| {
            let directory = layout.partition(log.id());
            let names = io.read_dir(&directory).await;
            let mut is_any = false;
            for name in names.map_err(open_io("list", &directory))? {
                if self.is_stranger(log, &name) {
                    let path = directory.join(name.file_name().unwrap_or_default());
                    let removed = io.remove_file(&path).await;
                    removed.map_err(open_io("remove", path))?;
                    is_any = true;
                }
            }
            if is_any {
                // The next start may look for others only.
                let synced = self.inner.sync_dir(&directory).await;
                synced.map_err(open_io("flush", &directory))?;
            }
            Ok(())
        })
        .await
    }

    fn is_stranger(&self, log: &Log, name: &Path) -> bool {
        let Some((base, generation)) = Layout::segment_of(name) else {
            return false;
        };
        let replayed = self.touched[&log.id()].contains(&base);
        let is_named = |id: SegmentId| id.base_offset == base && id.generation == generation;
        let state = log.state();
        let mut segments = state.segments.iter();
        // What is to be removed is removed when a checkpoint says so.
        let leaving = self.inner.removals.segments_of(log.id());
        let mut leaving = leaving.iter().filter_map(|removal| removal.segments());
        replayed
            && segments.all(|segment| !is_named(segment.id))
            && leaving.all(|segments| !is_named(*segments.start()))
    }
}
