//! The controller's decisions: a request and an image go in, records and answers come out.
//!
//! Pure functions. Nothing changes here: the caller appends the records to the metadata log, and they take effect when
//! they are committed and applied. The image must contain every record decided before: the caller either waits for one
//! decision to commit before it asks for the next, or applies decisions to an image of its own at once.
//! Invariant: the records of a decision apply to the image it was made from, in order, without an error.

pub mod brokers;
pub mod candidacies;
pub mod candidates;
pub mod configs;
pub mod elect_leaders;
pub mod election;
mod eligible;
pub mod isr;
mod last_stop;
pub mod moves;
pub mod partitions;
pub mod producer_ids;
pub mod reassignments;
mod refusal;
mod replica_assignment;
mod replicas_of;
pub mod sessions;
pub mod topics;

use crate::record::MetadataRecord;

pub use brokers::{
    BrokerRegistrationRequest, change_fencing, register_broker, start_controlled_shutdown,
    unregister_broker,
};
pub use candidacies::{Candidacies, CandidateReport, ReportedLog, is_candidate};
pub use candidates::{CandidateLog, candidates, elect_best};
pub use configs::{
    AlterConfigsRequest, AlterConfigsResults, ConfigChange, ConfigOperation, ConfigResource,
    ConfigRules, alter_configs,
};
pub use elect_leaders::{ElectLeadersRequest, ElectedTopics, elect_leaders};
pub use election::{ElectionKind, elect};
pub use eligible::min_insync_replicas;
pub use isr::{IsrChange, alter_partition};
pub use last_stop::{LastStop, Witness};
pub use moves::{cancel_move, move_replicas};
pub use partitions::{CreatePartitionsRequest, MorePartitions, create_partitions};
pub use producer_ids::{PRODUCER_ID_BLOCK_SIZE, ProducerIdBlock, allocate_producer_ids};
pub use reassignments::{
    AlterReassignmentsRequest, PartitionReassignment, ReassignedTopics, alter_reassignments,
};
pub use refusal::{ControllerError, Refusal};
pub use sessions::{Heartbeat, HeartbeatAnswer, Sessions, Verdict};
pub use topics::{
    CreateTopicsRequest, CreatedTopic, DeletableTopic, DeletedTopic, ManualAssignment, NewTopic,
    TopicConfigRules, create_topics, delete_topics,
};

/// Most partitions that one request may create: 32,768 records of about 120 bytes stay below 4 MiB, which one batch
/// of the metadata log can hold. (Kafka stops at 10,000.)
pub const PARTITIONS_PER_REQUEST_MAX: usize = 32_768;

/// Most partitions of all topics. An image takes some 200 bytes for each, on every shard.
pub const PARTITIONS_MAX: usize = 1_000_000;

/// What follows from a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<T> {
    /// To be appended to the metadata log as one batch; nothing to do when empty.
    pub records: Vec<MetadataRecord>,
    /// The answer, to be given when the records are committed.
    pub results: T,
}

/// Names that occur more than once, each reported once, in order of first occurrence.
fn duplicates<'a, K: Ord + ?Sized>(keys: impl Iterator<Item = &'a K> + Clone) -> Vec<&'a K> {
    let mut seen = std::collections::BTreeMap::new();
    for key in keys.clone() {
        *seen.entry(key).or_insert(0u32) += 1;
    }
    let mut reported = std::collections::BTreeSet::new();
    keys.filter(|key| seen.get(key).is_some_and(|count| *count > 1) && reported.insert(*key))
        .collect()
}
