//! Connections that one shard accepts and another one serves, and those that do not get there; and whoever speaks nonsense on
//! a stream.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use model::ShardId;
use peer::frame::{HEADER_BYTES, Header};
use peer::handshake::{Hello, decode_answer, take_body};
use peer::{
    HandBack, Kind, NotSent, Passage, Purpose, Refusal, STREAM_BYTES_MAX, Settings, Target,
};
use runtime::sim::{SimIo, Simulation};
use runtime::{Inbox, mailbox};

use crate::bed::{CLUSTER, id, key, within};
use crate::hostile::{Raw, header, hello, refusal, say};
use crate::stream_bed::{SHARDS, Seen, Unit, at, brokers, connect_shards, listen, start_broker};

const SOON: Duration = Duration::from_secs(1);

/// A stranger's wish for a stream to a shard.
fn wish(shard: u16, stranger: usize) -> Hello {
    let mut hello = hello(Purpose::Stream);
    hello.target_shard = ShardId(shard);
    hello.source_shard = ShardId(3);
    hello.from.key = key(stranger, 1);
    hello
}

fn stranger(node: usize) -> Target {
    Target {
        node: id(node),
        shard: ShardId(3),
    }
}

fn frame(number: u64, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap();
    let mut bytes = BytesMut::from(header(Kind::Message, length, number));
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

#[test]
fn what_comes_at_once_behind_a_hello_gets_there() {
    let words = [
        wish(1, 8).encode(),
        frame(1, &7_u64.to_be_bytes()),
        frame(2, &[8; 8]),
    ]
    .concat();
    for cut in (0..words.len()).step_by(9) {
        let simulation = Simulation::new(cut as u64, 2, SHARDS);
        let [left, _] = brokers(&simulation, &Settings::default());
        let (first, rest) = words.split_at(cut);
        let raw = say(
            &simulation,
            vec![first.to_vec().into(), rest.to_vec().into()],
        );
        let from = stranger(8);
        let numbers = [7, u64::from_be_bytes([8; 8])];
        let came = || left[1].numbers(from) == numbers;
        assert!(within(&simulation, SOON, came), "cut at {cut}");
        // And the way back.
        left[1].send(from, 9).unwrap();
        simulation.run_for(Duration::from_millis(100));
        let mut heard = raw.heard.borrow_mut();
        let body = take_body(&mut heard).unwrap().unwrap();
        let welcome = decode_answer(&body).unwrap().unwrap();
        assert_eq!(welcome.identity.key, key(0, 1));
        let back = frame(1, &9_u64.to_be_bytes());
        assert_eq!(heard[..back.len()], back);
        assert_eq!(left[0].seen.borrow().len(), 0);
        assert_eq!(
            (left[0].network.accepted(), left[1].network.accepted()),
            (0, 1)
        );
    }
}

#[test]
fn who_cannot_go_on_is_told_why() {
    let of_another = {
        let mut hello = wish(1, 8);
        hello.cluster = "another".to_owned();
        hello
    };
    let raft = {
        let mut hello = hello(Purpose::Raft);
        hello.target_shard = ShardId(1);
        hello
    };
    for (words, expected) in [
        (wish(9, 8), Refusal::Shard(ShardId(9))),
        (of_another, Refusal::Cluster(CLUSTER.to_owned())),
        (raft, Refusal::Purpose(Purpose::Raft.code())),
        (wish(1, 0), Refusal::Oneself),
    ] {
        let simulation = Simulation::new(1, 2, SHARDS);
        let [left, _] = brokers(&simulation, &Settings::default());
        let raw = say(&simulation, vec![words.encode()]);
        assert!(
            within(&simulation, SOON, || raw.is_ended.get()),
            "{expected}"
        );
        assert_eq!(refusal(&raw), Some(expected));
        let refused = |unit: &Unit| unit.network.counters().refused.get();
        assert_eq!(left.iter().map(refused).sum::<u64>(), 1);
        assert!(left.iter().all(|unit| unit.network.accepted() == 0));
    }
    // A shard that shuts down says so itself.
    let simulation = Simulation::new(1, 2, SHARDS);
    let [left, _] = brokers(&simulation, &Settings::default());
    simulation.block_on(0, left[1].network.close(SOON));
    let raw = say(&simulation, vec![wish(1, 8).encode()]);
    assert!(within(&simulation, SOON, || raw.is_ended.get()));
    assert_eq!(refusal(&raw), Some(Refusal::ShuttingDown));
}

/// A broker whose second shard takes nothing of what is handed over to it.
fn deaf(simulation: &Simulation, capacity: usize) -> (Vec<Unit>, Inbox<Passage<SimIo>>) {
    let units = start_broker_without_ways(simulation);
    let (sender, inbox) = mailbox(capacity);
    connect_shards(&units[0].network, vec![sender.clone(), sender]);
    listen(simulation, 0, &units[0]);
    simulation.run_for(Duration::from_millis(10));
    (units, inbox)
}

fn start_broker_without_ways(simulation: &Simulation) -> Vec<Unit> {
    let settings = Settings::default();
    let make = |shard| crate::stream_bed::unit(simulation, 0, shard, 1, &settings);
    (0..SHARDS).map(make).collect()
}

#[test]
fn a_shard_that_takes_nothing_holds_a_few_up_and_the_others_are_told() {
    let simulation = Simulation::new(2, 2, SHARDS);
    let (left, mut inbox) = deaf(&simulation, 2);
    let right = start_broker(&simulation, 1, 1, &Settings::default(), false);
    let raw = say(&simulation, vec![wish(1, 8).encode()]);
    right[0].send(at(0, 1), 1).unwrap();
    simulation.run_for(Duration::from_millis(100));
    let late = say(&simulation, vec![wish(1, 9).encode()]);
    assert!(within(&simulation, SOON, || late.is_ended.get()));
    assert_eq!(refusal(&late), Some(Refusal::TooManyConnections));
    // Who waits is told in time, and what it left behind harms nobody.
    let limit = Settings::default().greeting_timeout + SOON / 10;
    assert!(within(&simulation, limit, || right[0].downs(at(0, 1)) > 0));
    assert_eq!(inbox.depth(), 2);
    while let Some(passage) = inbox.try_next() {
        left[1].network.take_over(passage);
    }
    assert!(within(&simulation, SOON / 10, || raw.is_ended.get()));
    assert_eq!(left[1].network.counters().turned_away.get(), 2);
    assert_eq!(left[1].seen.borrow().len(), 0);
}

#[test]
fn a_passage_that_is_lost_ends_its_connection_at_once() {
    let simulation = Simulation::new(3, 2, SHARDS);
    let (left, mut inbox) = deaf(&simulation, 2);
    let raw = say(&simulation, vec![wish(1, 8).encode()]);
    simulation.run_for(Duration::from_millis(50));
    let passage = inbox.try_next().expect("it is there");
    assert_eq!(
        (passage.shard(), passage.from().key),
        (ShardId(1), key(8, 1))
    );
    assert!(!raw.is_ended.get());
    drop(passage);
    assert!(within(&simulation, SOON / 10, || raw.is_ended.get()));
    // One that went the wrong way does not go on.
    let raw = say(&simulation, vec![wish(1, 8).encode()]);
    simulation.run_for(Duration::from_millis(50));
    left[0]
        .network
        .take_over(inbox.try_next().expect("it is there"));
    assert!(within(&simulation, SOON, || raw.is_ended.get()));
    assert_eq!(refusal(&raw), Some(Refusal::Shard(ShardId(1))));
}

#[test]
fn a_shard_without_ways_to_others_refuses_what_is_theirs() {
    let simulation = Simulation::new(4, 2, SHARDS);
    let units = start_broker_without_ways(&simulation);
    listen(&simulation, 0, &units[0]);
    simulation.run_for(Duration::from_millis(10));
    let raw = say(&simulation, vec![wish(1, 8).encode()]);
    assert!(within(&simulation, SOON, || raw.is_ended.get()));
    assert_eq!(refusal(&raw), Some(Refusal::Shard(ShardId(1))));
    // A way that hands everything back as if it were none.
    units[0]
        .network
        .hand_over_by(|passage| Err(HandBack::NoShard(passage)));
    let raw = say(&simulation, vec![wish(1, 8).encode()]);
    assert!(within(&simulation, SOON, || raw.is_ended.get()));
    assert_eq!(refusal(&raw), Some(Refusal::Shard(ShardId(1))));
}

fn is_told(unit: &Unit, seen: &Seen) -> bool {
    unit.seen.borrow().contains(seen)
}

#[test]
fn nonsense_on_a_stream_ends_it_alone_and_is_told() {
    let long = u32::try_from(STREAM_BYTES_MAX).unwrap() + 1;
    let mut damaged = frame(1, b"x").to_vec();
    damaged[8] ^= 1;
    for (what, word) in [
        ("a request", header(Kind::Request, 0, 1)),
        ("an answer", header(Kind::Answer, 0, 1)),
        ("too long", header(Kind::Message, long, 1)),
        ("a gap", frame(2, b"x")),
        ("a damaged header", damaged.into()),
        ("a pong to nothing", header(Kind::Pong, 0, 99)),
    ] {
        let simulation = Simulation::new(5, 2, SHARDS);
        let [left, right] = brokers(&simulation, &Settings::default());
        left[1].send(right[1].at, 1).unwrap();
        let raw = say(&simulation, vec![wish(1, 8).encode(), word]);
        assert!(within(&simulation, SOON, || raw.is_ended.get()), "{what}");
        simulation.run_for(SOON);
        assert!(is_told(&left[1], &Seen::Down(stranger(8))), "{what}");
        assert_eq!(left[1].network.counters().broken.get(), 1, "{what}");
        assert_eq!(left[1].downs(right[1].at), 0, "{what}");
        // Nothing of it stays.
        assert_eq!(left[1].network.streams().len(), 1, "{what}");
        assert_eq!(left[1].network.stream_incoming_bytes(), 0, "{what}");
    }
}

#[test]
fn frames_that_are_not_whole_have_room_before_they_are_read() {
    const ANNOUNCED: usize = 20 << 20;
    let simulation = Simulation::new(6, 2, SHARDS);
    let settings = Settings {
        stream_incoming_bytes_max: 32 << 20,
        silence_max: SOON * 60,
        ..Settings::default()
    };
    let [left, right] = brokers(&simulation, &settings);
    let begin = |node| {
        let head = header(Kind::Message, u32::try_from(ANNOUNCED).unwrap(), 1);
        let part = Bytes::from(vec![0; 1 << 20]);
        say(&simulation, vec![wish(1, node).encode(), head, part])
    };
    let raws: Vec<Raw> = (8..12).map(begin).collect();
    simulation.run_for(SOON);
    // One of them has room; the parts of the others are not read.
    let bytes = left[1].network.stream_incoming_bytes();
    assert!((ANNOUNCED..ANNOUNCED + 1024).contains(&bytes), "{bytes}");
    assert!(raws.iter().all(|raw| !raw.is_ended.get()));
    // Nobody overtakes them.
    right[1].send(left[1].at, 1).unwrap();
    simulation.run_for(SOON);
    assert_eq!(left[1].numbers(right[1].at), []);
    for node in 8..12 {
        left[1].network.end_stream(stranger(node));
    }
    assert!(within(&simulation, SOON, || left[1].numbers(right[1].at) == [1]));
    assert!(within(&simulation, SOON, || left[1]
        .network
        .stream_incoming_bytes()
        == 0));
}

#[test]
fn a_stream_on_which_nothing_is_sent_costs_a_ping_in_its_time() {
    let simulation = Simulation::new(7, 2, SHARDS);
    let settings = Settings {
        silence_max: SOON * 60,
        ..Settings::default()
    };
    let [left, _] = brokers(&simulation, &settings);
    let raw = say(&simulation, vec![wish(1, 8).encode()]);
    simulation.run_for(SOON * 20);
    let mut heard = raw.heard.borrow_mut();
    assert!(take_body(&mut heard).unwrap().is_some());
    let mut pings = 0;
    while let Some(head) = heard.first_chunk::<HEADER_BYTES>() {
        let header = Header::decode(head, Purpose::Stream).unwrap();
        assert_eq!((header.kind, header.length), (Kind::Ping, 0));
        heard.advance(HEADER_BYTES);
        pings += 1;
    }
    assert!((35..=40).contains(&pings), "{pings} in 20 s");
    assert_eq!(left[1].downs(stranger(8)), 0);
}

#[test]
fn made_up_brokers_leave_nothing_behind() {
    let simulation = Simulation::new(8, 2, SHARDS);
    let settings = Settings {
        accepted_max: 10,
        ..Settings::default()
    };
    let [left, right] = brokers(&simulation, &settings);
    right[0].send(left[1].at, 1).unwrap();
    simulation.run_for(SOON / 10);
    for round in 0..5 {
        let crowd: Vec<_> = (0..20)
            .map(|number| {
                let raw = say(
                    &simulation,
                    vec![wish(1, 10 + number + round * 20).encode()],
                );
                simulation.run_for(Duration::from_millis(5));
                raw
            })
            .collect();
        simulation.run_for(SOON / 10);
        assert_eq!(left[1].network.accepted(), 10);
        assert_eq!(left[1].network.streams().len(), 10);
        let full = Some(Refusal::TooManyConnections);
        assert_eq!(crowd.iter().filter(|raw| refusal(raw) == full).count(), 11);
        // They say nothing more.
        simulation.run_for(settings.silence_max + SOON);
        assert_eq!(left[1].network.streams().len(), 1);
    }
    assert_eq!(left[1].network.accepted(), 1);
    assert_eq!(left[1].downs(right[0].at), 0);
    assert_eq!(left[1].send(stranger(10), 1), Err(NotSent::Unknown));
}
