//! What the connections of one shard share: limits, sessions, counters, and the shard itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use runtime::Io;
use shard::Shard;

use crate::fetch_session::FetchSessions;
use crate::listener::Connections;
use crate::memory::{Memory, Oversize};
use crate::metrics::ServerMetrics;
use crate::outbox::OutboxLimits;

/// Limits of a shard's connections.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Name of the listener, such as `PLAINTEXT`: metadata tells clients the addresses for it.
    pub listener: String,
    /// Longest request, in bytes (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Memory for requests larger than a read buffer or on their way to another shard, in bytes.
    pub request_memory_bytes: usize,
    /// Memory for answers, in bytes.
    pub answer_memory_bytes: usize,
    /// The turn of requests larger than a shard's memory for them: shared by the shards of a broker.
    pub oversize: Oversize,
    /// What one connection may owe its client.
    pub outbox: OutboxLimits,
    /// Open connections (`max.connections`, and what the descriptor limit allows).
    pub connections_max: usize,
    /// A connection without traffic ends after this (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// A request must be complete this long after its first byte.
    pub frame_duration_max: Duration,
    /// A client that does not read its answers for this long is cut off.
    pub write_duration_max: Duration,
}

/// The server of one shard.
pub struct Server<I: Io> {
    /// The machine.
    pub io: I,
    /// Limits.
    pub options: ServerOptions,
    /// The broker behind it.
    pub shard: Rc<Shard<I>>,
    /// Open connections.
    pub connections: Connections<I>,
    /// Incremental fetch sessions.
    pub fetch_sessions: RefCell<FetchSessions>,
    /// Counters.
    pub metrics: ServerMetrics,
    /// What requests and answers may take.
    pub memory: Memory,
    draining: Cell<bool>,
}

impl<I: Io> Server<I> {
    /// A server without connections.
    pub fn new(shard: Rc<Shard<I>>, options: ServerOptions) -> Rc<Server<I>> {
        Rc::new(Server {
            io: shard.io.clone(),
            connections: Connections::new(options.connections_max),
            fetch_sessions: RefCell::default(),
            metrics: ServerMetrics::default(),
            memory: Memory::new(
                options.request_memory_bytes,
                options.answer_memory_bytes,
                options.oversize.clone(),
            ),
            draining: Cell::new(false),
            options,
            shard,
        })
    }

    /// Whether the broker is going down.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub(crate) fn start_draining(&self) {
        self.draining.set(true);
    }
}
