//! What waits to be sent on one connection.
//!
//! One shard. Filled by anybody, emptied by the connection's writer. Bounded by frames and by bytes; the one rule for all
//! purposes is that a full queue refuses what comes now and keeps what it has, so that order is kept and whoever sends
//! knows at once. A ping and a pong are no more than a number each: the newest replaces one that has not left.
//! Invariants: frames leave in the order in which they came; messages are numbered as they leave, without a gap.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use runtime::{Reservation, Signal};

use crate::frame::Header;
use crate::not_sent::NotSent;
use crate::payload::Payload;
use crate::purpose::Kind;
use crate::settings::{PlantedFault, Settings};
use crate::ticket::Ticket;

/// What a waiting frame takes beside its payload, about.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 128;

/// A frame that waits.
pub(crate) enum Parcel {
    Message(Payload),
    /// With its number.
    Request(u64, Payload, Rc<Ticket>),
    /// With the request's number, and the memory it takes until the socket has it.
    Answer(u64, Payload, Reservation),
}

impl Parcel {
    fn payload(&self) -> &Payload {
        match self {
            Parcel::Message(payload)
            | Parcel::Request(_, payload, _)
            | Parcel::Answer(_, payload, _) => payload,
        }
    }

    fn cost_bytes(&self) -> usize {
        self.payload().size_bytes() + FRAME_OVERHEAD_BYTES
    }
}

/// Frames on their way into the socket.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) slices: Vec<Bytes>,
    /// Memory that comes back when they are sent.
    pub(crate) charges: Vec<Reservation>,
    /// One of them is neither ping nor pong.
    pub(crate) is_use: bool,
}

/// What the writer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    Frames,
    Nothing,
    /// Nothing is left and nothing more will come.
    Finished,
}

/// The queue of one connection.
pub(crate) struct Outbox {
    parcels: RefCell<VecDeque<Parcel>>,
    bytes: Cell<usize>,
    ping: Cell<Option<u64>>,
    pong: Cell<Option<u64>>,
    message_next: Cell<u64>,
    is_closed: Cell<bool>,
    frames_max: usize,
    bytes_max: Cell<usize>,
    is_unbounded: bool,
    /// Somebody was refused because it was full, and has not been told since that there is room.
    is_awaited: Cell<bool>,
    on_room: OnceCell<Box<dyn Fn()>>,
    /// Wakes the writer.
    pub(crate) writer: Signal,
}

impl Outbox {
    pub(crate) fn new(settings: &Settings) -> Rc<Outbox> {
        Rc::new(Outbox {
            parcels: RefCell::default(),
            bytes: Cell::new(0),
            ping: Cell::new(None),
            pong: Cell::new(None),
            message_next: Cell::new(1),
            is_closed: Cell::new(false),
            frames_max: settings.queue_frames_max,
            bytes_max: Cell::new(settings.queue_bytes_max),
            is_unbounded: settings.is_planted(PlantedFault::QueueUnbounded),
            is_awaited: Cell::new(false),
            on_room: OnceCell::new(),
            writer: Signal::default(),
        })
    }

    /// Makes it the queue of a stream: with a bound of its own, and `on_room` is called when a half of it is free again after
    /// somebody was refused. Once.
    pub(crate) fn bound(&self, bytes_max: usize, on_room: Box<dyn Fn()>) {
        self.bytes_max.set(bytes_max);
        let other = self.on_room.set(on_room);
        assert!(other.is_ok(), "one stream has it");
    }

    /// Has everything that waits leave by another queue, in which nothing is yet. None of it has a number.
    pub(crate) fn move_into(&self, other: &Outbox) {
        assert!(other.is_empty(), "what came before would leave after");
        other.parcels.swap(&self.parcels);
        other.bytes.set(self.bytes.take());
        other.is_awaited.set(self.is_awaited.take());
        other.writer.raise();
    }

    /// Puts a frame behind the others, or drops it and says why. A single one longer than all that may wait is taken when
    /// nothing else waits.
    pub(crate) fn push(&self, parcel: Parcel) -> Result<(), NotSent> {
        if self.is_closed.get() {
            return Err(NotSent::Unreachable);
        }
        let mut parcels = self.parcels.borrow_mut();
        let bytes = self.bytes.get() + parcel.cost_bytes();
        let has_room = parcels.is_empty()
            || (parcels.len() < self.frames_max && bytes <= self.bytes_max.get())
            || self.is_unbounded;
        // Answers are bounded by the memory that was reserved for them before their requests were read.
        if !has_room && !matches!(parcel, Parcel::Answer(..)) {
            self.is_awaited.set(true);
            return Err(NotSent::Full);
        }
        self.bytes.set(bytes);
        parcels.push_back(parcel);
        self.writer.raise();
        Ok(())
    }

    pub(crate) fn ping(&self, number: u64) {
        self.ping.set(Some(number));
        self.writer.raise();
    }

    pub(crate) fn pong(&self, number: u64) {
        self.pong.set(Some(number));
        self.writer.raise();
    }

    /// Moves frames into `batch`, up to about `bytes_max`, those of the keepers first.
    pub(crate) fn take(&self, batch: &mut Batch, bytes_max: usize) -> Took {
        for (kind, number) in [(Kind::Ping, &self.ping), (Kind::Pong, &self.pong)] {
            if let Some(number) = number.take() {
                batch.slices.push(header(kind, number, 0));
            }
        }
        let mut parcels = self.parcels.borrow_mut();
        let mut taken = 0;
        while taken < bytes_max
            && let Some(parcel) = parcels.pop_front()
        {
            let left = self.bytes.get().checked_sub(parcel.cost_bytes());
            self.bytes.set(left.expect("what waits is counted"));
            taken += self.load(parcel, batch);
        }
        self.tell_room(parcels.len());
        if !batch.slices.is_empty() {
            Took::Frames
        } else if self.is_closed.get() {
            assert!(parcels.is_empty(), "frames stay behind");
            Took::Finished
        } else {
            Took::Nothing
        }
    }

    fn tell_room(&self, frame_count: usize) {
        let has_room =
            frame_count <= self.frames_max / 2 && self.bytes.get() <= self.bytes_max.get() / 2;
        if has_room
            && self.is_awaited.take()
            && let Some(on_room) = self.on_room.get()
        {
            on_room();
        }
    }

    /// Puts one frame into `batch`; its bytes.
    fn load(&self, parcel: Parcel, batch: &mut Batch) -> usize {
        let (kind, number, payload) = match parcel {
            Parcel::Message(payload) => {
                let number = self.message_next.get();
                self.message_next.set(number + 1);
                (Kind::Message, number, payload)
            }
            Parcel::Request(number, payload, ticket) => {
                if !ticket.leaves() {
                    return 0;
                }
                (Kind::Request, number, payload)
            }
            Parcel::Answer(number, payload, charge) => {
                batch.charges.push(charge);
                (Kind::Answer, number, payload)
            }
        };
        let size = payload.size_bytes();
        batch.is_use = true;
        batch.slices.push(header(kind, number, size));
        batch.slices.extend(payload.into_pieces());
        size
    }

    /// Takes nothing more; the writer ends after what is there.
    pub(crate) fn finish(&self) {
        self.is_closed.set(true);
        self.writer.raise();
    }

    /// Takes nothing more and forgets what is there. Requests are ended by their table.
    pub(crate) fn abandon(&self) {
        self.parcels.borrow_mut().clear();
        self.bytes.set(0);
        self.is_awaited.set(false);
        self.ping.set(None);
        self.pong.set(None);
        self.finish();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parcels.borrow().is_empty()
    }

    /// What waits, in bytes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

fn header(kind: Kind, number: u64, size: usize) -> Bytes {
    let length = u32::try_from(size).expect("bounded by its purpose");
    let header = Header {
        length,
        kind,
        number,
    };
    header.encode()
}
