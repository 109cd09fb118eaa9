//! The two tasks of a client connection: frames in, answers out, in request order.
//!
//! The reader takes frames from the wire and runs each request; a produce request
//! leaves a place in the outbox and the reader goes on, any other request is answered before the next frame is
//! looked at (as Kafka does). The writer sends what is complete. Bad input ends this connection and nothing else.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::MonotonicTime;
use protocol::{FRAME_LENGTH_BYTES, FrameError};
use runtime::{Io, Stream, TaskClass};

use crate::connection::{Connection, ConnectionEnd, Incoming};
use crate::dispatch;
use crate::memory::RequestCharge;
use crate::outbox::{Front, SendBatch};
use crate::request_clock::{RequestClock, Stage};
use crate::server::Server;

/// Spare room offered to the first read of a connection, and kept while it is idle.
const READ_BYTES_MIN: usize = 8 << 10;

/// Read buffers grow up to this while a connection keeps filling them. What every connection may hold uncharged.
const READ_BYTES_MAX: usize = 64 << 10;

/// Bytes of answers the writer takes at a time.
const WRITE_BYTES_MAX: usize = 4 << 20;

/// Bytes it hands to the socket at a time: a client that has not taken that many is seen as standing still. A client that
/// takes them at once gets more at a time, which costs it and the broker fewer wake-ups.
const WRITE_STEP_MIN: usize = 256 << 10;
const WRITE_STEP_MAX: usize = 1 << 20;

/// A step that took longer is a small one next time.
const WRITE_STEP_QUICK: Duration = Duration::from_millis(20);

/// Starts the two tasks of a new connection.
pub(crate) fn start<I: Io>(server: &Rc<Server<I>>, listener: Arc<str>, stream: I::Stream) {
    let limits = server.options.outbox;
    let connection = Connection::new(stream, listener, limits, server.io.now());
    let connection = Rc::new(connection);
    if !server.connections.add(&connection) {
        server.metrics.connections_refused.increment();
        connection.stream.shutdown();
        if let Some(withheld) = server.memory.refused.due(server.io.now()) {
            tracing::warn!(
                peer = ?connection.stream.peer_addr().ok(),
                withheld,
                max = server.options.connections.max(),
                "a connection was refused: there are as many as max.connections or the limit of open files allows"
            );
        }
        return;
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
        connection.incoming.set(None);
        connection.outbox.close();
        server.connections.task_ended(&connection);
    });
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
    let mut charge = None;
    loop {
        let frame_bytes =
            take_requests(server, connection, &mut buffer, &mut charge, &mut arrival).await?;
        if connection.outbox.is_closed() {
            return Err(ConnectionEnd::Draining);
        }
        let wanted = frame_bytes.unwrap_or(0);
        // A frame that does not fit into what every connection may hold is charged before its body is read, and gets
        // memory of exactly its size: nothing of a later frame shares it.
        if wanted > READ_BYTES_MAX {
            let asked_at = server.io.now();
            charge = Some(server.memory.charge_request(&server.io, wanted).await);
            arrival.budget_nanos = server.io.now().0 - asked_at.0;
            if connection.outbox.is_closed() {
                return Err(ConnectionEnd::Draining);
            }
            // The time in which it must be complete begins now: it was the broker that did not read.
            let now = server.io.now();
            connection.incoming.set(Some(Incoming::begin(now)));
            connection.active_at.set(now);
            connection.holds_request.set(true);
            let mut whole = BytesMut::with_capacity(wanted);
            whole.extend_from_slice(&buffer);
            buffer = whole;
        }
        loop {
            let room = match charge {
                Some(_) => wanted - buffer.len(),
                None => read_bytes,
            };
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
            let incoming = connection.incoming.get();
            connection
                .incoming
                .set(incoming.map(|it| it.received(now, received)));
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
        connection.holds_request.set(false);
    }
}

/// Runs every complete request in the buffer. Returns the size of the incomplete frame behind them, if its length is
/// known. The charge, if there is one, is for the first.
async fn take_requests<I: Io>(
    server: &Rc<Server<I>>,
    connection: &Rc<Connection<I>>,
    buffer: &mut BytesMut,
    charge: &mut Option<Rc<RequestCharge>>,
    arrival: &mut Arrival,
) -> Result<Option<usize>, ConnectionEnd> {
    let mut is_first = true;
    loop {
        let size = protocol::frame_length(buffer, server.options.request_bytes_max)
            .map_err(|error| refused_length(server, &error))?
            .map(|body| body + FRAME_LENGTH_BYTES);
        match size {
            Some(size) if buffer.len() >= size => {
                connection.incoming.set(None);
                let has_room = connection.outbox.has_room();
                connection.outbox.room().await;
                // While memory for answers is short, who has one to read is not given another.
                if server.memory.answers_are_short() {
                    connection.outbox.sent_all().await;
                }
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
                let result = dispatch::run(server, connection, body, charge.take(), clock).await;
                connection.busy.set(false);
                result?;
            }
            _ => {
                let incomplete = !buffer.is_empty();
                if incomplete && connection.incoming.get().is_none() {
                    connection
                        .incoming
                        .set(Some(Incoming::begin(server.io.now())));
                }
                return Ok(size);
            }
        }
    }
}

fn refused_length<I: Io>(server: &Server<I>, error: &FrameError) -> ConnectionEnd {
    if let FrameError::TooLong { length, max } = error
        && let Some(withheld) = server.memory.too_long.due(server.io.now())
    {
        tracing::warn!(
            length,
            max,
            withheld,
            "a connection was closed: its request is longer than socket.request.max.bytes"
        );
    }
    ConnectionEnd::Protocol(error.to_string())
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
    let mut batch = SendBatch::default();
    let mut step_bytes = WRITE_STEP_MIN;
    let errors = &server.metrics.errors;
    loop {
        let outbox = &connection.outbox;
        match outbox.collect(&mut batch, errors, WRITE_BYTES_MAX) {
            Front::Send => {
                connection.holds_answer.set(!batch.charges.is_empty());
                let slices = &mut batch.slices;
                let sent = send(&server, &connection, slices, &mut step_bytes).await;
                connection.holds_answer.set(false);
                batch.charges.clear();
                if let Err(error) = sent {
                    tracing::debug!(%error, "a client went away with answers unsent");
                    connection.outbox.abandon();
                    break;
                }
                let now = server.io.now();
                for mut clock in batch.clocks.drain(..) {
                    clock.end(Stage::Send, now);
                    server.metrics.record(&clock);
                }
            }
            Front::Wait => connection.outbox.writer.wait().await,
            Front::Refused => {
                tracing::debug!("records sent with acks=0 were refused");
                connection.outbox.abandon();
                break;
            }
            Front::Finished => break,
        }
    }
    connection.outbox.close();
    connection.stream.shutdown();
    server.connections.task_ended(&connection);
}

/// Sends `slices` in steps, so that a client that reads slowly is told from one that does not read.
async fn send<I: Io>(
    server: &Server<I>,
    connection: &Connection<I>,
    slices: &mut Vec<Bytes>,
    step_bytes: &mut usize,
) -> std::io::Result<()> {
    let mut left: usize = slices.iter().map(Bytes::len).sum();
    let mut waiting = Vec::new();
    if left > *step_bytes {
        waiting = std::mem::take(slices);
        waiting.reverse();
    }
    while left > 0 {
        let mut step: usize = slices.iter().map(Bytes::len).sum();
        while step < *step_bytes
            && let Some(mut next) = waiting.pop()
        {
            let room = *step_bytes - step;
            if next.len() > room {
                let rest = next.split_off(room);
                waiting.push(rest);
            }
            step += next.len();
            slices.push(next);
        }
        let begun_at = server.io.now();
        connection.write_started_at.set(Some(begun_at));
        let sent = connection.stream.write_all(slices).await;
        connection.write_started_at.set(None);
        sent?;
        let now = server.io.now();
        connection.active_at.set(now);
        connection.outbox.sent(step);
        *step_bytes = adapt_step(*step_bytes, step, now.since(begun_at));
        left -= step;
    }
    Ok(())
}

/// The size of the next step, after one of `step` bytes took so long.
fn adapt_step(step_bytes: usize, step: usize, took: Duration) -> usize {
    if took > WRITE_STEP_QUICK {
        WRITE_STEP_MIN
    } else if step >= step_bytes {
        (step_bytes * 2).min(WRITE_STEP_MAX)
    } else {
        step_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_while_a_client_reads_and_are_small_for_one_that_does_not() {
        let quick = Duration::from_millis(1);
        let slow = Duration::from_millis(21);
        // (step before, bytes of it that there were, took, next)
        let table = [
            (WRITE_STEP_MIN, WRITE_STEP_MIN, quick, 2 * WRITE_STEP_MIN),
            (WRITE_STEP_MIN, 100, quick, WRITE_STEP_MIN),
            (WRITE_STEP_MAX, WRITE_STEP_MAX, quick, WRITE_STEP_MAX),
            (WRITE_STEP_MAX, WRITE_STEP_MAX, slow, WRITE_STEP_MIN),
            (WRITE_STEP_MAX, 100, quick, WRITE_STEP_MAX),
        ];
        for (before, step, took, expected) in table {
            assert_eq!(adapt_step(before, step, took), expected, "{before} {step}");
        }
    }
}
