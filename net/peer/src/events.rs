//! What the driver is told about other brokers.
//!
//! One shard. Bounded by the links and streams there can be: what was told and not taken is told once.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use runtime::Signal;

use crate::identity::Target;
use crate::purpose::Purpose;

/// Something about another broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerEvent {
    /// A connection to it ended or could not be made. What waited on it is lost.
    Unreachable(Target, Purpose),
    /// Every address of it refuses connections: its process is gone, or it does not listen yet.
    Suspect(Target),
}

pub(crate) struct Events {
    told: RefCell<BTreeSet<PeerEvent>>,
    wake: Rc<Signal>,
}

impl Events {
    pub(crate) fn new(wake: Rc<Signal>) -> Events {
        Events {
            told: RefCell::default(),
            wake,
        }
    }

    pub(crate) fn tell(&self, event: PeerEvent) {
        self.told.borrow_mut().insert(event);
        self.wake.raise();
    }

    pub(crate) fn take(&self) -> Option<PeerEvent> {
        self.told.borrow_mut().pop_first()
    }
}
