//! Deadlines of one shard, driven by its tick: one machine timer however many deadlines there are.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use model::MonotonicTime;
use runtime::Signal;

/// Names a deadline, for [`Timers::cancel`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimerId(MonotonicTime, u64);

/// Signals to raise at deadlines.
#[derive(Default)]
pub struct Timers {
    deadlines: RefCell<BTreeMap<TimerId, Rc<Signal>>>,
    number_next: Cell<u64>,
}

impl Timers {
    /// Raises `signal` at the first tick at or after `deadline`.
    pub fn add(&self, deadline: MonotonicTime, signal: Rc<Signal>) -> TimerId {
        let id = TimerId(deadline, self.number_next.get());
        self.number_next.set(id.1 + 1);
        self.deadlines.borrow_mut().insert(id, signal);
        id
    }

    /// Forgets a deadline that is no longer of interest.
    pub fn cancel(&self, id: TimerId) {
        self.deadlines.borrow_mut().remove(&id);
    }

    pub fn next(&self) -> Option<MonotonicTime> {
        let deadlines = self.deadlines.borrow();
        deadlines.first_key_value().map(|(id, _)| id.0)
    }

    /// Raises every signal that is due.
    pub fn tick(&self, now: MonotonicTime) {
        loop {
            let due = {
                let mut deadlines = self.deadlines.borrow_mut();
                match deadlines.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    _ => return,
                }
            };
            due.raise();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_due_deadlines_fire_and_cancelled_ones_never() {
        let timers = Timers::default();
        let (early, late, never) = (Signal::new(), Signal::new(), Signal::new());
        timers.add(MonotonicTime(5), early.clone());
        timers.add(MonotonicTime(6), late.clone());
        let cancelled = timers.add(MonotonicTime(5), never.clone());
        timers.cancel(cancelled);
        timers.tick(MonotonicTime(5));
        assert!(early.is_raised());
        assert!(!late.is_raised() && !never.is_raised());
    }
}
