//! Makes the metadata log of a release without a quorum one of a quorum, once, at start.
//!
//! Such a log has leader epoch 0 throughout, and its snapshots do not say which entry of a quorum they end with. What it adds
//! up to becomes a snapshot in term 1 with this broker as the only voter; then this replica is in term 1, and the log is
//! emptied and begins at the snapshot's end. The snapshot is durable before the two marks are written, which stand in one
//! commit group: a crash in between leaves the old log as it was, and it is done once more.

use std::rc::Rc;

use bytes::Bytes;
use metadata::removal_records;
use model::record::BatchHeader;
use model::{LeaderEpoch, Offset};
use quorum::{EntryIndex, HardState, SnapshotMark, Term, VoterSet, encode_mark};
use runtime::Io;
use storage::{LoadSnapshotError, Log, NewSnapshot, QuorumState, SnapshotId, Storage};

use crate::metadata_log::{Contents, LoadContext, LoadError, read_log, stored};

const FIRST_TERM: Term = Term(1);

/// Whether a log is one of an earlier release: it has no quorum state, but something in it.
async fn is_old<I: Io>(storage: &Storage<I>, log: &Rc<Log>) -> Result<bool, LoadError> {
    if log.quorum_state() != QuorumState::default() {
        return Ok(false);
    }
    if log.log_end_offset() > Offset::ZERO {
        return Ok(true);
    }
    match storage.load_snapshot(log).await {
        Ok(snapshot) => Ok(snapshot.is_some()),
        Err(LoadSnapshotError::Ahead { .. }) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Makes the log of an earlier release one of a quorum. Any other stays as it is.
pub(crate) async fn upgrade<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    context: LoadContext<'_>,
) -> Result<(), LoadError> {
    if !is_old(storage, log).await? {
        return Ok(());
    }
    let contents = read(storage, log, context).await?;
    let end_offset = contents.image.end_offset();
    let voters = VoterSet::new(vec![context.me]).expect("one voter clashes with nobody");
    let mark = SnapshotMark {
        // Nothing counts the batches that were cut off: an entry's place is only compared with that of others.
        index: EntryIndex(end_offset.0.unsigned_abs().max(1)),
        term: FIRST_TERM,
        end_offset,
        voters,
    };
    let snapshot = NewSnapshot {
        id: SnapshotId {
            end_offset,
            epoch: LeaderEpoch(1),
        },
        last_contained_log_timestamp: contents.last_timestamp,
        mark: encode_mark(&mark),
        previous: None,
    };
    // Of other topics nothing is left that a removal would explain.
    let removed = contents.removed.topics().into_iter();
    let removed = removed.filter(|topic| context.found.iter().any(|log| log.topic == *topic));
    let records = removed
        .flat_map(removal_records)
        .chain(contents.image.to_records());
    let records = records.map(|record| record.encode());
    let written = storage.snapshot_before_start(log, snapshot, records);
    let bytes = written.await?;
    let state = HardState {
        term: FIRST_TERM.0,
        vote: 0,
        commit: 0,
    };
    storage.set_quorum_state(log, stored(state))?;
    storage.reset_before_start(log, end_offset)?;
    tracing::info!(%end_offset, bytes, "the metadata log of an earlier release is one of a quorum now");
    Ok(())
}

/// What the old log adds up to: all of it is committed.
async fn read<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    context: LoadContext<'_>,
) -> Result<Contents, LoadError> {
    let cluster_id = context.cluster_id;
    let mut contents = match storage.load_snapshot(log).await {
        Ok(Some(snapshot)) => Contents::from_snapshot(cluster_id, &snapshot)?,
        Ok(None) => Contents::empty(cluster_id),
        Err(LoadSnapshotError::Ahead { snapshot, .. }) if context.accept_lost_data => {
            Contents::from_snapshot(cluster_id, &snapshot)?
        }
        Err(error) => return Err(error.into()),
    };
    let from = contents.image.end_offset();
    read_log(storage, log, |batch: Bytes| {
        let header = BatchHeader::parse(&batch).map_err(|_| LoadError::Damaged(from))?;
        match header.base_offset < from {
            true => Ok(()),
            false => contents.apply(&batch),
        }
    })
    .await?;
    Ok(contents)
}
