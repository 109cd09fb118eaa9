//! The stream between this shard and one shard of another broker: at most one connection, whoever made it.
//!
//! One shard. A connection is made when something is to be sent, or the other side makes it. Between two attempts there is a
//! pause, as for every link. When both make one at the same moment, the broker with the smaller number has its way: it
//! refuses the other's ([`Refusal::Crossed`]), and the other takes the one that comes, with what waits in its queue, none of
//! which has left.
//!
//! Invariants: what this shard sends goes on the connection that the other side's answers come on; the end of a connection is
//! told before anything of another one, and nothing is sent on another one before the driver has taken that.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use model::{BrokerId, MonotonicTime};
use runtime::{Budget, Io};

use crate::attempt::Caller;
use crate::connection::{Connection, End, Receiver, Side};
use crate::handshake::Hello;
use crate::identity::Target;
use crate::link::{LinkState, LinkStatus};
use crate::not_sent::NotSent;
use crate::outbox::{Outbox, Parcel};
use crate::payload::Payload;
use crate::purpose::Purpose;
use crate::settings::{PlantedFault, Settings};
use crate::stream_events::{StreamEvents, StreamMessage};

/// What all streams of one shard share.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) events: StreamEvents,
    /// Messages that were received and not dropped, from their first byte on.
    pub(crate) room: Rc<Budget>,
}

impl Shared {
    fn tell_room(&self, peer: Target) {
        if !self.settings.is_planted(PlantedFault::RoomUntold) {
            self.events.room(peer);
        }
    }
}

/// Where a stream is.
enum Phase<I: Io> {
    /// Nothing is to be sent, and the other side has made no connection.
    Idle,
    /// A connection is being made, or the other side's is waited for. What is sent waits.
    Dialling(Option<Rc<Connection<I>>>),
    Up(Rc<Connection<I>>),
    /// The next attempt is not due.
    Paused,
}

pub(crate) struct StreamLink<I: Io> {
    pub(crate) peer: Target,
    shared: Rc<Shared>,
    phase: RefCell<Phase<I>>,
    /// What waits while a connection is being made, and the connection's queue when there is one.
    outbox: RefCell<Rc<Outbox>>,
    /// Something was to be sent during a pause.
    is_wanted: Cell<bool>,
    /// A task makes connections. It may have found out yet or not that the other side was faster.
    has_task: Cell<bool>,
}

impl<I: Io> StreamLink<I> {
    pub(crate) fn new(peer: Target, shared: Rc<Shared>) -> Rc<StreamLink<I>> {
        let outbox = Outbox::new(&shared.settings);
        Rc::new(StreamLink {
            peer,
            shared,
            phase: RefCell::new(Phase::Idle),
            outbox: RefCell::new(outbox),
            is_wanted: Cell::new(false),
            has_task: Cell::new(false),
        })
    }

    /// Sends on the connection that there is or is being made. [`NotSent::Unreachable`] during a pause, behind which another
    /// attempt is made then.
    pub(crate) fn send(&self, payload: Payload) -> Result<(), NotSent> {
        assert!(!self.is_idle(), "nobody makes a connection for it");
        if matches!(*self.phase.borrow(), Phase::Paused) {
            self.is_wanted.set(true);
            return Err(NotSent::Unreachable);
        }
        self.outbox.borrow().push(Parcel::Message(payload))
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Idle)
    }

    /// Whether nothing would be lost with it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_idle() && !self.has_task.get()
    }

    /// A connection is wanted: true if a task has to be started for it.
    pub(crate) fn begin(&self) -> bool {
        assert!(self.is_idle(), "one connection at a time");
        self.dials();
        !self.has_task.replace(true)
    }

    fn dials(&self) {
        self.is_wanted.set(false);
        *self.outbox.borrow_mut() = self.watched(Outbox::new(&self.shared.settings));
        *self.phase.borrow_mut() = Phase::Dialling(None);
    }

    /// Has the driver told when there is room again.
    fn watched(&self, outbox: Rc<Outbox>) -> Rc<Outbox> {
        let (shared, peer) = (self.shared.clone(), self.peer);
        outbox.bound(
            shared.settings.stream_queue_bytes_max,
            Box::new(move || shared.tell_room(peer)),
        );
        outbox
    }

    /// Whether a connection of the other side comes too late, because this side's is on its way there.
    pub(crate) fn crosses(&self, us: BrokerId, hello: &Hello, now: MonotonicTime) -> bool {
        if us > self.peer.node
            || self
                .shared
                .settings
                .is_planted(PlantedFault::CrossingUnseen)
        {
            return false;
        }
        match &*self.phase.borrow() {
            // Before, nobody knows of it, and theirs may be had.
            Phase::Dialling(own) => own.is_some(),
            // The hello may have left before ours came; whoever says it again later has lost what there is.
            Phase::Up(connection) => {
                let is_new = now.since(connection.began_at) < self.shared.settings.greeting_timeout;
                let remote = connection.remote().map(|remote| remote.identity);
                connection.side == Side::Dialled
                    && !connection.is_closed()
                    && is_new
                    && remote == Some(hello.from)
            }
            Phase::Idle | Phase::Paused => false,
        }
    }

    /// The other side has made a connection, and it is welcome.
    pub(crate) fn adopt(&self, connection: &Rc<Connection<I>>) {
        match self.phase.replace(Phase::Idle) {
            Phase::Up(old) => {
                old.close(End::Superseded);
                self.forget();
                *self.outbox.borrow_mut() = Outbox::new(&self.shared.settings);
            }
            Phase::Dialling(Some(own)) => own.close(End::Superseded),
            Phase::Dialling(None) | Phase::Idle | Phase::Paused => {}
        }
        self.is_up(connection);
    }

    /// What waited goes on the connection: none of it has left before.
    fn is_up(&self, connection: &Rc<Connection<I>>) {
        *self.phase.borrow_mut() = Phase::Up(connection.clone());
        let queue = self.watched(connection.outbox.clone());
        let waiting = self.outbox.replace(queue);
        waiting.move_into(&connection.outbox);
        let remote = connection.remote().expect("greeted");
        self.shared.events.up(self.peer, remote.identity);
    }

    /// A connection has ended, or none could be made (`None`). False if it was not this stream's any more.
    pub(crate) fn ended(&self, connection: Option<&Rc<Connection<I>>>, then: Then) -> bool {
        let mut phase = self.phase.borrow_mut();
        let is_ours = match (&*phase, connection) {
            (Phase::Up(own) | Phase::Dialling(Some(own)), Some(other)) => Rc::ptr_eq(own, other),
            (Phase::Dialling(None), None) => true,
            _ => false,
        };
        if is_ours {
            *phase = match then {
                Then::Idle => Phase::Idle,
                Then::Pause => Phase::Paused,
            };
            self.forget();
        }
        is_ours
    }

    /// What waited is lost, and the driver is told.
    fn forget(&self) {
        self.outbox.borrow().abandon();
        if !self.shared.settings.is_planted(PlantedFault::EndUntold) {
            self.shared.events.down(self.peer);
        }
    }

    /// Ends it at once, whatever it has; a pause goes on.
    pub(crate) fn end(&self) {
        let mut phase = self.phase.borrow_mut();
        match &*phase {
            Phase::Idle | Phase::Paused => return,
            Phase::Up(connection) | Phase::Dialling(Some(connection)) => {
                connection.close(End::Closing);
            }
            Phase::Dialling(None) => {}
        }
        *phase = Phase::Idle;
        self.forget();
    }

    /// Ends it if this side has made its connection or is about to: it was made for whom the address book named.
    pub(crate) fn end_dialled(&self) {
        let is_dialled = match &*self.phase.borrow() {
            Phase::Dialling(_) => true,
            Phase::Up(connection) => connection.side == Side::Dialled,
            Phase::Idle | Phase::Paused => false,
        };
        if is_dialled {
            self.end();
        }
    }

    /// Sends what waits on a connection that is there, takes nothing more, and makes no connection.
    pub(crate) fn finish(&self) {
        self.is_wanted.set(false);
        if matches!(*self.phase.borrow(), Phase::Up(_)) {
            self.outbox.borrow().finish();
        } else {
            self.end();
        }
    }

    /// The other side says that its own connection is on the way: until it is here, what waits goes on waiting. False if
    /// it is here, or not needed any more.
    pub(crate) fn awaits_other(&self) -> bool {
        let mut phase = self.phase.borrow_mut();
        let is_dialling = matches!(*phase, Phase::Dialling(_));
        if is_dialling {
            *phase = Phase::Dialling(None);
        }
        is_dialling
    }

    /// A pause is over, or somebody else's connection has come and gone: whether another attempt is wanted. If not, the
    /// task is over.
    pub(crate) fn goes_on(&self) -> bool {
        let is_paused = matches!(*self.phase.borrow(), Phase::Paused);
        if is_paused && self.is_wanted.get() {
            self.dials();
        } else if is_paused {
            *self.phase.borrow_mut() = Phase::Idle;
        }
        let goes_on = matches!(*self.phase.borrow(), Phase::Dialling(_));
        self.has_task.set(goes_on);
        goes_on
    }

    pub(crate) fn status(&self) -> LinkStatus {
        let phase = self.phase.borrow();
        let (state, connection) = match &*phase {
            Phase::Idle => (LinkState::Idle, None),
            Phase::Dialling(_) => (LinkState::Connecting, None),
            Phase::Up(connection) => (LinkState::Up, Some(connection)),
            Phase::Paused => (LinkState::Paused, None),
        };
        let remote = connection.and_then(|connection| connection.remote());
        LinkStatus {
            target: self.peer,
            purpose: Purpose::Stream,
            state,
            identity: remote.map(|remote| remote.identity),
            round_trip: connection.and_then(|connection| connection.round_trip()),
            queued_bytes: self.outbox.borrow().bytes(),
        }
    }

    /// Reads messages until the connection ends.
    pub(crate) async fn read_messages(&self, mut receiver: Receiver<I>) -> End {
        let identity = receiver.remote().identity;
        loop {
            let (payload, room) = match receiver.next_message(&self.shared.room).await {
                Ok(message) => message,
                Err(end) => return end,
            };
            self.shared.events.message(StreamMessage {
                from: self.peer,
                identity,
                payload,
                _room: room,
            });
        }
    }
}

/// What comes behind the end of a connection.
#[derive(Clone, Copy)]
pub(crate) enum Then {
    /// Nothing, until something is to be sent.
    Idle,
    /// A pause, which its task waits for.
    Pause,
}

impl<I: Io> Caller<I> for StreamLink<I> {
    fn began(&self, stream: I::Stream, now: MonotonicTime) -> Option<Rc<Connection<I>>> {
        let mut phase = self.phase.borrow_mut();
        if !matches!(*phase, Phase::Dialling(_)) {
            return None;
        }
        // A queue of its own: should the other side be faster, it ends, and what waits does not.
        let outbox = Outbox::new(&self.shared.settings);
        let connection = Connection::new(stream, Side::Dialled, outbox, now);
        *phase = Phase::Dialling(Some(connection.clone()));
        Some(connection)
    }

    async fn read(&self, receiver: Receiver<I>) -> End {
        let connection = receiver.connection().clone();
        let is_wanted = match &*self.phase.borrow() {
            Phase::Dialling(Some(own)) => Rc::ptr_eq(own, &connection),
            _ => false,
        };
        if !is_wanted {
            return End::Superseded;
        }
        self.is_up(&connection);
        self.read_messages(receiver).await
    }
}
