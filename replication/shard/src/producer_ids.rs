//! Producer ids that this shard may hand out: a block at a time from the controller, as Kafka does.
//!
//! Invariant: an id is handed out once in the life of the cluster; ids of a block that a crash left unused are lost.

use std::cell::Cell;
use std::rc::Rc;

use model::{ErrorCode, ProducerId, ShardId};
use runtime::Io;

use crate::controller::{ControllerReply, ControllerRequest};
use crate::message::{ShardReply, ShardRequest};
use crate::shard::Shard;

/// The rest of the block that this shard was given.
#[derive(Default)]
pub struct ProducerIds {
    next: Cell<i64>,
    end: Cell<i64>,
}

impl ProducerIds {
    fn take(&self) -> Option<ProducerId> {
        let id = self.next.get();
        (id < self.end.get()).then(|| {
            self.next.set(id + 1);
            ProducerId(id)
        })
    }

    fn refill(&self, first: ProducerId, count: i64) {
        self.next.set(first.0);
        self.end.set(first.0 + count);
    }
}

impl<I: Io> Shard<I> {
    /// An id that nobody has had before.
    pub async fn new_producer_id(self: &Rc<Self>) -> Result<ProducerId, ErrorCode> {
        loop {
            if let Some(id) = self.producer_ids.take() {
                return Ok(id);
            }
            let request = ShardRequest::Controller(ControllerRequest::AllocateProducerIds);
            match self.call(ShardId(0), request).await {
                ShardReply::Controller(Ok(ControllerReply::ProducerIds { first, count })) => {
                    self.producer_ids.refill(first, count);
                }
                ShardReply::Controller(Ok(ControllerReply::Refused(error))) => {
                    return Err(error.code);
                }
                ShardReply::Controller(Err(error)) => return Err(error),
                other => unreachable!("the controller answered {other:?}"),
            }
        }
    }
}
