//! Snapshots of the metadata log between brokers: for one that joins late, and for one that was away while topics went and
//! came; with brokers that fail in the middle of it.

use std::time::Duration;

use metadata::controller::DeletableTopic;
use model::{Offset, PartitionIndex, ShardId, TopicId, TopicPartition};

use crate::clusters::World;

const METADATA_PARTITION: TopicPartition = TopicPartition {
    topic: TopicId::METADATA,
    partition: PartitionIndex(0),
};
const VOTERS: [usize; 3] = [0, 1, 2];

/// Three voters; the metadata log is cut every few topics.
fn world(seed: u64, nodes: usize) -> World {
    let world = World::with_room(seed, nodes);
    world.run_until("three votes", || {
        VOTERS.iter().all(|node| world.voters(*node) == 3)
    });
    world
}

/// Where a broker's metadata log begins.
fn begin(world: &World, node: usize) -> Offset {
    let shards = world.brokers[node].as_ref().expect("it runs");
    let log = shards[0].shard.storage.log(METADATA_PARTITION);
    log.expect("every broker has one").log_start_offset()
}

fn end(world: &World, node: usize) -> Offset {
    let shards = world.brokers[node].as_ref().expect("it runs");
    shards[0].shard.image().end_offset()
}

/// Makes topics until the logs of these brokers begin behind `from`.
fn cut_behind(world: &mut World, nodes: &[usize], from: Offset) {
    let mut made = 0;
    while nodes.iter().any(|node| begin(world, *node) <= from) {
        let (_, answer) = world.create_with(nodes[0], 4, 2);
        assert!(answer.unwrap()[0].1.is_ok());
        world.simulation.run_for(Duration::from_millis(300));
        made += 1;
        assert!(made < 200, "the metadata log is not cut");
    }
    // What they have in memory is still given to others; it goes with their processes.
    for node in nodes {
        world.kill(*node);
        world.start(*node, &VOTERS, &[]);
    }
}

fn delete(world: &World, node: usize, topics: &[TopicId]) {
    let deletable = topics.iter().map(|topic| DeletableTopic {
        name: None,
        topic_id: *topic,
    });
    let request: Vec<DeletableTopic> = deletable.collect();
    let shard = world.brokers[node].as_ref().unwrap()[1].shard.clone();
    let asked = async move { shard.ask(ShardId(0), request).await };
    let answers = world.simulation.block_on(node, asked).unwrap();
    assert!(answers.iter().all(|answer| answer.result.is_ok()));
}

/// All shards of a broker have the image that another one has.
fn is_equal(world: &World, node: usize, to: usize) -> bool {
    let images = |node: usize| {
        let shards = world.brokers[node].as_ref().expect("it runs");
        let images = shards.iter().map(|one| one.shard.image().clone());
        images.collect::<Vec<_>>()
    };
    let expected = &images(to)[0];
    images(node).iter().all(|image| image == expected)
}

#[test]
fn a_broker_that_joins_late_gets_one() {
    for seed in 0..6 {
        let mut world = world(seed, 4);
        cut_behind(&mut world, &VOTERS, Offset(60));
        world.start(3, &[], &[0]);
        assert!(
            begin(&world, 3) > Offset::ZERO,
            "seed {seed}: it began with a snapshot"
        );
        world.run_until("it knows what the others know", || is_equal(&world, 3, 0));
        let (topic, answer) = world.create_with(3, 4, 4);
        assert!(answer.unwrap()[0].1.is_ok());
        assert!(world.knows(0, topic));
        // And it starts again from what it wrote.
        world.kill(3);
        world.start(3, &[], &[0]);
        world.run_until("it knows it still", || is_equal(&world, 3, 0));
    }
}

/// One that was away while the log was cut behind what it has, one topic it knew was deleted, and others were made.
#[test]
fn a_broker_that_was_away_goes_on_from_one() {
    for seed in 0..8 {
        let mut world = world(seed, 3);
        let (kept, answer) = world.create_with(0, 4, 3);
        assert!(answer.unwrap()[0].1.is_ok());
        let (gone, answer) = world.create_with(0, 4, 3);
        assert!(answer.unwrap()[0].1.is_ok());
        assert!(VOTERS.iter().all(|node| world.knows(*node, gone)));
        let id = |topic, index| TopicPartition {
            topic,
            partition: PartitionIndex(index),
        };
        for value in 0..5 {
            for index in 0..4 {
                world.produce(id(kept, index), value);
                world.produce(id(gone, index), value);
            }
        }
        let away = (seed % 3) as usize;
        let others: Vec<usize> = VOTERS.into_iter().filter(|node| *node != away).collect();
        let knew = end(&world, away);
        // Cut off, or killed: it runs on with the image that it has, or begins with it.
        let is_killed = seed % 2 == 0;
        match is_killed {
            true => world.kill(away),
            false => world.simulation.isolate(away),
        }
        let what = "the others go on";
        world.run_until(what, || {
            others
                .iter()
                .all(|node| world.controller_of(*node).is_some_and(|one| one != away))
        });
        delete(&world, others[0], &[gone]);
        for value in 5..8 {
            for index in 0..4 {
                world.produce_at(&others, id(kept, index), value);
            }
        }
        cut_behind(&mut world, &others, knew);
        match is_killed {
            true => world.start(away, &VOTERS, &[]),
            false => world.simulation.heal_all(),
        }
        world.run_until("it has what the others have", || {
            is_equal(&world, away, others[0])
                && (0..4).all(|index| world.isr(others[0], id(kept, index)) == 3)
        });
        assert!(
            begin(&world, away) > knew,
            "seed {seed}: it went on from a snapshot"
        );
        let name = |index| id(gone, index).to_string();
        let left = || {
            let mut paths = world.simulation.files(away).into_iter();
            paths.any(|path| (0..4).any(|index| path.to_string_lossy().contains(&name(index))))
        };
        world.run_until("the logs of the deleted topic are gone", || !left());
        for index in 0..4 {
            let mut values = world.values(id(kept, index));
            values.dedup();
            assert_eq!(values, (0..8).collect::<Vec<_>>(), "seed {seed}");
        }
        // A start finds everything in order.
        world.kill(away);
        world.start(away, &VOTERS, &[]);
        world.run_until("it is back", || is_equal(&world, away, others[0]));
    }
}

/// Whoever takes a snapshot loses power at some moment of it, again and again, and has one in the end.
#[test]
fn power_cuts_while_it_is_taken() {
    for seed in 0..12 {
        let mut world = world(seed, 4);
        cut_behind(&mut world, &VOTERS, Offset(40));
        let mut wait = Duration::from_millis(2 + 3 * seed);
        for _ in 0..6 {
            world.begin_to_start(3, &[], &[0]);
            world.simulation.run_for(wait);
            world.power_cut(3);
            wait += Duration::from_millis(7);
        }
        world.start(3, &[], &[0]);
        world.run_until("it knows what the others know", || is_equal(&world, 3, 0));
    }
}
