//! What shard 0 wants other brokers to get. Whoever has the connections takes it from here: nothing in this layer sends.
//!
//! On shard 0. Bounds: the quorum bounds its messages under way; requests are bounded by the tasks that forward them, one each;
//! of the brokers' addresses only the newest list is kept.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use model::BrokerId;
use quorum::{Message, ReplicaKey, SnapshotMark};
use runtime::{Oneshot, Signal};

/// Where a broker listens for others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    pub key: ReplicaKey,
    /// Host and port, in the order in which they are tried.
    pub addresses: Vec<(String, u16)>,
}

/// What becomes of a request that was sent to another broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// Its answer.
    Answered(Bytes),
    /// It had no effect there.
    NotTaken,
    /// It may have had one.
    Unknown,
}

/// A request for another broker.
pub struct Forward {
    pub to: BrokerId,
    pub request: Bytes,
    pub answer: Rc<Oneshot<Forwarded>>,
}

/// What other brokers are to get, or are asked for.
pub enum Outgoing {
    /// A message of the quorum. One that cannot be sent is told by [`crate::others::unreachable`].
    Quorum(Message),
    /// A request; it is answered in bounded time, whatever happens.
    Forward(Forward),
    /// A snapshot of the metadata log: [`crate::others::snapshot_fetched`], or [`crate::others::snapshot_not_fetched`] if it
    /// cannot be had.
    FetchSnapshot(ReplicaKey, SnapshotMark),
    /// Whether a broker answers. [`crate::others::probed`] says so.
    Probe(BrokerId),
    /// These are the brokers from now on.
    Addresses(Vec<PeerAddress>),
}

/// What waits to be taken.
#[derive(Default)]
pub struct OutgoingQueue {
    queue: RefCell<VecDeque<Outgoing>>,
    addresses: RefCell<Option<Vec<PeerAddress>>>,
    wanted: Rc<Signal>,
}

impl OutgoingQueue {
    pub(crate) fn push(&self, outgoing: Outgoing) {
        self.queue.borrow_mut().push_back(outgoing);
        self.wanted.raise();
    }

    pub(crate) fn set_addresses(&self, addresses: Vec<PeerAddress>) {
        *self.addresses.borrow_mut() = Some(addresses);
        self.wanted.raise();
    }

    /// The next. Addresses come first: what follows may be for one of them. One task takes it.
    pub async fn next(&self) -> Outgoing {
        loop {
            let addresses = self.addresses.borrow_mut().take();
            if let Some(addresses) = addresses {
                return Outgoing::Addresses(addresses);
            }
            let next = self.queue.borrow_mut().pop_front();
            if let Some(next) = next {
                return next;
            }
            self.wanted.wait().await;
        }
    }
}
