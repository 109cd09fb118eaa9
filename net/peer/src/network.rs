//! The connections of one shard to other brokers: what a driver holds.
//!
//! One shard. It joins the parts and owns the links.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{BrokerEpoch, BrokerId};
use runtime::{Io, Signal, TaskClass};

use crate::book::{BookEntry, Resolve, TooManyBrokers};
use crate::call_codec;
use crate::connection::{End, Side};
use crate::context::{Context, Counters};
use crate::events::PeerEvent;
use crate::handshake::CLUSTER_BYTES_MAX;
use crate::identity::{Local, PeerIdentity, Target};
use crate::incoming::{Incoming, Received};
use crate::link::{Link, LinkStatus};
use crate::listener;
use crate::not_sent::NotSent;
use crate::passage::{HandBack, Passage};
use crate::payload::Payload;
use crate::probe::{ProbeError, probe};
use crate::purpose::Purpose;
use crate::requests::{RequestHandler, Requests};
use crate::service::{Probes, Service};
use crate::settings::Settings;
use crate::snapshots::{Pieces, SnapshotSource};
use crate::stream_events::StreamEvent;
use crate::streams::Streams;
use crate::ticket::CallError;

/// How often times are looked at: the precision of every deadline here.
const KEEPER_INTERVAL: Duration = Duration::from_millis(20);
/// How often an end in order looks whether all is sent.
const CLOSE_INTERVAL: Duration = Duration::from_millis(5);
/// Most links of one network.
const LINKS_MAX: usize = 4096;

/// A cluster's name that no handshake can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster's name has 1 to {CLUSTER_BYTES_MAX} bytes, not {0}")]
pub struct ClusterName(pub usize);

/// The connections of one shard to other brokers. See the crate's text. Clones share them.
#[derive(Clone)]
pub struct PeerNetwork<I: Io> {
    parts: Rc<Parts<I>>,
}

type Links<I> = BTreeMap<(Target, Purpose), Rc<Link<I>>>;

struct Parts<I: Io> {
    context: Rc<Context<I>>,
    links: RefCell<Links<I>>,
    streams: Rc<Streams<I>>,
    incoming: Rc<Incoming>,
}

impl<I: Io> PeerNetwork<I> {
    /// A network without addresses that accepts nobody yet. It raises `wake` whenever there is something to take.
    pub fn new(
        io: I,
        local: Local,
        settings: Settings,
        resolve: Resolve,
        wake: Rc<Signal>,
    ) -> Result<PeerNetwork<I>, ClusterName> {
        settings.check();
        check_cluster(&local.cluster)?;
        let incoming = Incoming::new(settings.incoming_bytes_max, wake.clone());
        let streams = Streams::new(local.key.broker, &settings, wake.clone());
        let context = Context::new(io, local, settings, resolve, wake);
        if context.local.shard == Target::METADATA_SHARD {
            context.serve(Purpose::Raft, incoming.clone());
            context.serve(Purpose::Probe, Rc::new(Probes));
        }
        let network = PeerNetwork {
            parts: Rc::new(Parts {
                context,
                links: RefCell::default(),
                streams,
                incoming,
            }),
        };
        let io = network.context().io.clone();
        io.spawn(TaskClass::Foreground, keep(network.clone()));
        Ok(network)
    }

    fn context(&self) -> &Rc<Context<I>> {
        &self.parts.context
    }

    /// Accepts connections for as long as the process lives. What is to be served is set before.
    pub fn listen(&self, listener: I::Listener) {
        let task = listener::accept(self.context().clone(), listener);
        self.context().io.spawn(TaskClass::Foreground, task);
    }

    /// Has the connections of a purpose served. Once for each; the first shard serves raft messages and probes already.
    pub fn serve(&self, purpose: Purpose, service: Rc<dyn Service<I>>) {
        self.context().serve(purpose, service);
    }

    /// Has requests of other brokers answered.
    pub fn serve_requests(&self, handler: impl RequestHandler + 'static) {
        let requests = Requests::new(handler, &self.context().settings);
        self.serve(Purpose::Forward, requests);
    }

    /// Has snapshots sent to other brokers.
    pub fn serve_snapshots(&self, source: impl SnapshotSource) {
        let context = self.context();
        let pieces = Pieces::new(context.io.clone(), source);
        let requests = Requests::new(pieces, &context.settings);
        self.serve(Purpose::Snapshot, requests);
    }

    /// The cluster that handshakes name from now on: a broker that is to join one has to ask which it is.
    pub fn set_cluster(&self, cluster: &str) -> Result<(), ClusterName> {
        check_cluster(cluster)?;
        *self.context().cluster.borrow_mut() = cluster.to_owned();
        Ok(())
    }

    /// Lets shards of other brokers make streams to this one. It may make streams to them in any case.
    pub fn serve_streams(&self) {
        self.serve(Purpose::Stream, self.parts.streams.clone());
    }

    /// Has connections for other shards of this broker brought to them by `way`, which does not wait: each ends up in that
    /// shard's [`PeerNetwork::take_over`], or comes back. Once.
    pub fn hand_over_by(&self, way: impl Fn(Passage<I>) -> Result<(), HandBack<I>> + 'static) {
        self.context().hand_over_by(Box::new(way));
    }

    /// Decides about a connection that another shard of this broker has accepted for this one, and answers it.
    pub fn take_over(&self, passage: Passage<I>) {
        listener::take_over(self.context(), passage);
    }

    /// The registration that handshakes show from now on. Whoever takes a message of a stream is told the one that its
    /// connection was made under, so all streams end if it is another one, on both sides, and whoever needs them makes them
    /// anew.
    pub fn set_epoch(&self, epoch: BrokerEpoch) {
        let context = self.context();
        if context.epoch.replace(epoch) != epoch {
            self.parts.streams.end(|_| true);
        }
    }

    /// Replaces the address book. Links to brokers that are not in it, or in it with another directory than before, end, and
    /// what waits on them is lost: it was meant for somebody else. So do connections with a broker whose directory is
    /// another one than the book says.
    pub fn set_book(&self, book: BTreeMap<BrokerId, BookEntry>) -> Result<(), TooManyBrokers> {
        let context = self.context();
        let before = context.book.set(book)?;
        self.parts.links.borrow_mut().retain(|(target, _), link| {
            let was = before.get(&target.node).and_then(|entry| entry.directory);
            let is = context.book.directory(target.node);
            let stays = context.book.has(target.node) && (was.is_none() || was == is);
            if !stays {
                link.remove();
            }
            stays
        });
        self.parts.streams.end_dialled(|target| {
            let was = before.get(&target.node).and_then(|entry| entry.directory);
            let is = context.book.directory(target.node);
            !context.book.has(target.node) || (was.is_some() && was != is)
        });
        for connection in context.table.all() {
            let Some(remote) = connection.remote() else {
                continue;
            };
            let known = context.book.directory(remote.identity.node());
            if known.is_some_and(|known| known != remote.identity.key.directory) {
                connection.close(End::Closing);
            }
        }
        let has_moved = |node| context.book.get(node).as_ref() != before.get(&node);
        context.pauses.cut_short(has_moved);
        Ok(())
    }

    fn link(&self, target: Target, purpose: Purpose) -> Result<Rc<Link<I>>, NotSent> {
        let context = self.context();
        if context.is_closing.get() {
            return Err(NotSent::Closing);
        }
        if purpose == Purpose::Stream {
            return Err(NotSent::Misplaced);
        }
        if !context.book.has(target.node) {
            return Err(NotSent::Unknown);
        }
        let mut links = self.parts.links.borrow_mut();
        if let Some(link) = links.get(&(target, purpose)) {
            return Ok(link.clone());
        }
        if links.len() >= LINKS_MAX {
            return Err(NotSent::Full);
        }
        let link = Link::start(context, target, purpose);
        links.insert((target, purpose), link.clone());
        Ok(link)
    }

    /// Sends a message, without waiting. `Ok` says that it is in the queue of a connection that is there or being made; it
    /// is lost if that ends ([`PeerEvent::Unreachable`]). An error says that it was not taken.
    pub fn send(
        &self,
        to: impl Into<Target>,
        purpose: Purpose,
        payload: impl Into<Payload>,
    ) -> Result<(), NotSent> {
        self.link(to.into(), purpose)?.send(payload.into())
    }

    /// Sends a request and waits for its answer, `timeout` at most.
    pub async fn call(
        &self,
        to: impl Into<Target>,
        purpose: Purpose,
        body: impl Into<Payload>,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let link = self.link(to.into(), purpose)?;
        let deadline = self.context().io.now().plus(timeout);
        let ticket = link.call(call_codec::request(body.into()), deadline)?;
        ticket.wait().await
    }

    /// Sends a message on the stream to a shard, without waiting. `Ok` says that it is in the queue of a connection that is
    /// there or being made, behind those before it. After [`NotSent::Unreachable`] there follows [`StreamEvent::Up`] or
    /// [`StreamEvent::Down`], after [`NotSent::Full`] there follows [`StreamEvent::Room`] or [`StreamEvent::Down`].
    pub fn stream_send(&self, to: Target, payload: impl Into<Payload>) -> Result<(), NotSent> {
        let context = self.context();
        self.parts.streams.send(context, to, payload.into())
    }

    /// The next thing that streams have brought.
    pub fn take_stream_event(&self) -> Option<StreamEvent> {
        self.parts.streams.events().take()
    }

    /// Ends the stream to a shard, if there is one. Both sides are told. Streams do not end because they are not used.
    pub fn end_stream(&self, with: Target) {
        self.parts.streams.end(|target| target == with);
    }

    /// Asks once whether a broker is there, and which.
    pub async fn probe(&self, target: impl Into<Target>) -> Result<PeerIdentity, ProbeError> {
        probe(self.context(), target.into()).await
    }

    /// The next raft message that has come.
    pub fn take_message(&self) -> Option<Received> {
        self.parts.incoming.take()
    }

    /// The next thing to know about other brokers.
    pub fn take_event(&self) -> Option<PeerEvent> {
        self.context().events.take()
    }

    /// All links, for people.
    pub fn links(&self) -> Vec<LinkStatus> {
        let links = self.parts.links.borrow();
        links.values().map(|link| link.status()).collect()
    }

    /// All streams, for people.
    pub fn streams(&self) -> Vec<LinkStatus> {
        self.parts.streams.status()
    }

    /// Connections of others, those whose handshake is not done included.
    pub fn accepted(&self) -> usize {
        self.context().table.accepted().0
    }

    /// Bytes of messages that were received and not dropped, about.
    pub fn incoming_bytes(&self) -> usize {
        self.parts.incoming.bytes()
    }

    /// The same of streams, with what of a message is here already.
    pub fn stream_incoming_bytes(&self) -> usize {
        self.parts.streams.incoming_bytes()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.parts.context.counters
    }

    pub(crate) async fn pause(&self, pause: Duration) {
        self.context().io.sleep(pause).await;
    }

    fn is_over(&self) -> bool {
        let links = self.parts.links.borrow();
        self.context().table.is_empty() && links.values().all(|link| link.is_over())
    }

    /// Takes nothing more, sends what waits, and ends every connection, after `patience` at the latest. Those who connect
    /// later are told that this broker is shutting down.
    pub async fn close(&self, patience: Duration) {
        let context = self.context();
        let deadline = context.io.now().plus(patience);
        context.is_closing.set(true);
        for link in self.parts.links.borrow().values() {
            link.finish();
        }
        self.parts.streams.finish();
        for connection in context.table.all() {
            if connection.side == Side::Accepted {
                connection.outbox.finish();
            }
        }
        context.pauses.cut_short(|_| true);
        while !self.is_over() && context.io.now() < deadline {
            context.io.sleep(CLOSE_INTERVAL).await;
        }
        for connection in context.table.all() {
            connection.close(End::Closing);
        }
    }
}

fn check_cluster(cluster: &str) -> Result<(), ClusterName> {
    match cluster.len() {
        1..=CLUSTER_BYTES_MAX => Ok(()),
        length => Err(ClusterName(length)),
    }
}

/// Looks at all times, for the life of the process: those who connect to a network that is closed have deadlines, too.
async fn keep<I: Io>(network: PeerNetwork<I>) {
    let context = network.context();
    loop {
        context.io.sleep(KEEPER_INTERVAL).await;
        let now = context.io.now();
        context.table.look(now, &context.settings);
        for link in network.parts.links.borrow().values() {
            link.calls.expire(now);
        }
    }
}
