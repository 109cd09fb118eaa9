//! One client connection: frames in, answers out, in request order.
//!
//! Two long-lived tasks share it. The reader takes frames from the wire and runs each request; a produce request
//! leaves a place in the outbox and the reader goes on, any other request is answered before the next frame is
//! looked at (as Kafka does). The writer sends what is complete. Bad input ends this connection and nothing else.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use model::MonotonicTime;
use protocol::FRAME_LENGTH_BYTES;
use runtime::{Io, Stream, TaskClass};

use crate::dispatch;
use crate::outbox::{Front, Outbox};
use crate::request_clock::{RequestClock, Stage};
use crate::server::Server;

/// Spare room offered to the first read of a connection, and kept while it is idle.
const READ_BYTES_MIN: usize = 8 << 10;

/// Read buffers grow up to this while a connection keeps filling them.
const READ_BYTES_MAX: usize = 1 << 20;

/// Bytes the writer hands to one system call.
const WRITE_BYTES_MAX: usize = 4 << 20;

/// A client connection as its own tasks and the server's housekeeping see it.
pub struct Connection<I: Io> {
    /// The socket.
    pub stream: I::Stream,
    /// Answers owed.
    pub outbox: Rc<Outbox>,
    /// When bytes last moved in either direction.
    pub active_at: Cell<MonotonicTime>,
    /// Since when a frame has been incomplete, if one is.
    pub frame_started_at: Cell<Option<MonotonicTime>>,
    /// Since when the writer has waited for the client to read, if it does.
    pub write_started_at: Cell<Option<MonotonicTime>>,
    /// Whether a request is being carried out.
    pub busy: Cell<bool>,
    tasks_left: Cell<u8>,
    place: Cell<usize>,
}

/// Why a connection ended, for the log.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionEnd {
    /// The client finished.
    #[error("closed by the client")]
    Finished,
    /// The client broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The broker is going down.
    #[error("draining")]
    Draining,
}

/// Starts the two tasks of a new connection.
pub fn start<I: Io>(server: &Rc<Server<I>>, stream: I::Stream) {
    let connection = Rc::new(Connection {
        stream,
        outbox: Outbox::new(server.options.outbox),
        active_at: Cell::new(server.io.now()),
        frame_started_at: Cell::new(None),
        write_started_at: Cell::new(None),
        busy: Cell::new(false),
        tasks_left: Cell::new(2),
        place: Cell::new(0),
    });
    match server.connections.add(connection.clone()) {
        Some(place) => connection.place.set(place),
        None => {
            server.metrics.connections_refused.increment();
            connection.stream.shutdown();
            return;
        }
    }
    server.metrics.connections_accepted.increment();
    server.io.spawn(
        TaskClass::Foreground,
        write(server.clone(), connection.clone()),
    );
    let server = server.clone();
    let io = server.io.clone();
    io.spawn(TaskClass::Foreground, async move {
        let end = read(&server, &connection).await;
        if let Err(reason) = end {
            tracing::debug!(peer = ?connection.stream.peer_addr().ok(), %reason, "connection ended");
            if matches!(reason, ConnectionEnd::Protocol(_)) {
                server.metrics.protocol_errors.increment();
            }
        }
        connection.frame_started_at.set(None);
        connection.outbox.close();
        task_ended(&server, &connection);
    });
}

/// The connection leaves the table with the second of its two tasks: until then an answer may be owed.
fn task_ended<I: Io>(server: &Server<I>, connection: &Connection<I>) {
    connection.tasks_left.set(connection.tasks_left.get() - 1);
    if connection.tasks_left.get() == 0 {
        server.connections.remove(connection.place.get());
    }
}

/// When the bytes of the frames in the read buffer came.
#[derive(Default)]
struct Arrival {
    /// The first bytes of the frame at the front of the buffer came to the socket.
    frame_begun_at: MonotonicTime,
    /// The bytes of the last read did.
    arrived_at: MonotonicTime,
    /// The last read returned.
    read_at: MonotonicTime,
    /// The frame waited this long for memory before its body was read.
    budget_nanos: u64,
}

impl Arrival {
    /// The clock of the frame at the front, whose turn it is. Frames behind it began in the last read.
    fn clock(&mut self, turn_at: MonotonicTime) -> RequestClock {
        let (begun_at, budget_nanos) = (self.frame_begun_at, self.budget_nanos);
        self.frame_begun_at = self.arrived_at;
        self.budget_nanos = 0;
        RequestClock::new(begun_at, self.read_at, turn_at, budget_nanos)
    }
}

async fn read<I: Io>(
    server: &Rc<Server<I>>,
    connection: &Rc<Connection<I>>,
) -> Result<(), ConnectionEnd> {
    let mut buffer = BytesMut::new();
    let mut read_bytes = READ_BYTES_MIN;
    let mut arrival = Arrival::default();
    loop {
        let frame_bytes = take_requests(server, connection, &mut buffer, &mut arrival).await?;
        if connection.outbox.is_closed() {
            return Err(ConnectionEnd::Draining);
        }
        // The whole frame is charged before its body is read. Small ones fit into what every connection may hold.
        let _charge = match frame_bytes {
            Some(bytes) if bytes > READ_BYTES_MAX => {
                let asked_at = server.io.now();
                let charge = server.charge_frame(bytes).await?;
                arrival.budget_nanos = server.io.now().0 - asked_at.0;
                Some(charge)
            }
            _ => None,
        };
        let wanted = frame_bytes.unwrap_or(0);
        loop {
            let room = read_bytes.max(wanted.saturating_sub(buffer.len()).min(READ_BYTES_MAX));
            reserve(&mut buffer, room);
            let offered = buffer.capacity() - buffer.len();
            let received = connection.stream.read(&mut buffer).await?;
            if received == 0 {
                return if buffer.is_empty() {
                    Err(ConnectionEnd::Finished)
                } else {
                    Err(ConnectionEnd::Protocol("cut off inside a frame".into()))
                };
            }
            let now = server.io.now();
            connection.active_at.set(now);
            arrival.arrived_at = connection.stream.arrived_at().unwrap_or(now).min(now);
            if buffer.len() == received {
                arrival.frame_begun_at = arrival.arrived_at;
            }
            arrival.read_at = now;
            read_bytes = adapt(read_bytes, received, offered);
            if buffer.len() >= wanted {
                break;
            }
        }
    }
}

/// Runs every complete request in the buffer. Returns the size of the incomplete frame behind them, if its length is
/// known.
async fn take_requests<I: Io>(
    server: &Rc<Server<I>>,
    connection: &Rc<Connection<I>>,
    buffer: &mut BytesMut,
    arrival: &mut Arrival,
) -> Result<Option<usize>, ConnectionEnd> {
    let mut is_first = true;
    loop {
        let size = protocol::frame_length(buffer, server.options.request_bytes_max)
            .map_err(|error| ConnectionEnd::Protocol(error.to_string()))?
            .map(|body| body + FRAME_LENGTH_BYTES);
        match size {
            Some(size) if buffer.len() >= size => {
                connection.frame_started_at.set(None);
                let has_room = connection.outbox.has_room();
                connection.outbox.room().await;
                if connection.outbox.is_closed() {
                    return Err(ConnectionEnd::Draining);
                }
                let body: Bytes = buffer.split_to(size).freeze().slice(FRAME_LENGTH_BYTES..);
                // Requests behind the first have waited for those before them.
                let turn_at = if is_first && has_room {
                    arrival.read_at
                } else {
                    server.io.now()
                };
                is_first = false;
                let clock = arrival.clock(turn_at);
                connection.busy.set(true);
                let result = dispatch::run(server, connection, body, clock).await;
                connection.busy.set(false);
                result?;
            }
            _ => {
                let incomplete = !buffer.is_empty();
                if incomplete && connection.frame_started_at.get().is_none() {
                    connection.frame_started_at.set(Some(server.io.now()));
                }
                return Ok(size);
            }
        }
    }
}

/// Makes room without keeping a large allocation behind a small remainder.
fn reserve(buffer: &mut BytesMut, room: usize) {
    if buffer.is_empty() && buffer.capacity() > 4 * room.max(READ_BYTES_MIN) {
        *buffer = BytesMut::with_capacity(room);
    } else if buffer.capacity() - buffer.len() < room {
        buffer.reserve(room);
    }
}

/// Doubles the next read while reads fill the buffer, halves it while they leave most of it empty.
fn adapt(read_bytes: usize, received: usize, offered: usize) -> usize {
    if received == offered {
        (read_bytes * 2).min(READ_BYTES_MAX)
    } else if received < read_bytes / 4 {
        (read_bytes / 2).max(READ_BYTES_MIN)
    } else {
        read_bytes
    }
}

async fn write<I: Io>(server: Rc<Server<I>>, connection: Rc<Connection<I>>) {
    let mut slices = Vec::new();
    let mut clocks = Vec::new();
    let errors = &server.metrics.errors;
    loop {
        let outbox = &connection.outbox;
        match outbox.collect(&mut slices, &mut clocks, errors, WRITE_BYTES_MAX) {
            Front::Send => {
                let bytes = slices.iter().map(Bytes::len).sum();
                connection.write_started_at.set(Some(server.io.now()));
                let sent = connection.stream.write_all(&mut slices).await;
                connection.write_started_at.set(None);
                if let Err(error) = sent {
                    tracing::debug!(%error, "a client went away with answers unsent");
                    connection.outbox.abandon();
                    break;
                }
                let now = server.io.now();
                connection.active_at.set(now);
                connection.outbox.sent(bytes);
                for mut clock in clocks.drain(..) {
                    clock.end(Stage::Send, now);
                    server.metrics.record(&clock);
                }
            }
            Front::Wait => connection.outbox.writer.wait().await,
            Front::Finished => break,
        }
    }
    connection.outbox.close();
    connection.stream.shutdown();
    task_ended(&server, &connection);
}
