//! A shard of this broker among those of others: what it wants them to get goes out, what they send comes in.
//!
//! Here `replication`, which sends nothing, and `net/peer`, which knows nothing of it, meet. Shard 0 listens for all shards, and
//! alone has the quorum's messages and questions to the controller; streams (`streams.rs`) are each shard's own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{BrokerId, ShardId};
use peer::{
    BookEntry, CallError, ClusterName, HandBack, Local, Passage, PeerEvent, PeerNetwork,
    ProbeError, Purpose, Refusal, Remote, Reply, RequestHandler, Settings,
};
use quorum::ReplicaKey;
use runtime::mailbox::{Inbox, Sender};
use runtime::{Io, Signal, TaskClass};
use shard::others;
use shard::outgoing::{Forward, Forwarded, Outgoing, PeerAddress};
use shard::{Shard, ShardOptions};

use crate::forming::{NO_CLUSTER, seeds};
use crate::plan::PeerPlan;
use crate::snapshots::{self, Snapshots};
use crate::streams;

/// How long the controller may take to decide.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before brokers are asked again for their numbers.
const MEET_PAUSE: Duration = Duration::from_millis(200);

/// The other brokers, as a shard of this one reaches them.
pub(crate) struct Peers<I: Io> {
    io: I,
    me: BrokerId,
    plan: PeerPlan,
    pub(crate) network: PeerNetwork<I>,
    wake: Rc<Signal>,
    /// By the directory that was last spoken to.
    keys: RefCell<BTreeMap<BrokerId, ReplicaKey>>,
    /// Who of the configuration is where; those that are known by their address only have a number below zero.
    seeds: RefCell<BTreeMap<BrokerId, BookEntry>>,
    registered: RefCell<Vec<PeerAddress>>,
}

impl<I: Io> Peers<I> {
    /// Of shard 0: listens already, of no cluster yet.
    pub(crate) fn new(io: &I, key: ReplicaKey, plan: PeerPlan, listener: I::Listener) -> Rc<Self> {
        let local = Local {
            cluster: NO_CLUSTER.to_owned(),
            key,
            shard: ShardId(0),
        };
        let peers = Self::of(io, local, plan).expect("the name of no cluster fits a handshake");
        peers.network.listen(listener);
        peers
    }

    /// Of another shard, which learns from its image who the others are.
    pub(crate) fn of_shard(
        io: &I,
        options: &ShardOptions,
        plan: PeerPlan,
    ) -> Result<Rc<Self>, ClusterName> {
        let local = Local {
            cluster: options.cluster_id.to_string(),
            key: options.replica_key(),
            shard: options.shard,
        };
        Self::of(io, local, plan)
    }

    fn of(io: &I, local: Local, plan: PeerPlan) -> Result<Rc<Self>, ClusterName> {
        let wake = Signal::new();
        let resolve = Rc::new(plan.resolve);
        let settings = Settings::default();
        let me = local.key.broker;
        let network = PeerNetwork::new(io.clone(), local, settings, resolve, wake.clone())?;
        Ok(Rc::new(Peers {
            io: io.clone(),
            me,
            plan,
            network,
            wake,
            keys: RefCell::default(),
            seeds: RefCell::default(),
            registered: RefCell::default(),
        }))
    }

    /// Joins a shard to the others. `passages` are the ways to the shards of this broker, by number.
    pub(crate) fn join(
        self: &Rc<Self>,
        shard: &Rc<Shard<I>>,
        passages: Vec<Sender<Passage<I>>>,
        passages_here: Inbox<Passage<I>>,
    ) {
        let class = TaskClass::Foreground;
        if shard.id() == ShardId(0) {
            self.seeds.replace(seeds(&self.plan, self.me));
            self.set_book();
            shard.set_seeds(self.known_seeds());
            self.network.serve_requests(Controller(shard.clone()));
            self.network.serve_snapshots(Snapshots(shard.clone()));
            self.network
                .hand_over_by(move |passage| hand_over(&passages, passage));
            self.io
                .spawn(class, meet_seeds(self.clone(), shard.clone()));
        } else {
            self.io.spawn(class, take_over(self.clone(), passages_here));
        }
        streams::start(shard, &self.network);
        self.io.spawn(class, send(self.clone(), shard.clone()));
        self.io.spawn(class, receive(self.clone(), shard.clone()));
    }

    fn known_seeds(&self) -> Vec<BrokerId> {
        let seeds = self.seeds.borrow();
        seeds
            .keys()
            .copied()
            .filter(|broker| broker.0 >= 0)
            .collect()
    }

    /// What is registered comes first; the configuration is what helps when that is out of date.
    fn set_book(&self) {
        let mut book = self.seeds.borrow().clone();
        let registered = self.registered.borrow();
        let others = registered.iter();
        for other in others.filter(|other| other.key.broker != self.me) {
            let known = book.remove(&other.key.broker).unwrap_or_default();
            let mut addresses = other.addresses.clone();
            for address in known.addresses {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            let entry = BookEntry {
                addresses,
                directory: Some(other.key.directory),
            };
            book.insert(other.key.broker, entry);
        }
        if let Err(error) = self.network.set_book(book) {
            tracing::error!(%error, "not every broker can be reached");
        }
    }
}

/// Learns the numbers of the brokers that the configuration names by their addresses only.
async fn meet_seeds<I: Io>(peers: Rc<Peers<I>>, shard: Rc<Shard<I>>) {
    loop {
        let mut strangers: Vec<BrokerId> = peers.seeds.borrow().keys().copied().collect();
        strangers.retain(|broker| broker.0 < 0);
        if strangers.is_empty() {
            return;
        }
        for stranger in strangers {
            let number = match peers.network.probe(stranger).await {
                Err(ProbeError::Refused(Refusal::Node(number))) => number,
                // An address of this broker itself: nobody is met there.
                Err(ProbeError::Refused(Refusal::Oneself)) => peers.me,
                _ => continue,
            };
            let mut seeds = peers.seeds.borrow_mut();
            let entry = seeds.remove(&stranger).expect("it was listed");
            if number != peers.me {
                seeds.entry(number).or_insert(entry);
            }
            drop(seeds);
            peers.set_book();
            shard.set_seeds(peers.known_seeds());
        }
        peers.io.sleep(MEET_PAUSE).await;
    }
}

/// Takes what shard 0 wants other brokers to get, for the life of the process.
async fn send<I: Io>(peers: Rc<Peers<I>>, shard: Rc<Shard<I>>) {
    loop {
        match shard.outgoing().next().await {
            Outgoing::Quorum(message) => {
                let to = message.to;
                peers.keys.borrow_mut().insert(to.broker, to);
                let frame = quorum::encode(&message);
                let pieces: Vec<Bytes> = std::iter::once(frame.head).chain(frame.batches).collect();
                let sent = peers.network.send(to.broker, Purpose::Raft, pieces);
                if let Err(why) = sent {
                    tracing::debug!(%to, %why, "a message of the quorum is not sent");
                    others::unreachable(&shard, to);
                }
            }
            // Each holds a task of the shard up until it is answered: they are few.
            Outgoing::Forward(forward) => {
                let network = peers.network.clone();
                peers
                    .io
                    .spawn(TaskClass::Foreground, call(network, forward));
            }
            Outgoing::FetchSnapshot(from, mark) => {
                let (network, shard) = (peers.network.clone(), shard.clone());
                peers.io.spawn(TaskClass::Foreground, async move {
                    snapshots::fetch(&network, &shard, from.broker, &mark).await;
                });
            }
            Outgoing::Probe(broker) => {
                let (network, shard) = (peers.network.clone(), shard.clone());
                peers.io.spawn(TaskClass::Foreground, async move {
                    // Whatever is not plain leaves it to its heartbeats.
                    let found = network.probe(broker).await;
                    others::probed(&shard, broker, !matches!(found, Err(ProbeError::NoProcess)));
                });
            }
            Outgoing::Addresses(addresses) => {
                peers.registered.replace(addresses);
                peers.set_book();
                if let Some(epoch) = shard.broker_epoch() {
                    peers.network.set_epoch(epoch);
                }
            }
        }
    }
}

async fn call<I: Io>(network: PeerNetwork<I>, forward: Forward) {
    let Forward {
        to,
        request,
        answer,
    } = forward;
    let called = network.call(to, Purpose::Forward, request, FORWARD_TIMEOUT);
    answer.set(match called.await {
        Ok(bytes) => Forwarded::Answered(bytes),
        Err(error) => {
            tracing::debug!(broker = %to, %error, "a question to the controller");
            match CallError::may_have_been_carried_out(error) {
                true => Forwarded::Unknown,
                false => Forwarded::NotTaken,
            }
        }
    });
}

/// Hands on what other brokers send, for the life of the process.
async fn receive<I: Io>(peers: Rc<Peers<I>>, shard: Rc<Shard<I>>) {
    loop {
        peers.wake.wait().await;
        streams::receive(&shard, &peers.network);
        while let Some(received) = peers.network.take_message() {
            let from = received.from.identity.key;
            match quorum::decode(&received.payload) {
                Ok(message) if message.from == from => others::quorum_message(&shard, message),
                Ok(message) => {
                    tracing::warn!(%from, named = %message.from, "a message in another's name is left aside");
                }
                Err(error) => tracing::warn!(%from, %error, "a message of the quorum"),
            }
        }
        while let Some(event) = peers.network.take_event() {
            match event {
                PeerEvent::Unreachable(target, Purpose::Raft) => {
                    let key = peers.keys.borrow().get(&target.node).copied();
                    if let Some(key) = key {
                        others::unreachable(&shard, key);
                    }
                }
                PeerEvent::Suspect(target) if shard.id() == ShardId(0) => {
                    others::suspect(&shard, target.node);
                }
                PeerEvent::Unreachable(..) | PeerEvent::Suspect(_) => {}
            }
        }
    }
}

/// Brings a connection to the shard that it is for.
fn hand_over<I: Io>(
    passages: &[Sender<Passage<I>>],
    passage: Passage<I>,
) -> Result<(), HandBack<I>> {
    match passages.get(usize::from(passage.shard().0)) {
        None => Err(HandBack::NoShard(passage)),
        Some(way) => way.try_send(passage).map_err(|full| HandBack::Full(full.0)),
    }
}

/// Takes connections that shard 0 has accepted for this one, for the life of the process.
async fn take_over<I: Io>(peers: Rc<Peers<I>>, mut passages: Inbox<Passage<I>>) {
    loop {
        peers.network.take_over(passages.next().await);
    }
}

/// Takes questions of other brokers to the controller that this broker may be.
struct Controller<I: Io>(Rc<Shard<I>>);

impl<I: Io> RequestHandler for Controller<I> {
    fn handle(&self, _from: Remote, request: Bytes, reply: Reply) {
        others::forwarded(&self.0, &request, move |answer| {
            if !reply.answer(answer) {
                tracing::warn!("an answer of the controller does not fit into a frame");
            }
        });
    }
}
