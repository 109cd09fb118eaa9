//! Who leads when every holder of a partition's records may have lost some, as after a loss of power everywhere.
//!
//! Each suspect held every acknowledged record, and has them still if its disk kept its word. The one with the highest
//! (last epoch, log end) has at least what any other has: logs with the same last epoch are prefixes of each other, and
//! a later epoch began with everything that was acknowledged before. So an acknowledged record is lost only if all
//! suspects have lost it; and that is why none of them may lead before all have answered.

use std::collections::BTreeMap;

use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, TopicPartition};

use super::election::find;
use super::eligible::{Holders, min_insync_replicas, min_isr_effective};
use super::moves::completed;
use super::{ControllerError, Refusal};
use crate::image::{MetadataImage, PartitionState};
use crate::planted::PlantedFault;
use crate::record::{LeaderChange, PartitionChangeRecord, Uuid};

/// What a broker has of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CandidateLog {
    /// Who answers.
    pub broker: BrokerId,
    /// Its registration: what an earlier process said need not hold any more.
    pub broker_epoch: BrokerEpoch,
    /// The directory that the log is in.
    pub directory: Uuid,
    /// The epoch of its last record, [`LeaderEpoch::NONE`] of an empty log.
    pub last_epoch: LeaderEpoch,
    /// Its durable end.
    pub log_end_offset: Offset,
}

/// The replicas that have to say what they have before one of them can lead; `None` when no election waits for that:
/// while a replica may come back whole, nobody is asked.
pub fn candidates(state: &PartitionState) -> Option<&[BrokerId]> {
    let only_suspects = state.leader.is_none()
        && state.isr.is_empty()
        && state.eligible_leader_replicas().is_empty();
    match state.last_known_elr() {
        many @ [_, _, ..] if only_suspects => Some(many),
        _ => None,
    }
}

/// Elects the candidate that has most, when all have answered. `Ok` is the record to write.
pub fn elect_best(
    image: &MetadataImage,
    partition: TopicPartition,
    answers: &[CandidateLog],
) -> Result<PartitionChangeRecord, ControllerError> {
    let (topic, state) = find(image, partition)?;
    let Some(candidates) = candidates(state) else {
        return Err(ControllerError::new(
            Refusal::ElectionNotNeeded,
            "the partition does not wait for the answers of suspects",
        ));
    };
    let answers = valid_answers(image, partition, state, answers)?;
    let some_suffice = image.is_planted(PlantedFault::FirstAnswerLeads) && !answers.is_empty();
    let missing = candidates.iter().find(|id| !answers.contains_key(*id));
    if let Some(missing) = missing
        && !some_suffice
    {
        let message = format!("broker {missing} has not answered");
        return Err(ControllerError::new(
            Refusal::EligibleLeadersNotAvailable,
            message,
        ));
    }
    let best = best_of(state, candidates, &answers);
    if !image.is_active(best) {
        let message = format!("broker {best} has most, and is not active");
        return Err(ControllerError::new(
            Refusal::EligibleLeadersNotAvailable,
            message,
        ));
    }
    let mut change = PartitionChangeRecord {
        partition_id: partition.partition,
        topic_id: partition.topic,
        leader: LeaderChange::Leader(best),
        ..PartitionChangeRecord::default()
    };
    let min_isr = min_isr_effective(image, min_insync_replicas(image, topic), state);
    let holders = Holders::of(state).with_isr(vec![best]).settled(min_isr);
    holders.record(state, &mut change);
    Ok(completed(image, partition, state, change))
}

/// The answers that count, by broker: of the processes that are registered now, from where the replicas are.
fn valid_answers<'a>(
    image: &MetadataImage,
    partition: TopicPartition,
    state: &PartitionState,
    answers: &'a [CandidateLog],
) -> Result<BTreeMap<BrokerId, &'a CandidateLog>, ControllerError> {
    let mut valid = BTreeMap::new();
    for answer in answers {
        let registered = image.broker(answer.broker);
        let is_current = registered.is_some_and(|broker| broker.epoch == answer.broker_epoch);
        let is_there = match state.directory_of(answer.broker) {
            Some(known) if known != Uuid::ZERO => known == answer.directory,
            _ => true,
        };
        if is_current && is_there && valid.insert(answer.broker, answer).is_some() {
            let message = format!(
                "broker {} has answered twice for {partition}",
                answer.broker
            );
            return Err(ControllerError::new(Refusal::InvalidRequest, message));
        }
    }
    Ok(valid)
}

/// The candidate with the highest (last epoch, log end); of equals the first in the order of replicas.
fn best_of(
    state: &PartitionState,
    candidates: &[BrokerId],
    answers: &BTreeMap<BrokerId, &CandidateLog>,
) -> BrokerId {
    let rank = |broker: &&BrokerId| {
        let answer = answers[*broker];
        let at = state.replicas.iter().position(|id| id == *broker);
        let reach = (answer.last_epoch, answer.log_end_offset);
        (reach, std::cmp::Reverse(at))
    };
    let best = candidates
        .iter()
        .filter(|id| answers.contains_key(*id))
        .max_by_key(rank);
    *best.expect("there are at least two candidates, and all have answered")
}
