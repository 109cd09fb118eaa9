//! What storage tells a shard: logs are durable up to an end, or the storage is fenced.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use model::Offset;
use runtime::Io;
use storage::{CommitListener, CommitTimes, Log};

use crate::metadata_quorum;
use crate::partition::AcknowledgeTarget;
use crate::partitions::METADATA_PARTITION;
use crate::purgatory::Ending;
use crate::shard::Shard;

/// What storage tells the shard.
pub(crate) struct Commits<I: Io> {
    shard: Weak<Shard<I>>,
    acknowledged: RefCell<Vec<AcknowledgeTarget>>,
}

impl<I: Io> Commits<I> {
    pub(crate) fn of(shard: &Rc<Shard<I>>) -> Rc<Commits<I>> {
        Rc::new(Commits {
            shard: Rc::downgrade(shard),
            acknowledged: RefCell::default(),
        })
    }
}

impl<I: Io> CommitListener for Commits<I> {
    fn sealed(&self) {
        if let Some(shard) = self.shard.upgrade() {
            shard.events.sealed();
        }
    }

    fn committed(&self, log: &Rc<Log>, durable_end: Offset, times: CommitTimes) {
        let Some(shard) = self.shard.upgrade() else {
            return;
        };
        let Some(partition) = shard.partition(log.id()) else {
            if log.id() == METADATA_PARTITION
                && let Some(replica) = shard.replica()
            {
                replica.log_durable();
            }
            return;
        };
        let mut acknowledged = self.acknowledged.borrow_mut();
        partition.durable(times.durable_at, durable_end, &mut acknowledged);
        shard.tell(acknowledged.drain(..), Ending::committed(times));
    }

    fn group_done(&self) {}

    fn fenced(&self, reason: &str) {
        tracing::error!(
            reason,
            "the log is fenced: this shard acknowledges nothing until the broker is restarted"
        );
        if let Some(shard) = self.shard.upgrade() {
            shard.fence();
            metadata_quorum::fenced(&shard);
        }
    }
}
