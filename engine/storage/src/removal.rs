//! Files that the next checkpoint no longer names: which there are, and what becomes of them once it is durable.
//!
//! Invariants: a file is removed, or moved to the spares, only after a durable checkpoint that does without it; while a
//! partition's directory waits for its removal, no log of that name is written.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use model::{MonotonicTime, TopicPartition};
use runtime::Io;

use crate::checkpoint::Removal;
use crate::index::SegmentId;
use crate::spares::Spares;
use crate::storage::Inner;

/// What waits for its removal, and the files that are kept instead.
pub(crate) struct Removals {
    waiting: RefCell<BTreeSet<Removal>>,
    /// What files of removals hold, of segments that were there in this run: others are not known to be whose they say.
    gone_bytes: RefCell<BTreeMap<SegmentId, u64>>,
    spares: RefCell<Spares>,
    /// Whether spares were taken since the last checkpoint.
    spares_unsynced: Cell<bool>,
}

impl Removals {
    pub(crate) fn new(spares: Spares, waiting: impl IntoIterator<Item = Removal>) -> Removals {
        Removals {
            waiting: RefCell::new(waiting.into_iter().collect()),
            gone_bytes: RefCell::default(),
            spares: RefCell::new(spares),
            spares_unsynced: Cell::new(false),
        }
    }

    /// A log is gone, with the files it had in this run.
    pub(crate) fn log_gone(
        &self,
        id: TopicPartition,
        files: impl IntoIterator<Item = (SegmentId, u64)>,
    ) {
        let mut waiting = self.waiting.borrow_mut();
        waiting
            .retain(|removal| !matches!(removal, Removal::Segment(gone) if gone.partition == id));
        waiting.insert(Removal::Partition(id));
        for (segment, bytes) in files {
            assert_eq!(segment.partition, id, "a file of another log");
            self.gone_bytes.borrow_mut().insert(segment, bytes);
        }
    }

    /// A segment is gone; `bytes` if it has a file.
    pub(crate) fn segment_gone(&self, id: SegmentId, bytes: Option<u64>) {
        let is_new = self.waiting.borrow_mut().insert(Removal::Segment(id));
        assert!(is_new, "a segment goes once");
        if let Some(bytes) = bytes {
            self.gone_bytes.borrow_mut().insert(id, bytes);
        }
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// All that waits.
    pub(crate) fn all(&self) -> Vec<Removal> {
        self.waiting.borrow().iter().copied().collect()
    }

    /// Segments of a log that wait.
    pub(crate) fn segments_of(&self, id: TopicPartition) -> Vec<Removal> {
        let waiting = self.waiting.borrow();
        let (first, last) = SegmentId::all_of(id).into_inner();
        let range = Removal::Segment(first)..=Removal::Segment(last);
        waiting.range(range).copied().collect()
    }

    /// Whether the directory of this name still belongs to a log that is gone.
    pub(crate) fn occupies(&self, id: TopicPartition) -> bool {
        self.waiting.borrow().contains(&Removal::Partition(id))
    }

    /// Its files are gone.
    fn done(&self, removal: Removal) {
        self.waiting.borrow_mut().remove(&removal);
    }

    /// Segments of a removal that were there in this run, and what their files hold.
    fn take_gone(&self, removal: Removal) -> Vec<(SegmentId, u64)> {
        let mut gone = self.gone_bytes.borrow_mut();
        let found: Vec<(SegmentId, u64)> = gone
            .range(removal.segments())
            .map(|(segment, bytes)| (*segment, *bytes))
            .collect();
        for (segment, _) in &found {
            gone.remove(segment);
        }
        found
    }

    /// A spare for the segment of a log whose last one held `filled_bytes`.
    pub(crate) fn take_spare(&self, filled_bytes: u64) -> Option<u64> {
        let number = self.spares.borrow_mut().take(filled_bytes)?;
        self.spares_unsynced.set(true);
        Some(number)
    }

    /// Whether spares were taken that no checkpoint has seen; they count as seen from now on.
    pub(crate) fn take_spares_unsynced(&self) -> bool {
        self.spares_unsynced.take()
    }

    /// Bytes of the spares.
    pub(crate) fn spares_bytes(&self) -> u64 {
        self.spares.borrow().bytes()
    }

    /// Spares that are kept no longer.
    pub(crate) fn expired_spares(&self, now: MonotonicTime) -> Vec<u64> {
        self.spares.borrow_mut().expire(now)
    }

    /// All spares: they are kept no longer.
    pub(crate) fn clear_spares(&self) -> Vec<u64> {
        self.spares.borrow_mut().clear()
    }
}

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
        if !left.is_empty()
            && let Err(error) = self.settle_spares(&left).await
        {
            self.fence(&format!("flushing directories of moved files: {error}"));
            return;
        }
        for removal in removals {
            let removed = match removal {
                Removal::Partition(id) => {
                    self.files.forget_partition(id);
                    self.io.remove_dir_all(&self.layout.partition(id)).await
                }
                Removal::Segment(segment) => self.remove_segment(segment).await,
            };
            match removed {
                Ok(()) => self.removals.done(removal),
                // It waits on, so the next checkpoint tries again.
                Err(error) => {
                    let partition = removal.partition();
                    tracing::warn!(%partition, %error, "removing files failed");
                }
            }
            self.io.yield_if_needed().await;
        }
    }

    /// The checkpoint that was just written does not name these segments, so no later one waits for their flush.
    fn forget_unsynced(&self, removal: Removal) {
        let mut unsynced = self.unsynced.borrow_mut();
        let gone: Vec<SegmentId> = unsynced
            .range(removal.segments())
            .map(|(segment, _)| *segment)
            .collect();
        for segment in gone {
            unsynced.remove(&segment);
        }
    }

    async fn remove_segment(&self, id: SegmentId) -> io::Result<()> {
        self.files.forget(id);
        self.io
            .remove_file(&self.layout.index(id.partition, id.base_offset))
            .await?;
        self.io
            .remove_file(&self.layout.segment(id.partition, id.base_offset))
            .await
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
        let Some(number) = self.removals.spares.borrow_mut().place(bytes, now) else {
            return false;
        };
        let path = self.layout.segment(id.partition, id.base_offset);
        let spare = self.layout.spare(self.options.shard, number);
        let moved = self.io.rename(&path, &spare).await;
        if let Err(error) = &moved {
            // It is removed where it is.
            tracing::warn!(path = %path.display(), %error, "moving a file to the spares failed");
            self.removals.spares.borrow_mut().forget(number);
        }
        moved.is_ok()
    }

    /// Lets files that were moved out of these partitions be taken. Not before their old names are gone for good: a power
    /// cut that brought one back, after the file has got a new name as well, would leave two logs with one file.
    async fn settle_spares(&self, left: &BTreeSet<TopicPartition>) -> io::Result<()> {
        if left.len() > self.options.sync_files_max {
            self.counters.file_system_flushes.increment();
            self.io.sync_file_system(self.layout.root()).await?;
        } else {
            for id in left {
                self.sync_dir(&self.layout.partition(*id)).await?;
            }
            let spares = self.layout.spares_of(self.options.shard);
            self.sync_dir(&spares).await?;
        }
        self.removals.spares.borrow_mut().settle();
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
