//! From a list of replicas to the record of a new partition, and the rules for lists that a client chose.

use model::{BrokerId, LeaderEpoch, PartitionEpoch, TopicPartition};

use super::{ControllerError, Refusal};
use crate::image::{MetadataImage, PartitionState};
use crate::record::{LeaderRecoveryState, MetadataRecord, PartitionRecord, Uuid};

fn bad(message: String) -> ControllerError {
    ControllerError::new(Refusal::InvalidReplicaAssignment, message)
}

/// Checks one list that a client chose (kafka.md 3.10). `replication_factor` is what the topic's other partitions have.
pub(super) fn validate_manual(
    image: &MetadataImage,
    replicas: &[BrokerId],
    replication_factor: Option<usize>,
) -> Result<(), ControllerError> {
    if replicas.is_empty() {
        return Err(bad("a manual assignment has no replicas".to_owned()));
    }
    let mut sorted = replicas.to_vec();
    sorted.sort_unstable();
    for (at, broker) in sorted.iter().enumerate() {
        if image.broker(*broker).is_none() {
            return Err(bad(format!(
                "a manual assignment names broker {broker}, which is not registered"
            )));
        }
        if at > 0 && sorted[at - 1] == *broker {
            return Err(bad(format!(
                "a manual assignment names broker {broker} more than once"
            )));
        }
    }
    match replication_factor {
        Some(expected) if expected != replicas.len() => Err(bad(format!(
            "a manual assignment has {} replica(s) where the other partitions have {expected}",
            replicas.len()
        ))),
        _ => Ok(()),
    }
}

/// The record of a new partition: its ISR is all active replicas, its leader the first of them.
pub(super) fn new_partition(
    image: &MetadataImage,
    id: TopicPartition,
    replicas: &[BrokerId],
) -> Result<MetadataRecord, ControllerError> {
    let active = |broker: &BrokerId| image.is_active(*broker);
    let isr: Vec<BrokerId> = replicas.iter().copied().filter(active).collect();
    let leader = isr.first().copied().ok_or_else(|| {
        bad(format!(
            "all brokers assigned to partition {} are fenced or shutting down",
            id.partition
        ))
    })?;
    Ok(MetadataRecord::Partition(PartitionRecord {
        partition_id: id.partition,
        topic_id: id.topic,
        replicas: replicas.to_vec(),
        isr,
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        leader: Some(leader),
        leader_recovery_state: LeaderRecoveryState::Recovered,
        leader_epoch: LeaderEpoch(0),
        partition_epoch: PartitionEpoch(0),
        directories: replicas.iter().map(|id| directory(image, *id)).collect(),
        eligible_leader_replicas: None,
        last_known_elr: None,
    }))
}

/// The directories of a partition's replicas when they are these; `None` when none is known of any.
pub(super) fn directories(
    image: &MetadataImage,
    state: &PartitionState,
    replicas: &[BrokerId],
) -> Option<Vec<Uuid>> {
    if state.directories.is_empty() {
        return None;
    }
    let of = |id: &BrokerId| {
        state
            .directory_of(*id)
            .unwrap_or_else(|| directory(image, *id))
    };
    Some(replicas.iter().map(of).collect())
}

/// The directory of a new replica: known when the broker has only one, else the broker decides and reports it.
fn directory(image: &MetadataImage, broker: BrokerId) -> Uuid {
    match image
        .broker(broker)
        .map(|broker| broker.log_dirs.as_slice())
    {
        Some([only]) => *only,
        _ => Uuid::ZERO,
    }
}
