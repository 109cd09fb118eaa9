//! Group commit: which group is written when, and when it counts as committed.
//!
//! Invariants: groups are placed and reported in sequence order; a group is reported only when all groups before it
//! are; a flushed group is reported only when it and every group before it are durable on the device.

use std::collections::VecDeque;
use std::rc::Rc;

use model::MonotonicTime;
use runtime::{Buffer, File, Frozen, Io, align_up};

use super::files::{JournalFile, JournalFiles};
use super::frame::{GROUP_HEADER_BYTES, GroupHeader};
use super::group::{GroupLog, OpenGroup};
use crate::cache::tail::{JournalPosition, TailGroup};
use crate::error::StorageError;
use crate::log::{Log, TailBatch};
use crate::storage::{CommitTimes, Inner};

/// Sealed groups that wait for a write slot, in units of `group_bytes_max`: beyond it admission stops.
const READY_GROUPS_MAX: usize = 4;

/// Journal space that appends leave for marks, barriers and the carried remains of small logs.
const ROOM_RESERVE_BYTES: usize = 64 << 10;

/// The journal of a shard.
pub(crate) struct Journal<I: Io> {
    pub(crate) generation: u64,
    /// Sequence of the open group.
    pub(crate) next_sequence: u64,
    pub(crate) previous_checksum: u32,
    pub(crate) open: OpenGroup<I::Buffer>,
    ready: VecDeque<SealedGroup<I>>,
    pub(crate) ready_bytes: usize,
    in_flight: VecDeque<InFlight>,
    /// All groups up to here are durable.
    pub(crate) durable_sequence: u64,
    pub(crate) files: JournalFiles<I>,
    /// A group was placed that is not durable by itself; the next flushed group must make it so.
    unflushed: bool,
    idle: Vec<usize>,
    wake_pending: bool,
}

struct SealedGroup<I: Io> {
    sequence: u64,
    frozen: <I::Buffer as Buffer>::Frozen,
    len: usize,
    flushed: bool,
    batch_count: usize,
    logs: Vec<GroupLog>,
}

struct InFlight {
    sequence: u64,
    submitted_at: MonotonicTime,
    flushed: bool,
    written: bool,
    done: bool,
    logs: Vec<GroupLog>,
}

/// One group to be written.
struct WriteJob<I: Io> {
    sequence: u64,
    frozen: <I::Buffer as Buffer>::Frozen,
    len: usize,
    batch_count: usize,
    file: Rc<JournalFile<I>>,
    position: u64,
    flushed: bool,
    /// Unflushed groups precede it: an O_DSYNC write would not cover them.
    covers_earlier: bool,
    /// The file before it holds unflushed groups.
    sync_first: Option<Rc<JournalFile<I>>>,
}

impl<I: Io> Journal<I> {
    pub(crate) fn new(generation: u64, files: JournalFiles<I>, slots: usize) -> Journal<I> {
        Journal {
            generation,
            next_sequence: 1,
            previous_checksum: 0,
            open: OpenGroup::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            in_flight: VecDeque::new(),
            durable_sequence: 0,
            files,
            unflushed: false,
            idle: (0..slots).collect(),
            wake_pending: false,
        }
    }

    /// Stands where replay has ended: everything before is durable.
    pub(crate) fn resume(&mut self, place: JournalPosition) {
        self.next_sequence = place.sequence;
        self.previous_checksum = place.previous_checksum;
        self.durable_sequence = place.sequence.saturating_sub(1);
    }

    /// Where replay would have to begin if every placed group were clean: at the first group without a place.
    pub(crate) fn replay_position(&self) -> JournalPosition {
        let (file, position) = self.files.next_place();
        JournalPosition {
            sequence: self.next_sequence,
            previous_checksum: self.previous_checksum,
            file,
            position,
        }
    }
}

impl<I: Io> Inner<I> {
    /// Ends the open group: it gets its header, its batches become readable in the tails, and it waits for a slot.
    pub(crate) fn seal(&self) {
        let mut journal = self.journal.borrow_mut();
        let journal = &mut *journal;
        let sequence = journal.next_sequence;
        let place = journal.replay_position();
        let header = GroupHeader {
            shard: self.options.shard,
            generation: journal.generation,
            sequence,
            durable_sequence: journal.durable_sequence,
            previous_checksum: journal.previous_checksum,
            used_bytes: u32::try_from(journal.open.used()).expect("a group fits a journal file"),
            entry_count: journal.open.entry_count,
            entries_checksum: journal.open.entries_checksum,
        };
        let flushed = journal.open.flushed || journal.open.barrier;
        let mut checksum = 0;
        let buffer = journal.open.seal(
            |len| self.io.buffer(len),
            |group| checksum = header.write(group),
        );
        journal.previous_checksum = checksum;
        journal.next_sequence += 1;
        let capacity = buffer.capacity();
        let len = buffer.as_ref().len();
        let frozen = buffer.freeze();
        let logs = std::mem::take(&mut journal.open.logs);
        let batch_count = journal.open.batches.len();
        self.fill_tails(&mut journal.open, &logs, place, &frozen, capacity);
        journal.ready_bytes += len;
        journal.ready.push_back(SealedGroup {
            sequence,
            frozen,
            len,
            flushed,
            batch_count,
            logs,
        });
    }

    fn fill_tails(
        &self,
        group: &mut OpenGroup<I::Buffer>,
        logs: &[GroupLog],
        place: JournalPosition,
        frozen: &<I::Buffer as Buffer>::Frozen,
        capacity: usize,
    ) {
        let mut dirty_batches = 0;
        let sequence = place.sequence;
        if !group.batches.is_empty() {
            let memory = frozen.bytes();
            for batch in group.batches.drain(..) {
                let log = &logs[batch.log as usize].log;
                if log.deleted.get() {
                    continue;
                }
                let bytes = memory.slice(batch.start..batch.start + batch.len);
                let mut state = log.state.borrow_mut();
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
    fn take_group(&self) -> Option<WriteJob<I>> {
        {
            let mut journal = self.journal.borrow_mut();
            journal.wake_pending = false;
            if journal.ready.is_empty() {
                let open = &journal.open;
                let small = !open.barrier && open.used() < self.options.group_overlap_bytes_min;
                if open.is_empty() || (small && !journal.in_flight.is_empty()) {
                    return None;
                }
            }
            let len = journal
                .ready
                .front()
                .map_or(journal.open.disk_bytes(), |group| group.len);
            if !journal.files.fits([len].into_iter()) {
                drop(journal);
                self.keeper_signal.raise();
                self.journal_extend.raise();
                return None;
            }
        }
        if self.journal.borrow().ready.is_empty() {
            self.seal();
        }
        let mut journal = self.journal.borrow_mut();
        let journal = &mut *journal;
        let group = journal.ready.pop_front()?;
        journal.ready_bytes -= group.len;
        let placement = journal.files.place(group.len, group.sequence)?;
        if let Some(known) = self.tail.borrow_mut().get_mut(group.sequence) {
            known.place.file = placement.file.number;
            known.place.position = placement.position;
        }
        if placement.rolled_from.is_some() {
            self.journal_extend.raise();
            self.keeper_signal.raise();
        }
        let covers_earlier = group.flushed && journal.unflushed;
        journal.unflushed = (journal.unflushed || !group.flushed) && !covers_earlier;
        journal.in_flight.push_back(InFlight {
            sequence: group.sequence,
            submitted_at: self.io.now(),
            flushed: group.flushed,
            written: false,
            done: false,
            logs: group.logs,
        });
        Some(WriteJob {
            sequence: group.sequence,
            frozen: group.frozen,
            len: group.len,
            batch_count: group.batch_count,
            file: placement.file,
            position: placement.position,
            flushed: group.flushed,
            covers_earlier,
            sync_first: placement.rolled_from,
        })
    }

    /// One write slot: a long-lived task.
    pub(crate) async fn write_groups(self: Rc<Self>, slot: usize) {
        while !self.fenced.get() {
            let Some(job) = self.take_group() else {
                if self.stopped.get() {
                    return;
                }
                self.rest_slot(slot);
                self.slots[slot].wait().await;
                continue;
            };
            self.kick_if_more();
            if self.options.planted_acknowledge_before_durable {
                self.group_done(job.sequence);
            }
            let path = self
                .layout
                .journal_file(self.options.shard, job.file.number);
            match self.write_group(&job).await {
                Ok(()) => self.group_done(job.sequence),
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
            !journal.ready.is_empty() || journal.open.used() >= self.options.group_overlap_bytes_min
        };
        if more {
            self.kick();
        }
    }

    async fn write_group(&self, job: &WriteJob<I>) -> std::io::Result<()> {
        let counters = &self.counters;
        counters.group_bytes.record_value(job.len as u64);
        counters.group_batches.record_value(job.batch_count as u64);
        counters.journal.wrote(job.len as u64);
        let durable = if job.flushed && !job.covers_earlier && job.sync_first.is_none() {
            job.file.durable.as_ref()
        } else {
            None
        };
        if let Some(file) = durable {
            counters.journal_durable_writes.increment();
            file.write_at(job.frozen.clone(), job.position).await?;
            self.group_written(job.sequence);
            return Ok(());
        }
        job.file
            .plain
            .write_at(job.frozen.clone(), job.position)
            .await?;
        self.group_written(job.sequence);
        if !job.flushed && job.sync_first.is_none() {
            return Ok(());
        }
        // A sync covers only writes that completed before it was issued (reliability R2).
        while !self.earlier_written(job.sequence) {
            if self.fenced.get() {
                return Ok(());
            }
            self.journal_changed.changed().await;
        }
        if let Some(previous) = &job.sync_first {
            counters.journal.flushes.increment();
            previous.plain.sync_data().await?;
        }
        if job.flushed {
            counters.journal.flushes.increment();
            job.file.plain.sync_data().await?;
        }
        Ok(())
    }

    fn group_written(&self, sequence: u64) {
        let mut journal = self.journal.borrow_mut();
        if let Some(group) = journal
            .in_flight
            .iter_mut()
            .find(|group| group.sequence == sequence)
        {
            group.written = true;
        }
        drop(journal);
        self.journal_changed.notify();
    }

    fn earlier_written(&self, sequence: u64) -> bool {
        self.journal
            .borrow()
            .in_flight
            .iter()
            .all(|group| group.sequence >= sequence || group.written)
    }

    /// Reports this group and those that only waited for it, in order.
    fn group_done(&self, sequence: u64) {
        if let Some(group) = self
            .journal
            .borrow_mut()
            .in_flight
            .iter_mut()
            .find(|group| group.sequence == sequence)
        {
            group.done = true;
        }
        let durable_at = self.io.now();
        while !self.fenced.get() {
            let group = {
                let mut journal = self.journal.borrow_mut();
                if !journal.in_flight.front().is_some_and(|group| group.done) {
                    break;
                }
                let Some(group) = journal.in_flight.pop_front() else {
                    break;
                };
                if group.flushed {
                    journal.durable_sequence = group.sequence;
                }
                group
            };
            let times = CommitTimes {
                submitted_at: group.submitted_at,
                durable_at,
            };
            self.report(&group.logs, times);
        }
        self.journal_changed.notify();
        self.relieve_tail();
    }

    fn report(&self, logs: &[GroupLog], times: CommitTimes) {
        let listener = self.listener.borrow().clone();
        for member in logs {
            let log: &Rc<Log> = &member.log;
            if log.deleted.get() {
                continue;
            }
            if member.end > log.durable_end_offset.get() {
                log.durable_end_offset.set(member.end);
            }
            if let Some(listener) = &listener {
                listener.committed(log, log.durable_end_offset.get(), times);
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
        let through = {
            let mut journal = self.journal.borrow_mut();
            let placed = journal.next_sequence - 1;
            if journal.open.is_empty() && journal.durable_sequence == placed {
                return placed;
            }
            journal.open.barrier = true;
            journal.next_sequence
        };
        self.kick();
        through
    }

    /// Waits until the journal is durable through this group.
    pub(crate) async fn wait_durable(&self, sequence: u64) -> Result<(), StorageError> {
        loop {
            self.check_fence()?;
            if self.journal.borrow().durable_sequence >= sequence {
                return Ok(());
            }
            self.journal_changed.changed().await;
        }
    }

    /// Whether `bytes` more of entries can be placed, with a reserve left for marks and barriers: a checkpoint, which
    /// frees space, itself needs a group.
    pub(crate) fn journal_has_room(&self, bytes: usize) -> bool {
        let journal = self.journal.borrow();
        let open = journal.open.disk_bytes();
        let room = journal.files.active_room();
        let pending = journal.ready_bytes + open + bytes + ROOM_RESERVE_BYTES;
        if pending as u64 <= room {
            return true;
        }
        let ready = journal.ready.iter().map(|group| group.len);
        if open + bytes <= self.options.group_bytes_max {
            return journal
                .files
                .fits(ready.chain([open + align_up(bytes), ROOM_RESERVE_BYTES]));
        }
        // More than one group: whole groups of the largest size and a rest, each with the padding it may need.
        let whole = std::iter::repeat_n(
            self.options.group_bytes_max,
            bytes / self.options.group_bytes_max,
        );
        let largest = if whole.len() == 0 {
            align_up(bytes + GROUP_HEADER_BYTES)
        } else {
            self.options.group_bytes_max
        };
        journal.files.fits(
            ready
                .chain([open])
                .chain(whole)
                .chain([largest, ROOM_RESERVE_BYTES]),
        )
    }

    /// Whether waiting can make room: a full file can be recycled or another one added. If not, the journal is as empty
    /// as it gets, and the append itself says whether it fits.
    pub(crate) fn journal_can_free(&self) -> bool {
        let journal = self.journal.borrow();
        let (size, bytes_max) = (
            self.options.journal_file_bytes,
            self.options.journal_bytes_max,
        );
        journal.files.used_bytes() > 0 || journal.files.wants_file(size, bytes_max).is_some()
    }

    /// Whether sealed groups pile up before the device.
    pub(crate) fn journal_congested(&self) -> bool {
        self.journal.borrow().ready_bytes >= READY_GROUPS_MAX * self.options.group_bytes_max
    }
}
