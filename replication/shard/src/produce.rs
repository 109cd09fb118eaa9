//! Produce requests: appended at once, answered when their records are acknowledged.
//!
//! The whole path from request to commit group is synchronous: order of arrival is order in the log. What could take
//! long was done before ([`crate::batch_check`]).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use model::MonotonicTime;
use runtime::Io;

use crate::append::{Accepted, Appender};
use crate::message::ReplyTo;
use crate::partition::AcknowledgeTarget;
use crate::peer::Peers;
use crate::purgatory::{Ending, Finished, OperationId, Purgatory};
use crate::request::{Acks, Produce, ProduceTimes, ProducedParts};

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
    pub(crate) fn produce(&self, request: Produce, reply: ReplyTo<Produce>) -> Staged {
        let begun_at = self.io.now();
        let count = request.partitions.len();
        let mut results = Vec::with_capacity(count);
        let mut accepted = Vec::with_capacity(count);
        for part in &request.partitions {
            match self.appender.append(&request, part) {
                Ok((result, wait)) => {
                    results.push(Ok(result));
                    accepted.push(wait);
                }
                Err(refused) => {
                    results.push(Err(refused));
                    accepted.push(None);
                }
            }
        }
        let refused = results.iter().any(Result::is_err);
        let staged_at = self.io.now();
        let times = ProduceTimes {
            begun_at,
            staged_at,
            answered_at: staged_at,
            ..ProduceTimes::default()
        };
        let staged = Staged { refused, times };
        if matches!(reply, ReplyTo::Nobody) {
            return staged;
        }
        // Another shard is told that records sent with acks=0 were appended: it holds their memory until then.
        if request.acks == Acks::None || accepted.iter().all(Option::is_none) {
            self.peers.answer(reply, ProducedParts { results, times });
            return staged;
        }
        let waiting = accepted.iter().map(Option::is_some).collect();
        let wait = Duration::from_millis(u64::from(request.timeout_ms)).min(ACKNOWLEDGE_WAIT_MAX);
        let deadline = staged_at.plus(wait);
        let operation = self
            .purgatory
            .borrow_mut()
            .insert(results, waiting, deadline, reply, times);
        for (index, wait) in accepted.into_iter().enumerate() {
            if let Some(Accepted { partition, until }) = wait {
                let target = AcknowledgeTarget::Operation(operation, index);
                partition.wait(request.acks, until, target);
            }
        }
        staged
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
