//! Snapshots that travel between those who keep the same log: read in pieces here, checked and written there.
//!
//! Who takes one hands its records in again, so that it may add what only it has to keep with them; the bytes on its disk are
//! its own. Until its name is durable nothing has changed, and from then on it is the newest: a start finds it in front of a
//! log that does not reach to its end, and says so ([`super::LoadSnapshotError::Ahead`]).

use std::io;
use std::rc::Rc;

use bytes::Bytes;
use runtime::{File, Io, OpenMode};

use super::content::{self, Content};
use super::load::LogSnapshot;
use super::snapshot_id::SnapshotId;
use super::write::{NewSnapshot, SnapshotError};
use crate::descriptors::with_descriptor;
use crate::log::Log;
use crate::storage::Storage;

/// Bytes that are not a snapshot.
#[derive(Debug, thiserror::Error)]
#[error("snapshot {id} is damaged at byte {position}: {reason}")]
pub struct NotASnapshot {
    /// What it was taken for.
    pub id: SnapshotId,
    /// Where, in bytes.
    pub position: usize,
    /// What is wrong.
    pub reason: &'static str,
}

impl LogSnapshot {
    /// Takes apart the bytes of a snapshot that came from elsewhere.
    pub fn parse(id: SnapshotId, bytes: &Bytes) -> Result<LogSnapshot, NotASnapshot> {
        let content = content::check(bytes, id.epoch).map_err(|damage| NotASnapshot {
            id,
            position: damage.position,
            reason: damage.reason,
        })?;
        Ok(LogSnapshot::of(id, bytes, content))
    }

    pub(super) fn of(id: SnapshotId, bytes: &Bytes, content: Content) -> LogSnapshot {
        LogSnapshot {
            id,
            last_contained_log_timestamp: content.last_contained_log_timestamp,
            size_bytes: bytes.len() as u64,
            mark: content.mark,
            batches: bytes.slice(content.records),
        }
    }
}

impl<I: Io> Storage<I> {
    /// Reads a piece of a snapshot of this log for somebody else, and says how long the whole is; `None` if there is none of
    /// this name (any more).
    pub async fn read_snapshot(
        &self,
        log: &Log,
        id: SnapshotId,
        offset: u64,
        length: usize,
    ) -> io::Result<Option<(u64, Bytes)>> {
        let io = &self.inner.io;
        let path = self.inner.layout.snapshot(log.id(), id);
        let open = async || io.open(&path, OpenMode::Read).await;
        let file = match with_descriptor(io, open, || ()).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let total = file.len().await?;
        let left = usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = match length.min(left) {
            0 => Bytes::new(),
            length => file.read_at(offset, length).await?,
        };
        file.close().await?;
        Ok(Some((total, bytes)))
    }

    /// Writes a snapshot that stands for records which this log does not have: [`Storage::reset`] to its end comes next.
    /// Returns the size of the file in bytes.
    pub async fn take_snapshot(
        &self,
        log: &Rc<Log>,
        snapshot: NewSnapshot,
        records: impl Iterator<Item = Bytes>,
    ) -> Result<u64, SnapshotError> {
        self.inner.life.check()?;
        self.inner.write_snapshot(log.id(), snapshot, records).await
    }
}
