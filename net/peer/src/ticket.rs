//! One request on its way: whether it has left, and where its answer goes.
//!
//! Owned by the table of unanswered requests; the queue of frames holds it, too, until the request leaves.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use model::MonotonicTime;
use runtime::Oneshot;

use crate::not_sent::NotSent;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It never left.
    #[error("it was not sent: {0}")]
    NotSent(#[from] NotSent),
    /// The other side says so.
    #[error("the other side did not take it")]
    NotTaken,
    /// It left, and then the connection ended.
    #[error("the connection ended before its answer")]
    Lost,
    /// It left, and no answer came in time.
    #[error("no answer came in time")]
    TimedOut,
    /// The other side took it and has no answer for it.
    #[error("the other side gave it up")]
    GivenUp,
}

impl CallError {
    /// Whether the request may have had its effect all the same: if so, repeating it may do it twice.
    pub fn may_have_been_carried_out(self) -> bool {
        match self {
            CallError::NotSent(_) | CallError::NotTaken => false,
            CallError::Lost | CallError::TimedOut | CallError::GivenUp => true,
        }
    }
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    Sent,
    Done,
}

/// A request without an answer.
pub(crate) struct Ticket {
    stage: Cell<Stage>,
    pub(crate) deadline: MonotonicTime,
    answer: Rc<Oneshot<Result<Bytes, CallError>>>,
}

impl Ticket {
    pub(crate) fn new(deadline: MonotonicTime) -> Rc<Ticket> {
        Rc::new(Ticket {
            stage: Cell::new(Stage::Queued),
            deadline,
            answer: Oneshot::new(),
        })
    }

    /// It goes to the socket now. False if nobody waits for its answer any more: then it stays here.
    pub(crate) fn leaves(&self) -> bool {
        if self.stage.get() == Stage::Done {
            return false;
        }
        assert_eq!(self.stage.get(), Stage::Queued, "a request leaves once");
        self.stage.set(Stage::Sent);
        true
    }

    pub(crate) fn answered(&self, answer: Result<Bytes, CallError>) {
        assert_ne!(self.stage.get(), Stage::Done, "a request ends once");
        self.stage.set(Stage::Done);
        self.answer.set(answer);
    }

    /// Ends it without an answer: `unsent` if it is still here, else `sent`.
    pub(crate) fn gave_out(&self, unsent: NotSent, sent: CallError) {
        let error = match self.stage.get() {
            Stage::Queued => CallError::NotSent(unsent),
            Stage::Sent => sent,
            Stage::Done => unreachable!("a request ends once"),
        };
        self.answered(Err(error));
    }

    /// Waits for the end. The deadline's keeper makes sure that there is one.
    pub(crate) async fn wait(&self) -> Result<Bytes, CallError> {
        self.answer.take().await
    }
}
