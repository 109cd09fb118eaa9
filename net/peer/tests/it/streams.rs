//! Streams between shards: order, one connection, ends that both sides are told of, room.

use std::cell::Cell;
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use model::BrokerEpoch;
use peer::{Kind, LinkState, NotSent, PlantedFault, Purpose, STREAM_BYTES_MAX, Settings, Target};
use runtime::sim::Simulation;

use crate::bed::{self, entry, id, key, seeds, within};
use crate::hostile::{header, hello, say_to};
use crate::stream_bed::{SHARDS, Seen, Unit, at, brokers, start_broker};

const SOON: Duration = Duration::from_secs(1);

#[test]
fn every_pair_of_shards_has_one_connection_for_both_ways() {
    for seed in seeds(20) {
        let simulation = Simulation::new(seed, 2, SHARDS);
        let [left, right] = brokers(&simulation, &Settings::default());
        for near in &left {
            for far in &right {
                near.send(far.at, 0).unwrap();
            }
        }
        let all = || {
            right
                .iter()
                .all(|far| left.iter().all(|near| far.numbers(near.at) == [0]))
        };
        assert!(within(&simulation, SOON, all), "seed {seed}");
        for value in 1..200 {
            for (near, far) in left
                .iter()
                .flat_map(|near| right.iter().map(move |far| (near, far)))
            {
                near.send(far.at, value).unwrap();
                far.send(near.at, value).unwrap();
            }
            if value % 20 == 0 {
                simulation.run_for(Duration::from_millis(1));
            }
        }
        simulation.run_for(SOON);
        for (near, far) in left
            .iter()
            .flat_map(|near| right.iter().map(move |far| (near, far)))
        {
            assert_eq!(far.numbers(near.at), (0..200).collect::<Vec<_>>());
            assert_eq!(near.numbers(far.at), (1..200).collect::<Vec<_>>());
            for (one, other, node) in [(near, far, 1), (far, near, 0)] {
                let is_other = |identity: peer::PeerIdentity| identity.key == key(node, 1);
                let up = |seen: &Seen| matches!(seen, Seen::Up(from, who) if *from == other.at && is_other(*who));
                assert_eq!((one.count(up), one.downs(other.at)), (1, 0));
            }
        }
        // All of them were made by one side; half of them came to a shard that does not listen.
        assert_eq!(
            left.iter()
                .map(|unit| unit.network.accepted())
                .sum::<usize>(),
            0
        );
        assert_eq!(
            right
                .iter()
                .map(|unit| unit.network.accepted())
                .sum::<usize>(),
            4
        );
        assert_eq!(right[0].network.counters().handed_over.get(), 2);
        assert_eq!(right[1].network.counters().taken_over.get(), 2);
        assert!(
            right[1]
                .network
                .streams()
                .iter()
                .all(|status| status.state == LinkState::Up)
        );
    }
}

/// Two shards send to each other at one moment; how often an end was told.
fn cross(seed: u64, planted: Option<PlantedFault>) -> usize {
    let simulation = Simulation::new(seed, 2, SHARDS);
    let settings = Settings {
        planted,
        ..Settings::default()
    };
    // With some, a connection takes its time from one shard to the other.
    let is_slow = seed % 2 == 1;
    let [left, right] = [0, 1].map(|node| start_broker(&simulation, node, 1, &settings, is_slow));
    simulation.run_for(Duration::from_millis(10));
    let pairs = [
        (&left[0], &right[0]),
        (&left[0], &right[1]),
        (&left[1], &right[1]),
    ];
    for value in 0..20 {
        for (near, far) in pairs {
            // An error is told as an end, too.
            let _ = near.send(far.at, value);
            let _ = far.send(near.at, value);
        }
        let pause = simulation.random().below(if is_slow { 3000 } else { 300 });
        simulation.run_for(Duration::from_micros(pause));
    }
    simulation.run_for(SOON);
    let downs = |(near, far): (&Unit, &Unit)| near.downs(far.at) + far.downs(near.at);
    let count = pairs.into_iter().map(downs).sum();
    for (near, far) in pairs {
        if count == 0 {
            assert_eq!(
                near.numbers(far.at),
                (0..20).collect::<Vec<_>>(),
                "seed {seed}"
            );
            assert_eq!(
                far.numbers(near.at),
                (0..20).collect::<Vec<_>>(),
                "seed {seed}"
            );
            assert_eq!((near.ups(far.at), far.ups(near.at)), (1, 1), "seed {seed}");
        }
    }
    let made = |unit: &Unit| unit.network.accepted();
    let made: usize = left.iter().chain(&right).map(made).sum();
    assert!(
        count > 0 || made == pairs.len(),
        "seed {seed}: {made} connections"
    );
    count
}

#[test]
fn two_that_send_at_one_moment_get_one_connection() {
    for seed in seeds(300) {
        assert_eq!(cross(seed, None), 0, "seed {seed}");
    }
    let is_noticed = (0..300).any(|seed| cross(seed, Some(PlantedFault::CrossingUnseen)) > 0);
    assert!(is_noticed, "{:?}", PlantedFault::CrossingUnseen);
}

#[test]
fn both_sides_are_told_of_an_end_and_send_nothing_before_they_have_heard() {
    for seed in seeds(50) {
        let simulation = Simulation::new(seed, 2, SHARDS);
        let [left, right] = brokers(&simulation, &Settings::default());
        let (near, far) = (&left[1], &right[1]);
        near.send(far.at, 1).unwrap();
        assert!(within(&simulation, SOON, || far.numbers(near.at) == [1]));
        // Neither of the drivers takes anything for a while.
        near.is_stuck.set(true);
        far.is_stuck.set(true);
        simulation.reset_connections(0, 1);
        simulation.run_for(SOON);
        assert_eq!(near.send(far.at, 2), Err(NotSent::Unreachable));
        assert_eq!(far.send(near.at, 2), Err(NotSent::Unreachable));
        near.is_stuck.set(false);
        far.is_stuck.set(false);
        let told = || near.downs(far.at) == 1 && far.downs(near.at) == 1;
        assert!(within(&simulation, SOON, told), "seed {seed}");
        // The side that did not make the first one may make the second.
        assert!(within(&simulation, SOON, || far.send(near.at, 3).is_ok()));
        assert!(within(&simulation, SOON, || near.numbers(far.at) == [3]));
        assert_eq!((near.ups(far.at), far.ups(near.at)), (2, 2));
        assert_eq!((near.downs(far.at), far.downs(near.at)), (1, 1));
    }
}

/// Whether the driver is told in time that the machine at the other end is gone.
fn notices_a_dead_machine(seed: u64, dead: usize, planted: Option<PlantedFault>) -> bool {
    let simulation = Simulation::new(seed, 2, SHARDS);
    let settings = Settings {
        planted,
        ..Settings::default()
    };
    let [left, right] = brokers(&simulation, &settings);
    left[1].send(right[1].at, 1).unwrap();
    let came = || right[1].numbers(left[1].at) == [1];
    assert!(within(&simulation, SOON, came));
    simulation.power_cut(dead);
    let (alive, gone) = if dead == 1 {
        (&left[1], right[1].at)
    } else {
        (&right[1], left[1].at)
    };
    let limit = settings.silence_max + settings.ping_interval;
    within(&simulation, limit, || alive.downs(gone) == 1)
}

#[test]
fn a_dead_machine_is_noticed_by_whoever_made_the_connection_and_by_the_other() {
    for dead in [0, 1] {
        for seed in seeds(20) {
            assert!(notices_a_dead_machine(seed, dead, None), "seed {seed}");
        }
        let planted = Some(PlantedFault::SilenceUnnoticed);
        assert!(!notices_a_dead_machine(1, dead, planted));
    }
}

#[test]
fn what_cannot_be_reached_is_down_and_a_refusal_is_followed_by_word() {
    for seed in seeds(20) {
        let simulation = Simulation::new(seed, 2, SHARDS);
        let left = start_broker(&simulation, 0, 1, &Settings::default(), false);
        let (near, there) = (&left[1], at(1, 1));
        assert_eq!(near.send(at(7, 0), 1), Err(NotSent::Unknown));
        near.send(there, 1).unwrap();
        assert!(within(&simulation, SOON, || near.downs(there) == 1));
        // It is a pause; that something was wanted in it has another attempt made, which is told, too.
        for downs in 1..5 {
            assert_eq!(near.send(there, 2), Err(NotSent::Unreachable));
            assert!(within(&simulation, SOON * 2, || near.downs(there) == downs + 1));
        }
        let right = start_broker(&simulation, 1, 1, &Settings::default(), false);
        let _ = near.send(there, 3);
        assert!(
            within(&simulation, SOON * 2, || near.ups(there) == 1),
            "seed {seed}"
        );
        near.send(there, 4).unwrap();
        assert!(within(&simulation, SOON, || right[1]
            .numbers(near.at)
            .contains(&4)));
    }
}

#[test]
fn the_largest_message_passes_and_a_larger_one_is_not_taken() {
    let simulation = Simulation::new(1, 2, SHARDS);
    // Less than one such message: it passes alone.
    let settings = Settings {
        stream_incoming_bytes_max: 1 << 20,
        ..Settings::default()
    };
    let [left, right] = brokers(&simulation, &settings);
    let (near, far) = (&left[1], &right[1]);
    let long = Bytes::from(vec![7; STREAM_BYTES_MAX + 1]);
    let sent = near.network.stream_send(far.at, long.clone());
    assert_eq!(sent, Err(NotSent::TooLong));
    let pieces = vec![long.slice(..512), long.slice(512..STREAM_BYTES_MAX)];
    assert_eq!(near.network.stream_send(far.at, pieces.clone()), Ok(()));
    let came = |unit: &Unit| {
        unit.count(|seen| matches!(seen, Seen::Message(_, _, payload) if *payload == long[1..]))
    };
    assert!(within(&simulation, SOON * 60, || came(far) == 1));
    assert_eq!(far.network.stream_send(near.at, pieces), Ok(()));
    assert!(within(&simulation, SOON * 60, || came(near) == 1));
    assert_eq!(near.downs(far.at) + far.downs(near.at), 0);
}

const KILOBYTES: usize = 64;

/// A sender that sends as long as it is let, to one that takes nothing for a while; what was sent.
fn press(seed: u64, planted: Option<PlantedFault>) -> (Simulation, [Vec<Unit>; 2], Cell<u64>) {
    let simulation = Simulation::new(seed, 2, SHARDS);
    let settings = Settings {
        stream_queue_bytes_max: 1 << 20,
        stream_incoming_bytes_max: 2 << 20,
        stall_max: Duration::from_secs(60),
        planted,
        ..Settings::default()
    };
    let [left, right] = brokers(&simulation, &settings);
    right[1].is_stuck.set(true);
    let sent = Cell::new(0_u64);
    let full = || loop {
        let mut payload = vec![0; KILOBYTES << 10];
        payload[..8].copy_from_slice(&sent.get().to_be_bytes());
        match left[1]
            .network
            .stream_send(right[1].at, Bytes::from(payload))
        {
            Ok(()) => sent.set(sent.get() + 1),
            Err(why) => break assert_eq!(why, NotSent::Full),
        }
    };
    for _ in 0..500 {
        full();
        let queued = left[1].network.streams()[0].queued_bytes;
        assert!(queued <= 1 << 20, "{queued} bytes wait to be sent");
        assert!(right[1].network.stream_incoming_bytes() <= 2 << 20);
        simulation.run_for(Duration::from_millis(10));
    }
    (simulation, [left, right], sent)
}

#[test]
fn a_driver_that_takes_nothing_stops_its_senders_and_they_are_told_when_there_is_room() {
    for seed in seeds(5) {
        let (simulation, [left, right], sent) = press(seed, None);
        let (near, far) = (&left[1], &right[1]);
        // What is here, what is there, and what the sockets hold.
        assert!(
            sent.get() < (5 << 20) / (KILOBYTES << 10) as u64,
            "{}",
            sent.get()
        );
        assert_eq!(near.downs(far.at) + far.downs(near.at), 0);
        let rooms = |unit: &Unit| unit.count(|seen| matches!(seen, Seen::Room(_)));
        let before = rooms(near);
        // Others go on: another stream of the same broker, and the stuck one's own way back.
        left[0].send(right[0].at, 5).unwrap();
        far.send(near.at, 6).unwrap();
        let others = || right[0].numbers(left[0].at) == [5] && near.numbers(far.at) == [6];
        assert!(within(&simulation, SOON, others));
        simulation.run_for(SOON * 20);
        assert_eq!(rooms(near), before, "told though nothing moves");
        far.is_stuck.set(false);
        assert!(
            within(&simulation, SOON, || rooms(near) > before),
            "seed {seed}"
        );
        assert!(near.send(far.at, sent.get()).is_ok());
        let all = (0..=sent.get()).collect::<Vec<_>>();
        assert!(within(&simulation, SOON, || far.numbers(near.at) == all));
        assert_eq!(near.downs(far.at) + far.downs(near.at), 0);
    }
}

#[test]
fn room_that_is_not_told_is_noticed() {
    let (simulation, [left, right], _) = press(1, Some(PlantedFault::RoomUntold));
    right[1].is_stuck.set(false);
    simulation.run_for(SOON * 5);
    assert_eq!(left[1].count(|seen| matches!(seen, Seen::Room(_))), 0);
}

#[test]
fn a_stream_that_ends_while_its_reader_waits_for_room_is_told_at_once() {
    let (simulation, [left, right], _) = press(3, None);
    let (near, far) = (&left[1], &right[1]);
    let before = far.network.accepted();
    near.network.end_stream(far.at);
    let is_gone = || far.network.accepted() + 1 == before;
    // It does not read, but its pings come back.
    let limit = Settings::default().ping_interval * 3;
    assert!(within(&simulation, limit, is_gone));
    far.is_stuck.set(false);
    assert!(within(&simulation, SOON, || far.downs(near.at) == 1
        && near.downs(far.at) == 1));
}

#[test]
fn a_stream_stays_though_nothing_is_sent() {
    let simulation = Simulation::new(2, 2, SHARDS);
    let settings = Settings {
        idle_max: SOON,
        ..Settings::default()
    };
    let [left, right] = brokers(&simulation, &settings);
    let (near, far) = (&left[1], &right[1]);
    near.send(far.at, 1).unwrap();
    simulation.run_for(SOON * 60);
    far.send(near.at, 2).unwrap();
    assert!(within(&simulation, SOON, || near.numbers(far.at) == [2]));
    assert_eq!(near.downs(far.at) + far.downs(near.at), 0);
}

#[test]
fn a_stream_that_its_driver_ends_is_told_on_both_sides_and_may_be_made_again() {
    for seed in seeds(20) {
        let simulation = Simulation::new(seed, 2, SHARDS);
        let [left, right] = brokers(&simulation, &Settings::default());
        let (near, far) = (&left[1], &right[1]);
        for (round, ends) in [near, far, near].into_iter().enumerate() {
            let value = round as u64;
            assert!(within(&simulation, SOON, || near
                .send(far.at, value)
                .is_ok()));
            assert!(within(&simulation, SOON, || far.numbers(near.at).last()
                == Some(&value)));
            let other = if ends.at == near.at { far.at } else { near.at };
            ends.network.end_stream(other);
            let told = || near.downs(far.at) == round + 1 && far.downs(near.at) == round + 1;
            assert!(within(&simulation, SOON, told), "seed {seed}");
        }
        simulation.run_for(SOON);
        assert!(near.network.streams().is_empty() && far.network.streams().is_empty());
        assert_eq!(far.network.accepted(), 0);
    }
}

#[test]
fn a_new_registration_ends_the_streams_of_the_old_one() {
    for seed in seeds(20) {
        let simulation = Simulation::new(seed, 2, SHARDS);
        let [left, right] = brokers(&simulation, &Settings::default());
        let (near, far) = (&left[1], &right[1]);
        let epochs = [5, 6, 7].map(BrokerEpoch);
        near.network.set_epoch(epochs[0]);
        near.send(far.at, 1).unwrap();
        assert!(within(&simulation, SOON, || far.numbers(near.at) == [1]));
        near.network.set_epoch(epochs[0]);
        simulation.run_for(SOON);
        assert_eq!(near.downs(far.at), 0, "it is the same");
        near.network.set_epoch(epochs[1]);
        let told = || near.downs(far.at) == 1 && far.downs(near.at) == 1;
        assert!(within(&simulation, SOON, told));
        // Whoever makes the next one, it shows the new one.
        assert!(within(&simulation, SOON, || far.send(near.at, 2).is_ok()));
        assert!(within(&simulation, SOON, || near.numbers(far.at) == [2]));
        near.network.set_epoch(epochs[2]);
        assert!(within(&simulation, SOON, || near.send(far.at, 3).is_ok()));
        assert!(within(&simulation, SOON, || far.numbers(near.at) == [1, 3]));
        assert_eq!(far.epochs(near.at), epochs, "seed {seed}");
        let shown = far.seen.borrow().iter().rev().find_map(|seen| match seen {
            Seen::Message(_, identity, _) => Some(identity.epoch),
            _ => None,
        });
        assert_eq!(shown, Some(epochs[2]));
    }
}

#[test]
fn a_directory_that_is_another_one_gets_nothing_and_ends_the_stream() {
    let simulation = Simulation::new(4, 2, SHARDS);
    let [left, right] = brokers(&simulation, &Settings::default());
    let (near, far) = (&left[1], &right[1]);
    near.send(far.at, 1).unwrap();
    assert!(within(&simulation, SOON, || far.numbers(near.at) == [1]));
    for unit in [near, far] {
        let node = if unit.at == near.at { 1 } else { 0 };
        let book = [(id(node), entry(&simulation, node, Some(2)))];
        unit.network.set_book(book.into()).unwrap();
    }
    let told = || near.downs(far.at) == 1 && far.downs(near.at) == 1;
    assert!(within(&simulation, SOON, told));
    for value in 2..50 {
        let _ = near.send(far.at, value);
        let _ = far.send(near.at, value);
        simulation.run_for(Duration::from_millis(20));
    }
    assert_eq!(far.numbers(near.at), [1]);
    assert_eq!(near.numbers(far.at), []);
    // Back in the book, all goes on.
    for (unit, node) in [(near, 0), (far, 1)] {
        unit.network.set_book(bed::book(&simulation, node)).unwrap();
    }
    let flows = |from: &Unit, to: &Unit, value| {
        let _ = from.send(to.at, value);
        to.numbers(from.at).contains(&value)
    };
    assert!(within(&simulation, SOON * 3, || flows(near, far, 90)
        && flows(far, near, 91)));
}

#[test]
fn an_end_in_order_sends_what_waits() {
    for seed in seeds(20) {
        let simulation = Simulation::new(seed, 2, SHARDS);
        let [left, right] = brokers(&simulation, &Settings::default());
        let (near, far) = (&left[0], &right[1]);
        near.send(far.at, 0).unwrap();
        assert!(within(&simulation, SOON, || far.numbers(near.at) == [0]));
        for value in 1..200 {
            near.send(far.at, value).unwrap();
        }
        let began = simulation.now();
        simulation.block_on(0, near.network.close(SOON * 5));
        assert!(simulation.now().since(began) < SOON * 5, "seed {seed}");
        assert_eq!(near.send(far.at, 1), Err(NotSent::Closing));
        let all = || far.numbers(near.at).len() == 200 && far.downs(near.at) == 1;
        assert!(within(&simulation, SOON, all), "seed {seed}");
        // It is told behind what has come.
        let last = far.seen.borrow().last().cloned();
        assert_eq!(last, Some(Seen::Down(near.at)));
    }
}

#[test]
fn what_waits_for_one_directory_is_not_sent_to_another() {
    let simulation = Simulation::new(9, 2, SHARDS);
    let settings = Settings::default();
    let left = start_broker(&simulation, 0, 1, &settings, false);
    let right = start_broker(&simulation, 1, 2, &settings, false);
    simulation.run_for(Duration::from_millis(10));
    let far = Duration::from_millis(100);
    simulation.set_network_delay(far, far);
    // Meant for the first directory, and still connecting when the book learns of the second.
    left[1].send(right[1].at, 7).unwrap();
    simulation.run_for(far);
    let book = [(id(1), entry(&simulation, 1, Some(2)))];
    left[1].network.set_book(book.into()).unwrap();
    assert_eq!(left[1].send(right[1].at, 8), Err(NotSent::Unreachable));
    simulation.run_for(Duration::from_millis(1));
    assert_eq!(left[1].downs(right[1].at), 1);
    left[1].send(right[1].at, 9).unwrap();
    simulation.run_for(SOON * 5);
    assert_eq!(right[1].numbers(left[1].at), [9]);
}

#[test]
fn who_takes_nothing_is_told_of_many_ends_once() {
    let simulation = Simulation::new(10, 2, SHARDS);
    let [left, right] = brokers(&simulation, &Settings::default());
    let (near, far) = (&left[1], &right[1]);
    near.send(far.at, 1).unwrap();
    assert!(within(&simulation, SOON, || far.numbers(near.at) == [1]));
    // Somebody who says nothing comes and goes, and far's driver takes nothing.
    far.is_stuck.set(true);
    let mut stranger = hello(Purpose::Stream);
    stranger.to.node = id(1);
    stranger.target_shard = far.at.shard;
    for _ in 0..50 {
        // Each takes the place of the one before.
        say_to(&simulation, 1, vec![stranger.encode()]);
        simulation.run_for(SOON / 20);
    }
    simulation.run_for(SOON * 5);
    far.is_stuck.set(false);
    simulation.run_for(SOON);
    let from = Target {
        node: stranger.from.node(),
        shard: stranger.source_shard,
    };
    assert_eq!((far.ups(from), far.downs(from)), (0, 1));
    assert_eq!(far.network.streams().len(), 1);
    assert_eq!((far.ups(near.at), far.downs(near.at)), (1, 0));
}

#[test]
fn a_full_room_leaves_pings_their_answers() {
    let (simulation, [_, right], _) = press(2, None);
    let mut words = hello(Purpose::Stream);
    words.to.node = id(1);
    words.target_shard = right[1].at.shard;
    let pings = (1..=3).map(|number| header(Kind::Ping, 0, number));
    let words = [words.encode()].into_iter().chain(pings).collect();
    let raw = say_to(&simulation, 1, words);
    simulation.run_for(SOON / 2);
    let pong = header(Kind::Pong, 0, 3);
    let heard = raw.heard.borrow();
    assert!(
        heard.windows(pong.len()).any(|bytes| bytes == pong),
        "no answer"
    );
}

#[test]
fn who_has_closed_makes_no_connections_any_more() {
    let simulation = Simulation::new(11, 2, SHARDS);
    let left = start_broker(&simulation, 0, 1, &Settings::default(), false);
    let near = &left[0];
    near.send(at(1, 1), 1).unwrap();
    assert!(within(&simulation, SOON, || near.downs(at(1, 1)) == 1));
    // It is a pause, and something is wanted.
    assert_eq!(near.send(at(1, 1), 2), Err(NotSent::Unreachable));
    simulation.block_on(0, near.network.close(SOON));
    let failed = near.network.counters().failed.get();
    start_broker(&simulation, 1, 1, &Settings::default(), false);
    simulation.run_for(SOON * 5);
    let counters = near.network.counters();
    assert_eq!((counters.failed.get(), counters.greeted.get()), (failed, 0));
    assert!(near.network.streams().is_empty());
}

#[test]
fn there_are_so_many_streams_and_no_more() {
    let simulation = Simulation::new(12, 2, SHARDS);
    let [left, _] = brokers(&simulation, &Settings::default());
    let book = (1..=1024).map(|node| (id(node), entry(&simulation, 1, None)));
    left[1].network.set_book(book.collect()).unwrap();
    let mut sent = (1..=1024).flat_map(|node| (0..4).map(move |shard| at(node, shard)));
    assert!(sent.all(|to| left[1].send(to, 1).is_ok()));
    assert_eq!(left[1].send(at(1, 4), 1), Err(NotSent::TooMany));
    assert_eq!(left[1].send(at(1024, 3), 2), Ok(()), "there is one");
    // None of them can be reached in the end, and each has its place no longer than its pause.
    simulation.run_for(SOON * 10);
    assert!(left[1].network.streams().is_empty());
    assert_eq!(left[1].count(|seen| matches!(seen, Seen::Down(_))), 4096);
}

/// Heap that is held behind a message of so many bytes, while it is.
fn held_bytes(length: usize) -> usize {
    let simulation = Simulation::new(13, 2, SHARDS);
    let [left, right] = brokers(&simulation, &Settings::default());
    let (near, far) = (&left[1], &right[1]);
    near.send(far.at, 1).unwrap();
    assert!(within(&simulation, SOON, || far.numbers(near.at) == [1]));
    let payload = Bytes::from(vec![7; length]);
    let heap = measure(|| {
        let sent = near.network.stream_send(far.at, payload.clone());
        sent.unwrap();
        let came = || far.numbers(near.at).len() == 2;
        assert!(within(&simulation, SOON * 10, came));
        simulation.run_for(SOON);
    });
    usize::try_from(heap.bytes_current).unwrap()
}

#[test]
fn a_message_that_is_held_holds_no_more_than_its_bytes_and_a_block() {
    for length in [
        100 << 10,
        1 << 20,
        3 << 20,
        (4 << 20) + 1000,
        5 << 20,
        6_500_000,
    ] {
        let held = held_bytes(length);
        let most = length + (160 << 10);
        assert!((length..most).contains(&held), "{held} bytes for {length}");
    }
}
