//! Produce requests: appended part by part, answered when their records are acknowledged.
//!
//! A part waits while the journal or the memory behind it is full. From there to the commit group everything is
//! synchronous, and whoever keeps an order among requests awaits one before the next: order of arrival is order in the
//! log. What could take long was done before ([`crate::batch_check`]).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use model::MonotonicTime;
use runtime::Io;

use crate::append::{Accepted, Admission, Appender};
use crate::message::ReplyTo;
use crate::partition::AcknowledgeTarget;
use crate::peer::Peers;
use crate::purgatory::{Ending, Finished, OperationId, Purgatory};
use crate::request::{Acks, Produce, ProduceTimes};

/// A wait for acknowledgement never lasts longer, whatever the request says.
const ACKNOWLEDGE_WAIT_MAX: Duration = Duration::from_secs(300);

/// What became of a produce request at once.
#[derive(Clone, Copy, Debug)]
pub struct Staged {
    /// A partition refused its records.
    pub refused: bool,
    /// When the shard began with it and when its records were in the commit group.
    pub times: ProduceTimes,
}

/// The produce requests of one shard.
pub(crate) struct Produces<I: Io> {
    io: I,
    appender: Rc<Appender<I>>,
    peers: Rc<Peers>,
    purgatory: RefCell<Purgatory>,
}

impl<I: Io> Produces<I> {
    pub(crate) fn new(io: I, appender: Rc<Appender<I>>, peers: Rc<Peers>) -> Produces<I> {
        Produces {
            io,
            appender,
            peers,
            purgatory: RefCell::default(),
        }
    }

    /// Appends to partitions of this shard. The answer goes to `reply` when it is due.
    pub(crate) async fn produce(&self, request: Produce, reply: ReplyTo<Produce>) -> Staged {
        let begun_at = self.io.now();
        let part_count = request.partitions.len();
        let operation = self.purgatory.borrow_mut().open(part_count, reply);
        let mut admission = Admission::Waits;
        let mut refused = false;
        for (index, part) in request.partitions.iter().enumerate() {
            let appended = self.appender.append(&request, part, &mut admission).await;
            refused |= appended.is_err();
            // Another shard is told that records sent with acks=0 were appended: it holds their memory until then.
            let (result, wait) = match appended {
                Ok((result, wait)) => (Ok(result), wait.filter(|_| request.acks != Acks::None)),
                Err(refused) => (Err(refused), None),
            };
            let mut purgatory = self.purgatory.borrow_mut();
            purgatory.add(operation, result, wait.is_some());
            if let Some(Accepted { partition, until }) = wait {
                let target = AcknowledgeTarget::Operation(operation, index);
                partition.wait(request.acks, until, target);
            }
        }
        let staged_at = self.io.now();
        let times = ProduceTimes {
            begun_at,
            staged_at,
            ..ProduceTimes::default()
        };
        let wait = Duration::from_millis(u64::from(request.timeout_ms)).min(ACKNOWLEDGE_WAIT_MAX);
        let deadline = staged_at.plus(wait);
        let finished = self
            .purgatory
            .borrow_mut()
            .close(operation, times, deadline);
        if let Some(finished) = finished {
            self.finish(finished);
        }
        Staged { refused, times }
    }

    /// The records of one partition of an operation are acknowledged, or never will be.
    pub(crate) fn acknowledge(&self, id: OperationId, part: usize, ending: Ending) {
        let finished = self.purgatory.borrow_mut().acknowledge(id, part, ending);
        if let Some(finished) = finished {
            self.finish(finished);
        }
    }

    /// Answers the requests whose time is over.
    pub(crate) fn expire(&self, now: MonotonicTime) {
        let expired = self.purgatory.borrow_mut().expire(now);
        for finished in expired {
            self.finish(finished);
        }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.purgatory.borrow().len()
    }

    fn finish(&self, finished: Finished) {
        self.peers.answer(finished.reply, finished.answer);
    }
}
