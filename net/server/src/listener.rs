//! Accepting connections and looking after them: deadlines, limits, drain.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use runtime::{Io, Listener, Stream, TaskClass};

use crate::connection::{self, Connection};
use crate::server::Server;

/// How often deadlines of connections are looked at.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after a failed accept (out of descriptors, usually), so that it is not tried in a tight loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The connections of one shard.
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

    /// Open connections.
    pub fn len(&self) -> usize {
        self.open.get()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers a connection, unless there are too many.
    pub fn add(&self, connection: Rc<Connection<I>>) -> Option<usize> {
        if self.open.get() >= self.connections_max {
            return None;
        }
        self.open.set(self.open.get() + 1);
        let mut places = self.places.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(place) => {
                places[place] = Some(connection);
                Some(place)
            }
            None => {
                places.push(Some(connection));
                Some(places.len() - 1)
            }
        }
    }

    /// Both tasks of a connection have ended.
    pub fn remove(&self, place: usize) {
        let gone = self.places.borrow_mut()[place].take();
        assert!(gone.is_some(), "a connection ended twice");
        self.free.borrow_mut().push(place);
        self.open.set(self.open.get() - 1);
    }

    fn each(&self, mut visit: impl FnMut(&Rc<Connection<I>>)) {
        let present: Vec<_> = self.places.borrow().iter().flatten().cloned().collect();
        for connection in &present {
            visit(connection);
        }
    }
}

/// Accepts connections until the server drains.
pub async fn accept<I: Io>(server: Rc<Server<I>>, listener: I::Listener) {
    loop {
        match listener.accept().await {
            Ok(stream) if server.is_draining() => stream.shutdown(),
            Ok(stream) => connection::start(&server, stream),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                server.io.sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Ends connections that are idle, send half a frame, or do not read their answers.
pub async fn housekeeping<I: Io>(server: Rc<Server<I>>) {
    loop {
        server.io.sleep(HOUSEKEEPING_INTERVAL).await;
        let now = server.io.now();
        let limits = &server.options;
        server.connections.each(|connection| {
            let since = |start: Option<_>| start.map_or(Duration::ZERO, |at| now.since(at));
            let idle = connection.outbox.is_empty()
                && !connection.busy.get()
                && now.since(connection.active_at.get()) > limits.idle_max;
            let slow_frame = since(connection.frame_started_at.get()) > limits.frame_duration_max;
            let slow_reader = since(connection.write_started_at.get()) > limits.write_duration_max
                && now.since(connection.active_at.get()) > limits.write_duration_max;
            if idle || slow_frame || slow_reader {
                tracing::debug!(
                    idle,
                    slow_frame,
                    slow_reader,
                    "connection ended by deadline"
                );
                connection.outbox.close();
                connection.stream.shutdown();
            }
        });
    }
}

/// Answers what was asked, takes no new request, and returns when every connection is gone or `deadline` has passed.
pub async fn drain<I: Io>(server: &Rc<Server<I>>, patience: Duration) {
    server.start_draining();
    let deadline = server.io.now().plus(patience);
    loop {
        server.connections.each(|connection| {
            let idle = connection.outbox.is_empty() && !connection.busy.get();
            connection.outbox.close();
            if idle || server.io.now() >= deadline {
                connection.stream.shutdown();
            }
        });
        if server.connections.is_empty() || server.io.now() >= deadline {
            return;
        }
        server.io.sleep(Duration::from_millis(10)).await;
    }
}

/// Starts accepting on `listener`.
pub fn start<I: Io>(server: &Rc<Server<I>>, listener: I::Listener) {
    server
        .io
        .spawn(TaskClass::Foreground, accept(server.clone(), listener));
    server
        .io
        .spawn(TaskClass::Foreground, housekeeping(server.clone()));
}
