//! Loading: a coordinator's state from the records of its partition.
//!
//! One task per shard, one partition after the other. Requests are answered COORDINATOR_LOAD_IN_PROGRESS meanwhile.
//! The cost is bounded by rewriting the state now and then ([`super::append`]).

use std::rc::Rc;

use model::Offset;
use model::record::{BatchError, Batches, RecordError, read_records_owned};
use runtime::{Io, Signal};
use storage::{Log, ReadError, ReadRequest};

use super::hosted::Hosted;
use super::{CoordinatorHost, Tools};

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a batch is damaged: {0}")]
    Batch(#[from] BatchError),
    #[error("a batch cannot be read: {0}")]
    Record(#[from] RecordError),
    #[error("nothing can be read at offset {0}")]
    Stuck(Offset),
}

pub(super) async fn run<I: Io>(host: Rc<CoordinatorHost<I>>) {
    let signal = Signal::new();
    loop {
        let hosted = host.loading.next(&signal).await;
        let Some(partition) = host.tools.partitions.get(hosted.id) else {
            continue;
        };
        let started_at = host.tools.io.now();
        let loaded = load_groups(&host.tools, &hosted, &partition.log).await;
        if hosted.is_closed() {
            continue;
        }
        let took = host.tools.io.now().since(started_at);
        match loaded {
            Ok(bytes) => {
                tracing::debug!(partition = %hosted.id, bytes, ?took, "groups loaded");
                host.finish_loading(&hosted);
            }
            // Serving what was read so far would give out old offsets as new ones.
            Err(error) => {
                tracing::error!(
                    partition = %hosted.id,
                    %error,
                    "groups of this partition cannot be loaded and are not served"
                );
                host.closed(hosted.id);
            }
        }
    }
}

/// Replays the log up to where it ends now: nobody appends while a coordinator loads. Returns the bytes read.
async fn load_groups<I: Io>(
    tools: &Tools<I>,
    hosted: &Hosted,
    log: &Rc<Log>,
) -> Result<usize, LoadError> {
    let end = log.log_end_offset();
    let mut from = log.log_start_offset();
    let mut bytes_read = 0;
    while from < end && !hosted.is_closed() {
        let request = ReadRequest {
            from,
            end,
            bytes_max: READ_BYTES,
            at_least_one_batch: true,
        };
        let read = tools.storage.read(log, request).await?;
        let asked = from;
        for bytes in read.batches {
            bytes_read += bytes.len();
            for batch in Batches::new(&bytes) {
                let (header, batch) = batch?;
                if !header.attributes.is_control() {
                    replay_batch(hosted, batch, asked)?;
                }
                from = header.next_offset();
                tools.io.yield_if_needed().await;
            }
        }
        if from == asked {
            return Err(LoadError::Stuck(from));
        }
    }
    hosted.add_load_bytes(bytes_read);
    Ok(bytes_read)
}

/// Replays the records of one batch. The first batch of a log may begin before the start of the log.
fn replay_batch(hosted: &Hosted, batch: &[u8], from: Offset) -> Result<(), RecordError> {
    for record in read_records_owned(batch)? {
        if record.offset >= from {
            hosted.replay(record.key.as_deref(), record.value.as_deref());
        }
    }
    Ok(())
}
