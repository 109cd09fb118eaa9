//! CreatePartitions: a topic can only grow.

use model::{BrokerId, PartitionIndex, TopicPartition};
use serde::{Deserialize, Serialize};

use super::replica_assignment::{new_partition, validate_manual};
use super::{
    ControllerError, Decision, PARTITIONS_MAX, PARTITIONS_PER_REQUEST_MAX, Refusal, duplicates,
};
use crate::image::{MetadataImage, Topic};
use crate::placement::{place, topic_hash};
use crate::record::MetadataRecord;

/// A topic that shall have more partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MorePartitions {
    /// Which topic.
    pub name: String,
    /// The number of partitions it shall have.
    pub count: i32,
    /// One list of replicas per new partition, or `None` to let the controller place them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// CreatePartitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatePartitionsRequest {
    /// In the order of the request.
    pub topics: Vec<MorePartitions>,
    /// Answer, but change nothing.
    pub validate_only: bool,
}

/// One answer per distinct name: duplicates first, then the others in the order of the request.
pub type CreatePartitionsResults = Vec<(String, Result<(), ControllerError>)>;

/// Decides which partitions to add.
pub fn create_partitions(
    image: &MetadataImage,
    request: &CreatePartitionsRequest,
) -> Decision<CreatePartitionsResults> {
    let repeated = duplicates(request.topics.iter().map(|topic| topic.name.as_str()));
    let mut results: CreatePartitionsResults = Vec::new();
    for name in &repeated {
        let message = "the request names this topic more than once";
        let error = ControllerError::new(Refusal::InvalidRequest, message);
        results.push(((*name).to_owned(), Err(error)));
    }
    let mut records = Vec::new();
    for topic in &request.topics {
        if repeated.contains(&topic.name.as_str()) {
            continue;
        }
        let room = PARTITIONS_PER_REQUEST_MAX.saturating_sub(records.len());
        let result = add_partitions(image, topic, room).map(|new| records.extend(new));
        results.push((topic.name.clone(), result));
    }
    if request.validate_only {
        records.clear();
    }
    Decision { records, results }
}

fn add_partitions(
    image: &MetadataImage,
    wanted: &MorePartitions,
    room: usize,
) -> Result<Vec<MetadataRecord>, ControllerError> {
    let topic = image.topic_by_name(&wanted.name).ok_or_else(|| {
        ControllerError::new(
            Refusal::UnknownTopicOrPartition,
            "there is no topic of this name",
        )
    })?;
    let existing = topic.partition_count();
    let count = usize::try_from(wanted.count).unwrap_or(0);
    if count <= existing {
        return Err(ControllerError::new(
            Refusal::InvalidPartitions,
            format!("the topic has {existing} partition(s); it can only grow"),
        ));
    }
    let added = count - existing;
    if added > room || image.partition_count().saturating_add(added) > PARTITIONS_MAX {
        return Err(ControllerError::new(
            Refusal::PolicyViolation,
            format!("{added} more partitions are too many"),
        ));
    }
    let factor = topic
        .partition(PartitionIndex(0))
        .map_or(1, |first| first.target_replicas().len());
    let replicas: Vec<Vec<BrokerId>> = match &wanted.assignments {
        Some(assignments) => {
            check_assignments(image, assignments, added, factor)?;
            assignments.clone()
        }
        None => placed(image, topic, added, factor)?,
    };
    (topic.next_partition().0..)
        .map(PartitionIndex)
        .zip(&replicas)
        .map(|(partition, replicas)| {
            let id = TopicPartition {
                topic: topic.id(),
                partition,
            };
            new_partition(image, id, replicas)
        })
        .collect()
}

fn check_assignments(
    image: &MetadataImage,
    assignments: &[Vec<BrokerId>],
    added: usize,
    replication_factor: usize,
) -> Result<(), ControllerError> {
    if assignments.len() != added {
        return Err(ControllerError::new(
            Refusal::InvalidReplicaAssignment,
            format!(
                "{added} new partition(s) have {} assignment(s)",
                assignments.len()
            ),
        ));
    }
    for replicas in assignments {
        validate_manual(image, replicas, Some(replication_factor))?;
    }
    Ok(())
}

fn placed(
    image: &MetadataImage,
    topic: &Topic,
    added: usize,
    replication_factor: usize,
) -> Result<Vec<Vec<BrokerId>>, ControllerError> {
    let start = topic_hash(&topic.id().0);
    let placed = place(
        image,
        start,
        topic.partition_count(),
        added,
        replication_factor,
    );
    let placed = placed.map_err(|error| {
        ControllerError::new(Refusal::InvalidReplicationFactor, error.to_string())
    })?;
    Ok(placed
        .into_iter()
        .map(|replicas| replicas.to_vec())
        .collect())
}
