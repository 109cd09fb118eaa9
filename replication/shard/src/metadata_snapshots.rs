//! What shard 0 knows for the next snapshot of the metadata log, and what every shard answers before it is taken.
//!
//! Only shard 0 has anything in the fields of [`MetadataSnapshots`]. The task that writes is in [`crate::snapshot_writer`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use metadata::{MetadataImage, MetadataRecord};
use model::config::BrokerSettings;
use model::{MonotonicTime, Offset, Timestamp, TopicId};
use quorum::SnapshotMark;
use runtime::metrics::Labels;
use runtime::{Counter, Io, Signal, Snapshot, TaskClass};
use storage::{NewSnapshot, SnapshotId, Storage};

use crate::message::ReplyTo;
use crate::metadata_cache::MetadataCache;
use crate::metadata_log::Contents;
use crate::metrics::{METADATA_SNAPSHOT_BYTES, METADATA_SNAPSHOTS};
use crate::peer::Peers;
use crate::removed_topics::RemovedTopics;
use crate::request::DeletionsDurable;
use crate::snapshot_schedule::SnapshotSchedule;

/// What has come since the last snapshot of the metadata log.
pub(crate) struct MetadataSnapshots {
    schedule: RefCell<SnapshotSchedule>,
    removed: RefCell<RemovedTopics>,
    /// Of the last record of the metadata log.
    last_timestamp: Cell<Timestamp>,
    /// The newest one that is known to be sound.
    newest: Cell<Option<SnapshotId>>,
    /// Somebody writes one.
    is_writing: Cell<bool>,
    due: Rc<Signal>,
    written: Counter,
    /// Size of the last one.
    bytes: Cell<u64>,
}

impl MetadataSnapshots {
    pub(crate) fn new(settings: &BrokerSettings, now: MonotonicTime) -> MetadataSnapshots {
        MetadataSnapshots {
            schedule: RefCell::new(SnapshotSchedule::new(settings, now)),
            removed: RefCell::default(),
            last_timestamp: Cell::new(Timestamp::NONE),
            newest: Cell::new(None),
            is_writing: Cell::new(false),
            due: Signal::new(),
            written: Counter::default(),
            bytes: Cell::new(0),
        }
    }

    /// What the metadata log has told at start, or a snapshot that came since: removals, bytes that no snapshot stands for, the time of its last record,
    /// and the snapshot that it went on from.
    pub(crate) fn start_with(
        &self,
        removed: RemovedTopics,
        bytes: u64,
        last_timestamp: Timestamp,
        snapshot: Option<SnapshotId>,
    ) {
        self.newest.set(snapshot);
        *self.removed.borrow_mut() = removed;
        self.schedule.borrow_mut().add(bytes);
        self.last_timestamp.set(last_timestamp);
    }

    /// Records that end before `end` were committed in a batch of so many bytes.
    pub(crate) fn committed(
        &self,
        end: Offset,
        bytes: usize,
        timestamp: Timestamp,
        records: &[MetadataRecord],
    ) {
        for record in records {
            if let MetadataRecord::RemoveTopic(record) = record {
                self.removed.borrow_mut().removed(record.topic_id, end);
            }
        }
        self.schedule.borrow_mut().add(bytes as u64);
        self.last_timestamp.set(timestamp);
    }

    /// Begins to write one, unless somebody does: the storage takes one at a time. Ends with [`MetadataSnapshots::end_writing`].
    pub(crate) fn begin_writing(&self) -> bool {
        !self.is_writing.replace(true)
    }

    pub(crate) fn end_writing(&self) {
        let was_writing = self.is_writing.replace(false);
        assert!(was_writing, "it was begun");
    }

    /// Wakes the task if a snapshot is due.
    pub(crate) fn tick(&self, now: MonotonicTime) {
        if self.schedule.borrow_mut().begin(now) {
            self.due.raise();
        }
    }

    /// Waits until a snapshot is due. Its turn ends with [`MetadataSnapshots::written`] or [`MetadataSnapshots::failed`].
    pub(crate) async fn due(&self) {
        self.due.wait().await;
    }

    /// Topics whose logs may still be there.
    pub(crate) fn removed(&self) -> Vec<TopicId> {
        self.removed.borrow().topics()
    }

    /// All shards have deleted, durably, what was removed before `end`. Returns the topics of later removals.
    pub(crate) fn still_removed(&self, end: Offset) -> Vec<TopicId> {
        let mut removed = self.removed.borrow_mut();
        removed.logs_gone(end);
        removed.topics()
    }

    /// The snapshot stands for everything up to now. Returns the time of the last record.
    pub(crate) fn taken(&self, now: MonotonicTime) -> Timestamp {
        self.schedule.borrow_mut().taken(now);
        self.last_timestamp.get()
    }

    /// The newest one that is known to be sound.
    pub(crate) fn newest(&self) -> Option<SnapshotId> {
        self.newest.get()
    }

    /// It is written, in a file of this size.
    pub(crate) fn written(&self, snapshot: SnapshotId, bytes: u64) {
        self.newest.set(Some(snapshot));
        self.schedule.borrow_mut().written();
        self.written.increment();
        self.bytes.set(bytes);
    }

    /// It was given up.
    pub(crate) fn failed(&self, now: MonotonicTime) {
        self.schedule.borrow_mut().failed(now);
    }

    pub(crate) fn snapshot_into(&self, into: &mut Snapshot) {
        into.counter(&METADATA_SNAPSHOTS, Labels::new(), self.written.get());
        into.gauge(&METADATA_SNAPSHOT_BYTES, Labels::new(), self.bytes.get());
    }
}

/// A snapshot of another broker, sound and in memory, for when the quorum takes it.
pub(crate) struct Taken {
    pub(crate) mark: SnapshotMark,
    pub(crate) contents: Contents,
}

/// What is to be written of one that the quorum takes.
pub(crate) struct SnapshotToWrite {
    pub(crate) new: NewSnapshot,
    pub(crate) image: Arc<MetadataImage>,
    pub(crate) removals: Vec<TopicId>,
}

/// The name of a snapshot with this mark.
pub(crate) fn id_of(mark: &SnapshotMark) -> SnapshotId {
    SnapshotId {
        end_offset: mark.end_offset,
        epoch: mark.term.leader_epoch(),
    }
}

/// Answers up to which end of the metadata log this shard's deletions are durable, once they are.
pub(crate) fn answer_deletions<I: Io>(
    io: &I,
    storage: &Storage<I>,
    cache: &MetadataCache,
    peers: &Rc<Peers>,
    reply: ReplyTo<DeletionsDurable>,
) {
    // Whatever was removed before this end is deleted by now, if not durably yet.
    let end = cache.end_offset();
    let (storage, peers) = (storage.clone(), peers.clone());
    io.spawn(TaskClass::Background, async move {
        let durable = storage.wait_for_deletions().await;
        peers.answer(reply, durable.is_ok().then_some(end));
    });
}
