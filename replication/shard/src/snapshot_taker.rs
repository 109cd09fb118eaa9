//! Snapshots of the metadata log between brokers: pieces of this broker's own for others, and one that it was given.
//!
//! On shard 0. A broker that needs what the others' metadata log no longer reaches back to is given a snapshot. It is checked
//! as a whole, and kept in memory until the quorum takes it, or not: see [`crate::metadata_quorum`].

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use quorum::SnapshotMark;
use runtime::Io;
use storage::{LogSnapshot, NotASnapshot, SnapshotId};

use crate::metadata_log::{Contents, LoadError, mark_of};
use crate::metadata_quorum;
use crate::metadata_snapshots::{Taken, id_of};
use crate::shard::Shard;

/// Why a snapshot that came is not taken. Nothing has changed.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Damaged(#[from] NotASnapshot),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("it is another one than was offered")]
    Another,
}

/// Reads a piece of one of this broker's snapshots.
pub(crate) async fn read<I: Io>(
    shard: &Rc<Shard<I>>,
    id: SnapshotId,
    offset: u64,
    length: usize,
) -> io::Result<Option<(u64, Bytes)>> {
    let replica = shard.replica().expect("shard 0 is asked");
    let log = replica.log();
    shard.storage.read_snapshot(log, id, offset, length).await
}

/// A snapshot has come, whole as far as its length tells.
pub(crate) fn fetched<I: Io>(shard: &Rc<Shard<I>>, mark: &SnapshotMark, bytes: &Bytes) {
    match check(&shard.options.cluster_id, mark, bytes) {
        Ok(taken) => {
            tracing::info!(snapshot = %id_of(mark), bytes = bytes.len(), "a snapshot of the metadata log has come from another broker");
            metadata_quorum::snapshot_fetched(shard, taken);
        }
        Err(error) => {
            tracing::warn!(%error, "a snapshot of the metadata log is not taken");
            metadata_quorum::snapshot_not_fetched(shard);
        }
    }
}

fn check(cluster_id: &str, mark: &SnapshotMark, bytes: &Bytes) -> Result<Taken, NotTaken> {
    let snapshot = LogSnapshot::parse(id_of(mark), bytes)?;
    if mark_of(&snapshot)? != *mark {
        return Err(NotTaken::Another);
    }
    Ok(Taken {
        mark: mark.clone(),
        contents: Contents::from_snapshot(cluster_id, &snapshot)?,
    })
}
