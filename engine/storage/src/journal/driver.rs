//! Performs what the pipeline asks for: seals groups, writes and flushes them in a few slots, reports what is committed.

use std::rc::Rc;

use runtime::{ALIGNMENT, Buffer, File, Frozen as _, Io};

use super::files::JournalFile;
use super::frame::{GROUP_HEADER_BYTES, GroupHeader};
use super::group::{GroupLog, GroupReport, OpenGroup};
use super::pipeline::{Flush, Sealed, Write};
use super::room::Claim;
use super::{Frozen, GroupWrite};
use crate::cache::tail::{JournalPosition, TailGroup};
use crate::commit::CommitTimes;
use crate::error::StorageError;
use crate::inner::Inner;
use crate::log::{Log, TailBatch};
use crate::options::PlantedFault;

/// Sealed groups that wait for a write slot, in units of `group_bytes_max`: beyond it admission stops.
const READY_GROUPS_MAX: usize = 4;

impl<I: Io> Inner<I> {
    /// Ends the open group: it gets its header, its batches become readable in the tails, and it waits for a slot.
    pub(crate) fn seal(&self) {
        let mut journal = self.journal.borrow_mut();
        let journal = &mut *journal;
        let place = journal.pipeline.position();
        let chosen = self.choose_placements(&journal.open);
        let full =
            (!chosen.is_empty()).then(|| journal.open.place(&chosen, |len| self.io.buffer(len)));
        let header = GroupHeader {
            shard: self.options.shard,
            generation: journal.generations.latest(),
            sequence: place.sequence,
            durable_sequence: journal.pipeline.durable_sequence(),
            previous_checksum: place.previous_checksum,
            used_bytes: u32::try_from(journal.open.used()).expect("a group fits a journal file"),
            entry_count: journal.open.entry_count,
            entries_checksum: journal.open.entries_checksum,
        };
        if journal.open.entry_count == 0 {
            journal.empty_sequence = place.sequence;
        }
        let is_flushed = journal.open.flushed || journal.open.barrier;
        let mut checksum = 0;
        assert!(
            place.sequence > journal.pipeline.durable_sequence(),
            "what is durable is not sealed again"
        );
        let buffer = journal.open.seal(
            |len| self.io.buffer(len),
            |group| checksum = header.write(group),
        );
        let len = buffer.as_ref().len();
        assert!(
            header.used_bytes as usize <= len && len.is_multiple_of(ALIGNMENT),
            "a group is whole blocks"
        );
        let capacity = full.as_ref().unwrap_or(&buffer).capacity();
        let group = buffer.freeze();
        // The tails keep the buffer that has the batches.
        let memory = full.map_or_else(|| group.clone(), Buffer::freeze);
        let logs = std::mem::take(&mut journal.open.logs);
        let batch_count = journal.open.batches.len();
        self.fill_tails(&mut journal.open, &logs, place, &memory, capacity);
        let placements: Vec<_> = chosen
            .into_values()
            .map(|chosen| self.begin_placement(chosen))
            .collect();
        journal.pipeline.seal(Sealed {
            bytes: GroupWrite {
                group,
                placements: placements.clone(),
            },
            len,
            checksum,
            is_flushed,
            batch_count,
            report: GroupReport { logs, placements },
        });
        if let Some(listener) = &*self.listener.borrow() {
            listener.sealed();
        }
    }

    fn fill_tails(
        &self,
        group: &mut OpenGroup<I::Buffer>,
        logs: &[GroupLog],
        place: JournalPosition,
        frozen: &Frozen<I>,
        capacity: usize,
    ) {
        let mut dirty_batches = 0;
        let sequence = place.sequence;
        if !group.batches.is_empty() {
            let memory = frozen.bytes();
            for batch in group.batches.drain(..) {
                let log = &logs[batch.log as usize].log;
                // Until its mark is there a checkpoint may name it, with what it has.
                if log.is_gone() {
                    continue;
                }
                assert!(
                    batch.start >= GROUP_HEADER_BYTES && batch.start + batch.len <= memory.len(),
                    "a batch lies in its group"
                );
                let bytes = memory.slice(batch.start..batch.start + batch.len);
                let mut state = log.memory_mut();
                dirty_batches += 1;
                if batch.carried {
                    if let Some(left) = state.rehome(batch.place.base_offset, sequence, bytes) {
                        self.tail.borrow_mut().cleaned(left, 1);
                    }
                } else {
                    state.push_tail(TailBatch {
                        place: batch.place,
                        sequence,
                        bytes,
                    });
                }
            }
        }
        let capacity = if dirty_batches == 0 { 0 } else { capacity };
        let logs = logs.iter().map(|member| member.log.clone()).collect();
        self.tail.borrow_mut().push(TailGroup {
            place,
            capacity,
            dirty_batches,
            logs,
        });
    }

    /// Lets an idle write slot look for work.
    pub(crate) fn kick(&self) {
        let slot = {
            let mut journal = self.journal.borrow_mut();
            if journal.wake_pending {
                return;
            }
            let Some(slot) = journal.idle.pop() else {
                return;
            };
            journal.wake_pending = true;
            slot
        };
        self.slots[slot].raise();
    }

    /// The next group, placed, if one may be written now.
    fn take_group(&self) -> Option<Write<GroupWrite<I>, JournalFile<I>>> {
        let has_ready = {
            let mut journal = self.journal.borrow_mut();
            journal.wake_pending = false;
            let (open, pipeline) = (&journal.open, &journal.pipeline);
            let small = !open.barrier && open.used() < self.options.group_overlap_bytes_min;
            if !pipeline.has_ready() && (open.is_empty() || (small && pipeline.is_writing())) {
                return None;
            }
            if !pipeline.next_fits(open.disk_bytes()) {
                drop(journal);
                self.reclaim_signal.raise();
                self.journal_extend.raise();
                return None;
            }
            pipeline.has_ready()
        };
        if !has_ready {
            self.seal();
        }
        let write = self.journal.borrow_mut().pipeline.take(self.io.now())?;
        assert!(
            write.position.is_multiple_of(ALIGNMENT as u64)
                && write.position + write.len as u64 <= write.file.size,
            "a group lies in its file"
        );
        // A group without batches may have been let go already.
        if let Some(group) = self.tail.borrow_mut().get_mut(write.sequence) {
            group.place.file = write.file_number;
            group.place.position = write.position;
        }
        if write.is_first {
            self.journal_extend.raise();
            self.reclaim_signal.raise();
        }
        Some(write)
    }

    /// One write slot: a long-lived task.
    pub(crate) async fn write_groups(self: Rc<Self>, slot: usize) {
        while !self.life.is_fenced() {
            let Some(write) = self.take_group() else {
                if !self.life.writes() {
                    return;
                }
                self.rest_slot(slot);
                self.slots[slot].wait().await;
                continue;
            };
            self.kick_if_more();
            let sequence = write.sequence;
            if self.options.is_planted(PlantedFault::EarlyAcknowledgement) {
                self.planted_report(sequence);
            }
            let path = self
                .layout
                .journal_file(self.options.shard, write.file.number);
            let under_way = self.deadlines.begin("writing the journal", self.io.now());
            let placed = self.write_placements(&write.bytes.placements);
            let both = futures_util::future::try_join(self.write_group(&write), placed);
            let written = both.await;
            drop(under_way);
            match written {
                Ok(_) => self.group_done(sequence),
                Err(error) => self.fence(&format!("writing {}: {error}", path.display())),
            }
        }
    }

    /// Notes that a slot has nothing to do. Another may have taken what it was woken for.
    fn rest_slot(&self, slot: usize) {
        let mut journal = self.journal.borrow_mut();
        if !journal.idle.contains(&slot) {
            journal.idle.push(slot);
        }
    }

    fn kick_if_more(&self) {
        let more = {
            let journal = self.journal.borrow();
            journal.pipeline.has_ready()
                || journal.open.used() >= self.options.group_overlap_bytes_min
        };
        if more {
            self.kick();
        }
    }

    async fn write_group(
        &self,
        write: &Write<GroupWrite<I>, JournalFile<I>>,
    ) -> std::io::Result<()> {
        let counters = &self.counters;
        counters.group_bytes.record_value(write.len as u64);
        counters
            .group_batches
            .record_value(write.batch_count as u64);
        counters.journal.wrote(write.len as u64);
        let (sequence, bytes) = (write.sequence, write.bytes.group.clone());
        let file = &write.file;
        if matches!(write.flush, Flush::Group)
            && let Some(durable) = &file.durable
        {
            counters.journal_durable_writes.increment();
            durable.write_at(bytes, write.position).await?;
            self.group_written(sequence);
            return Ok(());
        }
        file.plain.write_at(bytes, write.position).await?;
        self.group_written(sequence);
        let (previous, own) = match &write.flush {
            Flush::Nothing => return Ok(()),
            Flush::Group => (None, true),
            Flush::Files { previous, own } => (previous.as_ref(), *own),
        };
        while !self.journal.borrow().pipeline.earlier_written(sequence) {
            if self.life.is_fenced() {
                return Ok(());
            }
            self.journal_changed.changed().await;
        }
        if let Some(previous) = previous {
            counters.journal.flushes.increment();
            previous.plain.sync_data().await?;
        }
        if own {
            counters.journal.flushes.increment();
            file.plain.sync_data().await?;
        }
        Ok(())
    }

    fn group_written(&self, sequence: u64) {
        self.journal.borrow_mut().pipeline.written(sequence);
        self.journal_changed.notify();
    }

    /// Reports this group and those that only waited for it, in order.
    fn group_done(&self, sequence: u64) {
        // What had to be flushed was not, if another group's failure has fenced the storage meanwhile.
        if self.life.is_fenced() {
            return;
        }
        self.journal.borrow_mut().pipeline.done(sequence);
        let durable_at = self.io.now();
        while !self.life.is_fenced() {
            let Some(group) = self.journal.borrow_mut().pipeline.poll_committed() else {
                break;
            };
            let times = CommitTimes {
                submitted_at: group.submitted_at,
                durable_at,
            };
            let report = group.report;
            self.report(group.sequence, &report.logs, times);
            for placement in &report.placements {
                self.end_placement(placement);
            }
        }
        self.journal_changed.notify();
        let mut journal = self.journal.borrow_mut();
        journal.rests_since = durable_at;
        if journal.needs_witness() {
            self.journal_rests.raise();
        }
        drop(journal);
        self.relieve_tail();
    }

    /// The planted fault: reports a group whose write has only begun.
    fn planted_report(&self, sequence: u64) {
        let durable_at = self.io.now();
        let logs = self
            .journal
            .borrow()
            .pipeline
            .planted_report(sequence)
            .logs
            .clone();
        let times = CommitTimes {
            submitted_at: durable_at,
            durable_at,
        };
        self.report(sequence, &logs, times);
    }

    fn report(&self, sequence: u64, logs: &[GroupLog], times: CommitTimes) {
        let listener = self.listener.borrow().clone();
        for member in logs {
            let log: &Rc<Log> = &member.log;
            // What a group before the cut has of a log was reported before; where it ends now is not durable yet.
            if log.is_deleted() || sequence < log.cut_in_group() {
                continue;
            }
            log.committed(member.end);
            if let Some(listener) = &listener {
                listener.committed(log, log.durable_end_offset(), times);
            }
            self.queue_if_dirty(log);
        }
        if let Some(listener) = &listener {
            listener.group_done();
        }
        self.admission.notify();
    }

    /// Asks for everything appended so far to become durable on the device; returns the group to wait for.
    pub(crate) fn request_barrier(&self) -> u64 {
        self.place_deletions(Claim::Barrier);
        let through = {
            let mut journal = self.journal.borrow_mut();
            if journal.open.is_empty() && journal.pipeline.is_all_durable() {
                return journal.pipeline.durable_sequence();
            }
            journal.open.barrier = true;
            journal.pipeline.next_sequence()
        };
        self.kick();
        through
    }

    /// Waits until the journal is durable through this group.
    pub(crate) async fn wait_durable(&self, sequence: u64) -> Result<(), StorageError> {
        loop {
            self.life.check()?;
            if self.journal.borrow().pipeline.durable_sequence() >= sequence {
                return Ok(());
            }
            self.journal_changed.changed().await;
        }
    }

    /// Whether `bytes` more of entries can be placed, and what this claim leaves to others besides.
    pub(crate) fn journal_has_room(&self, bytes: usize, claim: Claim) -> bool {
        let journal = self.journal.borrow();
        let open = journal.open.disk_bytes();
        let kept = claim.leaves(journal.pipeline.files.total_bytes());
        let group_bytes_max = self.options.group_bytes_max;
        journal
            .pipeline
            .has_room(open, bytes, kept, group_bytes_max)
    }

    /// Whether one entry of `bytes` can be placed, and what this claim leaves to others besides. Exact, where
    /// [`Inner::journal_has_room`] reckons with whole groups: an append that is refused for ever would be a loss.
    pub(crate) fn journal_takes(&self, bytes: usize, claim: Claim) -> bool {
        let journal = self.journal.borrow();
        let open = (journal.open.entry_count > 0).then(|| journal.open.disk_bytes());
        let kept = claim.leaves(journal.pipeline.files.total_bytes());
        let group_bytes_max = self.options.group_bytes_max;
        journal
            .pipeline
            .has_room_for_one(open, bytes, kept, group_bytes_max)
    }

    /// Whether waiting can make room: a sealed group placed, a full file recycled, another one added that
    /// the device has room for. If not, the journal is as empty as it gets, and the append itself says whether it fits.
    pub(crate) fn journal_can_free(&self) -> bool {
        let pipeline = &self.journal.borrow().pipeline;
        let (size, bytes_max) = (
            self.options.journal_file_bytes,
            self.options.journal_bytes_max,
        );
        let can_grow = pipeline.files.can_grow(size, bytes_max) && !self.space.refuses_journal();
        pipeline.has_ready() || pipeline.files.used_bytes() > 0 || can_grow
    }

    /// Whether sealed groups pile up before the device.
    pub(crate) fn journal_congested(&self) -> bool {
        let ready_bytes = self.journal.borrow().pipeline.ready_bytes();
        ready_bytes >= READY_GROUPS_MAX * self.options.group_bytes_max
    }
}
