//! Replaying what was appended gives the durable state that the live coordinator has.

use bytes::Bytes;
use model::{LeaderEpoch, MonotonicTime, Offset, PartitionIndex, Timestamp};
use proptest::prelude::*;
use ringlog_coordinator::{
    AppendFailure, CommitPartition, DeleteGroupsRequest, DurableGroup, GroupCoordinator,
    GroupReply, GroupRequest, GroupSettings, JoinGroupRequest, JoinProtocol, KeyValue,
    LeaveGroupRequest, LeavingMember, Now, OffsetCommitRequest, OffsetDeleteRequest, Output,
    RequestToken, SyncGroupRequest, records,
};

#[derive(Clone, Debug)]
enum Step {
    Join {
        group: u8,
        instance: Option<u8>,
    },
    Sync {
        group: u8,
    },
    Leave {
        group: u8,
    },
    Commit {
        group: u8,
        partition: i32,
        offset: i64,
        as_member: bool,
        retention: Option<i64>,
    },
    DeleteOffset {
        group: u8,
        partition: i32,
    },
    Delete {
        group: u8,
    },
    Advance {
        millis: u64,
    },
    Persist {
        count: usize,
        fails: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let group = 0..3u8;
    prop_oneof![
        (group.clone(), proptest::option::of(0..2u8))
            .prop_map(|(group, instance)| Step::Join { group, instance }),
        group.clone().prop_map(|group| Step::Sync { group }),
        group.clone().prop_map(|group| Step::Leave { group }),
        (
            group.clone(),
            0..3i32,
            any::<i64>(),
            any::<bool>(),
            proptest::option::of(0..100_000i64)
        )
            .prop_map(
                |(group, partition, offset, as_member, retention)| Step::Commit {
                    group,
                    partition,
                    offset,
                    as_member,
                    retention
                }
            ),
        (group.clone(), 0..3i32)
            .prop_map(|(group, partition)| Step::DeleteOffset { group, partition }),
        group.prop_map(|group| Step::Delete { group }),
        (0..700_000u64).prop_map(|millis| Step::Advance { millis }),
        (1..5usize, any::<bool>()).prop_map(|(count, fails)| Step::Persist { count, fails }),
    ]
}

struct Live {
    coordinator: GroupCoordinator,
    now: Now,
    tokens: u64,
    replies: u64,
    log: Vec<KeyValue>,
    in_flight: Vec<(ringlog_coordinator::AppendId, Vec<KeyValue>)>,
    /// Per group: (generation, member id) as last joined.
    members: [Option<(i32, String)>; 3],
    asked: std::collections::BTreeMap<u64, u8>,
}

impl Live {
    fn ask(&mut self, group: u8, request: GroupRequest) {
        self.tokens += 1;
        self.asked.insert(self.tokens, group);
        self.coordinator
            .handle(self.now, RequestToken(self.tokens), request);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.coordinator.poll_output() {
            match output {
                Output::Persist { append, records } => self.in_flight.push((append, records)),
                Output::Reply { request, reply } => {
                    self.replies += 1;
                    let group = self
                        .asked
                        .remove(&request.0)
                        .expect("one reply per request");
                    if let GroupReply::Join(join) = reply
                        && join.error.is_none()
                    {
                        self.members[usize::from(group)] =
                            Some((join.generation_id, join.member_id));
                    }
                }
            }
        }
    }

    fn apply(&mut self, step: &Step) {
        let name = |group: u8| format!("group-{group}");
        match step.clone() {
            Step::Join { group, instance } => self.ask(
                group,
                GroupRequest::Join(JoinGroupRequest {
                    group_id: name(group),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 5_000,
                    group_instance_id: instance.map(|id| format!("instance-{id}")),
                    protocol_type: "consumer".to_owned(),
                    protocols: vec![JoinProtocol {
                        name: "range".to_owned(),
                        metadata: Bytes::from_static(b"m"),
                    }],
                    client_id: "client".to_owned(),
                    member_id_bits: u128::from(self.tokens).to_be_bytes(),
                    ..JoinGroupRequest::default()
                }),
            ),
            Step::Sync { group } => {
                let (generation_id, member_id) =
                    self.members[usize::from(group)].clone().unwrap_or_default();
                let assignments = vec![(member_id.clone(), Bytes::from_static(b"a"))];
                self.ask(
                    group,
                    GroupRequest::Sync(SyncGroupRequest {
                        group_id: name(group),
                        generation_id,
                        member_id,
                        assignments,
                        ..SyncGroupRequest::default()
                    }),
                );
            }
            Step::Leave { group } => {
                let (_, member_id) = self.members[usize::from(group)].clone().unwrap_or_default();
                let members = vec![LeavingMember {
                    member_id,
                    group_instance_id: None,
                }];
                self.ask(
                    group,
                    GroupRequest::Leave(LeaveGroupRequest {
                        group_id: name(group),
                        members,
                    }),
                );
            }
            Step::Commit {
                group,
                partition,
                offset,
                as_member,
                retention,
            } => {
                let member = self.members[usize::from(group)]
                    .clone()
                    .filter(|_| as_member);
                let (generation_id, member_id) = member.unwrap_or((-1, String::new()));
                let commit = CommitPartition {
                    partition: PartitionIndex(partition),
                    offset: Offset(offset),
                    leader_epoch: LeaderEpoch(-1),
                    metadata: Some("note".to_owned()),
                };
                self.ask(
                    group,
                    GroupRequest::OffsetCommit(OffsetCommitRequest {
                        group_id: name(group),
                        generation_id,
                        member_id,
                        retention_ms: retention,
                        topics: vec![("topic".to_owned(), vec![commit])],
                        ..OffsetCommitRequest::default()
                    }),
                );
            }
            Step::DeleteOffset { group, partition } => {
                let topics = vec![("topic".to_owned(), vec![PartitionIndex(partition)])];
                self.ask(
                    group,
                    GroupRequest::OffsetDelete(OffsetDeleteRequest {
                        group_id: name(group),
                        topics,
                    }),
                );
            }
            Step::Delete { group } => {
                let groups = vec![name(group)];
                self.ask(group, GroupRequest::Delete(DeleteGroupsRequest { groups }));
            }
            Step::Advance { millis } => {
                self.now.monotonic = MonotonicTime(self.now.monotonic.0 + millis * 1_000_000);
                self.now.wall = Timestamp(self.now.wall.0 + millis as i64);
                self.coordinator.handle_timeout(self.now);
                self.drain();
                assert!(
                    self.coordinator
                        .next_timeout()
                        .is_none_or(|at| at > self.now.monotonic)
                );
            }
            Step::Persist { count, fails } => self.persist(count, fails),
        }
    }

    fn persist(&mut self, count: usize, fails: bool) {
        let count = count.min(self.in_flight.len());
        for (append, records) in self.in_flight.drain(..count).collect::<Vec<_>>() {
            let result = match fails {
                true => Err(AppendFailure::Unavailable),
                false => Ok(Offset(self.log.len() as i64)),
            };
            if !fails {
                self.log.extend(records);
            }
            self.coordinator.persisted(self.now, append, result);
            self.drain();
        }
    }
}

fn durable(coordinator: &GroupCoordinator) -> Vec<(String, DurableGroup)> {
    let groups = coordinator.durable_groups();
    groups
        .map(|(id, group)| (id.to_owned(), group.clone()))
        .collect()
}

proptest! {
    #[test]
    fn replay_equals_live(steps in proptest::collection::vec(step(), 1..80)) {
        let settings = GroupSettings { offsets_retention: std::time::Duration::from_secs(1000), ..GroupSettings::default() };
        let mut live = Live {
            coordinator: GroupCoordinator::new(settings.clone()),
            now: Now { monotonic: MonotonicTime(1), wall: Timestamp(1_000_000) },
            tokens: 0,
            replies: 0,
            log: Vec::new(),
            in_flight: Vec::new(),
            members: Default::default(),
            asked: Default::default(),
        };
        live.coordinator.finish_loading(live.now);
        for step in &steps {
            live.apply(step);
            let mut replayed = GroupCoordinator::new(settings.clone());
            for (key, value) in &live.log {
                replayed.replay(Some(key), value.as_deref()).unwrap();
            }
            prop_assert_eq!(durable(&replayed), durable(&live.coordinator));
            replayed.finish_loading(live.now);
            prop_assert_eq!(durable(&replayed), durable(&live.coordinator));
        }
        // Nobody is left without an answer.
        live.coordinator.resign(live.now);
        live.drain();
        prop_assert_eq!(live.replies, live.tokens);
    }

    #[test]
    fn damaged_records_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0..6u8, of_key in any::<bool>()) {
        if bytes.len() > 1 {
            bytes[0] = 0;
            bytes[1] = version;
        }
        let key = records::group_key("g");
        let mut coordinator = GroupCoordinator::new(GroupSettings::default());
        // Any result but a panic.
        let _ = match of_key {
            true => coordinator.replay(Some(&bytes), None),
            false => coordinator.replay(Some(&key), Some(&bytes)),
        };
        let offset_key = records::offset_key("g", "t", PartitionIndex(0));
        let _ = coordinator.replay(Some(&offset_key), Some(&bytes));
        coordinator.finish_loading(Now::default());
    }
}

#[test]
fn known_bytes() {
    let key = records::offset_key("g", "t", PartitionIndex(2));
    assert_eq!(key, vec![0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2]);
    let group = records::GroupMetadata {
        protocol_type: "c".to_owned(),
        generation: 3,
        protocol: None,
        leader: None,
        state_timestamp: Timestamp(4),
        members: Vec::new(),
    };
    let value = records::group_value(&group);
    let expected = [
        &[0u8, 3, 0, 1, b'c', 0, 0, 0, 3, 255, 255, 255, 255][..],
        &[0, 0, 0, 0, 0, 0, 0, 4],
        &[0; 4],
    ]
    .concat();
    assert_eq!(value, expected);
    assert_eq!(records::read_group_value(&value), Ok(group));
}
