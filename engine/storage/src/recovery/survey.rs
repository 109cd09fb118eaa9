//! Which logs there are, from checkpoints and journals, before anything is opened: those that nobody knows must be set
//! aside first, or the start refused.
//!
//! Reads each journal once more than the shards do when they open: no more than its bound, and only after a crash.

use std::collections::{BTreeMap, BTreeSet};

use model::{ShardId, TopicPartition};
use runtime::Io;

use super::RecoveryReport;
use super::load::journal_exists;
use crate::checkpoint::Checkpoint;
use crate::error::OpenError;
use crate::journal::frame::EntryKind;
use crate::journal::replay::Replay;
use crate::layout::Layout;
use crate::lost_found::set_aside_strays;

/// Notes the logs of all shards, and sets aside directories that belong to none.
pub(super) async fn survey<I: Io>(
    io: &I,
    layout: &Layout,
    checkpoints: &BTreeMap<ShardId, Option<Checkpoint>>,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    // Directories of logs that are gone: their removal may still be under way.
    let mut leaving = BTreeSet::new();
    for checkpoint in checkpoints.values().flatten() {
        leaving.extend(
            checkpoint
                .removals
                .iter()
                .map(|removal| removal.partition()),
        );
        let found = logs_of(io, layout, checkpoint, &mut leaving, report).await?;
        report.found.extend(found);
    }
    report.logs = report.found.len();
    leaving.extend(report.found.iter().copied());
    report.strays = set_aside_strays(io, layout, &leaving).await?;
    Ok(())
}

async fn logs_of<I: Io>(
    io: &I,
    layout: &Layout,
    checkpoint: &Checkpoint,
    leaving: &mut BTreeSet<TopicPartition>,
    report: &mut RecoveryReport,
) -> Result<BTreeSet<TopicPartition>, OpenError> {
    let created: BTreeMap<TopicPartition, u64> = checkpoint
        .logs
        .iter()
        .map(|log| (log.id(), log.state().created_sequence))
        .collect();
    let mut found: BTreeSet<TopicPartition> = created.keys().copied().collect();
    if !checkpoint.has_journal() {
        return Ok(found);
    }
    check_journal(io, layout, checkpoint.shard).await?;
    let mut replay = Replay::new(io, layout, checkpoint).await?;
    while let Some(group) = replay.next_group().await? {
        for entry in &group.entries {
            let id = entry.header.id;
            if created
                .get(&id)
                .is_some_and(|created| group.place.sequence <= *created)
            {
                continue;
            }
            if entry.header.kind == EntryKind::PartitionDeleted {
                if found.remove(&id) {
                    leaving.insert(id);
                }
            } else {
                found.insert(id);
            }
        }
    }
    report.torn_tail |= replay.torn;
    Ok(found)
}

/// A shard has a journal before a checkpoint says that it runs.
pub(super) async fn check_journal<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
) -> Result<(), OpenError> {
    if journal_exists(io, layout, shard).await? {
        return Ok(());
    }
    Err(OpenError::Corrupt {
        path: layout.journal(shard),
        position: 0,
        reason: "the shard was running, but its journal has no files".to_owned(),
    })
}
