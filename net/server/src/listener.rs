//! Accepting connections and looking after them: deadlines, limits, drain.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::MonotonicTime;
use runtime::{Io, Listener, Stream, TaskClass};

use crate::connection::Connection;
use crate::connection_tasks;
use crate::memory::STALL_WHEN_SHORT;
use crate::server::{Server, ServerOptions};

/// How often deadlines of connections are looked at.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is looked whether memory is short.
const SHORTAGE_INTERVAL: Duration = Duration::from_millis(100);

/// Pause after a failed accept (out of descriptors, usually), so that it is not tried in a tight loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts connections until the server drains.
pub async fn accept<I: Io>(server: Rc<Server<I>>, name: Arc<str>, listener: I::Listener) {
    loop {
        match listener.accept().await {
            Ok(stream) if server.is_draining() => stream.shutdown(),
            Ok(stream) => connection_tasks::start(&server, name.clone(), stream),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                server.io.sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Ends connections that are idle, send half a frame, or do not read their answers: after their time, and sooner while
/// others wait for the memory that they hold.
pub async fn housekeeping<I: Io>(server: Rc<Server<I>>) {
    let mut looked_at = server.io.now();
    loop {
        server.io.sleep(SHORTAGE_INTERVAL).await;
        let now = server.io.now();
        let requests_short = server.memory.requests_are_short();
        let answers_short = server.memory.answers_are_short();
        let is_due = now.since(looked_at) >= HOUSEKEEPING_INTERVAL;
        if !(is_due || requests_short || answers_short) {
            continue;
        }
        looked_at = now;
        server.connections.each(|connection| {
            let Some(reason) = overdue(&server.options, connection, now).or_else(|| {
                let holds_request = requests_short && connection.holds_request.get();
                let holds_answer = answers_short && connection.holds_answer.get();
                ((holds_request || holds_answer)
                    && now.since(connection.active_at.get()) > STALL_WHEN_SHORT)
                    .then_some(Overdue::Short)
            }) else {
                return;
            };
            tell(&server, connection, reason);
            connection.outbox.close();
            connection.stream.shutdown();
        });
    }
}

/// Why a connection is ended for its slowness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overdue {
    /// No traffic for `connections.max.idle.ms`.
    Idle,
    /// A request is not complete, or an answer not read, in its time.
    Slow,
    /// It stands still while others wait for its memory.
    Short,
}

fn overdue<I: Io>(
    limits: &ServerOptions,
    connection: &Connection<I>,
    now: MonotonicTime,
) -> Option<Overdue> {
    let since = |start: Option<_>| start.map_or(Duration::ZERO, |at| now.since(at));
    let quiet = now.since(connection.active_at.get());
    let is_idle = connection.outbox.is_empty() && !connection.busy.get() && quiet > limits.idle_max;
    let incoming = connection.incoming.get();
    let sends_slowly = incoming.is_some_and(|it| it.is_overdue(now, limits.frame_still_max));
    let reads_slowly = since(connection.write_started_at.get()) > limits.write_duration_max
        && quiet > limits.write_duration_max;
    if sends_slowly || reads_slowly {
        Some(Overdue::Slow)
    } else {
        is_idle.then_some(Overdue::Idle)
    }
}

fn tell<I: Io>(server: &Server<I>, connection: &Connection<I>, reason: Overdue) {
    let now = server.io.now();
    let peer = connection.stream.peer_addr().ok();
    if reason != Overdue::Idle && !connection.outbox.is_closed() {
        server.metrics.connections_cut_off.increment();
    }
    match reason {
        Overdue::Idle => tracing::debug!(?peer, "an idle connection was closed"),
        Overdue::Slow => {
            if let Some(withheld) = server.memory.too_slow.due(now) {
                tracing::warn!(
                    ?peer,
                    withheld,
                    "a connection was closed: it stood still inside a request or an answer for longer \
                    than ringlog.request.read.timeout.ms, or sent less than 1 KiB a second"
                );
            }
        }
        Overdue::Short => {
            if let Some(withheld) = server.memory.cut_off.due(now) {
                tracing::warn!(
                    ?peer,
                    withheld,
                    "a connection was closed: it stood still inside a request or an answer \
                    while others waited for the memory; ringlog.memory.bytes (--memory) gives more"
                );
            }
        }
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

/// Accepts connections on a listener of this name.
pub fn start<I: Io>(server: &Rc<Server<I>>, name: &Arc<str>, listener: I::Listener) {
    server.io.spawn(
        TaskClass::Foreground,
        accept(server.clone(), name.clone(), listener),
    );
}

/// Looks after the connections of all listeners.
pub fn look_after<I: Io>(server: &Rc<Server<I>>) {
    server
        .io
        .spawn(TaskClass::Foreground, housekeeping(server.clone()));
}
