//! Everything at once: brokers are killed and lose power, connections break, leaders change, logs are cut; and what of it
//! the checks would notice.

use std::rc::Rc;

use model::BrokerId;
use replica::PlantedFault;
use runtime::Io;
use runtime::sim::{Fault, FaultRule};
use shard::request::Acks;

use super::world::{Outcome, World, id};

const PARTITIONS: i32 = 3;
const BROKERS: [i32; 3] = [1, 2, 3];

/// What happens to a cluster while records are written, and what is wrong with it afterwards.
fn run(seed: u64, planted: Option<PlantedFault>) -> Result<(), String> {
    let shards = 1 + u16::try_from(seed % 2).unwrap();
    let world = World::with_fault(seed, BROKERS.len(), shards, planted);
    world.play(async {
        for broker in BROKERS {
            world.start(broker).await;
        }
        world.create_topic(PARTITIONS, &BROKERS, &[("min.insync.replicas", "2")]);
        world.hear_all();
        for _ in 0..8 {
            disturb(&world).await;
            write(&world).await;
        }
        world.simulation.faults().clear();
        world.network.break_one_in(0);
        world.network.heal();
        for broker in BROKERS {
            if !world.is_running(broker) {
                world.restart(broker).await;
            }
            world.fence(broker, false);
        }
        for partition in 0..PARTITIONS {
            world.check_settled(id(partition), &BROKERS).await?;
        }
        tell(&world);
        match world.network.refused.get() {
            0 => Ok(()),
            count => Err(format!("{count} messages were refused")),
        }
    })
}

/// How much a run has shown.
fn tell(world: &World) {
    let outcomes = world.outcomes.borrow();
    let is_acknowledged = |outcome: &&Outcome| matches!(outcome, Outcome::Acknowledged(_));
    let acknowledged = outcomes.values().filter(is_acknowledged).count();
    println!(
        "seed {}: {acknowledged} of {} records acknowledged, {} messages of {} KiB, {} connections broken",
        world.simulation.seed(),
        outcomes.len(),
        world.network.messages.get(),
        world.network.bytes.get() >> 10,
        world.network.broken.get(),
    );
}

async fn disturb(world: &Rc<World>) {
    let io = world.io();
    let random = |below: u64| io.random() % below;
    let broker = 1 + i32::try_from(random(3)).unwrap();
    match random(9) {
        // At most one is away at a time: the controller counts on the others.
        0 | 1 if BROKERS.iter().all(|broker| world.is_running(*broker)) => {
            world.kill(broker, random(2) == 0);
            world.pause(random(50)).await;
            world.fence(broker, true);
        }
        2 | 3 => {
            for broker in BROKERS {
                if !world.is_running(broker) {
                    world.restart(broker).await;
                }
            }
        }
        4 => {
            let other = 1 + broker % 3;
            world.network.cut(BrokerId(broker), BrokerId(other));
        }
        5 => world.network.heal(),
        6 => world.network.break_one_in(50 * random(3)),
        // A disk that is slow now and then: followers may have durably what their leader has not.
        7 => {
            let slow = FaultRule::new(Fault::Slow).path("journal");
            let node = usize::try_from(broker - 1).unwrap();
            let rule = slow.node(node).per_million(30_000).times(5);
            world.simulation.faults().add(rule);
        }
        // The controller hears nothing of a broker that goes on, and then it does again.
        _ if BROKERS.iter().all(|broker| world.is_running(*broker)) => {
            world.fence(broker, true);
            for other in BROKERS {
                if random(3) > 0 {
                    world.hear(other);
                }
            }
            world.pause(random(80)).await;
            world.fence(broker, false);
        }
        _ => {}
    }
}

async fn write(world: &Rc<World>) {
    let io = world.io();
    for _ in 0..40 {
        for broker in BROKERS {
            if io.random().is_multiple_of(4) {
                world.hear(broker);
            }
        }
        for partition in 0..PARTITIONS {
            // Clients may take an old leader for the present one.
            let broker = match io.random() % 8 {
                0 => Some(1 + i32::try_from(io.random() % 3).unwrap()),
                _ => world.leader(id(partition)),
            };
            let size = 20 + usize::try_from(io.random() % 1_500).unwrap();
            if let Some(broker) = broker {
                world.produce(broker, id(partition), Acks::All, size);
            }
        }
        world.pause(io.random() % 4).await;
    }
}

/// `REPLICA_SEEDS=4000` goes further, `REPLICA_SEEDS=1157..1158` plays one again.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("REPLICA_SEEDS").unwrap_or("60".to_owned());
    let (from, to) = asked.split_once("..").unwrap_or(("0", &asked));
    from.parse().unwrap()..to.parse().unwrap()
}

#[test]
fn nothing_that_was_acknowledged_is_lost_and_all_replicas_are_equal() {
    for seed in seeds() {
        if let Err(found) = run(seed, None) {
            panic!("seed {seed}: {found}");
        }
    }
}

/// Seeds after which a planted fault must have been noticed: the first that notices is far below.
const PLANTED_SEEDS: u64 = 60;

fn notices(planted: PlantedFault) -> Option<u64> {
    // An assertion may come first.
    let notices = |seed: &u64| {
        let found = std::panic::catch_unwind(|| run(*seed, Some(planted)));
        !matches!(found, Ok(Ok(())))
    };
    (0..PLANTED_SEEDS).find(notices)
}

#[test]
fn planted_faults_are_noticed() {
    let planted = [
        PlantedFault::AcknowledgesAppended,
        PlantedFault::CountsOwnLogEnd,
        PlantedFault::UncheckedSubscription,
    ];
    for fault in planted {
        let noticed = notices(fault);
        assert!(noticed.is_some(), "{fault:?} goes unnoticed");
        println!("{fault:?} is noticed by seed {noticed:?}");
    }
}
