//! Why the controller refuses what it is asked. Kafka's codes for it are chosen where requests are answered.

use serde::{Deserialize, Serialize};

/// Why one item of a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// No registration of this broker is known.
    BrokerIdNotRegistered,
    /// Another process has registered under this id, and lives.
    DuplicateBrokerRegistration,
    /// The right replica leads already.
    ElectionNotNeeded,
    /// No replica may lead now.
    EligibleLeadersNotAvailable,
    /// The leader epoch is over.
    FencedLeaderEpoch,
    /// The broker belongs to another cluster.
    InconsistentClusterId,
    /// A broker that is named may not be in sync now.
    IneligibleReplica,
    /// Not the fault of who asks.
    Internal,
    /// A setting that there is not, or a value that it cannot have.
    InvalidConfig,
    /// A number of partitions that cannot be.
    InvalidPartitions,
    /// The broker may not register like this.
    InvalidRegistration,
    /// Replicas that cannot be placed like this.
    InvalidReplicaAssignment,
    /// A number of replicas that cannot be.
    InvalidReplicationFactor,
    /// The request contradicts itself, or what it is about.
    InvalidRequest,
    /// No topic may have this name.
    InvalidTopicName,
    /// Somebody else leads by now.
    NewLeaderElected,
    /// No replicas of the partition are being moved.
    NoReassignmentInProgress,
    /// The answer is up to another controller, whose word is newer.
    NotController,
    /// Nothing was tried.
    OperationNotAttempted,
    /// The partition has changed since the asker looked.
    PartitionEpochStale,
    /// More than this cluster allows.
    PolicyViolation,
    /// The preferred replica may not lead now.
    PreferredLeaderNotAvailable,
    /// The broker has registered anew since.
    StaleBrokerEpoch,
    /// There is a topic of this name.
    TopicAlreadyExists,
    /// Topics may not be deleted here.
    TopicDeletionDisabled,
    /// No topic has this id.
    UnknownTopicId,
    /// There is no such topic or partition.
    UnknownTopicOrPartition,
    /// A feature level that this broker does not have.
    UnsupportedVersion,
}

/// A refusal with a text for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{refusal:?}: {message}")]
pub struct ControllerError {
    /// Why.
    pub refusal: Refusal,
    /// For people.
    pub message: String,
}

impl ControllerError {
    /// A refusal with its text.
    pub fn new(refusal: Refusal, message: impl Into<String>) -> ControllerError {
        ControllerError {
            refusal,
            message: message.into(),
        }
    }
}
