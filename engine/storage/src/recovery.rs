//! Start: brings a data directory from whatever state a stop left it in to one where the journals are empty.
//!
//! Each shard's journal is replayed into segments on its own, and a checkpoint makes that final in one step; repeating
//! any part of it after a crash gives the same logs. Only then, with empty journals, may logs move to other shards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use model::{Offset, ShardId, TopicPartition};
use runtime::{Buffer, File, Io, OpenMode};

use crate::at_once::at_once;
use crate::cache::tail::TailGroup;
use crate::checkpoint::{Checkpoint, CheckpointError, FORMAT, Removal, RunState};
use crate::error::{OpenError, open_io};
use crate::journal::files::{JournalFile, JournalFiles, list_files, open_file, prepare_file};
use crate::journal::frame::{Entry, EntryKind};
use crate::journal::replay::{Replay, ReplayedGroup};
use crate::journal::writer::Journal;
use crate::keeper::write_checkpoint_file;
use crate::layout::Layout;
use crate::log::{Log, TailBatch};
use crate::lost_found::set_aside_strays;
use crate::options::{FlushMethod, LogConfig, StorageOptions};
use crate::segment::BatchPlace;
use crate::storage::Inner;

/// Rounds of the device probe, and the size of its writes.
const PROBE_ROUNDS: u64 = 8;
const PROBE_BYTES: usize = 16 << 10;

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Every shard had been shut down in order (or there was nothing).
    pub clean: bool,
    /// Shards found on disk.
    pub shards: u16,
    /// Logs found.
    pub logs: usize,
    /// Commit groups replayed.
    pub groups_replayed: u64,
    /// Batches that were in a journal only.
    pub batches_replayed: u64,
    /// Bytes of these batches.
    pub bytes_replayed: u64,
    /// A journal ended in a torn group, which nobody had been told of.
    pub torn_tail: bool,
    /// Logs that moved to another shard because the number of shards has changed.
    pub logs_moved: usize,
    /// The logs found: whoever knows which topics there are decides what becomes of the others.
    pub found: BTreeSet<TopicPartition>,
    /// Directories without a log, now in `lost+found`.
    pub strays: usize,
}

/// A shard after its journal was replayed.
pub(crate) struct RecoveredShard {
    pub(crate) shard: ShardId,
    pub(crate) sequence: u64,
    pub(crate) removals: Vec<Removal>,
    pub(crate) logs: BTreeMap<TopicPartition, Rc<Log>>,
}

/// Replays all journals of a data directory into segments and distributes the logs over `shard_count` shards by
/// `owner`. Run once, before any shard opens; creates what is missing. Running it again changes nothing.
pub async fn recover_data_dir<I: Io>(
    io: &I,
    options: &StorageOptions,
    owner: impl Fn(TopicPartition) -> ShardId,
    shard_count: u16,
) -> Result<RecoveryReport, OpenError> {
    options.check()?;
    let layout = Layout::new(&options.directory);
    for directory in [layout.checkpoints(), layout.journals(), layout.partitions()] {
        io.create_dir_all(&directory)
            .await
            .map_err(open_io("create", &directory))?;
    }
    let found = shards_on_disk(io, &layout).await?;
    check_shards(io, options, &layout, &found).await?;
    remove_spares(io, &layout).await?;
    let mut report = RecoveryReport {
        clean: true,
        shards: found.len() as u16,
        ..RecoveryReport::default()
    };
    let mut shards = BTreeMap::new();
    for shard in &found {
        shards.insert(
            *shard,
            recover_shard(io, options, &layout, *shard, &mut report).await?,
        );
    }
    for shard in (0..shard_count).map(ShardId) {
        shards.entry(shard).or_insert_with(|| RecoveredShard {
            shard,
            sequence: 0,
            removals: Vec::new(),
            logs: BTreeMap::new(),
        });
    }
    report.logs = shards.values().map(|shard| shard.logs.len()).sum();
    let logs = shards.values().flat_map(|shard| shard.logs.keys());
    report.found = logs.copied().collect();
    let mut known = report.found.clone();
    let removals = shards.values().flat_map(|shard| &shard.removals);
    known.extend(removals.map(|removal| removal.partition()));
    report.strays = set_aside_strays(io, &layout, &known).await?;
    distribute(io, &layout, &mut shards, owner, shard_count, &mut report).await?;
    Ok(report)
}

/// Refuses a directory in which a shard is missing, unless it was told to accept that. Shards appear in the order of
/// their numbers, and one that is used no longer leaves its checkpoint behind: a shard that is there proves that all
/// before it have been.
async fn check_shards<I: Io>(
    io: &I,
    options: &StorageOptions,
    layout: &Layout,
    found: &BTreeSet<ShardId>,
) -> Result<(), OpenError> {
    if options.accept_lost_data {
        return Ok(());
    }
    let seen = found.last().map_or(0, |shard| u32::from(shard.0) + 1);
    let shards = seen.max(u32::from(options.shards_known));
    for shard in (0..=u16::MAX).take(shards as usize).map(ShardId) {
        let is_there = match found.contains(&shard) {
            // A first start that was cut short may have left a torn file; later there is a sound one.
            true if shard.0 < options.shards_known => {
                load_checkpoint(io, layout, shard).await?.is_some()
            }
            there => there,
        };
        if !is_there {
            return Err(OpenError::ShardLost {
                shard,
                shards,
                directory: options.directory.clone(),
            });
        }
    }
    // Data without any checkpoint is not ours to overwrite.
    let partitions = layout.partitions();
    let names = io.read_dir(&partitions).await;
    let names = names.map_err(open_io("list", &partitions))?;
    match names.first().filter(|_| found.is_empty()) {
        Some(name) => Err(OpenError::Corrupt {
            path: partitions.join(name.file_name().unwrap_or_default()),
            position: 0,
            reason: "there are partitions but no checkpoint that knows them".to_owned(),
        }),
        None => Ok(()),
    }
}

/// Removes files that were kept for new segments. First it makes durable which ones were taken: a later power cut must not
/// bring a file back to a place that is no more.
async fn remove_spares<I: Io>(io: &I, layout: &Layout) -> Result<(), OpenError> {
    let spares = layout.spares();
    io.create_dir_all(&spares)
        .await
        .map_err(open_io("create", &spares))?;
    let shards = io.read_dir(&spares).await;
    for shard in shards.map_err(open_io("list", &spares))? {
        let directory = spares.join(shard.file_name().unwrap_or_default());
        io.sync_dir(&directory)
            .await
            .map_err(open_io("flush", &directory))?;
        io.remove_dir_all(&directory)
            .await
            .map_err(open_io("remove", &directory))?;
    }
    Ok(())
}

/// Shards that have a checkpoint or a journal.
pub(crate) async fn shards_on_disk<I: Io>(
    io: &I,
    layout: &Layout,
) -> Result<BTreeSet<ShardId>, OpenError> {
    let directory = layout.checkpoints();
    let names = io
        .read_dir(&directory)
        .await
        .map_err(open_io("list", &directory))?;
    let mut shards: BTreeSet<ShardId> = names
        .iter()
        .filter_map(|name| Layout::checkpoint_shard(name))
        .collect();
    let journals = layout.journals();
    for name in io
        .read_dir(&journals)
        .await
        .map_err(open_io("list", &journals))?
    {
        let number = name
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse().ok());
        shards.extend(number.map(ShardId));
    }
    Ok(shards)
}

/// The newest sound checkpoint of a shard, if one was ever completed.
pub(crate) async fn load_checkpoint<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
) -> Result<Option<Checkpoint>, OpenError> {
    let mut newest: Option<Checkpoint> = None;
    let mut damage = None;
    for slot in 0..2 {
        let path = layout.checkpoint(shard, slot);
        let bytes = match io.open(&path, OpenMode::Read).await {
            Ok(file) => {
                let len = file.len().await.map_err(open_io("size", &path))?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                file.read_at(0, len).await.map_err(open_io("read", &path))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(OpenError::Io {
                    action: "open",
                    path,
                    source,
                });
            }
        };
        match Checkpoint::decode(&bytes) {
            Ok(read) if read.shard == shard => {
                if newest
                    .as_ref()
                    .is_none_or(|known| known.sequence < read.sequence)
                {
                    newest = Some(read);
                }
            }
            Ok(_) => damage = Some((path, "it belongs to another shard")),
            Err(CheckpointError::Format(found)) => {
                return Err(OpenError::FormatUnsupported {
                    path,
                    found,
                    supported: FORMAT,
                });
            }
            Err(CheckpointError::Damaged(reason)) => damage = Some((path, reason)),
        }
    }
    if newest.is_none() && journal_exists(io, layout, shard).await? {
        // The first checkpoint is durable before the journal's first file appears.
        let (path, reason) =
            damage.unwrap_or_else(|| (layout.checkpoint(shard, 0), "both checkpoints are gone"));
        return Err(OpenError::Corrupt {
            path,
            position: 0,
            reason: reason.to_owned(),
        });
    }
    Ok(newest)
}

async fn journal_exists<I: Io>(io: &I, layout: &Layout, shard: ShardId) -> Result<bool, OpenError> {
    let directory = layout.journal(shard);
    match io.read_dir(&directory).await {
        Ok(names) => Ok(names
            .iter()
            .any(|name| Layout::journal_file_number(name).is_some())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(OpenError::Io {
            action: "list",
            path: directory,
            source,
        }),
    }
}

async fn recover_shard<I: Io>(
    io: &I,
    options: &StorageOptions,
    layout: &Layout,
    shard: ShardId,
    report: &mut RecoveryReport,
) -> Result<RecoveredShard, OpenError> {
    let Some(checkpoint) = load_checkpoint(io, layout, shard).await? else {
        return Ok(RecoveredShard {
            shard,
            sequence: 0,
            removals: Vec::new(),
            logs: BTreeMap::new(),
        });
    };
    report.clean &= checkpoint.state == RunState::CleanShutdown;
    let logs = checkpoint
        .logs
        .iter()
        .map(|log| (log.id(), log.clone()))
        .collect();
    if checkpoint.state != RunState::Running {
        return Ok(RecoveredShard {
            shard,
            sequence: checkpoint.sequence,
            removals: checkpoint.removals,
            logs,
        });
    }
    let options = StorageOptions {
        shard,
        ..options.clone()
    };
    let journal = Journal::new(checkpoint.generation, JournalFiles::new(VecDeque::new()), 0);
    let inner = Inner::new(io.clone(), options, journal, logs);
    inner.checkpoint_sequence.set(checkpoint.sequence);
    inner
        .removals
        .borrow_mut()
        .extend(checkpoint.removals.iter().copied());
    // No tasks: a full device ends recovery with an error instead of waiting for space.
    inner.stopped.set(true);
    if !journal_exists(io, layout, shard).await? {
        // A shard has a journal before a checkpoint says that it runs.
        return Err(OpenError::Corrupt {
            path: layout.journal(shard),
            position: 0,
            reason: "the shard was running, but its journal has no files".to_owned(),
        });
    }
    let mut replay = Replay::new(io, layout, &checkpoint).await?;
    let partitions = layout.partitions();
    let existing = io.read_dir(&partitions).await;
    let existing = existing.map_err(open_io("list", &partitions))?;
    let mut applier = Applier {
        inner: &inner,
        gaps: BTreeMap::new(),
        touched: BTreeSet::new(),
        deleted: BTreeMap::new(),
        existing: existing.into_iter().collect(),
        report,
    };
    while let Some(group) = replay.next_group().await? {
        applier.apply(group).await?;
    }
    applier.report.torn_tail |= replay.torn;
    inner.journal.borrow_mut().resume(replay.next_position());
    applier.finish(layout).await?;
    inner.checkpoint(RunState::Recovered).await?;
    inner.checkpoint(RunState::Recovered).await?;
    let removals = inner.removals.borrow().iter().copied().collect();
    Ok(RecoveredShard {
        shard,
        sequence: inner.checkpoint_sequence.get(),
        removals,
        logs: inner.logs.take(),
    })
}

/// Brings replayed groups into the logs.
struct Applier<'a, I: Io> {
    inner: &'a Inner<I>,
    /// Logs of which a later batch came before an earlier one; carried batches will close the gap.
    gaps: BTreeMap<TopicPartition, Offset>,
    touched: BTreeSet<TopicPartition>,
    /// The group that deleted a log of this name.
    deleted: BTreeMap<TopicPartition, u64>,
    /// Names of the partition directories that were there before.
    existing: BTreeSet<PathBuf>,
    report: &'a mut RecoveryReport,
}

impl<I: Io> Applier<'_, I> {
    async fn apply(&mut self, group: ReplayedGroup) -> Result<(), OpenError> {
        let mut dirty_batches = 0;
        let mut logs: Vec<Rc<Log>> = Vec::new();
        for entry in &group.entries {
            let id = entry.header.id;
            let sequence = group.place.sequence;
            let known = self.inner.logs.borrow().get(&id).cloned();
            if known
                .as_ref()
                .is_some_and(|log| sequence <= log.state.borrow().created_sequence)
            {
                continue;
            }
            match entry.header.kind {
                EntryKind::PartitionDeleted => {
                    if let Some(log) = known {
                        self.delete(&log);
                        self.deleted.insert(id, sequence);
                        logs.retain(|member| !Rc::ptr_eq(member, &log));
                    }
                }
                EntryKind::LogStartAdvanced => {
                    let log = known.unwrap_or_else(|| self.create(id));
                    log.log_start_offset
                        .set(log.log_start_offset.get().max(entry.header.offset));
                    log.state
                        .borrow_mut()
                        .leader_epochs
                        .truncate_front(entry.header.offset);
                }
                EntryKind::Batch | EntryKind::CarriedBatch => {
                    let log = known.unwrap_or_else(|| self.create(id));
                    if self.append(&log, entry, &group) {
                        dirty_batches += 1;
                        if logs.last().is_none_or(|last| !Rc::ptr_eq(last, &log)) {
                            logs.push(log);
                        }
                    }
                }
            }
        }
        self.report.groups_replayed += 1;
        let capacity = if dirty_batches == 0 {
            0
        } else {
            group.bytes.len()
        };
        self.inner.tail.borrow_mut().push(TailGroup {
            place: group.place,
            capacity,
            dirty_batches,
            logs,
        });
        if self.inner.tail.borrow().bytes() > self.inner.options.tail_bytes_max / 2 {
            self.write_dirty().await?;
            self.inner.tail.borrow_mut().evict(0);
        }
        Ok(())
    }

    fn create(&self, id: TopicPartition) -> Rc<Log> {
        let created_sequence = self.deleted.get(&id).copied().unwrap_or(0);
        let log = Rc::new(Log::new(id, LogConfig::default(), created_sequence));
        self.inner.logs.borrow_mut().insert(id, log.clone());
        log
    }

    /// Appends a batch if it is the log's next. Returns whether it was.
    fn append(&mut self, log: &Rc<Log>, entry: &Entry, group: &ReplayedGroup) -> bool {
        let Some(batch) = entry.batch else {
            return false;
        };
        let (base_offset, next_offset) = (batch.base_offset, batch.next_offset());
        let end = log.log_end_offset.get();
        if base_offset > end {
            let gap = self.gaps.entry(log.id()).or_insert(next_offset);
            *gap = next_offset.max(*gap);
        }
        if base_offset != end {
            return false;
        }
        let bytes = group
            .bytes
            .slice(entry.batch_start..entry.batch_start + entry.header.length as usize);
        self.report.batches_replayed += 1;
        self.report.bytes_replayed += bytes.len() as u64;
        self.touched.insert(log.id());
        log.log_end_offset.set(next_offset);
        log.durable_end_offset.set(next_offset);
        log.size_bytes
            .set(log.size_bytes.get() + bytes.len() as u64);
        let delta = entry
            .header
            .offset_delta_of_max_timestamp
            .clamp(0, batch.last_offset_delta);
        let place = BatchPlace {
            base_offset,
            next_offset,
            max_timestamp: batch.max_timestamp,
            offset_of_max_timestamp: base_offset.plus(delta.into()),
        };
        let mut state = log.state.borrow_mut();
        state.leader_epochs.assign(batch.leader_epoch, base_offset);
        state.producers.learn(&batch, self.inner.io.wall_clock());
        state.push_tail(TailBatch {
            place,
            sequence: group.place.sequence,
            bytes,
        });
        true
    }

    fn delete(&mut self, log: &Rc<Log>) {
        self.inner.logs.borrow_mut().remove(&log.id());
        log.deleted.set(true);
        let mut state = log.state.borrow_mut();
        for batch in state.tail.range(state.tail_written..) {
            self.inner.tail.borrow_mut().cleaned(batch.sequence, 1);
        }
        state.tail.clear();
        state.tail_written = 0;
        self.gaps.remove(&log.id());
        self.touched.remove(&log.id());
        let mut removals = self.inner.removals.borrow_mut();
        removals
            .retain(|removal| !matches!(removal, Removal::Segment(id) if id.partition == log.id()));
        removals.insert(Removal::Partition(log.id()));
        self.inner
            .unsynced
            .borrow_mut()
            .retain(|id, _| id.partition != log.id());
    }

    /// Writes what the logs hold, except logs whose place a deleted one still occupies.
    async fn write_dirty(&self) -> Result<(), OpenError> {
        let logs = self.touched_logs();
        at_once(&logs, async |log| {
            if log.dirty_bytes() > 0 {
                log.state.borrow_mut().write_all = true;
                self.inner.write_log(log).await?;
                self.inner.io.yield_if_needed().await;
            }
            Ok(())
        })
        .await
    }

    fn touched_logs(&self) -> Vec<Rc<Log>> {
        let logs = self.inner.logs.borrow();
        let touched = self.touched.iter();
        touched.filter_map(|id| logs.get(id).cloned()).collect()
    }

    /// Checks that nothing is missing, writes what is left, removes files that no log knows.
    async fn finish(&mut self, layout: &Layout) -> Result<(), OpenError> {
        for (id, log) in self.inner.logs.borrow().iter() {
            let end = log.log_end_offset.get();
            let needed = self
                .gaps
                .get(id)
                .copied()
                .unwrap_or(end)
                .max(log.log_start_offset.get());
            if end < needed {
                return Err(OpenError::Corrupt {
                    path: layout.journal(self.inner.options.shard),
                    position: 0,
                    reason: format!(
                        "partition {id} is known up to offset {needed}, but offset {end} is nowhere"
                    ),
                });
            }
        }
        if !self.inner.removals.borrow().is_empty() {
            // Directories of deleted logs go first, for logs made anew under their names want the place; and before
            // they go, a checkpoint without these logs must be durable, as while running.
            self.write_dirty().await?;
            self.sync_journal(layout).await?;
            self.inner.checkpoint(RunState::Running).await?;
            if let Some(removal) = self.inner.removals.borrow().first() {
                let id = removal.partition();
                let source = std::io::Error::other("see the log");
                return Err(OpenError::Io {
                    action: "remove files of",
                    path: layout.partition(id),
                    source,
                });
            }
        }
        self.write_dirty().await?;
        self.remove_strangers(layout).await?;
        let logs: Vec<Rc<Log>> = self.inner.logs.borrow().values().cloned().collect();
        self.inner.trim_open_segments(&logs).await?;
        Ok(())
    }

    /// After a kill the journal may show groups that the device has accepted but not made durable; a checkpoint that
    /// still builds on the journal needs them to be.
    async fn sync_journal(&self, layout: &Layout) -> Result<(), OpenError> {
        let shard = self.inner.options.shard;
        for number in list_files(&self.inner.io, layout, shard).await? {
            let path = layout.journal_file(shard, number);
            let file = self
                .inner
                .io
                .open(&path, OpenMode::Write)
                .await
                .map_err(open_io("open", &path))?;
            file.sync_data().await.map_err(open_io("flush", &path))?;
        }
        Ok(())
    }

    /// Segments that were begun after the checkpoint may have been cut elsewhere this time.
    async fn remove_strangers(&self, layout: &Layout) -> Result<(), OpenError> {
        let io = &self.inner.io;
        let mut logs = self.touched_logs();
        logs.retain(|log| {
            let directory = layout.partition(log.id());
            self.existing
                .contains(Path::new(directory.file_name().unwrap_or_default()))
        });
        at_once(&logs, async |log| {
            let directory = layout.partition(log.id());
            let names = io.read_dir(&directory).await;
            for name in names.map_err(open_io("list", &directory))? {
                let known = {
                    let state = log.state.borrow();
                    let mut segments = state.segments.iter();
                    Layout::base_offset(&name)
                        .is_none_or(|base| segments.any(|segment| segment.id.base_offset == base))
                };
                if !known {
                    let path = directory.join(name.file_name().unwrap_or_default());
                    let removed = io.remove_file(&path).await;
                    removed.map_err(open_io("remove", path))?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Gives each log to the shard that owns it. All journals are empty, so a log is nothing but its entry in a
/// checkpoint: first those who gain write theirs, then those who lose. A crash in between leaves a log in two
/// checkpoints, equal in both, and the next start finishes.
async fn distribute<I: Io>(
    io: &I,
    layout: &Layout,
    shards: &mut BTreeMap<ShardId, RecoveredShard>,
    owner: impl Fn(TopicPartition) -> ShardId,
    shard_count: u16,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let mut homes: BTreeMap<TopicPartition, (ShardId, Rc<Log>)> = BTreeMap::new();
    let mut losing = BTreeSet::new();
    let mut gaining: BTreeSet<ShardId> = shards
        .values()
        .filter(|shard| shard.sequence == 0)
        .map(|shard| shard.shard)
        .collect();
    for shard in shards.values() {
        for (id, log) in &shard.logs {
            let home = owner(*id);
            if home.0 >= shard_count {
                return Err(OpenError::Options(format!(
                    "partition {id} is owned by shard {home} of {shard_count}"
                )));
            }
            if home != shard.shard {
                losing.insert(shard.shard);
                gaining.insert(home);
                report.logs_moved += 1;
            }
            homes.insert(*id, (home, log.clone()));
        }
    }
    let surplus: Vec<ShardId> = shards
        .keys()
        .copied()
        .filter(|shard| shard.0 >= shard_count)
        .collect();
    let orphaned: Vec<Removal> = surplus
        .iter()
        .filter_map(|shard| shards.get(shard))
        .flat_map(|shard| shard.removals.clone())
        .collect();
    if let Some(heir) = shards.get_mut(&ShardId(0)).filter(|_| !orphaned.is_empty()) {
        heir.removals.extend(orphaned);
        gaining.insert(ShardId(0));
    }
    for shard in gaining {
        let Some(gainer) = shards.get_mut(&shard) else {
            continue;
        };
        let mut logs = gainer.logs.clone();
        logs.extend(
            homes
                .iter()
                .filter(|(_, (home, _))| *home == shard)
                .map(|(id, (_, log))| (*id, log.clone())),
        );
        gainer.logs = logs;
        write_recovered(io, layout, gainer).await?;
    }
    for shard in losing {
        let Some(loser) = shards.get_mut(&shard) else {
            continue;
        };
        loser
            .logs
            .retain(|id, _| homes.get(id).is_some_and(|(home, _)| *home == shard));
        write_recovered(io, layout, loser).await?;
    }
    for shard in surplus {
        // Its checkpoint stays and says that it has no logs; only the journal's space is worth giving back.
        let journal = layout.journal(shard);
        io.remove_dir_all(&journal)
            .await
            .map_err(open_io("remove", &journal))?;
    }
    Ok(())
}

/// Writes a shard's state to both of its checkpoint files: if one is damaged later, the other must not lead back to
/// a time when the journal meant something else.
pub(crate) async fn write_recovered<I: Io>(
    io: &I,
    layout: &Layout,
    shard: &mut RecoveredShard,
) -> Result<(), OpenError> {
    for _ in 0..2 {
        shard.sequence += 1;
        let checkpoint = Checkpoint {
            shard: shard.shard,
            sequence: shard.sequence,
            state: RunState::Recovered,
            generation: 0,
            replay: Default::default(),
            durable_through: 0,
            removals: shard.removals.clone(),
            logs: shard.logs.values().cloned().collect(),
        };
        let bytes = checkpoint.encode();
        write_checkpoint_file(io, layout, shard.shard, shard.sequence, &bytes)
            .await
            .map_err(open_io("write", layout.checkpoint(shard.shard, 0)))?;
    }
    Ok(())
}

impl<I: Io> Inner<I> {
    /// Opens a shard whose journal is empty: begins a new generation of it.
    pub(crate) async fn open(io: I, options: StorageOptions) -> Result<Rc<Inner<I>>, OpenError> {
        let layout = Layout::new(&options.directory);
        let shard = options.shard;
        let checkpoint = load_checkpoint(&io, &layout, shard).await?;
        let Some(checkpoint) =
            checkpoint.filter(|checkpoint| checkpoint.state != RunState::Running)
        else {
            return Err(OpenError::Options(format!(
                "shard {shard} must be recovered before it is opened"
            )));
        };
        let directory = layout.journal(shard);
        io.create_dir_all(&directory)
            .await
            .map_err(open_io("create", &directory))?;
        // A run that was killed may have made files whose names are not durable yet; groups in them are not either then.
        io.sync_dir(&directory)
            .await
            .map_err(open_io("flush", &directory))?;
        let spares = layout.spares_of(shard);
        io.create_dir_all(&spares)
            .await
            .map_err(open_io("create", &spares))?;
        let mut numbers = list_files(&io, &layout, shard).await?;
        if numbers.is_empty() {
            let size = options.journal_first_file_bytes;
            let path = layout.journal_file(shard, 0);
            prepare_file(&io, &layout, shard, 0, size, false)
                .await
                .map_err(open_io("write", path))?;
            numbers.push(0);
        }
        let durable = match options.flush_method {
            FlushMethod::DurableWrite => true,
            FlushMethod::WriteThenSync => false,
            FlushMethod::Probe => probe(&io, &layout, shard, numbers[0]).await?,
        };
        let mut files = VecDeque::new();
        for number in numbers {
            let path = layout.journal_file(shard, number);
            let file: JournalFile<I> = open_file(&io, &layout, shard, number, durable)
                .await
                .map_err(open_io("open", path))?;
            if file.size > 0 {
                files.push_back(Rc::new(file));
            }
        }
        let journal = Journal::new(
            io.random() | 1,
            JournalFiles::new(files),
            options.groups_in_flight_max,
        );
        let logs: BTreeMap<TopicPartition, Rc<Log>> = checkpoint
            .logs
            .iter()
            .map(|log| (log.id(), log.clone()))
            .collect();
        for log in logs.values() {
            log.state.borrow_mut().created_sequence = 0;
        }
        let inner = Inner::new(io, options, journal, logs);
        inner.journal_durable_writes.set(durable);
        inner.checkpoint_sequence.set(checkpoint.sequence);
        inner.removals.borrow_mut().extend(checkpoint.removals);
        // Both files: neither may lead back to before this generation.
        inner.checkpoint(RunState::Running).await?;
        inner.checkpoint(RunState::Running).await?;
        Ok(Rc::new(inner))
    }
}

/// Measures whether this device makes small groups durable faster by O_DSYNC or by fdatasync. Overwrites the start of
/// a journal file, which holds nothing of value before the first group.
async fn probe<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
    number: u32,
) -> Result<bool, OpenError> {
    let path = layout.journal_file(shard, number);
    let mut zeros = io.buffer(PROBE_BYTES);
    zeros.truncate(PROBE_BYTES);
    zeros.as_mut().fill(0);
    let zeros = zeros.freeze();
    let plain = io
        .open(&path, OpenMode::Write)
        .await
        .map_err(open_io("open", &path))?;
    let durable = io
        .open(&path, OpenMode::WriteDurable)
        .await
        .map_err(open_io("open", &path))?;
    if plain.len().await.map_err(open_io("size", &path))? < PROBE_BYTES as u64 {
        return Ok(true);
    }
    // The best of several rounds: what else runs on the machine can only make a round slower.
    let (mut durable_best, mut sync_best) = (Duration::MAX, Duration::MAX);
    for _ in 0..PROBE_ROUNDS {
        let start = io.now();
        durable
            .write_at(zeros.clone(), 0)
            .await
            .map_err(open_io("write", &path))?;
        let middle = io.now();
        plain
            .write_at(zeros.clone(), 0)
            .await
            .map_err(open_io("write", &path))?;
        plain.sync_data().await.map_err(open_io("flush", &path))?;
        durable_best = durable_best.min(middle.since(start));
        sync_best = sync_best.min(io.now().since(middle));
    }
    let chosen = durable_best <= sync_best;
    tracing::info!(
        shard = shard.0,
        durable_write_us = durable_best.as_micros() as u64,
        write_then_sync_us = sync_best.as_micros() as u64,
        durable_write = chosen,
        "journal flush method"
    );
    Ok(chosen)
}
