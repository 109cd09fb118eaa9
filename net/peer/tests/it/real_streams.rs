//! Two brokers of two shards each on two executors, over real sockets of this machine: only the first executor listens, and
//! what is meant for the other one goes there.
//!
//! Where io_uring is not available the test says so on standard error and passes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{BrokerId, ShardId};
use peer::{
    BookEntry, HandBack, Local, NotSent, Passage, PeerNetwork, Settings, StreamEvent, Target,
    resolve_literal,
};
use quorum::{DirectoryId, ReplicaKey};
use runtime::{Inbox, Io, Listener as _, Sender, Signal, TaskClass, mailbox};
use uring::{UringIo, UringOptions};

use crate::real::{PATIENCE, is_available, within};

const BROKERS: [i32; 2] = [1, 2];
const MESSAGES: u64 = 2_000;
const LONG: usize = 3 << 20;
const PASSAGES_MAX: usize = 16;

/// What one core has of the other, or of itself.
struct Ends {
    passages: BTreeMap<BrokerId, Inbox<Passage<UringIo>>>,
    /// By broker: the ways to its shards.
    ways: BTreeMap<BrokerId, Vec<Sender<Passage<UringIo>>>>,
    tell: Sender<Word>,
    hear: Inbox<Word>,
}

/// What cores tell each other.
#[derive(Debug, PartialEq)]
enum Word {
    Listening(Vec<(BrokerId, SocketAddr)>),
    Done(u32),
}

/// The channels between the two cores, for each of them.
fn ends() -> [Ends; 2] {
    let words = [mailbox(4), mailbox(4)];
    let [(to_first, first), (to_second, second)] = words;
    let mut ends = [(to_second, first), (to_first, second)].map(|(tell, hear)| Ends {
        passages: BTreeMap::new(),
        ways: BTreeMap::new(),
        tell,
        hear,
    });
    for broker in BROKERS.map(BrokerId) {
        let mut ways = Vec::new();
        for end in &mut ends {
            let (sender, inbox) = mailbox(PASSAGES_MAX);
            ways.push(sender);
            end.passages.insert(broker, inbox);
        }
        for end in &mut ends {
            end.ways.insert(broker, ways.clone());
        }
    }
    ends
}

/// One shard of one broker.
struct Unit {
    at: Target,
    network: PeerNetwork<UringIo>,
    peers: BTreeMap<Target, Talk>,
}

/// With one other shard: numbers both ways.
#[derive(Default)]
struct Talk {
    sent: u64,
    came: u64,
    /// Nothing can be sent before there comes a word.
    waits: bool,
    fulls: u64,
    ups: u64,
    downs: u64,
}

fn target(node: i32, shard: u16) -> Target {
    Target {
        node: BrokerId(node),
        shard: ShardId(shard),
    }
}

impl Unit {
    fn new(io: &UringIo, node: i32, shard: u16, ends: &mut Ends) -> Unit {
        let at = target(node, shard);
        let local = Local {
            cluster: "real".to_owned(),
            key: key(node),
            shard: at.shard,
        };
        let resolve = Rc::new(resolve_literal);
        let settings = Settings {
            // So that three long messages fill it.
            stream_queue_bytes_max: 8 << 20,
            // A busy machine is no dead broker.
            silence_max: PATIENCE,
            stall_max: PATIENCE,
            greeting_timeout: PATIENCE,
            connect_timeout: PATIENCE,
            ..Settings::default()
        };
        let network = PeerNetwork::new(io.clone(), local, settings, resolve, Signal::new());
        let network = network.unwrap();
        network.serve_streams();
        let ways = ends.ways.remove(&at.node).unwrap();
        network.hand_over_by(move |passage| {
            let Some(way) = ways.get(usize::from(passage.shard().0)) else {
                return Err(HandBack::NoShard(passage));
            };
            way.try_send(passage).map_err(|full| HandBack::Full(full.0))
        });
        let mut passages = ends.passages.remove(&at.node).unwrap();
        let taking = network.clone();
        io.spawn(TaskClass::Foreground, async move {
            loop {
                taking.take_over(passages.next().await);
            }
        });
        let others = BROKERS.into_iter().filter(|other| *other != node);
        let peers = others.flat_map(|other| [target(other, 0), target(other, 1)]);
        let peers = peers.map(|peer| (peer, Talk::default())).collect();
        Unit { at, network, peers }
    }

    /// Takes what has come, numbers in order, and sends what there is room for, up to `until`.
    fn turn(&mut self, until: u64) -> bool {
        while let Some(event) = self.network.take_stream_event() {
            self.take(event);
        }
        for (to, talk) in &mut self.peers {
            while talk.sent < until && !talk.waits {
                let size = if talk.sent % 100 == 7 { LONG } else { 200 };
                let mut payload = vec![0; size];
                payload[..8].copy_from_slice(&talk.sent.to_be_bytes());
                match self.network.stream_send(*to, Bytes::from(payload)) {
                    Ok(()) => talk.sent += 1,
                    Err(NotSent::Full) => {
                        talk.waits = true;
                        talk.fulls += 1;
                    }
                    // A pause, behind which there comes a word.
                    Err(NotSent::Unreachable) => talk.waits = true,
                    Err(why) => panic!("{} to {to:?}: {why}", self.at.node),
                }
            }
        }
        let mut talks = self.peers.values();
        talks.all(|talk| talk.sent == until && talk.came == until)
    }

    fn take(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Up(with, identity) => {
                assert_eq!(identity.key, key(with.node.0));
                let talk = self.peers.get_mut(&with).unwrap();
                talk.ups += 1;
                talk.waits = false;
            }
            StreamEvent::Message(message) => {
                let talk = self.peers.get_mut(&message.from).unwrap();
                assert_eq!(message.payload[..8], talk.came.to_be_bytes());
                talk.came += 1;
            }
            StreamEvent::Room(with) => self.peers.get_mut(&with).unwrap().waits = false,
            StreamEvent::Down(with) => {
                let talk = self.peers.get_mut(&with).unwrap();
                talk.downs += 1;
                talk.waits = false;
            }
        }
    }
}

/// Every one has its turn; whether all are done.
fn turns(units: &mut [Unit], until: u64) -> bool {
    let waiting = units
        .iter_mut()
        .filter_map(|unit| (!unit.turn(until)).then_some(()));
    waiting.count() == 0
}

fn key(node: i32) -> ReplicaKey {
    ReplicaKey {
        broker: BrokerId(node),
        directory: DirectoryId([node as u8; 16]),
    }
}

/// Where the brokers listen: the first core says so, the second one hears it.
async fn addresses(
    io: &UringIo,
    index: u16,
    units: &[Unit],
    ends: &mut Ends,
) -> Vec<(BrokerId, SocketAddr)> {
    if index == 0 {
        let mut addresses = Vec::new();
        for unit in units {
            let any = "127.0.0.1:0".parse().unwrap();
            let listener = io.listen(any, false).await.unwrap();
            addresses.push((unit.at.node, listener.local_addr().unwrap()));
            unit.network.listen(listener);
        }
        ends.tell.send(Word::Listening(addresses.clone())).await;
        return addresses;
    }
    match ends.hear.next().await {
        Word::Listening(addresses) => addresses,
        other => panic!("{other:?}"),
    }
}

/// Both cores have come so far.
async fn meet(ends: &mut Ends, step: u32) {
    ends.tell.send(Word::Done(step)).await;
    assert_eq!(ends.hear.next().await, Word::Done(step));
}

async fn core(io: UringIo, index: u16, mut ends: Ends) {
    let mut units: Vec<_> = BROKERS
        .iter()
        .map(|node| Unit::new(&io, *node, index, &mut ends))
        .collect();
    for (broker, address) in addresses(&io, index, &units, &mut ends).await {
        let entry = BookEntry {
            addresses: vec![(address.ip().to_string(), address.port())],
            directory: Some(key(broker.0).directory),
        };
        let other = units.iter().find(|unit| unit.at.node != broker).unwrap();
        let book = BTreeMap::from([(broker, entry)]);
        other.network.set_book(book).unwrap();
    }
    let began = io.now();
    within(&io, "all messages", || turns(&mut units, MESSAGES)).await;
    meet(&mut ends, 1).await;
    if index == 0 {
        let took = io.now().since(began);
        let (short, long) = (MESSAGES * 8, MESSAGES / 100 * 8);
        println!("{short} messages, {long} of them of {LONG} bytes, in {took:?}");
    }
    for unit in &units {
        for talk in unit.peers.values() {
            assert_eq!((talk.ups, talk.downs), (1, 0), "one connection, no end");
        }
    }
    assert!(
        units
            .iter()
            .flat_map(|unit| unit.peers.values())
            .any(|talk| talk.fulls > 0)
    );
    let came = units
        .iter()
        .map(|unit| unit.network.counters().taken_over.get());
    if index == 1 {
        assert!(came.sum::<u64>() > 0, "nothing came from the other core");
    }
    end_and_begin_anew(&io, index, &mut units, &mut ends).await;
    for unit in &units {
        unit.network.close(Duration::from_secs(5)).await;
        assert_eq!(unit.network.accepted(), 0);
    }
    meet(&mut ends, 4).await;
}

/// The first core of the first broker ends its streams: both sides of them are told, and they are made again.
async fn end_and_begin_anew(io: &UringIo, index: u16, units: &mut [Unit], ends: &mut Ends) {
    let (ending, others) = (target(1, 0), [target(2, 0), target(2, 1)]);
    if index == 0 {
        for other in others {
            units[0].network.end_stream(other);
        }
    }
    let is_told = |unit: &mut Unit| {
        while let Some(event) = unit.network.take_stream_event() {
            unit.take(event);
        }
        let downs = |(with, talk): (&Target, &Talk)| {
            let is_concerned = unit.at == ending || *with == ending;
            talk.downs == u64::from(is_concerned)
        };
        unit.peers.iter().all(downs)
    };
    within(io, "an end on both sides", || units.iter_mut().all(is_told)).await;
    meet(ends, 2).await;
    within(io, "messages anew", || turns(units, MESSAGES + 50)).await;
    meet(ends, 3).await;
}

#[test]
fn shards_of_two_executors_keep_streams_over_sockets() {
    if !is_available() {
        return;
    }
    let [first, second] = ends();
    std::thread::scope(|scope| {
        let threads = [(0, first), (1, second)].map(|(index, ends)| {
            scope.spawn(move || {
                let options = UringOptions::default();
                uring::block_on(None, options, |io| core(io, index, ends)).unwrap();
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
