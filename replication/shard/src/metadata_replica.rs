//! This broker's replica of the metadata log: the quorum, and what is under way for it.
//!
//! On shard 0. [`crate::metadata_quorum`] fills and empties the queues.
//! Invariant: a proposal is answered once, by the entry that took its place or by the end of this replica's leadership.
//! Bounds: the quorum bounds writes under way, and proposals in bytes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use model::{MonotonicTime, Offset};
use quorum::{
    Committed, EntryId, Leadership, Proposed, Quorum, ReadEntries, RecoveredLog, Settings,
    SnapshotMark, Write, WriteNumber,
};
use runtime::{Oneshot, Signal};
use storage::{Log, Mark};

use crate::refusal::{MetadataRefusal, OwnAppendError, WaitFailure};

/// A write that is on its way to the device.
pub(crate) struct UnderWay {
    pub(crate) number: WriteNumber,
    /// Of the state, if it was changed.
    pub(crate) mark: Option<Mark>,
    /// The log's end after it.
    pub(crate) end: Offset,
}

/// A decision that waits for its entry to be committed.
pub(crate) struct Proposal {
    pub(crate) proposed: Proposed,
    pub(crate) done: Rc<Oneshot<Result<(), MetadataRefusal>>>,
}

/// This broker's replica of the metadata log.
pub(crate) struct MetadataReplica {
    pub(crate) quorum: RefCell<Quorum>,
    pub(crate) log: Rc<Log>,
    pub(crate) writes: RefCell<VecDeque<Write>>,
    pub(crate) write_wanted: Rc<Signal>,
    pub(crate) under_way: RefCell<VecDeque<UnderWay>>,
    /// Something is under way, or the log's durable end has moved.
    pub(crate) durable_wanted: Rc<Signal>,
    pub(crate) reads: RefCell<VecDeque<ReadEntries>>,
    pub(crate) read_wanted: Rc<Signal>,
    pub(crate) proposals: RefCell<VecDeque<Proposal>>,
    pub(crate) leadership: Cell<Leadership>,
    /// The last entry that was committed.
    pub(crate) committed: Cell<EntryId>,
    /// Leadership has changed, or the first entry of a term was committed.
    pub(crate) changed: Rc<Signal>,
}

impl MetadataReplica {
    /// Takes part again, or for the first time.
    pub(crate) fn new(
        now: MonotonicTime,
        seed: u64,
        log: Rc<Log>,
        recovered: RecoveredLog,
    ) -> Self {
        let settings = Settings {
            seed,
            ..Settings::default()
        };
        MetadataReplica {
            quorum: RefCell::new(Quorum::new(now, settings, recovered)),
            log,
            writes: RefCell::default(),
            write_wanted: Signal::new(),
            under_way: RefCell::default(),
            durable_wanted: Signal::new(),
            reads: RefCell::default(),
            read_wanted: Signal::new(),
            proposals: RefCell::default(),
            leadership: Cell::default(),
            committed: Cell::default(),
            changed: Signal::new(),
        }
    }

    /// The log's durable end has moved.
    pub(crate) fn log_durable(&self) {
        self.durable_wanted.raise();
    }

    /// Whether this replica leads and has committed something of its term: only then it knows all that was decided.
    pub(crate) fn is_active(&self) -> bool {
        let quorum = self.quorum.borrow();
        quorum.leads() && self.committed.get().term == self.leadership.get().term
    }

    /// The mark of a snapshot of everything that was applied.
    pub(crate) fn snapshot_mark(&self) -> Option<SnapshotMark> {
        self.quorum.borrow().snapshot_mark()
    }

    /// Nobody decides with this replica any more: its disk has failed, or closes.
    pub(crate) fn fail(&self, why: WaitFailure) {
        self.quorum.borrow_mut().resign();
        self.fail_proposals(&MetadataRefusal::NotWritten(
            OwnAppendError::NotAcknowledged(why),
        ));
        self.changed.raise();
    }

    pub(crate) fn fail_proposals(&self, why: &MetadataRefusal) {
        for proposal in self.proposals.take() {
            proposal.done.set(Err(why.clone()));
        }
    }

    /// An entry is committed: whoever proposed it, or another one for its place, is told.
    pub(crate) fn answer(&self, committed: &Committed) {
        let mut proposals = self.proposals.borrow_mut();
        while let Some(first) = proposals.front()
            && first.proposed.index <= committed.index
        {
            let first = proposals.pop_front().expect("looked at");
            let is_it =
                first.proposed.index == committed.index && first.proposed.term == committed.term;
            let outcome = if is_it {
                Ok(())
            } else {
                Err(MetadataRefusal::NotController)
            };
            first.done.set(outcome);
        }
    }
}
