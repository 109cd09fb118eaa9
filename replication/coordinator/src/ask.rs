//! Each request to a coordinator with the type of its reply.
//!
//! The coordinator takes one enum and answers with another, as its replies come later and by token. This is the one
//! place that pairs them: whoever asks gets the reply's own type.

use crate::error::GroupError;
use crate::reply::{
    DescribedGroup, GroupReply, JoinGroupReply, LeaveGroupReply, ListGroupsReply,
    OffsetCommitReply, OffsetDeleteReply, OffsetFetchReply, SyncGroupReply,
};
use crate::request::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupRequest, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, SyncGroupRequest,
};

/// A request of one kind.
pub trait GroupAsk {
    /// What is answered to it.
    type Reply;

    /// The request as a coordinator takes it.
    fn into_request(self) -> GroupRequest;

    /// The reply to such a request. A coordinator answers each request in its own kind.
    fn reply(reply: GroupReply) -> Self::Reply;
}

macro_rules! pairs {
    ($($request:ident, $kind:ident => $reply:ty;)*) => {$(
        impl GroupAsk for $request {
            type Reply = $reply;

            fn into_request(self) -> GroupRequest {
                GroupRequest::$kind(self)
            }

            fn reply(reply: GroupReply) -> $reply {
                match reply {
                    GroupReply::$kind(reply) => reply,
                    other => panic!(concat!(stringify!($request), " was answered with {:?}"), other),
                }
            }
        }
    )*};
}

pairs! {
    JoinGroupRequest, Join => JoinGroupReply;
    SyncGroupRequest, Sync => SyncGroupReply;
    HeartbeatRequest, Heartbeat => Option<GroupError>;
    LeaveGroupRequest, Leave => LeaveGroupReply;
    OffsetCommitRequest, OffsetCommit => OffsetCommitReply;
    OffsetFetchRequest, OffsetFetch => OffsetFetchReply;
    DescribeGroupsRequest, Describe => Vec<DescribedGroup>;
    ListGroupsRequest, List => ListGroupsReply;
    DeleteGroupsRequest, Delete => Vec<(String, Option<GroupError>)>;
    OffsetDeleteRequest, OffsetDelete => OffsetDeleteReply;
}
