//! AlterPartitionReassignments (KIP-455): which brokers shall hold the replicas of a partition.
//!
//! Replicas do not move between brokers in this release. So a list of replicas is accepted where the partition has
//! just those already, and refused with its reason everywhere else. Nothing is ever under way that could be given up.

use model::{BrokerId, PartitionIndex};
use serde::{Deserialize, Serialize};

use super::replica_assignment::validate_manual;
use super::{ControllerError, Decision, Refusal};
use crate::image::MetadataImage;

/// What shall become of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionReassignment {
    /// Which one.
    pub partition: PartitionIndex,
    /// The replicas it shall have, the preferred leader first; `None` gives up a move that is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// AlterPartitionReassignments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterReassignmentsRequest {
    /// Topics by name.
    pub topics: Vec<(String, Vec<PartitionReassignment>)>,
    /// Whether a partition may get another number of replicas (KIP-860).
    pub allow_replication_factor_change: bool,
}

/// What became of each partition, by topic, in the order of the request.
pub type ReassignedTopics = Vec<(String, Vec<(PartitionIndex, Result<(), ControllerError>)>)>;

/// Decides which replicas move.
pub fn alter_reassignments(
    image: &MetadataImage,
    request: &AlterReassignmentsRequest,
) -> Decision<ReassignedTopics> {
    let topics = request.topics.iter().map(|(name, partitions)| {
        let results = partitions.iter().map(|wanted| {
            let allow = request.allow_replication_factor_change;
            (wanted.partition, alter_one(image, name, wanted, allow))
        });
        (name.clone(), results.collect())
    });
    Decision {
        records: Vec::new(),
        results: topics.collect(),
    }
}

fn alter_one(
    image: &MetadataImage,
    name: &str,
    wanted: &PartitionReassignment,
    allow_replication_factor_change: bool,
) -> Result<(), ControllerError> {
    let refuse = |refusal, message: &str| Err(ControllerError::new(refusal, message));
    let Some(topic) = image.topic_by_name(name) else {
        return refuse(
            Refusal::UnknownTopicOrPartition,
            "there is no topic of this name",
        );
    };
    let Some(state) = topic.partition(wanted.partition) else {
        return refuse(
            Refusal::UnknownTopicOrPartition,
            "there is no such partition",
        );
    };
    let Some(replicas) = &wanted.replicas else {
        return refuse(
            Refusal::NoReassignmentInProgress,
            "no replicas of the partition are being moved",
        );
    };
    validate_manual(image, replicas, None)?;
    if !allow_replication_factor_change && replicas.len() != state.replicas.len() {
        return refuse(
            Refusal::InvalidReplicationFactor,
            "the number of replicas would change, which the request does not allow",
        );
    }
    if replicas.as_slice() != state.replicas.as_slice() {
        return refuse(
            Refusal::InvalidReplicaAssignment,
            "replicas do not move between brokers in this release",
        );
    }
    Ok(())
}
