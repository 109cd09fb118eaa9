//! Why something is refused, one enum per operation.

use crate::entry::EntryError;
use crate::key::{ReplicaKey, VotersError};

/// Why a message was dropped. To the quorum it is as if it had been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageRefusal {
    /// This replica has failed.
    #[error("this replica has resigned")]
    Resigned,
    /// It was meant for a directory that this broker does not have any more, or for another broker.
    #[error("it is for {0}")]
    NotForThisReplica(ReplicaKey),
    /// It came from a replica with this one's own name: a copied directory, or a loop.
    #[error("it comes from this replica's own name")]
    FromItself,
    /// More is under way to the disk than it may be. The peer sends it again.
    #[error("the disk is behind")]
    Busy,
    /// It contradicts what is committed here, or speaks of entries that do not exist: one of the two has lost what it had
    /// promised. Worth an alarm.
    #[error("it contradicts this replica's log")]
    Contradiction,
}

/// Why a decision was not proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeRefusal {
    /// Another replica leads, if one does.
    #[error("this replica does not lead")]
    NotLeader(Option<ReplicaKey>),
    /// Leadership is being handed over.
    #[error("leadership is being handed over")]
    Transferring,
    /// Too much is proposed and not committed yet.
    #[error("too much is waiting to be committed")]
    Busy,
    /// The log has as many entries as it may have: a snapshot is overdue.
    #[error("the log is full until a snapshot is written")]
    LogFull,
    /// It is no batch of records.
    #[error("it cannot be an entry: {0}")]
    Malformed(EntryError),
    /// Control batches are the quorum's own.
    #[error("it is a control batch")]
    Control,
}

/// Why the voters, or who watches, were not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipRefusal {
    #[error(transparent)]
    Propose(#[from] ProposeRefusal),
    /// One change at a time, and the first only when the leader has committed something of its own.
    #[error("another change may be under way")]
    ChangePending,
    /// A new voter first watches until it has nearly everything.
    #[error("{0} has not caught up as an observer")]
    NotCaughtUp(ReplicaKey),
    #[error("{0} is a voter already")]
    IsVoter(ReplicaKey),
    #[error("{0} is not a voter")]
    NotVoter(ReplicaKey),
    #[error(transparent)]
    Voters(#[from] VotersError),
    #[error("{0} observers are too many")]
    TooManyObservers(usize),
}

/// Why leadership was not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefusal {
    #[error("this replica does not lead")]
    NotLeader(Option<ReplicaKey>),
    #[error("{0} is not another voter")]
    NotAnotherVoter(ReplicaKey),
    #[error("there is no other voter")]
    Alone,
}
