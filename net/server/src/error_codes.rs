//! Kafka's error codes for what a shard refuses: one function per operation, and nowhere else.

use coordinator::GroupError;
use metadata::controller::ControllerError;
use model::ErrorCode;
use shard::refusal::{
    AppendRefusal, DeleteRecordsRefusal, LeadRefusal, MetadataRefusal, ProduceRefusal, ReadRefusal,
    WaitFailure, WriteRefusal,
};

/// What a coordinator answers.
pub fn group(error: Option<GroupError>) -> ErrorCode {
    use GroupError as E;
    match error {
        None => ErrorCode::None,
        Some(E::CoordinatorLoadInProgress) => ErrorCode::CoordinatorLoadInProgress,
        Some(E::CoordinatorNotAvailable) => ErrorCode::CoordinatorNotAvailable,
        Some(E::FencedInstanceId) => ErrorCode::FencedInstanceId,
        Some(E::GroupIdNotFound) => ErrorCode::GroupIdNotFound,
        Some(E::GroupMaxSizeReached) => ErrorCode::GroupMaxSizeReached,
        Some(E::GroupSubscribedToTopic) => ErrorCode::GroupSubscribedToTopic,
        Some(E::IllegalGeneration) => ErrorCode::IllegalGeneration,
        Some(E::InconsistentGroupProtocol) => ErrorCode::InconsistentGroupProtocol,
        Some(E::InvalidCommitOffsetSize) => ErrorCode::InvalidCommitOffsetSize,
        Some(E::InvalidGroupId) => ErrorCode::InvalidGroupId,
        Some(E::InvalidRequest) => ErrorCode::InvalidRequest,
        Some(E::InvalidSessionTimeout) => ErrorCode::InvalidSessionTimeout,
        Some(E::InvalidTopicException) => ErrorCode::InvalidTopicException,
        Some(E::MemberIdRequired) => ErrorCode::MemberIdRequired,
        Some(E::NonEmptyGroup) => ErrorCode::NonEmptyGroup,
        Some(E::NotCoordinator) => ErrorCode::NotCoordinator,
        Some(E::OffsetMetadataTooLarge) => ErrorCode::OffsetMetadataTooLarge,
        Some(E::RebalanceInProgress) => ErrorCode::RebalanceInProgress,
        Some(E::UnknownMemberId) => ErrorCode::UnknownMemberId,
        Some(E::UnknownServerError) => ErrorCode::UnknownServerError,
    }
}

/// A partition is not served here.
pub fn lead(refusal: &LeadRefusal) -> ErrorCode {
    match refusal {
        LeadRefusal::Unknown => ErrorCode::UnknownTopicOrPartition,
        LeadRefusal::NotLeader(_) => ErrorCode::NotLeaderOrFollower,
        LeadRefusal::EpochOver(_) => ErrorCode::FencedLeaderEpoch,
        LeadRefusal::EpochAhead(_) => ErrorCode::UnknownLeaderEpoch,
    }
}

pub fn produce(refusal: &ProduceRefusal) -> ErrorCode {
    match refusal {
        ProduceRefusal::Lead(refusal) => lead(refusal),
        ProduceRefusal::NotEnoughInSync => ErrorCode::NotEnoughReplicas,
        ProduceRefusal::Invalid(error) => error.error_code(),
        ProduceRefusal::Append(refusal) => append(refusal),
        ProduceRefusal::NotAcknowledged(failure) => wait(failure),
    }
}

/// Fetch and ListOffsets.
pub fn read(refusal: &ReadRefusal) -> ErrorCode {
    match refusal {
        ReadRefusal::Lead(refusal) => lead(refusal),
        ReadRefusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        ReadRefusal::Unreadable => ErrorCode::KafkaStorageError,
    }
}

pub fn delete_records(refusal: &DeleteRecordsRefusal) -> ErrorCode {
    match refusal {
        DeleteRecordsRefusal::Lead(refusal) => lead(refusal),
        DeleteRecordsRefusal::NotDeletable => ErrorCode::PolicyViolation,
        DeleteRecordsRefusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        DeleteRecordsRefusal::Append(refusal) => append(refusal),
        DeleteRecordsRefusal::NotDurable => ErrorCode::KafkaStorageError,
    }
}

/// What a client is told of a refusal.
#[derive(Clone, Debug)]
pub struct Refused {
    pub code: ErrorCode,
    pub message: String,
}

/// What the controller refuses.
pub fn controller(error: ControllerError) -> Refused {
    use metadata::controller::Refusal as R;
    let code = match error.refusal {
        R::BrokerIdNotRegistered => ErrorCode::BrokerIdNotRegistered,
        R::DuplicateBrokerRegistration => ErrorCode::DuplicateBrokerRegistration,
        R::ElectionNotNeeded => ErrorCode::ElectionNotNeeded,
        R::EligibleLeadersNotAvailable => ErrorCode::EligibleLeadersNotAvailable,
        R::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
        R::InconsistentClusterId => ErrorCode::InconsistentClusterId,
        R::IneligibleReplica => ErrorCode::IneligibleReplica,
        R::Internal => ErrorCode::UnknownServerError,
        R::InvalidConfig => ErrorCode::InvalidConfig,
        R::InvalidPartitions => ErrorCode::InvalidPartitions,
        R::InvalidRegistration => ErrorCode::InvalidRegistration,
        R::InvalidReplicaAssignment => ErrorCode::InvalidReplicaAssignment,
        R::InvalidReplicationFactor => ErrorCode::InvalidReplicationFactor,
        R::InvalidRequest => ErrorCode::InvalidRequest,
        R::InvalidTopicName => ErrorCode::InvalidTopicException,
        R::NewLeaderElected => ErrorCode::NewLeaderElected,
        R::NoReassignmentInProgress => ErrorCode::NoReassignmentInProgress,
        R::NotController => ErrorCode::NotController,
        R::OperationNotAttempted => ErrorCode::OperationNotAttempted,
        R::PartitionEpochStale => ErrorCode::InvalidUpdateVersion,
        R::PolicyViolation => ErrorCode::PolicyViolation,
        R::PreferredLeaderNotAvailable => ErrorCode::PreferredLeaderNotAvailable,
        R::StaleBrokerEpoch => ErrorCode::StaleBrokerEpoch,
        R::TopicAlreadyExists => ErrorCode::TopicAlreadyExists,
        R::TopicDeletionDisabled => ErrorCode::TopicDeletionDisabled,
        R::UnknownTopicId => ErrorCode::UnknownTopicId,
        R::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
        R::UnsupportedVersion => ErrorCode::UnsupportedVersion,
    };
    Refused {
        code,
        message: error.message,
    }
}

/// A request to the controller that was refused as a whole.
pub fn metadata(refusal: &MetadataRefusal) -> Refused {
    let code = match refusal {
        MetadataRefusal::Decided(error) => return controller(error.clone()),
        MetadataRefusal::TooLarge => ErrorCode::UnknownServerError,
        MetadataRefusal::NotWritten(error) => write(error),
        // Retriable; a client asks again, and finds the controller that there is then.
        MetadataRefusal::NotController | MetadataRefusal::Busy(_) => ErrorCode::NotController,
    };
    Refused {
        code,
        message: refusal.to_string(),
    }
}

fn write(error: &WriteRefusal) -> ErrorCode {
    match error {
        WriteRefusal::Append(refusal) => append(refusal),
        WriteRefusal::NotAcknowledged(failure) => wait(failure),
    }
}

fn append(refusal: &AppendRefusal) -> ErrorCode {
    match refusal {
        AppendRefusal::OutOfOrderSequence(_) => ErrorCode::OutOfOrderSequenceNumber,
        AppendRefusal::InvalidProducerEpoch(_) => ErrorCode::InvalidProducerEpoch,
        AppendRefusal::TransactionOpen(_) => ErrorCode::InvalidTxnState,
        AppendRefusal::CoordinatorFenced(_) => ErrorCode::TransactionCoordinatorFenced,
        AppendRefusal::TooLarge(_) => ErrorCode::RecordListTooLarge,
        AppendRefusal::DiskFull | AppendRefusal::Unavailable(_) => ErrorCode::KafkaStorageError,
        AppendRefusal::Deleted => ErrorCode::UnknownTopicOrPartition,
        AppendRefusal::OffsetOutOfRange(_) => ErrorCode::OffsetOutOfRange,
        AppendRefusal::LeaderEpochStale(_) => ErrorCode::FencedLeaderEpoch,
        AppendRefusal::Malformed(_) => ErrorCode::InvalidRecord,
    }
}

/// The records may be in the log.
fn wait(failure: &WaitFailure) -> ErrorCode {
    match failure {
        WaitFailure::Fenced => ErrorCode::KafkaStorageError,
        WaitFailure::Deleted => ErrorCode::UnknownTopicOrPartition,
        WaitFailure::NotLeader => ErrorCode::NotLeaderOrFollower,
        WaitFailure::TimedOut => ErrorCode::RequestTimedOut,
    }
}
