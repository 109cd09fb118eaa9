//! Where the answers to the parts of one question come together.
//!
//! Invariant: every part is answered exactly once.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use runtime::Signal;

/// Collects the answers of the shards that one client request was split over.
///
/// One task waits, on the signal given at creation; many slots may share that signal.
pub struct ReplySlot<A> {
    parts: RefCell<Vec<Option<A>>>,
    missing: Cell<usize>,
    signal: Rc<Signal>,
}

impl<A> ReplySlot<A> {
    /// A slot for the answers of `parts` shards. `signal` is raised when the last one is there.
    pub fn new(parts: usize, signal: Rc<Signal>) -> Rc<ReplySlot<A>> {
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
    pub fn take(&self) -> Vec<A> {
        assert!(self.is_complete(), "an incomplete answer was taken");
        self.parts.take().into_iter().flatten().collect()
    }

    /// Waits for every part, then takes them. For a slot whose signal belongs to the caller alone.
    pub async fn wait(&self) -> Vec<A> {
        while !self.is_complete() {
            self.signal.wait().await;
        }
        self.take()
    }

    /// Adds the answer to one part.
    pub fn deliver(&self, part: usize, answer: A) {
        let previous = self.parts.borrow_mut()[part].replace(answer);
        assert!(previous.is_none(), "a question was answered twice");
        let missing = self.missing.get().checked_sub(1);
        self.missing.set(missing.expect("as many answers as parts"));
        if self.missing.get() == 0 {
            self.signal.raise();
        }
    }
}
