//! Divides the logs over another number of shards: replays all journals into segments, then moves logs.
//!
//! Each shard's journal is replayed on its own, and a checkpoint makes that final in one step. Only then, with empty
//! journals, a log is nothing but its entry in a checkpoint and may move.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use model::{ShardId, TopicPartition};
use runtime::Io;

use super::RecoveryReport;
use super::apply::Applier;
use super::doubtful::Doubtful;
use super::survey::check_journal;
use crate::cache::tail::JournalPosition;
use crate::checkpoint::{Checkpoint, CheckpointEncoder, CheckpointHead, RunState};
use crate::checkpointer::write_whole_checkpoint;
use crate::error::{OpenError, StorageError, open_io};
use crate::identity::BrokerIdentity;
use crate::inner::{Found, Inner};
use crate::journal::Journal;
use crate::journal::files::JournalFiles;
use crate::journal::generations::Generations;
use crate::journal::replay::Replay;
use crate::layout::Layout;
use crate::log::Log;
use crate::lost_found::set_aside_strays;
use crate::options::StorageOptions;
use crate::removals::Removal;

/// A shard after its journal was replayed.
struct RecoveredShard {
    shard: ShardId,
    sequence: u64,
    /// The file of its last checkpoint.
    slot: u8,
    identity: Option<BrokerIdentity>,
    removals: Vec<Removal>,
    logs: BTreeMap<TopicPartition, Rc<Log>>,
}

/// Replays and divides. `options` name the new number of shards.
pub(super) async fn divide<I: Io>(
    io: &I,
    options: &StorageOptions,
    layout: &Layout,
    checkpoints: BTreeMap<ShardId, Option<Checkpoint>>,
    owner: impl Fn(TopicPartition) -> ShardId,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let shard_count = options.shard_count;
    let present = u16::try_from(checkpoints.len()).expect("shards are numbered by u16");
    let mut shards = BTreeMap::new();
    for (shard, checkpoint) in checkpoints {
        let recovered = match checkpoint {
            Some(checkpoint) => recover_shard(io, options, layout, checkpoint, report).await,
            None => Ok(RecoveredShard::empty(shard, options)),
        };
        let recovered = recovered.map_err(|error| match error {
            OpenError::Storage(StorageError::DiskFull) => OpenError::NoSpaceToDivide { present },
            other => other,
        })?;
        shards.insert(shard, recovered);
    }
    for shard in (0..shard_count).map(ShardId) {
        shards
            .entry(shard)
            .or_insert_with(|| RecoveredShard::empty(shard, options));
    }
    let logs = shards.values().flat_map(|shard| shard.logs.keys());
    report.found = logs.copied().collect();
    report.logs = report.found.len();
    let mut known = report.found.clone();
    let removals = shards.values().flat_map(|shard| &shard.removals);
    known.extend(removals.map(|removal| removal.partition()));
    report.strays = set_aside_strays(io, layout, &known).await?;
    distribute(io, layout, &mut shards, owner, shard_count, report).await
}

impl RecoveredShard {
    fn empty(shard: ShardId, options: &StorageOptions) -> RecoveredShard {
        RecoveredShard {
            shard,
            sequence: 0,
            slot: 0,
            identity: options.identity.clone(),
            removals: Vec::new(),
            logs: BTreeMap::new(),
        }
    }
}

async fn recover_shard<I: Io>(
    io: &I,
    options: &StorageOptions,
    layout: &Layout,
    checkpoint: Checkpoint,
    report: &mut RecoveryReport,
) -> Result<RecoveredShard, OpenError> {
    let shard = checkpoint.shard;
    let logs = checkpoint
        .logs
        .iter()
        .map(|log| (log.id(), log.clone()))
        .collect();
    let identity = BrokerIdentity::adopt(checkpoint.identity.clone(), options.identity.as_ref());
    if !checkpoint.has_journal() {
        return Ok(RecoveredShard {
            shard,
            sequence: checkpoint.sequence,
            slot: checkpoint.slot,
            identity,
            removals: checkpoint.removals,
            logs,
        });
    }
    // Not of the new division yet: that is said by the last checkpoint of all.
    let options = StorageOptions {
        shard,
        shard_count: 0,
        ..options.clone()
    };
    check_journal(io, layout, shard).await?;
    let mut replay = Replay::new(io, layout, &checkpoint).await?;
    let journal = Journal::new(
        checkpoint.generations.clone(),
        checkpoint.replay,
        JournalFiles::default(),
        0,
    );
    let found = Found {
        journal,
        logs,
        removals: checkpoint.removals,
        checkpoint_sequence: checkpoint.sequence,
        checkpoint_slot: checkpoint.slot,
        identity: identity.clone(),
        journal_durable_writes: false,
    };
    let inner = Inner::new(io.clone(), options, found);
    let mut applier = Applier::new(&inner, report);
    let mut doubtful = Doubtful::after(checkpoint.durable_through);
    while let Some(group) = replay.next_group().await? {
        doubtful.add(&group);
        applier.apply(group).await?;
    }
    applier.complete()?;
    if !inner.removals.is_empty() {
        // The checkpoint that is written then builds on the journal.
        doubtful.write_again(&inner).await?;
        remove_deleted(&inner, &applier, replay.next_position()).await?;
    }
    applier.write_dirty().await?;
    applier.remove_strangers().await?;
    report.torn_tail |= replay.torn;
    let logs: Vec<Rc<Log>> = inner.logs.borrow().values().cloned().collect();
    inner.trim_open_segments(&logs).await?;
    inner.checkpoint(RunState::Recovered).await?;
    inner.checkpoint(RunState::Recovered).await?;
    Ok(RecoveredShard {
        shard,
        sequence: inner.checkpoints.sequence(),
        slot: inner.checkpoints.slot(),
        identity,
        removals: removals_of(&inner),
        logs: inner.logs.take(),
    })
}

/// What waits for its removal when all is in segments: what batches were placed behind, too.
fn removals_of<I: Io>(inner: &Inner<I>) -> Vec<Removal> {
    let mut removals = inner.removals.all();
    for log in inner.logs.borrow().values() {
        removals.extend(log.state().shields.removals());
    }
    removals
}

/// Directories of deleted logs go first, for logs made anew under their names want the place; and before they go, a
/// checkpoint without these logs must be durable, as while running.
async fn remove_deleted<I: Io>(
    inner: &Inner<I>,
    applier: &Applier<'_, I>,
    end: JournalPosition,
) -> Result<(), OpenError> {
    applier.write_dirty().await?;
    // After this checkpoint a start replays less, and no longer knows what is of an earlier one.
    applier.remove_strangers().await?;
    inner.journal.borrow_mut().pipeline.resume(end);
    inner.checkpoint(RunState::Running).await?;
    match inner.removals.all().first() {
        None => Ok(()),
        Some(removal) => Err(OpenError::Io {
            action: "remove files of",
            path: inner.layout.partition(removal.partition()),
            source: std::io::Error::other("see the log"),
        }),
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
    if !orphaned.is_empty() {
        let heir = shards.get_mut(&ShardId(0)).expect("there is a first shard");
        heir.removals.extend(orphaned);
        gaining.insert(ShardId(0));
    }
    gaining.extend(move_removals(shards, &homes));
    for shard in &gaining {
        let gainer = shards.get_mut(shard).expect("every owner has a place");
        let mut logs = gainer.logs.clone();
        logs.extend(
            homes
                .iter()
                .filter(|(_, (home, _))| home == shard)
                .map(|(id, (_, log))| (*id, log.clone())),
        );
        gainer.logs = logs;
        write_recovered(io, layout, gainer, shard_count).await?;
    }
    // Then all others: the division is complete when the last of them says so.
    for (shard, loser) in shards.iter_mut() {
        if gaining.contains(shard) && !losing.contains(shard) {
            continue;
        }
        loser
            .logs
            .retain(|id, _| homes.get(id).is_some_and(|(home, _)| home == shard));
        if shard.0 >= shard_count {
            loser.removals.clear();
        }
        write_recovered(io, layout, loser, shard_count).await?;
    }
    give_back_journals(io, layout, surplus).await
}

/// Segments that a log has lost, and what lies behind one that was cut, are for its new shard to remove: it knows what the log
/// has. Returns the shards that got some.
fn move_removals(
    shards: &mut BTreeMap<ShardId, RecoveredShard>,
    homes: &BTreeMap<TopicPartition, (ShardId, Rc<Log>)>,
) -> BTreeSet<ShardId> {
    let mut moved: BTreeMap<ShardId, BTreeSet<Removal>> = BTreeMap::new();
    for (shard, loser) in shards.iter_mut() {
        loser.removals.retain(|removal| {
            let home = match removal {
                Removal::Partition(_) => None,
                Removal::Segment(_) | Removal::Behind(..) => homes.get(&removal.partition()),
            };
            match home.filter(|(home, _)| home != shard) {
                None => true,
                Some((home, _)) => {
                    moved.entry(*home).or_default().insert(*removal);
                    false
                }
            }
        });
    }
    let gaining = moved.keys().copied().collect();
    for (shard, removals) in moved {
        let gainer = shards.get_mut(&shard).expect("every owner has a place");
        // A start that was cut short may have moved some already.
        let known: BTreeSet<Removal> = gainer.removals.iter().copied().collect();
        gainer.removals.extend(removals.difference(&known));
    }
    gaining
}

async fn give_back_journals<I: Io>(
    io: &I,
    layout: &Layout,
    surplus: Vec<ShardId>,
) -> Result<(), OpenError> {
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
async fn write_recovered<I: Io>(
    io: &I,
    layout: &Layout,
    shard: &mut RecoveredShard,
    shard_count: u16,
) -> Result<(), OpenError> {
    let head = CheckpointHead {
        // A shard that there is no core for has ended: it is not to make every later start look unclean.
        state: if shard.shard.0 < shard_count {
            RunState::Recovered
        } else {
            RunState::CleanShutdown
        },
        shard_count,
        identity: shard.identity.as_ref(),
        generations: &Generations::default(),
        replay: JournalPosition::first(),
    };
    for log in shard.logs.values() {
        log.forget_journal();
    }
    for _ in 0..2 {
        shard.sequence += 1;
        let mut encoder = CheckpointEncoder::new(&head, shard.removals.iter().copied());
        for log in shard.logs.values() {
            encoder.log(log, []);
        }
        let bytes = encoder.finish(shard.shard, shard.sequence, 0);
        shard.slot = 1 - shard.slot;
        write_whole_checkpoint(io, layout, shard.shard, shard.slot, &bytes)
            .await
            .map_err(open_io("write", layout.checkpoint(shard.shard, shard.slot)))?;
    }
    Ok(())
}

/// Takes logs out of a shard's checkpoints. Its journal is empty.
pub(super) async fn forget_logs<I: Io>(
    io: &I,
    layout: &Layout,
    checkpoint: Checkpoint,
    gone: &BTreeSet<TopicPartition>,
) -> Result<(), OpenError> {
    assert!(!checkpoint.has_journal(), "the logs were divided before");
    let kept: BTreeMap<TopicPartition, Rc<Log>> = checkpoint
        .logs
        .iter()
        .filter(|log| !gone.contains(&log.id()))
        .map(|log| (log.id(), log.clone()))
        .collect();
    if kept.len() == checkpoint.logs.len() {
        return Ok(());
    }
    let mut shard = RecoveredShard {
        shard: checkpoint.shard,
        sequence: checkpoint.sequence,
        slot: checkpoint.slot,
        identity: checkpoint.identity,
        removals: checkpoint.removals,
        logs: kept,
    };
    write_recovered(io, layout, &mut shard, checkpoint.shard_count).await
}
