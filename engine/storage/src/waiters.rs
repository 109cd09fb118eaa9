//! Many tasks of one shard waiting for something to change.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::task::{Poll, Waker};

/// Wakes everyone who waits. Waiters look at the state they wait for, in a loop.
#[derive(Default)]
pub(crate) struct Waiters {
    round: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Waiters {
    /// Wakes all present waiters.
    pub(crate) fn notify(&self) {
        self.round.set(self.round.get().wrapping_add(1));
        if self.wakers.borrow().is_empty() {
            return;
        }
        let wakers = self.wakers.take();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Completes at the next [`Waiters::notify`] after this call (not after its first poll).
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + '_ {
        let round = self.round.get();
        poll_fn(move |context| {
            if self.round.get() != round {
                return Poll::Ready(());
            }
            let mut wakers = self.wakers.borrow_mut();
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
    }
}
