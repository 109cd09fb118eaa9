//! Why a coordinator refuses, in Kafka's words. Their numbers are chosen where answers are encoded.

/// An error of a request, or of one member, partition or group in it. No error is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupError {
    CoordinatorLoadInProgress,
    CoordinatorNotAvailable,
    FencedInstanceId,
    GroupIdNotFound,
    GroupMaxSizeReached,
    GroupSubscribedToTopic,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidCommitOffsetSize,
    InvalidGroupId,
    InvalidRequest,
    InvalidSessionTimeout,
    InvalidTopicException,
    MemberIdRequired,
    NonEmptyGroup,
    NotCoordinator,
    OffsetMetadataTooLarge,
    RebalanceInProgress,
    UnknownMemberId,
    UnknownServerError,
}
