//! Serving requests: each is handed to a handler, which answers when it can and in any order.
//!
//! One shard. Bounded by `served_max` requests of one connection and by `served_bytes_max` over all: the memory of a request
//! and of the longest answer it may get is reserved before the handler sees it, and held until the answer is in the socket.
//! Invariant: every request that a handler was given is answered once; one whose [`Reply`] is dropped is given up, and the
//! other side is told that it may have been carried out.

use std::rc::Rc;

use bytes::Bytes;
use runtime::{Budget, Io, Reservation};

use crate::call_codec::{self, NoAnswer};
use crate::connection::{End, Inbound, Receiver, Remote};
use crate::outbox::{FRAME_OVERHEAD_BYTES, Outbox, Parcel};
use crate::payload::Payload;
use crate::purpose::{CALL_HEAD_BYTES_MAX, Kind};
use crate::service::{Service, Serving};
use crate::settings::Settings;

/// Answers requests.
pub trait RequestHandler {
    /// Takes a request. It must not wait: what takes time gives `reply` to whoever does it, who answers or drops it in a
    /// time that is bounded, because it holds memory that others wait for.
    fn handle(&self, from: Remote, request: Bytes, reply: Reply);
}

/// The right and the duty to answer one request.
#[must_use = "a request whose reply is dropped is given up"]
pub struct Reply {
    outbox: Rc<Outbox>,
    number: u64,
    body_bytes_max: usize,
    /// Taken when it is answered.
    room: Option<Reservation>,
    _place: Reservation,
}

impl Reply {
    /// Answers. A longer answer than its purpose allows is given up instead, and false comes back.
    pub fn answer(mut self, body: impl Into<Payload>) -> bool {
        let body = body.into();
        let fits = body.size_bytes() <= self.body_bytes_max;
        if fits {
            self.send(Ok(body));
        }
        fits
    }

    /// Says that it was not taken: it has had no effect and may be sent again.
    pub fn refuse(mut self) {
        self.send(Err(NoAnswer::NotTaken));
    }

    fn send(&mut self, answer: Result<Payload, NoAnswer>) {
        let mut room = self.room.take().expect("a request is answered once");
        let payload = call_codec::answer(answer);
        room.shrink(payload.size_bytes() + FRAME_OVERHEAD_BYTES);
        let answer = Parcel::Answer(self.number, payload, room);
        if let Err(why) = self.outbox.push(answer) {
            tracing::debug!(%why, "an answer has no connection any more");
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.room.is_some() {
            self.send(Err(NoAnswer::GivenUp));
        }
    }
}

/// Serves the requests of one purpose.
pub(crate) struct Requests<H> {
    handler: H,
    bytes: Rc<Budget>,
    served_max: usize,
}

impl<H: RequestHandler + 'static> Requests<H> {
    pub(crate) fn new(handler: H, settings: &Settings) -> Rc<Requests<H>> {
        Rc::new(Requests {
            handler,
            bytes: Budget::new(settings.served_bytes_max),
            served_max: settings.served_max,
        })
    }
}

impl<I: Io, H: RequestHandler + 'static> Service<I> for Requests<H> {
    fn serve(self: Rc<Self>, receiver: Receiver<I>) -> Serving {
        Box::pin(read(self, receiver))
    }
}

async fn read<I: Io, H: RequestHandler>(
    requests: Rc<Requests<H>>,
    mut receiver: Receiver<I>,
) -> End {
    let from = receiver.remote();
    let answer_bytes_max = from.purpose.payload_bytes_max(Kind::Answer);
    let answer_bytes_max = answer_bytes_max.expect("a purpose with requests has answers");
    let places = Budget::new(requests.served_max);
    loop {
        let (number, payload) = match receiver.next().await {
            Ok(Inbound::Request(number, payload)) => (number, payload),
            Ok(other) => return other.misplaced(from.purpose),
            Err(end) => return end,
        };
        let body = match call_codec::read_request(&payload) {
            Ok(body) => body,
            Err(error) => return error.into(),
        };
        let cost = payload.len() + answer_bytes_max + FRAME_OVERHEAD_BYTES;
        let place = match receiver.room(places.reserve(1)).await {
            Ok(place) => place,
            Err(end) => return end,
        };
        let room = match receiver.room(requests.bytes.reserve(cost)).await {
            Ok(room) => room,
            Err(end) => return end,
        };
        let reply = Reply {
            outbox: receiver.connection().outbox.clone(),
            number,
            body_bytes_max: answer_bytes_max - CALL_HEAD_BYTES_MAX,
            room: Some(room),
            _place: place,
        };
        requests.handler.handle(from, body, reply);
    }
}
