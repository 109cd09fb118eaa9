//! What the controller is asked, and how far each shard has applied its decisions.
//!
//! Lives on shard 0. Invariant: what a shard has applied only grows.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use metadata::controller::{
    AlterConfigsRequest, AlterReassignmentsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeletableTopic, ElectLeadersRequest,
};
use model::{Offset, ShardId};
use runtime::Signal;

use crate::message::ReplyTo;
use crate::request::{AllocateProducerIds, UnregisterBroker};

/// A question to the controller.
pub(crate) enum ControllerWork {
    CreateTopics(CreateTopicsRequest, ReplyTo<CreateTopicsRequest>),
    DeleteTopics(Vec<DeletableTopic>, ReplyTo<Vec<DeletableTopic>>),
    CreatePartitions(CreatePartitionsRequest, ReplyTo<CreatePartitionsRequest>),
    AlterConfigs(AlterConfigsRequest, ReplyTo<AlterConfigsRequest>),
    ElectLeaders(ElectLeadersRequest, ReplyTo<ElectLeadersRequest>),
    AlterReassignments(
        AlterReassignmentsRequest,
        ReplyTo<AlterReassignmentsRequest>,
    ),
    UnregisterBroker(UnregisterBroker, ReplyTo<UnregisterBroker>),
    AllocateProducerIds(ReplyTo<AllocateProducerIds>),
}

/// Work of the controller, bounded by the requests in flight, and what the shards have applied.
pub(crate) struct ControllerQueue {
    queue: RefCell<VecDeque<ControllerWork>>,
    arrived: Rc<Signal>,
    applied: RefCell<Vec<Offset>>,
    applied_changed: Rc<Signal>,
}

impl ControllerQueue {
    /// For a broker of `shard_count` shards.
    pub(crate) fn new(shard_count: u16) -> ControllerQueue {
        ControllerQueue {
            queue: RefCell::default(),
            arrived: Signal::new(),
            applied: RefCell::new(vec![Offset::ZERO; usize::from(shard_count)]),
            applied_changed: Signal::new(),
        }
    }

    /// Adds work behind that before it.
    pub(crate) fn enqueue(&self, work: ControllerWork) {
        self.queue.borrow_mut().push_back(work);
        self.arrived.raise();
    }

    /// The next work. One task takes it.
    pub(crate) async fn next(&self) -> ControllerWork {
        loop {
            if let Some(work) = self.queue.borrow_mut().pop_front() {
                return work;
            }
            self.arrived.wait().await;
        }
    }

    /// A shard has applied the records before `end`.
    pub(crate) fn applied(&self, shard: ShardId, end: Offset) {
        let mut applied = self.applied.borrow_mut();
        let known = &mut applied[usize::from(shard.0)];
        assert!(
            *known <= end,
            "shard {shard} went back from {known} to {end}"
        );
        *known = end;
        drop(applied);
        self.applied_changed.raise();
    }

    /// Waits until every shard has applied the records before `end`. One task waits.
    pub(crate) async fn all_applied(&self, end: Offset) {
        while self.applied.borrow().iter().any(|applied| *applied < end) {
            self.applied_changed.wait().await;
        }
    }
}
