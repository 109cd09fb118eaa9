//! AlterPartitionReassignments (KIP-455): which brokers shall hold the replicas of a partition.
//!
//! What becomes of one partition is decided in [`super::moves`].

use std::collections::BTreeSet;

use model::{BrokerId, PartitionIndex, TopicPartition};
use serde::{Deserialize, Serialize};

use super::moves::{cancel_move, move_replicas};
use super::{ControllerError, Decision, PARTITIONS_PER_REQUEST_MAX, Refusal};
use crate::image::MetadataImage;
use crate::record::MetadataRecord;

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
    let mut moves = Moves {
        image,
        allow_replication_factor_change: request.allow_replication_factor_change,
        named: BTreeSet::new(),
        records: Vec::new(),
    };
    let topics = request.topics.iter().map(|(name, partitions)| {
        let results = partitions
            .iter()
            .map(|wanted| (wanted.partition, moves.alter(name, wanted)));
        (name.clone(), results.collect())
    });
    let results = topics.collect();
    Decision {
        records: moves.records,
        results,
    }
}

/// The part of a request that has been decided so far.
struct Moves<'a> {
    image: &'a MetadataImage,
    allow_replication_factor_change: bool,
    /// Every decision is made from the same image: of one partition there can be one.
    named: BTreeSet<TopicPartition>,
    records: Vec<MetadataRecord>,
}

impl Moves<'_> {
    fn alter(&mut self, name: &str, wanted: &PartitionReassignment) -> Result<(), ControllerError> {
        let refuse = |refusal, message: &str| Err(ControllerError::new(refusal, message));
        let Some(topic) = self.image.topic_by_name(name) else {
            let message = "there is no topic of this name";
            return refuse(Refusal::UnknownTopicOrPartition, message);
        };
        let id = TopicPartition {
            topic: topic.id(),
            partition: wanted.partition,
        };
        let Some(state) = topic.partition(wanted.partition) else {
            let message = "there is no such partition";
            return refuse(Refusal::UnknownTopicOrPartition, message);
        };
        if !self.named.insert(id) {
            let message = "the request names this partition more than once";
            return refuse(Refusal::InvalidRequest, message);
        }
        if self.records.len() == PARTITIONS_PER_REQUEST_MAX {
            let message =
                format!("one request moves at most {PARTITIONS_PER_REQUEST_MAX} partitions");
            return refuse(Refusal::PolicyViolation, &message);
        }
        let change = match &wanted.replicas {
            None => Some(cancel_move(self.image, id)?),
            Some(replicas) => {
                let change = move_replicas(self.image, id, replicas)?;
                let factor = state.target_replicas().len();
                if !self.allow_replication_factor_change && replicas.len() != factor {
                    let message = format!(
                        "there would be {} replica(s) instead of {factor}, which the request does not allow",
                        replicas.len()
                    );
                    return refuse(Refusal::InvalidReplicationFactor, &message);
                }
                change
            }
        };
        self.records
            .extend(change.map(MetadataRecord::PartitionChange));
        Ok(())
    }
}
