//! What the parts of a shard's storage share: the parts themselves, and what all of them need.
//!
//! Each part owns its fields. What does I/O with them stands in the files that import this one, by subject; none of them
//! is imported here.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use model::TopicPartition;
use runtime::{Io, Signal};

use crate::cache::extent::ExtentCache;
use crate::cache::tail::TailGroups;
use crate::checkpoint_turn::CheckpointTurn;
use crate::commit::CommitListener;
use crate::deadline::Deadlines;
use crate::disk_space::DiskSpace;
use crate::file_cache::FileCache;
use crate::identity::BrokerIdentity;
use crate::index::SegmentId;
use crate::journal::Journal;
use crate::layout::Layout;
use crate::life::Life;
use crate::log::Log;
use crate::metrics::Counters;
use crate::options::StorageOptions;
use crate::placement::PlacedBytes;
use crate::read_ahead::ReadAhead;
use crate::removals::Removal;
use crate::removals::Removals;
use crate::spares::Spares;
use crate::unsynced::Unsynced;
use crate::waiters::Waiters;
use crate::write_queue::WriteQueue;

/// Time between two looks at what is overdue.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How much later than that the watch may come before it is this process that stood still: far more than a busy core
/// lets it wait, far less than the device may take.
const WATCH_LATE_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Inner<I: Io> {
    pub(crate) io: I,
    pub(crate) options: StorageOptions,
    /// Noted in checkpoints.
    pub(crate) identity: RefCell<Option<BrokerIdentity>>,
    pub(crate) layout: Layout,
    pub(crate) counters: Counters,
    pub(crate) life: Life,
    pub(crate) space: DiskSpace,
    pub(crate) deadlines: Deadlines,
    pub(crate) listener: RefCell<Option<Rc<dyn CommitListener>>>,

    pub(crate) logs: RefCell<BTreeMap<TopicPartition, Rc<Log>>>,
    /// Deleted logs whose mark the journal has no room for yet. At most as many as there were logs.
    pub(crate) waiting_deletions: RefCell<VecDeque<Rc<Log>>>,
    pub(crate) tail: RefCell<TailGroups>,
    pub(crate) extents: ExtentCache,
    pub(crate) read_ahead: ReadAhead,
    pub(crate) files: FileCache<I>,

    pub(crate) journal: RefCell<Journal<I>>,
    pub(crate) slots: Vec<Rc<Signal>>,
    pub(crate) journal_extend: Rc<Signal>,
    /// A group was written, and no other follows for now.
    pub(crate) journal_rests: Rc<Signal>,
    /// Flushed groups go through O_DSYNC descriptors.
    pub(crate) journal_durable_writes: bool,
    /// The journal has advanced: groups written or done, a checkpoint ended, a fence.
    pub(crate) journal_changed: Waiters,

    pub(crate) admission: Waiters,
    /// The most journal bytes that somebody waits for since space was last freed.
    pub(crate) journal_demand: Cell<usize>,
    pub(crate) placed: PlacedBytes,
    /// The same since the journal was last extended.
    pub(crate) extend_demand: Cell<usize>,
    pub(crate) reclaim_signal: Rc<Signal>,

    pub(crate) write_queue: WriteQueue,
    /// Segments with writes that no sync has covered.
    pub(crate) unsynced: RefCell<BTreeMap<SegmentId, Unsynced>>,
    pub(crate) removals: Removals,
    pub(crate) removal_signal: Rc<Signal>,
    pub(crate) checkpoints: CheckpointTurn,
}

/// What a start has found: the parts of a storage that are not empty.
pub(crate) struct Found<I: Io> {
    pub(crate) journal: Journal<I>,
    pub(crate) logs: BTreeMap<TopicPartition, Rc<Log>>,
    pub(crate) removals: Vec<Removal>,
    pub(crate) checkpoint_sequence: u64,
    /// The file that it is in.
    pub(crate) checkpoint_slot: u8,
    pub(crate) identity: Option<BrokerIdentity>,
    pub(crate) journal_durable_writes: bool,
}

impl<I: Io> Inner<I> {
    pub(crate) fn new(io: I, options: StorageOptions, found: Found<I>) -> Inner<I> {
        let spares = Spares::new(options.spare_bytes_min, options.spares_bytes_max);
        Inner {
            identity: RefCell::new(found.identity),
            layout: Layout::new(&options.directory),
            counters: Counters::default(),
            life: Life::new(),
            space: DiskSpace::default(),
            deadlines: Deadlines::default(),
            listener: RefCell::new(None),
            logs: RefCell::new(found.logs),
            waiting_deletions: RefCell::default(),
            tail: RefCell::default(),
            extents: ExtentCache::new(options.cache_bytes_max, options.extent_bytes),
            read_ahead: ReadAhead::default(),
            files: FileCache::new(options.open_files_max),
            journal: RefCell::new(found.journal),
            slots: (0..options.groups_in_flight_max)
                .map(|_| Signal::new())
                .collect(),
            journal_extend: Signal::new(),
            journal_rests: Signal::new(),
            journal_durable_writes: found.journal_durable_writes,
            journal_changed: Waiters::default(),
            admission: Waiters::default(),
            journal_demand: Cell::new(0),
            placed: PlacedBytes::default(),
            extend_demand: Cell::new(0),
            reclaim_signal: Signal::new(),
            write_queue: WriteQueue::new(),
            unsynced: RefCell::default(),
            removals: Removals::new(spares, found.removals),
            removal_signal: Signal::new(),
            checkpoints: CheckpointTurn::new(found.checkpoint_sequence, found.checkpoint_slot),
            io,
            options,
        }
    }

    /// Stops acknowledging for the life of this process (reliability, decision 6).
    pub(crate) fn fence(&self, reason: &str) {
        if !self.life.fence(reason) {
            return;
        }
        tracing::error!(shard = self.options.shard.0, reason, "storage is fenced");
        self.admission.notify();
        self.journal_changed.notify();
        self.write_queue.wake();
        let listener = self.listener.borrow().clone();
        if let Some(listener) = listener {
            listener.fenced(reason);
        }
    }

    /// Fences when the device does not answer, and lets those who wait for admission look at the clock: one long-lived
    /// task.
    pub(crate) async fn keep_watch(self: Rc<Self>) {
        while self.life.writes() {
            let asleep = self.io.now();
            self.io.sleep(WATCH_INTERVAL).await;
            let slept = self.io.now().since(asleep);
            // A process that was stopped cannot have heard the device, which may have answered long ago.
            if slept > WATCH_INTERVAL + WATCH_LATE_MAX {
                self.deadlines.forgive(slept - WATCH_INTERVAL);
            }
            let limit = self.options.io_time_max;
            if let Some((what, age)) = self.deadlines.overdue(self.io.now(), limit) {
                let seconds = age.as_secs();
                self.fence(&format!(
                    "{what}: the device has not answered for {seconds} s"
                ));
            }
            self.admission.notify();
        }
        assert!(!self.life.writes(), "the watch ends with the storage");
    }
}
