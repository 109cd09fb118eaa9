//! Runs the scripts of `tests/scripts`: blocks of commands, `----`, and the outputs expected from them.
//!
//! Member ids are shown as `<client>-<request>`: the random part is the number of the request that drew it.
//! `join|sync|heartbeat|leave|commit|fetch|describe REQUEST key=value...`, `persist [unavailable]`, `advance MILLISECONDS`.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use model::{LeaderEpoch, Offset, PartitionIndex, Timestamp};
use ringlog_coordinator::{
    AppendFailure, AppendId, CommitPartition, DescribeGroupsRequest, GroupCoordinator, GroupError,
    GroupReply, GroupRequest, GroupSettings, HeartbeatRequest, JoinGroupRequest, JoinProtocol,
    LeaveGroupRequest, LeavingMember, Now, OffsetCommitRequest, OffsetFetchRequest, Output,
    RequestToken, SyncGroupRequest,
};

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            check(include_str!(concat!("../scripts/", stringify!($name), ".txt")));
        }
    )*};
}

scripts!(rebalance, static_members, sync_failures, timeouts);

/// The one check: the script with the outputs it really has must be the script.
fn check(script: &str) {
    let mut world = World::new();
    let mut actual = String::new();
    for block in script.split("\n\n") {
        let commands = block.split("\n----").next().unwrap_or_default();
        actual.push_str(commands.trim_end());
        actual.push_str("\n----\n");
        for line in commands
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            actual.push_str(&world.run(line));
        }
        actual.push('\n');
    }
    assert!(
        actual.trim_end() == script.trim_end(),
        "the outputs differ; the script as it ran:\n{actual}"
    );
}

struct World {
    coordinator: GroupCoordinator,
    now: Now,
    appends: VecDeque<AppendId>,
    names: BTreeMap<u64, String>,
    requests: u8,
}

fn uuid(number: u8) -> String {
    let byte = format!("{number:02x}");
    let part = |count: usize| byte.repeat(count);
    format!(
        "-{}-{}-{}-{}-{}",
        part(4),
        part(2),
        part(2),
        part(2),
        part(6)
    )
}

/// `client-03` to the member id that request 3 drew.
fn long(id: &str) -> String {
    match id.rsplit_once('-') {
        Some((prefix, number)) => {
            format!("{prefix}{}", uuid(u8::from_str_radix(number, 16).unwrap()))
        }
        None => id.to_owned(),
    }
}

/// The inverse of [`long`].
fn short(id: &str) -> String {
    match id.len().checked_sub(36) {
        Some(at) if at > 0 => format!("{}{}", &id[..at], &id[at..at + 2]),
        _ => id.to_owned(),
    }
}

impl World {
    fn new() -> World {
        let mut coordinator = GroupCoordinator::new(GroupSettings::default());
        let now = Now {
            wall: Timestamp(1_000_000),
            ..Now::default()
        };
        coordinator.finish_loading(now);
        World {
            coordinator,
            now,
            appends: VecDeque::new(),
            names: BTreeMap::new(),
            requests: 0,
        }
    }

    fn run(&mut self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap();
        let argument = words.next().unwrap_or_default();
        let fields: BTreeMap<&str, &str> = words
            .map(|word| word.split_once('=').unwrap_or((word, "")))
            .collect();
        match command {
            "persist" => {
                let append = self.appends.pop_front().expect("an append in flight");
                let result = match argument {
                    "" => Ok(Offset(0)),
                    _ => Err(append_failure(argument)),
                };
                self.coordinator.persisted(self.now, append, result);
                self.outputs()
            }
            "advance" => self.advance(argument.parse().unwrap()),
            _ => {
                self.requests += 1;
                let token = u64::from(self.requests);
                self.names.insert(token, argument.to_owned());
                let request = self.request(command, &fields);
                self.coordinator
                    .handle(self.now, RequestToken(token), request);
                self.outputs()
            }
        }
    }

    fn advance(&mut self, millis: u64) -> String {
        let start = self.now;
        let end = start.monotonic.plus(Duration::from_millis(millis));
        let mut printed = String::new();
        loop {
            let next = self.coordinator.next_timeout().filter(|at| *at <= end);
            self.now.monotonic = next.unwrap_or(end).max(self.now.monotonic);
            let passed = self.now.monotonic.since(start.monotonic).as_millis();
            self.now.wall = Timestamp(start.wall.0 + passed as i64);
            if next.is_none() {
                return printed;
            }
            self.coordinator.handle_timeout(self.now);
            let outputs = self.outputs();
            if !outputs.is_empty() {
                printed.push_str(&format!("after {passed} ms:\n{outputs}"));
            }
        }
    }

    fn request(&self, command: &str, fields: &BTreeMap<&str, &str>) -> GroupRequest {
        let text = |key: &str| fields.get(key).copied().unwrap_or_default().to_owned();
        let number =
            |key: &str, default: i32| fields.get(key).map_or(default, |n| n.parse().unwrap());
        let group_id = "g".to_owned();
        let member_id = long(&text("member"));
        let group_instance_id = fields.get("instance").map(|id| (*id).to_owned());
        let generation_id = number("gen", -1);
        match command {
            "join" => GroupRequest::Join(JoinGroupRequest {
                group_id,
                session_timeout_ms: number("session", 10_000),
                rebalance_timeout_ms: number("rebalance", 60_000),
                member_id,
                group_instance_id,
                protocol_type: "consumer".to_owned(),
                protocols: fields
                    .get("protocols")
                    .unwrap_or(&"range")
                    .split(',')
                    .map(protocol)
                    .collect(),
                client_id: text("client"),
                client_host: "/127.0.0.1".to_owned(),
                member_id_bits: [self.requests; 16],
                requires_known_member_id: fields.contains_key("v4"),
                may_skip_assignment: fields.contains_key("v9"),
            }),
            "sync" => GroupRequest::Sync(SyncGroupRequest {
                group_id,
                generation_id,
                member_id,
                group_instance_id,
                assignments: pairs(&text("assign")),
                ..SyncGroupRequest::default()
            }),
            "heartbeat" => GroupRequest::Heartbeat(HeartbeatRequest {
                group_id,
                generation_id,
                member_id,
                group_instance_id,
            }),
            "leave" => GroupRequest::Leave(LeaveGroupRequest {
                group_id,
                members: vec![LeavingMember {
                    member_id,
                    group_instance_id,
                }],
            }),
            "commit" => GroupRequest::OffsetCommit(OffsetCommitRequest {
                group_id,
                generation_id,
                member_id,
                group_instance_id,
                topics: vec![(
                    "t".to_owned(),
                    vec![CommitPartition {
                        partition: PartitionIndex(0),
                        offset: Offset(i64::from(number("offset", 0))),
                        leader_epoch: LeaderEpoch(-1),
                        metadata: None,
                    }],
                )],
                ..OffsetCommitRequest::default()
            }),
            "fetch" => GroupRequest::OffsetFetch(OffsetFetchRequest {
                group_id,
                topics: None,
            }),
            "describe" => GroupRequest::Describe(DescribeGroupsRequest {
                groups: vec![group_id],
                ..DescribeGroupsRequest::default()
            }),
            other => panic!("unknown command {other}"),
        }
    }

    fn outputs(&mut self) -> String {
        let mut printed = String::new();
        while let Some(output) = self.coordinator.poll_output() {
            match output {
                Output::Persist { append, records } => {
                    self.appends.push_back(append);
                    printed.push_str(&format!("persist {} record(s)\n", records.len()));
                }
                Output::Reply { request, reply } => {
                    let name = &self.names[&request.0];
                    printed.push_str(&format!("{name}: {}\n", show(&reply)));
                }
            }
        }
        printed
    }
}

fn protocol(text: &str) -> JoinProtocol {
    let (name, metadata) = text.split_once(':').unwrap_or((text, "m"));
    JoinProtocol {
        name: name.to_owned(),
        metadata: Bytes::copy_from_slice(metadata.as_bytes()),
    }
}

fn pairs(text: &str) -> Vec<(String, Bytes)> {
    let pair = |pair: &str| {
        let (member, bytes) = pair.split_once(':').unwrap();
        (long(member), Bytes::copy_from_slice(bytes.as_bytes()))
    };
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(pair)
        .collect()
}

fn show(reply: &GroupReply) -> String {
    match reply {
        GroupReply::Join(join) if join.error.is_none() => {
            let members: Vec<String> = join
                .members
                .iter()
                .map(|m| {
                    format!(
                        "{}:{}",
                        short(&m.member_id),
                        String::from_utf8_lossy(&m.metadata)
                    )
                })
                .collect();
            let skip = if join.skip_assignment { " skip" } else { "" };
            format!(
                "joined gen={} {} leader={} as {} members=[{}]{skip}",
                join.generation_id,
                join.protocol_name.as_deref().unwrap_or("-"),
                short(&join.leader),
                short(&join.member_id),
                members.join(" ")
            )
        }
        GroupReply::Join(join) => format!("{} {}", named(join.error), short(&join.member_id)),
        GroupReply::Sync(sync) if sync.error.is_none() => {
            format!("assigned {}", String::from_utf8_lossy(&sync.assignment))
        }
        GroupReply::Sync(sync) => named(sync.error),
        GroupReply::Heartbeat(error) => named(*error),
        GroupReply::Leave(leave) => named(leave.single_error()),
        GroupReply::OffsetCommit(commit) => named(commit.topics[0].1[0].1),
        GroupReply::OffsetFetch(fetch) => {
            let offsets = fetch.topics.iter().flat_map(|(_, offsets)| offsets);
            let offsets: Vec<i64> = offsets.map(|offset| offset.offset.0).collect();
            format!("offsets {offsets:?}")
        }
        GroupReply::Describe(groups) => {
            let group = &groups[0];
            format!("{} {} member(s)", group.state, group.members.len())
        }
        other => format!("{other:?}"),
    }
}

/// An error as scripts show it; no error is `None`.
fn named(error: Option<GroupError>) -> String {
    error.map_or_else(|| "None".to_owned(), |error| format!("{error:?}"))
}

/// The failure of an append, by the name that scripts give it.
fn append_failure(name: &str) -> AppendFailure {
    match name {
        "unavailable" => AppendFailure::Unavailable,
        other => panic!("no append fails with {other:?}"),
    }
}
