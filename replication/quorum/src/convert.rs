//! Messages as the library has them, and as we have them.
//!
//! Pure. The library names replicas by number and has one struct for all messages; whatever of it a kind does not use is
//! left at its default, and is not told to peers.

use bytes::Bytes;
use raft::CAMPAIGN_TRANSFER;
use raft::eraftpb::{Entry as RaftEntry, Message as RaftMessage, MessageType};

use crate::entry::{Entry, EntryKind};
use crate::key::ReplicaKey;
use crate::message::{Body, Message, SnapshotMark};
use crate::place::{EntryId, EntryIndex, Term};
use crate::store::{Store, raft_entry, to_raft_snapshot};

fn id(index: u64, term: u64) -> EntryId {
    EntryId {
        index: EntryIndex(index),
        term: Term(term),
    }
}

/// An entry as the library takes it.
pub(crate) fn to_raft_entry(index: u64, term: Term, kind: &EntryKind, batch: Bytes) -> RaftEntry {
    raft_entry(index, term.0, matches!(kind, EntryKind::Voters(_)), batch)
}

/// A peer's message as the library takes it; a snapshot only once it is here, see [`snapshot_message`].
pub(crate) fn to_raft(message: &Message) -> RaftMessage {
    let mut raft = RaftMessage {
        from: message.from.id(),
        to: message.to.id(),
        term: message.term.0,
        ..RaftMessage::default()
    };
    match &message.body {
        Body::Append {
            previous,
            commit,
            entries,
        } => {
            raft.set_msg_type(MessageType::MsgAppend);
            raft.index = previous.index.0;
            raft.log_term = previous.term.0;
            raft.commit = commit.0;
            let entries: Vec<RaftEntry> = (previous.index.0 + 1..)
                .zip(entries)
                .map(|(index, entry)| {
                    to_raft_entry(index, entry.term, &entry.kind, entry.batch.clone())
                })
                .collect();
            raft.set_entries(entries.into());
        }
        Body::Appended { index, commit } => {
            raft.set_msg_type(MessageType::MsgAppendResponse);
            raft.index = index.0;
            raft.commit = commit.0;
        }
        Body::Rejected {
            index,
            hint,
            commit,
        } => {
            raft.set_msg_type(MessageType::MsgAppendResponse);
            raft.reject = true;
            raft.index = index.0;
            raft.reject_hint = hint.index.0;
            raft.log_term = hint.term.0;
            raft.commit = commit.0;
        }
        Body::Heartbeat { commit } => {
            raft.set_msg_type(MessageType::MsgHeartbeat);
            raft.commit = commit.0;
        }
        Body::HeartbeatResponse { commit } => {
            raft.set_msg_type(MessageType::MsgHeartbeatResponse);
            raft.commit = commit.0;
        }
        Body::VoteRequest { .. } | Body::VoteResponse { .. } => vote_to_raft(message, &mut raft),
        Body::Snapshot(_) => unreachable!("the library gets a snapshot once its bytes are here"),
        Body::TimeoutNow => raft.set_msg_type(MessageType::MsgTimeoutNow),
    }
    raft
}

fn vote_to_raft(message: &Message, raft: &mut RaftMessage) {
    match &message.body {
        Body::VoteRequest {
            pre,
            transfer,
            last,
            commit,
        } => {
            raft.set_msg_type(match pre {
                true => MessageType::MsgRequestPreVote,
                false => MessageType::MsgRequestVote,
            });
            raft.index = last.index.0;
            raft.log_term = last.term.0;
            raft.commit = commit.index.0;
            raft.commit_term = commit.term.0;
            if *transfer {
                raft.context = Bytes::from_static(CAMPAIGN_TRANSFER);
            }
        }
        Body::VoteResponse {
            pre,
            granted,
            commit,
        } => {
            raft.set_msg_type(match pre {
                true => MessageType::MsgRequestPreVoteResponse,
                false => MessageType::MsgRequestVoteResponse,
            });
            raft.reject = !granted;
            raft.commit = commit.index.0;
            raft.commit_term = commit.term.0;
        }
        _ => unreachable!("only called for votes"),
    }
}

/// A fetched snapshot, as if `leader` had just sent it: what it stands for is committed, whoever leads now.
pub(crate) fn snapshot_message(
    mark: &SnapshotMark,
    me: ReplicaKey,
    leader: u64,
    term: u64,
) -> RaftMessage {
    let mut raft = RaftMessage {
        from: leader,
        to: me.id(),
        term,
        ..RaftMessage::default()
    };
    raft.set_msg_type(MessageType::MsgSnapshot);
    // The library insists on knowing itself. A replica without a vote may be in nobody's set: as a learner it changes
    // nothing for the others.
    let learners: &[u64] = match mark.voters.contains(me) {
        true => &[],
        false => &[me.id()],
    };
    raft.set_snapshot(to_raft_snapshot(mark, learners));
    raft
}

/// A message of the library's, for a peer.
pub(crate) fn from_raft(
    raft: RaftMessage,
    me: ReplicaKey,
    to: ReplicaKey,
    store: &Store,
) -> Message {
    let body = match raft.get_msg_type() {
        MessageType::MsgAppend => {
            let entries = raft.get_entries().iter();
            Body::Append {
                previous: id(raft.index, raft.log_term),
                commit: EntryIndex(raft.commit),
                entries: entries.map(|entry| from_raft_entry(entry, store)).collect(),
            }
        }
        MessageType::MsgAppendResponse if raft.reject => Body::Rejected {
            index: EntryIndex(raft.index),
            hint: id(raft.reject_hint, raft.log_term),
            commit: EntryIndex(raft.commit),
        },
        MessageType::MsgAppendResponse => Body::Appended {
            index: EntryIndex(raft.index),
            commit: EntryIndex(raft.commit),
        },
        MessageType::MsgHeartbeat => Body::Heartbeat {
            commit: EntryIndex(raft.commit),
        },
        MessageType::MsgHeartbeatResponse => Body::HeartbeatResponse {
            commit: EntryIndex(raft.commit),
        },
        kind @ (MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => {
            Body::VoteRequest {
                pre: kind == MessageType::MsgRequestPreVote,
                transfer: raft.context == CAMPAIGN_TRANSFER,
                last: id(raft.index, raft.log_term),
                commit: id(raft.commit, raft.commit_term),
            }
        }
        kind @ (MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) => {
            Body::VoteResponse {
                pre: kind == MessageType::MsgRequestPreVoteResponse,
                granted: !raft.reject,
                commit: id(raft.commit, raft.commit_term),
            }
        }
        MessageType::MsgSnapshot => {
            let offer = store.offer().expect("the library got it from the store");
            let sent = raft.get_snapshot().get_metadata();
            assert_eq!((offer.index.0, offer.term.0), (sent.index, sent.term));
            Body::Snapshot(offer.clone())
        }
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        other => unreachable!("{other:?} is never asked of the library"),
    };
    Message {
        from: me,
        to,
        term: Term(raft.term),
        body,
    }
}

fn from_raft_entry(entry: &RaftEntry, store: &Store) -> Entry {
    // The library's own entry, which begins a term, got its bytes when it was added to the log.
    let batch = match entry.data.is_empty() {
        true => store.log.batch(entry.index).expect("just added").clone(),
        false => entry.data.clone(),
    };
    let read = Entry::parse(batch).expect("an entry of the log");
    assert_eq!(read.term.0, entry.term, "the batch of another entry");
    read
}
