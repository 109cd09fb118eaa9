//! The metadata log read at start: what it adds up to, and what the quorum has to know of it.
//!
//! The only voter's log is committed as far as it is durable: all of it is applied, though the quorum says so only later.
//! What of a decision is missing would be taken for its opposite: a log without a topic, offsets of a topic that is gone.
//! A log of a release without a quorum was made one of a quorum before ([`crate::metadata_upgrade`]).

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use metadata::{ApplyError, MetadataImage, MetadataRecord, RecordError};
use model::config::BrokerSettings;
use model::record::{BatchHeader, Batches, read_records_owned};
use model::{Offset, Timestamp, TopicPartition};
use quorum::{
    CodecError, HardState, Recovered, RecoveredLog, Recovery, RecoveryError, ReplicaKey, Shown,
    SnapshotMark, VoterSet, bootstrap, decode_mark,
};
use runtime::Io;
use storage::{
    AppendError, CutError, FollowError, LoadSnapshotError, Log, LogConfig, LogSnapshot,
    QuorumState, ReadError, ReadRequest, ReplicatedBatch, SnapshotError, SnapshotId, Storage,
};

use crate::removed_topics::RemovedTopics;

/// Bytes read at a time while loading.
const LOAD_BYTES: usize = 1 << 20;

/// Smallest segment of the metadata log: below this, files cost more than the space that goes with them.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;

/// Why the metadata log cannot be read. The broker does not start: it would forget topics.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the metadata log cannot be read: {0}")]
    Read(#[from] ReadError),
    #[error("the metadata log and its snapshots: {0}{advice}", advice = advice(.0))]
    Snapshot(#[from] LoadSnapshotError),
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
    /// What a snapshot says of its place in the log.
    #[error("the mark of snapshot {0}: {1}")]
    Mark(SnapshotId, CodecError),
    /// A mark and the name of its file differ.
    #[error("snapshot {0} is one up to offset {1}")]
    Misnamed(SnapshotId, Offset),
    /// The log lacks what this replica has promised to keep.
    #[error("the metadata log has lost what was durable: {0}{SET_ASIDE}")]
    Lost(#[from] RecoveryError),
    /// Nobody could ever lead.
    #[error(
        "broker {0} is not the voter of its metadata log, which is {1:?}: was directory.id in meta.properties changed?"
    )]
    NotVoter(ReplicaKey, Vec<ReplicaKey>),
    /// The log cannot begin where its snapshot ends.
    #[error("the metadata log cannot go on from its snapshot: {0}")]
    Reset(#[from] CutError),
    /// The first entry, or a promise, cannot be written.
    #[error("the metadata log cannot begin: {0}")]
    Begin(#[from] AppendError),
    #[error("the metadata log cannot begin: {0}")]
    Follow(#[from] FollowError),
    /// A log of a release without a quorum cannot be made one of a quorum.
    #[error("the metadata log of an earlier release: {0}")]
    Upgrade(#[from] SnapshotError),
}

const SET_ASIDE: &str = ", or start once with ringlog.accept.lost.data=true (--accept-lost-data): the metadata log and the logs \
     of all topics are then set aside in lost+found";

/// How to go on without what was lost.
fn advice(error: &LoadSnapshotError) -> &'static str {
    match error {
        LoadSnapshotError::Damaged { .. } | LoadSnapshotError::Missing { .. } => SET_ASIDE,
        LoadSnapshotError::Ahead { .. } => {
            ", or start once with ringlog.accept.lost.data=true (--accept-lost-data): what was decided since the snapshot is \
             then lost, and logs of topics made since are set aside in lost+found"
        }
        LoadSnapshotError::Io { .. } => "",
    }
}

impl LoadError {
    /// Whether something is gone that trying again does not bring back.
    pub(crate) fn is_loss(&self) -> bool {
        match self {
            LoadError::Snapshot(error) => error.is_loss(),
            LoadError::Lost(_) => true,
            _ => false,
        }
    }
}

/// What a start is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadContext<'a> {
    /// This broker with its directory.
    pub(crate) me: ReplicaKey,
    pub(crate) cluster_id: &'a str,
    /// A new directory begins a cluster; else it joins one.
    pub(crate) founds: bool,
    /// Logs that were found in the data directory.
    pub(crate) found: &'a BTreeSet<TopicPartition>,
    /// To go on without what was lost.
    pub(crate) accept_lost_data: bool,
}

/// What the metadata log adds up to.
pub(crate) struct Contents {
    pub(crate) image: MetadataImage,
    /// Topics whose removal was read: their logs may still be there.
    pub(crate) removed: RemovedTopics,
    /// Partitions of decisions that are in the log, but not known to be committed.
    pub(crate) pending: BTreeSet<TopicPartition>,
    /// Bytes of the records that no snapshot stands for.
    pub(crate) bytes: u64,
    /// Of the last record.
    pub(crate) last_timestamp: Timestamp,
    /// The snapshot that it went on from.
    pub(crate) snapshot: Option<SnapshotId>,
}

/// The metadata log, read.
pub(crate) struct Loaded {
    pub(crate) contents: Contents,
    pub(crate) recovered: RecoveredLog,
}

/// Reads the newest snapshot of the metadata log, and the log from there on. With `accept_lost_data` a snapshot counts
/// that stands for more than the log has. The storage has not started: what is written here is in front of all that
/// follows.
pub(crate) async fn load<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    context: LoadContext<'_>,
) -> Result<Loaded, LoadError> {
    let state = log.quorum_state();
    let is_new = log.log_end_offset() == Offset::ZERO && state.term <= 1 && state.vote == 0;
    let first = match is_new && context.founds {
        true => Some(begin(storage, log, context.me)?),
        false => None,
    };
    loop {
        let snapshot = newest(storage, log, context).await?;
        let mark = snapshot.as_ref().map(mark_of).transpose()?;
        let contents = match &snapshot {
            Some(snapshot) => Contents::from_snapshot(context.cluster_id, snapshot)?,
            None => Contents::empty(context.cluster_id),
        };
        let QuorumState { term, vote, commit } = log.quorum_state();
        let state = HardState { term, vote, commit };
        let recovery = Recovery::new(context.me, state, mark, log.log_start_offset())?;
        let mut reading = Reading {
            recovery,
            contents,
            waiting: Vec::new(),
        };
        read_log(storage, log, |batch| reading.show(batch)).await?;
        if let Some(batch) = &first {
            reading.show(batch.clone())?;
        }
        match reading.recovery.finish()? {
            Recovered::Ready(recovered) => {
                let voters = recovered.voters().keys();
                let me = context.me;
                if let [voter] = voters
                    && voter.broker == me.broker
                    && *voter != me
                {
                    return Err(LoadError::NotVoter(me, voters.to_vec()));
                }
                let is_alone = voters == [me];
                for batch in &reading.waiting {
                    match is_alone {
                        true => reading.contents.apply(batch)?,
                        false => reading.contents.foresee(batch)?,
                    }
                }
                return Ok(Loaded {
                    contents: reading.contents,
                    recovered,
                });
            }
            Recovered::ResetLog(mark) => storage.reset_before_start(log, mark.end_offset)?,
        }
    }
}

/// What the storage keeps of a replica's hard state.
pub(crate) fn stored(state: HardState) -> QuorumState {
    let HardState { term, vote, commit } = state;
    QuorumState { term, vote, commit }
}

/// The first entry of a cluster whose only voter this is. It is in the open commit group.
fn begin<I: Io>(storage: &Storage<I>, log: &Rc<Log>, me: ReplicaKey) -> Result<Bytes, LoadError> {
    let voters = VoterSet::new(vec![me]).expect("one voter clashes with nobody");
    let begin = bootstrap(&voters);
    storage.set_quorum_state(log, stored(begin.state))?;
    let batch = ReplicatedBatch {
        bytes: &begin.batch,
        offset_delta_of_max_timestamp: 0,
    };
    storage.append_decided(log, &[batch], Timestamp(0))?;
    Ok(begin.batch)
}

/// The snapshot to go on from. One that says more than the log is what a crash leaves behind when it was fetched from another
/// voter; where there is none, the log has lost its end.
async fn newest<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    context: LoadContext<'_>,
) -> Result<Option<LogSnapshot>, LoadError> {
    let error = match storage.load_snapshot(log).await {
        Ok(snapshot) => return Ok(snapshot),
        Err(error) => error,
    };
    if let LoadSnapshotError::Ahead { snapshot, .. } = &error {
        let mark = mark_of(snapshot)?;
        let is_alone = mark.voters.keys() == [context.me];
        if context.accept_lost_data || !is_alone {
            tracing::warn!(%error, "the snapshot is taken");
            return Ok(Some(LogSnapshot::clone(snapshot)));
        }
    }
    Err(error.into())
}

/// What it says of its place in the log.
pub(crate) fn mark_of(snapshot: &LogSnapshot) -> Result<SnapshotMark, LoadError> {
    let mark = decode_mark(&snapshot.mark).map_err(|error| LoadError::Mark(snapshot.id, error))?;
    match mark.end_offset == snapshot.id.end_offset {
        true => Ok(mark),
        false => Err(LoadError::Misnamed(snapshot.id, mark.end_offset)),
    }
}

/// Shows every batch of the log that is durable.
pub(crate) async fn read_log<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    mut show: impl FnMut(Bytes) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
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
            for batch in Batches::new(&bytes) {
                let (header, batch) = batch.map_err(|_| LoadError::Damaged(from))?;
                from = header.next_offset();
                show(bytes.slice_ref(batch))?;
            }
        }
        check_progress(asked, from, end)?;
    }
    Ok(())
}

/// After a read at `asked` that led to `reached`: asking for the same again would give the same, for ever.
fn check_progress(asked: Offset, reached: Offset, end: Offset) -> Result<(), LoadError> {
    if reached > asked {
        Ok(())
    } else {
        Err(LoadError::Stuck(asked, end))
    }
}

/// A log that is being read.
struct Reading {
    recovery: Recovery,
    contents: Contents,
    /// Batches that come out of the quorum once more, when it knows that they are committed.
    waiting: Vec<Bytes>,
}

impl Reading {
    fn show(&mut self, batch: Bytes) -> Result<(), LoadError> {
        match self.recovery.show(batch.clone())? {
            Shown::Covered => {}
            Shown::Apply => self.contents.apply(&batch)?,
            Shown::Wait => self.waiting.push(batch),
        }
        Ok(())
    }
}

impl Contents {
    pub(crate) fn empty(cluster_id: &str) -> Contents {
        Contents {
            image: MetadataImage::new(cluster_id),
            removed: RemovedTopics::default(),
            pending: BTreeSet::new(),
            bytes: 0,
            last_timestamp: Timestamp::NONE,
            snapshot: None,
        }
    }

    pub(crate) fn from_snapshot(
        cluster_id: &str,
        snapshot: &LogSnapshot,
    ) -> Result<Contents, LoadError> {
        let end_offset = snapshot.id.end_offset;
        let mut removed = RemovedTopics::default();
        let batches = snapshot.batches().map(|batch| {
            let (_, batch) = batch.map_err(|_| LoadError::Damaged(end_offset))?;
            records_of(batch, end_offset)
        });
        let records = batches.flat_map(|decoded| match decoded {
            Ok(records) => records.into_iter().map(Ok).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        let records = records.inspect(|record| {
            if let Ok(MetadataRecord::RemoveTopic(record)) = record {
                removed.removed(record.topic_id, end_offset);
            }
        });
        let image = MetadataImage::try_from_records(cluster_id, end_offset, records)?;
        tracing::info!(
            snapshot = %snapshot.id,
            bytes = snapshot.size_bytes,
            topics = image.topic_count(),
            "the metadata log goes on from a snapshot"
        );
        Ok(Contents {
            image,
            removed,
            pending: BTreeSet::new(),
            bytes: 0,
            last_timestamp: snapshot.last_contained_log_timestamp,
            snapshot: Some(snapshot.id),
        })
    }

    /// Notes which partitions a batch makes that may be committed.
    fn foresee(&mut self, batch: &[u8]) -> Result<(), LoadError> {
        for record in Decoded::of(batch)?.records {
            if let MetadataRecord::Partition(record) = record {
                self.pending.insert(TopicPartition {
                    topic: record.topic_id,
                    partition: record.partition_id,
                });
            }
        }
        Ok(())
    }

    /// Applies a batch of the log.
    pub(crate) fn apply(&mut self, batch: &[u8]) -> Result<(), LoadError> {
        let Decoded { header, records } = Decoded::of(batch)?;
        let end = header.next_offset();
        if records.is_empty() {
            self.image.pass(end);
            return Ok(());
        }
        self.image.apply_batch(header.base_offset, &records)?;
        for record in &records {
            if let MetadataRecord::RemoveTopic(record) = record {
                self.removed.removed(record.topic_id, end);
            }
        }
        self.bytes += batch.len() as u64;
        self.last_timestamp = header.max_timestamp;
        Ok(())
    }
}

/// A batch of the log: its records, or none if it is the quorum's own.
struct Decoded {
    header: BatchHeader,
    records: Vec<MetadataRecord>,
}

impl Decoded {
    fn of(batch: &[u8]) -> Result<Decoded, LoadError> {
        let header = BatchHeader::parse(batch).map_err(|_| LoadError::Damaged(Offset::NONE))?;
        let records = match header.is_control() {
            true => Vec::new(),
            false => records_of(batch, header.base_offset)?,
        };
        Ok(Decoded { header, records })
    }
}

/// The records of a batch at this offset.
pub(crate) fn records_of(batch: &[u8], offset: Offset) -> Result<Vec<MetadataRecord>, LoadError> {
    let records = read_records_owned(batch).map_err(|_| LoadError::Damaged(offset))?;
    let mut decoded = Vec::with_capacity(records.len());
    for record in records {
        let value = record.value.ok_or(LoadError::Damaged(offset))?;
        decoded.push(MetadataRecord::decode(&value)?);
    }
    Ok(decoded)
}

/// Nothing expires: what a snapshot stands for is cut off. A segment holds about what comes between two snapshots, so
/// that the log in front of its end does not stay because one record behind it is in the same file.
pub(crate) fn log_config(settings: &BrokerSettings) -> LogConfig {
    let defaults = LogConfig::default();
    let bytes = settings.metadata_log_max_record_bytes_between_snapshots;
    LogConfig {
        // The registry's range begins at 1.
        segment_bytes: bytes
            .unsigned_abs()
            .clamp(SEGMENT_BYTES_MIN, defaults.segment_bytes),
        retention_ms: -1,
        retention_bytes: -1,
        delete_enabled: false,
        ..defaults
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
    }
}
