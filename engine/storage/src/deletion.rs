//! Deleting logs: the mark in the journal, the memory, and the directory for removal.
//!
//! Invariants: a log that is deleted takes nothing more; until its mark is in the journal, checkpoints name it; entries
//! of a log made anew under its name stand in later groups than its mark.

use std::rc::Rc;

use model::TopicPartition;
use runtime::Io;

use crate::append::NewMark;
use crate::error::StorageError;
use crate::inner::Inner;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryKind};
use crate::journal::room::Claim;
use crate::log::Log;
use crate::options::PlantedFault;
use crate::segment::Segment;

impl<I: Io> Inner<I> {
    /// Takes a log out. If the journal has no room for its mark, the next checkpoint makes some, and takes the mark along.
    pub(crate) fn delete_log(&self, id: TopicPartition) {
        let Some(log) = self.logs.borrow_mut().remove(&id) else {
            return;
        };
        log.note_deleted();
        self.waiting_deletions.borrow_mut().push_back(log);
        self.place_deletions(Claim::Mark);
        self.kick();
        self.removal_signal.raise();
    }

    /// Waits until the marks of all logs that were deleted before are durable.
    pub(crate) async fn wait_for_deletions(&self) -> Result<(), StorageError> {
        if self
            .options
            .is_planted(PlantedFault::DeletionsConfirmedEarly)
        {
            return Ok(());
        }
        while self.has_waiting_deletions() {
            self.life.check()?;
            self.removal_signal.raise();
            self.journal_changed.changed().await;
        }
        let through = self.request_barrier();
        self.wait_durable(through).await
    }

    /// Whether deletions wait for room.
    pub(crate) fn has_waiting_deletions(&self) -> bool {
        !self.waiting_deletions.borrow().is_empty()
    }

    /// Logs that are deleted but for their mark.
    pub(crate) fn deletions_waiting(&self) -> Vec<Rc<Log>> {
        self.waiting_deletions.borrow().iter().cloned().collect()
    }

    /// Journals deletions that wait, as far as there is room for their marks.
    pub(crate) fn place_deletions(&self, claim: Claim) {
        while !self.waiting_deletions.borrow().is_empty()
            && self.journal_has_room(ENTRY_HEADER_BYTES, claim)
        {
            let log = self.waiting_deletions.borrow_mut().pop_front();
            self.delete(&log.expect("the queue is not empty"));
        }
    }

    /// Ends what is left of an earlier log of this name. Returns the group up to which entries are not the new one's.
    pub(crate) fn end_earlier_log(&self, id: TopicPartition) -> u64 {
        let earlier = {
            let mut waiting = self.waiting_deletions.borrow_mut();
            let found = waiting.iter().position(|log| log.id() == id);
            found.and_then(|found| waiting.remove(found))
        };
        if let Some(earlier) = earlier {
            self.delete(&earlier);
        }
        if self.journal.borrow().open.deletes(id) {
            self.seal();
            self.kick();
        }
        let journal = self.journal.borrow();
        assert!(
            !journal.open.deletes(id),
            "its entries stand in later groups"
        );
        journal.pipeline.next_sequence() - 1
    }

    /// Journals the deletion, drops the log's memory, lists its directory for removal.
    fn delete(&self, log: &Rc<Log>) {
        assert!(log.is_deleted(), "appends have been stopped");
        let end = log.log_end_offset();
        self.add_mark(log, NewMark::at(EntryKind::PartitionDeleted, end));
        log.note_gone();
        self.checkpoints.log_gone(log.id());
        let mut state = log.memory_mut();
        let mut tail = self.tail.borrow_mut();
        for batch in state.tail.range(state.tail_written..) {
            tail.cleaned(batch.sequence, 1);
        }
        state.tail.clear();
        state.tail_written = 0;
        state.dirty_bytes = 0;
        let files = state.segments.iter().filter_map(Segment::file_bytes);
        self.removals.log_gone(log.id(), files);
        drop((state, tail));
        self.removal_signal.raise();
    }
}
