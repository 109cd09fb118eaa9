//! Brokers of several shards on the nodes of a simulation. Only the first shard listens; what is meant for another one goes
//! there through a mailbox. Each shard has a driver that takes what streams bring.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{BrokerEpoch, ShardId};
use peer::{
    HandBack, Local, NotSent, Passage, PeerIdentity, PeerNetwork, Settings, StreamEvent, Target,
    resolve_literal,
};
use runtime::sim::{SimIo, Simulation, delayed};
use runtime::{Io, Sender, Signal, TaskClass, mailbox};

use crate::bed::{self, CLUSTER, PORT, id, key};

pub(crate) const SHARDS: usize = 2;
/// Connections on their way to one shard.
const PASSAGES_MAX: usize = 4;

/// What a driver has taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Up(Target, PeerIdentity),
    Message(Target, PeerIdentity, Bytes),
    Room(Target),
    Down(Target),
}

/// One shard of a broker.
#[derive(Clone)]
pub(crate) struct Unit {
    pub(crate) io: SimIo,
    pub(crate) at: Target,
    pub(crate) network: PeerNetwork<SimIo>,
    pub(crate) seen: Rc<RefCell<Vec<Seen>>>,
    /// The driver does not take anything.
    pub(crate) is_stuck: Rc<Cell<bool>>,
    wake: Rc<Signal>,
}

pub(crate) fn at(node: usize, shard: usize) -> Target {
    Target {
        node: id(node),
        shard: ShardId(u16::try_from(shard).unwrap()),
    }
}

/// A shard that nobody is brought to.
pub(crate) fn unit(
    simulation: &Simulation,
    node: usize,
    shard: usize,
    directory: u8,
    settings: &Settings,
) -> Unit {
    let io = simulation.io(node, shard);
    let local = Local {
        cluster: CLUSTER.to_owned(),
        key: key(node, directory),
        shard: at(node, shard).shard,
    };
    let wake = Signal::new();
    let resolve = Rc::new(resolve_literal);
    let settings = settings.clone();
    let network = PeerNetwork::new(io.clone(), local, settings, resolve, wake.clone()).unwrap();
    network.set_book(bed::book(simulation, node)).unwrap();
    network.serve_streams();
    let unit = Unit {
        io: io.clone(),
        at: at(node, shard),
        network,
        seen: Rc::default(),
        is_stuck: Rc::default(),
        wake,
    };
    io.spawn(TaskClass::Foreground, unit.clone().drive());
    unit
}

pub(crate) type Ways = Vec<Sender<Passage<SimIo>>>;

/// The ways to the shards of a broker. With `is_slow`, some passages take their time.
fn ways(units: &[Unit], is_slow: bool) -> Ways {
    let way = |unit: &Unit| {
        let (sender, mut inbox) = mailbox(PASSAGES_MAX);
        let network = unit.network.clone();
        unit.io.spawn(TaskClass::Foreground, async move {
            loop {
                network.take_over(inbox.next().await);
            }
        });
        if is_slow {
            delayed(&unit.io, sender, PASSAGES_MAX, Duration::from_millis(20))
        } else {
            sender
        }
    };
    units.iter().map(way).collect()
}

/// Has connections brought to the shards behind `ways`.
pub(crate) fn connect_shards(network: &PeerNetwork<SimIo>, ways: Ways) {
    network.hand_over_by(move |passage| {
        let Some(way) = ways.get(usize::from(passage.shard().0)) else {
            return Err(HandBack::NoShard(passage));
        };
        way.try_send(passage).map_err(|full| HandBack::Full(full.0))
    });
}

pub(crate) fn start_broker(
    simulation: &Simulation,
    node: usize,
    directory: u8,
    settings: &Settings,
    is_slow: bool,
) -> Vec<Unit> {
    let make = |shard| unit(simulation, node, shard, directory, settings);
    let units: Vec<_> = (0..SHARDS).map(make).collect();
    connect_shards(&units[0].network, ways(&units, is_slow));
    listen(simulation, node, &units[0]);
    units
}

pub(crate) fn listen(simulation: &Simulation, node: usize, unit: &Unit) {
    let (address, unit) = (simulation.address(node, PORT), unit.clone());
    simulation.spawn(node, 0, async move {
        let listener = unit.io.listen(address, false).await.unwrap();
        unit.network.listen(listener);
    });
}

/// Two brokers, each with its shards, that listen.
pub(crate) fn brokers(simulation: &Simulation, settings: &Settings) -> [Vec<Unit>; 2] {
    let brokers = [0, 1].map(|node| start_broker(simulation, node, 1, settings, false));
    simulation.run_for(Duration::from_millis(10));
    brokers
}

impl Unit {
    async fn drive(self) {
        loop {
            self.wake.wait().await;
            while self.is_stuck.get() {
                self.io.sleep(Duration::from_millis(10)).await;
            }
            self.take_all();
        }
    }

    fn take_all(&self) {
        while let Some(event) = self.network.take_stream_event() {
            self.seen.borrow_mut().push(match event {
                StreamEvent::Up(from, identity) => Seen::Up(from, identity),
                StreamEvent::Message(message) => {
                    Seen::Message(message.from, message.identity, message.payload.clone())
                }
                StreamEvent::Room(from) => Seen::Room(from),
                StreamEvent::Down(from) => Seen::Down(from),
            });
        }
    }

    pub(crate) fn send(&self, to: Target, value: u64) -> Result<(), NotSent> {
        let payload = Bytes::copy_from_slice(&value.to_be_bytes());
        self.network.stream_send(to, payload)
    }

    /// The numbers that have come from a shard.
    pub(crate) fn numbers(&self, from: Target) -> Vec<u64> {
        let seen = self.seen.borrow();
        let numbers = seen.iter().filter_map(|seen| match seen {
            Seen::Message(other, _, payload) if *other == from => {
                let number = payload[..8].try_into().expect("a plain number");
                Some(u64::from_be_bytes(number))
            }
            _ => None,
        });
        numbers.collect()
    }

    /// How often it was told so.
    pub(crate) fn count(&self, is: impl Fn(&Seen) -> bool) -> usize {
        self.seen.borrow().iter().filter(|seen| is(seen)).count()
    }

    pub(crate) fn ups(&self, with: Target) -> usize {
        self.count(|seen| matches!(seen, Seen::Up(other, _) if *other == with))
    }

    pub(crate) fn downs(&self, with: Target) -> usize {
        self.count(|seen| *seen == Seen::Down(with))
    }

    /// The epochs that the other side has shown, connection by connection.
    pub(crate) fn epochs(&self, with: Target) -> Vec<BrokerEpoch> {
        let seen = self.seen.borrow();
        let epochs = seen.iter().filter_map(|seen| match seen {
            Seen::Up(other, identity) if *other == with => Some(identity.epoch),
            _ => None,
        });
        epochs.collect()
    }
}
