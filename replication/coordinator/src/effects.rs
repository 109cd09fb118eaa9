//! What a coordinator wants done, and what happens when an append is durable.
//!
//! Invariant: a reply that depends on records is queued only when those records have been replayed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use model::PartitionIndex;

use crate::error::GroupError;
use crate::reply::GroupReply;

/// The driver's name for a request that awaits its reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestToken(pub u64);

/// The coordinator's name for records that await durability. Ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppendId(pub u64);

/// A record of `__consumer_offsets`; without a value it deletes the key.
pub type KeyValue = (Bytes, Option<Bytes>);

/// What the driver has to do. Outputs come in order; appends must reach the log in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append the records as one batch, then call [`crate::GroupCoordinator::persisted`] when the high watermark has
    /// passed them (or they failed).
    Persist {
        /// To be given back.
        append: AppendId,
        /// At least one.
        records: Vec<KeyValue>,
    },
    /// Answer a request.
    Reply {
        /// Which.
        request: RequestToken,
        /// With what.
        reply: GroupReply,
    },
}

/// What to do when an append is durable, or failed.
#[derive(Clone, Debug)]
pub(crate) enum Completion {
    /// Nobody waits.
    Nothing,
    /// The leader's assignment of a generation: the group becomes stable.
    Assignment { generation: i32 },
    /// A static member took its place again without a rebalance.
    StaticMember {
        request: RequestToken,
        reply: GroupReply,
        old_member_id: Arc<str>,
        new_member_id: Arc<str>,
    },
    /// Offsets of deleted topics of the append's only group are gone from the log, too.
    OffsetsGone {
        places: Vec<(Arc<str>, PartitionIndex)>,
    },
    /// A request whose good answer is known.
    Reply {
        request: RequestToken,
        reply: GroupReply,
    },
}

/// An append in flight.
#[derive(Clone, Debug)]
pub(crate) struct PendingAppend {
    /// The groups it is about.
    pub(crate) groups: Vec<Arc<str>>,
    /// Offsets it sets, of its only group.
    pub(crate) offsets: Vec<(Arc<str>, PartitionIndex)>,
    pub(crate) records: Vec<KeyValue>,
    pub(crate) completion: Completion,
}

/// Outputs and appends in flight.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) appends: BTreeMap<AppendId, PendingAppend>,
    last_append: u64,
}

impl Effects {
    pub(crate) fn reply(&mut self, request: RequestToken, reply: GroupReply) {
        self.outputs.push_back(Output::Reply { request, reply });
    }

    /// The newest append so far.
    pub(crate) fn last_append(&self) -> AppendId {
        AppendId(self.last_append)
    }

    pub(crate) fn persist(&mut self, append: PendingAppend) {
        self.last_append += 1;
        let id = AppendId(self.last_append);
        self.outputs.push_back(Output::Persist {
            append: id,
            records: append.records.clone(),
        });
        self.appends.insert(id, append);
    }
}

/// Why records did not get into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// The partition is gone, lacks in-sync replicas, or has not acknowledged in time.
    Unavailable,
    /// Another broker leads the partition, or this one's storage takes nothing more.
    NotLeader,
    /// The records themselves: too large for a batch, or not readable.
    Rejected,
}

impl AppendFailure {
    /// What a client is told (Kafka's mapping).
    pub(crate) fn code(self) -> GroupError {
        match self {
            AppendFailure::Unavailable => GroupError::CoordinatorNotAvailable,
            AppendFailure::NotLeader => GroupError::NotCoordinator,
            AppendFailure::Rejected => GroupError::UnknownServerError,
        }
    }
}

/// Puts a failed append's error into the answer that would have been good.
pub(crate) fn failed(reply: GroupReply, code: GroupError) -> GroupReply {
    match reply {
        GroupReply::Join(mut join) => {
            join = crate::JoinGroupReply::error(code, &join.member_id);
            GroupReply::Join(join)
        }
        GroupReply::OffsetCommit(mut commit) => {
            let code = match code {
                GroupError::UnknownServerError => GroupError::InvalidCommitOffsetSize,
                code => code,
            };
            let errors = commit.topics.iter_mut().flat_map(|(_, errors)| errors);
            for (_, error) in errors.filter(|(_, error)| error.is_none()) {
                *error = Some(code);
            }
            GroupReply::OffsetCommit(commit)
        }
        GroupReply::Delete(mut groups) => {
            for (_, error) in groups.iter_mut().filter(|(_, error)| error.is_none()) {
                *error = Some(code);
            }
            GroupReply::Delete(groups)
        }
        GroupReply::OffsetDelete(_) => GroupReply::OffsetDelete(crate::OffsetDeleteReply {
            error: Some(code),
            topics: Vec::new(),
        }),
        GroupReply::Sync(_) => GroupReply::Sync(crate::SyncGroupReply::error(code)),
        GroupReply::Heartbeat(_) => GroupReply::Heartbeat(Some(code)),
        // These are never tied to an append.
        reply @ (GroupReply::Leave(_)
        | GroupReply::OffsetFetch(_)
        | GroupReply::Describe(_)
        | GroupReply::List(_)) => reply,
    }
}
