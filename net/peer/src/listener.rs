//! Accepting other brokers' connections and handing each to whoever serves its purpose, on this shard or on another.
//!
//! One shard. A connection that is not what it should be ends alone. One that is meant for another shard of this broker goes
//! there as soon as its hello says so, and that shard decides and answers; it is out of this shard's table then.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{BrokerId, MonotonicTime};
use runtime::{Io, Listener, Stream, TaskClass};

use crate::admission::Admission;
use crate::connection::{self, Connection, End, Receiver, Remote, Side};
use crate::context::Context;
use crate::greeting::{self, Heard};
use crate::handshake::{Hello, Refusal, encode_answer};
use crate::keeper::Place;
use crate::outbox::Outbox;
use crate::passage::{Body, HandBack, Passage};
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
        let now = context.io.now();
        if let Some(newcomer) = enter(&context, stream, now) {
            let task = serve(context.clone(), newcomer);
            context.io.spawn(TaskClass::Foreground, task);
        }
    }
}

/// A connection that another shard has accepted. One that was longer on its way than a handshake may take has nobody at its
/// other end any more.
pub(crate) fn take_over<I: Io>(context: &Rc<Context<I>>, passage: Passage<I>) {
    let body = passage.into_body();
    let waited = context.io.now().since(body.began_at);
    if waited >= context.settings.greeting_timeout {
        context.counters.turned_away.increment();
        tracing::debug!(?waited, "a connection took too long between two shards");
        return;
    }
    let Some(stream) = attach(context, body.detached) else {
        return;
    };
    context.counters.taken_over.increment();
    if let Some(newcomer) = enter(context, stream, body.began_at) {
        let heard = Heard {
            hello: Ok(body.hello),
            rest: body.rest,
        };
        let task = serve_heard(context.clone(), newcomer, heard, false);
        context.io.spawn(TaskClass::Foreground, task);
    }
}

fn attach<I: Io>(context: &Context<I>, detached: I::Detached) -> Option<I::Stream> {
    let attached = context.io.attach(detached);
    let lost = |error: &_| {
        tracing::warn!(%error, "a broker's connection did not survive its way between two shards");
    };
    attached.inspect_err(lost).ok()
}

/// A connection whose other side nobody knows yet, in the table.
struct Newcomer<I: Io> {
    connection: Rc<Connection<I>>,
    place: Place,
}

/// Puts a connection into the table: it counts from here on, before its task has its turn.
fn enter<I: Io>(
    context: &Context<I>,
    stream: I::Stream,
    began_at: MonotonicTime,
) -> Option<Newcomer<I>> {
    let (_, greeting) = context.table.accepted();
    if greeting >= context.settings.greeting_max {
        // Nothing is known of it, so there is nobody to tell.
        context.counters.turned_away.increment();
        stream.shutdown();
        return None;
    }
    let outbox = Outbox::new(&context.settings);
    let connection = Connection::new(stream, Side::Accepted, outbox, began_at);
    let place = context.table.add(connection.clone());
    Some(Newcomer { connection, place })
}

async fn serve<I: Io>(context: Rc<Context<I>>, newcomer: Newcomer<I>) {
    match greeting::hear(&newcomer.connection.stream).await {
        Ok(heard) => serve_heard(context, newcomer, heard, true).await,
        Err(end) => leave(&context, &newcomer, end),
    }
}

/// Serves a connection whose hello is here. `may_go_on`: it may go to another shard, whence it does not come back.
async fn serve_heard<I: Io>(
    context: Rc<Context<I>>,
    newcomer: Newcomer<I>,
    heard: Heard,
    may_go_on: bool,
) {
    let connection = &newcomer.connection;
    if connection.is_closed() {
        return leave(&context, &newcomer, End::Closing);
    }
    let decided = match heard.hello {
        Ok(hello) => match greeting::decide(&context, &hello, may_go_on) {
            Ok(admission) => Ok((hello, admission)),
            Err(refusal) => Err((refusal, Some(hello.from.node()))),
        },
        Err(refusal) => Err((refusal, None)),
    };
    match decided {
        Err((refusal, node)) => refuse(&context, newcomer, refusal, node).await,
        Ok((hello, Admission::Elsewhere)) => {
            let rest = heard.rest;
            if let Some((newcomer, refusal)) = hand_over(&context, newcomer, hello.clone(), rest) {
                refuse(&context, newcomer, refusal, Some(hello.from.node())).await;
            }
        }
        Ok((hello, Admission::Here(purpose, welcome))) => {
            let remote = Remote {
                identity: hello.from,
                shard: hello.source_shard,
                purpose,
            };
            let welcome = encode_answer(&Ok(welcome));
            let receiver = let_in(&context, connection, remote, welcome, heard.rest);
            let service = context.service(purpose);
            let service = service.expect("only what is served is let in");
            let end = service.serve(receiver).await;
            leave(&context, &newcomer, end);
        }
    }
}

/// Makes it one of the connections here. Nothing is waited for between the decision and the service: the welcome is the
/// first that the writer sends.
fn let_in<I: Io>(
    context: &Rc<Context<I>>,
    connection: &Rc<Connection<I>>,
    remote: Remote,
    welcome: Bytes,
    rest: BytesMut,
) -> Receiver<I> {
    let there = remote.identity.node();
    connection.greeted(remote, context.io.now());
    context.is_well(there);
    context.table.supersede(connection);
    context.pauses.cut_short(|node| node == there);
    let writer = connection::write(context.io.clone(), connection.clone(), Some(welcome));
    context.io.spawn(TaskClass::Foreground, writer);
    let (io, planted) = (context.io.clone(), context.settings.planted);
    Receiver::new(io, connection.clone(), rest, planted)
}

/// Sends a connection to the shard that it is meant for. If it cannot go, it is back, with the reason.
fn hand_over<I: Io>(
    context: &Context<I>,
    newcomer: Newcomer<I>,
    hello: Hello,
    rest: BytesMut,
) -> Option<(Newcomer<I>, Refusal)> {
    let began_at = newcomer.connection.began_at;
    context.table.remove(newcomer.place);
    let detached = match context.io.detach(newcomer.connection.into_stream()) {
        Ok(detached) => detached,
        Err(error) => {
            tracing::warn!(%error, "a broker's connection cannot go to another shard");
            return None;
        }
    };
    let passage = Passage::new(Body {
        detached,
        hello,
        rest,
        began_at,
    });
    let (back, refusal) = match context.hand_over(passage) {
        Ok(()) => {
            context.counters.handed_over.increment();
            return None;
        }
        Err(HandBack::NoShard(back)) => {
            let shard = back.shard();
            (back, Refusal::Shard(shard))
        }
        Err(HandBack::Full(back)) => (back, Refusal::TooManyConnections),
    };
    let stream = attach(context, back.into_body().detached)?;
    enter(context, stream, began_at).map(|newcomer| (newcomer, refusal))
}

async fn refuse<I: Io>(
    context: &Context<I>,
    newcomer: Newcomer<I>,
    refusal: Refusal,
    node: Option<BrokerId>,
) {
    let end = greeting::refuse(&newcomer.connection.stream, refusal, node).await;
    leave(context, &newcomer, end);
}

fn leave<I: Io>(context: &Context<I>, newcomer: &Newcomer<I>, found: End) {
    let end = newcomer.connection.ended(found);
    context.table.remove(newcomer.place);
    tell(context, &newcomer.connection, &end);
}

fn tell<I: Io>(context: &Context<I>, connection: &Connection<I>, end: &End) {
    let address = connection.stream.peer_addr().ok();
    let remote = connection.remote();
    match end {
        // It is no fault, and the other side has what it wants.
        End::Refuses(Refusal::Crossed, _) => {
            context.counters.refused.increment();
        }
        End::Refuses(refusal, node) => {
            context.counters.refused.increment();
            let of = node.unwrap_or(BrokerId(-1));
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
