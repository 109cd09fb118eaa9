//! Waiting within one shard, without threads: one waiter, one waker, no lock.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A flag that one task waits for and any code of the shard raises.
///
/// Raising it twice before the waiter looks counts once, so a waiter must look at the state it waits for.
#[derive(Default)]
pub struct Signal {
    raised: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

impl Signal {
    /// A signal that is not raised.
    pub fn new() -> Rc<Signal> {
        Rc::new(Signal::default())
    }

    /// Wakes the waiter, or lets the next wait return at once.
    pub fn raise(&self) {
        self.raised.set(true);
        let waiter = self.waiter.borrow_mut().take();
        if let Some(waker) = waiter {
            waker.wake();
        }
    }

    /// Whether it is raised and nobody has waited yet.
    pub fn is_raised(&self) -> bool {
        self.raised.get()
    }

    /// Waits until the signal is raised, and lowers it.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        poll_fn(|context| {
            if self.raised.replace(false) {
                return Poll::Ready(());
            }
            let mut waiter = self.waiter.borrow_mut();
            if waiter
                .as_ref()
                .is_none_or(|w| !w.will_wake(context.waker()))
            {
                *waiter = Some(context.waker().clone());
            }
            Poll::Pending
        })
    }
}

/// A value that arrives once, for one waiter.
pub struct Oneshot<T> {
    value: RefCell<Option<T>>,
    signal: Signal,
}

impl<T> Oneshot<T> {
    /// An empty slot.
    pub fn new() -> Rc<Oneshot<T>> {
        Rc::new(Oneshot {
            value: RefCell::new(None),
            signal: Signal::default(),
        })
    }

    /// Delivers the value. A second delivery replaces one that was not taken.
    pub fn set(&self, value: T) {
        *self.value.borrow_mut() = Some(value);
        self.signal.raise();
    }

    /// Waits for the value and takes it.
    pub async fn take(&self) -> T {
        loop {
            if let Some(value) = self.value.borrow_mut().take() {
                return value;
            }
            self.signal.wait().await;
        }
    }
}
