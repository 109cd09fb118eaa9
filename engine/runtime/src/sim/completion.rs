//! One operation in flight, and the rule about its future.
//!
//! Under io_uring a future that was polled must be driven to its end by the task that polled it. The simulator
//! enforces it: dropping a pending operation, or polling it from another task, panics with the operation's name.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::world::World;

/// Where the result of an operation arrives.
pub(crate) struct Slot<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Rc<Slot<T>> {
        Rc::new(Slot {
            value: RefCell::new(None),
            waker: RefCell::new(None),
        })
    }

    pub(crate) fn complete(&self, value: T) {
        *self.value.borrow_mut() = Some(value);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Watches one future from its first poll to its end.
pub(crate) struct Watch {
    world: Rc<World>,
    node: usize,
    incarnation: u64,
    label: &'static str,
    owner: Option<u64>,
    finished: bool,
}

impl Watch {
    pub(crate) fn new(
        world: &Rc<World>,
        node: usize,
        incarnation: u64,
        label: &'static str,
    ) -> Watch {
        Watch {
            world: Rc::clone(world),
            node,
            incarnation,
            label,
            owner: None,
            finished: false,
        }
    }

    /// Called at every poll.
    pub(crate) fn polled(&mut self) {
        let current = self.world.scheduler.current();
        match self.owner {
            None => self.owner = current,
            Some(_) if self.owner == current => {}
            Some(_) => panic!(
                "{} was polled by a task that did not start it (seed {})",
                self.label, self.world.seed
            ),
        }
    }

    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let started = self.owner.is_some();
        let alive = self.world.node(self.node).incarnation.get() == self.incarnation;
        if started
            && !self.finished
            && alive
            && !self.world.ended.get()
            && !std::thread::panicking()
        {
            panic!(
                "{} on node {} was dropped while it was in flight: a future of Io must be driven to its end (seed {})",
                self.label, self.node, self.world.seed
            );
        }
    }
}

/// The future of one operation.
pub(crate) struct Completion<T> {
    slot: Rc<Slot<T>>,
    watch: Watch,
}

impl<T> Completion<T> {
    pub(crate) fn new(slot: Rc<Slot<T>>, watch: Watch) -> Completion<T> {
        Completion { slot, watch }
    }
}

impl<T> Future for Completion<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        self.watch.polled();
        let value = self.slot.value.borrow_mut().take();
        if let Some(value) = value {
            self.watch.finish();
            return Poll::Ready(value);
        }
        *self.slot.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}
