//! Accepting other brokers' connections and handing each to whoever serves its purpose.
//!
//! One shard. A connection that is not what it should be ends alone.

use std::rc::Rc;
use std::time::Duration;

use runtime::{Io, Listener, Stream, TaskClass};

use crate::connection::{self, Connection, End, Receiver, Side};
use crate::context::Context;
use crate::greeting;
use crate::keeper::Place;
use crate::outbox::Outbox;
use crate::told::By;

/// Pause after a failed accept (out of descriptors, usually), so that it is not tried in a tight loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Accepts connections for the life of the process. Once the network closes, those who come are told so.
pub(crate) async fn accept<I: Io>(context: Rc<Context<I>>, listener: I::Listener) {
    loop {
        let stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a broker's connection");
                context.io.sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let (_, greeting) = context.table.accepted();
        if greeting >= context.settings.greeting_max {
            // Nothing is known of it, so there is nobody to tell.
            context.counters.turned_away.increment();
            stream.shutdown();
            continue;
        }
        // It counts from here on, before its task has its turn.
        let outbox = Outbox::new(&context.settings);
        let now = context.io.now();
        let connection = Connection::new(stream, Side::Accepted, outbox, now);
        let place = context.table.add(connection.clone());
        let task = serve(context.clone(), connection, place);
        context.io.spawn(TaskClass::Foreground, task);
    }
}

async fn serve<I: Io>(context: Rc<Context<I>>, connection: Rc<Connection<I>>, place: Place) {
    let found = greet_and_serve(&context, &connection).await;
    let end = connection.ended(found);
    context.table.remove(place);
    tell(&context, &connection, &end);
}

async fn greet_and_serve<I: Io>(context: &Rc<Context<I>>, connection: &Rc<Connection<I>>) -> End {
    let (remote, buffer) = match greeting::answer(context, connection).await {
        Ok(greeted) => greeted,
        Err(end) => return end,
    };
    context.table.supersede(connection);
    let there = remote.identity.node();
    context.pauses.cut_short(|node| node == there);
    let writer = connection::write(context.io.clone(), connection.clone());
    context.io.spawn(TaskClass::Foreground, writer);
    let service = context.service(remote.purpose);
    let service = service.expect("only what is served is let in");
    let (io, planted) = (context.io.clone(), context.settings.planted);
    let receiver = Receiver::new(io, connection.clone(), buffer, planted);
    service.serve(receiver).await
}

fn tell<I: Io>(context: &Context<I>, connection: &Connection<I>, end: &End) {
    let address = connection.stream.peer_addr().ok();
    let remote = connection.remote();
    match end {
        End::Refuses(refusal, node) => {
            context.counters.refused.increment();
            let of = node.unwrap_or(model::BrokerId(-1));
            if context.told.is_new(of, By::Us, refusal.code()) {
                tracing::warn!(?node, ?address, %refusal, "a broker's connection was refused");
            }
        }
        End::Frame(_) | End::Handshake(_) => {
            context.counters.broken.increment();
            tracing::warn!(?remote, ?address, %end, "a connection broke the brokers' protocol");
        }
        _ => tracing::debug!(?remote, ?address, %end, "a broker's connection ended"),
    }
}
