//! Operations on the device that are under way, and since when: one that does not come back must not go unnoticed
//! (reliability R10). Pure.
//!
//! Bound: as many entries as there are operations in flight, a few dozen.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use model::MonotonicTime;

/// Operations of one shard.
#[derive(Default)]
pub(crate) struct Deadlines {
    under_way: RefCell<BTreeMap<u64, (MonotonicTime, &'static str)>>,
    next: Cell<u64>,
}

/// One operation. Dropping it says that it has come back.
pub(crate) struct UnderWay<'a> {
    deadlines: &'a Deadlines,
    number: u64,
}

impl Deadlines {
    /// An operation begins.
    #[must_use]
    pub(crate) fn begin(&self, what: &'static str, now: MonotonicTime) -> UnderWay<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        self.under_way.borrow_mut().insert(number, (now, what));
        UnderWay {
            deadlines: self,
            number,
        }
    }

    /// This process itself has not run for so long: no operation is the older for it.
    pub(crate) fn forgive(&self, stopped: Duration) {
        for (since, _) in self.under_way.borrow_mut().values_mut() {
            *since = since.plus(stopped);
        }
    }

    /// The oldest operation, if it has been under way for `limit` or longer.
    pub(crate) fn overdue(
        &self,
        now: MonotonicTime,
        limit: Duration,
    ) -> Option<(&'static str, Duration)> {
        let under_way = self.under_way.borrow();
        let (since, what) = under_way.values().next()?;
        let age = now.since(*since);
        (age >= limit).then_some((*what, age))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let known = self.deadlines.under_way.borrow_mut().remove(&self.number);
        assert!(known.is_some(), "an operation ends once");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts() {
        let at = |seconds| MonotonicTime(0).plus(Duration::from_secs(seconds));
        let limit = Duration::from_secs(30);
        let deadlines = Deadlines::default();
        let first = deadlines.begin("first", at(0));
        let second = deadlines.begin("second", at(10));
        assert_eq!(deadlines.overdue(at(29), limit), None);
        assert_eq!(
            deadlines.overdue(at(31), limit),
            Some(("first", Duration::from_secs(31)))
        );
        drop(first);
        assert_eq!(deadlines.overdue(at(31), limit), None);
        assert_eq!(deadlines.overdue(at(40), limit), Some(("second", limit)));
        drop(second);
        assert_eq!(deadlines.overdue(at(99), limit), None);
    }

    #[test]
    fn a_stopped_process_is_no_fault_of_the_device() {
        let at = |seconds| MonotonicTime(0).plus(Duration::from_secs(seconds));
        let limit = Duration::from_secs(30);
        let deadlines = Deadlines::default();
        let _first = deadlines.begin("first", at(0));
        deadlines.forgive(Duration::from_secs(45));
        assert_eq!(deadlines.overdue(at(46), limit), None);
        assert_eq!(deadlines.overdue(at(75), limit), Some(("first", limit)));
    }
}
