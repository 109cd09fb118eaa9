//! Frees journal space and tail memory, writes checkpoints, removes files, and ends the storage.
//!
//! Invariants: a checkpoint is written only after every segment byte it names is durable and the journal is durable
//! through everything its state knows; a file is removed, and a journal file recycled, only after a checkpoint that
//! does without it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use model::{Timestamp, TopicPartition};
use runtime::{Buffer, File, Io, OpenMode};

use crate::at_once::at_once;
use crate::checkpoint::{Checkpoint, Removal, RunState};
use crate::error::StorageError;
use crate::file_cache::FileKind;
use crate::index::SegmentId;
use crate::journal::files::prepare_file;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::journal::group::GroupBatch;
use crate::log::Log;
use crate::retention::{SegmentSummary, removable_segments};
use crate::segment::Segment;
use crate::segment_writer::{Unsynced, is_disk_full};
use crate::storage::{Inner, Storage};

impl<I: Io> Inner<I> {
    /// The keeper: one long-lived task.
    pub(crate) async fn keep(self: Rc<Self>) {
        loop {
            self.keeper_signal.wait().await;
            if self.fenced.get() || self.stopping.get() {
                return;
            }
            if let Err(error) = self.free_space().await {
                tracing::debug!(%error, "freeing space stopped");
            }
        }
    }

    async fn free_space(&self) -> Result<(), StorageError> {
        // Whoever waits for room gets it, also when the files do not look crowded: what is left of the active file may
        // be too little for what is asked for.
        let demand = self.journal_demand.take();
        let wanted = demand > 0 && !self.journal_has_room(demand);
        let (journal_target, tail_target) = {
            let journal = self.journal.borrow();
            let crowded = wanted
                || journal.files.used_bytes() >= self.options.journal_bytes_max / 4
                || !journal
                    .files
                    .fits([self.options.group_bytes_max].into_iter());
            let tail = self.tail.borrow();
            let kept_max = self.options.tail_kept_bytes_max();
            let tail_target = if tail.bytes() > kept_max {
                tail.sequence_to_clean(kept_max / 3 * 2)
            } else {
                None
            };
            (
                journal.files.used_through().filter(|_| crowded),
                tail_target,
            )
        };
        if let Some(target) = journal_target.max(tail_target) {
            self.clean_through(target).await?;
            self.relieve_tail();
        }
        if journal_target.is_some() || self.has_removals() {
            self.checkpoint(RunState::Running).await?;
        }
        self.admission.notify();
        self.kick();
        Ok(())
    }

    /// Brings every dirty batch of groups up to `target` to its segment, or, where little is left, to the open group.
    async fn clean_through(&self, target: u64) -> Result<(), StorageError> {
        let mut small = Vec::new();
        let mut large = Vec::new();
        let mut carry_bytes = 0;
        // All carried remains together may take an eighth of a journal file: carrying must free more than it takes.
        let budget = self.options.journal_file_bytes / 8;
        for log in self.dirty_logs(target).into_values() {
            let state = log.state.borrow();
            let dirty = state.dirty_bytes;
            let entries = (state.tail.len() - state.tail_written) as u64;
            let cost = dirty + entries * ENTRY_HEADER_BYTES as u64;
            let fits = dirty <= self.options.carry_bytes_max as u64 && carry_bytes + cost <= budget;
            let carry = fits && !state.writing;
            drop(state);
            if carry {
                carry_bytes += cost;
                small.push(log);
            } else {
                large.push(log);
            }
        }
        if !small.is_empty()
            && self.journal_has_room(usize::try_from(carry_bytes).unwrap_or(usize::MAX))
        {
            self.carry(&small);
        } else {
            large.append(&mut small);
        }
        self.write_all(large).await
    }

    fn dirty_logs(&self, target: u64) -> BTreeMap<TopicPartition, Rc<Log>> {
        let mut logs = BTreeMap::new();
        for log in self.tail.borrow().dirty_through(target) {
            let state = log.state.borrow();
            if state
                .tail
                .get(state.tail_written)
                .is_some_and(|batch| batch.sequence <= target)
            {
                logs.insert(log.id(), log.clone());
            }
        }
        logs
    }

    /// Copies the dirty remains of these logs into the open group, so that older groups are needed no longer.
    ///
    /// Runs without a pause: the group before is sealed first and this one right after, so that in each log's tail
    /// group sequences stay in order, and replay finds a log's carried batches before newer ones.
    fn carry(&self, logs: &[Rc<Log>]) {
        if self.journal.borrow().open.entry_count > 0 {
            self.seal();
        }
        for log in logs {
            let batches: Vec<_> = {
                let state = log.state.borrow();
                state.tail.range(state.tail_written..).cloned().collect()
            };
            for batch in batches {
                let mut state = log.state.borrow_mut();
                let mut journal = self.journal.borrow_mut();
                let stored = &batch.bytes;
                let epoch = stored
                    .get(12..16)
                    .and_then(|bytes| bytes.first_chunk::<4>())
                    .copied()
                    .unwrap_or_default();
                let entry = EntryHeader {
                    kind: EntryKind::CarriedBatch,
                    id: log.id(),
                    leader_epoch: model::LeaderEpoch(i32::from_be_bytes(epoch)),
                    offset: batch.place.base_offset,
                    length: u32::try_from(stored.len()).unwrap_or(u32::MAX),
                    batch_crc: 0,
                    offset_delta_of_max_timestamp: i32::try_from(
                        batch.place.offset_of_max_timestamp.0 - batch.place.base_offset.0,
                    )
                    .unwrap_or_default(),
                };
                let sequence = journal.next_sequence;
                let unpatched: Result<usize, std::convert::Infallible> =
                    journal
                        .open
                        .add_batch(entry, stored, |len| self.io.buffer(len), |_| Ok(()));
                let Ok(start) = unpatched;
                let number = journal.open.log_number(
                    log,
                    &mut state.open_group,
                    sequence,
                    model::Offset::ZERO,
                );
                journal.open.flushed = true;
                journal.open.batches.push(GroupBatch {
                    log: number,
                    place: batch.place,
                    start,
                    len: stored.len(),
                    carried: true,
                });
                self.counters.carried_bytes.add(stored.len() as u64);
                let full = journal.open.used() >= self.options.group_bytes_max;
                drop((journal, state));
                if full {
                    self.seal();
                }
            }
        }
        if self.journal.borrow().open.entry_count > 0 {
            self.seal();
        }
        self.kick();
    }

    /// Writes a checkpoint of this moment and frees what it makes needless.
    pub(crate) async fn checkpoint(&self, run_state: RunState) -> Result<(), StorageError> {
        while self.checkpoint_busy.get() {
            self.check_fence()?;
            self.journal_changed.changed().await;
        }
        self.checkpoint_busy.set(true);
        let result = self.checkpoint_alone(run_state).await;
        self.checkpoint_busy.set(false);
        self.journal_changed.notify();
        result
    }

    async fn checkpoint_alone(&self, run_state: RunState) -> Result<(), StorageError> {
        self.check_fence()?;
        let durable_through = if run_state == RunState::Running {
            self.request_barrier()
        } else {
            0
        };
        let replay = self
            .tail
            .borrow()
            .oldest_dirty()
            .unwrap_or_else(|| self.journal.borrow().replay_position());
        let sequence = self.checkpoint_sequence.get() + 1;
        let checkpoint = Checkpoint {
            shard: self.options.shard,
            sequence,
            state: run_state,
            generation: self.journal.borrow().generation,
            replay,
            durable_through,
            removals: self.removals.borrow().iter().copied().collect(),
            logs: self.logs.borrow().values().cloned().collect(),
        };
        let bytes = checkpoint.encode();
        let unsynced = self.unsynced.take();
        let is_spare_taken = self.spares_unsynced.take();
        self.sync_segments(unsynced, is_spare_taken).await?;
        if run_state == RunState::Running {
            self.wait_durable(durable_through).await?;
        }
        while let Err(error) = self.write_checkpoint(sequence, &bytes).await {
            if !is_disk_full(&error) {
                self.fence(&format!("writing checkpoint {sequence}: {error}"));
                return self.check_fence();
            }
            self.pause_disk_full().await;
        }
        self.clear_disk_full();
        self.checkpoint_sequence.set(sequence);
        self.counters.checkpoints.increment();
        let recycled = self.journal.borrow_mut().files.recycle(replay.sequence);
        if recycled > 0 {
            self.admission.notify();
            self.kick();
        }
        self.remove_files(checkpoint.removals).await;
        Ok(())
    }

    async fn sync_segments(
        &self,
        unsynced: BTreeMap<SegmentId, Unsynced>,
        is_spare_taken: bool,
    ) -> Result<(), StorageError> {
        let synced = if unsynced.len() > self.options.sync_files_max {
            self.counters.file_system_flushes.increment();
            self.io.sync_file_system(self.layout.root()).await
        } else {
            self.sync_each(&unsynced, is_spare_taken).await
        };
        if let Err(error) = synced {
            self.fence(&format!("flushing segments: {error}"));
        }
        self.check_fence()
    }

    async fn sync_each(
        &self,
        unsynced: &BTreeMap<SegmentId, Unsynced>,
        is_spare_taken: bool,
    ) -> std::io::Result<()> {
        // A file that has moved has left one directory and come to another: both must know.
        if is_spare_taken {
            let spares = self.layout.spares_of(self.options.shard);
            self.io.sync_dir(&spares).await?;
        }
        if unsynced.values().any(|what| what.directory) {
            self.io.sync_dir(&self.layout.partitions()).await?;
        }
        // One after the other: flushes at the same time make those of the journal wait longer.
        for (id, what) in unsynced {
            // Also if the log was deleted or the segment expired since: the checkpoint under way names it, and it is
            // that checkpoint that counts if the deletion does not become durable. Its files are there until the next.
            if what.log {
                let path = self.layout.segment(id.partition, id.base_offset);
                self.files
                    .open(&self.io, *id, FileKind::LogWrite, &path)
                    .await?
                    .sync_data()
                    .await?;
                self.counters.segment.flushes.increment();
            }
            if what.index {
                let path = self.layout.index(id.partition, id.base_offset);
                self.files
                    .open(&self.io, *id, FileKind::Index, &path)
                    .await?
                    .sync_data()
                    .await?;
                self.counters.index.flushes.increment();
            }
            if what.directory {
                self.io
                    .sync_dir(&self.layout.partition(id.partition))
                    .await?;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint file over the older of the two and makes it durable.
    pub(crate) async fn write_checkpoint(
        &self,
        sequence: u64,
        bytes: &[u8],
    ) -> std::io::Result<()> {
        write_checkpoint_file(&self.io, &self.layout, self.options.shard, sequence, bytes).await?;
        self.counters.checkpoint.wrote(bytes.len() as u64);
        self.counters.checkpoint.flushes.increment();
        Ok(())
    }

    /// Removes files that no checkpoint names any more, or keeps them for new segments.
    async fn remove_files(&self, removals: Vec<Removal>) {
        let mut left = BTreeSet::new();
        for removal in &removals {
            let id = removal.partition();
            while self.write_queue.is_active(id) {
                if self.fenced.get() {
                    return;
                }
                self.write_queue.changed.changed().await;
            }
            for segment in self.gone_segments(*removal) {
                if self.keep_file(segment).await {
                    left.insert(id);
                }
            }
        }
        if !left.is_empty()
            && let Err(error) = self.settle_spares(&left).await
        {
            self.fence(&format!("flushing directories of moved files: {error}"));
            return;
        }
        for removal in removals {
            let removed = match removal {
                Removal::Partition(id) => {
                    self.files.forget_partition(id);
                    self.io.remove_dir_all(&self.layout.partition(id)).await
                }
                Removal::Segment(segment) => self.remove_segment(segment).await,
            };
            match removed {
                Ok(()) => {
                    self.removals.borrow_mut().remove(&removal);
                }
                // Stays in the list, so the next checkpoint tries again.
                Err(error) => {
                    let partition = removal.partition();
                    tracing::warn!(%partition, %error, "removing files failed");
                }
            }
            self.io.yield_if_needed().await;
        }
    }

    async fn remove_segment(&self, id: SegmentId) -> std::io::Result<()> {
        self.files.forget(id);
        self.io
            .remove_file(&self.layout.index(id.partition, id.base_offset))
            .await?;
        self.io
            .remove_file(&self.layout.segment(id.partition, id.base_offset))
            .await
    }

    /// Segments of a removal that were there in this run.
    fn gone_segments(&self, removal: Removal) -> Vec<SegmentId> {
        let among = match removal {
            Removal::Partition(id) => SegmentId::all_of(id),
            Removal::Segment(segment) => segment..=segment,
        };
        let gone = self.gone_bytes.borrow();
        gone.range(among).map(|(segment, _)| *segment).collect()
    }

    /// Moves the file of a segment that is gone to the spares, if it is of use there.
    async fn keep_file(&self, id: SegmentId) -> bool {
        // A file that somebody reads is not kept: what they read is verified, so they would take it for damaged.
        let is_read = self.files.forget(id);
        let bytes = self.gone_bytes.borrow_mut().remove(&id);
        let bytes = bytes.filter(|_| !is_read && self.is_running() && !self.disk_full.get());
        let now = self.io.now();
        let place = bytes.and_then(|bytes| self.spares.borrow_mut().place(bytes, now));
        let Some(number) = place else {
            return false;
        };
        let path = self.layout.segment(id.partition, id.base_offset);
        let spare = self.layout.spare(self.options.shard, number);
        let moved = self.io.rename(&path, &spare).await;
        if let Err(error) = &moved {
            // It is removed where it is.
            tracing::warn!(path = %path.display(), %error, "moving a file to the spares failed");
            self.spares.borrow_mut().forget(number);
        }
        moved.is_ok()
    }

    /// Lets files that were moved out of these partitions be taken. Not before their old names are gone for good: a power
    /// cut that brought one back, after the file has got a new name as well, would leave two logs with one file.
    async fn settle_spares(&self, left: &BTreeSet<TopicPartition>) -> std::io::Result<()> {
        if left.len() > self.options.sync_files_max {
            self.counters.file_system_flushes.increment();
            self.io.sync_file_system(self.layout.root()).await?;
        } else {
            for id in left {
                self.io.sync_dir(&self.layout.partition(*id)).await?;
            }
            let spares = self.layout.spares_of(self.options.shard);
            self.io.sync_dir(&spares).await?;
        }
        self.spares.borrow_mut().settle();
        Ok(())
    }

    /// Removes spares that are kept no longer. One that cannot be removed is removed by the next start.
    pub(crate) async fn remove_spares(&self, numbers: Vec<u64>) {
        for number in numbers {
            let path = self.layout.spare(self.options.shard, number);
            if let Err(error) = self.io.remove_file(&path).await {
                tracing::warn!(path = %path.display(), %error, "removing a spare file failed");
            }
        }
    }

    /// Recovery brings segments to where the journal is and nothing else; a shutdown leaves nothing behind.
    fn is_running(&self) -> bool {
        self.listener.borrow().is_some() && !self.closing.get()
    }

    /// Takes a log out: journals the deletion, drops its memory, lists its directory for removal.
    pub(crate) fn delete(&self, log: &Rc<Log>) {
        self.add_mark(log, EntryKind::PartitionDeleted, log.log_end_offset.get());
        log.deleted.set(true);
        // A log made anew under this name begins in a later group.
        self.seal();
        {
            let mut state = log.state.borrow_mut();
            let mut tail = self.tail.borrow_mut();
            for batch in state.tail.range(state.tail_written..) {
                tail.cleaned(batch.sequence, 1);
            }
            state.tail.clear();
            state.tail_written = 0;
            state.dirty_bytes = 0;
        }
        self.unsynced
            .borrow_mut()
            .retain(|id, _| id.partition != log.id());
        let segments = &log.state.borrow().segments;
        let gone = segments.iter().filter_map(Segment::file_bytes);
        self.gone_bytes.borrow_mut().extend(gone);
        let mut removals = self.removals.borrow_mut();
        removals
            .retain(|removal| !matches!(removal, Removal::Segment(id) if id.partition == log.id()));
        removals.insert(Removal::Partition(log.id()));
        drop(removals);
        self.kick();
        self.keeper_signal.raise();
    }

    /// Pre-writes further journal files when they are wanted: one long-lived task.
    pub(crate) async fn extend_journal(self: Rc<Self>) {
        loop {
            self.journal_extend.wait().await;
            if self.fenced.get() || self.stopping.get() {
                return;
            }
            let durable = self.journal_durable_writes.get();
            let (size, bytes_max) = (
                self.options.journal_file_bytes,
                self.options.journal_bytes_max,
            );
            loop {
                let Some(number) = self.journal.borrow().files.wants_file(size, bytes_max) else {
                    break;
                };
                match prepare_file(
                    &self.io,
                    &self.layout,
                    self.options.shard,
                    number,
                    size,
                    durable,
                )
                .await
                {
                    Ok(file) => {
                        self.counters.journal_prepared_bytes.add(size);
                        self.counters.journal.flushes.increment();
                        self.journal.borrow_mut().files.add(Rc::new(file));
                        self.clear_disk_full();
                        self.admission.notify();
                        self.kick();
                    }
                    Err(error) if is_disk_full(&error) => {
                        // The journal can do with what it has; only if that runs out are appends refused.
                        if self.journal_has_room(self.options.group_bytes_max) {
                            self.io.sleep(crate::segment_writer::DISK_FULL_PAUSE).await;
                        } else {
                            self.pause_disk_full().await;
                        }
                    }
                    Err(error) => {
                        self.fence(&format!("making journal file {number}: {error}"));
                        return;
                    }
                }
                if self.stopping.get() {
                    return;
                }
            }
        }
    }

    /// Looks for expired segments and producers from time to time: one long-lived task.
    pub(crate) async fn check_retention(self: Rc<Self>) {
        loop {
            self.io.sleep(self.options.retention_check_interval).await;
            if self.fenced.get() || self.stopping.get() {
                return;
            }
            let logs: Vec<Rc<Log>> = self.logs.borrow().values().cloned().collect();
            let now = self.io.wall_clock();
            for log in logs {
                self.expire(&log, now);
                self.io.yield_if_needed().await;
            }
            let expired = self.spares.borrow_mut().expire(self.io.now());
            self.remove_spares(expired).await;
            if self.has_removals() {
                self.keeper_signal.raise();
            }
        }
    }

    /// Whether files wait for their removal.
    fn has_removals(&self) -> bool {
        !self.removals.borrow().is_empty()
    }

    /// A log has filled a segment. In balance it loses one for it, whose file is then there for the next that is begun.
    pub(crate) fn rolled(&self, log: &Rc<Log>) {
        if !self.is_running() || log.deleted.get() {
            return;
        }
        self.expire(log, self.io.wall_clock());
        if self.has_removals() {
            self.keeper_signal.raise();
        }
    }

    /// Applies retention to one log. Its files go after the next checkpoint.
    pub(crate) fn expire(&self, log: &Rc<Log>, now: Timestamp) {
        let mut state = log.state.borrow_mut();
        let state = &mut *state;
        let expiration_ms = state.config.producer_id_expiration_ms;
        state.producers.expire(now, expiration_ms);
        let durable_end = log.durable_end_offset.get();
        let summaries: Vec<SegmentSummary> = state
            .segments
            .iter()
            .map(crate::segment::Segment::summary)
            .take_while(|segment| segment.next_offset <= durable_end && segment.size_bytes > 0)
            .collect();
        let mut gone = removable_segments(
            &summaries,
            log.log_start_offset.get(),
            log.size_bytes.get(),
            &state.config,
            now,
        );
        // A writer may be adding to the active segment: it can go next time.
        if state.writing {
            gone = gone.min(state.segments.len().saturating_sub(1));
        }
        let Some(last) = gone.checked_sub(1) else {
            return;
        };
        let log_start_offset = log
            .log_start_offset
            .get()
            .max(state.segments[last].next_offset);
        for segment in state.segments.drain(..gone) {
            log.size_bytes
                .set(log.size_bytes.get().saturating_sub(segment.size_bytes));
            self.removals
                .borrow_mut()
                .insert(Removal::Segment(segment.id));
            self.gone_bytes.borrow_mut().extend(segment.file_bytes());
            self.unsynced.borrow_mut().remove(&segment.id);
        }
        log.log_start_offset.set(log_start_offset);
        state.leader_epochs.truncate_front(log_start_offset);
    }
}

/// Writes a checkpoint over the older of a shard's two and makes it durable.
pub(crate) async fn write_checkpoint_file<I: Io>(
    io: &I,
    layout: &crate::layout::Layout,
    shard: model::ShardId,
    sequence: u64,
    bytes: &[u8],
) -> std::io::Result<()> {
    let slot = u8::from(!sequence.is_multiple_of(2));
    let file = io
        .open(&layout.checkpoint(shard, slot), OpenMode::Write)
        .await?;
    let mut buffer = io.buffer(bytes.len());
    buffer.truncate(bytes.len());
    buffer.as_mut().copy_from_slice(bytes);
    file.allocate(bytes.len() as u64).await?;
    file.write_at(buffer.freeze(), 0).await?;
    file.sync_data().await?;
    file.close().await?;
    io.sync_dir(&layout.checkpoints()).await
}

impl<I: Io> Storage<I> {
    /// Applies retention to all logs as of `now`, as the periodic check does.
    pub fn enforce_retention(&self, now: Timestamp) {
        let logs: Vec<Rc<Log>> = self.inner.logs.borrow().values().cloned().collect();
        for log in logs {
            self.inner.expire(&log, now);
        }
        if !self.inner.removals.borrow().is_empty() {
            self.inner.keeper_signal.raise();
        }
    }

    /// Commits and writes everything, leaves a checkpoint that says so, and ends the tasks. Appends are refused from now
    /// on: after a clean stop the journal is not replayed.
    pub async fn shutdown(&self) -> Result<(), StorageError> {
        let inner = &self.inner;
        inner.check_fence()?;
        inner.closing.set(true);
        inner.admission.notify();
        let through = inner.request_barrier();
        inner.wait_durable(through).await?;
        // Directories of deleted logs stand in the way of logs made anew under their names.
        if !inner.removals.borrow().is_empty() {
            inner.checkpoint(RunState::Running).await?;
        }
        let logs: Vec<Rc<Log>> = inner.logs.borrow().values().cloned().collect();
        inner
            .write_all(
                logs.iter()
                    .filter(|log| log.dirty_bytes() > 0)
                    .cloned()
                    .collect(),
            )
            .await?;
        inner.trim_open_segments(&logs).await?;
        inner.stopping.set(true);
        let spares = inner.spares.borrow_mut().clear();
        inner.remove_spares(spares).await;
        inner.checkpoint(RunState::CleanShutdown).await?;
        inner.checkpoint(RunState::CleanShutdown).await?;
        inner.stopped.set(true);
        for slot in &inner.slots {
            slot.raise();
        }
        inner.journal_extend.raise();
        inner.keeper_signal.raise();
        inner.write_queue.wake();
        inner.read_ahead.wake();
        inner.admission.notify();
        Ok(())
    }
}

impl<I: Io> Inner<I> {
    /// Cuts the files of open segments to their exact size, so that other tools can read them.
    pub(crate) async fn trim_open_segments(&self, logs: &[Rc<Log>]) -> Result<(), StorageError> {
        at_once(logs, async |log| {
            let open = {
                let state = log.state.borrow();
                state
                    .segments
                    .last()
                    .filter(|segment| {
                        !segment.sealed && segment.allocated_bytes > segment.size_bytes
                    })
                    .map(|segment| segment.id)
            };
            if let Some(id) = open
                && let Err(error) = self.trim_segment(log, id).await
            {
                self.fence(&format!("trimming a segment of {}: {error}", log.id()));
            }
            self.check_fence()
        })
        .await
    }
}
