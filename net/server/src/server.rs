//! What the connections of one shard share: limits, sessions, counters, and the shard itself.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use runtime::metrics::Labels;
use runtime::{Io, Snapshot};
use shard::Shard;

use crate::connection::{ConnectionLimit, Connections};
use crate::fetch_session::FetchSessions;
use crate::memory::{Memory, Oversize};
use crate::metrics::{self, ServerMetrics};
use crate::outbox::OutboxLimits;

/// Limits of a shard's connections.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// The data directory as clients are told it: an absolute path where there is one.
    pub log_dir: PathBuf,
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
    /// Open connections of the whole broker (`max.connections`, and what the descriptor limit allows).
    pub connections: ConnectionLimit,
    /// A connection without traffic ends after this (`connections.max.idle.ms`).
    pub idle_max: Duration,
    /// A request that has begun must not stand still for so long.
    pub frame_still_max: Duration,
    /// A client that does not read its answers for this long is cut off.
    pub write_duration_max: Duration,
}

pub struct Server<I: Io> {
    pub io: I,
    pub options: ServerOptions,
    pub shard: Rc<Shard<I>>,
    pub connections: Connections<I>,
    pub fetch_sessions: RefCell<FetchSessions>,
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
            connections: Connections::new(options.connections.clone()),
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

    /// Everything that this shard has counted, from its sockets to its device, without a label for the shard.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        self.shard.snapshot_into(&mut snapshot);
        self.metrics.snapshot_into(&mut snapshot);
        let Memory {
            requests,
            passing,
            answers,
            small_answers,
            ..
        } = &self.memory;
        for (definition, value) in [
            (&metrics::CONNECTIONS, self.connections.len()),
            (
                &metrics::REQUEST_BUDGET_USED,
                requests.used() + passing.used(),
            ),
            (
                &metrics::REQUEST_BUDGET_CAPACITY,
                requests.limit() + passing.limit(),
            ),
            (
                &metrics::ANSWER_BUDGET_USED,
                answers.used() + small_answers.used(),
            ),
            (
                &metrics::ANSWER_BUDGET_CAPACITY,
                answers.limit() + small_answers.limit(),
            ),
            (&metrics::FETCH_SESSIONS, self.fetch_sessions.borrow().len()),
        ] {
            snapshot.gauge(definition, Labels::new(), value as u64);
        }
        snapshot
    }

    pub(crate) fn start_draining(&self) {
        self.draining.set(true);
    }
}
