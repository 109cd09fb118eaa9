//! The other shards of this broker, as one shard sees them.
//!
//! Sending never blocks the dispatcher: what does not fit into a full mailbox waits in a local queue with a task of
//! its own. That queue is bounded by the requests in flight, which the connections bound.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use indexmap::IndexMap;
use model::ShardId;
use runtime::mailbox::Sender;
use runtime::{Counter, Io, Signal, TaskClass};

use crate::message::{Envelope, ShardReply, ShardRequest};
use crate::reply::{ReplySlot, ReplyTo};

struct Peer {
    sender: Sender<Envelope>,
    overflow: RefCell<VecDeque<Envelope>>,
    /// The drain task holds a message that must leave before any later one.
    draining: Cell<bool>,
    signal: Rc<Signal>,
}

/// Mailboxes to every shard, and the requests that this shard is waiting for.
pub struct Peers {
    peers: Vec<Rc<Peer>>,
    pending: RefCell<IndexMap<u64, (Rc<ReplySlot>, usize)>>,
    token_next: Cell<u64>,
    me: ShardId,
    /// Messages that found a mailbox full.
    pub(crate) full: Counter,
}

impl Peers {
    /// `senders[i]` is the mailbox of shard `i`.
    pub fn new(me: ShardId, senders: Vec<Sender<Envelope>>) -> Peers {
        let peers = senders
            .into_iter()
            .map(|sender| {
                Rc::new(Peer {
                    sender,
                    overflow: RefCell::new(VecDeque::new()),
                    draining: Cell::new(false),
                    signal: Signal::new(),
                })
            })
            .collect();
        Peers {
            peers,
            pending: RefCell::new(IndexMap::new()),
            token_next: Cell::new(0),
            me,
            full: Counter::default(),
        }
    }

    /// Starts the tasks that empty the overflow queues.
    pub fn start<I: Io>(&self, io: &I) {
        for peer in &self.peers {
            io.spawn(TaskClass::Foreground, drain_overflow(peer.clone()));
        }
    }

    /// All shards but this one.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + '_ {
        (0..self.peers.len())
            .map(|index| ShardId(u16::try_from(index).expect("shard count fits u16")))
            .filter(|shard| *shard != self.me)
    }

    /// Messages that wait in this shard's own mailbox.
    pub(crate) fn depth(&self) -> usize {
        self.peers[usize::from(self.me.0)].sender.depth()
    }

    /// Messages of this shard that wait for room in a mailbox.
    pub(crate) fn overflow(&self) -> usize {
        let peers = self.peers.iter();
        peers.map(|peer| peer.overflow.borrow().len()).sum()
    }

    /// How many shards the broker has.
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.peers.len()).expect("shard count fits u16")
    }

    /// Sends a request whose answer goes to `slot`.
    pub fn request(&self, to: ShardId, request: ShardRequest, slot: Rc<ReplySlot>, part: usize) {
        let token = self.token_next.get();
        self.token_next.set(token + 1);
        self.pending.borrow_mut().insert(token, (slot, part));
        let from = self.me;
        self.send(
            to,
            Envelope::Request {
                from,
                token,
                request,
            },
        );
    }

    /// Sends a message.
    pub fn send(&self, to: ShardId, envelope: Envelope) {
        let peer = &self.peers[to.0 as usize];
        let mut overflow = peer.overflow.borrow_mut();
        if overflow.is_empty() && !peer.draining.get() {
            match peer.sender.try_send(envelope) {
                Ok(()) => return,
                Err(full) => {
                    self.full.increment();
                    overflow.push_back(full.0);
                }
            }
        } else {
            self.full.increment();
            overflow.push_back(envelope);
        }
        drop(overflow);
        peer.signal.raise();
    }

    /// Answers a request.
    pub fn answer(&self, to: ReplyTo, reply: ShardReply) {
        match to {
            ReplyTo::Local(slot, part) => slot.deliver(part, reply),
            ReplyTo::Remote(shard, token) => self.send(shard, Envelope::Reply { token, reply }),
            ReplyTo::Nobody => {}
        }
    }

    /// An answer has arrived from another shard.
    pub fn answered(&self, token: u64, reply: ShardReply) {
        let pending = self.pending.borrow_mut().swap_remove(&token);
        let (slot, part) = pending.expect("a shard answered a request that nobody made");
        slot.deliver(part, reply);
    }
}

async fn drain_overflow(peer: Rc<Peer>) {
    loop {
        let next = peer.overflow.borrow_mut().pop_front();
        match next {
            Some(envelope) => {
                peer.draining.set(true);
                peer.sender.send(envelope).await;
                peer.draining.set(false);
            }
            None => peer.signal.wait().await,
        }
    }
}
