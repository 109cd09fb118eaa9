//! Consumer groups (classic protocol) and their committed offsets.
//!
//! Pure. One [`GroupCoordinator`] per partition of `__consumer_offsets` that this broker leads, on that partition's
//! shard. Decide, then replay: a request yields records and a reply; the reply is released when the records are durable,
//! and durable state changes only by replaying records, so that loading from the log runs the same code.

mod ask;
mod coordinator;
mod effects;
mod error;
mod group;
mod offsets;
mod partitioner;
pub mod records;
mod reply;
mod request;
mod settings;

pub use ask::GroupAsk;
pub use coordinator::GroupCoordinator;
pub use effects::{AppendFailure, AppendId, KeyValue, Output, RequestToken};
pub use error::GroupError;
pub use group::DurableGroup;
pub use offsets::CommittedOffset;
pub use partitioner::group_partition;
pub use reply::{
    DescribedGroup, DescribedMember, FetchedOffset, GroupReply, JoinGroupReply, JoinedMember,
    LeaveGroupReply, LeftMember, ListGroupsReply, ListedGroup, OffsetCommitReply,
    OffsetDeleteReply, OffsetFetchReply, PartitionError, SyncGroupReply,
};
pub use request::{
    CommitPartition, DeleteGroupsRequest, DescribeGroupsRequest, GroupRequest, HeartbeatRequest,
    JoinGroupRequest, JoinProtocol, LeaveGroupRequest, LeavingMember, ListGroupsRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
pub use settings::{GroupSettings, Now};
