//! One client connection as others see it, why it ended, and the table of a shard's connections.
//!
//! Owned by the server of one shard; the two tasks of a connection ([`crate::connection_tasks`]) hold it, too.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use model::MonotonicTime;
use runtime::Io;

use crate::outbox::{Outbox, OutboxLimits};

/// A client connection as its own tasks and the server's housekeeping see it.
pub struct Connection<I: Io> {
    pub stream: I::Stream,
    /// Name of the listener that it came in on: metadata tells the client the addresses for it.
    pub listener: Arc<str>,
    pub outbox: Rc<Outbox>,
    /// When bytes last moved in either direction.
    pub active_at: Cell<MonotonicTime>,
    /// The frame that is incomplete, if one is.
    pub incoming: Cell<Option<Incoming>>,
    /// Since when the writer has waited for the client to read, if it does.
    pub write_started_at: Cell<Option<MonotonicTime>>,
    /// Whether a request is being carried out.
    pub busy: Cell<bool>,
    /// Whether memory is charged for the frame that is incomplete.
    pub holds_request: Cell<bool>,
    /// Whether memory is charged for the answers that the writer waits to send.
    pub holds_answer: Cell<bool>,
    tasks_left: Cell<u8>,
    place: Cell<usize>,
}

impl<I: Io> Connection<I> {
    /// A connection that owes nothing. Its two tasks are to be started.
    pub fn new(
        stream: I::Stream,
        listener: Arc<str>,
        limits: OutboxLimits,
        now: MonotonicTime,
    ) -> Connection<I> {
        Connection {
            stream,
            listener,
            outbox: Outbox::new(limits),
            active_at: Cell::new(now),
            incoming: Cell::new(None),
            write_started_at: Cell::new(None),
            busy: Cell::new(false),
            holds_request: Cell::new(false),
            holds_answer: Cell::new(false),
            tasks_left: Cell::new(2),
            place: Cell::new(0),
        }
    }
}

/// A frame that is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// When its first bytes came, or the broker began to read it.
    pub since: MonotonicTime,
    /// When its last bytes came.
    pub moved_at: MonotonicTime,
    /// How many of its bytes came since then.
    pub bytes: u64,
}

/// Bytes per second that a request must come in with, on average, once it has taken longer than it may stand still. A slow
/// line brings more; who drips bytes to hold the broker's memory does not.
const FRAME_RATE_MIN: u64 = 1024;

impl Incoming {
    /// A frame of which nothing has come since `now`.
    pub fn begin(now: MonotonicTime) -> Incoming {
        Incoming {
            since: now,
            moved_at: now,
            bytes: 0,
        }
    }

    /// More of it has come.
    #[must_use]
    pub fn received(self, now: MonotonicTime, bytes: usize) -> Incoming {
        Incoming {
            moved_at: now,
            bytes: self.bytes + bytes as u64,
            ..self
        }
    }

    /// Whether it stands still for longer than `still_max`, or comes too slowly in the long run.
    pub fn is_overdue(&self, now: MonotonicTime, still_max: Duration) -> bool {
        let took = now.since(self.since);
        let least = took.as_secs() * FRAME_RATE_MIN;
        now.since(self.moved_at) > still_max || (took > still_max && self.bytes < least)
    }
}

/// Connections of a whole broker: its shards take places from one count, because the kernel does not spread clients evenly.
#[derive(Clone, Debug)]
pub struct ConnectionLimit(Arc<LimitState>);

#[derive(Debug)]
struct LimitState {
    max: usize,
    open: AtomicUsize,
}

impl ConnectionLimit {
    /// Room for so many.
    pub fn new(max: usize) -> ConnectionLimit {
        let open = AtomicUsize::new(0);
        ConnectionLimit(Arc::new(LimitState { max, open }))
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.0.max
    }

    fn take(&self) -> bool {
        let more = |open| (open < self.0.max).then_some(open + 1);
        let order = Ordering::Relaxed;
        self.0.open.fetch_update(order, order, more).is_ok()
    }

    fn give_back(&self) {
        let before = self.0.open.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a connection was counted");
    }
}

/// Why a connection ended, for the log.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionEnd {
    #[error("closed by the client")]
    Finished,
    #[error("protocol error: {0}")]
    Protocol(String),
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The broker is going down.
    #[error("draining")]
    Draining,
}

pub struct Connections<I: Io> {
    places: RefCell<Vec<Option<Rc<Connection<I>>>>>,
    free: RefCell<Vec<usize>>,
    open: Cell<usize>,
    limit: ConnectionLimit,
}

impl<I: Io> Connections<I> {
    /// No connections. They take their places from `limit`.
    pub fn new(limit: ConnectionLimit) -> Connections<I> {
        Connections {
            places: RefCell::default(),
            free: RefCell::default(),
            open: Cell::new(0),
            limit,
        }
    }

    pub fn len(&self) -> usize {
        self.open.get()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a connection whose two tasks are about to start. False if there are too many.
    pub fn add(&self, connection: &Rc<Connection<I>>) -> bool {
        if !self.limit.take() {
            return false;
        }
        self.open.set(self.open.get() + 1);
        let mut places = self.places.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(None);
            places.len() - 1
        });
        let previous = places[place].replace(connection.clone());
        assert!(previous.is_none(), "two connections have one place");
        connection.place.set(place);
        true
    }

    /// One of the two tasks of a connection has ended. It leaves with the second: until then an answer may be owed.
    pub fn task_ended(&self, connection: &Connection<I>) {
        let left = connection.tasks_left.get().checked_sub(1);
        let left = left.expect("a connection has two tasks");
        connection.tasks_left.set(left);
        if left > 0 {
            return;
        }
        let place = connection.place.get();
        let gone = self.places.borrow_mut()[place].take();
        assert!(gone.is_some(), "a connection ended twice");
        self.free.borrow_mut().push(place);
        self.open.set(self.open.get() - 1);
        self.limit.give_back();
    }

    /// Calls `visit` for every connection; it may close some.
    pub fn each(&self, mut visit: impl FnMut(&Rc<Connection<I>>)) {
        let present: Vec<_> = self.places.borrow().iter().flatten().cloned().collect();
        for connection in &present {
            visit(connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_gets_through_and_a_drip_does_not() {
        let at = |seconds| MonotonicTime(0).plus(Duration::from_secs(seconds));
        let still_max = Duration::from_secs(30);
        // (bytes per second, seconds) -> overdue at the end
        let table = [
            (20_000, 45, false),
            (2_000, 500, false),
            (100, 29, false),
            (100, 31, true),
            (0, 30, false),
            (0, 31, true),
        ];
        for (rate, seconds, expected) in table {
            let mut incoming = Incoming::begin(at(0));
            for second in 1..=seconds {
                if rate > 0 {
                    incoming = incoming.received(at(second), rate);
                }
            }
            let overdue = incoming.is_overdue(at(seconds), still_max);
            assert_eq!(overdue, expected, "{rate} bytes/s for {seconds} s");
        }
        // The deadline counts from the last byte.
        let incoming = Incoming::begin(at(0)).received(at(40), 900_000);
        assert!(!incoming.is_overdue(at(70), still_max));
        assert!(incoming.is_overdue(at(71), still_max));
    }

    #[test]
    fn shards_share_the_places() {
        let limit = ConnectionLimit::new(3);
        let other = limit.clone();
        assert!(limit.take() && limit.take() && other.take());
        assert!(!limit.take() && !other.take());
        other.give_back();
        assert!(limit.take());
        assert!(!other.take());
    }
}
