//! The commit journal of one shard: group commit over all its partitions into pre-written, recycled files.

pub(crate) mod driver;
pub(crate) mod extend;
pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod generations;
pub(crate) mod group;
pub(crate) mod pipeline;
pub(crate) mod placed;
pub(crate) mod replay;
pub(crate) mod room;
pub(crate) mod witness;

use std::rc::Rc;

use model::MonotonicTime;
use runtime::{Buffer, Io};

use self::files::{JournalFile, JournalFiles};
use self::generations::Generations;
use self::group::{GroupReport, OpenGroup};
use self::pipeline::Pipeline;
use crate::cache::tail::JournalPosition;

pub(crate) type Frozen<I> = <<I as Io>::Buffer as Buffer>::Frozen;

/// What is written for a group.
pub(crate) struct GroupWrite<I: Io> {
    pub(crate) group: Frozen<I>,
    pub(crate) placements: Vec<Rc<Placement<Frozen<I>>>>,
}

use crate::placement::Placement;

/// The journal of a shard: the open group, the pipeline of sealed ones, and which slots rest.
pub(crate) struct Journal<I: Io> {
    pub(crate) generations: Generations,
    pub(crate) open: OpenGroup<I::Buffer>,
    pub(crate) pipeline: Pipeline<GroupWrite<I>, GroupReport<Frozen<I>>, JournalFile<I>>,
    /// The last group that has no entries.
    pub(crate) empty_sequence: u64,
    /// When the last group was done.
    pub(crate) rests_since: MonotonicTime,
    pub(crate) idle: Vec<usize>,
    pub(crate) wake_pending: bool,
}

impl<I: Io> Journal<I> {
    /// Continues at `place` with these files and slots.
    pub(crate) fn new(
        generations: Generations,
        place: JournalPosition,
        files: JournalFiles<JournalFile<I>>,
        slots: usize,
    ) -> Journal<I> {
        Journal {
            generations,
            open: OpenGroup::new(),
            pipeline: Pipeline::new(place, files),
            empty_sequence: 0,
            rests_since: MonotonicTime::default(),
            idle: (0..slots).collect(),
            wake_pending: false,
        }
    }
    /// Nothing is under way or waits.
    pub(crate) fn rests(&self) -> bool {
        self.open.is_empty() && !self.pipeline.has_ready() && !self.pipeline.is_writing()
    }

    /// The journal rests, and its last group has entries that no later group vouches for.
    pub(crate) fn needs_witness(&self) -> bool {
        let last = self.pipeline.next_sequence() - 1;
        self.rests() && last > 0 && last != self.empty_sequence
    }
}
