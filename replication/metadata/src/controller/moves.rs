//! Replicas of a partition move to other brokers (KIP-455): a move begins, is replaced by another, given up, completed.
//!
//! While it is under way the partition has the replicas of both ends: those of the target first, in their order, then
//! those that will go. `adding` are the ones that it did not have before, `removing` the ones that the target lacks; one
//! that a later target no longer wants is both, and goes in either case. A move is complete as soon as every replica of
//! the target is in the ISR.
//! Invariants: whoever is taken out of the replicas is in none of the lists of [`Holders`], and the leader epoch rises,
//! so that nothing that it says counts any more; a replica goes only when an in-sync one stays, or, while nobody is in
//! sync, when it is none of those that may hold what was acknowledged.

use model::{BrokerId, TopicPartition};

use super::election::{Election, ElectionKind, find};
use super::eligible::{Departure, Holders, min_insync_replicas, min_isr_effective};
use super::replica_assignment::{directories, validate_manual};
use super::{ControllerError, Refusal};
use crate::image::{MetadataImage, PartitionState, merge};
use crate::planted::PlantedFault;
use crate::record::{LeaderChange, LeaderRecoveryState, PartitionChangeRecord};

/// Decides that a partition shall have these replicas, the preferred leader first. `Ok(None)` when that is so, or under
/// way, already. A target that is not active is accepted: the move waits for it.
pub fn move_replicas(
    image: &MetadataImage,
    partition: TopicPartition,
    target: &[BrokerId],
) -> Result<Option<PartitionChangeRecord>, ControllerError> {
    let (_, state) = find(image, partition)?;
    validate_manual(image, target, None)?;
    let original = state.original_replicas();
    let leaving = |id: &&BrokerId| !target.contains(id);
    let going: Vec<BrokerId> = state.replicas.iter().filter(leaving).copied().collect();
    let replicas = [target, &going].concat();
    let is_new = |id: &&BrokerId| !original.contains(id);
    let adding: Vec<BrokerId> = replicas.iter().filter(is_new).copied().collect();
    let mut change = unchanged(partition);
    if replicas.as_slice() != state.replicas.as_slice() {
        change.directories = directories(image, state, &replicas);
        change.replicas = Some(replicas);
    }
    if adding.as_slice() != state.adding_replicas() {
        change.adding_replicas = Some(adding);
    }
    if going.as_slice() != state.removing_replicas() {
        change.removing_replicas = Some(going);
    }
    let change = completed(image, partition, state, change);
    Ok((change != unchanged(partition)).then_some(change))
}

/// Gives up a move that is under way: the partition has the replicas again that it had before.
pub fn cancel_move(
    image: &MetadataImage,
    partition: TopicPartition,
) -> Result<PartitionChangeRecord, ControllerError> {
    let (_, state) = find(image, partition)?;
    if !state.is_moving() {
        return Err(ControllerError::new(
            Refusal::NoReassignmentInProgress,
            "no replicas of the partition are being moved",
        ));
    }
    let replicas = state.original_replicas();
    if !may_go(state, state.adding_replicas()) {
        return Err(ControllerError::new(
            Refusal::InvalidReplicaAssignment,
            "only replicas that are being added hold all records: without them the next leader might lack some",
        ));
    }
    Ok(cut_down(image, partition, state, &replicas))
}

/// What a change becomes if it completes a move: the record that does both.
pub(super) fn completed(
    image: &MetadataImage,
    partition: TopicPartition,
    before: &PartitionState,
    change: PartitionChangeRecord,
) -> PartitionChangeRecord {
    let mut after = before.clone();
    // Where an epoch overflows the change cannot be applied either: that is told when it is tried.
    if merge(&mut after, &change).is_none() || !is_complete(image, &after) {
        return change;
    }
    let end = cut_down(image, partition, &after, &after.target_replicas());
    if end.leader == LeaderChange::NoLeader {
        return change;
    }
    let leader = match end.leader {
        LeaderChange::Unchanged => change.leader,
        leader => leader,
    };
    PartitionChangeRecord {
        isr: end.isr.or(change.isr),
        leader,
        replicas: end.replicas.or(change.replicas),
        removing_replicas: end.removing_replicas.or(change.removing_replicas),
        adding_replicas: end.adding_replicas.or(change.adding_replicas),
        directories: end.directories.or(change.directories),
        eligible_leader_replicas: end
            .eligible_leader_replicas
            .or(change.eligible_leader_replicas),
        last_known_elr: end.last_known_elr.or(change.last_known_elr),
        ..change
    }
}

/// Whether nothing is missing at the target. After an unclean election the leader confirms first what is left: until then
/// the others may be asked for more.
fn is_complete(image: &MetadataImage, state: &PartitionState) -> bool {
    let in_sync = |id: &BrokerId| state.isr.contains(id);
    let target = state.target_replicas();
    let enough = match image.is_planted(PlantedFault::MoveEndsEarly) {
        true => target.iter().any(in_sync),
        false => !target.is_empty() && target.iter().all(in_sync),
    };
    state.is_moving()
        && enough
        && state.leader.is_some()
        && state.leader_recovery_state == LeaderRecoveryState::Recovered
}

/// Whether these replicas can go, and nothing with them that was acknowledged.
fn may_go(state: &PartitionState, going: &[BrokerId]) -> bool {
    let goes = |id: &BrokerId| going.contains(id);
    match state.isr.is_empty() {
        false => !state.isr.iter().all(goes),
        true => {
            let holders = state.eligible_leader_replicas().iter();
            !holders.chain(state.last_known_elr()).any(goes)
        }
    }
}

/// The change by which a partition has no other replicas than these, and nothing is under way.
fn cut_down(
    image: &MetadataImage,
    partition: TopicPartition,
    state: &PartitionState,
    replicas: &[BrokerId],
) -> PartitionChangeRecord {
    let mut after = state.clone();
    after.replicas = replicas.iter().copied().collect();
    let leaves = |id: &&BrokerId| !replicas.contains(id);
    let going: Vec<BrokerId> = state.replicas.iter().filter(leaves).copied().collect();
    // Its log is deleted: whatever it held is nothing to count on.
    let holders = going.iter().fold(Holders::of(state), |holders, broker| {
        holders.without(*broker, Departure::Wiped)
    });
    let topic = image.topic_by_id(partition.topic);
    let minimum = topic.map_or(1, |topic| min_insync_replicas(image, topic.name()));
    // Who leads is in sync, and was judged to be active when it was elected.
    let may_lead =
        |id: BrokerId| replicas.contains(&id) && (state.leader == Some(id) || image.is_active(id));
    let election = Election {
        id: partition,
        state: &after,
        min_isr: min_isr_effective(image, minimum, &after),
        may_lead: &may_lead,
        kind: ElectionKind::Online,
    };
    let mut change = election.hold(holders).unwrap_or(unchanged(partition));
    if !going.is_empty() && change.leader == LeaderChange::Unchanged {
        change.leader = state
            .leader
            .map_or(LeaderChange::NoLeader, LeaderChange::Leader);
    }
    if after.replicas != state.replicas {
        change.directories = directories(image, state, replicas);
        change.replicas = Some(replicas.to_vec());
    }
    if !state.adding_replicas().is_empty() {
        change.adding_replicas = Some(Vec::new());
    }
    if !state.removing_replicas().is_empty() {
        change.removing_replicas = Some(Vec::new());
    }
    change
}

fn unchanged(partition: TopicPartition) -> PartitionChangeRecord {
    PartitionChangeRecord {
        partition_id: partition.partition,
        topic_id: partition.topic,
        ..PartitionChangeRecord::default()
    }
}
