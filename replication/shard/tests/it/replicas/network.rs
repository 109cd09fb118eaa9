//! A network in memory between the shards of several brokers: messages of a pair arrive in order, after a while, or their
//! connection breaks, which both sides hear of.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{BrokerEpoch, BrokerId, ShardId};
use runtime::Io;
use runtime::sim::SimIo;
use shard::Shard;
use shard::streams::PeerShard;

type Pair = (PeerShard, PeerShard);

#[derive(Default)]
pub(crate) struct Network {
    /// Shards that run.
    live: RefCell<BTreeMap<PeerShard, Rc<Shard<SimIo>>>>,
    queues: RefCell<BTreeMap<Pair, VecDeque<(BrokerEpoch, Bytes)>>>,
    /// Nothing goes from the first to the second.
    cuts: RefCell<BTreeSet<(BrokerId, BrokerId)>>,
    /// One in so many rounds breaks a connection.
    breaks_one_in: Cell<u64>,
    pub(crate) messages: Cell<u64>,
    pub(crate) bytes: Cell<u64>,
    pub(crate) broken: Cell<u64>,
    /// Messages that were refused.
    pub(crate) refused: Cell<u64>,
}

impl Network {
    pub(crate) fn break_one_in(&self, rounds: u64) {
        self.breaks_one_in.set(rounds);
    }

    pub(crate) fn join(
        self: &Rc<Self>,
        me: PeerShard,
        shard: &Rc<Shard<SimIo>>,
        epoch: BrokerEpoch,
    ) {
        self.live.borrow_mut().insert(me, shard.clone());
        let (network, sender) = (self.clone(), shard.clone());
        shard.io.spawn(runtime::TaskClass::Foreground, async move {
            loop {
                let (to, pieces) = sender.next_stream_message().await;
                network.send(me, to, epoch, Bytes::from(pieces.concat()));
            }
        });
        let others: Vec<PeerShard> = self.live.borrow().keys().copied().collect();
        for other in others {
            if other.broker != me.broker {
                self.shard_of(other).inspect(|shard| shard.stream_up(me));
            }
        }
    }

    fn shard_of(&self, peer: PeerShard) -> Option<Rc<Shard<SimIo>>> {
        self.live.borrow().get(&peer).cloned()
    }

    /// A broker has ended: its connections break.
    pub(crate) fn leave(&self, broker: BrokerId) {
        self.live
            .borrow_mut()
            .retain(|peer, _| peer.broker != broker);
        self.break_all_of(broker);
    }

    fn break_all_of(&self, broker: BrokerId) {
        let pairs: Vec<Pair> = self.queues.borrow().keys().copied().collect();
        for (a, b) in pairs {
            if a.broker == broker || b.broker == broker {
                self.break_pair(a, b);
            }
        }
    }

    fn break_pair(&self, a: PeerShard, b: PeerShard) {
        let mut queues = self.queues.borrow_mut();
        queues.remove(&(a, b));
        queues.remove(&(b, a));
        drop(queues);
        self.broken.set(self.broken.get() + 1);
        for (one, other) in [(a, b), (b, a)] {
            if let Some(shard) = self.shard_of(one) {
                shard.stream_down(other);
            }
        }
    }

    /// Nothing goes between two brokers any more.
    pub(crate) fn cut(&self, a: BrokerId, b: BrokerId) {
        self.cuts.borrow_mut().extend([(a, b), (b, a)]);
        let pairs: Vec<Pair> = self.queues.borrow().keys().copied().collect();
        for (from, to) in pairs {
            if [(a, b), (b, a)].contains(&(from.broker, to.broker)) {
                self.break_pair(from, to);
            }
        }
    }

    pub(crate) fn heal(&self) {
        self.cuts.borrow_mut().clear();
    }

    fn send(&self, from: PeerShard, to: PeerShard, epoch: BrokerEpoch, payload: Bytes) {
        let is_cut = self.cuts.borrow().contains(&(from.broker, to.broker));
        if is_cut || !self.live.borrow().contains_key(&to) {
            if let Some(shard) = self.shard_of(from) {
                shard.stream_down(to);
            }
            return;
        }
        let mut queues = self.queues.borrow_mut();
        let queue = queues.entry((from, to)).or_default();
        queue.push_back((epoch, payload));
        queues.entry((to, from)).or_default();
    }

    /// Delivers messages for ever, in the client's task.
    pub(crate) async fn run(self: Rc<Self>, io: SimIo) {
        loop {
            io.sleep(Duration::from_micros(20 + io.random() % 200))
                .await;
            let pairs: Vec<Pair> = self.queues.borrow().keys().copied().collect();
            for pair in pairs {
                for _ in 0..io.random() % 4 {
                    self.deliver(pair);
                }
                let one_in = self.breaks_one_in.get();
                if one_in > 0 && io.random().is_multiple_of(one_in) {
                    self.break_pair(pair.0, pair.1);
                }
            }
        }
    }

    fn deliver(&self, (from, to): Pair) {
        let next = {
            let mut queues = self.queues.borrow_mut();
            queues.get_mut(&(from, to)).and_then(VecDeque::pop_front)
        };
        let (Some((epoch, payload)), Some(shard)) = (next, self.shard_of(to)) else {
            return;
        };
        self.messages.set(self.messages.get() + 1);
        self.bytes.set(self.bytes.get() + payload.len() as u64);
        if shard.stream_message(from, epoch, &payload).is_err() {
            self.refused.set(self.refused.get() + 1);
            self.break_pair(from, to);
        }
    }
}

pub(crate) fn peer(broker: i32, shard: u16) -> PeerShard {
    PeerShard {
        broker: BrokerId(broker),
        shard: ShardId(shard),
    }
}
