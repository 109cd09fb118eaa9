//! One attempt to connect, and the connection that came of it until it ends.
//!
//! One shard. Links and streams share it: they differ in whose queue the connection empties and in who reads it.

use std::rc::Rc;

use model::MonotonicTime;
use runtime::{Io, Stream, TaskClass};

use crate::connection::{self, Connection, End, Receiver};
use crate::context::Context;
use crate::dial::{DialError, dial};
use crate::events::PeerEvent;
use crate::greeting;
use crate::handshake::Refusal;
use crate::identity::Target;
use crate::purpose::Purpose;
use crate::told::By;

/// Whoever wants a connection.
pub(crate) trait Caller<I: Io> {
    /// The connection of a stream that was just made; `None` if it is not wanted any more.
    fn began(&self, stream: I::Stream, now: MonotonicTime) -> Option<Rc<Connection<I>>>;

    /// Reads it from the end of the handshake on, until it ends. It may say at once that it is not wanted.
    async fn read(&self, receiver: Receiver<I>) -> End;
}

/// How it went.
pub(crate) struct Course<I: Io> {
    pub(crate) end: Result<End, DialError>,
    /// The connection that has ended.
    pub(crate) connection: Option<Rc<Connection<I>>>,
    greeted_at: Option<MonotonicTime>,
}

/// Connects to `target` and stays until the connection has ended.
pub(crate) async fn attempt<I: Io>(
    context: &Rc<Context<I>>,
    target: Target,
    purpose: Purpose,
    caller: &impl Caller<I>,
) -> Course<I> {
    let failed = |error| Course {
        end: Err(error),
        connection: None,
        greeted_at: None,
    };
    let Some(entry) = context.book.get(target.node) else {
        let gone = std::io::ErrorKind::NotFound.into();
        return failed(DialError::NoAddress(gone));
    };
    let stream = match dial(context, &entry).await {
        Ok(stream) => stream,
        Err(error) => return failed(error),
    };
    let Some(connection) = caller.began(stream.clone(), context.io.now()) else {
        stream.shutdown();
        return Course {
            end: Ok(End::Closing),
            connection: None,
            greeted_at: None,
        };
    };
    let place = context.table.add(connection.clone());
    let mut greeted_at = None;
    let found = match greeting::ask(context, &connection, target, purpose).await {
        Err(end) => end,
        Ok(buffer) => {
            greeted_at = Some(context.io.now());
            let writer = connection::write(context.io.clone(), connection.clone(), None);
            context.io.spawn(TaskClass::Foreground, writer);
            let planted = context.settings.planted;
            let io = context.io.clone();
            let receiver = Receiver::new(io, connection.clone(), buffer, planted);
            caller.read(receiver).await
        }
    };
    let end = connection.ended(found);
    context.table.remove(place);
    Course {
        end: Ok(end),
        connection: Some(connection),
        greeted_at,
    }
}

impl<I: Io> Course<I> {
    /// Whether the connection stayed long enough for the next pause to be the shortest.
    pub(crate) fn has_stayed(&self, context: &Context<I>) -> bool {
        let stayed = self.greeted_at.map(|at| context.io.now().since(at));
        stayed.is_some_and(|stayed| stayed >= context.settings.backoff_max)
    }

    /// Tells the driver if nobody is there, and the log what it has not heard yet.
    pub(crate) fn tell(&self, context: &Context<I>, target: Target, purpose: Purpose) {
        context.counters.failed.increment();
        let (node, shard) = (target.node, target.shard);
        match &self.end {
            Err(DialError::Refused) => {
                context.events.tell(PeerEvent::Suspect(target));
                tracing::debug!(%node, %shard, ?purpose, "a broker refuses connections");
            }
            Err(error) => {
                tracing::debug!(%node, %shard, ?purpose, %error, "a broker cannot be reached");
            }
            Ok(End::Refused(refusal)) => {
                let is_new = context.told.is_new(node, By::Them, refusal.code());
                let passes = matches!(refusal, Refusal::ShuttingDown | Refusal::Crossed);
                if is_new && !passes {
                    tracing::warn!(%node, %shard, ?purpose, %refusal, "a broker refuses this one");
                }
            }
            Ok(end) => {
                if matches!(end, End::Frame(_) | End::Handshake(_)) {
                    context.counters.broken.increment();
                }
                tracing::info!(%node, %shard, ?purpose, %end, "a connection to a broker ended");
            }
        }
    }
}
