//! Writes a snapshot of a log, then cuts the log behind it.
//!
//! In this order, each step durable before the next: the bytes under a temporary name, the name, the new start of the
//! log; then older snapshots go. So whatever ends it in between, the log and a sound snapshot meet without a gap.
//! Nothing waits for a snapshot, and one that finds no space on the device is given up: what has freed space is not to
//! find it taken.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::{Timestamp, TopicPartition};
use runtime::{Buffer, File, Io, OpenMode, align_up};

use super::content::SnapshotEncoder;
use super::snapshot_id::{SNAPSHOT_BYTES_MAX, SnapshotId};
use crate::descriptors::with_descriptor;
use crate::disk_space::is_disk_full;
use crate::error::{AppendError, StorageError};
use crate::inner::Inner;
use crate::layout::Layout;
use crate::log::Log;
use crate::options::PlantedFault;
use crate::storage::Storage;

/// Bytes written at once: little enough that the journal's writes do not wait long.
const PIECE_BYTES: usize = 256 << 10;

/// How often the cut is tried while the journal has no room for its mark, and the pause in between: ten seconds.
const CUT_ATTEMPTS_MAX: u32 = 100;
const CUT_PAUSE: Duration = Duration::from_millis(100);

/// A snapshot to be written.
#[derive(Clone, Debug)]
pub struct NewSnapshot {
    /// What it stands for: records that are durable and that the log still has, or has none of.
    pub id: SnapshotId,
    /// Of the last record that it stands for.
    pub last_contained_log_timestamp: Timestamp,
    /// What its owner keeps with it, a few hundred bytes; empty: nothing.
    pub mark: Bytes,
    /// The newest one before it that is known to be sound: it was loaded at start, or written since. It stays, with the
    /// log behind it, so that damage to the new one costs nothing.
    pub previous: Option<SnapshotId>,
}

/// Why a snapshot was not written, or the log not cut behind it. The log and the snapshots there were are as before, or
/// the new one is there, too; it may be tried again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// The device is full, or those who wait for space come first.
    #[error("no space left on the device")]
    DiskFull,
    /// It would be larger than can be read.
    #[error("it would be larger than {SNAPSHOT_BYTES_MAX} bytes")]
    TooLarge,
    /// The mark of the cut was refused. The snapshot is there.
    #[error("the log cannot be cut behind it: {0}")]
    NotCut(#[source] AppendError),
    /// The storage closes: its directory may be another process's soon.
    #[error("the storage closes")]
    Closing,
    /// Writes fail.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What remains to be written of a file that is written in pieces of whole blocks.
struct Pieces {
    bytes: Vec<u8>,
    position: u64,
}

impl<I: Io> Storage<I> {
    /// Writes a snapshot of a log and cuts the log behind the previous one; older ones go. `records` are what the records
    /// of the log before the snapshot's end add up to, taken piece by piece. Returns the size of the file in bytes.
    ///
    /// One at a time for each log.
    pub async fn snapshot(
        &self,
        log: &Rc<Log>,
        snapshot: NewSnapshot,
        records: impl Iterator<Item = Bytes>,
    ) -> Result<u64, SnapshotError> {
        let inner = &self.inner;
        inner.life.check()?;
        let end_offset = snapshot.id.end_offset;
        assert!(
            log.log_start_offset() <= end_offset && end_offset <= log.durable_end_offset(),
            "a snapshot up to {end_offset} of {log:?}"
        );
        assert!(
            snapshot
                .previous
                .is_none_or(|previous| previous <= snapshot.id),
            "{snapshot:?}"
        );
        if inner.options.is_planted(PlantedFault::SnapshotCutsEarly) {
            self.cut_behind(log, snapshot.id).await?;
        }
        if inner.options.is_planted(PlantedFault::SnapshotRemovesEarly) {
            inner.remove_older_snapshots(log.id(), snapshot.id).await;
        }
        let previous = snapshot.previous;
        let bytes = inner.write_snapshot(log.id(), snapshot, records).await?;
        if let Some(previous) = previous {
            self.cut_behind(log, previous).await?;
            inner.remove_older_snapshots(log.id(), previous).await;
        }
        Ok(bytes)
    }

    /// Writes a snapshot before [`Storage::start`]; the log stays as it is.
    pub async fn snapshot_before_start(
        &self,
        log: &Rc<Log>,
        snapshot: NewSnapshot,
        records: impl Iterator<Item = Bytes>,
    ) -> Result<u64, SnapshotError> {
        assert!(self.inner.life.is_opening(), "it has started");
        self.inner.write_snapshot(log.id(), snapshot, records).await
    }

    /// Lets the log begin where the snapshot ends, durably.
    async fn cut_behind(&self, log: &Rc<Log>, id: SnapshotId) -> Result<(), SnapshotError> {
        let mut attempts = 1;
        let mark = loop {
            match self.advance_log_start(log, id.end_offset) {
                Ok(mark) => break mark,
                Err(AppendError::JournalFull) if attempts < CUT_ATTEMPTS_MAX => {
                    attempts += 1;
                    self.inner.io.sleep(CUT_PAUSE).await;
                }
                Err(error) => return Err(SnapshotError::NotCut(error)),
            }
        };
        self.wait_for_mark(mark).await?;
        assert!(
            log.log_start_offset() >= id.end_offset,
            "the log is cut behind its snapshot"
        );
        Ok(())
    }
}

impl<I: Io> Inner<I> {
    /// Writes the file, durable under its name. After an error there is none of this name, or an older one.
    pub(super) async fn write_snapshot(
        &self,
        partition: TopicPartition,
        snapshot: NewSnapshot,
        records: impl Iterator<Item = Bytes>,
    ) -> Result<u64, SnapshotError> {
        let directory = self.layout.partition(partition);
        let made = self.on_device(self.io.create_dir(&directory)).await;
        made.map_err(|error| self.snapshot_failed("making the directory", &error))?;
        // Segments may have made the directory: whose name is durable is known only now.
        self.flush_names(&self.layout.partitions()).await?;
        let part = self.layout.snapshot_part(partition, snapshot.id);
        let written = self.write_part(&part, &snapshot, records).await;
        let named = match written.and_then(|bytes| self.check_snapshots().map(|()| bytes)) {
            Ok(bytes) => {
                let path = self.layout.snapshot(partition, snapshot.id);
                let renamed = self.on_device(self.io.rename(&part, &path)).await;
                renamed
                    .map_err(|error| self.snapshot_failed("naming", &error))
                    .map(|()| bytes)
            }
            Err(error) => Err(error),
        };
        if named.is_err() && self.check_snapshots().is_ok() {
            // What there is of it is of no use, and takes space.
            remove(&self.io, &part).await;
        }
        let bytes = named?;
        self.flush_names(&directory).await?;
        Ok(bytes)
    }

    async fn write_part(
        &self,
        part: &Path,
        snapshot: &NewSnapshot,
        records: impl Iterator<Item = Bytes>,
    ) -> Result<u64, SnapshotError> {
        // A file that was left there may be longer, and its old bytes are not to be written over in place.
        remove(&self.io, part).await;
        let open = async || self.io.open(part, OpenMode::Write).await;
        let opened = with_descriptor(&self.io, open, || ()).await;
        let file = opened.map_err(|error| self.snapshot_failed("making", &error))?;
        let (mut encoder, header) = SnapshotEncoder::begin(
            snapshot.id.epoch,
            snapshot.last_contained_log_timestamp,
            &snapshot.mark,
            self.io.wall_clock(),
        );
        let mut pieces = Pieces {
            bytes: header.to_vec(),
            position: 0,
        };
        for record in records {
            let Some(batch) = encoder.push(&record) else {
                continue;
            };
            pieces.bytes.extend_from_slice(&batch);
            while pieces.bytes.len() >= PIECE_BYTES {
                self.write_piece(&file, &mut pieces, PIECE_BYTES).await?;
            }
            self.io.yield_if_needed().await;
        }
        for batch in encoder.finish() {
            pieces.bytes.extend_from_slice(&batch);
        }
        let size = pieces.position + pieces.bytes.len() as u64;
        while !pieces.bytes.is_empty() {
            let len = pieces.bytes.len().min(PIECE_BYTES);
            self.write_piece(&file, &mut pieces, len).await?;
        }
        let failed = |error: io::Error| self.snapshot_failed("ending", &error);
        self.on_device(file.truncate(size)).await.map_err(failed)?;
        if !self.options.is_planted(PlantedFault::SnapshotUnsynced) {
            self.on_device(file.sync_data())
                .await
                .map_err(|error| self.snapshot_flush_failed(&error))?;
        }
        file.close().await.map_err(failed)?;
        Ok(size)
    }

    /// Writes the first `len` bytes of what remains, with zeros up to a whole block.
    async fn write_piece(
        &self,
        file: &I::File,
        pieces: &mut Pieces,
        len: usize,
    ) -> Result<(), SnapshotError> {
        self.check_snapshots()?;
        if self.space.is_full() {
            return Err(SnapshotError::DiskFull);
        }
        if pieces.position + pieces.bytes.len() as u64 > SNAPSHOT_BYTES_MAX {
            return Err(SnapshotError::TooLarge);
        }
        let padded = align_up(len);
        assert!(
            len > 0 && (padded == len || len == pieces.bytes.len()),
            "only the last piece is no whole blocks"
        );
        let mut buffer = self.io.buffer(padded);
        buffer.truncate(padded);
        buffer.as_mut()[..len].copy_from_slice(&pieces.bytes[..len]);
        buffer.as_mut()[len..].fill(0);
        self.on_device(file.write_at(buffer.freeze(), pieces.position))
            .await
            .map_err(|error| self.snapshot_failed("writing", &error))?;
        pieces.bytes.drain(..len);
        pieces.position += len as u64;
        Ok(())
    }

    /// Whether snapshots may still be written.
    fn check_snapshots(&self) -> Result<(), SnapshotError> {
        self.life.check()?;
        if self.life.is_running() || self.life.is_opening() {
            Ok(())
        } else {
            Err(SnapshotError::Closing)
        }
    }

    /// Notes an operation of a snapshot while it is under way: one that does not come back fences, as any other.
    async fn on_device<T>(&self, operation: impl Future<Output = T>) -> T {
        let under_way = self.deadlines.begin("writing a snapshot", self.io.now());
        let done = operation.await;
        drop(under_way);
        done
    }

    /// Makes names in a directory durable.
    async fn flush_names(&self, directory: &Path) -> Result<(), SnapshotError> {
        let synced = self.on_device(self.sync_dir(directory)).await;
        synced.map_err(|error| self.snapshot_flush_failed(&error))
    }

    /// A full device is nothing but a reason to try later. All else is what fences anywhere.
    fn snapshot_failed(&self, what: &str, error: &io::Error) -> SnapshotError {
        if is_disk_full(error) {
            return SnapshotError::DiskFull;
        }
        let reason = format!("{what} a snapshot: {error}");
        self.fence(&reason);
        SnapshotError::Storage(StorageError::Fenced(reason))
    }

    /// After a flush that failed nobody knows what is durable, and a later one that succeeds says nothing about it.
    fn snapshot_flush_failed(&self, error: &io::Error) -> SnapshotError {
        let reason = format!("flushing a snapshot: {error}");
        self.fence(&reason);
        SnapshotError::Storage(StorageError::Fenced(reason))
    }

    /// Removes the snapshots before this one, and what is left of any that did not come to its end. One that cannot be
    /// removed is removed behind the next; until then it is passed over.
    async fn remove_older_snapshots(&self, partition: TopicPartition, kept: SnapshotId) {
        let directory = self.layout.partition(partition);
        let names = match self.io.read_dir(&directory).await {
            Ok(names) => names,
            Err(error) => {
                tracing::warn!(path = %directory.display(), %error, "listing snapshots failed");
                return;
            }
        };
        for name in names {
            if !self.life.is_running() {
                return;
            }
            let is_older = Layout::snapshot_of(&name).is_some_and(|id| id < kept);
            if is_older || Layout::is_snapshot_part(&name) {
                remove(
                    &self.io,
                    &directory.join(name.file_name().unwrap_or_default()),
                )
                .await;
            }
        }
    }
}

async fn remove<I: Io>(io: &I, path: &Path) {
    if let Err(error) = io.remove_file(path).await {
        tracing::warn!(path = %path.display(), %error, "removing a snapshot failed");
    }
}
