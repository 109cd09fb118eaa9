//! The in-sync replicas: committed, or with one change under way at the controller.
//!
//! Invariant: at most one proposal is in flight, perhaps in several copies. While an expansion is pending its candidate
//! already counts for the high watermark; while a shrink is pending the old members still do. So the high watermark
//! never passes a replica that may be in the ISR (kafka.md 3.4).

use model::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch};
use smallvec::SmallVec;

/// An ISR that the leader asks the controller for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IsrProposal {
    /// The members that it shall have, each with the registration of the process that was seen to hold the records
    /// (KIP-903); -1 of the leader, and of members that have not fetched yet in this leader epoch.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// The epoch in which this broker leads.
    pub leader_epoch: LeaderEpoch,
    /// The version of the partition that the proposal is based on.
    pub partition_epoch: PartitionEpoch,
}

impl IsrProposal {
    pub(crate) fn contains(&self, broker: BrokerId) -> bool {
        self.isr.iter().any(|(member, _)| *member == broker)
    }
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

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IsrState {
    /// As the metadata says.
    Committed(Members),
    /// A change is at the controller.
    Pending(Pending),
}

/// A change that is at the controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    committed: Members,
    /// Should it be asked again, it is asked the same: another process of a member has not been seen to hold anything.
    proposal: IsrProposal,
    /// Whether it has been asked more than once: then an answer to one need not be the answer to the other.
    is_repeated: bool,
    /// Members that were refused, of a proposal of which another copy may yet be accepted.
    doubtful: Members,
}

impl Pending {
    pub(crate) fn new(committed: Members, proposal: IsrProposal) -> Pending {
        Pending {
            committed,
            proposal,
            is_repeated: false,
            doubtful: Members::new(),
        }
    }

    pub(crate) fn proposal(&self) -> &IsrProposal {
        &self.proposal
    }

    /// It may be asked again, not knowing whether it was heard.
    pub(crate) fn repeat(&mut self) {
        self.is_repeated = true;
    }

    /// The proposed set is the one in force.
    pub(crate) fn accepted(&self) -> Members {
        self.proposal.isr.iter().map(|(id, _)| *id).collect()
    }

    /// The proposal is refused: the set in force, if that is certain. If another copy may still be on its way and be
    /// judged otherwise, a new version of the partition has to come between: its set is the one in force, proposed anew.
    pub(crate) fn refused(&mut self) -> Option<Members> {
        if !self.is_repeated {
            return Some(self.committed.clone());
        }
        for (member, _) in &self.proposal.isr {
            if !self.committed.contains(member) && !self.doubtful.contains(member) {
                self.doubtful.push(*member);
            }
        }
        let stays = |member: &BrokerId| (*member, BrokerEpoch(-1));
        self.proposal.isr = self.committed.iter().map(stays).collect();
        None
    }
}

impl IsrState {
    pub(crate) fn committed(&self) -> &[BrokerId] {
        match self {
            IsrState::Committed(isr) => isr,
            IsrState::Pending(pending) => &pending.committed,
        }
    }

    pub(crate) fn pending(&self) -> Option<&Pending> {
        match self {
            IsrState::Committed(_) => None,
            IsrState::Pending(pending) => Some(pending),
        }
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.pending().is_some()
    }

    /// Whether the broker is, or may already be, in the ISR.
    pub(crate) fn may_contain(&self, broker: BrokerId) -> bool {
        let may_join = |pending: &Pending| {
            pending.proposal.contains(broker) || pending.doubtful.contains(&broker)
        };
        self.committed().contains(&broker) || self.pending().is_some_and(may_join)
    }
}
