//! A budget of bytes of one shard, handed out as reservations.
//!
//! Invariants: a reservation that is asked for never exceeds the limit together with the others, except for a single
//! one larger than the limit, which is granted only when nothing else is reserved; waiters are served in the order they
//! came in, and nobody overtakes them. What exists already whether it fits or not ([`Budget::charge`]) is counted above
//! the limit, and nobody is served until it is below again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The budget.
pub struct Budget {
    limit_bytes: usize,
    used_bytes: Cell<usize>,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
}

struct Waiter {
    bytes: usize,
    is_granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Bytes taken from a budget. Dropping it gives them back.
pub struct Reservation {
    budget: Rc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Rc<Budget> {
        Rc::new(Budget {
            limit_bytes,
            used_bytes: Cell::new(0),
            waiters: RefCell::new(VecDeque::new()),
        })
    }

    /// The whole budget, in bytes.
    pub fn limit(&self) -> usize {
        self.limit_bytes
    }

    /// Bytes reserved now.
    pub fn used(&self) -> usize {
        self.used_bytes.get()
    }

    /// Tasks that wait.
    pub fn waiting(&self) -> usize {
        self.waiters.borrow().len()
    }

    /// Bytes that may be reserved now. None while more is used than the limit allows.
    pub fn free(&self) -> usize {
        self.limit_bytes - self.used_bytes.get().min(self.limit_bytes)
    }

    /// Whether somebody waits, or more is used than the limit allows.
    pub fn is_short(&self) -> bool {
        self.used_bytes.get() > self.limit_bytes || self.waiting() > 0
    }

    fn fits(&self, bytes: usize) -> bool {
        self.used_bytes.get() == 0 || bytes <= self.free()
    }

    /// Counts memory that is there already, over the limit if need be.
    pub fn charge(self: &Rc<Self>, bytes: usize) -> Reservation {
        self.used_bytes.set(self.used_bytes.get() + bytes);
        Reservation {
            budget: Rc::clone(self),
            bytes,
        }
    }

    /// Reserves `bytes` if they are free and nobody waits.
    pub fn try_reserve(self: &Rc<Self>, bytes: usize) -> Option<Reservation> {
        if !self.waiters.borrow().is_empty() || !self.fits(bytes) {
            return None;
        }
        self.used_bytes.set(self.used_bytes.get() + bytes);
        Some(Reservation {
            budget: Rc::clone(self),
            bytes,
        })
    }

    /// Reserves `bytes`, waiting for its turn. More than the whole budget is granted alone, when all else is free:
    /// whoever must not allow that compares with [`Budget::limit`] first.
    pub fn reserve(self: &Rc<Self>, bytes: usize) -> Reserve {
        Reserve {
            budget: Rc::clone(self),
            bytes,
            waiter: None,
        }
    }

    fn release(&self, bytes: usize) {
        self.used_bytes.set(self.used_bytes.get() - bytes);
        self.grant();
    }

    /// Serves those who wait, as far as the bytes go.
    fn grant(&self) {
        let mut waiters = self.waiters.borrow_mut();
        while let Some(first) = waiters.front() {
            if !self.fits(first.bytes) {
                return;
            }
            self.used_bytes.set(self.used_bytes.get() + first.bytes);
            first.is_granted.set(true);
            if let Some(waker) = first.waker.borrow_mut().take() {
                waker.wake();
            }
            waiters.pop_front();
        }
    }
}

/// The future of [`Budget::reserve`]. May be dropped at any time.
pub struct Reserve {
    budget: Rc<Budget>,
    bytes: usize,
    waiter: Option<Rc<Waiter>>,
}

impl Future for Reserve {
    type Output = Reservation;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reservation> {
        if let Some(waiter) = &self.waiter {
            if !waiter.is_granted.get() {
                *waiter.waker.borrow_mut() = Some(context.waker().clone());
                return Poll::Pending;
            }
            self.waiter = None;
            return Poll::Ready(Reservation {
                budget: Rc::clone(&self.budget),
                bytes: self.bytes,
            });
        }
        if let Some(reservation) = self.budget.try_reserve(self.bytes) {
            return Poll::Ready(reservation);
        }
        let waiter = Rc::new(Waiter {
            bytes: self.bytes,
            is_granted: Cell::new(false),
            waker: RefCell::new(Some(context.waker().clone())),
        });
        let queued = Rc::clone(&waiter);
        self.budget.waiters.borrow_mut().push_back(queued);
        self.waiter = Some(waiter);
        Poll::Pending
    }
}

impl Drop for Reserve {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        if waiter.is_granted.get() {
            self.budget.release(self.bytes);
            return;
        }
        let mut waiters = self.budget.waiters.borrow_mut();
        waiters.retain(|other| !Rc::ptr_eq(other, &waiter));
        drop(waiters);
        // Those behind it may fit where it did not.
        self.budget.grant();
    }
}

impl Reservation {
    /// Bytes reserved.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it `bytes`, whatever was reserved: gives back the rest, or counts more than was asked for.
    pub fn settle(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => {
                self.budget
                    .used_bytes
                    .set(self.budget.used_bytes.get() + more);
                self.bytes = bytes;
            }
            None => self.shrink(bytes),
        }
    }

    /// Gives back all but `bytes`. Never grows.
    pub fn shrink(&mut self, bytes: usize) {
        if let Some(surplus) = self.bytes.checked_sub(bytes) {
            self.bytes = bytes;
            self.budget.release(surplus);
        }
    }

    /// Splits off a reservation of `bytes`, or of everything if that is less.
    #[must_use]
    pub fn split(&mut self, bytes: usize) -> Reservation {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Reservation {
            budget: Rc::clone(&self.budget),
            bytes,
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::Future;
    use std::pin::pin;
    use std::rc::Rc;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::Budget;
    use crate::io::Io;
    use crate::sim::Simulation;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn reservations_count_and_come_back() {
        let budget = Budget::new(100);
        let mut first = budget.try_reserve(60).unwrap();
        assert!(budget.try_reserve(41).is_none());
        first.shrink(50);
        first.shrink(99);
        let part = first.split(20);
        assert_eq!((first.bytes(), part.bytes(), budget.used()), (30, 20, 50));
        drop(first);
        assert_eq!(budget.used(), 20);
        drop(part);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn nobody_overtakes_a_waiter() {
        let budget = Budget::new(100);
        let held = budget.try_reserve(50).unwrap();
        let mut large = pin!(budget.reserve(80));
        assert!(poll(large.as_mut()).is_pending());
        assert!(budget.try_reserve(1).is_none(), "the large one comes first");
        let mut small = pin!(budget.reserve(10));
        assert!(poll(small.as_mut()).is_pending());
        drop(held);
        let Poll::Ready(large) = poll(large) else {
            panic!("its turn has come");
        };
        assert!(poll(small).is_ready());
        drop(large);
        assert_eq!((budget.used(), budget.waiting()), (0, 0));
    }

    #[test]
    fn a_dropped_waiter_makes_way_and_gives_back() {
        let budget = Budget::new(10);
        let held = budget.try_reserve(5).unwrap();
        let mut large = Box::pin(budget.reserve(8));
        let mut small = Box::pin(budget.reserve(5));
        assert!(poll(large.as_mut()).is_pending());
        assert!(poll(small.as_mut()).is_pending());
        drop(large);
        assert_eq!(budget.used(), 10, "the small one was granted");
        drop(small);
        assert_eq!(budget.used(), 5, "granted and never taken");
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn more_than_the_budget_is_granted_alone() {
        let budget = Budget::new(10);
        let held = budget.try_reserve(1).unwrap();
        assert!(budget.try_reserve(20).is_none());
        drop(held);
        let whole = budget.try_reserve(20).unwrap();
        assert!(budget.try_reserve(1).is_none());
        drop(whole);
    }

    #[test]
    fn what_is_there_already_counts_over_the_limit_and_holds_up_the_others() {
        let budget = Budget::new(10);
        let mut answer = budget.try_reserve(4).unwrap();
        answer.settle(12);
        assert_eq!((answer.bytes(), budget.used(), budget.free()), (12, 12, 0));
        assert!(budget.is_short());
        let mut next = pin!(budget.reserve(3));
        assert!(poll(next.as_mut()).is_pending());
        answer.settle(8);
        assert!(poll(next.as_mut()).is_pending(), "two bytes are free");
        answer.settle(7);
        let Poll::Ready(next) = poll(next) else {
            panic!("three bytes are free");
        };
        let more = budget.charge(5);
        assert_eq!((budget.used(), budget.is_short()), (15, true));
        drop((answer, next, more));
        assert_eq!((budget.used(), budget.is_short()), (0, false));
    }

    #[test]
    fn many_tasks_share_a_budget_in_order() {
        for seed in 0..20 {
            let simulation = Simulation::new(seed, 1, 1);
            let budget = Budget::new(1000);
            let order = Rc::new(RefCell::new(Vec::new()));
            let asked = Rc::new(RefCell::new(Vec::new()));
            let used_max = Rc::new(Cell::new(0));
            for number in 0..50_usize {
                let io = simulation.io(0, 0);
                let budget = Rc::clone(&budget);
                let (order, asked) = (Rc::clone(&order), Rc::clone(&asked));
                let used_max = Rc::clone(&used_max);
                simulation.spawn(0, 0, async move {
                    asked.borrow_mut().push(number);
                    let reservation = budget.reserve(100 + number).await;
                    order.borrow_mut().push((number, io.now()));
                    used_max.set(used_max.get().max(budget.used()));
                    io.sleep(Duration::from_micros(io.random() % 500)).await;
                    drop(reservation);
                });
            }
            simulation.run_until_idle(Duration::from_secs(1));
            assert_eq!(order.borrow().len(), 50);
            assert!(used_max.get() <= 1000);
            assert_eq!(budget.used(), 0);
        }
    }
}
