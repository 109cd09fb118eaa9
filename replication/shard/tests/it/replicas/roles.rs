//! Who leads and who follows, what clients are told, and how logs become equal.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use metadata::record::{LeaderChange, PartitionChangeRecord};
use metadata::{MetadataRecord, Uuid};
use model::{BrokerId, LeaderEpoch, Offset};
use runtime::{Io, Snapshot, TaskClass};
use shard::refusal::{LeadRefusal, ProduceRefusal, ReadRefusal, WaitFailure};
use shard::request::{Acks, DeleteRecords, Fetch, FetchPartition, Isolation};

use super::world::{Outcome, World, id};

async fn start_three(world: &World, partitions: i32, configs: &[(&str, &str)]) {
    for broker in 1..=3 {
        world.start(broker).await;
    }
    world.create_topic(partitions, &[1, 2, 3], configs);
    world.hear_all();
}

async fn produced(world: &World, broker: i32, acks: Acks, bytes: usize) -> Outcome {
    let value = world.produce(broker, id(0), acks, bytes);
    let what = "a record gets its answer";
    world
        .until(what, || world.outcome(id(0), value).is_some())
        .await;
    world.outcome(id(0), value).unwrap()
}

fn is_not_leader(outcome: &Outcome, leader: i32) -> bool {
    match outcome {
        Outcome::Refused(ProduceRefusal::Lead(LeadRefusal::NotLeader(hint))) => {
            hint.broker == leader
        }
        _ => false,
    }
}

#[test]
fn records_are_acknowledged_when_all_replicas_have_them() {
    for seed in 0..20 {
        let shards = 1 + u16::try_from(seed % 2).unwrap();
        let world = World::new(seed, 3, shards);
        world.play(async {
            start_three(&world, 4, &[("min.insync.replicas", "2")]).await;
            for _ in 0..50 {
                for partition in 0..4 {
                    world.produce(1, id(partition), Acks::All, 100);
                }
                world.pause(1).await;
            }
            for partition in 0..4 {
                let settled = world.check_settled(id(partition), &[1, 2, 3]).await;
                settled.unwrap();
            }
            let outcomes = world.outcomes.borrow();
            let is_acknowledged = |outcome: &Outcome| matches!(outcome, Outcome::Acknowledged(_));
            assert_eq!(outcomes.len(), 200);
            assert!(outcomes.values().all(is_acknowledged), "{outcomes:?}");
            assert_eq!(world.network.refused.get(), 0);
        });
    }
}

/// Nothing is said of partitions to which nothing happens, and whoever had everything stays in sync.
#[test]
fn an_idle_partition_costs_nothing() {
    let world = World::new(3, 3, 1);
    world.play(async {
        start_three(&world, 50, &[]).await;
        for partition in 0..50 {
            world.produce(1, id(partition), Acks::All, 10);
        }
        for partition in 0..50 {
            let settled = world.check_settled(id(partition), &[1, 2, 3]).await;
            settled.unwrap();
        }
        world.pause(200).await;
        let before = world.network.messages.get();
        world.io().sleep(Duration::from_secs(300)).await;
        assert_eq!(world.network.messages.get(), before);
        assert!(matches!(
            produced(&world, 1, Acks::All, 10).await,
            Outcome::Acknowledged(Offset(1))
        ));
        world.io().sleep(Duration::from_secs(60)).await;
        assert_eq!(world.isr(id(0)), [1, 2, 3]);
        let spent = world.network.messages.get() - before;
        assert!(spent <= 10, "{spent} messages for one record");
    });
}

#[test]
fn followers_refuse_clients_and_say_who_leads() {
    let world = World::new(1, 3, 1);
    world.play(async {
        start_three(&world, 1, &[]).await;
        let refused = produced(&world, 2, Acks::All, 10).await;
        assert!(is_not_leader(&refused, 1), "{refused:?}");
        let fetch = Fetch {
            isolation: Isolation::ReadUncommitted,
            bytes_max: 1 << 20,
            at_least_one_batch: true,
            from_followers: false,
            partitions: vec![FetchPartition {
                id: id(0),
                offset: Offset(0),
                bytes_max: 1 << 20,
                current_leader_epoch: LeaderEpoch::NONE,
                last_fetched_epoch: LeaderEpoch::NONE,
                closest: None,
            }],
        };
        let shard = world.shard(3, id(0)).unwrap();
        let fetched = shard.fetch(&fetch).await;
        assert!(
            matches!(
                fetched[0],
                Err(ReadRefusal::Lead(LeadRefusal::NotLeader(_)))
            ),
            "{fetched:?}"
        );
    });
}

/// A consumer that says where it is is sent to a replica there, and is served by it up to what it knows to be committed.
#[test]
fn followers_serve_consumers_that_ask_for_it() {
    let world = World::new(2, 3, 1);
    world.play(async {
        start_three(&world, 1, &[]).await;
        produced(&world, 1, Acks::All, 10).await;
        let near = Some(BrokerId(3));
        let fetch = |from_followers, offset, closest| Fetch {
            isolation: Isolation::ReadUncommitted,
            bytes_max: 1 << 20,
            at_least_one_batch: true,
            from_followers,
            partitions: vec![FetchPartition {
                id: id(0),
                offset: Offset(offset),
                bytes_max: 1 << 20,
                current_leader_epoch: LeaderEpoch::NONE,
                last_fetched_epoch: LeaderEpoch::NONE,
                closest,
            }],
        };
        let leader = world.shard(1, id(0)).unwrap();
        let sent = leader.fetch(&fetch(true, 0, near)).await.remove(0).unwrap();
        assert_eq!((sent.closest, sent.records.len()), (near, 0));
        // What it asks for is nowhere: the leader says so itself.
        let refused = leader.fetch(&fetch(true, 99, near)).await.remove(0);
        assert!(
            matches!(refused, Err(ReadRefusal::OffsetOutOfRange)),
            "{refused:?}"
        );
        let follower = world.shard(3, id(0)).unwrap();
        let caught_up = || follower.partition(id(0)).unwrap().high_watermark();
        let what = "the follower hears how far the leader is";
        world
            .until(what, || caught_up() == sent.high_watermark)
            .await;
        let served = follower
            .fetch(&fetch(true, 0, near))
            .await
            .remove(0)
            .unwrap();
        assert_eq!(served.high_watermark, sent.high_watermark);
        assert!(served.bytes() > 0 && served.closest.is_none());
        let refused = follower.fetch(&fetch(false, 0, None)).await.remove(0);
        assert!(matches!(refused, Err(ReadRefusal::Lead(_))), "{refused:?}");
    });
}

/// Who waits for followers that nobody hears of is told when another broker leads; what it has appended goes.
#[test]
fn a_leader_that_is_cut_off_loses_what_it_did_not_acknowledge() {
    for seed in 0..20 {
        let world = World::new(seed, 3, 1);
        world.play(async {
            start_three(&world, 1, &[("min.insync.replicas", "2")]).await;
            for _ in 0..20 {
                world.produce(1, id(0), Acks::All, 300);
                world.pause(1).await;
            }
            world.pause(50).await;
            world.network.cut(BrokerId(1), BrokerId(2));
            world.network.cut(BrokerId(1), BrokerId(3));
            // The tail is long enough to be in segments when it is cut.
            let tail: Vec<u64> = (0..seed % 3 * 400 + 10)
                .map(|_| world.produce(1, id(0), Acks::All, 300))
                .collect();
            assert!(matches!(
                produced(&world, 1, Acks::Leader, 10).await,
                Outcome::OnLeader(_)
            ));
            world.pause(seed % 4 * 300).await;
            world.fence(1, true);
            let leader = world.leader(id(0)).unwrap();
            assert_ne!(leader, 1);
            world.hear(2);
            world.hear(3);
            let first = produced(&world, leader, Acks::All, 10).await;
            assert!(matches!(first, Outcome::Acknowledged(_)), "{first:?}");
            assert!(
                tail.iter()
                    .all(|value| world.outcome(id(0), *value).is_none())
            );
            world.hear(1);
            let what = "who waits for the old leader is told";
            world
                .until(what, || {
                    tail.iter()
                        .all(|value| world.outcome(id(0), *value).is_some())
                })
                .await;
            let failed = Outcome::Refused(ProduceRefusal::NotAcknowledged(WaitFailure::NotLeader));
            for value in tail {
                assert_eq!(world.outcome(id(0), value), Some(failed.clone()));
            }
            world.network.heal();
            world.fence(1, false);
            let settled = world.check_settled(id(0), &[1, 2, 3]).await;
            settled.unwrap();
            let refused = produced(&world, 1, Acks::All, 10).await;
            assert!(is_not_leader(&refused, leader), "{refused:?}");
        });
    }
}

/// A broker that led while its log was empty has an epoch of which the next leader, whose records are older, knows nothing:
/// nothing of it stays. It was asked for again and again.
#[test]
fn a_log_of_which_the_leader_knows_no_epoch_begins_anew() {
    let world = World::new(1, 2, 1);
    world.play(async {
        for broker in 1..=2 {
            world.start(broker).await;
        }
        world.network.cut(BrokerId(1), BrokerId(2));
        world.create_topic(1, &[1, 2], &[("min.insync.replicas", "2")]);
        world.hear_all();
        for _ in 0..7 {
            produced(&world, 1, Acks::Leader, 10).await;
        }
        world.fence(1, true);
        world.hear(2);
        for offset in 0..5 {
            let led = produced(&world, 2, Acks::Leader, 10).await;
            assert_eq!(led, Outcome::OnLeader(Offset(offset)));
        }
        world.fence(1, false);
        world.fence(2, true);
        assert_eq!(world.leader(id(0)), Some(1), "it is eligible");
        world.fence(2, false);
        world.network.heal();
        world.check_settled(id(0), &[1, 2]).await.unwrap();
        let log = world.shard(2, id(0)).unwrap().storage.log(id(0)).unwrap();
        assert_eq!(log.log_end_offset(), Offset(7));
    });
}

/// A replica that was away gets what is in segments by now.
#[test]
fn a_replica_that_was_away_catches_up_from_segments() {
    for seed in 0..6 {
        let world = World::new(seed, 3, 1);
        world.play(async {
            start_three(&world, 3, &[("min.insync.replicas", "2")]).await;
            world.kill(3, seed % 2 == 0);
            world.fence(3, true);
            world.hear_all();
            for _ in 0..400 {
                for partition in 0..3 {
                    world.produce(1, id(partition), Acks::All, 2_000);
                }
                world.pause(2).await;
            }
            world.pause(500).await;
            let leader = world.shard(1, id(0)).unwrap();
            let log = leader.storage.log(id(0)).unwrap();
            assert!(log.dirty_bytes() < log.size_bytes() / 2, "nothing to show");
            world.restart(3).await;
            for partition in 0..3 {
                let settled = world.check_settled(id(partition), &[1, 2, 3]).await;
                settled.unwrap();
            }
            assert_eq!(world.network.refused.get(), 0);
        });
    }
}

/// What DeleteRecords removes goes everywhere, though nothing is appended.
#[test]
fn followers_remove_what_the_leader_removes() {
    let world = World::new(1, 3, 1);
    world.play(async {
        start_three(&world, 1, &[]).await;
        for _ in 0..20 {
            produced(&world, 1, Acks::All, 10).await;
        }
        world.check_settled(id(0), &[1, 2, 3]).await.unwrap();
        let leader = world.shard(1, id(0)).unwrap();
        let delete = DeleteRecords {
            id: id(0),
            before: Offset(12),
        };
        let deleted = Rc::new(Cell::new(false));
        let done = deleted.clone();
        leader.io.clone().spawn(TaskClass::Foreground, async move {
            let removed = leader.ask(leader.id(), vec![delete]).await;
            assert_eq!(removed, [Ok(Offset(12))]);
            done.set(true);
        });
        world.until("records are removed", || deleted.get()).await;
        let start = |broker| {
            let log = world.shard(broker, id(0)).unwrap().storage.log(id(0));
            log.unwrap().log_start_offset()
        };
        let what = "followers remove them, too";
        world
            .until(what, || (1..=3).all(|broker| start(broker) == Offset(12)))
            .await;
    });
}

fn moved(replicas: &[i32], isr: Option<&[i32]>, leader: Option<i32>) -> Vec<MetadataRecord> {
    let list = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    let directories = replicas.iter().map(|id| Uuid([*id as u8; 16]));
    vec![MetadataRecord::PartitionChange(PartitionChangeRecord {
        partition_id: id(0).partition,
        topic_id: id(0).topic,
        replicas: Some(list(replicas)),
        directories: Some(directories.collect()),
        isr: isr.map(list),
        leader: leader.map_or(LeaderChange::Unchanged, |id| {
            LeaderChange::Leader(BrokerId(id))
        }),
        ..PartitionChangeRecord::default()
    })]
}

/// A replica that is elsewhere now closes, and its log goes. One that comes back begins anew, and has everything.
#[test]
fn a_partition_goes_to_another_broker_and_comes_back() {
    for seed in 0..10 {
        let world = World::new(seed, 2, 1);
        world.play(async {
            for broker in 1..=2 {
                world.start(broker).await;
            }
            world.create_topic(1, &[1], &[]);
            world.hear_all();
            for _ in 0..30 {
                world.produce(1, id(0), Acks::All, 500);
            }
            world.pause(50).await;
            world.commit(moved(&[1, 2], None, None));
            world.check_settled(id(0), &[1, 2]).await.unwrap();
            world.commit(moved(&[2], Some(&[2]), Some(2)));
            world.hear(1);
            let waits = world.produce(2, id(0), Acks::All, 10);
            world.pause(20).await;
            assert!(matches!(
                world.outcome(id(0), waits),
                Some(Outcome::Refused(_))
            ));
            let refused = produced(&world, 1, Acks::All, 10).await;
            assert!(is_not_leader(&refused, 2), "{refused:?}");
            world.hear(2);
            let taken = produced(&world, 2, Acks::All, 10).await;
            assert_eq!(taken, Outcome::Acknowledged(Offset(30)));
            let first = world.shard(1, id(0)).unwrap();
            assert!(first.partition(id(0)).is_none());
            assert!(first.storage.log(id(0)).is_none(), "its log is gone");
            world.commit(moved(&[2, 1], None, None));
            world.check_settled(id(0), &[1, 2]).await.unwrap();
            let log = first.storage.log(id(0)).unwrap();
            assert_eq!(log.log_end_offset(), Offset(31));
        });
    }
}

/// Who does not follow leaves the in-sync set after `replica.lag.time.max.ms`, and comes back when it has caught up.
#[test]
fn the_in_sync_set_follows_who_follows() {
    let world = World::new(5, 3, 2);
    world.play(async {
        start_three(&world, 1, &[("min.insync.replicas", "2")]).await;
        produced(&world, 1, Acks::All, 10).await;
        world.network.cut(BrokerId(1), BrokerId(3));
        let value = world.produce(1, id(0), Acks::All, 10);
        world.io().sleep(Duration::from_secs(29)).await;
        assert_eq!(world.outcome(id(0), value), None, "broker 3 may have it");
        world.io().sleep(Duration::from_secs(20)).await;
        assert_eq!(world.isr(id(0)), [1, 2]);
        let acknowledged = Some(Outcome::Acknowledged(Offset(1)));
        assert_eq!(world.outcome(id(0), value), acknowledged);
        assert_eq!(
            counted(&world, 1),
            [1, 1, 0, 1, 1, 0],
            "under-replicated, shrunk"
        );
        assert_eq!(counted(&world, 2), [1, 0, 0, 0, 0, 0], "a follower");
        world.network.heal();
        world.check_settled(id(0), &[1, 2, 3]).await.unwrap();
        assert_eq!(counted(&world, 1), [1, 0, 0, 0, 1, 1], "whole again");
        world.network.cut(BrokerId(1), BrokerId(3));
        world.network.cut(BrokerId(1), BrokerId(2));
        world.produce(1, id(0), Acks::Leader, 10);
        world.io().sleep(Duration::from_secs(49)).await;
        assert_eq!(counted(&world, 1), [1, 1, 1, 1, 2, 1], "below the minimum");
    });
}

/// Of the shard that has partition 0: replicas, under-replicated, under the minimum, lag; shrinks and expands.
fn counted(world: &World, broker: i32) -> [u64; 6] {
    let mut snapshot = Snapshot::new();
    let shard = world.shard(broker, id(0)).unwrap();
    shard.snapshot_into(&mut snapshot);
    [
        "replicas",
        "under_replicated_partitions",
        "under_min_isr_partitions",
        "follower_lag_records_max",
        "isr_shrinks_total",
        "isr_expands_total",
    ]
    .map(|name| snapshot.total(&format!("ringlog_{name}")))
}
