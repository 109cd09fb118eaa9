//! One replica of the metadata log: what it can be told and asked.
//!
//! Pure. Owned by the driver on shard 0 for the life of the process. What is refused is refused here; what follows from the
//! rest is `machine.rs`'s matter.

use bytes::Bytes;
use model::{MonotonicTime, Offset};

use crate::check::contradicts;
use crate::control;
use crate::convert::to_raft;
use crate::effects::{Output, WriteNumber};
use crate::entry::{Entry, EntryError, EntryKind};
use crate::key::{ReplicaKey, VoterSet};
use crate::machine::Machine;
use crate::message::{Body, Message, SnapshotMark};
use crate::place::{EntryIndex, Term};
use crate::recovery::RecoveredLog;
use crate::refusal::{MembershipRefusal, MessageRefusal, ProposeRefusal, TransferRefusal};
use crate::settings::{PlantedFault, Settings};
use crate::status::{Proposed, QuorumStatus, ReplicaStatus};
use crate::writes::WRITES_MAX;

/// Entries that a new voter may lack: it gets them while the change is written.
const VOTER_LAG_MAX: u64 = 1_000;

/// Whether this replica takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    /// Its disk has failed: what it promises from now on would not be kept.
    Resigned,
}

/// One replica of the metadata log.
pub struct Quorum {
    me: ReplicaKey,
    settings: Settings,
    life: Life,
    machine: Machine,
    due: MonotonicTime,
    /// The oldest write under way, and the ticks for which it has been that.
    stall: (Option<WriteNumber>, usize),
}

impl Quorum {
    /// Takes part again, or for the first time. A single voter leads at once.
    pub fn new(now: MonotonicTime, settings: Settings, recovered: RecoveredLog) -> Quorum {
        settings.check();
        Quorum {
            me: recovered.me,
            life: Life::Running,
            machine: Machine::new(&settings, recovered),
            due: now.plus(settings.tick),
            stall: (None, 0),
            settings,
        }
    }

    /// The next thing to do. To be called until there is nothing, after every other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.machine.poll_output()
    }

    /// When [`Quorum::handle_timeout`] is due.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        (self.life == Life::Running).then_some(self.due)
    }

    /// Time has passed. A process that was stopped for long counts one tick for it: what was sent to it meanwhile comes first.
    pub fn handle_timeout(&mut self, now: MonotonicTime) {
        if self.life == Life::Resigned || now < self.due {
            return;
        }
        self.begin();
        let next = self.due.plus(self.settings.tick);
        self.due = match next <= now {
            true => now.plus(self.settings.tick),
            false => next,
        };
        if self.has_stalled() && self.machine.consensus().is_leader() {
            self.machine.step_down_for_another();
        }
        // The library relies on a candidate's log being durable.
        if self.machine.consensus().is_leader() || self.machine.writes().is_empty() {
            self.machine.act(|consensus| consensus.tick());
        }
    }

    fn has_stalled(&mut self) -> bool {
        let oldest = self.machine.writes().oldest();
        self.stall = match oldest.is_some() && self.stall.0 == oldest {
            true => (oldest, self.stall.1 + 1),
            false => (oldest, 0),
        };
        self.stall.1 >= self.settings.stall_ticks
    }

    /// A peer's message. Whoever it says it is from has shown to be that in the handshake, of this cluster.
    pub fn handle_message(&mut self, message: Message) -> Result<(), MessageRefusal> {
        self.begin();
        self.check_message(&message)?;
        self.machine.meet(message.from);
        match &message.body {
            Body::Snapshot(mark) => self.machine.offered(&message, mark),
            Body::TimeoutNow => self.machine.stand(to_raft(&message)),
            _ => self
                .machine
                .act(|consensus| consensus.step(to_raft(&message))),
        }
        Ok(())
    }

    fn check_message(&self, message: &Message) -> Result<(), MessageRefusal> {
        if self.life == Life::Resigned {
            return Err(MessageRefusal::Resigned);
        }
        let is_meant = message.to == self.me
            || (self.settings.is_planted(PlantedFault::AnyDirectory)
                && message.to.broker == self.me.broker);
        if !is_meant {
            return Err(MessageRefusal::NotForThisReplica(message.to));
        }
        if message.from.id() == self.me.id() {
            return Err(MessageRefusal::FromItself);
        }
        let is_busy = match message.body {
            Body::Append { .. } => {
                self.machine.writes().len() >= WRITES_MAX
                    || self.machine.writes().bytes() >= self.settings.unwritten_bytes_max
            }
            Body::VoteRequest { .. }
            | Body::Heartbeat { .. }
            | Body::Snapshot(_)
            | Body::TimeoutNow => self.machine.writes().len() >= WRITES_MAX,
            Body::Appended { .. }
            | Body::Rejected { .. }
            | Body::HeartbeatResponse { .. }
            | Body::VoteResponse { .. } => self.machine.writes().len() >= 2 * WRITES_MAX,
        };
        if is_busy {
            return Err(MessageRefusal::Busy);
        }
        match contradicts(message, self.machine.consensus()) {
            true => Err(MessageRefusal::Contradiction),
            false => Ok(()),
        }
    }

    /// The snapshot that was asked for is here, synced, beside what is in use.
    ///
    /// Panics if none was.
    pub fn handle_snapshot_fetched(&mut self) {
        self.begin();
        if self.life == Life::Running {
            self.machine.fetched(true);
        }
    }

    /// The snapshot that was asked for cannot be had. It is offered again, or another is.
    ///
    /// Panics if none was.
    pub fn handle_snapshot_failed(&mut self) {
        self.begin();
        if self.life == Life::Running {
            self.machine.fetched(false);
        }
    }

    /// Everything up to this write is durable.
    ///
    /// Panics on a write that was never handed out.
    pub fn handle_persisted(&mut self, number: WriteNumber) {
        self.begin();
        if self.life == Life::Running {
            self.machine.persisted(number);
        }
    }

    /// The entries that were asked for, from this one on, or that they cannot be read.
    pub fn handle_entries_read(&mut self, first: EntryIndex, batches: Option<Vec<Bytes>>) {
        self.begin();
        if self.life == Life::Running {
            self.machine.entries_read(first.0, batches);
        }
    }

    /// Nothing that is sent there arrives at present.
    pub fn handle_unreachable(&mut self, peer: ReplicaKey) {
        self.begin();
        if self.life == Life::Running {
            self.machine
                .act(|consensus| consensus.unreachable(peer.id()));
        }
    }

    /// Makes a record batch part of the log, at the place that comes next, whatever offset it was built at. It is committed when
    /// it comes out with this place *and* term.
    pub fn propose(&mut self, batch: &[u8]) -> Result<Proposed, ProposeRefusal> {
        self.begin();
        self.check_leads()?;
        let consensus = self.machine.consensus();
        let log = &consensus.store().log;
        let uncommitted = log.bytes_behind(consensus.committed());
        if uncommitted > self.settings.uncommitted_bytes_max as u64 {
            return Err(ProposeRefusal::Busy);
        }
        if log.len() >= self.settings.entries_max {
            return Err(ProposeRefusal::LogFull);
        }
        let term = Term(consensus.term());
        let stamped = control::try_stamp(batch, term, log.end_offset());
        let entry = stamped.map_err(EntryError::from).and_then(Entry::read);
        let entry = entry.map_err(ProposeRefusal::Malformed)?;
        if entry.kind != EntryKind::Decision {
            return Err(ProposeRefusal::Control);
        }
        Ok(self.append(&entry))
    }

    fn append(&mut self, entry: &Entry) -> Proposed {
        let index = self.machine.consensus().store().log.last_index() + 1;
        self.machine.act(|consensus| consensus.append(entry));
        Proposed {
            index: EntryIndex(index),
            term: entry.term,
            base_offset: entry.base_offset,
            end_offset: entry.end_offset,
        }
    }

    fn check_leads(&self) -> Result<(), ProposeRefusal> {
        let consensus = self.machine.consensus();
        if self.life == Life::Resigned || !consensus.is_leader() {
            return Err(ProposeRefusal::NotLeader(self.machine.leadership().leader));
        }
        if consensus.is_transferring() {
            return Err(ProposeRefusal::Transferring);
        }
        match self.machine.writes().len() < WRITES_MAX {
            true => Ok(()),
            false => Err(ProposeRefusal::Busy),
        }
    }

    /// Gives an observer that has caught up a vote.
    pub fn add_voter(&mut self, key: ReplicaKey) -> Result<Proposed, MembershipRefusal> {
        self.check_leads()?;
        let voters = self.machine.members().voters();
        if voters.contains(key) {
            return Err(MembershipRefusal::IsVoter(key));
        }
        let consensus = self.machine.consensus();
        let last = consensus.store().log.last_index();
        let has_nearly_all = |matched: u64| matched + VOTER_LAG_MAX >= last && matched > 0;
        let follower = consensus.follower(key.id());
        if !follower.is_some_and(|follower| has_nearly_all(follower.matched)) {
            return Err(MembershipRefusal::NotCaughtUp(key));
        }
        let voters = voters.with(key)?;
        self.change_voters(&voters)
    }

    /// Takes a vote away, this replica's own too: then it stops leading once that is committed.
    pub fn remove_voter(&mut self, key: ReplicaKey) -> Result<Proposed, MembershipRefusal> {
        self.check_leads()?;
        let voters = self.machine.members().voters();
        if !voters.contains(key) {
            return Err(MembershipRefusal::NotVoter(key));
        }
        let voters = voters.without(key)?;
        self.change_voters(&voters)
    }

    fn change_voters(&mut self, voters: &VoterSet) -> Result<Proposed, MembershipRefusal> {
        self.begin();
        let consensus = self.machine.consensus();
        if consensus.may_have_pending_voters() {
            return Err(MembershipRefusal::ChangePending);
        }
        let term = Term(consensus.term());
        let batch = control::voters(voters, term, consensus.store().log.end_offset());
        let entry = Entry::parse(batch).expect("made here");
        Ok(self.append(&entry))
    }

    /// Sends the log to these, too, from now on until this replica leads no more. Voters among them are left out.
    pub fn set_observers(&mut self, observers: &[ReplicaKey]) -> Result<(), MembershipRefusal> {
        self.begin();
        if self.life == Life::Resigned || !self.machine.consensus().is_leader() {
            let leader = self.machine.leadership().leader;
            return Err(ProposeRefusal::NotLeader(leader).into());
        }
        self.machine.set_observers(observers)
    }

    /// Hands leadership over to a voter, or to the one that has most. It is given up after a while if that does not work.
    pub fn transfer_leadership(&mut self, to: Option<ReplicaKey>) -> Result<(), TransferRefusal> {
        self.begin();
        let consensus = self.machine.consensus();
        if self.life == Life::Resigned || !consensus.is_leader() {
            return Err(TransferRefusal::NotLeader(self.machine.leadership().leader));
        }
        let to = match to {
            Some(key) if key == self.me || !self.machine.members().voters().contains(key) => {
                return Err(TransferRefusal::NotAnotherVoter(key));
            }
            Some(key) => key.id(),
            None => consensus.best_successor().ok_or(TransferRefusal::Alone)?,
        };
        self.machine.act(|consensus| consensus.transfer(to));
        Ok(())
    }

    /// The disk has failed: this replica promises nothing any more, and leads no more. For the rest of its life.
    pub fn resign(&mut self) {
        self.begin();
        if self.life == Life::Running {
            self.life = Life::Resigned;
            self.machine.resign();
        }
    }

    /// The mark of a snapshot of everything that has come out as committed.
    pub fn snapshot_mark(&self) -> Option<SnapshotMark> {
        self.machine.snapshot_mark()
    }

    /// A snapshot of what a [`Quorum::snapshot_mark`] said is durable. Returns where the log may begin now, if something of
    /// it may go.
    pub fn handle_snapshot_written(&mut self, mark: &SnapshotMark) -> Option<Offset> {
        self.begin();
        self.machine
            .snapshot_written(mark, self.settings.keep_entries)
    }

    /// Whether this replica leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.life == Life::Running && self.machine.consensus().is_leader()
    }

    /// Who takes part, and how far they are.
    pub fn status(&self) -> QuorumStatus {
        let (consensus, members) = (self.machine.consensus(), self.machine.members());
        let log = &consensus.store().log;
        let is_leader = self.leads();
        let status = |key: &ReplicaKey, is_voter| {
            let follower = consensus.follower(key.id()).filter(|_| is_leader);
            ReplicaStatus {
                key: *key,
                is_voter,
                log_end_offset: follower.and_then(|known| log.end_offset_of(known.matched)),
                is_active: follower.is_some_and(|known| known.is_active),
            }
        };
        let voters = members.voters().keys().iter();
        let mut replicas: Vec<ReplicaStatus> = voters.map(|key| status(key, true)).collect();
        let observers = members.observers().iter();
        replicas.extend(observers.map(|key| status(key, false)));
        let applied = self.machine.applied();
        QuorumStatus {
            leadership: self.machine.leadership(),
            is_leader,
            log_end_offset: log.end_offset(),
            high_watermark: log.end_offset_of(applied).expect("an entry of the log"),
            applied: EntryIndex(applied),
            replicas,
        }
    }

    /// Every call finds the outputs of the one before taken.
    fn begin(&self) {
        assert!(!self.machine.has_output(), "outputs were left behind");
    }
}
