//! All streams of one shard: who has one, who may make one, and the tasks that make them.
//!
//! One shard. A stream is here as long as it has a connection, makes one, or waits before it makes the next. Bounded by
//! [`STREAMS_MAX`], and so are those of which there is something to take.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use model::{BrokerId, MonotonicTime};
use runtime::{Budget, Io, Signal, TaskClass};

use crate::attempt::attempt;
use crate::backoff::Backoff;
use crate::connection::{End, Receiver};
use crate::context::Context;
use crate::handshake::{Hello, Refusal};
use crate::identity::Target;
use crate::link::LinkStatus;
use crate::not_sent::{self, NotSent};
use crate::payload::Payload;
use crate::purpose::{Kind, Purpose};
use crate::service::{Service, Serving};
use crate::settings::{PlantedFault, Settings};
use crate::stream_events::StreamEvents;
use crate::stream_link::{Shared, StreamLink, Then};

/// Most streams of one shard: 256 brokers of 16 shards each.
const STREAMS_MAX: usize = 4096;

pub(crate) struct Streams<I: Io> {
    shared: Rc<Shared>,
    us: BrokerId,
    links: RefCell<BTreeMap<Target, Rc<StreamLink<I>>>>,
}

impl<I: Io> Streams<I> {
    pub(crate) fn new(us: BrokerId, settings: &Settings, wake: Rc<Signal>) -> Rc<Streams<I>> {
        Rc::new(Streams {
            shared: Rc::new(Shared {
                settings: settings.clone(),
                events: StreamEvents::new(wake),
                room: Budget::new(settings.stream_incoming_bytes_max),
            }),
            us,
            links: RefCell::default(),
        })
    }

    pub(crate) fn events(&self) -> &StreamEvents {
        &self.shared.events
    }

    /// Bytes of messages that were received, or are being, and not dropped, about.
    pub(crate) fn incoming_bytes(&self) -> usize {
        self.shared.room.used()
    }

    pub(crate) fn status(&self) -> Vec<LinkStatus> {
        let links = self.links.borrow();
        links.values().map(|link| link.status()).collect()
    }

    fn is_full(&self) -> bool {
        let taken = self.links.borrow().len();
        taken.max(self.shared.events.lane_count()) >= STREAMS_MAX
    }

    fn find(&self, peer: Target) -> Option<Rc<StreamLink<I>>> {
        self.links.borrow().get(&peer).cloned()
    }

    fn find_or_make(&self, peer: Target) -> Rc<StreamLink<I>> {
        let mut links = self.links.borrow_mut();
        let link = links
            .entry(peer)
            .or_insert_with(|| StreamLink::new(peer, self.shared.clone()));
        link.clone()
    }

    fn forget_if_over(&self, link: &StreamLink<I>) {
        let is_here = self
            .find(link.peer)
            .is_some_and(|here| std::ptr::eq(&*here, link));
        if is_here && link.is_over() {
            self.links.borrow_mut().remove(&link.peer);
        }
    }

    /// Puts a message behind the others on the connection to that shard, which is made if there is none.
    pub(crate) fn send(
        self: &Rc<Self>,
        context: &Rc<Context<I>>,
        peer: Target,
        payload: Payload,
    ) -> Result<(), NotSent> {
        if context.is_closing.get() {
            return Err(NotSent::Closing);
        }
        not_sent::check(Purpose::Stream, Kind::Message, &payload)?;
        if self.is_end_untold(peer) {
            return Err(NotSent::Unreachable);
        }
        let found = self.find(peer);
        if let Some(link) = found.as_ref().filter(|link| !link.is_idle()) {
            return link.send(payload);
        }
        if !context.book.has(peer.node) {
            return Err(NotSent::Unknown);
        }
        if found.is_none() && self.is_full() {
            return Err(NotSent::TooMany);
        }
        let link = self.find_or_make(peer);
        if link.begin() {
            let task = run(context.clone(), self.clone(), link.clone());
            context.io.spawn(TaskClass::Foreground, task);
        }
        link.send(payload)
    }

    fn is_end_untold(&self, peer: Target) -> bool {
        self.shared.events.is_end_untold(peer)
            && !self.shared.settings.is_planted(PlantedFault::EndNotAwaited)
    }

    /// Ends those with such shards.
    pub(crate) fn end(&self, which: impl Fn(Target) -> bool) {
        self.each(which, |link| link.end());
    }

    /// Ends those with such shards whose connection this side has made or is about to make.
    pub(crate) fn end_dialled(&self, which: impl Fn(Target) -> bool) {
        self.each(which, |link| link.end_dialled());
    }

    /// Sends what waits, and makes no connection any more: nothing may be sent behind this.
    pub(crate) fn finish(&self) {
        self.each(|_| true, |link| link.finish());
    }

    fn each(&self, which: impl Fn(Target) -> bool, act: impl Fn(&StreamLink<I>)) {
        self.links.borrow_mut().retain(|peer, link| {
            if which(*peer) {
                act(link);
            }
            !link.is_over()
        });
    }
}

impl<I: Io> Service<I> for Streams<I> {
    fn objection(&self, hello: &Hello, now: MonotonicTime) -> Option<Refusal> {
        let peer = Target {
            node: hello.from.node(),
            shard: hello.source_shard,
        };
        match self.find(peer) {
            Some(link) if link.crosses(self.us, hello, now) => Some(Refusal::Crossed),
            Some(_) => None,
            None => self.is_full().then_some(Refusal::TooManyConnections),
        }
    }

    /// The connection is the stream's before this returns, so that no other one comes between the decision and it.
    fn serve(self: Rc<Self>, receiver: Receiver<I>) -> Serving {
        let remote = receiver.remote();
        let link = self.find_or_make(Target {
            node: remote.identity.node(),
            shard: remote.shard,
        });
        let connection = receiver.connection().clone();
        link.adopt(&connection);
        Box::pin(async move {
            let end = link.read_messages(receiver).await;
            link.ended(Some(&connection), Then::Idle);
            self.forget_if_over(&link);
            end
        })
    }
}

/// Makes connections as long as they are wanted and the other side makes none.
async fn run<I: Io>(context: Rc<Context<I>>, streams: Rc<Streams<I>>, link: Rc<StreamLink<I>>) {
    let mut backoff = Backoff::new(&context.settings);
    let peer = link.peer;
    loop {
        let course = attempt(&context, peer, Purpose::Stream, &*link).await;
        let is_ours = if matches!(course.end, Ok(End::Refused(Refusal::Crossed))) {
            wait_for_theirs(&context, &link).await;
            link.ended(None, Then::Pause)
        } else {
            link.ended(course.connection.as_ref(), Then::Pause)
        };
        if is_ours {
            course.tell(&context, peer, Purpose::Stream);
            if course.has_stayed(&context) {
                backoff.succeeded();
            }
            let pause = backoff.failed(context.io.random());
            context.pauses.wait(&context.io, peer.node, pause).await;
        }
        if !link.goes_on() {
            break;
        }
    }
    streams.forget_if_over(&link);
}

/// The other side's connection comes, or it does not after all.
async fn wait_for_theirs<I: Io>(context: &Context<I>, link: &StreamLink<I>) {
    let deadline = context.io.now().plus(context.settings.greeting_timeout);
    while link.awaits_other() {
        let left = deadline.since(context.io.now());
        if left.is_zero() {
            return;
        }
        context.pauses.wait(&context.io, link.peer.node, left).await;
    }
}
