//! Removes files that no checkpoint names any more, or keeps them for new segments.
//!
//! Invariants: a file is removed, or moved to the spares, only after a durable checkpoint that does without it; checkpoints list
//! a removal until it is durable.

use std::collections::BTreeSet;
use std::io;

use model::TopicPartition;
use runtime::{File, Io};

use crate::file_cache::FileKind;
use crate::index::SegmentId;
use crate::inner::Inner;
use crate::removals::Removal;

impl<I: Io> Inner<I> {
    /// Removes files that no checkpoint names any more, or keeps them for new segments.
    pub(crate) async fn remove_files(&self, removals: Vec<Removal>) {
        let mut left = BTreeSet::new();
        for removal in &removals {
            let id = removal.partition();
            self.forget_unsynced(*removal);
            // A writer may be in the middle of a file of the deleted log. Segments that expired are not written, and
            // their log's writer may be waiting for just this space.
            while matches!(removal, Removal::Partition(_)) && self.write_queue.is_active(id) {
                if self.life.is_fenced() {
                    return;
                }
                self.write_queue.changed.changed().await;
            }
            for (segment, bytes) in self.removals.take_gone(*removal) {
                if self.keep_file(segment, bytes).await {
                    left.insert(id);
                }
            }
        }
        let mut gone = Vec::new();
        for removal in &removals {
            let removed = match removal {
                Removal::Segment(segment) => self.remove_segment(*segment).await,
                Removal::Behind(segment, bytes) => self.remove_behind(*segment, *bytes).await,
                Removal::Partition(_) => continue,
            };
            note_removed(removed, *removal, &mut gone);
            self.io.yield_if_needed().await;
        }
        let mut changed = left.clone();
        let names = gone
            .iter()
            .filter(|removal| matches!(removal, Removal::Segment(_)));
        changed.extend(names.map(|removal| removal.partition()));
        if let Err(error) = self.sync_removed(&changed, !left.is_empty()).await {
            self.fence(&format!("flushing directories of removed files: {error}"));
            return;
        }
        if let Err(error) = self.remove_partitions(&removals, &mut gone).await {
            self.fence(&format!("flushing the directory of partitions: {error}"));
            return;
        }
        for removal in gone {
            self.removals.done(removal);
        }
    }

    /// Removes the directories of logs that are gone, durably.
    async fn remove_partitions(
        &self,
        removals: &[Removal],
        gone: &mut Vec<Removal>,
    ) -> io::Result<()> {
        let mut is_any = false;
        for removal in removals {
            if let Removal::Partition(id) = removal {
                self.files.forget_partition(*id);
                let removed = self.io.remove_dir_all(&self.layout.partition(*id)).await;
                is_any |= note_removed(removed, *removal, gone);
                self.io.yield_if_needed().await;
            }
        }
        if is_any {
            self.sync_dir(&self.layout.partitions()).await?;
        }
        Ok(())
    }

    /// The checkpoint that was just written does not name these segments, so no later one waits for their flush.
    fn forget_unsynced(&self, removal: Removal) {
        let Some(segments) = removal.segments() else {
            return;
        };
        let mut unsynced = self.unsynced.borrow_mut();
        let gone: Vec<SegmentId> = unsynced
            .range(segments)
            .map(|(segment, _)| *segment)
            .collect();
        for segment in gone {
            unsynced.remove(&segment);
        }
    }

    async fn remove_segment(&self, id: SegmentId) -> io::Result<()> {
        self.files.forget(id);
        self.io.remove_file(&self.layout.index(id)).await?;
        for path in [
            self.layout.transaction_index(id),
            self.layout.transaction_index_new(id),
        ] {
            self.io.remove_file(&path).await?;
        }
        self.io.remove_file(&self.layout.segment(id)).await
    }

    /// Gives back the space behind the end of a segment that was cut.
    async fn remove_behind(&self, id: SegmentId, size: u64) -> io::Result<()> {
        let log = self.logs.borrow().get(&id.partition).cloned();
        let is_there = log.is_some_and(|log| {
            let state = log.state();
            let mut segments = state.segments.iter();
            segments.any(|segment| segment.id.is_file_of(id) && segment.sealed)
        });
        if !is_there {
            // It has gone meanwhile, or was cut again to nothing.
            return Ok(());
        }
        let path = self.layout.segment(id);
        self.files.forget(id);
        let file = self
            .files
            .open(&self.io, id, FileKind::LogWrite, &path)
            .await?;
        if file.len().await? > size {
            file.truncate(size).await?;
        }
        // Also if it is that short: a run that was killed may have cut it, and not durably.
        file.sync_data().await
    }

    /// Moves the file of a segment that is gone to the spares, if it is of use there.
    async fn keep_file(&self, id: SegmentId, bytes: u64) -> bool {
        // A file that somebody reads is not kept: what they read is verified, so they would take it for damaged.
        let is_read = self.files.forget(id);
        // Recovery brings segments to where the journal is and nothing else; a shutdown leaves nothing behind; a full
        // device has better use for the space.
        if is_read || !self.life.is_running() || self.space.is_full() {
            return false;
        }
        let now = self.io.now();
        let Some(number) = self.removals.place_spare(bytes, now) else {
            return false;
        };
        let path = self.layout.segment(id);
        let spare = self.layout.spare(self.options.shard, number);
        let moved = self.io.rename(&path, &spare).await;
        if let Err(error) = &moved {
            // It is removed where it is.
            tracing::warn!(path = %path.display(), %error, "moving a file to the spares failed");
            self.removals.forget_spare(number);
        }
        moved.is_ok()
    }

    /// Makes durable that names are gone from the directories of these partitions: what a power cut brought back after
    /// the next checkpoint, which does not name it, would hold its space for ever.
    ///
    /// With `spares`, some were moved to the spares, and may be taken from now on. Not before their old names are gone
    /// for good: a power cut that brought one back, after the file has got a new name as well, would leave two logs with
    /// one file.
    async fn sync_removed(
        &self,
        changed: &BTreeSet<TopicPartition>,
        spares: bool,
    ) -> io::Result<()> {
        if changed.len() > self.options.sync_files_max {
            self.counters.file_system_flushes.increment();
            self.io.sync_file_system(self.layout.root()).await?;
        } else {
            for id in changed {
                match self.sync_dir(&self.layout.partition(*id)).await {
                    // A log whose segments never got a file.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    synced => synced?,
                }
            }
            if spares {
                let spares = self.layout.spares_of(self.options.shard);
                self.sync_dir(&spares).await?;
            }
        }
        self.removals.settle_spares();
        Ok(())
    }

    /// Removes spares that are kept no longer. One that cannot be removed is removed by the next start.
    pub(crate) async fn remove_spares(&self, numbers: Vec<u64>) {
        for number in numbers {
            let path = self.layout.spare(self.options.shard, number);
            if let Err(error) = self.io.remove_file(&path).await {
                tracing::warn!(path = %path.display(), %error, "removing a spare file failed");
            }
        }
    }

    /// Gives back the spares of all shards: the device is full. Another shard that finds one of its own gone does
    /// without it.
    pub(crate) async fn give_back_spares(&self) {
        let numbers = self.removals.clear_spares();
        self.remove_spares(numbers).await;
        let spares = self.layout.spares();
        let shards = match self.io.read_dir(&spares).await {
            Ok(shards) => shards,
            Err(error) => {
                tracing::warn!(path = %spares.display(), %error, "listing the spare files failed");
                return;
            }
        };
        for shard in shards {
            let directory = spares.join(shard.file_name().unwrap_or_default());
            let Ok(names) = self.io.read_dir(&directory).await else {
                continue;
            };
            for name in names {
                let path = directory.join(name.file_name().unwrap_or_default());
                if let Err(error) = self.io.remove_file(&path).await {
                    tracing::warn!(path = %path.display(), %error, "removing a spare file failed");
                }
            }
        }
    }
}

/// Notes what was removed; what was not waits on, so the next checkpoint tries again.
fn note_removed(removed: io::Result<()>, removal: Removal, gone: &mut Vec<Removal>) -> bool {
    match &removed {
        Ok(()) => gone.push(removal),
        Err(error) => {
            let partition = removal.partition();
            tracing::warn!(%partition, %error, "removing files failed");
        }
    }
    removed.is_ok()
}
