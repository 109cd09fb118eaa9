//! The library's state machine, and what we ask of it.
//!
//! Pure. The only file that calls the library. It does without the library's own `Ready`: what is to be written, what may be
//! sent and what is committed is taken from the machine here, so that the rules for it are ours (`quorum.rs`).
//! Invariants: entries are handed to the log as soon as the library has them, so that the library never holds any of its own
//! between two calls; this replica is known to the library as
//! soon as any voter is, without a vote if it has none.

use bytes::Bytes;
use model::Offset;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry as RaftEntry, HardState as RaftHardState,
    Message as RaftMessage, MessageType,
};
use raft::{Config, INVALID_ID, NO_LIMIT, ProgressState, Raft, RaftState, StateRole};

use crate::control;
use crate::convert::to_raft_entry;
use crate::effects::HardState;
use crate::entry::{Entry, EntryKind};
use crate::entry_log::Before;
use crate::key::{ReplicaKey, VoterSet, mix};
use crate::message::SnapshotMark;
use crate::place::Term;
use crate::settings::Settings;
use crate::store::{Store, conf_state};

/// Ticks after which a follower that was told of a snapshot is told again.
const SNAPSHOT_RETRY_ELECTIONS: usize = 2;

/// The library's machine.
pub(crate) struct Consensus {
    me: ReplicaKey,
    raft: Raft<Store>,
    seed: u64,
    jitter_ticks: usize,
    /// How often this replica stood for election: each time it waits differently.
    campaigns: u64,
    ticks: usize,
}

/// What a follower is known to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Follower {
    pub(crate) matched: u64,
    pub(crate) is_active: bool,
}

/// New entries of the library's: from where on they replace the log, and where they stand now.
pub(crate) struct Added {
    /// Where the log was cut for them, if it was.
    pub(crate) truncated_to: Option<Offset>,
    pub(crate) first: u64,
    /// The last of them, by place and term.
    pub(crate) last: (u64, u64),
    pub(crate) batches: Vec<Bytes>,
}

impl Consensus {
    /// As it was when it was last durable: `applied` entries are applied, and `voters` were in force then.
    pub(crate) fn new(
        me: ReplicaKey,
        settings: &Settings,
        store: impl FnOnce(RaftState) -> Store,
        state: HardState,
        applied: u64,
        voters: &VoterSet,
    ) -> Consensus {
        let ids = voters.keys().iter().map(|voter| voter.id()).collect();
        // Before the first entry nobody is known, and the library takes no learner without a voter.
        let is_learner = !voters.keys().is_empty() && !voters.contains(me);
        let learners = is_learner.then(|| me.id()).into_iter().collect();
        let hard_state = RaftHardState {
            term: state.term,
            vote: state.vote,
            commit: state.commit,
            ..RaftHardState::default()
        };
        let initial = RaftState::new(hard_state, conf_state(ids, learners));
        let config = Config {
            id: me.id(),
            election_tick: settings.election_ticks,
            heartbeat_tick: settings.heartbeat_ticks,
            applied,
            max_size_per_msg: settings.message_bytes_max as u64,
            max_inflight_msgs: settings.messages_in_flight_max,
            check_quorum: true,
            pre_vote: true,
            min_election_tick: settings.election_ticks,
            // Exclusive. What the library draws by chance from this range is overwritten before every use, see `tick`.
            max_election_tick: settings.election_ticks + settings.jitter_ticks + 1,
            max_uncommitted_size: NO_LIMIT,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = Raft::new(&config, store(initial), &logger);
        Consensus {
            me,
            raft: raft.expect("settings were checked, and the store never fails"),
            seed: settings.seed,
            jitter_ticks: settings.jitter_ticks,
            campaigns: 0,
            ticks: 0,
        }
    }

    pub(crate) fn store(&self) -> &Store {
        self.raft.store()
    }

    pub(crate) fn store_mut(&mut self) -> &mut Store {
        self.raft.mut_store()
    }

    pub(crate) fn term(&self) -> u64 {
        self.raft.term
    }

    pub(crate) fn vote(&self) -> u64 {
        self.raft.vote
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raft.state == StateRole::Leader
    }

    pub(crate) fn is_follower(&self) -> bool {
        self.raft.state == StateRole::Follower
    }

    /// The number of the leader, if it is known.
    pub(crate) fn leader(&self) -> Option<u64> {
        (self.raft.leader_id != INVALID_ID).then_some(self.raft.leader_id)
    }

    pub(crate) fn committed(&self) -> u64 {
        self.raft.raft_log.committed
    }

    pub(crate) fn persisted(&self) -> u64 {
        self.raft.raft_log.persisted
    }

    /// Entries up to here may be applied: committed, and durable here.
    pub(crate) fn applicable(&self) -> u64 {
        self.committed().min(self.persisted())
    }

    /// Whether leadership is being handed over.
    pub(crate) fn is_transferring(&self) -> bool {
        self.raft.lead_transferee.is_some()
    }

    /// Whether a change of the voters may be under way.
    pub(crate) fn may_have_pending_voters(&self) -> bool {
        self.raft.has_pending_conf() || !self.raft.commit_to_current_term()
    }

    /// What is known of a replica. Only a leader knows anything.
    pub(crate) fn follower(&self, id: u64) -> Option<Follower> {
        let progress = self.raft.prs().get(id)?;
        Some(Follower {
            matched: progress.matched,
            is_active: progress.recent_active,
        })
    }

    /// Takes a message of a peer.
    pub(crate) fn step(&mut self, message: RaftMessage) {
        let kind = message.get_msg_type();
        let is_response = matches!(
            kind,
            MessageType::MsgAppendResponse
                | MessageType::MsgHeartbeatResponse
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgRequestPreVoteResponse
        );
        if is_response && self.raft.prs().get(message.from).is_none() {
            return;
        }
        let stepped = self.raft.step(message);
        stepped.expect("only proposals are refused");
    }

    /// One tick. A voter stands for election after `election_ticks` and a part of `jitter_ticks` that differs between
    /// replicas, terms and attempts.
    ///
    /// The library's own draw is replaced, so that a seed gives one course. Holding back ticks instead would hold the
    /// leader's lease too, in which votes are refused to others.
    pub(crate) fn tick(&mut self) {
        let drawn = mix(mix(self.seed ^ self.me.id()) ^ mix(self.raft.term) ^ self.campaigns);
        let jitter = drawn % (self.jitter_ticks as u64 + 1);
        let timeout = self.raft.election_timeout() + usize::try_from(jitter).expect("a few ticks");
        self.raft.set_randomized_election_timeout(timeout);
        let before = self.raft.state;
        self.raft.tick();
        if before != StateRole::Leader && self.raft.election_elapsed == 0 {
            self.campaigns += 1;
        }
        self.ticks += 1;
        if self.is_leader()
            && self
                .ticks
                .is_multiple_of(SNAPSHOT_RETRY_ELECTIONS * self.raft.election_timeout())
        {
            self.retry_snapshots();
        }
    }

    /// Followers that were told of a snapshot and are not seen to have it are told again.
    fn retry_snapshots(&mut self) {
        let waits = |(id, progress): (&u64, &raft::Progress)| {
            (progress.state == ProgressState::Snapshot).then_some(*id)
        };
        let mut waiting: Vec<u64> = self.raft.prs().iter().filter_map(waits).collect();
        waiting.sort_unstable();
        for id in waiting {
            let mut failed = RaftMessage::default();
            failed.set_msg_type(MessageType::MsgSnapStatus);
            failed.from = id;
            failed.reject = true;
            self.step(failed);
        }
    }

    /// Stands for election now.
    pub(crate) fn campaign(&mut self) {
        let mut hup = RaftMessage::default();
        hup.set_msg_type(MessageType::MsgHup);
        self.step(hup);
    }

    /// A follower is not reachable: nothing is sent to it on good faith.
    pub(crate) fn unreachable(&mut self, id: u64) {
        let mut unreachable = RaftMessage::default();
        unreachable.set_msg_type(MessageType::MsgUnreachable);
        unreachable.from = id;
        self.step(unreachable);
    }

    /// Hands leadership over to a voter, once it has everything.
    pub(crate) fn transfer(&mut self, to: u64) {
        let mut transfer = RaftMessage::default();
        transfer.set_msg_type(MessageType::MsgTransferLeader);
        transfer.from = to;
        self.step(transfer);
    }

    /// Leads no more, in the same term. The voter that has most is asked to stand.
    pub(crate) fn step_down(&mut self) {
        assert!(self.is_leader());
        if let Some(successor) = self.best_successor() {
            self.raft.send_timeout_now(successor);
        }
        self.raft.become_follower(self.raft.term, INVALID_ID);
    }

    /// The voter that has most, of those that were heard of lately if there are such.
    pub(crate) fn best_successor(&self) -> Option<u64> {
        let voters = self.raft.prs().conf().to_conf_state();
        let others = voters.get_voters().iter().copied();
        others
            .filter(|id| *id != self.me.id())
            .filter_map(|id| Some((id, self.follower(id)?)))
            .max_by_key(|(id, follower)| (follower.is_active, follower.matched, *id))
            .map(|(id, _)| id)
    }

    /// Appends an entry of this leader's and sends it on. Returns its place.
    ///
    /// Not by a proposal of the library's: that would decode what changes the voters.
    pub(crate) fn append(&mut self, entry: &Entry) -> u64 {
        assert!(self.is_leader() && self.raft.raft_log.unstable_entries().is_empty());
        let index = self.raft.raft_log.last_index() + 1;
        let raft_entry = to_raft_entry(index, entry.term, &entry.kind, entry.batch.clone());
        let appended = self.raft.append_entry(&mut [raft_entry]);
        assert!(appended, "the library has no limit of its own");
        if matches!(entry.kind, EntryKind::Voters(_)) {
            self.raft.pending_conf_index = index;
        }
        self.raft.bcast_append();
        index
    }

    /// Tells all followers how far the log is committed.
    pub(crate) fn broadcast(&mut self) {
        self.raft.bcast_append();
    }

    /// Sends on to the followers whose next entry this is.
    pub(crate) fn resume_from(&mut self, index: u64) {
        let waits = |(id, progress): (&u64, &raft::Progress)| {
            (progress.next_idx == index && *id != self.me.id()).then_some(*id)
        };
        let mut waiting: Vec<u64> = self.raft.prs().iter().filter_map(waits).collect();
        waiting.sort_unstable();
        for id in waiting {
            self.raft.send_append(id);
        }
    }

    /// Makes these the voters and learners, and this replica one of the two.
    pub(crate) fn set_members(&mut self, voters: &VoterSet, observers: &[ReplicaKey]) {
        let wanted: Vec<u64> = voters.keys().iter().map(|voter| voter.id()).collect();
        let mut learners: Vec<u64> = observers.iter().map(|observer| observer.id()).collect();
        learners.push(self.me.id());
        learners.retain(|id| !wanted.contains(id));
        let present = self.raft.prs().conf().to_conf_state();
        let is_voter = |id: &u64| present.get_voters().contains(id);
        let is_learner = |id: &u64| present.get_learners().contains(id);
        let mut changes = Vec::new();
        // Whoever comes first, then whoever goes: there is a voter at any time.
        let added = wanted.iter().filter(|id| !is_voter(id));
        changes.extend(added.map(|id| (*id, ConfChangeType::AddNode)));
        let watching = learners.iter().filter(|id| !is_learner(id));
        changes.extend(watching.map(|id| (*id, ConfChangeType::AddLearnerNode)));
        let members = present.get_voters().iter().chain(present.get_learners());
        let mut removed: Vec<u64> = members
            .copied()
            .filter(|id| !wanted.contains(id) && !learners.contains(id))
            .collect();
        removed.sort_unstable();
        changes.extend(removed.iter().map(|id| (*id, ConfChangeType::RemoveNode)));
        for (id, kind) in changes {
            let mut single = ConfChangeSingle {
                node_id: id,
                ..ConfChangeSingle::default()
            };
            single.set_change_type(kind);
            let mut change = ConfChangeV2::default();
            change.set_changes(vec![single].into());
            let changed = self.raft.apply_conf_change(&change);
            changed.expect("one change at a time, of a member or a stranger");
        }
    }

    /// Everything up to `index` is applied.
    pub(crate) fn applied(&mut self, index: u64) {
        self.raft.commit_apply(index);
    }

    /// Takes the messages that the library wants to send.
    pub(crate) fn take_messages(&mut self) -> Vec<RaftMessage> {
        std::mem::take(&mut self.raft.msgs)
    }

    /// If the library wants the snapshot that it was given, the log begins anew behind it.
    pub(crate) fn take_snapshot(&mut self, mark: &SnapshotMark) -> bool {
        let Some(snapshot) = self.raft.raft_log.unstable_snapshot() else {
            return false;
        };
        let index = snapshot.get_metadata().index;
        assert_eq!(index, mark.index.0, "another snapshot than was given");
        let store = self.raft.mut_store();
        store.log.reset(Before::from(mark));
        store.set_offer(mark.clone());
        self.raft.raft_log.stable_snap(index);
        true
    }

    /// Moves the library's new entries to the log.
    pub(crate) fn take_entries(&mut self, voters: &VoterSet) -> Option<Added> {
        let entries: Vec<RaftEntry> = self.raft.raft_log.unstable_entries().to_vec();
        let (first, last) = (entries.first()?.index, entries.last()?);
        let last = (last.index, last.term);
        let me = self.me;
        let log = &mut self.raft.mut_store().log;
        assert!(first <= log.last_index() + 1, "a gap in the log");
        let truncated_to = (first <= log.last_index()).then(|| log.truncate(first));
        let mut batches = Vec::with_capacity(entries.len());
        for entry in entries {
            let batch = match entry.data.is_empty() {
                true => control::leader_change(me, voters, Term(entry.term), log.end_offset()),
                false => entry.data,
            };
            let added = Entry::parse(batch).expect("checked when it came or was made");
            assert_eq!(added.term.0, entry.term, "the batch of another term");
            log.append(&added);
            batches.push(added.batch);
        }
        assert_eq!(log.last_index(), last.0, "every entry found its place");
        self.raft.raft_log.stable_entries(last.0, last.1);
        Some(Added {
            truncated_to,
            first,
            last,
            batches,
        })
    }

    /// The snapshot up to `index` is durable.
    pub(crate) fn persisted_snapshot(&mut self, index: u64) {
        self.raft.on_persist_snap(index);
    }

    /// Entries up to `index` are durable, if that entry is still the one of `term`.
    pub(crate) fn persisted_entries(&mut self, index: u64, term: u64) {
        self.raft.on_persist_entries(index, term);
    }
}
