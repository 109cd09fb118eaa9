//! The storage of one shard: its logs, and what they share. The public door of this crate.
//!
//! Lives on one shard and never leaves it. Appends are synchronous and go to the open commit group; everything that
//! touches the device happens in a few long-lived tasks, and in the reads of cold data.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use model::record::{
    BatchError, BatchHeader, BatchInfo, TimestampType, set_base_offset, set_leader_epoch,
    set_log_append_time, set_max_timestamp,
};
use model::{LeaderEpoch, MonotonicTime, Offset, Timestamp, TopicPartition};
use runtime::{Io, Signal, Snapshot, TaskClass};

use crate::cache::extent::ExtentCache;
use crate::cache::tail::TailGroups;
use crate::checkpoint::Removal;
use crate::checkpointer::CheckpointState;
use crate::deadline::Deadlines;
use crate::disk_space::DiskSpace;
use crate::error::{AppendError, OpenError, StorageError};
use crate::file_cache::FileCache;
use crate::index::SegmentId;
use crate::journal::driver::Journal;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryHeader, EntryKind, GROUP_HEADER_BYTES};
use crate::journal::group::GroupBatch;
use crate::journal::room::Claim;
use crate::layout::Layout;
use crate::life::{Life, Phase};
use crate::log::{Log, LogState};
use crate::metrics::Counters;
use crate::options::{AppendContext, Durability, LogConfig, StorageOptions};
use crate::producer_state::SequenceCheck;
use crate::read::ReadAhead;
use crate::recovery::RecoveryReport;
use crate::removal::Removals;
use crate::segment::BatchPlace;
use crate::segment_writer::{Unsynced, WriteQueue};
use crate::spares::Spares;
use crate::waiters::Waiters;

/// Who asks for admission is refused after this time: a client retries, and must not wait for an answer that never
/// comes.
const ADMISSION_TIME_MAX: Duration = Duration::from_secs(10);
/// Time between two looks at what is overdue.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// When a commit group made its way to the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitTimes {
    /// Its write was submitted.
    pub submitted_at: MonotonicTime,
    /// It, and all groups before it, were written, and flushed if they asked for it. The time now.
    pub durable_at: MonotonicTime,
}

/// Hears of commits, on the shard's own core. Calls are synchronous and may call back into [`Storage`].
pub trait CommitListener {
    /// Records of `log` below `durable_end` are committed at the durability they asked for. Called in order, once
    /// per log of each completed group; also for a log start that has become durable.
    fn committed(&self, log: &Rc<Log>, durable_end: Offset, times: CommitTimes);
    /// All logs of a group were reported.
    fn group_done(&self);
    /// A write or flush failed: nothing is acknowledged any more in the life of this process.
    fn fenced(&self, reason: &str);
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Offset of the last record. Committed once the log's durable end is beyond it.
    pub last_offset: Offset,
    /// The batch had been appended before; these are its offsets.
    pub duplicate: bool,
    /// The stamped time, on `LogAppendTime` topics.
    pub log_append_time: Option<Timestamp>,
}

/// The storage of one shard. Clones are handles on the same storage.
pub struct Storage<I: Io> {
    pub(crate) inner: Rc<Inner<I>>,
    report: Rc<RecoveryReport>,
}

impl<I: Io> Clone for Storage<I> {
    fn clone(&self) -> Storage<I> {
        Storage {
            inner: self.inner.clone(),
            report: self.report.clone(),
        }
    }
}

/// Something that was noted in the journal and will be durable with its commit group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

pub(crate) struct Inner<I: Io> {
    pub(crate) io: I,
    pub(crate) options: StorageOptions,
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
    /// Flushed groups go through O_DSYNC descriptors.
    pub(crate) journal_durable_writes: bool,
    /// The journal has advanced: groups written or done, a checkpoint ended, a fence.
    pub(crate) journal_changed: Waiters,

    pub(crate) admission: Waiters,
    /// The most journal bytes that somebody waits for since space was last freed.
    pub(crate) journal_demand: Cell<usize>,
    /// The same since the journal was last extended.
    pub(crate) extend_demand: Cell<usize>,
    pub(crate) reclaim_signal: Rc<Signal>,

    pub(crate) write_queue: WriteQueue,
    /// Segments with writes that no sync has covered.
    pub(crate) unsynced: RefCell<BTreeMap<SegmentId, Unsynced>>,
    pub(crate) removals: Removals,
    pub(crate) removal_signal: Rc<Signal>,
    pub(crate) checkpoints: CheckpointState,
}

/// What a start has found: the parts of a storage that are not empty.
pub(crate) struct Found<I: Io> {
    pub(crate) journal: Journal<I>,
    pub(crate) logs: BTreeMap<TopicPartition, Rc<Log>>,
    pub(crate) removals: Vec<Removal>,
    pub(crate) checkpoint_sequence: u64,
    pub(crate) journal_durable_writes: bool,
}

impl<I: Io> Inner<I> {
    pub(crate) fn new(io: I, options: StorageOptions, found: Found<I>) -> Inner<I> {
        let spares = Spares::new(options.spare_bytes_min, options.spares_bytes_max);
        Inner {
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
            journal_durable_writes: found.journal_durable_writes,
            journal_changed: Waiters::default(),
            admission: Waiters::default(),
            journal_demand: Cell::new(0),
            extend_demand: Cell::new(0),
            reclaim_signal: Signal::new(),
            write_queue: WriteQueue::new(),
            unsynced: RefCell::default(),
            removals: Removals::new(spares, found.removals),
            removal_signal: Signal::new(),
            checkpoints: CheckpointState::new(found.checkpoint_sequence),
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
            self.io.sleep(WATCH_INTERVAL).await;
            let limit = self.options.io_time_max;
            if let Some((what, age)) = self.deadlines.overdue(self.io.now(), limit) {
                let seconds = age.as_secs();
                self.fence(&format!(
                    "{what}: the device has not answered for {seconds} s"
                ));
            }
            self.admission.notify();
        }
    }

    fn check_writable(&self, urgent: bool) -> Result<(), AppendError> {
        self.life.check_appends()?;
        if self.space.is_full() && !urgent {
            return Err(AppendError::DiskFull);
        }
        Ok(())
    }

    async fn admit(&self, bytes: usize, urgent: bool) -> Result<(), AppendError> {
        let claim = if urgent { Claim::Urgent } else { Claim::Append };
        let entry = bytes.min(self.options.batch_bytes_max());
        let demand = entry + ENTRY_HEADER_BYTES;
        let mut deadline = None;
        loop {
            self.check_writable(urgent)?;
            let journal_full = !self.journal_has_room(demand, claim) && self.journal_can_free();
            let tail_bytes = self.tail.borrow().bytes() + bytes.min(self.options.group_bytes_max);
            let tail_full = tail_bytes > self.options.tail_bytes_max && !urgent;
            let congested = self.journal_congested() && !urgent;
            if !congested && !tail_full && !journal_full {
                return Ok(());
            }
            let now = self.io.now();
            if now >= *deadline.get_or_insert_with(|| now.plus(ADMISSION_TIME_MAX)) {
                return Err(AppendError::JournalFull);
            }
            if journal_full {
                let known = self.journal_demand.get();
                self.journal_demand.set(known.max(demand));
                self.extend_demand.set(self.extend_demand.get().max(demand));
            }
            if tail_full || journal_full {
                self.reclaim_signal.raise();
                self.journal_extend.raise();
            }
            self.admission.changed().await;
        }
    }

    /// Makes room in the open group: seals it if `bytes` more would make it too large.
    fn open_room(&self, bytes: usize) {
        let full = {
            let journal = self.journal.borrow();
            journal.open.entry_count > 0
                && journal.open.used() + bytes > self.options.group_bytes_max
        };
        if full {
            self.seal();
        }
    }

    /// Adds an entry without payload to the open group.
    /// Returns the sequence of the group that holds the mark.
    pub(crate) fn add_mark(&self, log: &Rc<Log>, kind: EntryKind, offset: Offset) -> u64 {
        self.open_room(ENTRY_HEADER_BYTES);
        let mut state = log.state.borrow_mut();
        let mut journal = self.journal.borrow_mut();
        let sequence = journal.pipeline.next_sequence();
        journal
            .open
            .log_number(log, &mut state.open_group, sequence, Offset::ZERO);
        let entry = EntryHeader {
            kind,
            id: log.id(),
            leader_epoch: LeaderEpoch::NONE,
            offset,
            length: 0,
            batch_crc: 0,
            offset_delta_of_max_timestamp: 0,
        };
        journal.open.add_mark(entry, |len| self.io.buffer(len));
        journal.open.flushed = true;
        sequence
    }

    fn append(
        &self,
        log: &Rc<Log>,
        batch: &[u8],
        info: &BatchInfo,
        context: AppendContext,
    ) -> Result<Appended, AppendError> {
        self.check_writable(context.urgent)?;
        self.check_size(log, batch, info, context.urgent)?;
        self.open_room(ENTRY_HEADER_BYTES + batch.len());
        let mut state = log.state.borrow_mut();
        if context.check_producer
            && info.header.is_idempotent()
            && let SequenceCheck::Duplicate(known) = state.producers.check(&info.header)?
        {
            return Ok(Appended {
                base_offset: known.base_offset(),
                last_offset: known.last_offset,
                duplicate: true,
                log_append_time: context.log_append_time.map(|_| known.timestamp),
            });
        }
        if let Some(latest) = state.leader_epochs.latest()
            && context.leader_epoch < latest
        {
            return Err(AppendError::LeaderEpochStale {
                found: context.leader_epoch,
                latest,
            });
        }
        let place = place_batch(log.log_end_offset.get(), info, &context)?;
        self.add_to_group(log, &mut state, batch, info, &context, place)?;
        state
            .leader_epochs
            .assign(context.leader_epoch, place.base_offset);
        if info.header.is_idempotent() {
            let stored = BatchHeader {
                base_offset: place.base_offset,
                max_timestamp: place.max_timestamp,
                ..info.header
            };
            state.producers.learn(&stored, context.now);
        }
        state.appended_at = context.now;
        drop(state);
        log.log_end_offset.set(place.next_offset);
        log.size_bytes
            .set(log.size_bytes.get() + batch.len() as u64);
        self.kick();
        Ok(Appended {
            base_offset: place.base_offset,
            last_offset: Offset(place.next_offset.0 - 1),
            duplicate: false,
            log_append_time: context.log_append_time,
        })
    }

    /// Refuses what is not one batch, or has no room.
    fn check_size(
        &self,
        log: &Log,
        batch: &[u8],
        info: &BatchInfo,
        urgent: bool,
    ) -> Result<(), AppendError> {
        if log.deleted.get() {
            return Err(AppendError::Deleted);
        }
        if info.header.size_bytes() != batch.len() || info.header.last_offset_delta < 0 {
            return Err(AppendError::Malformed);
        }
        let bytes_max = self.options.batch_bytes_max();
        if batch.len() > bytes_max {
            return Err(AppendError::TooLarge {
                bytes: batch.len(),
                bytes_max,
            });
        }
        let claim = if urgent { Claim::Urgent } else { Claim::Append };
        let bytes = ENTRY_HEADER_BYTES + batch.len();
        if !self.journal_has_room(bytes, claim) && !self.journal_takes(bytes, claim) {
            return Err(AppendError::JournalFull);
        }
        Ok(())
    }

    /// Copies the batch into the open group, stamping the copy.
    fn add_to_group(
        &self,
        log: &Rc<Log>,
        state: &mut LogState,
        batch: &[u8],
        info: &BatchInfo,
        context: &AppendContext,
        place: BatchPlace,
    ) -> Result<(), AppendError> {
        let entry = EntryHeader {
            kind: EntryKind::Batch,
            id: log.id(),
            leader_epoch: context.leader_epoch,
            offset: place.base_offset,
            length: u32::try_from(batch.len()).map_err(|_| AppendError::Malformed)?,
            batch_crc: 0,
            offset_delta_of_max_timestamp: info.offset_delta_of_max_timestamp,
        };
        let mut journal = self.journal.borrow_mut();
        let start = journal
            .open
            .add_batch(
                entry,
                batch,
                |len| self.io.buffer(len),
                |stored| stamp(stored, place.base_offset, info, context),
            )
            .map_err(|_| AppendError::Malformed)?;
        let sequence = journal.pipeline.next_sequence();
        let number =
            journal
                .open
                .log_number(log, &mut state.open_group, sequence, place.next_offset);
        journal.open.batches.push(GroupBatch {
            log: number,
            place,
            start,
            len: batch.len(),
            carried: false,
        });
        journal.open.flushed |= context.durability == Durability::Flushed;
        Ok(())
    }
}

/// The offsets and the time of a batch that goes to the end of a log.
fn place_batch(
    base_offset: Offset,
    info: &BatchInfo,
    context: &AppendContext,
) -> Result<BatchPlace, AppendError> {
    let count = i64::from(info.header.last_offset_delta) + 1;
    let next_offset = base_offset.0.checked_add(count);
    let next_offset = next_offset.ok_or(AppendError::Malformed)?;
    Ok(BatchPlace {
        base_offset,
        next_offset: Offset(next_offset),
        max_timestamp: context.log_append_time.unwrap_or(info.max_timestamp),
        offset_of_max_timestamp: base_offset.plus(info.offset_delta_of_max_timestamp.max(0).into()),
    })
}

/// Makes the stored copy of a batch final.
fn stamp(
    stored: &mut [u8],
    base_offset: Offset,
    info: &BatchInfo,
    context: &AppendContext,
) -> Result<(), BatchError> {
    set_base_offset(stored, base_offset)?;
    set_leader_epoch(stored, context.leader_epoch)?;
    match context.log_append_time {
        Some(now) => set_log_append_time(stored, now),
        None if info.timestamp_patch_needed => {
            set_max_timestamp(stored, TimestampType::CreateTime, info.max_timestamp)
        }
        None => Ok(()),
    }
}

impl<I: Io> Storage<I> {
    /// Opens the storage of one shard. [`crate::recover_data_dir`] must have run before, once for all shards.
    pub async fn open(io: I, options: StorageOptions) -> Result<Storage<I>, OpenError> {
        options.check()?;
        let (inner, report) = Inner::open(io, options).await?;
        Ok(Storage {
            inner,
            report: Rc::new(report),
        })
    }

    /// Starts the long-lived tasks. Call once; until then appends are not written.
    pub fn start(&self, listener: Rc<dyn CommitListener>) {
        let inner = &self.inner;
        *inner.listener.borrow_mut() = Some(listener);
        inner.life.advance(Phase::Running);
        let io = &inner.io;
        for slot in 0..inner.options.groups_in_flight_max {
            io.spawn(TaskClass::Foreground, inner.clone().write_groups(slot));
        }
        for _ in 0..inner.options.segment_writers {
            io.spawn(TaskClass::Background, inner.clone().write_segments());
        }
        io.spawn(TaskClass::Background, inner.clone().extend_journal());
        io.spawn(TaskClass::Background, inner.clone().read_extents_ahead());
        io.spawn(TaskClass::Background, inner.clone().reclaim());
        io.spawn(TaskClass::Background, inner.clone().keep_removing());
        io.spawn(TaskClass::Background, inner.clone().check_retention());
        io.spawn(TaskClass::Foreground, inner.clone().keep_watch());
        inner.journal_extend.raise();
        inner.removal_signal.raise();
    }

    /// All logs of the shard.
    pub fn logs(&self) -> Vec<TopicPartition> {
        self.inner.logs.borrow().keys().copied().collect()
    }

    /// A log.
    pub fn log(&self, id: TopicPartition) -> Option<Rc<Log>> {
        self.inner.logs.borrow().get(&id).cloned()
    }

    /// The log of this partition, made if it is not there. No I/O: files appear with the first bytes written to them.
    pub fn create_log(&self, id: TopicPartition, config: LogConfig) -> Rc<Log> {
        if let Some(log) = self.log(id) {
            self.set_config(&log, config);
            return log;
        }
        let created_sequence = self.inner.end_earlier_log(id);
        let log = Rc::new(Log::new(id, config, created_sequence));
        self.inner.logs.borrow_mut().insert(id, log.clone());
        log
    }

    /// Changes the settings of a log.
    pub fn set_config(&self, log: &Log, config: LogConfig) {
        log.state.borrow_mut().config = config;
    }

    /// Deletes a log. Its files go in the background, also after a restart.
    pub fn delete_log(&self, id: TopicPartition) {
        self.inner.delete_log(id);
    }

    /// Waits until there is room for `bytes` more. Returns at once unless the device or memory lags behind, and refuses
    /// after [`ADMISSION_TIME_MAX`].
    pub async fn admit(&self, bytes: usize) -> Result<(), AppendError> {
        self.inner.admit(bytes, false).await
    }

    /// The same for an urgent append: a full device or full memory does not hold it up, only a journal without room.
    pub async fn admit_urgent(&self, bytes: usize) -> Result<(), AppendError> {
        self.inner.admit(bytes, true).await
    }

    /// Appends a validated batch to the open commit group: assigns offsets, stamps base offset and leader epoch.
    ///
    /// `batch` is exactly the batch that `info` describes. The commit is reported through [`CommitListener`].
    pub fn append(
        &self,
        log: &Rc<Log>,
        batch: &[u8],
        info: &BatchInfo,
        append: AppendContext,
    ) -> Result<Appended, AppendError> {
        self.inner.append(log, batch, info, append)
    }

    /// Moves the log start up to `offset` (DeleteRecords). Reads below it fail at once; the commit is reported
    /// through [`CommitListener`]. Moving back is no error and does nothing.
    pub fn advance_log_start(&self, log: &Rc<Log>, offset: Offset) -> Result<Mark, AppendError> {
        let inner = &self.inner;
        inner.life.check_appends()?;
        if log.deleted.get() {
            return Err(AppendError::Deleted);
        }
        if !inner.journal_has_room(ENTRY_HEADER_BYTES, Claim::Mark) {
            inner.reclaim_signal.raise();
            return Err(AppendError::JournalFull);
        }
        let log_end_offset = log.log_end_offset.get();
        if offset > log_end_offset {
            return Err(AppendError::OffsetOutOfRange {
                offset,
                log_end_offset,
            });
        }
        if offset > log.log_start_offset.get() {
            log.log_start_offset.set(offset);
            log.state.borrow_mut().leader_epochs.truncate_front(offset);
        }
        let start = log.log_start_offset.get();
        let mark = Mark(inner.add_mark(log, EntryKind::LogStartAdvanced, start));
        inner.kick();
        if inner.life.is_running() {
            // What it frees is not to wait for the next look: the device may be full.
            inner.expire(log, inner.io.wall_clock());
            inner.removal_signal.raise();
        }
        Ok(mark)
    }

    /// Waits until a mark is on the device.
    pub async fn wait_for_mark(&self, mark: Mark) -> Result<(), StorageError> {
        self.inner.wait_durable(mark.0).await
    }

    /// The largest known epoch at most `epoch`, and the offset where it ends (KIP-101).
    pub fn end_offset_for_epoch(
        &self,
        log: &Log,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        log.state
            .borrow()
            .leader_epochs
            .end_offset(epoch, log.log_end_offset.get())
    }

    /// The leader epoch of the record at `offset`, if it is known.
    pub fn leader_epoch_at(&self, log: &Log, offset: Offset) -> Option<LeaderEpoch> {
        log.state.borrow().leader_epochs.epoch_of(offset)
    }

    /// Adds counts and sizes.
    pub fn snapshot_into(&self, snapshot: &mut Snapshot) {
        self.inner.snapshot_into(snapshot);
    }

    /// Whether somebody waits for space on the device.
    pub fn is_disk_full(&self) -> bool {
        self.inner.space.is_full()
    }

    /// Why the storage is fenced, if it is.
    pub fn fence_reason(&self) -> Option<String> {
        self.inner.life.fence_reason()
    }

    /// What the start has found.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.report
    }
}

const _: () = assert!(GROUP_HEADER_BYTES == 64, "FORMAT.md says so");
