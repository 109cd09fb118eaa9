//! AlterPartition: a leader proposes a new ISR (kafka.md 3.8, KIP-497, KIP-903, KIP-966).

use model::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, TopicPartition};
use serde::{Deserialize, Serialize};

use super::eligible::{Holders, min_insync_replicas, min_isr_effective};
use super::moves::completed;
use super::{ControllerError, Decision, Refusal};
use crate::image::{MetadataImage, PartitionState};
use crate::planted::PlantedFault;
use crate::record::{LeaderRecoveryState, MetadataRecord, PartitionChangeRecord};

/// A leader's proposal for one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IsrChange {
    /// Who proposes.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The partition.
    pub partition: TopicPartition,
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The version of the partition's state that it knows.
    pub partition_epoch: PartitionEpoch,
    /// The proposed members; -1 as an epoch means that the leader does not know it, which is enough of members that stay.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
    /// The proposed recovery state.
    pub leader_recovery_state: LeaderRecoveryState,
}

/// Decides on a proposal. The answer, when accepted, is the state after the change that the leader must install.
pub fn alter_partition(
    image: &MetadataImage,
    change: &IsrChange,
) -> Decision<Result<PartitionEpoch, ControllerError>> {
    let mut records = Vec::new();
    let results = judge(image, change).map(|(epoch, record)| {
        records.extend(record.map(MetadataRecord::PartitionChange));
        epoch
    });
    Decision { records, results }
}

fn refuse<T>(code: Refusal, message: &str) -> Result<T, ControllerError> {
    Err(ControllerError::new(code, message))
}

fn judge(
    image: &MetadataImage,
    change: &IsrChange,
) -> Result<(PartitionEpoch, Option<PartitionChangeRecord>), ControllerError> {
    match image.broker(change.broker_id) {
        Some(broker) if broker.epoch == change.broker_epoch => {}
        _ => {
            return refuse(
                Refusal::StaleBrokerEpoch,
                "the broker has another registration",
            );
        }
    }
    let Some(topic) = image.topic_by_id(change.partition.topic) else {
        return refuse(Refusal::UnknownTopicId, "there is no topic of this id");
    };
    let Some(state) = topic.partition(change.partition.partition) else {
        return refuse(
            Refusal::UnknownTopicOrPartition,
            "there is no such partition",
        );
    };
    check_epochs(image, change, state)?;
    check_members(image, change, state)?;
    let isr: Vec<BrokerId> = change.isr.iter().map(|(broker, _)| *broker).collect();
    let min_isr = min_isr_effective(image, min_insync_replicas(image, topic.name()), state);
    let recovery_changed = change.leader_recovery_state != state.leader_recovery_state;
    let mut record = PartitionChangeRecord {
        partition_id: change.partition.partition,
        topic_id: change.partition.topic,
        leader_recovery_state: recovery_changed.then_some(change.leader_recovery_state),
        ..PartitionChangeRecord::default()
    };
    // Written also when it is the set in force: the new version ends what was proposed for the one before, and may still
    // be on its way.
    record.isr = Some(isr.clone());
    let holders = Holders::of(state).with_isr(isr).settled(min_isr);
    holders.record(state, &mut record);
    let record = completed(image, change.partition, state, record);
    let Some(next_epoch) = state.partition_epoch.0.checked_add(1) else {
        return refuse(Refusal::Internal, "the partition epoch overflows");
    };
    Ok((PartitionEpoch(next_epoch), Some(record)))
}

fn check_epochs(
    image: &MetadataImage,
    change: &IsrChange,
    state: &PartitionState,
) -> Result<(), ControllerError> {
    if change.leader_epoch > state.leader_epoch || change.partition_epoch > state.partition_epoch {
        return refuse(
            Refusal::NotController,
            "this controller is behind the leader",
        );
    }
    if change.leader_epoch < state.leader_epoch {
        return refuse(Refusal::FencedLeaderEpoch, "the leader epoch is over");
    }
    if state.leader != Some(change.broker_id) {
        return refuse(
            Refusal::InvalidRequest,
            "the broker does not lead the partition",
        );
    }
    let may_be_old = image.is_planted(PlantedFault::StalePartitionEpoch);
    if change.partition_epoch < state.partition_epoch && !may_be_old {
        return refuse(Refusal::PartitionEpochStale, "the partition epoch is over");
    }
    Ok(())
}

fn check_members(
    image: &MetadataImage,
    change: &IsrChange,
    state: &PartitionState,
) -> Result<(), ControllerError> {
    let mut members: Vec<BrokerId> = change.isr.iter().map(|(broker, _)| *broker).collect();
    members.sort_unstable();
    if members.windows(2).any(|pair| pair[0] == pair[1]) {
        return refuse(Refusal::InvalidRequest, "the ISR has a broker twice");
    }
    if !members.iter().all(|broker| state.has_replica(*broker)) {
        return refuse(
            Refusal::InvalidRequest,
            "the ISR has a broker without a replica",
        );
    }
    if !members.contains(&change.broker_id) {
        return refuse(Refusal::InvalidRequest, "the ISR lacks the leader");
    }
    if change.leader_recovery_state == LeaderRecoveryState::Recovering {
        if members.len() > 1 {
            return refuse(
                Refusal::InvalidRequest,
                "a recovering ISR is the leader alone",
            );
        }
        if state.leader_recovery_state == LeaderRecoveryState::Recovered {
            return refuse(
                Refusal::InvalidRequest,
                "a recovered leader stays recovered",
            );
        }
    }
    // Of a member that stays the leader may not have heard yet. One that joins has told which process it is: another one
    // of the same broker may have lost what this one had (KIP-903).
    let eligible = |(id, epoch): &(BrokerId, BrokerEpoch)| {
        let is_current = |registered: BrokerEpoch| match epoch.0 {
            -1 => state.isr.contains(id),
            _ => registered == *epoch || image.is_planted(PlantedFault::StaleBrokerEpoch),
        };
        let broker = image.broker(*id);
        broker.is_some_and(|broker| broker.is_active() && is_current(broker.epoch))
    };
    if !change.isr.iter().all(eligible) {
        return refuse(
            Refusal::IneligibleReplica,
            "a proposed member may not be in an ISR",
        );
    }
    Ok(())
}
