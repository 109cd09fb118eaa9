//! What a coordinator answers: plain structs with the fields of all versions.

use bytes::Bytes;
use model::{LeaderEpoch, Offset, PartitionIndex};

use crate::error::GroupError;
use crate::request::{LeavingMember, OffsetCommitRequest};

/// The answer to a [`crate::GroupRequest`], of the same kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupReply {
    /// JoinGroup.
    Join(JoinGroupReply),
    /// SyncGroup.
    Sync(SyncGroupReply),
    /// Heartbeat.
    Heartbeat(Option<GroupError>),
    /// LeaveGroup.
    Leave(LeaveGroupReply),
    /// OffsetCommit.
    OffsetCommit(OffsetCommitReply),
    /// OffsetFetch.
    OffsetFetch(OffsetFetchReply),
    /// DescribeGroups.
    Describe(Vec<DescribedGroup>),
    /// ListGroups.
    List(ListGroupsReply),
    /// DeleteGroups: (group, error).
    Delete(Vec<(String, Option<GroupError>)>),
    /// OffsetDelete.
    OffsetDelete(OffsetDeleteReply),
}

/// A member as the leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
    /// Its metadata for the chosen protocol.
    pub metadata: Bytes,
}

/// JoinGroup's answer. `None` is an empty string in versions that have no null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinGroupReply {
    /// MEMBER_ID_REQUIRED comes with a member id.
    pub error: Option<GroupError>,
    /// -1 with an error.
    pub generation_id: i32,
    /// The group's.
    pub protocol_type: Option<String>,
    /// The chosen one.
    pub protocol_name: Option<String>,
    /// Member id of the leader; empty with an error.
    pub leader: String,
    /// Whether a leader keeps the assignment that exists.
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: String,
    /// All members, for the leader; else empty.
    pub members: Vec<JoinedMember>,
}

impl JoinGroupReply {
    pub(crate) fn error(error: impl Into<Option<GroupError>>, member_id: &str) -> JoinGroupReply {
        JoinGroupReply {
            error: error.into(),
            generation_id: -1,
            protocol_type: None,
            protocol_name: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// SyncGroup's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroupReply {
    /// Its error.
    pub error: Option<GroupError>,
    /// The group's.
    pub protocol_type: Option<String>,
    /// The chosen one.
    pub protocol_name: Option<String>,
    /// What the leader assigned to the member.
    pub assignment: Bytes,
}

impl SyncGroupReply {
    pub(crate) fn error(error: impl Into<Option<GroupError>>) -> SyncGroupReply {
        SyncGroupReply {
            error: error.into(),
            protocol_type: None,
            protocol_name: None,
            assignment: Bytes::new(),
        }
    }
}

/// How leaving went for one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    /// As in the request.
    pub member_id: String,
    /// As in the request.
    pub group_instance_id: Option<String>,
    /// Its error.
    pub error: Option<GroupError>,
}

impl LeftMember {
    pub(crate) fn new(member: &LeavingMember, error: impl Into<Option<GroupError>>) -> LeftMember {
        LeftMember {
            member_id: member.member_id.clone(),
            group_instance_id: member.group_instance_id.clone(),
            error: error.into(),
        }
    }
}

/// LeaveGroup's answer. Versions 0 to 2 show [`LeaveGroupReply::single_error`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaveGroupReply {
    /// Of the whole request.
    pub error: Option<GroupError>,
    /// In the order of the request.
    pub members: Vec<LeftMember>,
}

impl LeaveGroupReply {
    /// The error as versions without a list of members show it.
    pub fn single_error(&self) -> Option<GroupError> {
        match self.members.first() {
            Some(member) if self.error.is_none() => member.error,
            _ => self.error,
        }
    }
}

/// A partition and its error, if any.
pub type PartitionError = (PartitionIndex, Option<GroupError>);

/// OffsetCommit's answer, in the order of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommitReply {
    /// Errors of partitions by topic.
    pub topics: Vec<(String, Vec<PartitionError>)>,
}

impl OffsetCommitReply {
    pub(crate) fn error(request: &OffsetCommitRequest, code: GroupError) -> OffsetCommitReply {
        let topic = |(topic, partitions): &(String, Vec<crate::CommitPartition>)| {
            let failed = partitions
                .iter()
                .map(|commit| (commit.partition, Some(code)));
            (topic.clone(), failed.collect())
        };
        OffsetCommitReply {
            topics: request.topics.iter().map(topic).collect(),
        }
    }
}

/// A committed offset, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: PartitionIndex,
    /// -1 when nothing was committed.
    pub offset: Offset,
    /// -1 when it is not known.
    pub leader_epoch: LeaderEpoch,
    /// The client's note.
    pub metadata: String,
    /// Its error.
    pub error: Option<GroupError>,
}

/// OffsetFetch's answer for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetFetchReply {
    /// The group.
    pub group_id: String,
    /// Of the whole group.
    pub error: Option<GroupError>,
    /// Offsets by topic.
    pub topics: Vec<(String, Vec<FetchedOffset>)>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member.
    pub member_id: String,
    /// Of a static member.
    pub group_instance_id: Option<String>,
    /// As it joined.
    pub client_id: String,
    /// As it joined.
    pub client_host: String,
    /// Its metadata for the chosen protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// A group as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its error.
    pub error: Option<GroupError>,
    /// For people, version 6 and up.
    pub error_message: Option<String>,
    /// The group.
    pub group_id: String,
    /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable` or `Dead`.
    pub state: &'static str,
    /// Such as `consumer`; empty when nobody joined.
    pub protocol_type: String,
    /// The chosen protocol of a stable group; else empty.
    pub protocol_data: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

impl DescribedGroup {
    pub(crate) fn error(
        group_id: &str,
        error: impl Into<Option<GroupError>>,
        message: Option<&str>,
    ) -> DescribedGroup {
        DescribedGroup {
            error: error.into(),
            error_message: message.map(str::to_owned),
            group_id: group_id.to_owned(),
            state: "Dead",
            protocol_type: String::new(),
            protocol_data: String::new(),
            members: Vec::new(),
        }
    }
}

/// ListGroups' answer: the groups of one coordinator, or of several put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListGroupsReply {
    /// Of the whole request: there are no groups with it.
    pub error: Option<GroupError>,
    /// The groups that pass the filters.
    pub groups: Vec<ListedGroup>,
}

impl ListGroupsReply {
    /// What coordinators without groups answer.
    pub fn empty() -> ListGroupsReply {
        ListGroupsReply {
            error: None,
            groups: Vec::new(),
        }
    }

    /// Adds another coordinator's answer. While one of them loads, the list would have holes: it is refused.
    pub fn absorb(&mut self, other: ListGroupsReply) {
        if self.error.is_none() {
            self.error = other.error;
        }
        if self.error.is_none() {
            self.groups.extend(other.groups);
        } else {
            self.groups.clear();
        }
    }
}

/// A group as ListGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group_id: String,
    /// Such as `consumer`; empty when nobody joined.
    pub protocol_type: String,
    /// Its state, as in [`DescribedGroup`].
    pub state: &'static str,
    /// `classic`.
    pub group_type: &'static str,
}

/// OffsetDelete's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDeleteReply {
    /// Of the whole request.
    pub error: Option<GroupError>,
    /// Errors of partitions by topic; empty with an error.
    pub topics: Vec<(String, Vec<PartitionError>)>,
}
