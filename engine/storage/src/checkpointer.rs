//! Writes checkpoints, and frees what they make needless.
//!
//! A checkpoint is encoded log by log, with pauses: a shard with a hundred thousand producers must not stand still for
//! it. Each log is encoded at one moment, as it is then, and replay begins at the oldest group that was needed when the
//! first of them was encoded; what replay finds of groups that a log knew already changes nothing. Where little has changed
//! since the last checkpoint, only that is said, in an increment.
//!
//! Invariants: a checkpoint is written only after every segment byte it names is durable and the journal is durable
//! through everything that any log knew when it was encoded; a journal file is recycled, and a file removed, only after
//! a checkpoint that does without it is durable. One checkpoint is written at a time. It needs no space on the device
//! beyond what its files have already, and one group in the journal, for which room is kept.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use model::ShardId;
use runtime::{Buffer, File, Io, OpenMode, align_up};

use crate::checkpoint::{CheckpointEncoder, CheckpointHead, HEADER_BYTES, RunState, checksum_of};
use crate::checkpoint_chain::{Chain, is_worth_increment};
use crate::descriptors::with_descriptor;
use crate::disk_space::is_disk_full;
use crate::error::StorageError;
use crate::file_cache::FileKind;
use crate::index::SegmentId;
use crate::inner::Inner;
use crate::journal::room::Claim;
use crate::layout::Layout;
use crate::log::Log;
use crate::options::PlantedFault;
use crate::removals::Removal;
use crate::unsynced::Unsynced;

/// A checkpoint file has at least this much space set aside, and three times what was last written as a whole: on a full
/// device, what frees space must not need any. Increments make the next one half as large again at most, and that is so
/// twice before the other file, with the space it has, is written again: 2.25 times, and the rest for what comes with it.
const FILE_BYTES_MIN: u64 = 64 << 10;
const FILE_PARTS: u64 = 3;

/// An encoded checkpoint, and what to do before and after it is written.
struct Encoded {
    bytes: Vec<u8>,
    /// Where it goes as an increment.
    chain: Option<Chain>,
    /// The journal must be durable through this group first.
    durable_through: u64,
    /// Groups before this one are needed no longer then.
    replay_from: u64,
    /// Named by nobody then.
    removals: Vec<Removal>,
}

impl<I: Io> Inner<I> {
    /// The task that brings removals to their end. It waits for nothing that could wait for the space they free.
    pub(crate) async fn keep_removing(self: Rc<Self>) {
        loop {
            self.removal_signal.wait().await;
            if !self.life.keeps() {
                return;
            }
            if self.removals.is_empty() && !self.has_waiting_deletions() {
                continue;
            }
            if let Err(error) = self.checkpoint(RunState::Running).await {
                tracing::debug!(%error, "a checkpoint was not written");
            }
            // Segments that wait for the place of a deleted log may be written now.
            self.write_queue.changed.notify();
        }
    }

    /// Writes a checkpoint and frees what it makes needless.
    pub(crate) async fn checkpoint(&self, run_state: RunState) -> Result<(), StorageError> {
        while !self.checkpoints.begin() {
            self.life.check()?;
            self.journal_changed.changed().await;
        }
        // Who has waited for the turn may get it after the last checkpoint, which is to stay the last.
        let result = match run_state == RunState::Running && !self.life.keeps() {
            true => Ok(()),
            false => self.checkpoint_alone(run_state).await,
        };
        self.checkpoints.end();
        self.journal_changed.notify();
        result
    }

    async fn checkpoint_alone(&self, run_state: RunState) -> Result<(), StorageError> {
        self.life.check()?;
        let sequence = self.checkpoints.sequence() + 1;
        let encoded = self.encode_checkpoint(run_state, sequence).await;
        let unsynced = self.unsynced.take();
        let is_spare_taken = self.removals.take_spares_unsynced();
        self.sync_segments(unsynced, is_spare_taken).await?;
        if run_state != RunState::Recovered {
            self.wait_durable(encoded.durable_through).await?;
        }
        assert!(
            encoded.durable_through <= self.journal.borrow().pipeline.durable_sequence(),
            "a checkpoint never knows more than the journal"
        );
        let Encoded { bytes, chain, .. } = encoded;
        let chain = self.write_checkpoint(sequence, &bytes, chain).await?;
        let replay_from = encoded.replay_from;
        self.checkpoints.written(sequence, replay_from, chain);
        self.placed.encoded();
        self.counters.checkpoints.increment();
        let recycled = self
            .journal
            .borrow_mut()
            .pipeline
            .files
            .recycle(replay_from);
        if recycled > 0 {
            self.place_deletions(Claim::Mark);
            self.admission.notify();
            self.kick();
        }
        self.remove_files(encoded.removals).await;
        Ok(())
    }

    async fn encode_checkpoint(&self, run_state: RunState, sequence: u64) -> Encoded {
        let chain = self.checkpoints.take_chain();
        if let Some(chain) = chain.filter(|_| run_state == RunState::Running) {
            let changed = self
                .logs
                .borrow()
                .values()
                .filter(|log| log.is_changed())
                .count();
            if is_worth_increment(changed, self.logs.borrow().len()) {
                let encoded = self.encode(run_state, sequence, Some(chain)).await;
                let chain = encoded.chain.as_ref();
                if chain.is_some_and(|chain| chain.has_room(&encoded.bytes)) {
                    return encoded;
                }
            }
        }
        self.encode(run_state, sequence, None).await
    }

    /// Encodes an increment for this chain, or without one all.
    async fn encode(&self, run_state: RunState, sequence: u64, chain: Option<Chain>) -> Encoded {
        self.placed.encode();
        let oldest = self.tail.borrow().oldest_dirty();
        let replay = oldest.unwrap_or_else(|| self.journal.borrow().pipeline.position());
        // Removals of this moment. Of a log that goes from now on, the checkpoint says that it is there, and its mark
        // in the journal that it went.
        let removals = self.removals.all();
        let gone = self.checkpoints.take_gone();
        let mut logs: Vec<Rc<Log>> = self.logs.borrow().values().cloned().collect();
        logs.extend(self.deletions_waiting());
        let identity = self.identity.borrow().clone();
        let head = CheckpointHead {
            state: run_state,
            shard_count: self.options.shard_count,
            identity: identity.as_ref(),
            generations: &self.journal.borrow().generations.clone(),
            replay,
        };
        // Segments that a log of this shard has lost are noted with it: there may be more by then. Others are of logs that
        // went to another shard when the logs were divided.
        let is_mine = |id| self.logs.borrow().contains_key(&id);
        let others: Vec<Removal> = removals
            .iter()
            .copied()
            .filter(|removal| match removal {
                Removal::Partition(_) => true,
                Removal::Segment(_) | Removal::Behind(..) => !is_mine(removal.partition()),
            })
            .collect();
        let mut encoder = match &chain {
            Some(chain) => CheckpointEncoder::increment(&head, chain.checksum(), gone, others),
            None => CheckpointEncoder::new(&head, others),
        };
        for log in logs {
            let mut removals = self.removals.segments_of(log.id());
            // Not for now; but the groups that tell of what lies there may be gone by the next start.
            removals.extend(log.state().shields.removals());
            if self.has_change(&log) || chain.is_none() {
                if self.options.place_bytes_min > 0
                    && let Some(last) = log.memory_mut().segments.last_mut()
                {
                    last.allow_placing(sequence);
                }
                encoder.log(&log, removals);
                note_encoded(&log);
            } else {
                self.assert_as_encoded(&log);
                encoder.unchanged(removals);
            }
            self.io.yield_if_needed().await;
        }
        let durable_through = match run_state {
            // Also at the end: remains that were carried may still be on their way.
            RunState::Running | RunState::CleanShutdown => self.request_barrier(),
            RunState::Recovered => 0,
        };
        Encoded {
            bytes: encoder.finish(self.options.shard, sequence, durable_through),
            chain,
            durable_through,
            replay_from: replay.sequence,
            removals,
        }
    }

    /// Whether a log is to be encoded anew.
    fn has_change(&self, log: &Log) -> bool {
        let is_changed = log.take_change();
        is_changed && !self.options.is_planted(PlantedFault::IncrementLeavesOut)
    }

    /// In tests, a log that an increment leaves out must be as it was when it was encoded last: somebody may have changed it
    /// without a note of it.
    fn assert_as_encoded(&self, log: &Log) {
        if cfg!(debug_assertions) && self.options.planted.is_none() {
            let encoded = log.encoded_checksum.get();
            assert_eq!(encoded, checksum_of(log), "{log:?} changed unnoticed");
        }
    }

    async fn sync_segments(
        &self,
        unsynced: BTreeMap<SegmentId, Unsynced>,
        is_spare_taken: bool,
    ) -> Result<(), StorageError> {
        let synced = if unsynced.len() > self.options.sync_files_max {
            self.counters.file_system_flushes.increment();
            self.io.sync_file_system(self.layout.root()).await
        } else {
            self.sync_each(&unsynced, is_spare_taken).await
        };
        if let Err(error) = synced {
            self.fence(&format!("flushing segments: {error}"));
        }
        self.life.check()
    }

    async fn sync_each(
        &self,
        unsynced: &BTreeMap<SegmentId, Unsynced>,
        is_spare_taken: bool,
    ) -> io::Result<()> {
        // A file that has moved has left one directory and come to another: both must know.
        if is_spare_taken {
            self.sync_dir(&self.layout.spares_of(self.options.shard))
                .await?;
        }
        if unsynced.values().any(|what| what.directory) {
            self.sync_dir(&self.layout.partitions()).await?;
        }
        // One after the other: flushes at the same time make those of the journal wait longer.
        for (id, what) in unsynced {
            // Also if the log was deleted or the segment expired since: the checkpoint under way may name it, and it is
            // that checkpoint that counts if the deletion does not become durable. Its files are there until the next.
            if what.log {
                let path = self.layout.segment(*id);
                self.files
                    .open(&self.io, *id, FileKind::LogWrite, &path)
                    .await?
                    .sync_data()
                    .await?;
                self.counters.segment.flushes.increment();
            }
            if what.index {
                let path = self.layout.index(*id);
                self.files
                    .open(&self.io, *id, FileKind::Index, &path)
                    .await?
                    .sync_data()
                    .await?;
                self.counters.index.flushes.increment();
            }
            let planted = PlantedFault::AbortedUnsynced;
            if what.aborted && !self.options.is_planted(planted) {
                let path = self.layout.transaction_index(*id);
                self.files
                    .open(&self.io, *id, FileKind::AbortedWrite, &path)
                    .await?
                    .sync_data()
                    .await?;
                self.counters.index.flushes.increment();
            }
            if what.directory {
                self.sync_dir(&self.layout.partition(id.partition)).await?;
            }
        }
        Ok(())
    }

    /// Makes names in a directory durable, with a descriptor when there is one.
    pub(crate) async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let attempt = async || self.io.sync_dir(path).await;
        with_descriptor(&self.io, attempt, || ()).await
    }

    /// Writes a checkpoint, a whole one over the older of the two, and makes it durable. On a device without space for more
    /// than its file has, it waits until there is.
    async fn write_checkpoint(
        &self,
        sequence: u64,
        bytes: &[u8],
        mut chain: Option<Chain>,
    ) -> Result<Chain, StorageError> {
        let mut wait = None;
        let chain = loop {
            let written = match &mut chain {
                Some(chain) => self.write_increment(chain, bytes).await.map(|()| None),
                None => {
                    let shard = self.options.shard;
                    let slot = 1 - self.checkpoints.slot();
                    let whole = write_whole_checkpoint(&self.io, &self.layout, shard, slot, bytes);
                    whole.await.map(Some)
                }
            };
            match written {
                Ok(begun) => break begun.or(chain).expect("one of them was written"),
                Err(error) if is_disk_full(&error) && !self.life.is_opening() => {
                    self.wait_for_space(&mut wait).await;
                    self.life.check()?;
                }
                Err(error) => {
                    self.fence(&format!("writing checkpoint {sequence}: {error}"));
                    self.life.check()?;
                }
            }
        };
        self.space_found(wait);
        self.counters.checkpoint.wrote(bytes.len() as u64);
        self.counters.checkpoint.flushes.increment();
        Ok(chain)
    }

    /// Writes an increment behind the last one and makes it durable, in space that the file has.
    async fn write_increment(&self, chain: &mut Chain, bytes: &[u8]) -> io::Result<()> {
        let path = self.layout.checkpoint(self.options.shard, chain.slot());
        let file = open_checkpoint(&self.io, &path).await?;
        file.write_at(block(&self.io, bytes), chain.end()).await?;
        if !self.options.is_planted(PlantedFault::IncrementUnsynced) {
            file.sync_data().await?;
        }
        file.close().await?;
        chain.added(bytes);
        self.counters.checkpoint_increments.increment();
        Ok(())
    }
}

fn note_encoded(log: &Log) {
    if cfg!(debug_assertions) {
        log.encoded_checksum.set(checksum_of(log));
    }
}

/// The other file is written next, and by then the device may be full.
async fn set_space_aside<I: Io>(io: &I, path: &Path, wanted: u64) -> io::Result<()> {
    let file = open_checkpoint(io, path).await?;
    if file.len().await? < wanted {
        match file.allocate(wanted).await {
            Err(error) if is_disk_full(&error) => {}
            allocated => allocated?,
        }
    }
    file.close().await
}

async fn open_checkpoint<I: Io>(io: &I, path: &Path) -> io::Result<I::File> {
    with_descriptor(io, async || io.open(path, OpenMode::Write).await, || ()).await
}

fn block<I: Io>(io: &I, bytes: &[u8]) -> <I::Buffer as Buffer>::Frozen {
    assert!(
        bytes.len() >= HEADER_BYTES && bytes.len() == align_up(bytes.len()),
        "a checkpoint is whole blocks"
    );
    let mut buffer = io.buffer(bytes.len());
    buffer.truncate(bytes.len());
    buffer.as_mut().copy_from_slice(bytes);
    buffer.freeze()
}

/// Writes a whole checkpoint to one of a shard's two files, the one that does not count, and makes it durable.
pub(crate) async fn write_whole_checkpoint<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
    slot: u8,
    bytes: &[u8],
) -> io::Result<Chain> {
    let path = layout.checkpoint(shard, slot);
    let file = open_checkpoint(io, &path).await?;
    let len = bytes.len() as u64;
    let present = file.len().await?;
    let wanted = (FILE_PARTS * len).max(FILE_BYTES_MIN);
    if present < wanted {
        match file.allocate(wanted).await {
            Err(error) if is_disk_full(&error) && present >= len => {}
            Err(error) if is_disk_full(&error) => file.allocate(len).await?,
            allocated => allocated?,
        }
    }
    file.write_at(block(io, bytes), 0).await?;
    file.sync_data().await?;
    let file_bytes = file.len().await?;
    file.close().await?;
    if present < wanted {
        set_space_aside(io, &layout.checkpoint(shard, 1 - slot), wanted).await?;
    }
    let directory = layout.checkpoints();
    with_descriptor(io, async || io.sync_dir(&directory).await, || ()).await?;
    Ok(Chain::begin(slot, bytes, file_bytes))
}
