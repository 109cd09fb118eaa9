//! Writes snapshots of the metadata log: on shard 0, in the background while decisions go on.
//!
//! A snapshot stands for all records before an end of the metadata log; once it is durable the log is cut behind the one
//! before. With the log go the removals of topics, by which a start tells logs that are to be deleted from logs that were
//! lost. So first every shard is asked to make its deletions durable; removals that came after its answer, which are few,
//! go along in the snapshot.

use std::rc::Rc;

use metadata::removal_records;
use model::Offset;
use quorum::encode_mark;
use runtime::Io;
use storage::{AppendError, NewSnapshot, SnapshotError, SnapshotId};

use crate::metadata_quorum;
use crate::metadata_snapshots::id_of;
use crate::partitions::METADATA_PARTITION;
use crate::request::DeletionsDurable;
use crate::shard::Shard;

/// Most removals that a snapshot carries: some 10 MiB. With more, shards do not get their deletions durable.
const REMOVALS_MAX: usize = 100_000;

/// Why there is no snapshot this time. The metadata log is as it was.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("a shard cannot make its deletions durable")]
    Deletions,
    #[error("{0} topics were removed whose logs may still be there")]
    Removals(usize),
    #[error("nothing was decided yet")]
    Nothing,
    #[error("this broker goes on from a later one meanwhile")]
    Overtaken,
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Writes a snapshot whenever one is due: one long-lived task of shard 0.
pub(crate) async fn run<I: Io>(shard: Rc<Shard<I>>) {
    let snapshots = &shard.snapshots;
    loop {
        snapshots.due().await;
        let begun_at = shard.io.now();
        let written = match snapshots.begin_writing() {
            true => {
                let written = write(&shard).await;
                snapshots.end_writing();
                written
            }
            false => Err(Failure::Overtaken),
        };
        match written {
            Ok((id, bytes)) => {
                let took = shard.io.now().since(begun_at);
                tracing::info!(snapshot = %id, bytes, ?took, "a snapshot of the metadata log is written");
                snapshots.written(id, bytes);
            }
            Err(error) => {
                if is_worth_a_warning(&error) {
                    tracing::warn!(%error, "a snapshot of the metadata log is given up for now");
                }
                snapshots.failed(shard.io.now());
            }
        }
    }
}

/// A broker that ends leaves a snapshot to the next start.
fn is_worth_a_warning(failure: &Failure) -> bool {
    !matches!(
        failure,
        Failure::Snapshot(SnapshotError::Closing | SnapshotError::NotCut(AppendError::Closing))
    )
}

/// Writes one. Returns which, and its size in bytes.
async fn write<I: Io>(shard: &Rc<Shard<I>>) -> Result<(SnapshotId, u64), Failure> {
    let answers = shard.ask_all(&DeletionsDurable).await;
    let ends: Option<Vec<Offset>> = answers.into_iter().collect();
    let gone = ends.and_then(|ends| ends.into_iter().min());
    let removed = shard
        .snapshots
        .still_removed(gone.ok_or(Failure::Deletions)?);
    if removed.len() > REMOVALS_MAX {
        return Err(Failure::Removals(removed.len()));
    }
    // From the list of removals to here nothing was awaited: all is of one moment, the one that the snapshot stands for.
    let replica = shard.replica().expect("snapshots are written on shard 0");
    let mark = replica.snapshot_mark().ok_or(Failure::Nothing)?;
    let image = shard.image().clone();
    assert_eq!(
        image.end_offset(),
        mark.end_offset,
        "what is committed is applied at once"
    );
    let last_contained_log_timestamp = shard.snapshots.taken(shard.io.now());
    let snapshot = NewSnapshot {
        id: id_of(&mark),
        last_contained_log_timestamp,
        mark: encode_mark(&mark),
        previous: shard.snapshots.newest(),
    };
    let removals = removed.into_iter().flat_map(removal_records);
    let records = removals.chain(image.to_records());
    let records = records.map(|record| record.encode());
    let log = shard.storage.log(METADATA_PARTITION);
    let log = log.expect("shard 0 has opened it");
    let id = snapshot.id;
    let bytes = shard.storage.snapshot(&log, snapshot, records).await?;
    // One that came from another broker has taken its place.
    if shard.snapshots.newest().is_some_and(|newest| newest > id) {
        return Err(Failure::Overtaken);
    }
    metadata_quorum::snapshot_written(shard, &mark);
    Ok((id, bytes))
}
