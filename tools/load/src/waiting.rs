//! How the tasks of one core wait for each other: a gate that opens once, and turns of which there are few.
//!
//! Owned by the core. Invariant: who waits is woken; a turn that is dropped goes to the longest waiting task.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use runtime::Signal;

/// Opens once and stays open.
#[derive(Default)]
pub(crate) struct Gate {
    open: Cell<bool>,
    waiting: RefCell<Vec<Rc<Signal>>>,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.open.set(true);
        for waiting in self.waiting.take() {
            waiting.raise();
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.get()
    }

    pub(crate) async fn wait(&self) {
        if self.open.get() {
            return;
        }
        let signal = Signal::new();
        self.waiting.borrow_mut().push(signal.clone());
        while !self.open.get() {
            signal.wait().await;
        }
    }
}

/// A number of turns that many tasks share.
pub(crate) struct Turns {
    free: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<Signal>>>,
}

/// The right to go on; given back when dropped.
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    pub(crate) fn new(count: usize) -> Turns {
        Turns {
            free: Cell::new(count),
            waiting: RefCell::default(),
        }
    }

    pub(crate) async fn take(&self) -> Turn<'_> {
        while self.free.get() == 0 {
            let signal = Signal::new();
            self.waiting.borrow_mut().push_back(signal.clone());
            signal.wait().await;
        }
        self.free.set(self.free.get() - 1);
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
        if let Some(next) = self.0.waiting.borrow_mut().pop_front() {
            next.raise();
        }
    }
}
