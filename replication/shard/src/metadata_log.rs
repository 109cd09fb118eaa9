//! The metadata log read at start: what it adds up to.

use std::collections::BTreeSet;
use std::rc::Rc;

use metadata::{ApplyError, MetadataImage, MetadataRecord, RecordError};
use model::record::{Batches, read_records_owned};
use model::{Offset, TopicId};
use runtime::Io;
use storage::{Log, LogConfig, ReadError, ReadRequest, Storage};

/// Bytes read at a time while loading.
const LOAD_BYTES: usize = 1 << 20;

/// Why the metadata log cannot be read. The broker does not start: it would forget topics.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
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
                let value = record.value.ok_or(LoadError::Damaged(header.base_offset))?;
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

/// Kept for ever: the log is the cluster's memory.
pub(crate) fn log_config() -> LogConfig {
    LogConfig {
        retention_ms: -1,
        retention_bytes: -1,
        delete_enabled: false,
        ..LogConfig::default()
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
