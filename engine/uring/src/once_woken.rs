//! Polling a glommio future only when it was woken.
//!
//! Each poll of a pending glommio operation stores one more clone of the task's waker until the operation completes, and
//! a task has room for 32,767. A task that is woken for other reasons while an accept or a read is pending would run
//! into that. [`once_woken`] puts a relay between the two: the operation sees one waker and one poll per wake, however
//! often the caller is polled.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The waker the operation sees.
struct Relay {
    woken: AtomicBool,
    waiter: Mutex<Option<Waker>>,
}

impl Relay {
    fn follow(&self, waiter: &Waker) {
        let mut current = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
        if !current
            .as_ref()
            .is_some_and(|known| known.will_wake(waiter))
        {
            *current = Some(waiter.clone());
        }
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let waiter = self
            .waiter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// Drives `operation` to its end, polling it once at first and then once per wake it causes itself.
pub(crate) async fn once_woken<F: Future>(operation: F) -> F::Output {
    let mut operation = pin!(operation);
    let relay = Arc::new(Relay {
        woken: AtomicBool::new(true),
        waiter: Mutex::new(None),
    });
    let waker = Waker::from(Arc::clone(&relay));
    poll_fn(|context| {
        // First the waiter, then the flag: a wake in between finds the waiter.
        relay.follow(context.waker());
        if relay.woken.swap(false, Ordering::AcqRel) {
            operation.as_mut().poll(&mut Context::from_waker(&waker))
        } else {
            Poll::Pending
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::once_woken;

    #[test]
    fn polls_once_per_wake() {
        let polls = Cell::new(0);
        let waker = RefCell::new(None::<Waker>);
        let mut future = pin!(once_woken(poll_fn(|context| {
            polls.set(polls.get() + 1);
            *waker.borrow_mut() = Some(context.waker().clone());
            if polls.get() == 3 {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(polls.get(), 1);
        waker.borrow().as_ref().unwrap().wake_by_ref();
        assert!(future.as_mut().poll(&mut context).is_pending());
        assert!(future.as_mut().poll(&mut context).is_pending());
        assert_eq!(polls.get(), 2);
        waker.borrow().as_ref().unwrap().wake_by_ref();
        assert!(future.as_mut().poll(&mut context).is_ready());
    }
}
