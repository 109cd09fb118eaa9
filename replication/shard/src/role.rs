//! What a broker is to a partition that it has a replica of, and who decides that: the metadata.
//!
//! Pure. A partition has one role at a time; [`Duty`] is the one that the metadata gives it.

use metadata::PartitionState;
use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use replica::{FollowerReplica, LeaderReplica};

/// A partition's replication state on this broker.
// One per partition, for its life: nothing is gained by a box.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(crate) enum Role {
    /// Clients produce to it and fetch from it here.
    Leader(LeaderReplica),
    /// Another broker leads, or nobody does: the log follows.
    Follower(FollowerReplica),
    /// The log is open, and nothing happens to it: this process is not registered.
    Offline,
}

impl Role {
    pub(crate) fn leader(&self) -> Option<&LeaderReplica> {
        match self {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Offline => None,
        }
    }

    pub(crate) fn leader_mut(&mut self) -> Option<&mut LeaderReplica> {
        match self {
            Role::Leader(leader) => Some(leader),
            Role::Follower(_) | Role::Offline => None,
        }
    }

    pub(crate) fn follower_mut(&mut self) -> Option<&mut FollowerReplica> {
        match self {
            Role::Follower(follower) => Some(follower),
            Role::Leader(_) | Role::Offline => None,
        }
    }

    /// The epoch that is led or followed.
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        match self {
            Role::Leader(leader) => leader.leader_epoch(),
            Role::Follower(follower) => follower.leader_epoch(),
            Role::Offline => LeaderEpoch::NONE,
        }
    }

    /// Committed records end here, as far as this role knows; nothing is known offline, and while the log is cut.
    pub(crate) fn high_watermark(&self) -> Option<Offset> {
        match self {
            Role::Leader(leader) => Some(leader.high_watermark()),
            Role::Follower(follower) if follower.is_cutting() => None,
            Role::Follower(follower) => Some(follower.high_watermark()),
            Role::Offline => None,
        }
    }

    pub(crate) fn is_cutting(&self) -> bool {
        matches!(self, Role::Follower(follower) if follower.is_cutting())
    }

    /// Whether other brokers have replicas of the partition.
    pub(crate) fn is_replicated(&self) -> bool {
        match self {
            Role::Leader(leader) => leader.has_followers(),
            Role::Follower(_) => true,
            Role::Offline => false,
        }
    }
}

/// What a leader tells of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) replicas: usize,
    pub(crate) in_sync: usize,
    pub(crate) has_enough_in_sync: bool,
    pub(crate) is_replicated: bool,
    /// Records that the slowest follower lacks, of those that were heard of.
    pub(crate) lag_max: u64,
    /// Records that all of them lack.
    pub(crate) lag_sum: u64,
}

/// What the metadata wants of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    Lead,
    /// The leader, if there is one, and as which process this broker follows.
    Follow(Option<BrokerId>, BrokerEpoch),
    /// Nothing, before it is registered.
    Wait,
    /// The broker has no replica.
    Leave,
}

impl Duty {
    /// Of this broker, whose process is registered as `registration`. A process that is not leads nothing that others follow:
    /// under the old epoch it may have told of records that it has lost. Who is the only replica has nobody to disagree with.
    pub(crate) fn of(
        state: &PartitionState,
        broker: BrokerId,
        registration: Option<BrokerEpoch>,
    ) -> Duty {
        let is_only = state.replicas[..] == [broker];
        match (state.leader, registration) {
            _ if !state.has_replica(broker) => Duty::Leave,
            (Some(leader), _) if leader == broker && is_only => Duty::Lead,
            (_, None) => Duty::Wait,
            (Some(leader), Some(_)) if leader == broker => Duty::Lead,
            (leader, Some(process)) => Duty::Follow(leader, process),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::PartitionEpoch;

    use super::*;

    #[test]
    fn what_the_metadata_wants_of_broker_1() {
        let process = BrokerEpoch(9);
        let follow = |leader: Option<i32>| Duty::Follow(leader.map(BrokerId), process);
        let table: [(&[i32], Option<i32>, bool, Duty); 10] = [
            (&[1], Some(1), false, Duty::Lead),
            (&[1], Some(1), true, Duty::Lead),
            (&[1], None, false, Duty::Wait),
            (&[1], None, true, follow(None)),
            (&[1, 2], Some(1), false, Duty::Wait),
            (&[1, 2], Some(1), true, Duty::Lead),
            (&[1, 2], Some(2), true, follow(Some(2))),
            (&[1, 2], Some(2), false, Duty::Wait),
            (&[1, 2], None, true, follow(None)),
            (&[2, 3], Some(2), true, Duty::Leave),
        ];
        for (replicas, leader, is_registered, expected) in table {
            let replicas: Vec<BrokerId> = replicas.iter().copied().map(BrokerId).collect();
            let state = PartitionState {
                replicas: replicas.iter().copied().collect(),
                isr: replicas.iter().copied().collect(),
                leader: leader.map(BrokerId),
                leader_epoch: LeaderEpoch(3),
                partition_epoch: PartitionEpoch(4),
                leader_recovery_state: metadata::LeaderRecoveryState::Recovered,
                directories: [].into_iter().collect(),
                reassignment: None,
            };
            let duty = Duty::of(&state, BrokerId(1), is_registered.then_some(process));
            assert_eq!(duty, expected, "{replicas:?} led by {leader:?}");
        }
    }
}
