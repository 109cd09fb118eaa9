//! The way to one shard of one broker for one purpose: a queue, a connection when there is one, and the task that makes it.
//!
//! One shard. A connection is made when something is to be sent, and made again when it ended and something is to be sent.
//! Between two attempts there is a pause ([`crate::backoff`]); what is sent during a pause is refused at once, and what waits
//! when an attempt fails or a connection ends is lost, and the driver is told. So nothing old is ever sent late.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use model::MonotonicTime;
use runtime::{Io, Signal, TaskClass};

use crate::attempt::{Caller, attempt};
use crate::backoff::Backoff;
use crate::call_codec;
use crate::calls::Calls;
use crate::connection::{Connection, End, Inbound, Receiver, Side};
use crate::context::Context;
use crate::events::PeerEvent;
use crate::identity::{PeerIdentity, Target};
use crate::not_sent::{self, NotSent};
use crate::outbox::{Outbox, Parcel};
use crate::payload::Payload;
use crate::purpose::{Kind, Purpose};
use crate::ticket::{CallError, Ticket};

/// Where a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing is to be sent.
    Idle,
    /// Connecting, or the handshake.
    Connecting,
    /// Connected.
    Up,
    /// The next attempt is not due.
    Paused,
    /// It will not connect any more.
    Removed,
}

/// What is to be seen of a link.
#[derive(Clone, Copy, Debug)]
pub struct LinkStatus {
    /// The other end.
    pub target: Target,
    /// What for.
    pub purpose: Purpose,
    /// Where it is.
    pub state: LinkState,
    /// Who answers there, while it is connected.
    pub identity: Option<PeerIdentity>,
    /// The last ping, there and back.
    pub round_trip: Option<Duration>,
    /// Bytes that wait to be sent, about.
    pub queued_bytes: usize,
}

pub(crate) struct Link<I: Io> {
    target: Target,
    purpose: Purpose,
    state: Cell<LinkState>,
    outbox: RefCell<Rc<Outbox>>,
    pub(crate) calls: Calls,
    connection: RefCell<Option<Rc<Connection<I>>>>,
    /// Something was to be sent.
    is_wanted: Cell<bool>,
    is_removed: Cell<bool>,
    wake: Signal,
}

impl<I: Io> Link<I> {
    /// Starts the link's task.
    pub(crate) fn start(context: &Rc<Context<I>>, target: Target, purpose: Purpose) -> Rc<Link<I>> {
        let link = Rc::new(Link {
            target,
            purpose,
            state: Cell::new(LinkState::Idle),
            outbox: RefCell::new(Outbox::new(&context.settings)),
            calls: Calls::new(&context.settings),
            connection: RefCell::new(None),
            is_wanted: Cell::new(false),
            is_removed: Cell::new(false),
            wake: Signal::default(),
        });
        let task = run(context.clone(), link.clone());
        context.io.spawn(TaskClass::Foreground, task);
        link
    }

    /// Puts a message behind the others.
    pub(crate) fn send(&self, payload: Payload) -> Result<(), NotSent> {
        not_sent::check(self.purpose, Kind::Message, &payload)?;
        self.push(Parcel::Message(payload))
    }

    /// Puts a request behind the others. Its ticket says what becomes of it.
    pub(crate) fn call(
        &self,
        payload: Payload,
        deadline: MonotonicTime,
    ) -> Result<Rc<Ticket>, NotSent> {
        not_sent::check(self.purpose, Kind::Request, &payload)?;
        let (number, ticket) = self.calls.open(deadline).ok_or(NotSent::Full)?;
        if let Err(why) = self.push(Parcel::Request(number, payload, ticket.clone())) {
            self.calls.take_back(number, why);
        }
        Ok(ticket)
    }

    fn push(&self, parcel: Parcel) -> Result<(), NotSent> {
        self.is_wanted.set(true);
        self.wake.raise();
        if self.is_removed.get() {
            return Err(NotSent::Closing);
        }
        if self.state.get() == LinkState::Paused {
            return Err(NotSent::Unreachable);
        }
        self.outbox.borrow().push(parcel)
    }

    /// Sends what waits and connects no more.
    pub(crate) fn finish(&self) {
        self.is_removed.set(true);
        self.outbox.borrow().finish();
        self.wake.raise();
    }

    /// Ends at once, and what waits is lost.
    pub(crate) fn remove(&self) {
        self.is_removed.set(true);
        self.outbox.borrow().abandon();
        self.calls.connection_ended();
        self.wake.raise();
        if let Some(connection) = &*self.connection.borrow() {
            connection.close(End::Closing);
        }
    }

    /// Whether its task has ended, or is about to.
    pub(crate) fn is_over(&self) -> bool {
        self.state.get() == LinkState::Removed
    }

    pub(crate) fn status(&self) -> LinkStatus {
        let connection = self.connection.borrow();
        let connection = connection.as_ref();
        let remote = connection.and_then(|connection| connection.remote());
        LinkStatus {
            target: self.target,
            purpose: self.purpose,
            state: self.state.get(),
            identity: remote.map(|remote| remote.identity),
            round_trip: connection.and_then(|connection| connection.round_trip()),
            queued_bytes: self.outbox.borrow().bytes(),
        }
    }

    /// What waited is lost.
    fn clear(&self, context: &Context<I>) {
        *self.connection.borrow_mut() = None;
        self.outbox.borrow().abandon();
        *self.outbox.borrow_mut() = Outbox::new(&context.settings);
        self.calls.connection_ended();
    }
}

async fn run<I: Io>(context: Rc<Context<I>>, link: Rc<Link<I>>) {
    let mut backoff = Backoff::new(&context.settings);
    let (target, purpose) = (link.target, link.purpose);
    loop {
        while !link.is_wanted.get() && !link.is_removed.get() {
            link.wake.wait().await;
        }
        if link.is_removed.get() && link.outbox.borrow().is_empty() {
            break;
        }
        link.is_wanted.set(false);
        link.state.set(LinkState::Connecting);
        let course = attempt(&context, target, purpose, &*link).await;
        // Before anybody is told: whoever sends again because of it must not find the old queue.
        link.state.set(LinkState::Paused);
        link.clear(&context);
        if link.is_removed.get() {
            break;
        }
        if matches!(course.end, Ok(End::Idle)) {
            // What was wanted while it was there went there.
            link.is_wanted.set(false);
            link.state.set(LinkState::Idle);
            continue;
        }
        context.events.tell(PeerEvent::Unreachable(target, purpose));
        course.tell(&context, target, purpose);
        if course.has_stayed(&context) {
            backoff.succeeded();
        }
        let pause = backoff.failed(context.io.random());
        context.pauses.wait(&context.io, target.node, pause).await;
        link.state.set(LinkState::Idle);
    }
    link.state.set(LinkState::Removed);
    link.clear(&context);
}

impl<I: Io> Caller<I> for Link<I> {
    fn began(&self, stream: I::Stream, now: MonotonicTime) -> Option<Rc<Connection<I>>> {
        let outbox = self.outbox.borrow().clone();
        let connection = Connection::new(stream, Side::Dialled, outbox, now);
        *self.connection.borrow_mut() = Some(connection.clone());
        Some(connection)
    }

    /// Reads what the other side answers.
    async fn read(&self, mut receiver: Receiver<I>) -> End {
        self.state.set(LinkState::Up);
        loop {
            let (number, payload) = match receiver.next().await {
                Ok(Inbound::Answer(number, payload)) => (number, payload),
                Ok(other) => return other.misplaced(self.purpose),
                Err(end) => return end,
            };
            let taken = call_codec::read_answer(&payload)
                .and_then(|answer| self.calls.answered(number, answer.map_err(CallError::from)));
            if let Err(error) = taken {
                return error.into();
            }
        }
    }
}
