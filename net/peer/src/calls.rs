//! The unanswered requests of one link.
//!
//! One shard. Bounded by `calls_max`. Invariant: every request that was opened ends once: with its answer, with its
//! deadline, or with its connection, and whoever asked is told whether it may have been carried out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use model::MonotonicTime;

use crate::frame::FrameError;
use crate::not_sent::NotSent;
use crate::purpose::Kind;
use crate::settings::{PlantedFault, Settings};
use crate::ticket::{CallError, Ticket};

pub(crate) struct Calls {
    open: RefCell<BTreeMap<u64, Rc<Ticket>>>,
    /// Numbers go on over the link's connections: an answer never meets a request of another life.
    last: Cell<u64>,
    open_max: usize,
    lost: CallError,
}

impl Calls {
    pub(crate) fn new(settings: &Settings) -> Calls {
        let is_told_lost = settings.is_planted(PlantedFault::LostIsNotCarriedOut);
        Calls {
            open: RefCell::default(),
            last: Cell::new(0),
            open_max: settings.calls_max,
            lost: if is_told_lost {
                CallError::NotTaken
            } else {
                CallError::Lost
            },
        }
    }

    /// Opens one. `None` if there are as many as there may be.
    pub(crate) fn open(&self, deadline: MonotonicTime) -> Option<(u64, Rc<Ticket>)> {
        let mut open = self.open.borrow_mut();
        if open.len() >= self.open_max {
            return None;
        }
        let number = self.last.get() + 1;
        self.last.set(number);
        let ticket = Ticket::new(deadline);
        open.insert(number, ticket.clone());
        Some((number, ticket))
    }

    /// It found no room in the queue.
    pub(crate) fn take_back(&self, number: u64, why: NotSent) {
        let ticket = self.open.borrow_mut().remove(&number);
        let ticket = ticket.expect("it was just opened");
        ticket.gave_out(why, self.lost);
    }

    /// An answer came. One that came too late is dropped.
    pub(crate) fn answered(
        &self,
        number: u64,
        answer: Result<Bytes, CallError>,
    ) -> Result<(), FrameError> {
        let last = self.last.get();
        if number == 0 || number > last {
            return Err(FrameError::Number {
                kind: Kind::Answer,
                last,
                found: number,
            });
        }
        if let Some(ticket) = self.open.borrow_mut().remove(&number) {
            ticket.answered(answer);
        }
        Ok(())
    }

    /// Ends those whose time is over.
    pub(crate) fn expire(&self, now: MonotonicTime) {
        self.end(
            |ticket| ticket.deadline <= now,
            NotSent::TimedOut,
            CallError::TimedOut,
        );
    }

    /// The connection ended: nothing of it will be answered.
    pub(crate) fn connection_ended(&self) {
        self.end(|_| true, NotSent::Unreachable, self.lost);
    }

    fn end(&self, which: impl Fn(&Ticket) -> bool, unsent: NotSent, sent: CallError) {
        self.open.borrow_mut().retain(|_, ticket| {
            let ends = which(ticket);
            if ends {
                ticket.gave_out(unsent, sent);
            }
            !ends
        });
    }
}
