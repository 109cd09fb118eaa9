//! Work for a fixed set of long-lived tasks of one shard, so that a request never spawns a task.
//!
//! Bounded by its producers: each request in flight adds at most one item.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use runtime::Signal;

/// First in, first out; several tasks take from it.
pub(crate) struct WorkQueue<T> {
    items: RefCell<VecDeque<T>>,
    idle: RefCell<Vec<Rc<Signal>>>,
}

impl<T> WorkQueue<T> {
    pub(crate) fn new() -> Rc<WorkQueue<T>> {
        Rc::new(WorkQueue {
            items: RefCell::new(VecDeque::new()),
            idle: RefCell::new(Vec::new()),
        })
    }

    /// Adds an item and wakes one idle task.
    pub(crate) fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        let idle = self.idle.borrow_mut().pop();
        if let Some(worker) = idle {
            worker.raise();
        }
    }

    /// The next item. `worker` is the calling task's own signal.
    pub(crate) async fn next(&self, worker: &Rc<Signal>) -> T {
        loop {
            if let Some(item) = self.items.borrow_mut().pop_front() {
                return item;
            }
            self.idle.borrow_mut().push(worker.clone());
            worker.wait().await;
        }
    }
}
