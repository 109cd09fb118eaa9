//! What the controller is asked, and how far each shard has applied its decisions.
//!
//! Lives on shard 0. Invariant: what a shard has applied only grows.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use model::{MonotonicTime, Offset, ShardId};
use runtime::{Oneshot, Signal};

use crate::controller_call::{ControllerAnswer, ControllerCall, ControllerRequest};
use crate::refusal::MetadataRefusal;
use crate::work_queue::WorkQueue;

/// What became of a question, where it was asked.
pub(crate) enum Decided {
    /// Up to this end of the metadata log the decision can be seen.
    Answer(Offset, ControllerAnswer),
    /// This broker is not the controller.
    NotHere(ControllerRequest),
}

/// A question to the controller.
pub(crate) struct ControllerWork {
    pub(crate) request: ControllerRequest,
    pub(crate) deliver: Box<dyn FnOnce(Decided)>,
}

/// A question that this broker does not decide, and who waits for its answer.
pub(crate) struct Question {
    pub(crate) request: ControllerRequest,
    pub(crate) deliver: Box<dyn FnOnce(ControllerAnswer)>,
    pub(crate) deadline: MonotonicTime,
}

/// What the controller does next.
pub(crate) enum Next {
    Work(ControllerWork),
    /// Brokers are to be fenced, or not any more.
    Judge,
    /// Replicas or leaders may be to move.
    Balance,
}

/// How long a question is asked, over all controllers.
const PATIENCE: Duration = Duration::from_secs(15);

/// Work of the controller, bounded by the requests in flight, and what the shards have applied.
pub(crate) struct ControllerQueue {
    queue: RefCell<VecDeque<ControllerWork>>,
    judges: Cell<bool>,
    balances: Cell<bool>,
    arrived: Rc<Signal>,
    /// Questions that another broker is to decide.
    questions: Rc<WorkQueue<Question>>,
    /// Of shards that have an image.
    applied: RefCell<Vec<Option<Offset>>>,
    waiting: RefCell<Vec<(Offset, Rc<Oneshot<()>>)>>,
    /// Shards that serve.
    started: Cell<u16>,
    started_changed: Rc<Signal>,
}

impl ControllerQueue {
    /// For a broker of `shard_count` shards.
    pub(crate) fn new(shard_count: u16) -> ControllerQueue {
        ControllerQueue {
            queue: RefCell::default(),
            judges: Cell::new(false),
            balances: Cell::new(false),
            arrived: Signal::new(),
            questions: WorkQueue::new(),
            applied: RefCell::new(vec![None; usize::from(shard_count)]),
            waiting: RefCell::default(),
            started: Cell::new(0),
            started_changed: Signal::new(),
        }
    }

    /// Adds work behind that before it.
    pub(crate) fn enqueue(&self, work: ControllerWork) {
        self.queue.borrow_mut().push_back(work);
        self.arrived.raise();
    }

    /// Has the controller decide a question, whoever that is.
    pub(crate) fn ask<C: ControllerCall>(
        &self,
        now: MonotonicTime,
        call: C,
        deliver: impl FnOnce(Result<C::Decided, MetadataRefusal>) + 'static,
    ) {
        let deliver = |answer| deliver(C::decided(answer));
        self.ask_again(Question {
            request: call.into_request(),
            deliver: Box::new(deliver),
            deadline: now.plus(PATIENCE),
        });
    }

    /// The same of a question that another broker was to decide.
    pub(crate) fn ask_again(&self, question: Question) {
        let Question {
            request,
            deliver,
            deadline,
        } = question;
        let questions = self.questions.clone();
        let deliver = move |decided| match decided {
            Decided::Answer(_, answer) => deliver(answer),
            Decided::NotHere(request) => questions.push(Question {
                request,
                deliver,
                deadline,
            }),
        };
        self.enqueue(ControllerWork {
            request,
            deliver: Box::new(deliver),
        });
    }

    /// The next question that another broker is to decide. `worker` is the calling task's own signal.
    pub(crate) async fn next_question(&self, worker: &Rc<Signal>) -> Question {
        self.questions.next(worker).await
    }

    /// There may be verdicts about brokers. They come before what waits: others wait for new leaders.
    pub(crate) fn judge_if(&self, has_verdicts: bool) {
        if has_verdicts {
            self.judges.set(true);
            self.arrived.raise();
        }
    }

    /// Something may be to move. It comes when nothing else waits.
    pub(crate) fn balance_if(&self, is_due: bool) {
        if is_due {
            self.balances.set(true);
            self.arrived.raise();
        }
    }

    /// What comes next. One task takes it.
    pub(crate) async fn next(&self) -> Next {
        loop {
            if self.judges.take() {
                return Next::Judge;
            }
            let next = self.queue.borrow_mut().pop_front();
            if let Some(work) = next {
                return Next::Work(work);
            }
            if self.balances.take() {
                return Next::Balance;
            }
            self.arrived.wait().await;
        }
    }

    /// A shard begins with an image up to `end`: it is told from now on.
    pub(crate) fn begins(&self, shard: ShardId, end: Offset) {
        let begun = self.applied.borrow_mut()[usize::from(shard.0)].replace(end);
        assert!(begun.is_none(), "shard {shard} begins twice");
    }

    /// Whether it is told what is decided.
    pub(crate) fn is_told(&self, shard: ShardId) -> bool {
        self.applied.borrow()[usize::from(shard.0)].is_some()
    }

    /// A shard serves.
    pub(crate) fn shard_started(&self) {
        self.started.set(self.started.get() + 1);
        self.started_changed.raise();
    }

    /// Waits until this many shards serve. One task waits.
    pub(crate) async fn wait_started(&self, count: u16) {
        while self.started.get() < count {
            self.started_changed.wait().await;
        }
    }

    /// A shard has applied the records before `end`.
    pub(crate) fn applied(&self, shard: ShardId, end: Offset) {
        let mut applied = self.applied.borrow_mut();
        let known = applied[usize::from(shard.0)].as_mut();
        let known = known.expect("a shard applies what it is told");
        assert!(
            *known <= end,
            "shard {shard} went back from {known} to {end}"
        );
        *known = end;
        drop(applied);
        let all = self.all_end();
        self.waiting.borrow_mut().retain(|(end, done)| {
            let is_there = *end <= all;
            if is_there {
                done.set(());
            }
            !is_there
        });
    }

    /// Whether every shard has applied the records before `end`.
    pub(crate) fn have_applied(&self, end: Offset) -> bool {
        self.all_end() >= end
    }

    /// Every shard that has an image has applied the records before this.
    fn all_end(&self) -> Offset {
        let applied = self.applied.borrow();
        let ends = applied.iter().flatten().copied();
        ends.min().unwrap_or(Offset::ZERO)
    }

    /// Waits until every shard has applied the records before `end`.
    pub(crate) async fn all_applied(&self, end: Offset) {
        if self.have_applied(end) {
            return;
        }
        let done = Oneshot::new();
        self.waiting.borrow_mut().push((end, done.clone()));
        done.take().await;
    }
}
