//! What replicas of the metadata log tell each other.
//!
//! Pure. Plain values; `codec.rs` gives them bytes.

use model::Offset;

use crate::entry::Entry;
use crate::key::{ReplicaKey, VoterSet};
use crate::place::{EntryId, EntryIndex, Term};

/// What a snapshot stands for: everything up to and with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMark {
    /// The last entry that is in it.
    pub index: EntryIndex,
    /// Its term.
    pub term: Term,
    /// Where it ends in the metadata log.
    pub end_offset: Offset,
    /// The voters after it.
    pub voters: VoterSet,
}

/// A message from one replica to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sends it.
    pub from: ReplicaKey,
    /// For whom it is. Another directory of the same broker is not meant.
    pub to: ReplicaKey,
    /// The sender's term; the one it asks to lead, or grants, in what concerns votes.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The leader's entries behind `previous`.
    Append {
        /// The entry before them.
        previous: EntryId,
        /// Up to here the leader knows the log to be committed.
        commit: EntryIndex,
        /// They follow each other, and `previous`.
        entries: Vec<Entry>,
    },
    /// The follower's log agrees with the leader's up to `index`, durably.
    Appended {
        /// Up to here.
        index: EntryIndex,
        /// Up to here the follower knows it to be committed.
        commit: EntryIndex,
    },
    /// The follower does not have the entry `previous`.
    Rejected {
        /// The place of that entry.
        index: EntryIndex,
        /// Where the logs may agree.
        hint: EntryId,
        /// Up to here the follower knows it to be committed.
        commit: EntryIndex,
    },
    /// The leader is there.
    Heartbeat {
        /// Up to here the log is committed, as far as the follower is known to have it.
        commit: EntryIndex,
    },
    /// So is the follower.
    HeartbeatResponse {
        /// Up to here the follower knows the log to be committed.
        commit: EntryIndex,
    },
    /// A candidate asks for a vote.
    VoteRequest {
        /// It only asks whether it would get it (KIP-996).
        pre: bool,
        /// The leader asked it to take over: the leader's lease does not count.
        transfer: bool,
        /// The end of its log.
        last: EntryId,
        /// The last entry that it knows to be committed.
        commit: EntryId,
    },
    /// The answer to it.
    VoteResponse {
        /// To the question whether.
        pre: bool,
        /// Yes.
        granted: bool,
        /// The last entry that the answering replica knows to be committed, if it refuses.
        commit: EntryId,
    },
    /// What the follower needs is not in the leader's log any more: it must fetch this snapshot.
    Snapshot(SnapshotMark),
    /// The leader wants the follower to stand for election now.
    TimeoutNow,
}
