//! Logs that wait for a segment writer. Pure but for waking tasks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use model::TopicPartition;

use crate::log::Log;
use crate::waiters::Waiters;

/// Logs that wait to be written.
pub(crate) struct WriteQueue {
    queue: RefCell<VecDeque<Rc<Log>>>,
    /// How many tasks are at the files of a partition: two if a log was made anew while the one before it is still written.
    active: RefCell<BTreeMap<TopicPartition, u32>>,
    idle: Cell<usize>,
    work: Waiters,
    /// Something was written, or will not be.
    pub(crate) changed: Waiters,
}

impl WriteQueue {
    pub(crate) fn new() -> WriteQueue {
        WriteQueue {
            queue: RefCell::default(),
            active: RefCell::default(),
            idle: Cell::new(0),
            work: Waiters::default(),
            changed: Waiters::default(),
        }
    }

    /// Puts a log at the end.
    pub(crate) fn push(&self, log: &Rc<Log>) {
        self.queue.borrow_mut().push_back(log.clone());
        if self.idle.get() > 0 {
            self.work.notify();
        }
    }

    /// Wakes writers so that they see that the storage stops.
    pub(crate) fn wake(&self) {
        self.work.notify();
        self.changed.notify();
    }

    /// The next log.
    pub(crate) fn pop(&self) -> Option<Rc<Log>> {
        self.queue.borrow_mut().pop_front()
    }

    /// Waits until there may be one.
    pub(crate) async fn rest(&self) {
        self.idle.set(self.idle.get() + 1);
        self.work.changed().await;
        self.idle.set(self.idle.get() - 1);
    }

    /// A partition's files are written from now on.
    pub(crate) fn begin(&self, id: TopicPartition) {
        *self.active.borrow_mut().entry(id).or_default() += 1;
    }

    /// They are not any more.
    pub(crate) fn end(&self, id: TopicPartition) {
        let mut active = self.active.borrow_mut();
        let tasks = active.get_mut(&id).expect("who ends has begun");
        *tasks -= 1;
        if *tasks == 0 {
            active.remove(&id);
        }
    }

    /// Whether a partition's files are being written.
    pub(crate) fn is_active(&self, id: TopicPartition) -> bool {
        self.active.borrow().contains_key(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_written_until_the_last_task_ends() {
        let queue = WriteQueue::new();
        let id = TopicPartition::default();
        queue.begin(id);
        queue.begin(id);
        queue.end(id);
        assert!(queue.is_active(id), "the deleted log is still written");
        queue.end(id);
        assert!(!queue.is_active(id));
    }
}
