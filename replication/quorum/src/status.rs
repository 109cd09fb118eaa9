//! What can be asked of a quorum (Kafka's DescribeQuorum), and what a proposal is told.

use model::Offset;

use crate::effects::Leadership;
use crate::key::ReplicaKey;
use crate::place::{EntryIndex, Term};

/// Where a proposal stands. It is committed when an entry of this place comes out with this term; if one comes out with
/// another term, it never will be. A leader that stops leading before does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// Its place.
    pub index: EntryIndex,
    /// Its term.
    pub term: Term,
    /// Its first offset.
    pub base_offset: Offset,
    /// The offset behind it.
    pub end_offset: Offset,
}

/// What the leader knows of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Which.
    pub key: ReplicaKey,
    /// Whether it has a vote.
    pub is_voter: bool,
    /// How far it agrees with the leader's log, durably. Known to the leader only.
    pub log_end_offset: Option<Offset>,
    /// Whether it was heard of since the leader last looked, which it does every election timeout.
    pub is_active: bool,
}

/// The quorum as one replica sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumStatus {
    /// Who leads.
    pub leadership: Leadership,
    /// Whether this replica does.
    pub is_leader: bool,
    /// The end of its log, durable or not.
    pub log_end_offset: Offset,
    /// The log is committed, and durable here, up to this offset.
    pub high_watermark: Offset,
    /// The last entry that came out as committed.
    pub applied: EntryIndex,
    /// Voters, then observers.
    pub replicas: Vec<ReplicaStatus>,
}
