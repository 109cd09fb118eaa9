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

use crate::handlers::produce::PendingProduce;
use crate::metrics::ErrorCounters;
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
    Ready(Vec<Bytes>, RequestClock),
    /// Complete when its records are acknowledged.
    Produce(PendingProduce),
}

/// What the writer found at the front of the queue.
pub enum Front {
    /// Answers to send.
    Send,
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
    /// An empty queue.
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
        if let Answer::Ready(slices, _) = &answer {
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

    /// Whether [`Outbox::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// The writer cannot send any more: forgets all answers.
    pub fn abandon(&self) {
        self.answers.borrow_mut().clear();
        self.unsent_bytes.set(0);
        self.close();
    }

    /// Moves complete answers from the front into `slices` and their clocks into `clocks`, up to about `bytes_max`.
    pub fn collect(
        &self,
        slices: &mut Vec<Bytes>,
        clocks: &mut Vec<RequestClock>,
        errors: &ErrorCounters,
        bytes_max: usize,
    ) -> Front {
        let mut answers = self.answers.borrow_mut();
        let mut bytes = 0;
        while bytes < bytes_max {
            match answers.front() {
                Some(Answer::Ready(..)) => {}
                Some(Answer::Produce(pending)) if pending.is_complete() => {}
                _ => break,
            }
            match answers.pop_front().expect("looked at") {
                Answer::Ready(ready, clock) => {
                    clocks.push(clock);
                    bytes += ready.iter().map(Bytes::len).sum::<usize>();
                    slices.extend(ready);
                }
                Answer::Produce(pending) => {
                    let (encoded, clock) = pending.encode(errors);
                    clocks.push(clock);
                    let size: usize = encoded.iter().map(Bytes::len).sum();
                    self.unsent_bytes.set(self.unsent_bytes.get() + size);
                    bytes += size;
                    slices.extend(encoded);
                }
            }
        }
        if !slices.is_empty() {
            Front::Send
        } else if answers.is_empty() && self.closed.get() {
            Front::Finished
        } else {
            Front::Wait
        }
    }

    /// `bytes` of answers are on the wire.
    pub fn sent(&self, bytes: usize) {
        self.unsent_bytes
            .set(self.unsent_bytes.get().saturating_sub(bytes));
        self.reader.raise();
    }
}
