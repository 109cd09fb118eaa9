//! Who leads and who follows, and what clients are told.

use model::{BrokerId, Offset};
use shard::refusal::{LeadRefusal, LeaderHint, ProduceRefusal, ReadRefusal, WaitFailure};
use shard::request::{Acks, Fetch, FetchPartition, Isolation};

use super::world::{NO_EPOCH, Outcome, World, id};

#[test]
fn records_are_acknowledged_when_all_replicas_have_them() {
    for seed in 0..10 {
        let world = World::new(seed, 3, 1);
        world.play(async {
            for broker in 1..=3 {
                world.start(broker).await;
            }
            world.create_topic(2, &[1, 2, 3], &[("min.insync.replicas", "2")]);
            world.hear_all();
            for _ in 0..50 {
                for partition in 0..2 {
                    world.produce(1, id(partition), Acks::All, 100);
                }
                world.pause(1).await;
            }
            for partition in 0..2 {
                world
                    .check_settled(id(partition), &[1, 2, 3])
                    .await
                    .unwrap();
            }
            let outcomes = world.outcomes.borrow();
            let is_acknowledged = |outcome: &Outcome| matches!(outcome, Outcome::Acknowledged(_));
            assert_eq!(outcomes.len(), 100);
            assert!(outcomes.values().all(is_acknowledged), "{outcomes:?}");
            assert_eq!(world.network.refused.get(), 0);
        });
    }
}
