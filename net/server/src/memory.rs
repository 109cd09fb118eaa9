//! The memory that requests and their answers may take, on one shard.
//!
//! A request longer than what every connection may hold (64 KiB, [`crate::connection_tasks`]) is charged before its
//! body is read, and one whose records go to another shard before it is sent there; the charge is held until the records
//! were appended. The answer to a fetch is charged before it is read, every other one when it is encoded, until the
//! socket has it.
//!
//! Nobody waits for ever. What holds a request's charge waits for storage, which waits for neither budget, or for the
//! rest of its frame; what holds an answer's charge waits for its client to read. Those two are clients, and whoever does
//! not move while others wait is cut off ([`STALL_WHEN_SHORT`]). A request may wait for an answer's charge, never an
//! answer for a request's. A connection reads one frame at a time and waits for its charge with nothing of that frame
//! charged. A request larger than the shard's budget is granted when it is alone on its shard, and takes its turn among
//! those of all shards ([`Oversize`]) only then: it waits for another such request, which waits for no one.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use model::MonotonicTime;
use runtime::Io;
use runtime::budget::{Budget, Reservation};

/// A client that moves no byte for this long is cut off while others wait for the memory it holds.
pub const STALL_WHEN_SHORT: Duration = Duration::from_secs(1);

/// How often the turn of the broker's largest requests is asked for.
const TURN_INTERVAL: Duration = Duration::from_millis(5);

/// A notice of one kind is logged at most this often.
const NOTICE_INTERVAL: Duration = Duration::from_secs(30);

/// The turn of requests larger than a shard's budget: one at a time in the whole broker.
#[derive(Clone, Debug, Default)]
pub struct Oversize(Arc<OversizeState>);

#[derive(Debug, Default)]
struct OversizeState {
    is_taken: AtomicBool,
    waiting: AtomicUsize,
}

/// Holds the turn.
struct Turn(Oversize);

impl Oversize {
    fn take(&self) -> Option<Turn> {
        let was_taken = self.0.is_taken.swap(true, Ordering::Acquire);
        (!was_taken).then(|| Turn(self.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.is_taken.store(false, Ordering::Release);
    }
}

/// The charge of one request: held by the request and by what is left of it. Dropping it gives the memory back.
pub struct RequestCharge {
    _reservation: Reservation,
    _turn: Option<Turn>,
}

/// Keeps notices of one kind from filling the log.
#[derive(Default)]
pub struct Notice {
    last_at: Cell<Option<MonotonicTime>>,
    withheld: Cell<u64>,
}

impl Notice {
    /// Whether to log now; if so, how many were withheld since the last time.
    pub fn due(&self, now: MonotonicTime) -> Option<u64> {
        if let Some(last) = self.last_at.get()
            && now.since(last) < NOTICE_INTERVAL
        {
            self.withheld.set(self.withheld.get() + 1);
            return None;
        }
        self.last_at.set(Some(now));
        Some(self.withheld.take())
    }
}

/// Budgets of one shard's server.
pub struct Memory {
    /// Large requests, from before their body is read until their records were appended.
    pub requests: Rc<Budget>,
    /// Small requests on their way to another shard: they do not queue behind large ones that are still being sent.
    pub passing: Rc<Budget>,
    /// Answers to those who ask for much, until the socket has them.
    pub answers: Rc<Budget>,
    /// All others: they do not queue behind those.
    pub small_answers: Rc<Budget>,
    oversize: Oversize,
    /// Requests longer than `socket.request.max.bytes`.
    pub too_long: Notice,
    /// Connections that were cut off because others waited for their memory.
    pub cut_off: Notice,
    /// Connections that were cut off because they did not read or send for too long.
    pub too_slow: Notice,
    /// Connections beyond what there may be.
    pub refused: Notice,
}

impl Memory {
    /// Budgets of these sizes, in bytes.
    pub fn new(request_bytes: usize, answer_bytes: usize, oversize: Oversize) -> Memory {
        Memory {
            requests: Budget::new(request_bytes - request_bytes / 4),
            passing: Budget::new(request_bytes / 4),
            answers: Budget::new(answer_bytes - answer_bytes / 2),
            small_answers: Budget::new(answer_bytes / 2),
            oversize,
            too_long: Notice::default(),
            cut_off: Notice::default(),
            too_slow: Notice::default(),
            refused: Notice::default(),
        }
    }

    /// Charges a request of `bytes`, waiting until they are free.
    pub async fn charge_request<I: Io>(&self, io: &I, bytes: usize) -> Rc<RequestCharge> {
        let reservation = self.requests.reserve(bytes).await;
        let turn = if bytes > self.requests.limit() {
            Some(self.turn(io).await)
        } else {
            None
        };
        Rc::new(RequestCharge {
            _reservation: reservation,
            _turn: turn,
        })
    }

    /// Charges a request that was read into what every connection may hold and now goes to another shard.
    pub async fn charge_passing(&self, bytes: usize) -> Rc<RequestCharge> {
        Rc::new(RequestCharge {
            _reservation: self.passing.reserve(bytes).await,
            _turn: None,
        })
    }

    async fn turn<I: Io>(&self, io: &I) -> Turn {
        let waiting = &self.oversize.0.waiting;
        waiting.fetch_add(1, Ordering::Relaxed);
        let turn = loop {
            match self.oversize.take() {
                Some(turn) => break turn,
                None => io.sleep(TURN_INTERVAL).await,
            }
        };
        waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    /// Whether somebody waits for what requests hold, here or, for the turn of the largest, on another shard.
    pub fn requests_are_short(&self) -> bool {
        self.requests.is_short() || self.oversize.0.waiting.load(Ordering::Relaxed) > 0
    }

    /// Charges the answer to a fetch that asks for `wanted` bytes, waiting until a share of the budget is free. An answer
    /// may be shorter than what was asked for: no reader gets more than a quarter of what is left, so that readers who
    /// do not read leave something for the others. `least` is granted whatever is left, in its turn.
    pub async fn charge_answer(&self, wanted: usize, least: usize) -> Reservation {
        if wanted <= least {
            return self.small_answers.reserve(wanted).await;
        }
        let share = answer_share(wanted, least, self.answers.free());
        self.answers.reserve(share).await
    }

    /// Whether somebody waits for what answers hold.
    pub fn answers_are_short(&self) -> bool {
        self.answers.is_short() || self.small_answers.is_short()
    }
}

fn answer_share(wanted: usize, least: usize, free: usize) -> usize {
    wanted.min((free / 4).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_gets_a_quarter_of_what_is_left_and_its_least_always() {
        let check = |wanted, least, free, expected| {
            assert_eq!(answer_share(wanted, least, free), expected);
        };
        check(1000, 10, 100, 25);
        check(20, 10, 100, 20);
        check(1000, 30, 100, 30);
        check(1000, 10, 0, 10);
        check(5, 10, 0, 5);
    }

    #[test]
    fn the_largest_requests_take_turns() {
        let oversize = Oversize::default();
        let other_shard = oversize.clone();
        let turn = oversize.take().unwrap();
        assert!(other_shard.take().is_none());
        drop(turn);
        assert!(other_shard.take().is_some());
        assert!(oversize.take().is_some(), "given back when dropped");
    }

    #[test]
    fn notices_are_withheld_and_counted() {
        let notice = Notice::default();
        let at = |seconds: u64| MonotonicTime(seconds * 1_000_000_000);
        assert_eq!(notice.due(at(1)), Some(0));
        assert_eq!(notice.due(at(2)), None);
        assert_eq!(notice.due(at(30)), None);
        assert_eq!(notice.due(at(31)), Some(2));
    }
}
