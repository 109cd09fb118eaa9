//! Links that wait before they try again, and what cuts their pauses short: a broker that connects to this one is there.
//!
//! One shard. Bounded by the links.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use model::BrokerId;
use runtime::{Io, Signal, TaskClass};

#[derive(Default)]
pub(crate) struct Pauses {
    waiting: RefCell<Vec<(BrokerId, Rc<Signal>)>>,
}

impl Pauses {
    /// Waits for `pause`, or until it is cut short.
    pub(crate) async fn wait<I: Io>(&self, io: &I, node: BrokerId, pause: Duration) {
        let end = Signal::new();
        self.waiting.borrow_mut().push((node, end.clone()));
        let (timer_io, timer_end) = (io.clone(), end.clone());
        io.spawn(TaskClass::Foreground, async move {
            timer_io.sleep(pause).await;
            timer_end.raise();
        });
        end.wait().await;
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain(|(_, other)| !Rc::ptr_eq(other, &end));
    }

    /// Ends the pauses before attempts to reach such brokers.
    pub(crate) fn cut_short(&self, which: impl Fn(BrokerId) -> bool) {
        for (node, end) in self.waiting.borrow().iter() {
            if which(*node) {
                end.raise();
            }
        }
    }
}
