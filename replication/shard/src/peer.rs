//! The other shards of this broker, as one shard sees them.
//!
//! Sending never blocks the dispatcher: what does not fit into a full mailbox waits in a local queue with a task of
//! its own. That queue is bounded by the requests in flight, which the connections bound.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use model::{Offset, ShardId};
use runtime::mailbox::Sender;
use runtime::{Counter, Io, Signal, TaskClass};

use crate::message::{Ask, Awaited, Envelope, Reply, ReplyTo};
use crate::reply::ReplySlot;

struct Peer {
    sender: Sender<Envelope>,
    overflow: RefCell<VecDeque<Envelope>>,
    /// The drain task holds a message that must leave before any later one.
    draining: Cell<bool>,
    signal: Rc<Signal>,
}

/// Mailboxes to every shard, and the answers that this shard waits for.
pub struct Peers {
    peers: Vec<Rc<Peer>>,
    awaited: Awaited,
    token_next: Cell<u64>,
    me: ShardId,
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
            awaited: Awaited::default(),
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

    /// Asks another shard. The answer becomes part `part` of `slot`. `metadata_end` is how far the asker knows the
    /// metadata log.
    pub fn ask<Q: Ask>(
        &self,
        to: ShardId,
        question: Q,
        metadata_end: Offset,
        slot: &Rc<ReplySlot<Q::Answer>>,
        part: usize,
    ) {
        assert_ne!(to, self.me, "a shard does not write to itself");
        let token = self.token_next.get();
        self.token_next.set(token + 1);
        Q::awaited(&self.awaited).add(token, slot.clone(), part);
        let envelope = Envelope::Question {
            from: self.me,
            token,
            metadata_end,
            question: question.into_question(),
        };
        self.send(to, envelope);
    }

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

    pub fn answer<Q: Ask>(&self, to: ReplyTo<Q>, answer: Q::Answer) {
        match to {
            ReplyTo::Local(slot, part) => slot.deliver(part, answer),
            ReplyTo::Remote(shard, token) => {
                self.send(shard, Envelope::Reply(Q::into_reply(token, answer)));
            }
            ReplyTo::Nobody => {}
        }
    }

    /// An answer has arrived from another shard.
    pub(crate) fn arrived(&self, reply: Reply) {
        self.awaited.arrived(reply);
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
