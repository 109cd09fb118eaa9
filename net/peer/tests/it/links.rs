//! Links between brokers: order, queues, ends, pauses, and what the driver is told.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peer::{LinkState, NotSent, PeerEvent, PlantedFault, Purpose, Settings};
use runtime::sim::Simulation;

use crate::bed::{self, Broker, CLUSTER, entry, entry_at, id, key, seeds, within};

const SOON: Duration = Duration::from_secs(1);

fn pair(simulation: &Simulation, settings: &Settings) -> [Broker; 2] {
    let brokers = [0, 1].map(|node| bed::start(simulation, node, settings.clone()));
    simulation.run_for(Duration::from_millis(10));
    brokers
}

fn unreachable(node: usize) -> PeerEvent {
    PeerEvent::Unreachable(id(node).into(), Purpose::Raft)
}

#[test]
fn messages_arrive_in_order_and_once() {
    for seed in seeds(50) {
        let simulation = Simulation::new(seed, 2, 1);
        let brokers = pair(&simulation, &Settings::default());
        for value in 0..500 {
            brokers[0].send_number(1, value).unwrap();
            if value % 50 == 0 {
                simulation.run_for(Duration::from_millis(1));
            }
        }
        assert!(within(&simulation, SOON, || brokers[1].numbers().len() == 500));
        assert_eq!(brokers[1].numbers(), (0..500).collect::<Vec<_>>());
        let (from, _) = brokers[1].taken.messages.borrow()[0].clone();
        assert_eq!(from, key(0, 1));
        assert!(brokers[0].taken.events.borrow().is_empty());
        let status = brokers[0].network.links()[0];
        assert_eq!(status.state, LinkState::Up);
        assert_eq!(status.identity.unwrap().key, key(1, 1));
    }
}

#[test]
fn the_largest_message_passes_and_a_larger_one_is_not_taken() {
    let simulation = Simulation::new(1, 2, 1);
    let brokers = pair(&simulation, &Settings::default());
    let most = quorum::FRAME_BYTES_MAX;
    let network = &brokers[0].network;
    let long = Bytes::from(vec![7; most + 1]);
    let sent = network.send(id(1), Purpose::Raft, long.clone());
    assert_eq!(sent, Err(NotSent::TooLong));
    // In pieces, as the quorum has it.
    let pieces = vec![long.slice(..512), long.slice(512..most)];
    assert_eq!(network.send(id(1), Purpose::Raft, pieces), Ok(()));
    let came = || brokers[1].taken.messages.borrow().len() == 1;
    assert!(within(&simulation, Duration::from_secs(60), came));
    let (_, payload) = brokers[1].taken.messages.borrow()[0].clone();
    assert!(payload == long.slice(..most));
    let misplaced = network.send(id(1), Purpose::Forward, long.slice(..1));
    assert_eq!(misplaced, Err(NotSent::Misplaced));
}

#[test]
fn who_is_not_in_the_book_gets_nothing() {
    let simulation = Simulation::new(2, 2, 1);
    let brokers = pair(&simulation, &Settings::default());
    assert_eq!(brokers[0].send_number(8, 1), Err(NotSent::Unknown));
    brokers[0].send_number(1, 1).unwrap();
    assert!(within(&simulation, SOON, || brokers[1].numbers() == [1]));
    brokers[0].network.set_book(BTreeMap::new()).unwrap();
    assert_eq!(brokers[0].send_number(1, 2), Err(NotSent::Unknown));
    let is_gone = || brokers[1].network.accepted() == 0;
    assert!(within(&simulation, SOON, is_gone), "its connection stays");
    assert!(brokers[0].network.links().is_empty());
}

#[test]
fn a_refusing_port_is_suspect_and_a_broker_that_comes_is_found_at_once() {
    for seed in seeds(20) {
        let simulation = Simulation::new(seed, 2, 1);
        let settings = Settings {
            backoff_min: Duration::from_secs(600),
            backoff_max: Duration::from_secs(600),
            ..Settings::default()
        };
        let first = bed::start(&simulation, 0, settings.clone());
        let began = simulation.now();
        first.send_number(1, 1).unwrap();
        let suspect = PeerEvent::Suspect(id(1).into());
        let is_told = || first.was_told(began, suspect) && first.was_told(began, unreachable(1));
        assert!(within(&simulation, SOON, is_told));
        assert_eq!(first.send_number(1, 2), Err(NotSent::Unreachable));
        // The pause is ten minutes, but whoever says hello is there.
        let second = bed::start(&simulation, 1, settings);
        simulation.run_for(Duration::from_millis(10));
        second.send_number(0, 3).unwrap();
        assert!(within(&simulation, SOON, || first.numbers() == [3]));
        let goes = || first.send_number(1, 4).is_ok();
        assert!(within(&simulation, SOON, goes));
        assert!(within(&simulation, SOON, || second.numbers() == [4]));
    }
}

#[test]
fn the_second_address_is_tried() {
    let simulation = Simulation::new(3, 2, 1);
    let brokers = pair(&simulation, &Settings::default());
    let mut both = entry_at(&simulation, 1, 1, Some(1));
    both.addresses.push(("nonsense".to_owned(), 1));
    both.addresses
        .extend(entry(&simulation, 1, Some(1)).addresses);
    let book = BTreeMap::from([(id(1), both)]);
    brokers[0].network.set_book(book).unwrap();
    brokers[0].send_number(1, 1).unwrap();
    assert!(within(&simulation, SOON, || brokers[1].numbers() == [1]));
    assert!(brokers[0].taken.events.borrow().is_empty());
}

#[test]
fn after_a_kill_and_a_restart_messages_flow_again() {
    for seed in seeds(50) {
        let simulation = Simulation::new(seed, 2, 1);
        let brokers = pair(&simulation, &Settings::default());
        brokers[0].send_number(1, 1).unwrap();
        assert!(within(&simulation, SOON, || brokers[1].numbers() == [1]));
        let killed_at = simulation.now();
        simulation.kill(1);
        let is_told = || brokers[0].was_told(killed_at, unreachable(1));
        assert!(within(&simulation, SOON, is_told), "seed {seed}");
        simulation.run_for(Duration::from_secs(3));
        simulation.restart(1);
        let second = bed::start(&simulation, 1, Settings::default());
        let mut value = 2;
        let flows = || {
            value += 1;
            let _ = brokers[0].send_number(1, value);
            !second.numbers().is_empty()
        };
        let limit = Settings::default().backoff_max * 2;
        assert!(within(&simulation, limit, flows), "seed {seed}");
    }
}

/// Whether the driver is told in time that the machine is gone.
fn notices_a_dead_machine(seed: u64, planted: Option<PlantedFault>) -> bool {
    let simulation = Simulation::new(seed, 2, 1);
    let settings = Settings {
        planted,
        ..Settings::default()
    };
    let brokers = pair(&simulation, &settings);
    brokers[0].send_number(1, 1).unwrap();
    assert!(within(&simulation, SOON, || brokers[1].numbers() == [1]));
    let cut_at = simulation.now();
    simulation.power_cut(1);
    let limit = settings.silence_max + settings.ping_interval;
    within(&simulation, limit, || {
        brokers[0].was_told(cut_at, unreachable(1))
    })
}

#[test]
fn a_dead_machine_is_noticed() {
    for seed in seeds(20) {
        assert!(notices_a_dead_machine(seed, None), "seed {seed}");
    }
    assert!(!notices_a_dead_machine(
        1,
        Some(PlantedFault::SilenceUnnoticed)
    ));
}

#[test]
fn a_path_that_is_dead_one_way_is_noticed_and_used_again_when_it_heals() {
    for seed in seeds(30) {
        for (from, to) in [(0, 1), (1, 0)] {
            let simulation = Simulation::new(seed, 2, 1);
            let brokers = pair(&simulation, &Settings::default());
            brokers[0].send_number(1, 1).unwrap();
            assert!(within(&simulation, SOON, || brokers[1].numbers() == [1]));
            let cut_at = simulation.now();
            simulation.cut_one_way(from, to);
            let limit = Settings::default().silence_max + SOON;
            let is_told = || brokers[0].was_told(cut_at, unreachable(1));
            assert!(within(&simulation, limit, is_told), "seed {seed}");
            simulation.run_for(Duration::from_secs(30));
            simulation.heal(0, 1);
            let mut value = 100;
            let flows = || {
                value += 1;
                let _ = brokers[0].send_number(1, value);
                brokers[1].numbers().len() > 1
            };
            let limit = Settings::default().backoff_max + SOON * 2;
            assert!(within(&simulation, limit, flows), "seed {seed}");
        }
    }
}

/// The most that waited while nothing could be sent, and whether the sender was told.
fn queued_before_a_wall(planted: Option<PlantedFault>) -> (usize, usize) {
    let simulation = Simulation::new(4, 2, 1);
    let settings = Settings {
        queue_bytes_max: 1 << 20,
        silence_max: Duration::from_secs(600),
        stall_max: Duration::from_secs(600),
        planted,
        ..Settings::default()
    };
    let brokers = pair(&simulation, &settings);
    brokers[0].send_number(1, 1).unwrap();
    assert!(within(&simulation, SOON, || brokers[1].numbers() == [1]));
    simulation.cut(0, 1);
    let network = &brokers[0].network;
    let (mut most, mut refused) = (0, 0);
    for _ in 0..500 {
        let piece = Bytes::from(vec![1; 10_000]);
        match network.send(id(1), Purpose::Raft, piece) {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, NotSent::Full);
                refused += 1;
            }
        }
        most = most.max(network.links()[0].queued_bytes);
        simulation.run_for(Duration::from_millis(1));
    }
    (most, refused)
}

#[test]
fn what_waits_is_bounded_and_the_sender_knows() {
    let (most, refused) = queued_before_a_wall(None);
    assert!(most <= 1 << 20 && refused > 0, "{most} {refused}");
    let planted = Some(PlantedFault::QueueUnbounded);
    let (most, refused) = queued_before_a_wall(planted);
    assert!(most > 1 << 20 && refused == 0, "{most} {refused}");
}

#[test]
fn a_driver_that_takes_nothing_stops_those_who_send() {
    let simulation = Simulation::new(5, 2, 1);
    let settings = Settings {
        incoming_bytes_max: 100_000,
        queue_bytes_max: 100_000,
        stall_max: Duration::from_secs(60),
        ..Settings::default()
    };
    let brokers = pair(&simulation, &settings);
    brokers[1].taken.is_stuck.set(true);
    let mut taken = 0u64;
    for _ in 0..3000 {
        let mut piece = vec![0; 1000];
        piece[..8].copy_from_slice(&taken.to_be_bytes());
        let sent = brokers[0]
            .network
            .send(id(1), Purpose::Raft, Bytes::from(piece));
        taken += u64::from(sent.is_ok());
        simulation.run_for(Duration::from_millis(2));
        assert!(brokers[1].network.incoming_bytes() <= 100_000);
        assert!(brokers[0].network.links()[0].queued_bytes <= 100_000);
    }
    assert!(taken < 3000, "nothing stopped the sender");
    // Longer than silence is borne: a broker that waits for room is not silent, and lost is nothing.
    simulation.run_for(settings.silence_max * 3);
    brokers[1].taken.is_stuck.set(false);
    let came = || brokers[1].taken.messages.borrow().len() as u64 == taken;
    assert!(within(&simulation, SOON * 10, came));
    let messages = brokers[1].taken.messages.borrow();
    for (number, (_, payload)) in (0u64..).zip(messages.iter()) {
        assert_eq!(payload[..8], number.to_be_bytes());
    }
    assert!(brokers[0].taken.events.borrow().is_empty());
}

#[test]
fn a_connection_that_is_not_used_is_closed_and_made_again_without_a_word() {
    let simulation = Simulation::new(6, 2, 1);
    let settings = Settings {
        idle_max: Duration::from_secs(20),
        ..Settings::default()
    };
    let brokers = pair(&simulation, &settings);
    brokers[0].send_number(1, 1).unwrap();
    simulation.run_for(Duration::from_secs(15));
    brokers[0].send_number(1, 2).unwrap();
    simulation.run_for(Duration::from_secs(15));
    assert_eq!(brokers[0].network.links()[0].state, LinkState::Up);
    simulation.run_for(Duration::from_secs(10));
    assert_eq!(brokers[0].network.links()[0].state, LinkState::Idle);
    assert_eq!(brokers[1].network.accepted(), 0);
    brokers[0].send_number(1, 3).unwrap();
    assert!(within(&simulation, SOON, || brokers[1].numbers() == [1, 2, 3]));
    assert!(brokers[0].taken.events.borrow().is_empty());
}

#[test]
fn pings_measure_the_way_there_and_back() {
    let simulation = Simulation::new(7, 2, 1);
    simulation.set_network_delay(Duration::from_millis(5), Duration::from_millis(6));
    let brokers = pair(&simulation, &Settings::default());
    brokers[0].send_number(1, 1).unwrap();
    simulation.run_for(SOON * 3);
    let took = brokers[0].network.links()[0].round_trip.unwrap();
    assert!(took >= Duration::from_millis(10), "{took:?}");
    // One packet in 128 takes eight times as long.
    assert!(took <= Duration::from_millis(100), "{took:?}");
}

#[test]
fn an_end_in_order_sends_what_waits_and_refuses_newcomers() {
    for seed in seeds(20) {
        let simulation = Simulation::new(seed, 2, 1);
        let brokers = pair(&simulation, &Settings::default());
        for value in 0..200 {
            brokers[0].send_number(1, value).unwrap();
        }
        let began = simulation.now();
        let closing = brokers[0].network.close(SOON * 5);
        simulation.block_on(0, closing);
        assert!(simulation.now().since(began) < SOON * 5, "seed {seed}");
        assert_eq!(brokers[0].send_number(1, 1), Err(NotSent::Closing));
        assert!(within(&simulation, SOON, || brokers[1].numbers().len() == 200));
        let found = simulation.block_on(1, brokers[1].network.probe(id(0)));
        let refusal = peer::Refusal::ShuttingDown;
        assert_eq!(found, Err(peer::ProbeError::Refused(refusal)));
    }
}

#[test]
fn another_directory_under_a_known_number_gets_nothing_until_the_book_has_it() {
    for seed in seeds(20) {
        let simulation = Simulation::new(seed, 2, 1);
        let settings = Settings::default();
        let brokers = pair(&simulation, &settings);
        brokers[0].send_number(1, 1).unwrap();
        assert!(within(&simulation, SOON, || brokers[1].numbers() == [1]));
        simulation.kill(1);
        simulation.wipe(1);
        simulation.restart(1);
        let wiped = bed::make(&simulation, 1, 2, CLUSTER, settings.clone());
        wiped.network.set_book(bed::book(&simulation, 1)).unwrap();
        bed::listen(&simulation, &wiped, 1);
        let mut value = 10;
        let mut send = || {
            value += 1;
            let _ = brokers[0].send_number(1, value);
            let _ = wiped.send_number(0, value);
            !wiped.numbers().is_empty() || !brokers[0].numbers().is_empty()
        };
        let limit = Duration::from_secs(5);
        assert!(!within(&simulation, limit, &mut send), "seed {seed}");
        let book = BTreeMap::from([(id(1), entry(&simulation, 1, Some(2)))]);
        brokers[0].network.set_book(book).unwrap();
        assert!(within(&simulation, limit, &mut send), "seed {seed}");
        let both = || {
            let _ = brokers[0].send_number(1, 999);
            let _ = wiped.send_number(0, 999);
            !wiped.numbers().is_empty() && !brokers[0].numbers().is_empty()
        };
        assert!(within(&simulation, limit, both), "seed {seed}");
    }
}

#[test]
fn connections_end_when_the_book_learns_of_another_directory() {
    let simulation = Simulation::new(8, 2, 1);
    let brokers = pair(&simulation, &Settings::default());
    brokers[0].send_number(1, 1).unwrap();
    assert!(within(&simulation, SOON, || brokers[1].numbers() == [1]));
    // The accepting side: the caller is not whom it should be.
    let book = BTreeMap::from([(id(0), entry(&simulation, 0, Some(2)))]);
    brokers[1].network.set_book(book).unwrap();
    let is_gone = || brokers[1].network.accepted() == 0;
    assert!(within(&simulation, SOON, is_gone));
    for value in 2..100 {
        let _ = brokers[0].send_number(1, value);
        simulation.run_for(Duration::from_millis(20));
    }
    assert_eq!(brokers[1].numbers(), [1]);
}

#[test]
fn what_waits_for_one_directory_is_not_sent_to_another() {
    let simulation = Simulation::new(9, 2, 1);
    let first = bed::start(&simulation, 0, Settings::default());
    let second = bed::make(&simulation, 1, 2, CLUSTER, Settings::default());
    bed::listen(&simulation, &second, 1);
    simulation.run_for(Duration::from_millis(10));
    let far = Duration::from_millis(100);
    simulation.set_network_delay(far, far);
    // Meant for the first directory, and still connecting when the book learns of the second.
    first.send_number(1, 7).unwrap();
    simulation.run_for(far);
    let book = BTreeMap::from([(id(1), entry(&simulation, 1, Some(2)))]);
    first.network.set_book(book).unwrap();
    first.send_number(1, 8).unwrap();
    simulation.run_for(Duration::from_secs(5));
    assert_eq!(second.numbers(), [8]);
}

#[test]
fn pauses_begin_short_again_after_a_connection_that_stayed() {
    let simulation = Simulation::new(10, 2, 1);
    let first = bed::start(&simulation, 0, Settings::default());
    for value in 0..500 {
        let _ = first.send_number(1, value);
        simulation.run_for(Duration::from_millis(20));
    }
    let second = bed::start(&simulation, 1, Settings::default());
    let flows = || {
        let _ = first.send_number(1, 1);
        !second.numbers().is_empty()
    };
    assert!(within(&simulation, SOON * 2, flows));
    simulation.run_for(SOON * 3);
    let reset_at = simulation.now();
    simulation.reset_connections(0, 1);
    let is_told = || first.was_told(reset_at, unreachable(1));
    assert!(within(&simulation, SOON, is_told));
    let is_up = || first.network.links()[0].state == LinkState::Up;
    let limit = Settings::default().backoff_min * 5;
    assert!(within(&simulation, limit, is_up), "a long pause");
}
