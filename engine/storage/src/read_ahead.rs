//! Extents that are read before somebody asks for them. Pure but for waking the task.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::segment_view::SegmentView;
use crate::waiters::Waiters;

/// Extents waiting to be read ahead; more are forgotten.
const READ_AHEAD_MAX: usize = 32;

/// Extents to be read before someone asks for them.
#[derive(Default)]
pub(crate) struct ReadAhead {
    queue: RefCell<VecDeque<(Rc<SegmentView>, u32)>>,
    work: Waiters,
}

impl ReadAhead {
    /// Asks for an extent.
    pub(crate) fn push(&self, view: &Rc<SegmentView>, extent: u32) {
        let mut queue = self.queue.borrow_mut();
        if queue.len() < READ_AHEAD_MAX {
            queue.push_back((view.clone(), extent));
            self.work.notify();
        }
    }

    /// The next one.
    pub(crate) fn pop(&self) -> Option<(Rc<SegmentView>, u32)> {
        self.queue.borrow_mut().pop_front()
    }

    /// Waits until there may be one.
    pub(crate) async fn wait(&self) {
        self.work.changed().await;
    }

    /// Wakes the task so that it sees that the storage stops.
    pub(crate) fn wake(&self) {
        self.work.notify();
    }
}
