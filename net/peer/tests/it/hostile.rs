//! Whoever speaks nonsense to the port of the brokers is cut off alone, in time, and takes no memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use allocation_counter::measure;
use bytes::{Bytes, BytesMut};
use model::{BrokerEpoch, ShardId};
use peer::frame::Header;
use peer::handshake::{
    Expected, Hello, VERSIONS, Welcome, decode_answer, encode_answer, take_body,
};
use peer::{
    CallError, FORWARD_BYTES_MAX, Kind, PeerEvent, PeerIdentity, Purpose, Refusal, Remote, Reply,
    RequestHandler, Settings,
};
use runtime::sim::Simulation;
use runtime::{Io, Listener as _, Stream as _};

use crate::bed::{self, Broker, CLUSTER, PORT, id, key, within};

const SOON: Duration = Duration::from_secs(1);

/// A connection made by hand.
pub(crate) struct Raw {
    pub(crate) heard: Rc<RefCell<BytesMut>>,
    pub(crate) is_ended: Rc<Cell<bool>>,
}

/// Connects from the client node, sends `words` one after the other with a pause, and listens until the end.
pub(crate) fn say(simulation: &Simulation, words: Vec<Bytes>) -> Raw {
    say_to(simulation, 0, words)
}

/// The same, to that node.
pub(crate) fn say_to(simulation: &Simulation, node: usize, words: Vec<Bytes>) -> Raw {
    let raw = Raw {
        heard: Rc::default(),
        is_ended: Rc::default(),
    };
    let (heard, is_ended) = (raw.heard.clone(), raw.is_ended.clone());
    let client = simulation.client();
    let (io, address) = (simulation.io(client, 0), simulation.address(node, PORT));
    simulation.spawn(client, 0, async move {
        let stream = io.connect(address).await.unwrap();
        let speaking = stream.clone();
        let pausing = io.clone();
        io.spawn(runtime::TaskClass::Foreground, async move {
            for word in words {
                if speaking.write_all(&mut vec![word]).await.is_err() {
                    return;
                }
                pausing.sleep(Duration::from_millis(20)).await;
            }
        });
        loop {
            let mut buffer = BytesMut::with_capacity(4096);
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(_) => heard.borrow_mut().extend_from_slice(&buffer),
            }
        }
        is_ended.set(true);
    });
    raw
}

pub(crate) fn hello(purpose: Purpose) -> Hello {
    Hello {
        versions: VERSIONS,
        purpose: purpose.code(),
        source_shard: ShardId(0),
        target_shard: ShardId(0),
        from: PeerIdentity {
            key: key(8, 1),
            epoch: BrokerEpoch(-1),
        },
        to: Expected {
            node: id(0),
            directory: None,
        },
        cluster: CLUSTER.to_owned(),
    }
}

pub(crate) fn header(kind: Kind, length: u32, number: u64) -> Bytes {
    let header = Header {
        length,
        kind,
        number,
    };
    header.encode()
}

pub(crate) fn refusal(raw: &Raw) -> Option<Refusal> {
    let body = take_body(&mut raw.heard.borrow_mut()).ok()??;
    decode_answer(&body).ok()?.err()
}

/// Two brokers that talk, and go on talking whatever is said to the first.
struct Talk {
    simulation: Simulation,
    brokers: [Broker; 2],
    sent: Cell<u64>,
}

impl Talk {
    fn new(seed: u64, settings: Settings) -> Talk {
        let simulation = Simulation::new(seed, 2, 1);
        let brokers = [0, 1].map(|node| bed::start(&simulation, node, settings.clone()));
        simulation.run_for(Duration::from_millis(10));
        let talk = Talk {
            simulation,
            brokers,
            sent: Cell::new(0),
        };
        talk.goes_on();
        talk
    }

    fn goes_on(&self) {
        for _ in 0..10 {
            self.brokers[1].send_number(0, self.sent.get()).unwrap();
            self.sent.set(self.sent.get() + 1);
        }
        let came = || self.brokers[0].numbers().len() as u64 == self.sent.get();
        assert!(within(&self.simulation, SOON, came));
        assert!(self.brokers[1].taken.events.borrow().is_empty());
    }
}

#[test]
fn nonsense_ends_its_connection_and_no_other() {
    let greeting = hello(Purpose::Raft).encode();
    let long = u32::try_from(quorum::FRAME_BYTES_MAX).unwrap() + 1;
    let mut damaged = header(Kind::Ping, 0, 1).to_vec();
    damaged[8] ^= 1;
    for (what, words) in [
        ("http", vec![Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n")]),
        ("kafka", vec![Bytes::from_static(b"\0\0\0\x10\0\x12\0\0")]),
        (
            "a request on raft",
            vec![greeting.clone(), header(Kind::Request, 0, 1)],
        ),
        (
            "an answer",
            vec![greeting.clone(), header(Kind::Answer, 0, 1)],
        ),
        (
            "a pong to nothing",
            vec![greeting.clone(), header(Kind::Pong, 0, 99)],
        ),
        (
            "too long",
            vec![greeting.clone(), header(Kind::Message, long, 1)],
        ),
        ("a gap", vec![greeting.clone(), header(Kind::Message, 0, 2)]),
        ("a damaged header", vec![greeting.clone(), damaged.into()]),
        ("a second hello", vec![greeting.clone(), greeting.clone()]),
    ] {
        let talk = Talk::new(1, Settings::default());
        let raw = say(&talk.simulation, words);
        assert!(
            within(&talk.simulation, SOON, || raw.is_ended.get()),
            "{what}"
        );
        assert_eq!(talk.brokers[0].network.counters().broken.get(), 1, "{what}");
        talk.goes_on();
        assert_eq!(talk.brokers[0].network.accepted(), 1, "{what}");
    }
}

#[test]
fn what_is_no_hello_is_answered_if_it_speaks_our_protocol() {
    let mut later = hello(Purpose::Raft);
    later.versions.least = 200;
    later.versions.greatest = 201;
    let mut torn = b"RLPB\0\x03".to_vec();
    torn.extend(crc32c::crc32c(b"\x01\x01\x01").to_be_bytes());
    torn.extend(b"\x01\x01\x01");
    for (words, expected) in [
        (later.encode(), Refusal::Version(VERSIONS)),
        (torn.into(), Refusal::Malformed),
        (hello(Purpose::Forward).encode(), Refusal::Purpose(2)),
    ] {
        let talk = Talk::new(2, Settings::default());
        let raw = say(&talk.simulation, vec![words]);
        assert!(within(&talk.simulation, SOON, || raw.is_ended.get()));
        assert_eq!(refusal(&raw), Some(expected));
        assert_eq!(talk.brokers[0].network.counters().refused.get(), 1);
        talk.goes_on();
    }
}

#[test]
fn who_says_nothing_or_half_is_cut_off_in_time() {
    let settings = Settings::default();
    let greeting = hello(Purpose::Raft).encode();
    for (words, limit) in [
        (Vec::new(), settings.greeting_timeout),
        (vec![greeting.slice(..20)], settings.greeting_timeout),
        // Welcome, and then silence.
        (vec![greeting.clone()], settings.silence_max),
        // A frame that never becomes whole.
        (
            vec![greeting.clone(), header(Kind::Message, 1000, 1)],
            settings.silence_max,
        ),
    ] {
        let talk = Talk::new(3, settings.clone());
        let raw = say(&talk.simulation, words);
        let limit = limit + Duration::from_millis(200);
        assert!(within(&talk.simulation, limit, || raw.is_ended.get()));
        talk.goes_on();
    }
}

#[test]
fn a_crowd_that_says_nothing_leaves_room_for_brokers() {
    let settings = Settings {
        greeting_max: 10,
        accepted_max: 10,
        ..Settings::default()
    };
    let talk = Talk::new(4, settings);
    let crowd: Vec<_> = (0..50).map(|_| say(&talk.simulation, Vec::new())).collect();
    talk.simulation.run_for(Duration::from_millis(200));
    let turned_away = talk.brokers[0].network.counters().turned_away.get();
    assert_eq!(turned_away, 40);
    assert!(talk.brokers[0].network.accepted() <= 11);
    talk.goes_on();
    let all = || crowd.iter().all(|raw| raw.is_ended.get());
    assert!(within(&talk.simulation, SOON * 2, all));
    let found = talk
        .simulation
        .block_on(1, talk.brokers[1].network.probe(id(0)));
    assert!(found.is_ok());
}

#[test]
fn more_brokers_than_there_is_room_for_are_told_so() {
    let settings = Settings {
        accepted_max: 3,
        ..Settings::default()
    };
    let talk = Talk::new(5, settings);
    let raws: Vec<_> = (0..6)
        .map(|node| {
            let mut hello = hello(Purpose::Raft);
            hello.from.key = key(10 + node, 1);
            let raw = say(&talk.simulation, vec![hello.encode()]);
            talk.simulation.run_for(Duration::from_millis(30));
            raw
        })
        .collect();
    // One place is the other broker's.
    let refused: Vec<_> = raws.iter().map(refusal).collect();
    let full = Some(Refusal::TooManyConnections);
    let mut expected = vec![None, None];
    expected.resize(6, full);
    assert_eq!(refused, expected);
    talk.goes_on();
}

struct Longest;

impl RequestHandler for Longest {
    fn handle(&self, _from: Remote, _request: Bytes, reply: Reply) {
        assert!(reply.answer(Bytes::from(vec![0; FORWARD_BYTES_MAX])));
    }
}

/// Asks for much, says that it is there, and reads nothing.
#[test]
fn who_does_not_read_its_answers_is_cut_off_and_the_others_get_theirs() {
    let settings = Settings {
        served_bytes_max: 3 * FORWARD_BYTES_MAX,
        ..Settings::default()
    };
    let talk = Talk::new(9, settings.clone());
    talk.brokers[0].network.serve_requests(Longest);
    let client = talk.simulation.client();
    let (io, address) = (
        talk.simulation.io(client, 0),
        talk.simulation.address(0, PORT),
    );
    let is_sent = Rc::new(Cell::new(false));
    let sent = is_sent.clone();
    talk.simulation.spawn(client, 0, async move {
        let stream = io.connect(address).await.unwrap();
        let mut words = vec![hello(Purpose::Forward).encode()];
        for number in 1..=20 {
            // The checksum of nothing is 0.
            words.push(header(Kind::Request, 4, number));
            words.push(Bytes::from_static(&[0; 4]));
        }
        stream.write_all(&mut words).await.unwrap();
        sent.set(true);
        for number in 1.. {
            let mut ping = vec![header(Kind::Ping, 0, number)];
            if stream.write_all(&mut ping).await.is_err() {
                return;
            }
            io.sleep(Duration::from_millis(200)).await;
        }
    });
    talk.simulation.run_for(SOON);
    assert!(is_sent.get());
    assert_eq!(talk.brokers[0].network.accepted(), 2);
    let network = &talk.brokers[1].network;
    let began = talk.simulation.now();
    let answer = network.call(
        id(0),
        Purpose::Forward,
        Bytes::new(),
        settings.stall_max * 2,
    );
    let answer = talk.simulation.block_on(1, answer).unwrap();
    assert_eq!(answer.len(), FORWARD_BYTES_MAX);
    let waited = talk.simulation.now().since(began);
    assert!(waited <= settings.stall_max + SOON, "{waited:?}");
    talk.goes_on();
}

#[test]
fn the_same_broker_anew_takes_the_place_of_its_old_connection() {
    let talk = Talk::new(6, Settings::default());
    let first = say(&talk.simulation, vec![hello(Purpose::Raft).encode()]);
    talk.simulation.run_for(Duration::from_millis(50));
    assert!(!first.is_ended.get());
    let _probe = say(&talk.simulation, vec![hello(Purpose::Probe).encode()]);
    talk.simulation.run_for(Duration::from_millis(50));
    assert!(
        !first.is_ended.get(),
        "another purpose is another connection"
    );
    let second = say(&talk.simulation, vec![hello(Purpose::Raft).encode()]);
    talk.simulation.run_for(Duration::from_millis(50));
    assert!(first.is_ended.get() && !second.is_ended.get());
    talk.goes_on();
}

/// What a listener that plays a broker answers to a hello.
fn answered_with(answer: Bytes, settings: Settings) -> (Simulation, Broker) {
    let simulation = Simulation::new(7, 2, 1);
    let broker = bed::start(&simulation, 0, settings);
    let (io, address) = (simulation.io(1, 0), simulation.address(1, PORT));
    simulation.spawn(1, 0, async move {
        let listener = io.listen(address, false).await.unwrap();
        let mut kept = Vec::new();
        loop {
            let stream = listener.accept().await.unwrap();
            let mut buffer = BytesMut::with_capacity(4096);
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(&mut vec![answer.clone()]).await;
            kept.push(stream);
        }
    });
    simulation.run_for(Duration::from_millis(10));
    (simulation, broker)
}

fn welcome(node: usize, directory: u8) -> Bytes {
    let identity = PeerIdentity {
        key: key(node, directory),
        epoch: BrokerEpoch(1),
    };
    encode_answer(&Ok(Welcome {
        version: 1,
        identity,
    }))
}

#[test]
fn an_answer_to_what_was_not_asked_ends_the_connection() {
    // A whole answer, with its checksum, to a request of that number.
    let mut words = welcome(1, 1).to_vec();
    words.extend_from_slice(&header(Kind::Answer, 5, 99));
    words.extend_from_slice(&crc32c::crc32c(&[0]).to_be_bytes());
    words.push(0);
    let (simulation, broker) = answered_with(words.into(), Settings::default());
    let limit = SOON * 10;
    let asked = broker
        .network
        .call(id(1), Purpose::Forward, Bytes::new(), limit);
    let began = simulation.now();
    let answer = simulation.block_on(0, asked);
    assert!(answer.is_err_and(|error| !matches!(error, CallError::TimedOut)));
    assert!(simulation.now().since(began) < SOON);
    assert_eq!(broker.network.counters().broken.get(), 1);
}

#[test]
fn nonsense_as_an_answer_is_noticed_in_time() {
    let mut eager = welcome(1, 1).to_vec();
    eager.extend_from_slice(&header(Kind::Message, 0, 1));
    for (what, answer) in [
        ("nothing", Bytes::new()),
        ("http", Bytes::from_static(b"HTTP/1.1 400")),
        ("half", welcome(1, 1).slice(..12)),
        ("another node", welcome(5, 1)),
        ("another directory", welcome(1, 5)),
        ("a hello", hello(Purpose::Raft).encode()),
        ("messages the wrong way", eager.into()),
        ("and then silence", welcome(1, 1)),
    ] {
        let settings = Settings::default();
        let (simulation, broker) = answered_with(answer, settings.clone());
        let began = simulation.now();
        broker.send_number(1, 1).unwrap();
        let event = PeerEvent::Unreachable(id(1).into(), Purpose::Raft);
        // Only who was welcome is waited for as long as a broker.
        let limit = match what {
            "and then silence" => settings.silence_max,
            _ => settings.greeting_timeout,
        };
        let limit = limit + Duration::from_millis(200);
        let is_told = || broker.was_told(began, event);
        assert!(within(&simulation, limit, is_told), "{what}");
    }
}

/// Heap at its peak while somebody announces a frame of `length` and sends `sent` bytes of it.
fn peak_bytes(length: u32, sent: usize) -> u64 {
    let talk = Talk::new(8, Settings::default());
    let words = vec![
        hello(Purpose::Raft).encode(),
        header(Kind::Message, length, 1),
        Bytes::from(vec![0; sent]),
    ];
    let heap = measure(|| {
        let raw = say(&talk.simulation, words);
        talk.simulation.run_for(SOON);
        assert!(!raw.is_ended.get());
    });
    heap.bytes_max
}

#[test]
fn memory_grows_with_what_came_and_not_with_what_was_announced() {
    let small = peak_bytes(20_000, 10_000);
    let large = peak_bytes(16 << 20, 10_000);
    // The simulated machine's own memory is the same in both.
    let more = large.saturating_sub(small);
    assert!(more <= 64 << 10, "{more} bytes for a length");
}
