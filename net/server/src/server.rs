//! What the connections of one shard share: limits, sessions, counters, and the shard itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use runtime::Io;
use runtime::budget::{Budget, Reservation};
use shard::Shard;

use crate::connection::ConnectionEnd;
use crate::fetch_session::FetchSessions;
use crate::listener::Connections;
use crate::metrics::ServerMetrics;
use crate::outbox::OutboxLimits;

/// Limits of a shard's connections.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Name of the listener, such as `PLAINTEXT`: metadata tells clients the addresses for it.
    pub listener: String,
    /// Longest request, in bytes (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Memory for requests larger than a read buffer, in bytes.
    pub large_request_bytes_max: usize,
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
    large_requests: Rc<Budget>,
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
            large_requests: Budget::new(options.large_request_bytes_max),
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

    pub(crate) fn request_budget(&self) -> &Budget {
        &self.large_requests
    }

    /// Takes memory for a large request from the budget, waiting for it if need be.
    pub(crate) async fn charge_frame(&self, bytes: usize) -> Result<Reservation, ConnectionEnd> {
        if bytes > self.options.large_request_bytes_max {
            return Err(ConnectionEnd::Protocol(format!(
                "a request of {bytes} bytes exceeds the memory for requests ({} bytes)",
                self.options.large_request_bytes_max
            )));
        }
        Ok(self.large_requests.reserve(bytes).await)
    }
}
