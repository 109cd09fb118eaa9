//! The phases of a shard's storage, from opening to its end. Pure.
//!
//! Invariants: phases only go forward; a fence is final and keeps its first reason.

use std::cell::RefCell;
use std::rc::Rc;

use crate::error::{AppendError, StorageError};

/// What the storage is doing. The order is that of its life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Recovery, or open without tasks: nobody waits for space, since nobody could make it.
    Opening,
    /// Appends are taken and tasks run.
    Running,
    /// A shutdown has begun: appends are refused, what was taken is brought to its end.
    Closing,
    /// Only the last checkpoints are missing: tasks that make new work end.
    Ending,
    /// Nothing is written any more; all tasks end.
    Ended,
    /// A write or flush failed: nothing is acknowledged in the life of this process (reliability, decision 6).
    Fenced(Rc<str>),
}

/// Holds the phase.
pub(crate) struct Life {
    phase: RefCell<Phase>,
}

impl Life {
    pub(crate) fn new() -> Life {
        Life {
            phase: RefCell::new(Phase::Opening),
        }
    }

    /// Goes forward. After a fence nothing changes any more.
    pub(crate) fn advance(&self, to: Phase) {
        let mut phase = self.phase.borrow_mut();
        if matches!(*phase, Phase::Fenced(_)) {
            return;
        }
        assert!(*phase < to, "a storage in {phase:?} cannot go to {to:?}");
        *phase = to;
    }

    /// Fences. False if that had happened before, and then the first reason stays.
    pub(crate) fn fence(&self, reason: &str) -> bool {
        let mut phase = self.phase.borrow_mut();
        if matches!(*phase, Phase::Fenced(_)) {
            return false;
        }
        *phase = Phase::Fenced(reason.into());
        true
    }

    /// Why it is fenced, if it is.
    pub(crate) fn fence_reason(&self) -> Option<String> {
        match &*self.phase.borrow() {
            Phase::Fenced(reason) => Some(reason.to_string()),
            _ => None,
        }
    }

    pub(crate) fn is_fenced(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Fenced(_))
    }

    /// Refuses to go on if fenced.
    pub(crate) fn check(&self) -> Result<(), StorageError> {
        self.fence_reason()
            .map_or(Ok(()), |reason| Err(StorageError::Fenced(reason)))
    }

    /// Refuses appends unless running. Before the tasks run, appends wait in memory.
    pub(crate) fn check_appends(&self) -> Result<(), AppendError> {
        match &*self.phase.borrow() {
            Phase::Opening | Phase::Running => Ok(()),
            Phase::Closing | Phase::Ending | Phase::Ended => Err(AppendError::Closing),
            Phase::Fenced(reason) => Err(AppendError::Fenced(reason.to_string())),
        }
    }

    /// Before the tasks run.
    pub(crate) fn is_opening(&self) -> bool {
        *self.phase.borrow() == Phase::Opening
    }

    /// Between opening and closing.
    pub(crate) fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    /// Tasks that make new work go on.
    pub(crate) fn keeps(&self) -> bool {
        *self.phase.borrow() < Phase::Ending
    }

    /// Tasks that write what others left go on.
    pub(crate) fn writes(&self) -> bool {
        *self.phase.borrow() < Phase::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_go_forward_and_a_fence_is_final() {
        let life = Life::new();
        assert!(life.is_opening() && life.check_appends().is_ok());
        life.advance(Phase::Running);
        assert!(life.is_running() && life.keeps() && life.writes());
        life.advance(Phase::Closing);
        assert_eq!(life.check_appends(), Err(AppendError::Closing));
        life.advance(Phase::Ending);
        assert!(!life.keeps() && life.writes());
        assert!(life.fence("first") && !life.fence("second"));
        life.advance(Phase::Ended);
        assert_eq!(life.fence_reason().as_deref(), Some("first"));
        assert!(!life.writes() && life.check().is_err());
    }

    #[test]
    #[should_panic(expected = "cannot go to")]
    fn no_way_back() {
        let life = Life::new();
        life.advance(Phase::Closing);
        life.advance(Phase::Running);
    }
}
