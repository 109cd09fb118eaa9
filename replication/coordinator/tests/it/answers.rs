//! The rows "groups, classic" of what Kafka 4.3.1 answers, in their order.

use bytes::Bytes;
use model::{LeaderEpoch, Offset, PartitionIndex};
use ringlog_coordinator::{
    CommitPartition, DeleteGroupsRequest, DescribeGroupsRequest, GroupCoordinator, GroupError,
    GroupReply, GroupRequest, GroupSettings, HeartbeatRequest, JoinGroupRequest, JoinProtocol,
    LeaveGroupRequest, LeavingMember, Now, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, Output, RequestToken, SyncGroupRequest, group_partition,
};

struct Asked {
    coordinator: GroupCoordinator,
    now: Now,
}

impl Asked {
    /// The reply, with every append durable at once and time passing until there is one.
    fn ask(&mut self, request: GroupRequest) -> GroupReply {
        self.coordinator.handle(self.now, RequestToken(1), request);
        loop {
            match self.coordinator.poll_output() {
                Some(Output::Reply { reply, .. }) => return reply,
                Some(Output::Persist { append, .. }) => {
                    self.coordinator.persisted(self.now, append, Ok(Offset(0)));
                }
                None => {
                    self.now.monotonic = self.coordinator.next_timeout().unwrap();
                    self.coordinator.handle_timeout(self.now);
                }
            }
        }
    }

    fn commit(
        &mut self,
        group: &str,
        generation_id: i32,
        member: &str,
        offset: i64,
        metadata: usize,
    ) -> Option<GroupError> {
        let commit = CommitPartition {
            partition: PartitionIndex(0),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(0),
            metadata: Some("x".repeat(metadata)),
        };
        let request = OffsetCommitRequest {
            group_id: group.to_owned(),
            generation_id,
            member_id: member.to_owned(),
            topics: vec![("t".to_owned(), vec![commit])],
            ..OffsetCommitRequest::default()
        };
        match self.ask(GroupRequest::OffsetCommit(request)) {
            GroupReply::OffsetCommit(reply) => reply.topics[0].1[0].1,
            other => panic!("{other:?}"),
        }
    }

    fn fetch(
        &mut self,
        group: &str,
        topics: Option<Vec<(String, Vec<PartitionIndex>)>>,
    ) -> Vec<(i64, String)> {
        let request = OffsetFetchRequest {
            group_id: group.to_owned(),
            topics,
        };
        match self.ask(GroupRequest::OffsetFetch(request)) {
            GroupReply::OffsetFetch(reply) => {
                assert_eq!(reply.error, None);
                let offsets = reply.topics.into_iter().flat_map(|(_, offsets)| offsets);
                offsets
                    .map(|offset| (offset.offset.0, offset.metadata))
                    .collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn describe(
        &mut self,
        group: &str,
        knows_group_id_not_found: bool,
    ) -> (Option<GroupError>, &'static str) {
        let groups = vec![group.to_owned()];
        match self.ask(GroupRequest::Describe(DescribeGroupsRequest {
            groups,
            knows_group_id_not_found,
        })) {
            GroupReply::Describe(groups) => (groups[0].error, groups[0].state),
            other => panic!("{other:?}"),
        }
    }

    fn delete_offset(&mut self, group: &str) -> Option<GroupError> {
        let topics = vec![("t".to_owned(), vec![PartitionIndex(0)])];
        let request = OffsetDeleteRequest {
            group_id: group.to_owned(),
            topics,
        };
        match self.ask(GroupRequest::OffsetDelete(request)) {
            GroupReply::OffsetDelete(reply) => reply.error,
            other => panic!("{other:?}"),
        }
    }
}

fn new() -> Asked {
    let mut coordinator = GroupCoordinator::new(GroupSettings::default());
    coordinator.finish_loading(Now::default());
    Asked {
        coordinator,
        now: Now::default(),
    }
}

fn join(group: &str) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![JoinProtocol {
            name: "range".to_owned(),
            metadata: Bytes::new(),
        }],
        client_id: "ki".to_owned(),
        requires_known_member_id: true,
        ..JoinGroupRequest::default()
    }
}

#[test]
fn members_of_unknown_groups() {
    let mut asked = new();
    let heartbeat = |group: &str| {
        GroupRequest::Heartbeat(HeartbeatRequest {
            group_id: group.to_owned(),
            member_id: "m".to_owned(),
            ..HeartbeatRequest::default()
        })
    };
    assert_eq!(
        asked.ask(heartbeat("no")),
        GroupReply::Heartbeat(Some(GroupError::UnknownMemberId))
    );
    assert_eq!(
        asked.ask(heartbeat("")),
        GroupReply::Heartbeat(Some(GroupError::InvalidGroupId))
    );
    let sync = SyncGroupRequest {
        group_id: "no".to_owned(),
        ..SyncGroupRequest::default()
    };
    match asked.ask(GroupRequest::Sync(sync)) {
        GroupReply::Sync(reply) => assert_eq!(reply.error, Some(GroupError::UnknownMemberId)),
        other => panic!("{other:?}"),
    }
    let members = vec![LeavingMember {
        member_id: "m".to_owned(),
        group_instance_id: None,
    }];
    match asked.ask(GroupRequest::Leave(LeaveGroupRequest {
        group_id: "no".to_owned(),
        members,
    })) {
        GroupReply::Leave(reply) => {
            assert_eq!(reply.single_error(), Some(GroupError::UnknownMemberId))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(asked.coordinator.group_count(), 0);
}

#[test]
fn joins() {
    use GroupError::*;
    let rows = [
        ("no member id", join("g"), Some(MemberIdRequired), "ki-"),
        (
            "made-up member id",
            JoinGroupRequest {
                member_id: "zz".to_owned(),
                ..join("g")
            },
            Some(UnknownMemberId),
            "zz",
        ),
        (
            "no protocols",
            JoinGroupRequest {
                protocols: Vec::new(),
                ..join("g")
            },
            Some(InconsistentGroupProtocol),
            "",
        ),
        (
            "empty type",
            JoinGroupRequest {
                protocol_type: String::new(),
                ..join("g")
            },
            Some(InconsistentGroupProtocol),
            "",
        ),
        ("empty group id", join(""), Some(InvalidGroupId), ""),
        (
            "session 1 ms",
            JoinGroupRequest {
                session_timeout_ms: 1,
                ..join("g")
            },
            Some(InvalidSessionTimeout),
            "",
        ),
        (
            "static",
            JoinGroupRequest {
                group_instance_id: Some("i".to_owned()),
                ..join("g")
            },
            None,
            "i-",
        ),
        (
            "long client id",
            JoinGroupRequest {
                client_id: "é".repeat(16_000),
                ..join("g")
            },
            Some(MemberIdRequired),
            "é",
        ),
        (
            "too long an id",
            JoinGroupRequest {
                group_instance_id: Some("i".repeat(40_000)),
                ..join("g")
            },
            Some(InvalidRequest),
            "",
        ),
    ];
    for (row, request, expected, member) in rows {
        let mut asked = new();
        match asked.ask(GroupRequest::Join(request)) {
            GroupReply::Join(reply) => {
                assert_eq!(reply.error, expected, "{row}");
                assert!(
                    reply.member_id.starts_with(member),
                    "{row}: {}",
                    reply.member_id
                );
                let generation = if expected.is_none() { 1 } else { -1 };
                assert_eq!(reply.generation_id, generation, "{row}");
            }
            other => panic!("{row}: {other:?}"),
        }
    }
}

#[test]
fn offsets() {
    let mut asked = new();
    let one = |topic: &str| Some(vec![(topic.to_owned(), vec![PartitionIndex(0)])]);
    assert_eq!(
        asked.commit("no", 5, "m", 0, 0),
        Some(GroupError::IllegalGeneration)
    );
    assert_eq!(asked.commit("m", -1, "m", 0, 0), None);
    assert_eq!(asked.commit("", -1, "", 0, 0), None);
    assert_eq!(asked.commit("g", -1, "", -1, 0), None);
    assert_eq!(asked.commit("g", -1, "", -5, 0), None);
    assert_eq!(asked.fetch("g", None), [(-5, String::new())]);
    assert_eq!(asked.commit("g", -1, "", 1, 4096), None);
    assert_eq!(
        asked.commit("g", -1, "", 2, 4097),
        Some(GroupError::OffsetMetadataTooLarge)
    );
    assert_eq!(asked.fetch("g", one("t")), [(1, "x".repeat(4096))]);
    assert_eq!(asked.fetch("no", None), []);
    assert_eq!(asked.fetch("no", one("t")), [(-1, String::new())]);
    assert_eq!(asked.fetch("g", one("no")), [(-1, String::new())]);
    assert_eq!(asked.describe("no", false), (None, "Dead"));
    assert_eq!(
        asked.describe("no", true),
        (Some(GroupError::GroupIdNotFound), "Dead")
    );
    assert_eq!(asked.describe("g", true), (None, "Empty"));
    let unknown = asked.ask(delete("no"));
    assert_eq!(
        unknown,
        GroupReply::Delete(vec![("no".to_owned(), Some(GroupError::GroupIdNotFound))])
    );
    assert_eq!(asked.delete_offset("no"), Some(GroupError::GroupIdNotFound));
    assert_eq!(asked.delete_offset("g"), None);
    assert_eq!(asked.fetch("g", None), []);
    let deleted = asked.ask(delete("m"));
    assert_eq!(deleted, GroupReply::Delete(vec![("m".to_owned(), None)]));
    assert_eq!(
        asked.describe("m", true),
        (Some(GroupError::GroupIdNotFound), "Dead")
    );
}

#[test]
fn groups_map_to_partitions_as_java_hashes() {
    // Values of String.hashCode: "" 0, "g" 103, "my-group" -1206416399 (its sign bit is dropped).
    assert_eq!(group_partition("", 50), PartitionIndex(0));
    assert_eq!(group_partition("g", 50), PartitionIndex(3));
    let hash = "my-group"
        .bytes()
        .fold(0i32, |h, b| h.wrapping_mul(31).wrapping_add(i32::from(b)));
    assert_eq!(
        group_partition("my-group", 50),
        PartitionIndex((hash & i32::MAX) % 50)
    );
}

fn delete(group: &str) -> GroupRequest {
    GroupRequest::Delete(DeleteGroupsRequest {
        groups: vec![group.to_owned()],
    })
}
