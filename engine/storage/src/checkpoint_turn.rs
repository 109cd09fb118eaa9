//! The last checkpoint, and whether another is under way. Pure.

use std::cell::Cell;

/// The last checkpoint and whether another is under way.
pub(crate) struct CheckpointTurn {
    sequence: Cell<u64>,
    /// Where replay begins by it.
    replay_from: Cell<u64>,
    is_busy: Cell<bool>,
}

impl CheckpointTurn {
    /// After the checkpoint of this sequence.
    pub(crate) fn new(sequence: u64) -> CheckpointTurn {
        CheckpointTurn {
            sequence: Cell::new(sequence),
            replay_from: Cell::new(0),
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
    pub(crate) fn written(&self, sequence: u64, replay_from: u64) {
        assert!(self.is_busy.get(), "by who has the turn");
        assert_eq!(
            sequence,
            self.sequence.get() + 1,
            "checkpoints are written in order"
        );
        assert!(
            replay_from >= self.replay_from.replace(replay_from),
            "what was needed no longer is not needed again"
        );
        self.sequence.set(sequence);
    }
}
