//! The storage of one shard: its logs, and what they share. The public door of this crate.
//!
//! Lives on one shard and never leaves it. Appends are synchronous and go to the open commit group; everything that
//! touches the device happens in a few long-lived tasks, and in the reads of cold data.

use std::rc::Rc;

use model::record::BatchInfo;
use model::{LeaderEpoch, Offset, TopicPartition};
use runtime::{Io, Snapshot, TaskClass};

use crate::append::{Appended, NewMark};
use crate::commit::CommitListener;
use crate::error::{AppendError, OpenError, StorageError};
use crate::inner::Inner;
use crate::journal::frame::{ENTRY_HEADER_BYTES, EntryKind, GROUP_HEADER_BYTES};
use crate::journal::room::Claim;
use crate::life::Phase;
use crate::log::Log;
use crate::options::{AppendContext, LogConfig, StorageOptions};
use crate::recovery::RecoveryReport;

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

impl Mark {
    /// In this group.
    pub(crate) fn of(sequence: u64) -> Mark {
        Mark(sequence)
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
        io.spawn(TaskClass::Background, inner.clone().witness_groups());
        io.spawn(TaskClass::Background, inner.clone().read_extents_ahead());
        io.spawn(TaskClass::Background, inner.clone().reclaim());
        io.spawn(TaskClass::Background, inner.clone().keep_removing());
        io.spawn(TaskClass::Background, inner.clone().check_retention());
        io.spawn(TaskClass::Foreground, inner.clone().keep_watch());
        inner.journal_extend.raise();
        inner.removal_signal.raise();
        // What a start has found placed has only that place until it is written.
        let mut logs: Vec<Rc<Log>> = inner.logs.borrow().values().cloned().collect();
        logs.retain(|log| !log.state().shields.is_empty());
        inner.request_all(&logs);
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
        log.memory_mut().config = config;
    }

    /// Deletes a log. Its files go in the background, also after a restart.
    pub fn delete_log(&self, id: TopicPartition) {
        self.inner.delete_log(id);
    }

    /// Waits until all deletions so far are durable: no start finds these logs again.
    pub async fn wait_for_deletions(&self) -> Result<(), StorageError> {
        self.inner.wait_for_deletions().await
    }

    /// Waits until there is room for `bytes` more. Returns at once unless the device or memory lags behind, and refuses
    /// after [`ADMISSION_TIME_MAX`].
    pub async fn admit(&self, bytes: usize) -> Result<(), AppendError> {
        self.inner.admit(bytes).await
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
        inner.check_takes(log)?;
        if !inner.journal_has_room(ENTRY_HEADER_BYTES, Claim::Mark) {
            inner.reclaim_signal.raise();
            return Err(AppendError::JournalFull);
        }
        let log_end_offset = log.log_end_offset();
        if offset > log_end_offset {
            return Err(AppendError::OffsetOutOfRange {
                offset,
                log_end_offset,
            });
        }
        if offset > log.log_start_offset() {
            log.advance_start(offset);
            log.state_mut().leader_epochs.truncate_front(offset);
        }
        let start = log.log_start_offset();
        let mark = Mark(inner.add_mark(log, NewMark::at(EntryKind::LogStartAdvanced, start)));
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

    /// Notes the epoch of the broker's registration, for the checkpoints from now on.
    pub fn set_broker_epoch(&self, broker_epoch: i64) {
        if let Some(identity) = self.inner.identity.borrow_mut().as_mut() {
            identity.broker_epoch = broker_epoch;
        }
    }

    /// The largest known epoch at most `epoch`, and the offset where it ends (KIP-101).
    pub fn end_offset_for_epoch(
        &self,
        log: &Log,
        epoch: LeaderEpoch,
    ) -> Option<(LeaderEpoch, Offset)> {
        log.state()
            .leader_epochs
            .end_offset(epoch, log.log_end_offset())
    }

    /// The leader epoch of the record at `offset`, if it is known.
    pub fn leader_epoch_at(&self, log: &Log, offset: Offset) -> Option<LeaderEpoch> {
        log.state().leader_epochs.epoch_of(offset)
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
