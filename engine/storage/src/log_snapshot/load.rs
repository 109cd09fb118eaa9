//! Reads the newest sound snapshot of a log, at start.
//!
//! A snapshot that is damaged is passed over if the log, or an older snapshot with the log behind it, says the same. If
//! what it stood for is nowhere else, the start is refused: to go on without would be to forget. Whether it goes on all
//! the same is for the operator to say, and what then is to be done, for whoever keeps the log.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use model::record::{BatchError, BatchHeader, Batches};
use model::{Offset, Timestamp};
use runtime::{File, Io, OpenMode};

use super::content::{self, Damage};
use super::snapshot_id::{SNAPSHOT_BYTES_MAX, SnapshotId};
use crate::descriptors::with_descriptor;
use crate::layout::Layout;
use crate::log::Log;
use crate::storage::Storage;

/// Bytes read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// Why there is no snapshot to begin with. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadSnapshotError {
    /// The machine refused.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The machine's answer.
        source: io::Error,
    },
    /// No snapshot that the log reaches back to is what was written.
    #[error(
        "{file} is damaged at byte {position}: {reason}. The log begins at offset {log_start_offset}, and nothing else says \
         what came before, so nothing was changed. Restore the file from a copy of the data directory",
        file = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        position: usize,
        /// What is wrong.
        reason: &'static str,
        /// Where the log begins.
        log_start_offset: Offset,
    },
    /// The log has no beginning.
    #[error(
        "the log in {directory} begins at offset {log_start_offset}, and there is no snapshot of what came before: nothing \
         was changed. Restore the file *.checkpoint from a copy of the data directory",
        directory = directory.display()
    )]
    Missing {
        /// Where it should be.
        directory: PathBuf,
        /// Where the log begins.
        log_start_offset: Offset,
    },
    /// The log has lost its end.
    #[error(
        "{file} stands for the records before offset {end_offset}, but the log ends at offset {log_end_offset}: its end is \
         missing, and nothing was changed. Restore the journal and the checkpoints of the shard",
        file = path.display()
    )]
    Ahead {
        /// The file.
        path: PathBuf,
        /// Where the snapshot ends.
        end_offset: Offset,
        /// Where the log does.
        log_end_offset: Offset,
        /// It is sound, and says more than the log.
        snapshot: Box<LogSnapshot>,
    },
}

impl LoadSnapshotError {
    /// Whether what the log began with is nowhere. Trying again changes nothing.
    pub fn is_loss(&self) -> bool {
        match self {
            LoadSnapshotError::Damaged { .. } | LoadSnapshotError::Missing { .. } => true,
            LoadSnapshotError::Io { .. } | LoadSnapshotError::Ahead { .. } => false,
        }
    }
}

/// A sound snapshot.
#[derive(Clone, Debug)]
pub struct LogSnapshot {
    /// What it stands for.
    pub id: SnapshotId,
    /// Of the last record that it stands for.
    pub last_contained_log_timestamp: Timestamp,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// What its owner keeps with it; empty: nothing.
    pub mark: Bytes,
    pub(super) batches: Bytes,
}

impl LogSnapshot {
    /// Its batches of records, in order.
    pub fn batches(&self) -> impl Iterator<Item = Result<(BatchHeader, &[u8]), BatchError>> {
        Batches::new(&self.batches)
    }
}

impl<I: Io> Storage<I> {
    /// The snapshot that the log goes on from; `None` if the log is whole.
    pub async fn load_snapshot(&self, log: &Log) -> Result<Option<LogSnapshot>, LoadSnapshotError> {
        let (io, layout) = (&self.inner.io, &self.inner.layout);
        let directory = layout.partition(log.id());
        let log_start_offset = log.log_start_offset();
        let mut damaged = None;
        for id in newest_first(io, &directory).await? {
            if id.end_offset < log_start_offset {
                break;
            }
            let path = layout.snapshot(log.id(), id);
            let Damage { position, reason } = match read(io, &path, id).await? {
                Ok(snapshot) => return check_end(log, path, snapshot).map(Some),
                Err(damage) => damage,
            };
            tracing::error!(path = %path.display(), position, reason, "a snapshot is damaged");
            damaged.get_or_insert(LoadSnapshotError::Damaged {
                path,
                position,
                reason,
                log_start_offset,
            });
        }
        if log_start_offset == Offset::ZERO {
            return Ok(None);
        }
        Err(damaged.unwrap_or(LoadSnapshotError::Missing {
            directory,
            log_start_offset,
        }))
    }
}

/// A snapshot is written of what is durable: a log that ends before it has lost something.
fn check_end(
    log: &Log,
    path: PathBuf,
    snapshot: LogSnapshot,
) -> Result<LogSnapshot, LoadSnapshotError> {
    let (end_offset, log_end_offset) = (snapshot.id.end_offset, log.log_end_offset());
    if end_offset <= log_end_offset {
        return Ok(snapshot);
    }
    Err(LoadSnapshotError::Ahead {
        path,
        end_offset,
        log_end_offset,
        snapshot: Box::new(snapshot),
    })
}

async fn newest_first<I: Io>(
    io: &I,
    directory: &Path,
) -> Result<Vec<SnapshotId>, LoadSnapshotError> {
    let names = match io.read_dir(directory).await {
        // A log that has no files.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(failed("list", directory))?,
    };
    for part in names.iter().filter(|name| Layout::is_snapshot_part(name)) {
        // Nothing is built on it, and the device may be full.
        let path = directory.join(part.file_name().unwrap_or_default());
        if let Err(error) = io.remove_file(&path).await {
            tracing::warn!(path = %path.display(), %error, "removing what is left of a snapshot failed");
        }
    }
    let ids = names.iter().filter_map(|name| Layout::snapshot_of(name));
    let mut ids: Vec<SnapshotId> = ids.collect();
    ids.sort_unstable_by(|one, other| other.cmp(one));
    Ok(ids)
}

async fn read<I: Io>(
    io: &I,
    path: &Path,
    id: SnapshotId,
) -> Result<Result<LogSnapshot, Damage>, LoadSnapshotError> {
    let open = async || io.open(path, OpenMode::Read).await;
    let opened = with_descriptor(io, open, || ()).await;
    let file = opened.map_err(failed("open", path))?;
    let size_bytes = file.len().await.map_err(failed("size", path))?;
    if size_bytes > SNAPSHOT_BYTES_MAX {
        return Ok(Err(Damage {
            position: 0,
            reason: "it is larger than any snapshot",
        }));
    }
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size_bytes {
        let left = size_bytes - bytes.len() as u64;
        let len = usize::try_from(left.min(PIECE_BYTES)).expect("a piece is small");
        let piece = match file.read_at(bytes.len() as u64, len).await {
            Ok(piece) => piece,
            // A bad sector is damage as any other.
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "reading a snapshot failed");
                return Ok(Err(Damage {
                    position: bytes.len(),
                    reason: "the device cannot read it",
                }));
            }
        };
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(&piece);
        io.yield_if_needed().await;
    }
    file.close().await.map_err(failed("close", path))?;
    let bytes = Bytes::from(bytes);
    let checked = content::check(&bytes, id.epoch);
    Ok(checked.map(|content| LogSnapshot::of(id, &bytes, content)))
}

fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> LoadSnapshotError + use<> {
    let path = path.to_owned();
    move |source| LoadSnapshotError::Io {
        action,
        path,
        source,
    }
}
