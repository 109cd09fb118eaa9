//! The metadata log: reading it at start, committing decisions to it, and telling every shard.
//!
//! Lives on shard 0. A quorum of one: a record is committed when this broker's log has made it durable. Decisions are
//! carried out one at a time, each against the image that holds all earlier ones; an answer leaves only after every
//! shard of the broker has applied its records, so a client sees its topic on whichever core it asks next.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use metadata::{ApplyError, MetadataDelta, MetadataImage, MetadataRecord, RecordError};
use model::record::{BatchBuilder, Batches, read_records_owned};
use model::{ErrorCode, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::{Io, Signal};
use storage::{Log, ReadError, ReadRequest, Storage};

use crate::controller::{ControllerReply, ControllerRequest};
use crate::message::{Envelope, ShardReply};
use crate::produce::Urgency;
use crate::reply::ReplyTo;
use crate::shard::Shard;

/// The partition that holds the metadata log.
pub const METADATA_PARTITION: TopicPartition = TopicPartition {
    topic: TopicId::METADATA,
    partition: PartitionIndex(0),
};

/// How long a decision waits for space on the device before it is refused; others wait behind it.
const DISK_FULL_PATIENCE: Duration = Duration::from_secs(3);

/// How often it is tried again meanwhile.
const DISK_FULL_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes read at a time while loading.
const LOAD_BYTES: usize = 1 << 20;

/// Why the metadata log cannot be read. The broker does not start: it would forget topics.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log cannot be read.
    #[error("the metadata log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A batch is not a batch.
    #[error("the metadata log is damaged at offset {0}")]
    Damaged(Offset),
    /// A record is of an unknown type or version.
    #[error("the metadata log holds a record that this release does not know: {0}")]
    Record(#[from] RecordError),
    /// Records that do not fit together.
    #[error("the metadata log contradicts itself: {0}")]
    Apply(#[from] ApplyError),
    /// The log says that it goes on, but gives nothing.
    #[error("the metadata log ends at offset {1}, but nothing can be read at offset {0}")]
    Stuck(Offset, Offset),
}

/// What the metadata log adds up to.
pub(crate) struct Loaded {
    /// The cluster now.
    pub(crate) image: MetadataImage,
    /// Every topic whose removal was read. Needed at start only: it grows with the log.
    pub(crate) deleted: BTreeSet<TopicId>,
}

/// Reads the whole metadata log into an image.
pub(crate) async fn load<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    cluster_id: &str,
) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded {
        image: MetadataImage::new(cluster_id),
        deleted: BTreeSet::new(),
    };
    let end = log.durable_end_offset();
    let mut from = log.log_start_offset();
    while from < end {
        let request = ReadRequest {
            from,
            end,
            bytes_max: LOAD_BYTES,
            at_least_one_batch: true,
        };
        let asked = from;
        for bytes in storage.read(log, request).await?.batches {
            from = loaded.apply(from, &bytes)?;
        }
        check_progress(asked, from, end)?;
    }
    Ok(loaded)
}

/// After a read at `asked` that led to `reached`: asking for the same again would give the same, for ever.
fn check_progress(asked: Offset, reached: Offset, end: Offset) -> Result<(), LoadError> {
    if reached > asked {
        Ok(())
    } else {
        Err(LoadError::Stuck(asked, end))
    }
}

impl Loaded {
    /// Applies batches of the log; returns the offset behind them.
    fn apply(&mut self, mut from: Offset, bytes: &[u8]) -> Result<Offset, LoadError> {
        for batch in Batches::new(bytes) {
            let (header, batch) = batch.map_err(|_| LoadError::Damaged(from))?;
            let damaged = |_| LoadError::Damaged(header.base_offset);
            let records = read_records_owned(batch).map_err(damaged)?;
            let mut decoded = Vec::with_capacity(records.len());
            for record in records {
                let value = record.value.unwrap_or_default();
                let record = MetadataRecord::decode(&value)?;
                if let MetadataRecord::RemoveTopic(removed) = &record {
                    self.deleted.insert(removed.topic_id);
                }
                decoded.push(record);
            }
            self.image.apply_batch(header.base_offset, &decoded)?;
            from = header.next_offset();
        }
        Ok(from)
    }
}

/// Requests to the controller, and how far each shard has applied its decisions.
pub struct QuorumDriver {
    queue: RefCell<VecDeque<(ControllerRequest, ReplyTo)>>,
    arrived: Rc<Signal>,
    applied: RefCell<Vec<Offset>>,
    applied_changed: Rc<Signal>,
}

impl QuorumDriver {
    /// For a broker of `shard_count` shards.
    pub fn new(shard_count: u16) -> QuorumDriver {
        QuorumDriver {
            queue: RefCell::default(),
            arrived: Signal::new(),
            applied: RefCell::new(vec![Offset::ZERO; usize::from(shard_count)]),
            applied_changed: Signal::new(),
        }
    }

    /// Adds a request behind those before it.
    pub fn enqueue(&self, request: ControllerRequest, reply: ReplyTo) {
        self.queue.borrow_mut().push_back((request, reply));
        self.arrived.raise();
    }

    /// A shard has applied the records before `end`.
    pub fn applied(&self, shard: ShardId, end: Offset) {
        self.applied.borrow_mut()[usize::from(shard.0)] = end;
        self.applied_changed.raise();
    }

    async fn all_applied(&self, end: Offset) {
        while self.applied.borrow().iter().any(|applied| *applied < end) {
            self.applied_changed.wait().await;
        }
    }
}

/// Carries out controller requests, one at a time.
pub async fn run<I: Io>(shard: Rc<Shard<I>>) {
    loop {
        let next = shard.quorum.queue.borrow_mut().pop_front();
        match next {
            Some((request, reply)) => {
                let answer = shard.control(request).await;
                shard.peers.answer(reply, ShardReply::Controller(answer));
            }
            None => shard.quorum.arrived.wait().await,
        }
    }
}

impl<I: Io> Shard<I> {
    async fn control(
        self: &Rc<Self>,
        request: ControllerRequest,
    ) -> Result<ControllerReply, ErrorCode> {
        let (records, reply) = self.decide(request);
        if !records.is_empty() {
            let removes =
                |record: &MetadataRecord| matches!(record, MetadataRecord::RemoveTopic(_));
            let urgency = if records.iter().any(removes) {
                Urgency::FreesSpace
            } else {
                Urgency::Ordinary
            };
            self.commit_metadata(records, urgency).await?;
        }
        Ok(reply)
    }

    /// Makes records part of the metadata log, then of every shard's image.
    pub(crate) async fn commit_metadata(
        self: &Rc<Self>,
        records: Vec<MetadataRecord>,
        urgency: Urgency,
    ) -> Result<(), ErrorCode> {
        let mut batch = BatchBuilder::new();
        let now = self.io.wall_clock();
        for record in &records {
            batch.push(now, None, Some(&record.encode()));
        }
        let batch = batch.build().map_err(|_| ErrorCode::UnknownServerError)?;
        let base = self.append_metadata(&batch, urgency).await?;
        let count = i64::try_from(records.len()).expect("a batch counts its records in 32 bits");
        let end = base.plus(count);
        let records: Arc<[MetadataRecord]> = records.into();
        self.apply_metadata(end, &records);
        for other in self.peers.others() {
            self.peers
                .send(other, Envelope::Metadata(end, records.clone()));
        }
        self.coordinator_deletions().await;
        self.quorum.applied(self.id(), end);
        self.quorum.all_applied(end).await;
        Ok(())
    }

    /// Appends to the metadata log. A device without space is given some time: what frees it may be under way.
    async fn append_metadata(
        self: &Rc<Self>,
        batch: &[u8],
        urgency: Urgency,
    ) -> Result<Offset, ErrorCode> {
        let deadline = self.io.now().plus(DISK_FULL_PATIENCE);
        loop {
            let appended = self
                .append_internal(METADATA_PARTITION, batch, urgency)
                .await;
            // On a full device the batch was refused. After a fence it may be in the log: never twice.
            let is_full = self.storage.is_disk_full() && self.storage.fence_reason().is_none();
            if appended.is_ok() || !is_full || self.io.now() >= deadline {
                return appended;
            }
            self.io.sleep(DISK_FULL_INTERVAL).await;
        }
    }

    /// Applies committed records that end before `end` to this shard's image, and acts on what changed.
    pub(crate) fn apply_metadata(self: &Rc<Self>, end: Offset, records: &[MetadataRecord]) {
        let count = i64::try_from(records.len()).expect("bounded by a batch");
        let base = Offset(end.0 - count);
        // A committed record that cannot be applied means that this shard no longer knows the cluster.
        let delta = self
            .image
            .borrow_mut()
            .apply_batch(base, records)
            .expect("committed metadata records apply");
        self.act_on(&delta);
    }

    fn act_on(self: &Rc<Self>, delta: &MetadataDelta) {
        for (id, change) in &delta.partitions {
            if self.owner(*id) != self.id() {
                continue;
            }
            match change {
                metadata::PartitionDelta::Created => self.open_partition(*id),
                metadata::PartitionDelta::Deleted => self.close_partition(*id),
                metadata::PartitionDelta::Changed { .. } => self.change_partition(*id),
            }
        }
        let deleted = delta.topics_deleted.values().cloned().collect();
        self.coordinator_topics_deleted(&deleted);
        for (kind, name) in &delta.configs {
            if *kind == metadata::ConfigResourceType::Topic {
                self.topic_configured(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loading_ends_if_the_log_gives_nothing_more() {
        let table = [(5, 6, true), (5, 9, true), (5, 5, false), (5, 4, false)];
        for (asked, reached, goes_on) in table {
            let progress = check_progress(Offset(asked), Offset(reached), Offset(9));
            assert_eq!(progress.is_ok(), goes_on, "{asked} to {reached}");
        }
        let mut loaded = Loaded {
            image: MetadataImage::new("cluster"),
            deleted: BTreeSet::new(),
        };
        // A read that found no batch leads nowhere.
        assert_eq!(loaded.apply(Offset(5), &[]).unwrap(), Offset(5));
    }
}
