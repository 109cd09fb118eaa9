//! What follows from an event, in order.
//!
//! Pure. Everything the library wants is taken from it after each event:
//! - what must become durable goes out as one numbered [`Write`];
//! - a message leaves at once if this replica leads and its term and vote are durable (its followers may write while it
//!   writes), or if nothing is under way to the disk; otherwise it waits inside until what is under way is durable;
//! - an entry is applied when it is committed *and* durable here, and changes of the voters are in force from then on.
//!
//! Invariants: outputs of one event are in the order in which they may be carried out; what came out as committed only grows.

use std::collections::VecDeque;

use bytes::Bytes;
use model::Offset;
use raft::eraftpb::Message as RaftMessage;

use crate::consensus::Consensus;
use crate::convert::{from_raft, snapshot_message};
use crate::effects::{Committed, HardState, Leadership, Output, Write, WriteNumber};
use crate::entry::{Entry, EntryKind};
use crate::fetch::SnapshotFetch;
use crate::key::ReplicaKey;
use crate::members::Members;
use crate::message::{Body, Message, SnapshotMark};
use crate::place::{EntryIndex, Term};
use crate::recovery::RecoveredLog;
use crate::refusal::MembershipRefusal;
use crate::settings::{PlantedFault, Settings};
use crate::store::Store;
use crate::writes::{Asked, Writes};

/// A replica that takes part.
pub(crate) struct Machine {
    me: ReplicaKey,
    planted: Option<PlantedFault>,
    memory_bytes_max: usize,
    consensus: Consensus,
    members: Members,
    writes: Writes,
    fetch: SnapshotFetch,
    /// A leader's wish that this replica stands for election, until its log is durable.
    wish: Option<RaftMessage>,
    outputs: VecDeque<Output>,
    /// The last entry that came out as committed, or that the driver had applied before.
    applied: u64,
    /// The last change of the voters that is in force, or a later entry behind which there was none.
    voters_through: u64,
    /// The state that was handed out last, and the one that is durable.
    written: HardState,
    durable: HardState,
    reported: Leadership,
}

impl Machine {
    /// What is known to be committed comes out before anything else happens.
    pub(crate) fn new(settings: &Settings, recovered: RecoveredLog) -> Machine {
        let me = recovered.me;
        let state = HardState {
            commit: recovered.committed,
            ..recovered.state
        };
        let (log, offer) = (recovered.log, recovered.snapshot);
        let (applied, voters) = (recovered.applied, recovered.voters);
        let store = |initial| Store::new(log, initial, offer);
        let consensus = Consensus::new(me, settings, store, state, applied, &voters);
        let is_alone = voters.keys() == [me];
        let mut machine = Machine {
            me,
            planted: settings.planted,
            memory_bytes_max: settings.memory_bytes_max,
            consensus,
            members: Members::new(me, voters),
            writes: Writes::default(),
            fetch: SnapshotFetch::None,
            wish: None,
            outputs: VecDeque::new(),
            applied,
            voters_through: recovered.committed,
            written: recovered.state,
            durable: recovered.state,
            reported: Leadership::default(),
        };
        machine.pump();
        if is_alone {
            machine.act(Consensus::campaign);
        }
        machine
    }

    pub(crate) fn consensus(&self) -> &Consensus {
        &self.consensus
    }

    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    pub(crate) fn writes(&self) -> &Writes {
        &self.writes
    }

    pub(crate) fn leadership(&self) -> Leadership {
        self.reported
    }

    pub(crate) fn applied(&self) -> u64 {
        self.applied
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// `key` is the sender of what comes next.
    pub(crate) fn meet(&mut self, key: ReplicaKey) {
        self.members.meet(key);
    }

    /// Has the library do something, and puts in order what follows.
    pub(crate) fn act<T>(&mut self, action: impl FnOnce(&mut Consensus) -> T) -> T {
        let result = action(&mut self.consensus);
        self.pump();
        result
    }

    /// A leader says that this replica needs a snapshot.
    pub(crate) fn offered(&mut self, message: &Message, mark: &SnapshotMark) {
        let log = &self.consensus.store().log;
        let is_here = mark.index.0 <= self.consensus.committed()
            || log.term(mark.index.0) == Some(mark.term.0);
        if is_here && self.planted != Some(PlantedFault::StaleSnapshot) {
            // It only has to hear so.
            let (leader, term) = (message.from.id(), message.term.0);
            let offer = snapshot_message(mark, self.me, leader, term);
            self.act(|consensus| consensus.step(offer));
        } else if message.term.0 >= self.consensus.term() && self.fetch.offer(mark) {
            let fetch = Output::FetchSnapshot(message.from, mark.clone());
            self.outputs.push_back(fetch);
        }
    }

    /// A leader wishes that this replica stands for election. The library relies on a candidate's log being durable.
    pub(crate) fn stand(&mut self, wish: RaftMessage) {
        self.wish = Some(wish);
        self.fulfil_wish();
    }

    fn fulfil_wish(&mut self) {
        if self.writes.is_empty()
            && let Some(wish) = self.wish.take()
        {
            // The library ignores it if the term is over.
            self.act(|consensus| consensus.step(wish));
        }
    }

    /// The fetch of a snapshot is over.
    pub(crate) fn fetched(&mut self, is_here: bool) {
        self.fetch.end(is_here);
        self.pump();
    }

    /// Everything up to this write is durable.
    pub(crate) fn persisted(&mut self, number: WriteNumber) {
        while let Some((pending, waiting)) = self.writes.next_durable(number) {
            if let Some(state) = pending.state {
                self.durable = state;
            }
            if let Some(index) = pending.install {
                self.consensus.persisted_snapshot(index);
            }
            if let Some((index, term)) = pending.last {
                self.consensus.persisted_entries(index, term);
            }
            self.outputs.extend(waiting.into_iter().map(Output::Send));
        }
        self.pump();
        self.fulfil_wish();
    }

    /// Entries that were asked for are here, or cannot be read.
    pub(crate) fn entries_read(&mut self, first: u64, batches: Option<Vec<Bytes>>) {
        let is_here = self.consensus.store_mut().finish_read(first, batches);
        if is_here && self.consensus.is_leader() {
            self.act(|consensus| consensus.resume_from(first));
        }
        self.consensus.store_mut().drop_done();
    }

    pub(crate) fn set_observers(&mut self, keys: &[ReplicaKey]) -> Result<(), MembershipRefusal> {
        self.members.set_observers(keys)?;
        self.set_members();
        self.pump();
        Ok(())
    }

    fn set_members(&mut self) {
        let (voters, observers) = (self.members.voters(), self.members.observers());
        self.consensus.set_members(voters, observers);
    }

    /// Leads no more, if there is another voter that may.
    pub(crate) fn step_down_for_another(&mut self) {
        if self.consensus.best_successor().is_some() {
            self.act(Consensus::step_down);
        }
    }

    /// Leads no more, and says nothing more but that another may.
    pub(crate) fn resign(&mut self) {
        self.writes.abandon();
        if self.consensus.is_leader() {
            self.consensus.step_down();
            for message in self.consensus.take_messages() {
                let message = self.translate(message);
                let farewell = message.filter(|message| message.body == Body::TimeoutNow);
                self.outputs.extend(farewell.map(Output::Send));
            }
        }
        self.report_leadership();
    }

    /// The mark of a snapshot of everything that has come out as committed.
    pub(crate) fn snapshot_mark(&self) -> Option<SnapshotMark> {
        // Before the first entry there is nothing; and what is being installed is not durable yet.
        if self.applied == 0 || self.applied > self.consensus.applicable() {
            return None;
        }
        let (index, term, end_offset) = self.consensus.store().log.position(self.applied);
        Some(SnapshotMark {
            index,
            term,
            end_offset,
            voters: self.members.voters().clone(),
        })
    }

    /// A snapshot is durable. Where the log may begin now, if some of it may go; `keep` entries before the snapshot's end stay.
    pub(crate) fn snapshot_written(&mut self, mark: &SnapshotMark, keep: u64) -> Option<Offset> {
        assert!(mark.index.0 <= self.applied, "a snapshot of the future");
        let store = self.consensus.store_mut();
        if store.offer().is_some_and(|offer| offer.index >= mark.index) {
            return None;
        }
        store.set_offer(mark.clone());
        let through = mark.index.0.checked_sub(keep)?;
        if through <= store.log.before().index {
            return None;
        }
        store.log.compact(through);
        Some(store.log.before().end_offset)
    }

    /// Takes everything that the library wants, and puts it in order.
    fn pump(&mut self) {
        loop {
            self.report_leadership();
            self.write_entries_and_state();
            self.send();
            let voters_changed = self.apply();
            // Last: what the library has accepted before is in the log by now.
            let was_offered = self.offer_fetched();
            if !voters_changed && !was_offered {
                break;
            }
        }
        while let Some(read) = self.consensus.store_mut().next_read() {
            self.outputs.push_back(Output::ReadEntries(read));
        }
        let durable = self.applied.min(self.consensus.persisted());
        let memory_bytes_max = self.memory_bytes_max;
        let log = &mut self.consensus.store_mut().log;
        log.evict(durable, memory_bytes_max);
    }

    fn report_leadership(&mut self) {
        let leader = self.members.follow(self.consensus.leader());
        let leadership = Leadership {
            term: Term(self.consensus.term()),
            leader,
        };
        if leadership == self.reported {
            return;
        }
        let led = self.reported.leader == Some(self.me);
        self.reported = leadership;
        self.outputs.push_back(Output::Leadership(leadership));
        if led && !self.members.observers().is_empty() {
            self.members.forget_observers();
            self.set_members();
        }
    }

    /// Hands out what the library has added to the log, and what it promises now.
    fn write_entries_and_state(&mut self) {
        let mut write = Write::default();
        let mut asked = Asked::default();
        if let Some(added) = self.consensus.take_entries(self.members.voters()) {
            if added.truncated_to.is_some() {
                let kept = added.first - 1;
                let term = self.consensus.store().log.term(kept);
                let kept = (kept, term.expect("the last that was not cut"));
                if self.planted != Some(PlantedFault::WritesNotClipped) {
                    self.writes.clip(Some(kept));
                }
            }
            asked.first = added.first;
            asked.last = Some(added.last);
            asked.bytes = added.batches.iter().map(Bytes::len).sum();
            write.append = added.batches;
            write.truncate_to = added.truncated_to;
            if self.planted == Some(PlantedFault::NoTruncation) {
                write.truncate_to = None;
            }
        }
        self.hand_out(write, asked);
    }

    /// Hands out a write, if there is anything to it, with the state if that has changed.
    fn hand_out(&mut self, mut write: Write, mut asked: Asked) {
        let is_empty = write == Write::default();
        let next = HardState {
            term: self.consensus.term(),
            vote: self.consensus.vote(),
            // Only what is durable: the state is written before what it comes with. At a restart a smaller one does no harm.
            commit: self.written.commit.max(self.consensus.applicable()),
        };
        let promises_more = (next.term, next.vote) != (self.written.term, self.written.vote);
        // That a change of the voters is committed must not be forgotten: a majority of those before may be gone some day.
        let proves_voters =
            self.written.commit < self.voters_through && self.voters_through <= next.commit;
        if promises_more || proves_voters || (!is_empty && next != self.written) {
            assert!(next.term >= self.written.term, "a term went back");
            self.written = next;
            write.state = Some(next);
            asked.state = Some(next);
            if self.planted == Some(PlantedFault::VoteNotWritten) {
                write.state = None;
            }
        }
        if is_empty && asked.state.is_none() {
            return;
        }
        let last = asked.last;
        write.number = self.writes.add(asked);
        self.outputs.push_back(Output::Write(write));
        if self.planted == Some(PlantedFault::CommitsWithoutOwnDisk)
            && let Some((index, term)) = last
        {
            self.consensus.persisted_entries(index, term);
        }
    }

    /// Sends what the library wants to send, or has it wait.
    fn send(&mut self) {
        let is_promised = (self.durable.term, self.durable.vote)
            == (self.consensus.term(), self.consensus.vote())
            || self.planted == Some(PlantedFault::SingleVoterHurries);
        let at_once = (self.consensus.is_leader() && is_promised)
            || self.planted == Some(PlantedFault::SendsBeforePersisted);
        for message in self.consensus.take_messages() {
            // Whoever is not known any more has just left.
            let Some(message) = self.translate(message) else {
                continue;
            };
            // That another may lead promises nothing.
            let message = match at_once || message.body == Body::TimeoutNow {
                true => Some(message),
                false => self.writes.hold(message),
            };
            self.outputs.extend(message.map(Output::Send));
        }
    }

    fn translate(&self, message: RaftMessage) -> Option<Message> {
        let to = self.members.key(message.to)?;
        let store = self.consensus.store();
        Some(from_raft(message, self.me, to, store))
    }

    /// Puts out what is committed and durable. Whether that has changed the voters.
    fn apply(&mut self) -> bool {
        let mut voters_changed = false;
        let through = match self.planted {
            Some(PlantedFault::AppliesBeforePersisted) => self.consensus.committed(),
            _ => self.consensus.applicable(),
        };
        while self.applied < through {
            let index = self.applied + 1;
            let batch = self.consensus.store().log.batch(index);
            let batch = batch.expect("what is not applied stays in memory");
            let entry = Entry::parse(batch.clone()).expect("an entry of the log");
            self.applied = index;
            if let EntryKind::Voters(voters) = &entry.kind
                && index > self.voters_through
            {
                self.members.set_voters(voters.clone());
                self.set_members();
                self.voters_through = index;
                voters_changed = true;
            }
            self.outputs.push_back(Output::Committed(Committed {
                index: EntryIndex(index),
                term: entry.term,
                kind: entry.kind,
                end_offset: entry.end_offset,
                batch: entry.batch,
            }));
        }
        // A snapshot that is being installed is applied for the library once it is durable.
        if self.applied <= self.consensus.applicable() {
            self.consensus.applied(self.applied);
        }
        if voters_changed && self.consensus.is_leader() && !self.members.voters().contains(self.me)
        {
            // The others hear that it is committed, and one of them takes over.
            self.consensus.broadcast();
            self.consensus.step_down();
        }
        voters_changed
    }

    /// Gives the library a snapshot that was fetched, once there is a leader to tell.
    fn offer_fetched(&mut self) -> bool {
        let (Some(leader), true) = (self.consensus.leader(), self.consensus.is_follower()) else {
            return false;
        };
        let Some(mark) = self.fetch.take() else {
            return false;
        };
        if self.planted == Some(PlantedFault::StaleSnapshot) && mark.index.0 <= self.applied {
            let write = Write {
                install: Some(mark),
                ..Write::default()
            };
            self.hand_out(write, Asked::default());
            return true;
        }
        let term = self.consensus.term();
        let message = snapshot_message(&mark, self.me, leader, term);
        self.consensus.step(message);
        if !self.consensus.take_snapshot(&mark) {
            self.outputs.push_back(Output::DiscardSnapshot(mark));
            return true;
        }
        self.writes.clip(None);
        self.members.set_voters(mark.voters.clone());
        self.applied = mark.index.0;
        self.voters_through = mark.index.0;
        let asked = Asked {
            install: Some(mark.index.0),
            ..Asked::default()
        };
        let write = Write {
            install: Some(mark),
            ..Write::default()
        };
        self.hand_out(write, asked);
        true
    }
}
