//! What a handler works with: the request's header, its clock, and the place of its answer.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use model::{ErrorCode, MonotonicTime};
use protocol::{Message, RequestHeader};
use runtime::Io;
use runtime::budget::Reservation;

use crate::connection::{Connection, ConnectionEnd};
use crate::memory::RequestCharge;
use crate::outbox::Answer;
use crate::request_clock::{RequestClock, Stage};
use crate::server::Server;

/// What a handler works with.
pub struct Context<'a, I: Io> {
    pub server: &'a Rc<Server<I>>,
    /// Where the request came from.
    pub connection: &'a Rc<Connection<I>>,
    pub header: RequestHeader,
    /// Bytes of its frame.
    pub frame_bytes: usize,
    /// The memory of its frame, if that was charged: whoever keeps the frame beyond the handler keeps this.
    pub charge: Option<Rc<RequestCharge>>,
    /// Where its time goes.
    pub clock: Cell<RequestClock>,
}

impl<I: Io> Context<'_, I> {
    pub fn version(&self) -> i16 {
        self.header.api_version
    }

    /// Sends an answer, behind those before it.
    pub fn answer<M: Message>(&self, response: &M) -> Result<(), ConnectionEnd> {
        let charge = self.server.memory.small_answers.charge(0);
        self.answer_charged(response, charge)
    }

    /// Sends an answer for which memory was charged. What it takes in the end is counted.
    pub fn answer_charged<M: Message>(
        &self,
        response: &M,
        mut charge: Reservation,
    ) -> Result<(), ConnectionEnd> {
        let frame = protocol::encode_response_message(
            self.header.correlation_id,
            self.header.api_version,
            response,
        )
        .map_err(|error| ConnectionEnd::Protocol(format!("answer not encodable: {error}")))?;
        charge.settle(frame.iter().map(Bytes::len).sum());
        let answer = Answer::Ready(frame, self.clock.get(), Some(charge));
        self.connection.outbox.push(answer);
        Ok(())
    }

    /// Ends a stage of the request now.
    pub fn end_stage(&self, stage: Stage) -> MonotonicTime {
        let now = self.server.io.now();
        self.on_clock(|clock| clock.end(stage, now));
        now
    }

    pub fn on_clock(&self, change: impl FnOnce(&mut RequestClock)) {
        let mut clock = self.clock.get();
        change(&mut clock);
        self.clock.set(clock);
    }

    /// Counts the errors among the codes of an answer.
    pub fn count_codes(&self, codes: impl IntoIterator<Item = i16>) {
        for code in codes {
            self.server.metrics.errors.count_code(code);
        }
    }

    /// The number of an error code for an answer; errors are counted.
    pub fn code(&self, error: ErrorCode) -> i16 {
        self.server.metrics.errors.count(error).code()
    }
}
