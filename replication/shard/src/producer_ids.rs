//! Producer ids that this shard may hand out: a block at a time from the controller, as Kafka does.
//!
//! Invariant: an id is handed out once in the life of the cluster; ids of a block that a crash left unused are lost.

use std::cell::Cell;

use model::ProducerId;

use crate::request::AllocatedIds;

/// The rest of the block that this shard was given.
#[derive(Default)]
pub(crate) struct ProducerIds {
    next: Cell<i64>,
    end: Cell<i64>,
}

impl ProducerIds {
    /// The next id, if the block is not used up.
    pub(crate) fn take(&self) -> Option<ProducerId> {
        let id = self.next.get();
        (id < self.end.get()).then(|| {
            self.next.set(id + 1);
            ProducerId(id)
        })
    }

    /// A new block. What is left of the last one is lost: two may have asked at the same time.
    pub(crate) fn refill(&self, block: AllocatedIds) {
        let first = block.first.0;
        assert!(
            block.count > 0 && first >= self.end.get(),
            "producer ids from {first} were handed out before"
        );
        self.next.set(first);
        self.end.set(first + block.count);
    }
}
