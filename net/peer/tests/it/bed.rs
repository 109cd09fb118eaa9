//! Brokers on the nodes of a simulation, each with a driver that takes what comes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use model::{BrokerId, MonotonicTime, ShardId};
use peer::{BookEntry, Local, PeerEvent, PeerNetwork, Purpose, Settings, resolve_literal};
use quorum::{DirectoryId, ReplicaKey};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, Signal, TaskClass};

pub(crate) const PORT: u16 = 9093;
pub(crate) const CLUSTER: &str = "the-cluster";

/// What the tests send: who, in which life, to which directory, and the how-manieth; then a filling, and a checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) from: ReplicaKey,
    pub(crate) life: u32,
    pub(crate) to: ReplicaKey,
    pub(crate) sequence: u64,
    pub(crate) sent_at: MonotonicTime,
}

fn put_key(out: &mut BytesMut, key: ReplicaKey) {
    out.put_i32(key.broker.0);
    out.put_slice(&key.directory.0);
}

impl Letter {
    pub(crate) fn encode(&self, filling: usize) -> Bytes {
        let mut out = BytesMut::new();
        put_key(&mut out, self.from);
        put_key(&mut out, self.to);
        out.put_u32(self.life);
        out.put_u64(self.sequence);
        out.put_u64(self.sent_at.0);
        out.put_bytes(0x5a, filling);
        let checksum = crc32c::crc32c(&out);
        out.put_u32(checksum);
        out.freeze()
    }

    /// `None` if it was changed on its way.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Letter> {
        let (body, checksum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*checksum) {
            return None;
        }
        let mut reader = model::primitives::Reader::new(body);
        let mut key = || {
            Some(ReplicaKey {
                broker: BrokerId(reader.i32().ok()?),
                directory: DirectoryId(reader.array().ok()?),
            })
        };
        let (from, to) = (key()?, key()?);
        Some(Letter {
            from,
            to,
            life: reader.u32().ok()?,
            sequence: reader.u64().ok()?,
            sent_at: MonotonicTime(reader.u64().ok()?),
        })
    }
}

/// What a driver has taken.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) messages: RefCell<Vec<(ReplicaKey, Bytes)>>,
    pub(crate) events: RefCell<Vec<(MonotonicTime, PeerEvent)>>,
    /// The driver does not take anything.
    pub(crate) is_stuck: Cell<bool>,
}

/// A broker.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) io: SimIo,
    pub(crate) key: ReplicaKey,
    pub(crate) network: PeerNetwork<SimIo>,
    pub(crate) taken: Rc<Taken>,
}

pub(crate) fn id(node: usize) -> BrokerId {
    BrokerId(i32::try_from(node).unwrap() + 1)
}

pub(crate) fn key(node: usize, directory: u8) -> ReplicaKey {
    ReplicaKey {
        broker: id(node),
        directory: DirectoryId([directory; 16]),
    }
}

pub(crate) fn entry(simulation: &Simulation, node: usize, directory: Option<u8>) -> BookEntry {
    entry_at(simulation, node, PORT, directory)
}

pub(crate) fn entry_at(
    simulation: &Simulation,
    node: usize,
    port: u16,
    directory: Option<u8>,
) -> BookEntry {
    BookEntry {
        addresses: vec![(simulation.ip(node).to_string(), port)],
        directory: directory.map(|byte| DirectoryId([byte; 16])),
    }
}

/// All nodes but one, with their first directory.
pub(crate) fn book(simulation: &Simulation, without: usize) -> BTreeMap<BrokerId, BookEntry> {
    let nodes = (0..simulation.nodes()).filter(|node| *node != without);
    nodes
        .map(|node| (id(node), entry(simulation, node, Some(1))))
        .collect()
}

pub(crate) fn start(simulation: &Simulation, node: usize, settings: Settings) -> Broker {
    let broker = make(simulation, node, 1, CLUSTER, settings);
    let book = book(simulation, node);
    broker.network.set_book(book).unwrap();
    listen(simulation, &broker, node);
    broker
}

/// A broker without addresses that does not listen.
pub(crate) fn make(
    simulation: &Simulation,
    node: usize,
    directory: u8,
    cluster: &str,
    settings: Settings,
) -> Broker {
    let io = simulation.io(node, 0);
    let key = key(node, directory);
    let local = Local {
        cluster: cluster.to_owned(),
        key,
        shard: ShardId(0),
    };
    let wake = Signal::new();
    let resolve = Rc::new(resolve_literal);
    let network = PeerNetwork::new(io.clone(), local, settings, resolve, wake.clone()).unwrap();
    let taken = Rc::new(Taken::default());
    let broker = Broker {
        io: io.clone(),
        key,
        network,
        taken,
    };
    let driven = broker.clone();
    io.spawn(TaskClass::Foreground, async move {
        loop {
            wake.wait().await;
            while driven.taken.is_stuck.get() {
                driven.io.sleep(Duration::from_millis(10)).await;
            }
            driven.take_all();
        }
    });
    broker
}

pub(crate) fn listen(simulation: &Simulation, broker: &Broker, node: usize) {
    let (address, broker) = (simulation.address(node, PORT), broker.clone());
    let io = broker.io.clone();
    io.spawn(TaskClass::Foreground, async move {
        let listener = broker.io.listen(address, false).await.unwrap();
        broker.network.listen(listener);
    });
}

impl Broker {
    fn take_all(&self) {
        while let Some(received) = self.network.take_message() {
            let from = received.from.identity.key;
            let mut messages = self.taken.messages.borrow_mut();
            messages.push((from, received.payload.clone()));
        }
        while let Some(event) = self.network.take_event() {
            self.taken.events.borrow_mut().push((self.io.now(), event));
        }
    }

    /// The numbers of the plain messages that have come.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        let messages = self.taken.messages.borrow();
        let numbers = messages.iter().map(|(_, payload)| number(payload));
        numbers.collect()
    }

    pub(crate) fn send_number(&self, to: usize, value: u64) -> Result<(), peer::NotSent> {
        let payload = Bytes::copy_from_slice(&value.to_be_bytes());
        self.network.send(id(to), Purpose::Raft, payload)
    }

    /// Whether it was told this after `since`.
    pub(crate) fn was_told(&self, since: MonotonicTime, event: PeerEvent) -> bool {
        let events = self.taken.events.borrow();
        events
            .iter()
            .any(|(at, told)| *at >= since && *told == event)
    }
}

fn number(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload.try_into().expect("a plain number"))
}

/// The seeds of a test: so many, or what PEER_SEEDS and PEER_SEED_FIRST say.
pub(crate) fn seeds(count: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok()?.parse().ok();
    let first = number("PEER_SEED_FIRST").unwrap_or(0);
    first..first + number("PEER_SEEDS").unwrap_or(count)
}

/// Lets time pass until something holds; false if it does not within `limit`.
pub(crate) fn within(
    simulation: &Simulation,
    limit: Duration,
    mut holds: impl FnMut() -> bool,
) -> bool {
    let deadline = simulation.now().plus(limit);
    while !holds() {
        if simulation.now() >= deadline {
            return false;
        }
        simulation.run_for(Duration::from_millis(5));
    }
    true
}
