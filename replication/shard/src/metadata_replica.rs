//! This broker's replica of the metadata log: the quorum, and what is under way for it.
//!
//! On shard 0. [`crate::metadata_quorum`] fills and empties the queues.
//! Invariant: a proposal is answered once, by the entry that took its place or by the end of this replica's leadership.
//! Bounds: the quorum bounds writes under way, and proposals in bytes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use model::{MonotonicTime, Offset};
use quorum::{
    Committed, EntryId, EntryIndex, Leadership, MembershipRefusal, Message, Output, Proposed,
    Quorum, QuorumStatus, ReadEntries, RecoveredLog, ReplicaKey, Settings, SnapshotMark,
    TransferRefusal, Write, WriteNumber,
};
use runtime::{Oneshot, Signal};
use storage::{Log, Mark};

use crate::metadata_snapshots::{SnapshotToWrite, Taken};
use crate::observers::VoterChange;
use crate::refusal::{MetadataRefusal, WaitFailure, WriteRefusal};

/// A write that is on its way to the device.
pub(crate) struct UnderWay {
    pub(crate) number: WriteNumber,
    /// Of the state, if it was changed.
    pub(crate) mark: Option<Mark>,
    /// The log's end after it.
    pub(crate) end: Offset,
}

/// What becomes of a decision.
pub(crate) type Outcome = Oneshot<Result<(), MetadataRefusal>>;

/// A decision that waits for its entry to be committed.
struct Proposal {
    proposed: Proposed,
    done: Rc<Outcome>,
}

/// This broker's replica of the metadata log.
pub(crate) struct MetadataReplica {
    quorum: RefCell<Quorum>,
    log: Rc<Log>,
    writes: RefCell<VecDeque<Write>>,
    write_wanted: Rc<Signal>,
    under_way: RefCell<VecDeque<UnderWay>>,
    /// Something is under way, or the log's durable end has moved.
    durable_wanted: Rc<Signal>,
    reads: RefCell<VecDeque<ReadEntries>>,
    read_wanted: Rc<Signal>,
    proposals: RefCell<VecDeque<Proposal>>,
    /// A snapshot that the quorum knows to be here, and has not taken yet.
    fetched: RefCell<Option<Taken>>,
    /// One for each write that installs one.
    snapshots: RefCell<VecDeque<SnapshotToWrite>>,
    leadership: Cell<Leadership>,
    /// The last entry that was committed.
    committed: Cell<EntryId>,
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
            fetched: RefCell::default(),
            snapshots: RefCell::default(),
            leadership: Cell::default(),
            committed: Cell::default(),
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

    /// Who leads the log, as far as this replica knows.
    pub(crate) fn leader(&self) -> Option<ReplicaKey> {
        self.leadership.get().leader
    }

    /// A message of another replica, which has shown that it is from it. One that is refused is lost: it is sent again.
    pub(crate) fn handle_message(&self, message: Message) {
        let from = message.from;
        if let Err(refusal) = self.quorum.borrow_mut().handle_message(message) {
            tracing::debug!(%from, %refusal, "a message of the quorum is not taken");
        }
    }

    /// Nothing that is sent there arrives at present.
    pub(crate) fn unreachable(&self, peer: ReplicaKey) {
        self.quorum.borrow_mut().handle_unreachable(peer);
    }

    /// A snapshot that was asked for is here.
    pub(crate) fn snapshot_fetched(&self, taken: Taken) {
        *self.fetched.borrow_mut() = Some(taken);
        self.quorum.borrow_mut().handle_snapshot_fetched();
    }

    /// It is taken: this is to be written with the write that says so.
    pub(crate) fn want_snapshot(&self, snapshot: SnapshotToWrite) {
        self.snapshots.borrow_mut().push_back(snapshot);
    }

    /// The next that is to be written.
    pub(crate) fn next_snapshot(&self) -> Option<SnapshotToWrite> {
        self.snapshots.borrow_mut().pop_front()
    }

    /// The one that is here, for the quorum that takes it or needs it no more.
    pub(crate) fn take_snapshot(&self) -> Option<Taken> {
        self.fetched.borrow_mut().take()
    }

    /// A snapshot that was asked for cannot be had.
    pub(crate) fn snapshot_failed(&self) {
        self.quorum.borrow_mut().handle_snapshot_failed();
    }

    /// These get the log from now on, too.
    pub(crate) fn set_observers(&self, observers: &[ReplicaKey]) -> Result<(), MembershipRefusal> {
        self.quorum.borrow_mut().set_observers(observers)
    }

    /// Gives a vote, or takes it away.
    pub(crate) fn change_voters(&self, change: VoterChange) -> Result<(), MembershipRefusal> {
        let mut quorum = self.quorum.borrow_mut();
        let proposed = match change {
            VoterChange::Add(key) => quorum.add_voter(key),
            VoterChange::Remove(key) => quorum.remove_voter(key),
        };
        proposed.map(drop)
    }

    /// Hands leadership over to the voter that has most.
    pub(crate) fn hand_over(&self) -> Result<(), TransferRefusal> {
        self.quorum.borrow_mut().transfer_leadership(None)
    }

    /// Who takes part, and how far they are.
    pub(crate) fn status(&self) -> QuorumStatus {
        self.quorum.borrow().status()
    }

    pub(crate) fn log(&self) -> &Rc<Log> {
        &self.log
    }

    /// The next thing to do, after everything that the quorum was told.
    pub(crate) fn poll_output(&self) -> Option<Output> {
        self.quorum.borrow_mut().poll_output()
    }

    /// Time has passed. Whether something was due.
    #[must_use]
    pub(crate) fn tick(&self, now: MonotonicTime) -> bool {
        let mut quorum = self.quorum.borrow_mut();
        let is_due = quorum.next_timeout().is_some_and(|due| due <= now);
        if is_due {
            quorum.handle_timeout(now);
        }
        is_due
    }

    /// Proposes a batch of records. What is returned is set when it is committed, or will not be.
    pub(crate) fn propose(&self, batch: &[u8]) -> Result<(Proposed, Rc<Outcome>), MetadataRefusal> {
        let proposed = self.quorum.borrow_mut().propose(batch)?;
        let done = Oneshot::new();
        self.proposals.borrow_mut().push_back(Proposal {
            proposed,
            done: done.clone(),
        });
        Ok((proposed, done))
    }

    /// A write is wanted, behind those before it.
    pub(crate) fn want_write(&self, write: Write) {
        self.writes.borrow_mut().push_back(write);
        self.write_wanted.raise();
    }

    /// The next write that is wanted. One task takes it.
    pub(crate) async fn next_write(&self) -> Write {
        next(&self.writes, &self.write_wanted).await
    }

    /// A write is on its way to the device.
    pub(crate) fn submitted(&self, write: UnderWay) {
        self.under_way.borrow_mut().push_back(write);
        self.durable_wanted.raise();
    }

    /// The oldest write that is on its way. One task takes it, and waits for it with [`MetadataReplica::more_durable`].
    pub(crate) async fn next_under_way(&self) -> UnderWay {
        next(&self.under_way, &self.durable_wanted).await
    }

    /// Waits until the log's durable end may have moved.
    pub(crate) async fn more_durable(&self) {
        self.durable_wanted.wait().await;
    }

    /// Everything up to this write is durable.
    pub(crate) fn persisted(&self, number: WriteNumber) {
        self.quorum.borrow_mut().handle_persisted(number);
    }

    /// Entries are wanted for a follower.
    pub(crate) fn want_read(&self, wanted: ReadEntries) {
        self.reads.borrow_mut().push_back(wanted);
        self.read_wanted.raise();
    }

    /// The next entries that are wanted. One task takes it.
    pub(crate) async fn next_read(&self) -> ReadEntries {
        next(&self.reads, &self.read_wanted).await
    }

    /// These are they; `None` if they cannot be read.
    pub(crate) fn entries_read(&self, first: EntryIndex, batches: Option<Vec<Bytes>>) {
        let mut quorum = self.quorum.borrow_mut();
        quorum.handle_entries_read(first, batches);
    }

    /// An entry is committed and applied: whoever proposed it, or another one for its place, is told.
    pub(crate) fn committed(&self, committed: &Committed) {
        self.log.set_high_watermark(committed.end_offset);
        let (index, term) = (committed.index, committed.term);
        self.committed.set(EntryId { index, term });
        self.answer(committed);
    }

    /// Somebody else leads, or nobody, or this replica.
    pub(crate) fn led(&self, leadership: Leadership) {
        self.leadership.set(leadership);
        if !self.quorum.borrow().leads() {
            self.fail_proposals(&MetadataRefusal::NotController);
        }
    }

    /// A snapshot that had this mark is durable.
    pub(crate) fn snapshot_written(&self, mark: &SnapshotMark) {
        let mut quorum = self.quorum.borrow_mut();
        // Where the log may begin is the snapshot's own matter: it keeps one generation more than the quorum needs.
        let _: Option<Offset> = quorum.handle_snapshot_written(mark);
    }

    /// The mark of a snapshot of everything that was applied.
    pub(crate) fn snapshot_mark(&self) -> Option<SnapshotMark> {
        self.quorum.borrow().snapshot_mark()
    }

    /// Nobody decides with this replica any more: its disk has failed, or closes.
    pub(crate) fn fail(&self, why: WaitFailure) {
        self.quorum.borrow_mut().resign();
        self.fail_proposals(&MetadataRefusal::NotWritten(WriteRefusal::NotAcknowledged(
            why,
        )));
    }

    fn fail_proposals(&self, why: &MetadataRefusal) {
        for proposal in self.proposals.take() {
            proposal.done.set(Err(why.clone()));
        }
    }

    fn answer(&self, committed: &Committed) {
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

/// Waits for the next of a queue that `wanted` is raised for.
async fn next<T>(queue: &RefCell<VecDeque<T>>, wanted: &Signal) -> T {
    loop {
        let next = queue.borrow_mut().pop_front();
        match next {
            Some(next) => return next,
            None => wanted.wait().await,
        }
    }
}
