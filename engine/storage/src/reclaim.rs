//! Frees journal space and tail memory: decides what is to leave the journal, has it written or carried, and writes a
//! checkpoint that does without it.
//!
//! This waits for segment writers, which on a full device wait for space. So nothing that frees space may wait for
//! this: removals have a task of their own (`checkpointer.rs`).

use std::collections::BTreeMap;
use std::rc::Rc;

use model::{LeaderEpoch, Offset, TopicPartition};
use runtime::Io;

use crate::checkpoint::RunState;
use crate::error::StorageError;
use crate::inner::Inner;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind};
use crate::journal::group::GroupBatch;
use crate::journal::room::Claim;
use crate::log::{Log, TailBatch};

impl<I: Io> Inner<I> {
    /// One long-lived task.
    pub(crate) async fn reclaim(self: Rc<Self>) {
        loop {
            self.reclaim_signal.wait().await;
            if !self.life.keeps() {
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
        let wanted = demand > 0 && !self.journal_has_room(demand, Claim::Append);
        let (journal_target, tail_target) = {
            let journal = self.journal.borrow();
            let crowded = wanted
                || journal.pipeline.files.used_bytes() >= self.options.journal_bytes_max / 4
                || !journal
                    .pipeline
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
                journal.pipeline.files.used_through().filter(|_| crowded),
                tail_target,
            )
        };
        // With nothing to free, nobody is told to look again: they would ask for more at once, for ever. What they wait
        // for is under way, and tells them.
        let owes_checkpoint = self.placed.outstanding() > self.options.placed_bytes_max / 2;
        let target = journal_target.max(tail_target);
        if let Some(target) = target {
            self.clean_through(target).await?;
            self.relieve_tail();
        } else if !owes_checkpoint {
            return Ok(());
        }
        if journal_target.is_some() || owes_checkpoint {
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
            let state = log.state();
            let dirty = state.dirty_bytes;
            let entries = (state.tail.len() - state.tail_written) as u64;
            // Each may come with a gap.
            let cost = dirty + 2 * entries * ENTRY_HEADER_BYTES as u64;
            let fits = dirty <= self.options.carry_bytes_max as u64 && carry_bytes + cost <= budget;
            let carry = fits && !state.writer.is_writing();
            drop(state);
            if carry {
                carry_bytes += cost;
                small.push(log);
            } else {
                large.push(log);
            }
        }
        let carry_bytes = usize::try_from(carry_bytes).expect("an eighth of a file");
        let may_carry = self.life.is_running() && self.journal_has_room(carry_bytes, Claim::Append);
        if !small.is_empty() && may_carry {
            self.carry(&small);
        } else {
            large.append(&mut small);
        }
        self.write_all(large).await
    }

    fn dirty_logs(&self, target: u64) -> BTreeMap<TopicPartition, Rc<Log>> {
        let mut logs = BTreeMap::new();
        for log in self.tail.borrow().dirty_through(target) {
            // The mark of its deletion waits for room, and takes what it has along.
            if log.is_deleted() {
                continue;
            }
            let state = log.state();
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
            assert!(!log.is_deleted(), "who is dirty is there");
            let batches: Vec<_> = {
                let state = log.state();
                // Of a log that the group before has placed, the remains have gone along.
                if state.writer.is_writing() {
                    continue;
                }
                state.tail.range(state.tail_written..).cloned().collect()
            };
            for batch in batches {
                let mut state = log.state_mut();
                let mut journal = self.journal.borrow_mut();
                let stored = &batch.bytes;
                assert!(
                    batch.place.next_offset <= log.log_end_offset(),
                    "what is carried was appended"
                );
                let entry = carried_entry(log, &batch);
                let sequence = journal.pipeline.next_sequence();
                if batch.place.follows < batch.place.base_offset {
                    let gap = EntryHeader {
                        kind: EntryKind::Gap,
                        offset: batch.place.follows,
                        length: 0,
                        ..entry
                    };
                    journal.open.add_mark(gap, &[], |len| self.io.buffer(len));
                }
                let unpatched: Result<usize, std::convert::Infallible> =
                    journal
                        .open
                        .add_batch(entry, stored, |len| self.io.buffer(len), |_| Ok(()));
                let Ok(start) = unpatched;
                let number =
                    journal
                        .open
                        .log_number(log, &mut state.open_group, sequence, Offset::ZERO);
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
}

fn carried_entry(log: &Log, batch: &TailBatch) -> EntryHeader {
    let stored = &batch.bytes;
    let epoch = stored[12..16].try_into();
    let epoch = epoch.expect("four bytes of a stored batch");
    let delta = batch.place.offset_of_max_timestamp.0 - batch.place.base_offset.0;
    EntryHeader {
        kind: EntryKind::CarriedBatch,
        id: log.id(),
        leader_epoch: LeaderEpoch(i32::from_be_bytes(epoch)),
        offset: batch.place.base_offset,
        length: u32::try_from(stored.len()).expect("as when it was appended"),
        batch_crc: 0,
        offset_delta_of_max_timestamp: i32::try_from(delta).expect("within its batch"),
    }
}
