//! Who leads a partition (kafka.md 3.7, KIP-966).
//!
//! A replica may lead when its broker is active and it holds every acknowledged record: as a member of the ISR, or,
//! while the ISR is empty, as an eligible leader replica. Where only suspects are left, the best of them leads once all
//! have told what they have (`candidates.rs`); a single one is the best without being asked. An unclean election takes
//! any replica and is asked for explicitly.
//! Invariant: an election takes nobody of whom another holder is known to have more.

use model::{BrokerId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::eligible::{Holders, min_insync_replicas, min_isr_effective};
use super::moves::completed;
use super::{ControllerError, Refusal};
use crate::image::{MetadataImage, PartitionState};
use crate::record::{LeaderChange, LeaderRecoveryState, PartitionChangeRecord};

/// Why an election is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    let (topic, state) = find(image, partition)?;
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
    let election = Election {
        id: partition,
        state,
        min_isr: min_isr_effective(image, min_insync_replicas(image, topic), state),
        may_lead: &active,
        kind,
    };
    let change = election.hold(Holders::of(state));
    let elected = match (&change, kind) {
        (Some(change), ElectionKind::Preferred) => {
            let preferred = state.replicas.first().copied();
            preferred.map(LeaderChange::Leader) == Some(change.leader)
        }
        (Some(change), _) => matches!(change.leader, LeaderChange::Leader(_)),
        (None, _) => false,
    };
    match change {
        Some(change) if elected => Ok(completed(image, partition, state, change)),
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

/// The topic's name and the state of a partition that exists.
pub(super) fn find(
    image: &MetadataImage,
    partition: TopicPartition,
) -> Result<(&str, &PartitionState), ControllerError> {
    let topic = image.topic_by_id(partition.topic);
    let found = topic.and_then(|topic| {
        let state = topic.partition(partition.partition)?;
        Some((topic.name().as_ref(), state))
    });
    found.ok_or_else(|| {
        let message = "there is no such partition";
        ControllerError::new(Refusal::UnknownTopicOrPartition, message)
    })
}

/// One partition that needs to know who leads it.
pub(super) struct Election<'a> {
    pub(super) id: TopicPartition,
    /// As it is before.
    pub(super) state: &'a PartitionState,
    /// The effective minimum.
    pub(super) min_isr: usize,
    /// Whether a broker is active.
    pub(super) may_lead: &'a dyn Fn(BrokerId) -> bool,
    pub(super) kind: ElectionKind,
}

impl Election<'_> {
    /// The change that follows when `holders` are who holds the partition's records; `None` when nothing changes.
    pub(super) fn hold(&self, holders: Holders) -> Option<PartitionChangeRecord> {
        let mut recovery = None;
        let (leader, holders) = match self.choose(&holders) {
            Choice::InSync(leader) => (Some(leader), holders),
            Choice::Outsider(leader) => (Some(leader), holders.with_isr(vec![leader])),
            Choice::Unclean(leader) => {
                recovery = Some(LeaderRecoveryState::Recovering);
                (Some(leader), Holders::unclean(leader))
            }
            Choice::Nobody => (None, holders),
        };
        let leader_change = match leader {
            same if same == self.state.leader => LeaderChange::Unchanged,
            None => LeaderChange::NoLeader,
            Some(leader) => LeaderChange::Leader(leader),
        };
        let nothing = PartitionChangeRecord {
            partition_id: self.id.partition,
            topic_id: self.id.topic,
            ..PartitionChangeRecord::default()
        };
        let mut change = PartitionChangeRecord {
            leader: leader_change,
            leader_recovery_state: recovery,
            ..nothing.clone()
        };
        holders
            .settled(self.min_isr)
            .record(self.state, &mut change);
        (change != nothing).then_some(change)
    }

    fn choose(&self, holders: &Holders) -> Choice {
        let clean = match holders.isr.as_slice() {
            [] => &holders.eligible,
            _ => &holders.isr,
        };
        let valid = |broker: &BrokerId| clean.contains(broker) && (self.may_lead)(*broker);
        let preferred = self.state.replicas.first();
        let preferred = preferred.filter(|_| self.kind == ElectionKind::Preferred);
        let leader = preferred
            .filter(|broker| valid(broker))
            .or(self.state.leader.as_ref().filter(|broker| valid(broker)))
            .or_else(|| self.state.replicas.iter().find(|broker| valid(broker)));
        if let Some(leader) = leader {
            return match holders.isr.is_empty() {
                true => Choice::Outsider(*leader),
                false => Choice::InSync(*leader),
            };
        }
        if let ([], [last]) = (clean.as_slice(), holders.suspects.as_slice())
            && (self.may_lead)(*last)
        {
            return Choice::Outsider(*last);
        }
        if self.kind != ElectionKind::Unclean {
            return Choice::Nobody;
        }
        // A suspect is likelier to have what was acknowledged than somebody who has lagged behind.
        let suspected = |broker: &&BrokerId| holders.suspects.contains(broker);
        let able = || {
            let replicas = self.state.replicas.iter();
            replicas.filter(|broker| (self.may_lead)(**broker))
        };
        able()
            .find(suspected)
            .or_else(|| able().next())
            .map_or(Choice::Nobody, |leader| Choice::Unclean(*leader))
    }
}

/// What an election comes to.
enum Choice {
    InSync(BrokerId),
    /// An eligible leader replica, or the only suspect: the ISR begins with it.
    Outsider(BrokerId),
    Unclean(BrokerId),
    Nobody,
}
