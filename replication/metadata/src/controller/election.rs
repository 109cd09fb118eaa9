//! Who leads a partition (kafka.md 3.7).
//!
//! A replica may lead when its broker is active and it is in the ISR; an unclean election ignores the ISR and is asked
//! for explicitly. Invariant: an ISR never becomes empty; its last member stays even without a leader, because it is
//! the only one known to hold every acknowledged record.

use model::{BrokerId, TopicPartition};

use super::{ControllerError, Refusal};
use crate::image::{MetadataImage, PartitionState};
use crate::record::{LeaderChange, LeaderRecoveryState, PartitionChangeRecord};

/// Why an election is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElectionKind {
    /// The present leader may stay.
    Online,
    /// The first replica shall lead.
    Preferred,
    /// Anyone shall lead who can; records may be lost. Only for a partition without a leader.
    Unclean,
}

/// Holds an election that an administrator asked for. `Ok` is the record to write.
pub fn elect(
    image: &MetadataImage,
    partition: TopicPartition,
    kind: ElectionKind,
) -> Result<PartitionChangeRecord, ControllerError> {
    let state = image.partition(partition).ok_or_else(|| {
        let message = "there is no such partition";
        ControllerError::new(Refusal::UnknownTopicOrPartition, message)
    })?;
    let needless = match kind {
        ElectionKind::Preferred => state.leader == state.replicas.first().copied(),
        ElectionKind::Online | ElectionKind::Unclean => state.leader.is_some(),
    };
    if needless {
        return Err(ControllerError::new(
            Refusal::ElectionNotNeeded,
            "the partition has the leader it should have",
        ));
    }
    let active = |broker| image.is_active(broker);
    let change = next_leader(partition, state, &state.isr, &active, kind);
    let elected = match (&change, kind) {
        (Some(change), ElectionKind::Preferred) => {
            let preferred = state.replicas.first().copied();
            preferred.map(LeaderChange::Leader) == Some(change.leader)
        }
        (Some(change), _) => matches!(change.leader, LeaderChange::Leader(_)),
        (None, _) => false,
    };
    match change {
        Some(change) if elected => Ok(change),
        _ if kind == ElectionKind::Preferred => Err(ControllerError::new(
            Refusal::PreferredLeaderNotAvailable,
            "the preferred leader is not active or not in sync",
        )),
        _ => Err(ControllerError::new(
            Refusal::EligibleLeadersNotAvailable,
            "no replica may lead",
        )),
    }
}

/// The change of a partition whose ISR shall be `isr` and whose candidates are the brokers that `may_lead`;
/// `None` when nothing changes.
pub(super) fn next_leader(
    id: TopicPartition,
    state: &PartitionState,
    isr: &[BrokerId],
    may_lead: &dyn Fn(BrokerId) -> bool,
    kind: ElectionKind,
) -> Option<PartitionChangeRecord> {
    let mut isr = isr.to_vec();
    if isr.is_empty() {
        let last = state.leader.filter(|leader| state.isr.contains(leader));
        isr.extend(last.or_else(|| state.isr.first().copied()));
    }
    let mut recovery = None;
    let valid = |broker: &BrokerId| isr.contains(broker) && may_lead(*broker);
    let preferred = state
        .replicas
        .first()
        .filter(|_| kind == ElectionKind::Preferred);
    let mut leader = preferred
        .filter(|broker| valid(broker))
        .or(state.leader.as_ref().filter(|broker| valid(broker)))
        .or_else(|| state.replicas.iter().find(|broker| valid(broker)))
        .copied();
    if leader.is_none() && kind == ElectionKind::Unclean {
        leader = state.replicas.iter().copied().find(|id| may_lead(*id));
        if let Some(leader) = leader {
            isr = vec![leader];
            recovery = Some(LeaderRecoveryState::Recovering);
        }
    }
    let leader_change = match leader {
        same if same == state.leader => LeaderChange::Unchanged,
        None => LeaderChange::NoLeader,
        Some(leader) => LeaderChange::Leader(leader),
    };
    let isr_changed = isr.as_slice() != state.isr.as_slice();
    if leader_change == LeaderChange::Unchanged && !isr_changed {
        return None;
    }
    Some(PartitionChangeRecord {
        partition_id: id.partition,
        topic_id: id.topic,
        isr: isr_changed.then_some(isr),
        leader: leader_change,
        leader_recovery_state: recovery,
        ..PartitionChangeRecord::default()
    })
}
