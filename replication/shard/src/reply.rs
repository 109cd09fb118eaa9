//! Where an answer goes: to a task of this shard, or back to the shard that asked.
//!
//! Invariant: every accepted request is answered exactly once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use model::ShardId;
use runtime::Signal;

use crate::message::ShardReply;

/// Collects the answers of the shards that one client request was split over.
///
/// One task waits, on the signal given at creation; many slots may share that signal.
pub struct ReplySlot {
    parts: RefCell<Vec<Option<ShardReply>>>,
    missing: Cell<usize>,
    signal: Rc<Signal>,
}

impl ReplySlot {
    /// A slot for the answers of `parts` shards. `signal` is raised when the last one is there.
    pub fn new(parts: usize, signal: Rc<Signal>) -> Rc<ReplySlot> {
        let mut empty = Vec::with_capacity(parts);
        empty.resize_with(parts, || None);
        Rc::new(ReplySlot {
            parts: RefCell::new(empty),
            missing: Cell::new(parts),
            signal,
        })
    }

    /// Whether every part has arrived.
    pub fn is_complete(&self) -> bool {
        self.missing.get() == 0
    }

    /// The parts, in the order of the shards asked. Empty if they were taken before.
    pub fn take(&self) -> Vec<ShardReply> {
        assert!(self.is_complete(), "an incomplete answer was taken");
        self.parts.take().into_iter().flatten().collect()
    }

    /// Waits for every part, then takes them. For a slot whose signal belongs to the caller alone.
    pub async fn wait(&self) -> Vec<ShardReply> {
        while !self.is_complete() {
            self.signal.wait().await;
        }
        self.take()
    }

    pub(crate) fn deliver(&self, part: usize, reply: ShardReply) {
        let previous = self.parts.borrow_mut()[part].replace(reply);
        assert!(previous.is_none(), "a request was answered twice");
        self.missing.set(self.missing.get() - 1);
        if self.missing.get() == 0 {
            self.signal.raise();
        }
    }
}

/// The return address of a request.
pub enum ReplyTo {
    /// A slot on this shard.
    Local(Rc<ReplySlot>, usize),
    /// A request of another shard, named by its token there.
    Remote(ShardId, u64),
    /// Nobody waits (`acks=0` on this shard).
    Nobody,
}
