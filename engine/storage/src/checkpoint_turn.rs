//! The last checkpoint, what has gone since, and whether another is under way. Pure.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use model::TopicPartition;

use crate::checkpoint_chain::Chain;

/// The last checkpoint and whether another is under way.
pub(crate) struct CheckpointTurn {
    sequence: Cell<u64>,
    /// The file that the last whole checkpoint went to.
    slot: Cell<u8>,
    /// Where an increment goes; `None` if the next checkpoint is to be whole.
    chain: RefCell<Option<Chain>>,
    /// Logs that the last checkpoint may name and the next does not. At most as many as there were logs.
    gone: RefCell<BTreeSet<TopicPartition>>,
    /// Where replay begins by it.
    replay_from: Cell<u64>,
    is_busy: Cell<bool>,
}

impl CheckpointTurn {
    /// After the checkpoint of this sequence, in file `slot`. The next is a whole one: it begins a run.
    pub(crate) fn new(sequence: u64, slot: u8) -> CheckpointTurn {
        CheckpointTurn {
            sequence: Cell::new(sequence),
            slot: Cell::new(slot),
            chain: RefCell::default(),
            gone: RefCell::default(),
            replay_from: Cell::new(0),
            is_busy: Cell::new(false),
        }
    }

    /// Sequence of the last checkpoint that is durable.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// The file of the last whole checkpoint.
    pub(crate) fn slot(&self) -> u8 {
        self.slot.get()
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

    /// The next checkpoint is to be a whole one.
    pub(crate) fn begin_anew(&self) {
        self.chain.take();
    }

    /// The chain that an increment may go to. Whoever takes it puts it back by [`CheckpointTurn::written`]: a checkpoint that
    /// failed after it was encoded has left out what it said, so the next one says all.
    pub(crate) fn take_chain(&self) -> Option<Chain> {
        assert!(self.is_busy.get(), "by who has the turn");
        self.chain.take()
    }

    /// A log is named no longer.
    pub(crate) fn log_gone(&self, id: TopicPartition) {
        self.gone.borrow_mut().insert(id);
    }

    /// Logs that the checkpoint that is encoded now does not name.
    pub(crate) fn take_gone(&self) -> BTreeSet<TopicPartition> {
        self.gone.take()
    }

    /// A checkpoint is durable.
    pub(crate) fn written(&self, sequence: u64, replay_from: u64, chain: Chain) {
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
        self.slot.set(chain.slot());
        *self.chain.borrow_mut() = Some(chain);
    }
}
