//! Group coordinators hosted by the shards of one broker: through crashes, rewrites and the end of their topic.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use coordinator::{
    CommitPartition, DescribeGroupsRequest, GroupError, GroupReply, GroupRequest, JoinGroupReply,
    JoinGroupRequest, JoinProtocol, ListGroupsReply, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, group_partition,
};
use metadata::controller::{CreateTopicsRequest, DeletableTopic, NewTopic};
use model::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, Signal};
use shard::Shard;
use shard::coordinator_host::OFFSETS_TOPIC;
use shard::message::GroupQuestion;
use shard::reply::ReplySlot;

use crate::bed::start;

const PARTITIONS: i32 = 5;
const TOPIC_ID: TopicId = TopicId([5; 16]);

async fn create_offsets_topic(shard: &Rc<Shard<SimIo>>) {
    create_topic(shard, OFFSETS_TOPIC, TOPIC_ID).await;
}

async fn create_topic(shard: &Rc<Shard<SimIo>>, name: &str, topic_id: TopicId) {
    let topic = NewTopic {
        name: name.into(),
        topic_id,
        partition_count: PARTITIONS,
        replication_factor: 1,
        configs: vec![("cleanup.policy".into(), Some("compact".into()))],
        ..NewTopic::default()
    };
    let create = CreateTopicsRequest {
        topics: vec![topic],
        ..CreateTopicsRequest::default()
    };
    let created = shard.ask(ShardId(0), create).await.unwrap();
    assert!(created[0].1.is_ok(), "{created:?}");
}

fn partition_of(group: &str) -> TopicPartition {
    TopicPartition {
        topic: TOPIC_ID,
        partition: group_partition(group, PARTITIONS),
    }
}

/// Asks for a group, again while its coordinator loads.
async fn ask(shard: &Rc<Shard<SimIo>>, group: &str, request: GroupRequest) -> GroupReply {
    loop {
        let partition = partition_of(group);
        let question = GroupQuestion {
            partition,
            request: request.clone(),
        };
        let reply = shard.ask(shard.owner(partition), question).await;
        if reply != request.refuse(GroupError::CoordinatorLoadInProgress) {
            return reply;
        }
        shard.io.sleep(Duration::from_millis(1)).await;
    }
}

fn commit(group: &str, offsets: &[(i32, i64)], metadata: &str) -> GroupRequest {
    let partitions = offsets.iter().map(|(partition, offset)| CommitPartition {
        partition: PartitionIndex(*partition),
        offset: Offset(*offset),
        leader_epoch: LeaderEpoch(2),
        metadata: Some(metadata.to_owned()),
    });
    GroupRequest::OffsetCommit(OffsetCommitRequest {
        group_id: group.to_owned(),
        generation_id: -1,
        topics: vec![("orders".into(), partitions.collect())],
        ..OffsetCommitRequest::default()
    })
}

fn fetch_all(group: &str) -> GroupRequest {
    GroupRequest::OffsetFetch(OffsetFetchRequest {
        group_id: group.to_owned(),
        topics: None,
    })
}

fn assert_committed(reply: &GroupReply, count: usize) {
    let GroupReply::OffsetCommit(reply) = reply else {
        panic!("{reply:?}");
    };
    let errors: Vec<_> = reply.topics.iter().flat_map(|(_, errors)| errors).collect();
    assert_eq!(errors.len(), count);
    assert!(
        errors.iter().all(|(_, error)| error.is_none()),
        "{errors:?}"
    );
}

fn offsets(reply: GroupReply) -> Vec<(i32, i64)> {
    let GroupReply::OffsetFetch(reply) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(reply.error, None);
    let offsets = reply.topics.into_iter().flat_map(|(_, offsets)| offsets);
    offsets
        .map(|offset| (offset.partition.0, offset.offset.0))
        .collect()
}

fn join(group: &str) -> GroupRequest {
    GroupRequest::Join(JoinGroupRequest {
        group_id: group.to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"subscription"),
        }],
        client_id: "client".into(),
        ..JoinGroupRequest::default()
    })
}

async fn join_and_sync(shard: &Rc<Shard<SimIo>>, group: &str) -> JoinGroupReply {
    let GroupReply::Join(joined) = ask(shard, group, join(group)).await else {
        panic!("not a join's reply");
    };
    assert_eq!(joined.error, None);
    assert_eq!(joined.members.len(), 1, "the only member leads");
    let sync = GroupRequest::Sync(SyncGroupRequest {
        group_id: group.to_owned(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"all"))],
        ..SyncGroupRequest::default()
    });
    let GroupReply::Sync(synced) = ask(shard, group, sync).await else {
        panic!("not a sync's reply");
    };
    assert_eq!((synced.error, &synced.assignment[..]), (None, &b"all"[..]));
    joined
}

async fn state_of(shard: &Rc<Shard<SimIo>>, group: &str) -> &'static str {
    let describe = GroupRequest::Describe(DescribeGroupsRequest {
        groups: vec![group.to_owned()],
        knows_group_id_not_found: true,
    });
    match ask(shard, group, describe).await {
        GroupReply::Describe(groups) => groups[0].state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn committed_offsets_and_members_survive_a_power_cut() {
    for seed in 0..4 {
        let simulation = Simulation::new(seed, 1, 2);
        let groups: Vec<String> = (0..20).map(|number| format!("group-{number}")).collect();
        let broker = start(&simulation);
        simulation.block_on(0, async {
            create_offsets_topic(&broker[0]).await;
            create_topic(&broker[0], "orders", TopicId([6; 16])).await;
            for (number, group) in (0..).zip(&groups) {
                // From either shard: some of the groups live on the other one.
                let shard = &broker[usize::from(number % 2 == 1)];
                let offsets = [(0, number), (1, number + 100)];
                assert_committed(&ask(shard, group, commit(group, &offsets, "")).await, 2);
            }
            join_and_sync(&broker[0], "joined").await;
            let again = commit(&groups[3], &[(0, 1000)], "later");
            assert_committed(&ask(&broker[1], &groups[3], again).await, 1);
        });
        drop(broker);
        simulation.power_cut(0);
        simulation.restart(0);
        let broker = start(&simulation);
        simulation.block_on(0, async {
            for (number, group) in (0..).zip(&groups) {
                let first = if number == 3 { 1000 } else { number };
                let found = offsets(ask(&broker[0], group, fetch_all(group)).await);
                assert_eq!(
                    found,
                    [(0, first), (1, number + 100)],
                    "{group}, seed {seed}"
                );
            }
            assert_eq!(state_of(&broker[0], "joined").await, "Stable");
            // The member never comes back: its session ends, by the shard's own ticks.
            broker[0].io.sleep(Duration::from_secs(11)).await;
            assert_eq!(state_of(&broker[0], "joined").await, "Empty");
        });
    }
}

#[test]
fn commits_sent_at_once_are_all_answered_in_order() {
    let simulation = Simulation::new(11, 1, 2);
    let broker = start(&simulation);
    simulation.block_on(0, async {
        create_offsets_topic(&broker[0]).await;
        create_topic(&broker[0], "orders", TopicId([6; 16])).await;
        let partition = partition_of("g");
        let slot = ReplySlot::new(200, Signal::new());
        for number in 0..200 {
            let request = commit("g", &[(0, i64::try_from(number).unwrap())], "");
            let question = GroupQuestion { partition, request };
            broker[0].ask_into(broker[0].owner(partition), question, &slot, number);
        }
        for reply in slot.wait().await {
            assert_committed(&reply, 1);
        }
        assert_eq!(
            offsets(ask(&broker[0], "g", fetch_all("g")).await),
            [(0, 199)]
        );
        let owner = &broker[usize::from(broker[0].owner(partition).0)];
        let log = owner.partition(partition).unwrap().log.clone();
        assert_eq!(log.log_end_offset(), Offset(200));
    });
}

#[test]
fn a_log_of_old_offsets_is_written_again_and_cut() {
    let simulation = Simulation::new(5, 1, 1);
    let broker = start(&simulation);
    let note = "x".repeat(4000);
    let partitions: Vec<i32> = (0..500).collect();
    let partition = partition_of("g");
    let rounds = 25;
    // Written once, before everything else: these live on only if they are written again.
    let neighbours = (0..).map(|number| format!("neighbour-{number}"));
    let mut neighbours = neighbours.filter(|id| partition_of(id) == partition);
    let (old, joined) = (neighbours.next().unwrap(), neighbours.next().unwrap());
    let at = |round: i64| -> Vec<(i32, i64)> {
        let partitions = partitions.iter();
        partitions
            .map(|index| (*index, round * 1000 + i64::from(*index)))
            .collect()
    };
    simulation.block_on(0, async {
        create_offsets_topic(&broker[0]).await;
        create_topic(&broker[0], "orders", TopicId([6; 16])).await;
        let once = ask(&broker[0], &old, commit(&old, &[(7, 77), (8, 88)], "")).await;
        assert_committed(&once, 2);
        join_and_sync(&broker[0], &joined).await;
        for round in 0..rounds {
            let reply = ask(&broker[0], "g", commit("g", &at(round), &note)).await;
            assert_committed(&reply, partitions.len());
        }
        // The commit of the last round may have been followed by the rewrite's acknowledgement only later.
        broker[0].io.sleep(Duration::from_secs(1)).await;
        let log = broker[0].partition(partition).unwrap().log.clone();
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        assert!(start > Offset::ZERO, "nothing was cut: {start}..{end}");
        assert_eq!(
            offsets(ask(&broker[0], "g", fetch_all("g")).await),
            at(rounds - 1)
        );
    });
    drop(broker);
    simulation.power_cut(0);
    simulation.restart(0);
    let broker = start(&simulation);
    simulation.block_on(0, async {
        assert_eq!(
            offsets(ask(&broker[0], "g", fetch_all("g")).await),
            at(rounds - 1)
        );
        let log = broker[0].partition(partition).unwrap().log.clone();
        assert!(
            log.log_start_offset() > Offset::ZERO,
            "the cut was not durable"
        );
        let kept = offsets(ask(&broker[0], &old, fetch_all(&old)).await);
        assert_eq!(kept, [(7, 77), (8, 88)]);
        assert_eq!(state_of(&broker[0], &joined).await, "Stable");
    });
}

#[test]
fn whoever_waits_is_answered_when_the_topic_is_deleted() {
    let simulation = Simulation::new(3, 1, 2);
    let broker = start(&simulation);
    let slot = ReplySlot::new(2, Signal::new());
    simulation.block_on(0, async {
        create_offsets_topic(&broker[0]).await;
        create_topic(&broker[0], "orders", TopicId([6; 16])).await;
        // A first member waits three seconds for others. One group of each shard, if there are both.
        for (part, group) in ["a", "b"].into_iter().enumerate() {
            let partition = partition_of(group);
            let question = GroupQuestion {
                partition,
                request: join(group),
            };
            broker[0].ask_into(broker[0].owner(partition), question, &slot, part);
        }
        broker[0].io.sleep(Duration::from_millis(100)).await;
        assert!(!slot.is_complete());
        let topics = vec![DeletableTopic {
            name: Some(OFFSETS_TOPIC.into()),
            ..DeletableTopic::default()
        }];
        broker[0].ask(ShardId(0), topics).await.unwrap();
        for reply in slot.wait().await {
            let GroupReply::Join(reply) = reply else {
                panic!("{reply:?}");
            };
            assert_eq!(reply.error, Some(GroupError::NotCoordinator));
        }
        let refused = ask(&broker[0], "a", fetch_all("a")).await;
        assert_eq!(refused, fetch_all("a").refuse(GroupError::NotCoordinator));
    });
}

#[test]
fn a_list_covers_all_coordinators_of_a_shard() {
    let simulation = Simulation::new(9, 1, 2);
    let broker = start(&simulation);
    simulation.block_on(0, async {
        let list = ListGroupsRequest::default();
        let listed = |replies: Vec<ListGroupsReply>| {
            let mut names = Vec::new();
            for reply in replies {
                assert_eq!(reply.error, None);
                names.extend(reply.groups.into_iter().map(|group| group.group_id));
            }
            names.sort();
            names
        };
        let nothing: Vec<String> = Vec::new();
        assert_eq!(
            listed(broker[0].ask_all(&list).await),
            nothing,
            "before the topic"
        );
        create_offsets_topic(&broker[0]).await;
        create_topic(&broker[0], "orders", TopicId([6; 16])).await;
        assert_eq!(listed(broker[0].ask_all(&list).await), nothing);
        let mut names: Vec<String> = (0..12).map(|number| format!("g{number}")).collect();
        for name in &names {
            ask(&broker[0], name, commit(name, &[(0, 1)], "")).await;
        }
        names.sort();
        assert_eq!(listed(broker[0].ask_all(&list).await), names);
    });
}

async fn delete_orders(shard: &Rc<Shard<SimIo>>) {
    let topics = vec![DeletableTopic {
        name: Some("orders".into()),
        ..DeletableTopic::default()
    }];
    let deleted = shard.ask(ShardId(0), topics).await.unwrap();
    assert!(deleted[0].result.is_ok(), "{deleted:?}");
}

#[test]
fn committed_offsets_go_with_their_topic() {
    for seed in 0..20 {
        let simulation = Simulation::new(300 + seed, 1, 2);
        let broker = start(&simulation);
        let groups: Vec<String> = (0..12).map(|number| format!("group-{number}")).collect();
        simulation.block_on(0, async {
            create_offsets_topic(&broker[0]).await;
            create_topic(&broker[0], "orders", TopicId([6; 16])).await;
            for group in &groups {
                let committed = ask(&broker[0], group, commit(group, &[(0, 100), (1, 7)], ""));
                assert_committed(&committed.await, 2);
            }
            // One that is on its way when the topic goes.
            let late = commit(&groups[0], &[(2, 55)], "");
            let partition = partition_of(&groups[0]);
            let slot = ReplySlot::new(1, Signal::new());
            let question = GroupQuestion {
                partition,
                request: late,
            };
            broker[0].ask_into(broker[0].owner(partition), question, &slot, 0);
            delete_orders(&broker[0]).await;
            let again = TopicId([60; 16]);
            if seed % 2 == 0 {
                create_topic(&broker[0], "orders", again).await;
            }
            slot.wait().await;
            for group in &groups {
                let found = offsets(ask(&broker[0], group, fetch_all(group)).await);
                assert_eq!(found, [], "{group}, seed {seed}");
            }
            if seed % 2 == 0 {
                let newer = ask(&broker[0], "group-3", commit("group-3", &[(1, 3)], ""));
                assert_committed(&newer.await, 1);
            }
            // Whoever asks next may be a new life: half of them begin while deletions are on their way.
            if seed % 4 < 2 {
                broker[0].io.sleep(Duration::from_secs(2)).await;
            }
        });
        drop(broker);
        simulation.power_cut(0);
        simulation.restart(0);
        let broker = start(&simulation);
        simulation.block_on(0, async {
            for group in &groups {
                let found = offsets(ask(&broker[0], group, fetch_all(group)).await);
                let expected: &[(i32, i64)] = match (seed % 2, group.as_str()) {
                    (0, "group-3") => &[(1, 3)],
                    _ => &[],
                };
                assert_eq!(found, expected, "{group}, seed {seed}, after a power cut");
            }
        });
    }
}
