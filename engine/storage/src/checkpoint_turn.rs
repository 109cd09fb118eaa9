//! The last checkpoint, and whether another is under way. Pure.

use std::cell::Cell;

/// The last checkpoint and whether another is under way.
pub(crate) struct CheckpointTurn {
    sequence: Cell<u64>,
    is_busy: Cell<bool>,
}

impl CheckpointTurn {
    /// After the checkpoint of this sequence.
    pub(crate) fn new(sequence: u64) -> CheckpointTurn {
        CheckpointTurn {
            sequence: Cell::new(sequence),
            is_busy: Cell::new(false),
        }
    }

    /// Sequence of the last checkpoint that is durable.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// Takes the turn, if nobody has it.
    #[must_use]
    pub(crate) fn begin(&self) -> bool {
        !self.is_busy.replace(true)
    }

    /// Gives the turn back.
    pub(crate) fn end(&self) {
        assert!(self.is_busy.replace(false), "who ends a turn has it");
    }

    /// A checkpoint is durable.
    pub(crate) fn written(&self, sequence: u64) {
        assert_eq!(
            sequence,
            self.sequence.get() + 1,
            "checkpoints are written in order"
        );
        self.sequence.set(sequence);
    }
}
