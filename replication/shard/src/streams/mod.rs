//! Records on their way between brokers: which shard follows which, and what is said (replication/README.md, "Between
//! brokers").
//!
//! A shard has one stream to each shard of another broker that leads partitions which it follows, and each such shard of
//! another broker has one to it. [`Streams`] makes the messages when somebody asks for the next one, and takes those that
//! come; the network is somebody else's. Pushed records are taken by one task ([`take`]), and read from segments by a few
//! ([`read`]).
//! Invariant: nothing here is kept per partition that has nothing new but its place in the stream.

mod followed;
mod led;
mod limits;
mod peer_shard;
mod push;
mod read;
mod serve;
mod take;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use model::{BrokerEpoch, BrokerId, MonotonicTime, TopicPartition};
use replica::stream::{
    Acknowledged, CodecError, StreamBody, StreamMessage, StreamNumber, decode, encode,
};
use runtime::{Io, Signal, TaskClass};
use storage::Storage;

pub use followed::OutOfOrder;
pub use peer_shard::PeerShard;

use crate::metadata_cache::MetadataCache;
use crate::partition::AcknowledgeTarget;
use crate::partition_table::owner;
use crate::partitions::Partitions;
use crate::replica_events::ReplicaEvents;
use crate::throttle::Throttle;
use crate::work_queue::WorkQueue;
use followed::Followed;
use led::{Led, ReadJob};
use limits::REFUSED_PAUSE;
use take::Arrived;

/// Why a message is refused: the connection that brought it is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamRefusal {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    /// The connection was made by another process than the one that has written the message.
    #[error("registration {found} on a connection of registration {expected}")]
    AnotherProcess {
        expected: BrokerEpoch,
        /// The message's.
        found: BrokerEpoch,
    },
}

/// The streams of one shard.
pub(crate) struct Streams<I: Io> {
    io: I,
    storage: Storage<I>,
    cache: Rc<MetadataCache>,
    partitions: Rc<Partitions<I>>,
    events: Rc<ReplicaEvents>,
    followed: RefCell<Followed>,
    led: RefCell<Led>,
    /// Messages of leaders that wait to be taken: bounded by their credits.
    arrived: RefCell<VecDeque<Arrived>>,
    arrived_wanted: Rc<Signal>,
    reads: Rc<WorkQueue<ReadJob>>,
    throttle: RefCell<Throttle>,
    /// Reads that wait for it: bounded by the credits of their streams.
    throttled: RefCell<Vec<ReadJob>>,
    /// Whose turn it was last.
    last: Cell<Option<PeerShard>>,
    /// The storage is fenced: nothing is promised any more.
    stopped: Cell<bool>,
}

impl<I: Io> Streams<I> {
    pub(crate) fn new(
        io: I,
        storage: Storage<I>,
        cache: Rc<MetadataCache>,
        partitions: Rc<Partitions<I>>,
        events: Rc<ReplicaEvents>,
    ) -> Streams<I> {
        // Half of the numbers are left to count on.
        let number = io.random() >> 1;
        let throttle = RefCell::new(Throttle::new(io.now()));
        Streams {
            io,
            storage,
            cache,
            partitions,
            events,
            followed: RefCell::new(Followed::new(number)),
            led: RefCell::default(),
            arrived: RefCell::default(),
            arrived_wanted: Signal::new(),
            reads: WorkQueue::new(),
            throttle,
            throttled: RefCell::default(),
            last: Cell::new(None),
            stopped: Cell::new(false),
        }
    }

    /// The next message to another shard, and which.
    pub(crate) async fn next_message(&self) -> (PeerShard, Vec<Bytes>) {
        loop {
            if let Some((peer, message)) = self.poll_message() {
                return (peer, encode(&message));
            }
            self.events.stream_wanted.wait().await;
        }
    }

    /// Each stream has its turn.
    fn poll_message(&self) -> Option<(PeerShard, StreamMessage)> {
        if self.stopped.get() {
            return None;
        }
        let now = self.io.now();
        self.take_work(now);
        let broker_epoch = self.partitions.registration()?;
        let peers: BTreeSet<PeerShard> = {
            let (followed, led) = (self.followed.borrow(), self.led.borrow());
            followed.peers().chain(led.peers()).collect()
        };
        let last = self.last.get();
        let behind = peers
            .iter()
            .filter(|peer| last.is_none_or(|last| **peer > last));
        let others = peers
            .iter()
            .filter(|peer| last.is_some_and(|last| **peer <= last));
        for peer in behind.chain(others) {
            let next = self.poll_followed(now, *peer).or_else(|| self.push(*peer));
            if let Some((stream, number, body)) = next {
                self.last.set(Some(*peer));
                let message = StreamMessage {
                    broker_epoch,
                    stream,
                    number,
                    body,
                };
                return Some((*peer, message));
            }
        }
        None
    }

    fn poll_followed(
        &self,
        now: MonotonicTime,
        peer: PeerShard,
    ) -> Option<(StreamNumber, u64, StreamBody)> {
        let mut followed = self.followed.borrow_mut();
        followed.poll(now, peer, |id, wanted| {
            let partition = self.partitions.get(id);
            partition.is_some_and(|partition| {
                !partition.leads() && partition.leader_epoch() == wanted.leader_epoch
            })
        })
    }

    /// Brings what partitions want to their streams.
    fn take_work(&self, now: MonotonicTime) {
        let work = self.events.take_work();
        if work.is_empty() {
            return;
        }
        let mut led = self.led.borrow_mut();
        for id in work.appended {
            led.mark(id);
        }
        drop(led);
        let mut followed = self.followed.borrow_mut();
        // Before the subscriptions: what a partition has acknowledged before it asks anew is void.
        for (partition, (leader_epoch, durable_end_offset)) in work.acknowledges {
            followed.acknowledge(Acknowledged {
                partition,
                leader_epoch,
                durable_end_offset,
            });
        }
        for (id, (leader, subscription)) in work.subscribes {
            match self.peer_of(leader, id) {
                Some(peer) => followed.want(now, peer, id, subscription),
                None => followed.retry_at(id, now.plus(REFUSED_PAUSE)),
            }
        }
    }

    /// The shard of a broker that serves a partition; `None` as long as it does not say how many it has.
    fn peer_of(&self, broker: BrokerId, id: TopicPartition) -> Option<PeerShard> {
        let count = self.cache.image().broker(broker)?.shard_count?;
        Some(PeerShard {
            broker,
            shard: owner(id, count),
        })
    }

    /// A message has come from another shard, on a connection of that registration of its broker. Adds who need not wait any
    /// more.
    pub(crate) fn message(
        &self,
        from: PeerShard,
        epoch: BrokerEpoch,
        payload: &Bytes,
        acknowledged: &mut Vec<AcknowledgeTarget>,
    ) -> Result<(), StreamRefusal> {
        if self.stopped.get() {
            return Ok(());
        }
        let taken = self.take_message(from, epoch, payload, acknowledged);
        if let Err(refusal) = &taken {
            tracing::warn!(%from, %refusal, "a stream is begun anew");
            self.down(from);
        }
        taken
    }

    fn take_message(
        &self,
        from: PeerShard,
        expected: BrokerEpoch,
        payload: &Bytes,
        acknowledged: &mut Vec<AcknowledgeTarget>,
    ) -> Result<(), StreamRefusal> {
        let message = decode(payload)?;
        let found = message.broker_epoch;
        if found != expected {
            return Err(StreamRefusal::AnotherProcess { expected, found });
        }
        let (stream, number) = (message.stream, message.number);
        match message.body {
            StreamBody::Subscribe(asked) => {
                if self.led.borrow_mut().receive(from, found, stream, number)? {
                    self.subscribed(from, found, &asked)?;
                }
            }
            StreamBody::Acknowledge { taken, partitions } => {
                let mut led = self.led.borrow_mut();
                if led.receive(from, found, stream, number)? {
                    led.taken(from, taken)?;
                    drop(led);
                    self.acknowledged(from, found, &partitions, acknowledged);
                }
            }
            body @ (StreamBody::Answer(_) | StreamBody::Push(_)) => {
                let mut followed = self.followed.borrow_mut();
                if followed.receive(from, stream, number, payload.len())? {
                    self.arrived.borrow_mut().push_back(Arrived {
                        peer: from,
                        stream,
                        number,
                        bytes: payload.len(),
                        body,
                    });
                    self.arrived_wanted.raise();
                }
            }
        }
        Ok(())
    }

    /// The connection to another shard has ended, or cannot be made. Both sides forget what was under way.
    pub(crate) fn down(&self, peer: PeerShard) {
        self.led.borrow_mut().end(peer);
        let now = self.io.now();
        let mine = self.followed.borrow_mut().end(now, peer);
        for id in mine {
            if let Some(partition) = self.partitions.get(id) {
                partition.disconnected();
            }
        }
    }

    /// Another shard can be reached.
    pub(crate) fn up(&self, peer: PeerShard) {
        let now = self.io.now();
        self.followed.borrow_mut().reachable(now, peer);
        self.events.stream_wanted.raise();
    }

    /// Time has passed.
    pub(crate) fn tick(&self, now: MonotonicTime) {
        let retries = self.followed.borrow_mut().take_retries(now);
        for id in retries {
            if let Some(partition) = self.partitions.get(id) {
                partition.disconnected();
            }
        }
        let silent = self.followed.borrow().silent(now);
        for peer in silent {
            tracing::warn!(%peer, "a leader does not answer: its stream is begun anew");
            self.down(peer);
        }
        // Those that have to wait on come back.
        for job in self.throttled.take() {
            self.reads.push(job);
        }
        let mut wanted = self.followed.borrow().is_due(now);
        let mut led = self.led.borrow_mut();
        for id in self.events.take_advanced() {
            wanted |= led.mark(id);
        }
        if wanted {
            self.events.stream_wanted.raise();
        }
    }

    /// Nothing is promised any more.
    pub(crate) fn stop(&self) {
        self.stopped.set(true);
        self.arrived.borrow_mut().clear();
    }
}

/// Starts the tasks of a shard's streams.
pub(crate) fn start<I: Io>(streams: &Rc<Streams<I>>) {
    let io = &streams.io;
    io.spawn(TaskClass::Foreground, take::run(streams.clone()));
    for _ in 0..limits::READERS {
        io.spawn(TaskClass::Background, read::run(streams.clone()));
    }
}
