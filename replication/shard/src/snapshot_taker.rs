//! Snapshots of the metadata log between brokers: pieces of this broker's own for others, and one that it was given.
//!
//! On shard 0. A broker that needs what the others' metadata log no longer reaches back to is given a snapshot. It is checked
//! as a whole, and written with what this broker alone has to keep: the removals of topics whose logs may be on its disk,
//! without which a start would take these logs for the trace of a loss. What follows when the quorum takes it is in
//! [`crate::metadata_quorum`].

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use metadata::removal_records;
use model::TopicId;
use quorum::{SnapshotMark, encode_mark};
use runtime::Io;
use storage::{LogSnapshot, NewSnapshot, NotASnapshot, SnapshotError, SnapshotId};

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
    #[error("writing it: {0}")]
    Write(#[from] SnapshotError),
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
pub(crate) async fn fetched<I: Io>(shard: &Rc<Shard<I>>, mark: &SnapshotMark, bytes: Bytes) {
    match take(shard, mark, bytes).await {
        Ok(taken) => metadata_quorum::snapshot_fetched(shard, taken),
        Err(error) => {
            tracing::warn!(%error, "a snapshot of the metadata log is not taken");
            metadata_quorum::snapshot_not_fetched(shard);
        }
    }
}

async fn take<I: Io>(
    shard: &Rc<Shard<I>>,
    mark: &SnapshotMark,
    bytes: Bytes,
) -> Result<Taken, NotTaken> {
    let id = id_of(mark);
    let snapshot = LogSnapshot::parse(id, &bytes)?;
    if mark_of(&snapshot)? != *mark {
        return Err(NotTaken::Another);
    }
    let cluster_id = &shard.options.cluster_id;
    loop {
        let mut contents = Contents::from_snapshot(cluster_id, &snapshot)?;
        let known_end = shard.image().end_offset();
        for topic in gone(shard, &contents) {
            contents.removed.removed(topic, mark.end_offset);
        }
        let removals = contents.removed.topics().into_iter();
        let records = removals
            .flat_map(removal_records)
            .chain(contents.image.to_records());
        let new = NewSnapshot {
            id,
            last_contained_log_timestamp: snapshot.last_contained_log_timestamp,
            mark: encode_mark(mark),
            previous: None,
        };
        let replica = shard.replica().expect("the quorum is on shard 0").clone();
        let records = records.map(|record| record.encode());
        let written = shard.storage.take_snapshot(replica.log(), new, records);
        let bytes = written.await?;
        // What was decided meanwhile may have removed more.
        if shard.image().end_offset() == known_end {
            tracing::info!(snapshot = %id, bytes, "a snapshot of the metadata log has come from another broker");
            let mark = mark.clone();
            return Ok(Taken { mark, contents });
        }
    }
}

/// Topics that this broker knows, or knows to be removed, and that the snapshot does not have.
fn gone<I: Io>(shard: &Shard<I>, contents: &Contents) -> Vec<TopicId> {
    let image = shard.image();
    let known = image.topics().map(|topic| topic.id());
    let removed = shard.snapshots.removed();
    let all = known.chain(removed);
    all.filter(|id| contents.image.topic_by_id(*id).is_none())
        .collect()
}
