//! Answers of one connection, in request order.
//!
//! The reader task puts a place into the queue for every request it takes from the wire; the writer task sends what
//! is complete at the front. Bounded by requests and by unsent bytes ([`OutboxLimits`]).
//! Invariant: an answer leaves only after every answer before it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use runtime::Signal;
use runtime::budget::Reservation;

use crate::metrics::ErrorCounters;
use crate::pending::{PendingPost, PendingProduce};
use crate::request_clock::RequestClock;

/// What one connection may owe.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Unanswered requests (`ringlog.connection.requests.max`). Kafka's clients keep 5; load tools keep more.
    pub requests_max: usize,
    /// Bytes of answers that may wait for a slow reader before its next request is looked at
    /// (`ringlog.connection.bytes.max`).
    pub bytes_max: usize,
}

/// The place of one answer.
pub enum Answer {
    /// Encoded, frame length included.
    Ready(Vec<Bytes>, RequestClock, Option<Reservation>),
    /// Complete when its records are acknowledged.
    Produce(PendingProduce),
    /// Nothing to send (`acks=0`): the place of records on their way to another shard, so that they count as owed.
    Posted(PendingPost),
}

/// Answers on their way into the socket.
#[derive(Default)]
pub struct SendBatch {
    pub slices: Vec<Bytes>,
    /// One per answer.
    pub clocks: Vec<RequestClock>,
    /// The memory they take.
    pub charges: Vec<Reservation>,
}

/// What the writer found at the front of the queue.
pub enum Front {
    Send,
    /// Records sent with acks=0 were refused: the connection ends, so that the client looks again.
    Refused,
    /// The next answer is not complete, or there is none.
    Wait,
    /// Nothing is left and nothing more will come.
    Finished,
}

/// The queue between a connection's reader and its writer.
pub struct Outbox {
    answers: RefCell<VecDeque<Answer>>,
    unsent_bytes: Cell<usize>,
    limits: OutboxLimits,
    closed: Cell<bool>,
    /// Wakes the writer; shared by the pending answers.
    pub writer: Rc<Signal>,
    /// Wakes the reader when there is room again.
    pub reader: Rc<Signal>,
}

impl Outbox {
    pub fn new(limits: OutboxLimits) -> Rc<Outbox> {
        Rc::new(Outbox {
            limits,
            answers: RefCell::default(),
            unsent_bytes: Cell::new(0),
            closed: Cell::new(false),
            writer: Signal::new(),
            reader: Signal::new(),
        })
    }

    /// Puts an answer behind those before it.
    pub fn push(&self, answer: Answer) {
        if let Answer::Ready(slices, ..) = &answer {
            let bytes: usize = slices.iter().map(Bytes::len).sum();
            self.unsent_bytes.set(self.unsent_bytes.get() + bytes);
        }
        self.answers.borrow_mut().push_back(answer);
        self.writer.raise();
    }

    /// Waits until another request may be taken from the wire.
    pub async fn room(&self) {
        while !self.closed.get() && !self.has_room() {
            self.reader.wait().await;
        }
    }

    /// Whether one more answer may be owed.
    pub fn has_room(&self) -> bool {
        self.answers.borrow().len() < self.limits.requests_max
            && self.unsent_bytes.get() < self.limits.bytes_max
    }

    /// Waits until the socket has taken every answer that was encoded.
    pub async fn sent_all(&self) {
        while !self.closed.get() && self.unsent_bytes.get() > 0 {
            self.reader.wait().await;
        }
    }

    /// Whether no answer is owed.
    pub fn is_empty(&self) -> bool {
        self.answers.borrow().is_empty() && self.unsent_bytes.get() == 0
    }

    /// No further request will be taken. The writer ends after the last answer.
    pub fn close(&self) {
        self.closed.set(true);
        self.writer.raise();
        self.reader.raise();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The writer cannot send any more: forgets all answers.
    pub fn abandon(&self) {
        self.answers.borrow_mut().clear();
        self.unsent_bytes.set(0);
        self.close();
    }

    /// Moves complete answers from the front into `batch`, up to about `bytes_max`.
    pub fn collect(
        &self,
        batch: &mut SendBatch,
        errors: &ErrorCounters,
        bytes_max: usize,
    ) -> Front {
        let mut answers = self.answers.borrow_mut();
        let mut bytes = 0;
        while bytes < bytes_max {
            match answers.front() {
                Some(Answer::Ready(..)) => {}
                Some(Answer::Produce(pending)) if pending.is_complete() => {}
                Some(Answer::Posted(pending)) if pending.is_complete() => {}
                _ => break,
            }
            match answers.pop_front().expect("looked at") {
                Answer::Ready(ready, clock, charge) => {
                    batch.clocks.push(clock);
                    batch.charges.extend(charge);
                    bytes += ready.iter().map(Bytes::len).sum::<usize>();
                    batch.slices.extend(ready);
                }
                Answer::Posted(pending) => {
                    // The reader may wait for a place.
                    self.reader.raise();
                    if pending.is_refused(errors) {
                        return Front::Refused;
                    }
                }
                Answer::Produce(pending) => {
                    let (encoded, clock) = pending.encode(errors);
                    batch.clocks.push(clock);
                    let size: usize = encoded.iter().map(Bytes::len).sum();
                    self.unsent_bytes.set(self.unsent_bytes.get() + size);
                    bytes += size;
                    batch.slices.extend(encoded);
                }
            }
        }
        if !batch.slices.is_empty() {
            Front::Send
        } else if answers.is_empty() && self.closed.get() {
            Front::Finished
        } else {
            Front::Wait
        }
    }

    /// `bytes` of answers are on the wire.
    pub fn sent(&self, bytes: usize) {
        let left = self.unsent_bytes.get().checked_sub(bytes);
        self.unsent_bytes
            .set(left.expect("answers are counted before they are sent"));
        self.reader.raise();
    }
}
