//! The in-sync replicas: committed, or with one change under way at the controller.
//!
//! Invariant: at most one proposal is in flight. While an expansion is pending its candidate already counts for the
//! high watermark; while a shrink is pending the old members still do. So the high watermark never passes a replica
//! that may be in the ISR (kafka.md 3.4).

use model::{BrokerId, LeaderEpoch, PartitionEpoch};
use smallvec::SmallVec;

/// An ISR that the leader asks the controller for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsrProposal {
    /// The members that it shall have.
    pub isr: Vec<BrokerId>,
    /// The epoch in which this broker leads.
    pub leader_epoch: LeaderEpoch,
    /// The version of the partition that the proposal is based on.
    pub partition_epoch: PartitionEpoch,
}

/// Why the controller has not made a proposed set the in-sync one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsrRefusal {
    /// The set may not be: the one before holds.
    Rejected,
    /// The leader does not know the newest metadata, which is on its way.
    Outdated,
    /// It may be made so when it is asked again.
    NotNow,
}

pub(crate) type Members = SmallVec<[BrokerId; 4]>;

#[derive(Clone, Debug)]
pub(crate) enum IsrState {
    /// As the metadata says.
    Committed(Members),
    /// A change is at the controller.
    Pending {
        committed: Members,
        proposed: Members,
    },
}

impl IsrState {
    pub(crate) fn committed(&self) -> &[BrokerId] {
        match self {
            IsrState::Committed(isr) => isr,
            IsrState::Pending { committed, .. } => committed,
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        matches!(self, IsrState::Pending { .. })
    }

    /// Whether the broker is, or may already be, in the ISR.
    pub(crate) fn may_contain(&self, broker: BrokerId) -> bool {
        match self {
            IsrState::Committed(isr) => isr.contains(&broker),
            IsrState::Pending {
                committed,
                proposed,
            } => committed.contains(&broker) || proposed.contains(&broker),
        }
    }
}
