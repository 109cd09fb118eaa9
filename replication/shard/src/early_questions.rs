//! Questions of shards that have heard more of the cluster than this one.
//!
//! Shard 0 tells every shard of a new topic, in no order among them. Whoever hears of it first may ask the owner of a
//! partition before that one has heard, and a client that sends batch after batch would have the first refused and the
//! next one accepted. So a question says how far its asker knows the metadata log, and waits here until the owner has
//! come as far. What it waits for is on its way already: the wait has an end, and a bound should shard 0 be stuck.
//!
//! Bounded by the requests in flight, as every queue between shards. Invariant: the questions of one shard stay in
//! order, because what it knows only grows.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use model::{MonotonicTime, Offset};

/// How long a question waits. Then it is answered with what is known here.
const PATIENCE: Duration = Duration::from_secs(5);

struct Early<T> {
    metadata_end: Offset,
    arrived_at: MonotonicTime,
    question: T,
}

/// Questions that wait, in the order of their arrival.
pub(crate) struct EarlyQuestions<T>(RefCell<VecDeque<Early<T>>>);

impl<T> Default for EarlyQuestions<T> {
    fn default() -> EarlyQuestions<T> {
        EarlyQuestions(RefCell::default())
    }
}

impl<T> EarlyQuestions<T> {
    /// Keeps a question until the metadata log is known up to `metadata_end`.
    pub(crate) fn keep(&self, metadata_end: Offset, now: MonotonicTime, question: T) {
        self.0.borrow_mut().push_back(Early {
            metadata_end,
            arrived_at: now,
            question,
        });
    }

    /// Takes the questions that need wait no longer: the log is known up to `metadata_end`.
    #[must_use]
    pub(crate) fn take_ready(&self, metadata_end: Offset) -> Vec<T> {
        self.take(|early| early.metadata_end <= metadata_end)
    }

    /// Takes the questions that have waited too long.
    #[must_use]
    pub(crate) fn take_overdue(&self, now: MonotonicTime) -> Vec<T> {
        self.take(|early| now.since(early.arrived_at) >= PATIENCE)
    }

    fn take(&self, chosen: impl Fn(&Early<T>) -> bool) -> Vec<T> {
        let mut waiting = self.0.borrow_mut();
        if waiting.is_empty() {
            return Vec::new();
        }
        let (ready, left): (Vec<_>, Vec<_>) = waiting.drain(..).partition(chosen);
        *waiting = left.into();
        ready.into_iter().map(|early| early.question).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonotonicTime {
        MonotonicTime(seconds * 1_000_000_000)
    }

    #[test]
    fn questions_leave_in_order_when_what_they_need_is_known() {
        let early = EarlyQuestions::default();
        for (number, end) in [(1, 7), (2, 5), (3, 7), (4, 9)] {
            early.keep(Offset(end), at(0), number);
        }
        let nothing: [i32; 0] = [];
        assert_eq!(early.take_ready(Offset(4)), nothing);
        assert_eq!(early.take_ready(Offset(5)), [2]);
        assert_eq!(early.take_ready(Offset(8)), [1, 3]);
        assert_eq!(early.take_ready(Offset(8)), nothing);
        assert_eq!(early.take_ready(Offset(9)), [4]);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let early = EarlyQuestions::default();
        early.keep(Offset(7), at(1), 1);
        early.keep(Offset(7), at(3), 2);
        let nothing: [i32; 0] = [];
        assert_eq!(early.take_overdue(at(5)), nothing);
        assert_eq!(early.take_overdue(at(6)), [1]);
        assert_eq!(early.take_overdue(at(9)), [2]);
    }
}
