//! One connection between two brokers, as both of its sides see it.
//!
//! One shard. Two tasks share it: the one that reads, which also greets before and cleans up after, and the writer. The
//! keeper ([`crate::keeper`]) looks at its times. It ends once, for one reason: the first that somebody gave.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use model::{BrokerId, MonotonicTime, ShardId};
use runtime::{Budget, Io, Reservation, Stream};

use crate::frame::{FrameError, Header, Numbers};
use crate::frame_reader::{FillError, FrameReader};
use crate::handshake::{HandshakeError, Refusal};
use crate::identity::PeerIdentity;
use crate::not_sent::{self, NotSent};
use crate::outbox::{Batch, FRAME_OVERHEAD_BYTES, Outbox, Parcel, Took};
use crate::payload::Payload;
use crate::purpose::{Kind, Purpose};
use crate::settings::PlantedFault;

/// Bytes of frames that the writer takes at a time.
const WRITE_BYTES_MAX: usize = 1 << 20;

/// Bytes that it hands to the socket at a time: so many must be taken in `stall_max`.
const WRITE_STEP_BYTES: usize = 256 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the other side closed it")]
    Finished,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a broken frame: {0}")]
    Frame(#[from] FrameError),
    #[error("a broken handshake: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("the other side refuses: {0}")]
    Refused(Refusal),
    #[error("this side refuses: {0}")]
    Refuses(Refusal, Option<BrokerId>),
    #[error("the handshake took too long")]
    Slow,
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("it takes nothing of what is sent")]
    Stalled,
    #[error("the same broker has connected anew")]
    Superseded,
    #[error("it was not used")]
    Idle,
    #[error("it is not needed any more")]
    Closing,
}

/// Which end this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Dialled,
    Accepted,
}

/// Who is at the other end, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The broker.
    pub identity: PeerIdentity,
    /// The shard of it.
    pub shard: ShardId,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// A connection. Shared by its tasks.
pub struct Connection<I: Io> {
    pub(crate) stream: I::Stream,
    pub(crate) side: Side,
    pub(crate) outbox: Rc<Outbox>,
    remote: OnceCell<Remote>,
    pub(crate) began_at: MonotonicTime,
    /// When bytes last came.
    pub(crate) heard_at: Cell<MonotonicTime>,
    /// When something but a ping or a pong last came or went.
    pub(crate) used_at: Cell<MonotonicTime>,
    /// The reader does not read: there is no room for what it has.
    pub(crate) waits_for_room: Cell<bool>,
    /// Since when the socket takes nothing, if it does not.
    pub(crate) write_began_at: Cell<Option<MonotonicTime>>,
    pub(crate) pinged_at: Cell<MonotonicTime>,
    ping_last: Cell<u64>,
    round_trip: Cell<Option<Duration>>,
    is_closed: Cell<bool>,
    /// Whoever waits for room for what this connection brings.
    on_close: Cell<Option<Waker>>,
    end: RefCell<Option<End>>,
}

impl<I: Io> Connection<I> {
    pub(crate) fn new(
        stream: I::Stream,
        side: Side,
        outbox: Rc<Outbox>,
        now: MonotonicTime,
    ) -> Rc<Connection<I>> {
        Rc::new(Connection {
            stream,
            side,
            outbox,
            remote: OnceCell::new(),
            began_at: now,
            heard_at: Cell::new(now),
            used_at: Cell::new(now),
            waits_for_room: Cell::new(false),
            write_began_at: Cell::new(None),
            pinged_at: Cell::new(now),
            ping_last: Cell::new(0),
            round_trip: Cell::new(None),
            is_closed: Cell::new(false),
            on_close: Cell::new(None),
            end: RefCell::new(None),
        })
    }

    /// The handshake is done.
    pub(crate) fn greeted(&self, remote: Remote, now: MonotonicTime) {
        self.heard_at.set(now);
        self.used_at.set(now);
        self.remote.set(remote).expect("a handshake is done once");
    }

    /// Who is at the other end; `None` before the handshake is done.
    pub fn remote(&self) -> Option<Remote> {
        self.remote.get().copied()
    }

    /// The time of the last ping there and back.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip.get()
    }

    /// Ends it. The first reason counts.
    pub(crate) fn close(&self, reason: End) {
        self.end.borrow_mut().get_or_insert(reason);
        self.is_closed.set(true);
        self.outbox.abandon();
        self.stream.shutdown();
        if let Some(waiter) = self.on_close.take() {
            waiter.wake();
        }
    }

    /// The stream of a connection that another shard is to serve. Nobody else knows it: it is not greeted.
    pub(crate) fn into_stream(self: Rc<Self>) -> I::Stream {
        let alone = Rc::into_inner(self);
        alone
            .expect("a connection is its task's alone until it is greeted")
            .stream
    }

    /// Whether it has ended. One that only sends what is left has not.
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Sends a message back on a connection that was accepted, as a service may: behind those before it, or not at all.
    pub fn send(&self, payload: impl Into<Payload>) -> Result<(), NotSent> {
        let payload = payload.into();
        let purpose = self.remote().ok_or(NotSent::Unreachable)?.purpose;
        not_sent::check(purpose, Kind::Message, &payload)?;
        self.outbox.push(Parcel::Message(payload))
    }

    /// Why it ended, once. `found` is what the reader met, which may only follow from an earlier reason.
    pub(crate) fn ended(&self, found: End) -> End {
        self.close(found);
        let reason = self.end.borrow_mut().take();
        reason.expect("a reason was just given")
    }

    pub(crate) fn ping(&self, now: MonotonicTime) {
        self.pinged_at.set(now);
        self.ping_last.set(self.ping_last.get() + 1);
        self.outbox.ping(self.ping_last.get());
    }

    fn ponged(&self, number: u64, now: MonotonicTime) -> Result<(), FrameError> {
        let last = self.ping_last.get();
        if number == 0 || number > last {
            return Err(FrameError::Number {
                kind: Kind::Pong,
                last,
                found: number,
            });
        }
        // An older one's time is not known any more.
        if number == last {
            self.round_trip.set(Some(now.since(self.pinged_at.get())));
        }
        Ok(())
    }
}

/// Sends `first`, and then what waits until nothing more will come, and closes.
pub(crate) async fn write<I: Io>(io: I, connection: Rc<Connection<I>>, first: Option<Bytes>) {
    let mut batch = Batch::default();
    batch.slices.extend(first);
    if let Err(error) = write_steps(&io, &connection, &mut batch.slices).await {
        connection.close(End::Io(error));
        return;
    }
    loop {
        match connection.outbox.take(&mut batch, WRITE_BYTES_MAX) {
            Took::Finished => break,
            Took::Nothing => connection.outbox.writer.wait().await,
            Took::Frames => {
                let is_use = std::mem::take(&mut batch.is_use);
                if let Err(error) = write_steps(&io, &connection, &mut batch.slices).await {
                    connection.close(End::Io(error));
                    return;
                }
                batch.charges.clear();
                if is_use {
                    connection.used_at.set(io.now());
                }
            }
        }
    }
    connection.close(End::Closing);
}

async fn write_steps<I: Io>(
    io: &I,
    connection: &Connection<I>,
    slices: &mut Vec<Bytes>,
) -> io::Result<()> {
    let mut waiting = std::mem::take(slices).into_iter();
    let mut next = waiting.next();
    while next.is_some() {
        let mut step = 0;
        while step < WRITE_STEP_BYTES
            && let Some(mut slice) = next.take()
        {
            let piece = slice.split_to(slice.len().min(WRITE_STEP_BYTES - step));
            step += piece.len();
            slices.push(piece);
            next = if slice.is_empty() {
                waiting.next()
            } else {
                Some(slice)
            };
        }
        connection.write_began_at.set(Some(io.now()));
        let sent = connection.stream.write_all(slices).await;
        connection.write_began_at.set(None);
        sent?;
    }
    Ok(())
}

/// What comes on a connection, but for pings and pongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// A message without an answer.
    Message(Bytes),
    /// A request, on the side that accepted.
    Request(u64, Bytes),
    /// The answer to a request, on the side that connected.
    Answer(u64, Bytes),
}

impl Inbound {
    /// The end of a connection whose purpose lets this through, and whose service does not serve it.
    pub(crate) fn misplaced(&self, purpose: Purpose) -> End {
        let kind = match self {
            Inbound::Message(_) => Kind::Message,
            Inbound::Request(..) => Kind::Request,
            Inbound::Answer(..) => Kind::Answer,
        };
        FrameError::Misplaced { kind, purpose }.into()
    }
}

/// The reading half of a connection whose handshake is done. Owned by one task.
pub struct Receiver<I: Io> {
    io: I,
    connection: Rc<Connection<I>>,
    reader: FrameReader<I::Stream>,
    numbers: Numbers,
    planted: Option<PlantedFault>,
}

impl<I: Io> Receiver<I> {
    pub(crate) fn new(
        io: I,
        connection: Rc<Connection<I>>,
        buffer: BytesMut,
        planted: Option<PlantedFault>,
    ) -> Receiver<I> {
        let purpose = connection.remote().expect("greeted").purpose;
        let stream = connection.stream.clone();
        Receiver {
            io,
            connection,
            reader: FrameReader::new(stream, buffer, purpose, planted),
            numbers: Numbers::default(),
            planted,
        }
    }

    /// The connection.
    pub fn connection(&self) -> &Rc<Connection<I>> {
        &self.connection
    }

    /// Who is at the other end.
    pub fn remote(&self) -> Remote {
        self.connection.remote().expect("greeted")
    }

    /// Waits for what comes next. After an error nothing comes any more.
    pub async fn next(&mut self) -> Result<Inbound, End> {
        loop {
            match self.reader.frame()? {
                Some((header, payload)) => {
                    if let Some(inbound) = self.take(header, payload)? {
                        return Ok(inbound);
                    }
                }
                None => self.fill().await?,
            }
        }
    }

    /// The next message of a connection that carries nothing else, with room for it. One that is not here whole is read on
    /// only when there is room for all of it, so that what is being read is within the bound, too, but for the
    /// [`crate::frame_reader::READ_BYTES`] that came with its header. Pings need no room. Nothing comes of a connection that
    /// has ended.
    pub(crate) async fn next_message(
        &mut self,
        budget: &Rc<Budget>,
    ) -> Result<(Bytes, Reservation), End> {
        let mut room = None;
        loop {
            if room.is_none()
                && let Some(length) = self.reader.message_bytes()?
            {
                let cost = length + FRAME_OVERHEAD_BYTES;
                room = Some(self.room(budget.reserve(cost)).await?);
            }
            match self.reader.frame()? {
                Some((header, payload)) => match self.take(header, payload)? {
                    Some(Inbound::Message(payload)) => {
                        let room = room.take().expect("a message has room");
                        return Ok((payload, room));
                    }
                    Some(other) => return Err(other.misplaced(self.remote().purpose)),
                    None => {}
                },
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), End> {
        self.io.yield_if_needed().await;
        let filled = self.reader.fill().await;
        if self.connection.is_closed() {
            return Err(End::Closing);
        }
        match filled {
            Ok(true) => self.connection.heard_at.set(self.io.now()),
            Ok(false) => return Err(End::Finished),
            Err(FillError::Frame(error)) => return Err(error.into()),
            Err(FillError::Io(error)) => return Err(error.into()),
        }
        Ok(())
    }

    fn take(&mut self, header: Header, payload: Bytes) -> Result<Option<Inbound>, FrameError> {
        let connection = &*self.connection;
        let misplaced = FrameError::Misplaced {
            kind: header.kind,
            purpose: self.remote().purpose,
        };
        if self.planted != Some(PlantedFault::NumbersUnchecked) {
            self.numbers.check(&header)?;
        }
        Ok(match (header.kind, connection.side) {
            (Kind::Ping, _) => {
                connection.outbox.pong(header.number);
                None
            }
            (Kind::Pong, _) => {
                connection.ponged(header.number, self.io.now())?;
                None
            }
            (Kind::Message, _) => self.used(Inbound::Message(payload)),
            (Kind::Request, Side::Accepted) => self.used(Inbound::Request(header.number, payload)),
            (Kind::Answer, Side::Dialled) => self.used(Inbound::Answer(header.number, payload)),
            (Kind::Request, Side::Dialled) | (Kind::Answer, Side::Accepted) => {
                return Err(misplaced);
            }
        })
    }

    fn used(&self, inbound: Inbound) -> Option<Inbound> {
        self.connection.used_at.set(self.io.now());
        Some(inbound)
    }

    /// Waits for room for what was read. Meanwhile the other side is not held to be silent. Nobody waits for room on a
    /// connection that has ended.
    pub async fn room<T>(&self, room: impl Future<Output = T>) -> Result<T, End> {
        let connection = &*self.connection;
        connection.waits_for_room.set(true);
        let mut room = pin!(room);
        let found = poll_fn(|context| {
            if connection.is_closed() {
                return Poll::Ready(Err(End::Closing));
            }
            let found = room.as_mut().poll(context);
            if found.is_pending() {
                connection.on_close.set(Some(context.waker().clone()));
            }
            found.map(Ok)
        })
        .await;
        connection.on_close.set(None);
        connection.heard_at.set(self.io.now());
        connection.waits_for_room.set(false);
        found
    }
}
