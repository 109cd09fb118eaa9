//! The metadata log read at start: what it adds up to.

use std::rc::Rc;

use metadata::{ApplyError, MetadataImage, MetadataRecord, RecordError};
use model::config::BrokerSettings;
use model::record::{Batches, read_records_owned};
use model::{Offset, Timestamp};
use runtime::Io;
use storage::{
    LoadSnapshotError, Log, LogConfig, LogSnapshot, ReadError, ReadRequest, SnapshotId, Storage,
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
}

/// How to go on without what was lost.
fn advice(error: &LoadSnapshotError) -> &'static str {
    match error {
        LoadSnapshotError::Damaged { .. } | LoadSnapshotError::Missing { .. } => {
            ", or start once with ringlog.accept.lost.data=true (--accept-lost-data): the metadata log and the logs of all \
             topics are then set aside in lost+found"
        }
        LoadSnapshotError::Ahead { .. } => {
            ", or start once with ringlog.accept.lost.data=true (--accept-lost-data): what was decided since the snapshot is \
             then lost, and logs of topics made since are set aside in lost+found"
        }
        LoadSnapshotError::Io { .. } => "",
    }
}

/// What the metadata log adds up to.
pub(crate) struct Loaded {
    pub(crate) image: MetadataImage,
    /// Topics whose removal was read: their logs may still be there.
    pub(crate) removed: RemovedTopics,
    /// Bytes of the records that no snapshot stands for.
    pub(crate) bytes: u64,
    /// Of the last record.
    pub(crate) last_timestamp: Timestamp,
    /// The snapshot that it went on from.
    pub(crate) snapshot: Option<SnapshotId>,
}

/// Reads the newest snapshot of the metadata log, and the log from there on, into an image. With `accept_lost_data` a
/// snapshot counts that stands for more than the log has: the image then ends behind the log.
pub(crate) async fn load<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    cluster_id: &str,
    accept_lost_data: bool,
) -> Result<Loaded, LoadError> {
    let mut loaded = match storage.load_snapshot(log).await {
        Ok(Some(snapshot)) => Loaded::from_snapshot(cluster_id, &snapshot)?,
        Ok(None) => Loaded::empty(cluster_id),
        Err(error) => match error {
            LoadSnapshotError::Ahead { ref snapshot, .. } if accept_lost_data => {
                tracing::warn!(%error, "that is accepted");
                Loaded::from_snapshot(cluster_id, snapshot)?
            }
            error => return Err(error.into()),
        },
    };
    let end = log.durable_end_offset();
    let mut from = loaded.image.end_offset();
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
    pub(crate) fn empty(cluster_id: &str) -> Loaded {
        Loaded {
            image: MetadataImage::new(cluster_id),
            removed: RemovedTopics::default(),
            bytes: 0,
            last_timestamp: Timestamp::NONE,
            snapshot: None,
        }
    }

    fn from_snapshot(cluster_id: &str, snapshot: &LogSnapshot) -> Result<Loaded, LoadError> {
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
        Ok(Loaded {
            image,
            removed,
            bytes: 0,
            last_timestamp: snapshot.last_contained_log_timestamp,
            snapshot: Some(snapshot.id),
        })
    }

    /// Applies batches of the log; returns the offset behind them.
    fn apply(&mut self, mut from: Offset, bytes: &[u8]) -> Result<Offset, LoadError> {
        for batch in Batches::new(bytes) {
            let (header, batch) = batch.map_err(|_| LoadError::Damaged(from))?;
            let records = records_of(batch, header.base_offset)?;
            self.image.apply_batch(header.base_offset, &records)?;
            from = header.next_offset();
            for record in &records {
                if let MetadataRecord::RemoveTopic(record) = record {
                    self.removed.removed(record.topic_id, from);
                }
            }
            self.bytes += batch.len() as u64;
            self.last_timestamp = header.max_timestamp;
        }
        Ok(from)
    }
}

/// The records of a batch at this offset.
fn records_of(batch: &[u8], offset: Offset) -> Result<Vec<MetadataRecord>, LoadError> {
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
        let mut loaded = Loaded::empty("cluster");
        // A read that found no batch leads nowhere.
        assert_eq!(loaded.apply(Offset(5), &[]).unwrap(), Offset(5));
    }
}
