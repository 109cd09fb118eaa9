//! What the replicas of this shard's partitions want done that a partition cannot do itself, until it is taken.
//!
//! Owned by the shard. Partitions put in, each once per kind of work; the streams, the cutter of logs, the tick, and whoever
//! asks the controller take out. Bound: one entry of each kind per partition of the shard that other brokers have replicas
//! of. A partition of one replica never comes here.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use model::{BrokerId, LeaderEpoch, MonotonicTime, Offset, TopicPartition};
use replica::{IsrProposal, Subscription};
use runtime::Signal;

/// How a log has to be cut before it follows its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Truncate(Offset),
    /// All of it goes; it begins here.
    StartOver(Offset),
}

/// Work for the streams.
#[derive(Debug, Default)]
pub(crate) struct StreamWork {
    /// Led here: the log has grown, or a follower was accepted.
    pub(crate) appended: BTreeSet<TopicPartition>,
    /// Followed here, by which leader is to be asked.
    pub(crate) subscribes: BTreeMap<TopicPartition, (BrokerId, Subscription)>,
    /// Followed here: durable up to there, in this leader epoch.
    pub(crate) acknowledges: BTreeMap<TopicPartition, (LeaderEpoch, Offset)>,
}

impl StreamWork {
    pub(crate) fn is_empty(&self) -> bool {
        self.appended.is_empty() && self.subscribes.is_empty() && self.acknowledges.is_empty()
    }
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct ReplicaEvents {
    work: RefCell<StreamWork>,
    has_appended: Cell<bool>,
    /// Wakes whoever sends.
    pub(crate) stream_wanted: Rc<Signal>,
    /// Led here: the high watermark or the log's start has moved. Told with the next records, or at the next tick.
    advanced: RefCell<BTreeSet<TopicPartition>>,
    cuts: RefCell<BTreeMap<TopicPartition, Cut>>,
    /// Logs that are to be cut, or are being cut.
    cutting: RefCell<BTreeSet<TopicPartition>>,
    pub(crate) cut_wanted: Rc<Signal>,
    proposals: RefCell<BTreeMap<TopicPartition, IsrProposal>>,
    pub(crate) proposal_wanted: Rc<Signal>,
    timeouts: RefCell<BTreeSet<(MonotonicTime, TopicPartition)>>,
}

impl ReplicaEvents {
    /// A led log has grown. Its followers are told when the commit group is sealed.
    pub(crate) fn appended(&self, id: TopicPartition) {
        self.work.borrow_mut().appended.insert(id);
        self.has_appended.set(true);
    }

    /// A commit group was sealed: what is in it can be read.
    pub(crate) fn sealed(&self) {
        if self.has_appended.get() {
            self.stream_wanted.raise();
        }
    }

    /// A follower was accepted: it is to get what there is.
    pub(crate) fn accepted(&self, id: TopicPartition) {
        self.appended(id);
        self.stream_wanted.raise();
    }

    pub(crate) fn advanced(&self, id: TopicPartition) {
        self.advanced.borrow_mut().insert(id);
    }

    pub(crate) fn take_advanced(&self) -> BTreeSet<TopicPartition> {
        self.advanced.take()
    }

    pub(crate) fn subscribe(
        &self,
        id: TopicPartition,
        leader: BrokerId,
        subscription: Subscription,
    ) {
        let mut work = self.work.borrow_mut();
        work.subscribes.insert(id, (leader, subscription));
        self.stream_wanted.raise();
    }

    pub(crate) fn acknowledge(&self, id: TopicPartition, epoch: LeaderEpoch, end: Offset) {
        let mut work = self.work.borrow_mut();
        work.acknowledges.insert(id, (epoch, end));
        self.stream_wanted.raise();
    }

    pub(crate) fn take_work(&self) -> StreamWork {
        self.has_appended.set(false);
        self.work.take()
    }

    /// Asks for a cut. There is none of the log under way.
    pub(crate) fn cut(&self, id: TopicPartition, cut: Cut) {
        let is_first = self.cutting.borrow_mut().insert(id);
        assert!(is_first, "the log of {id} is to be cut twice");
        self.cuts.borrow_mut().insert(id, cut);
        self.cut_wanted.raise();
    }

    /// A cut has ended.
    pub(crate) fn cut_done(&self, id: TopicPartition) {
        assert!(self.cutting.borrow_mut().remove(&id), "{id} was to be cut");
    }

    /// Whether the log is to be cut, or is being cut.
    pub(crate) fn is_cutting(&self, id: TopicPartition) -> bool {
        self.cutting.borrow().contains(&id)
    }

    pub(crate) fn take_cuts(&self) -> BTreeMap<TopicPartition, Cut> {
        self.cuts.take()
    }

    /// The log goes: a cut of it that nobody has begun is void. Another log of that name may be here before it is begun.
    pub(crate) fn log_gone(&self, id: TopicPartition) {
        if self.cuts.borrow_mut().remove(&id).is_some() {
            self.cut_done(id);
        }
    }

    /// A newer proposal replaces one that was not taken.
    pub(crate) fn propose(&self, id: TopicPartition, proposal: IsrProposal) {
        self.proposals.borrow_mut().insert(id, proposal);
        self.proposal_wanted.raise();
    }

    pub(crate) fn take_proposals(&self) -> BTreeMap<TopicPartition, IsrProposal> {
        self.proposals.take()
    }

    /// Moves the time at which a led partition is to be looked at.
    pub(crate) fn schedule(
        &self,
        id: TopicPartition,
        before: Option<MonotonicTime>,
        after: Option<MonotonicTime>,
    ) {
        let mut timeouts = self.timeouts.borrow_mut();
        if let Some(before) = before {
            timeouts.remove(&(before, id));
        }
        if let Some(after) = after {
            timeouts.insert((after, id));
        }
    }

    /// Partitions whose time has come.
    pub(crate) fn take_due(&self, now: MonotonicTime) -> Vec<TopicPartition> {
        let mut timeouts = self.timeouts.borrow_mut();
        let mut due = Vec::new();
        while timeouts.first().is_some_and(|(at, _)| *at <= now) {
            due.extend(timeouts.pop_first().map(|(_, id)| id));
        }
        due
    }

    /// The partition has another role, or none: what it wanted is void, but for a cut, which is carried out.
    pub(crate) fn forget(&self, id: TopicPartition) {
        let mut work = self.work.borrow_mut();
        work.appended.remove(&id);
        work.subscribes.remove(&id);
        work.acknowledges.remove(&id);
        drop(work);
        self.advanced.borrow_mut().remove(&id);
        self.proposals.borrow_mut().remove(&id);
    }
}
