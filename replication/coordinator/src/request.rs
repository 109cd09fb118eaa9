//! What a coordinator is asked: plain structs with the fields of all versions.
//!
//! Version differences that change behaviour are flags here; the handler knows the version. Topics and partitions that
//! do not exist, and authorization, are the handler's business.

use bytes::Bytes;
use model::{LeaderEpoch, Offset, PartitionIndex};

use crate::error::GroupError;
use crate::reply::{
    DescribedGroup, GroupReply, JoinGroupReply, LeaveGroupReply, LeftMember, ListGroupsReply,
    OffsetCommitReply, OffsetDeleteReply, OffsetFetchReply, SyncGroupReply,
};

/// One request to the coordinator of the group it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRequest {
    /// JoinGroup (11).
    Join(JoinGroupRequest),
    /// SyncGroup (14).
    Sync(SyncGroupRequest),
    /// Heartbeat (12).
    Heartbeat(HeartbeatRequest),
    /// LeaveGroup (13).
    Leave(LeaveGroupRequest),
    /// OffsetCommit (8).
    OffsetCommit(OffsetCommitRequest),
    /// OffsetFetch (9), one group of it.
    OffsetFetch(OffsetFetchRequest),
    /// DescribeGroups (15), those groups that this coordinator owns.
    Describe(DescribeGroupsRequest),
    /// ListGroups (16), this coordinator's part.
    List(ListGroupsRequest),
    /// DeleteGroups (42), those groups that this coordinator owns.
    Delete(DeleteGroupsRequest),
    /// OffsetDelete (47).
    OffsetDelete(OffsetDeleteRequest),
}

/// A way of assigning partitions that a member knows, with its subscription in that way's own bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinProtocol {
    /// Such as `range`.
    pub name: String,
    /// Opaque, unless the group's protocol type is `consumer`.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinGroupRequest {
    /// The group.
    pub group_id: String,
    /// The member is dropped after this long without a sign.
    pub session_timeout_ms: i32,
    /// How long a rebalance waits for the member; -1 (version 0) means the session timeout.
    pub rebalance_timeout_ms: i32,
    /// Empty for a new member.
    pub member_id: String,
    /// Of a static member (KIP-345).
    pub group_instance_id: Option<String>,
    /// Such as `consumer`.
    pub protocol_type: String,
    /// In order of preference.
    pub protocols: Vec<JoinProtocol>,
    /// From the request header.
    pub client_id: String,
    /// Address of the client, as Kafka shows it: `/10.0.0.1`.
    pub client_host: String,
    /// 128 random bits for a member id, drawn by the caller for every request.
    pub member_id_bits: [u8; 16],
    /// Version 4 and up: a new dynamic member is first given an id to come back with (KIP-394).
    pub requires_known_member_id: bool,
    /// Version 9 and up: a returning static leader may be told to skip the assignment (KIP-814).
    pub may_skip_assignment: bool,
}

/// SyncGroup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncGroupRequest {
    /// The group.
    pub group_id: String,
    /// The generation that the member joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
    /// Version 5 and up: must match the group's.
    pub protocol_type: Option<String>,
    /// Version 5 and up: must match the group's.
    pub protocol_name: Option<String>,
    /// From the leader: (member id, assignment).
    pub assignments: Vec<(String, Bytes)>,
}

/// Heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// The group.
    pub group_id: String,
    /// The generation that the member joined.
    pub generation_id: i32,
    /// The member.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
}

/// A member that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeavingMember {
    /// May be empty when an instance id is given.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
}

/// LeaveGroup; versions 0 to 2 have exactly one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaveGroupRequest {
    /// The group.
    pub group_id: String,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// One partition's offset to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition.
    pub partition: PartitionIndex,
    /// The next record to consume. Any number is kept as it is.
    pub offset: Offset,
    /// Epoch of the last consumed record, or -1.
    pub leader_epoch: LeaderEpoch,
    /// The client's own note; null is kept as empty.
    pub metadata: Option<String>,
}

/// OffsetCommit. Topics by name: the handler has resolved ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetCommitRequest {
    /// The group; may be empty.
    pub group_id: String,
    /// -1 when the client does not use group management.
    pub generation_id: i32,
    /// Empty likewise.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
    /// Versions 2 to 4: how long to keep the offsets; `None` or -1 for the broker's setting.
    pub retention_ms: Option<i64>,
    /// Offsets by topic.
    pub topics: Vec<(String, Vec<CommitPartition>)>,
    /// Version 9 and up: an unknown group is GROUP_ID_NOT_FOUND instead of ILLEGAL_GENERATION.
    pub knows_group_id_not_found: bool,
}

/// OffsetFetch of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetFetchRequest {
    /// The group.
    pub group_id: String,
    /// Partitions by topic; `None` for all that were committed.
    pub topics: Option<Vec<(String, Vec<PartitionIndex>)>>,
}

/// DescribeGroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeGroupsRequest {
    /// The groups.
    pub groups: Vec<String>,
    /// Version 6 and up: an unknown group is GROUP_ID_NOT_FOUND instead of a dead group without error.
    pub knows_group_id_not_found: bool,
}

/// DeleteGroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteGroupsRequest {
    /// The groups.
    pub groups: Vec<String>,
}

/// ListGroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListGroupsRequest {
    /// Only groups in these states (any case); empty for all.
    pub states: Vec<String>,
    /// Only groups of these types (any case); empty for all. All groups here are `classic`.
    pub types: Vec<String>,
}

/// OffsetDelete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetDeleteRequest {
    /// The group.
    pub group_id: String,
    /// Partitions by topic.
    pub topics: Vec<(String, Vec<PartitionIndex>)>,
}

impl GroupRequest {
    /// The reply of a broker that does not coordinate the group.
    pub fn refuse_not_coordinator(&self) -> GroupReply {
        self.refuse(GroupError::NotCoordinator)
    }

    /// The reply that refuses the whole request, in the place where clients of every version look for the error.
    /// For a broker that is not the coordinator (NOT_COORDINATOR), or one that is still loading.
    pub fn refuse(&self, code: GroupError) -> GroupReply {
        match self {
            GroupRequest::Join(request) => {
                GroupReply::Join(JoinGroupReply::error(code, &request.member_id))
            }
            GroupRequest::Sync(_) => GroupReply::Sync(SyncGroupReply::error(code)),
            GroupRequest::Heartbeat(_) => GroupReply::Heartbeat(Some(code)),
            GroupRequest::Leave(request) => GroupReply::Leave(LeaveGroupReply {
                error: Some(code),
                members: request
                    .members
                    .iter()
                    .map(|member| LeftMember::new(member, code))
                    .collect(),
            }),
            GroupRequest::OffsetCommit(request) => {
                GroupReply::OffsetCommit(OffsetCommitReply::error(request, code))
            }
            GroupRequest::OffsetFetch(request) => GroupReply::OffsetFetch(OffsetFetchReply {
                group_id: request.group_id.clone(),
                error: Some(code),
                topics: Vec::new(),
            }),
            GroupRequest::Describe(request) => {
                let refused = |id: &String| DescribedGroup::error(id, code, None);
                GroupReply::Describe(request.groups.iter().map(refused).collect())
            }
            GroupRequest::List(_) => GroupReply::List(ListGroupsReply {
                error: Some(code),
                groups: Vec::new(),
            }),
            GroupRequest::Delete(request) => {
                let groups = &request.groups;
                GroupReply::Delete(groups.iter().map(|id| (id.clone(), Some(code))).collect())
            }
            GroupRequest::OffsetDelete(_) => GroupReply::OffsetDelete(OffsetDeleteReply {
                error: Some(code),
                topics: Vec::new(),
            }),
        }
    }
}
