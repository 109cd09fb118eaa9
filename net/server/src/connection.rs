//! One client connection as others see it, why it ended, and the table of a shard's connections.
//!
//! Owned by the server of one shard; the two tasks of a connection ([`crate::connection_tasks`]) hold it, too.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use model::MonotonicTime;
use runtime::Io;

use crate::outbox::{Outbox, OutboxLimits};

/// A client connection as its own tasks and the server's housekeeping see it.
pub struct Connection<I: Io> {
    pub stream: I::Stream,
    pub outbox: Rc<Outbox>,
    /// When bytes last moved in either direction.
    pub active_at: Cell<MonotonicTime>,
    /// Since when a frame has been incomplete, if one is.
    pub frame_started_at: Cell<Option<MonotonicTime>>,
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
    pub fn new(stream: I::Stream, limits: OutboxLimits, now: MonotonicTime) -> Connection<I> {
        Connection {
            stream,
            outbox: Outbox::new(limits),
            active_at: Cell::new(now),
            frame_started_at: Cell::new(None),
            write_started_at: Cell::new(None),
            busy: Cell::new(false),
            holds_request: Cell::new(false),
            holds_answer: Cell::new(false),
            tasks_left: Cell::new(2),
            place: Cell::new(0),
        }
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
    connections_max: usize,
}

impl<I: Io> Connections<I> {
    /// Room for `connections_max` connections.
    pub fn new(connections_max: usize) -> Connections<I> {
        Connections {
            places: RefCell::default(),
            free: RefCell::default(),
            open: Cell::new(0),
            connections_max,
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
        if self.open.get() >= self.connections_max {
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
    }

    /// Calls `visit` for every connection; it may close some.
    pub fn each(&self, mut visit: impl FnMut(&Rc<Connection<I>>)) {
        let present: Vec<_> = self.places.borrow().iter().flatten().cloned().collect();
        for connection in &present {
            visit(connection);
        }
    }
}
