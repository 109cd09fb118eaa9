//! What the storage tells its owner about commits.

use std::rc::Rc;

use model::{MonotonicTime, Offset};

use crate::log::Log;

/// When a commit group made its way to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitTimes {
    /// Its write was submitted.
    pub submitted_at: MonotonicTime,
    /// It, and all groups before it, were written, and flushed if they asked for it. The time now.
    pub durable_at: MonotonicTime,
}

/// Hears of commits, on the shard's own core. Calls are synchronous and may call back into [`Storage`].
pub trait CommitListener {
    /// A commit group was sealed: what was appended up to now can be read from the tails. Not to be called back from: the
    /// storage is in the middle of something.
    fn sealed(&self) {}
    /// Records of `log` below `durable_end` are committed at the durability they asked for. Called in order, once
    /// per log of each completed group; also for a log start that has become durable.
    fn committed(&self, log: &Rc<Log>, durable_end: Offset, times: CommitTimes);
    /// All logs of a group were reported.
    fn group_done(&self);
    /// A write or flush failed: nothing is acknowledged any more in the life of this process.
    fn fenced(&self, reason: &str);
}
