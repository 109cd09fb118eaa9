//! Finds the shards of a data directory and reads their checkpoints.

use std::collections::BTreeSet;
use std::path::PathBuf;

use model::ShardId;
use runtime::{File, Io, OpenMode};

use crate::checkpoint::{Checkpoint, CheckpointError, FORMAT};
use crate::checkpoint_chain::decode_file;
use crate::error::{OpenError, open_io};
use crate::layout::Layout;
use crate::options::StorageOptions;

/// Shards that have a checkpoint or a journal.
pub(super) async fn shards_on_disk<I: Io>(
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

/// A run that was killed may have left a checkpoint that can be read and is not durable yet, or whose name is not. A
/// journal is built on it, and must not outlive it.
pub(super) async fn make_checkpoints_durable<I: Io>(
    io: &I,
    layout: &Layout,
    shards: &BTreeSet<ShardId>,
) -> Result<(), OpenError> {
    for shard in shards {
        for slot in 0..2 {
            let path = layout.checkpoint(*shard, slot);
            let file = match io.open(&path, OpenMode::Read).await {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.map_err(open_io("open", &path))?,
            };
            file.sync_data().await.map_err(open_io("flush", &path))?;
            file.close().await.map_err(open_io("close", &path))?;
        }
    }
    let directory = layout.checkpoints();
    let synced = io.sync_dir(&directory).await;
    synced.map_err(open_io("flush", &directory))
}

/// Refuses a directory in which a shard is missing, unless it was told to accept that. Shards appear in the order of
/// their numbers, and one that is used no longer leaves its checkpoint behind: a shard that is there proves that all
/// before it have been.
pub(super) async fn check_shards<I: Io>(
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

/// The newest sound checkpoint of a shard, if one was ever completed.
pub(crate) async fn load_checkpoint<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
) -> Result<Option<Checkpoint>, OpenError> {
    let mut newest: Option<Checkpoint> = None;
    let mut damage = None;
    // A chain that is damaged before its end: through which sequence it is sound, and where.
    let mut broken: Option<(u64, u64, PathBuf)> = None;
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
        match decode_file(&bytes) {
            Ok(read) if read.shard == shard => {
                let known = newest.as_ref().map_or(0, |known| known.sequence);
                if newest.is_none() || known < read.sequence {
                    newest = Some(Checkpoint { slot, ..read });
                }
            }
            Err(CheckpointError::Broken { sequence, position }) => {
                broken = broken.max(Some((sequence, position, path)));
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
    let known = newest.as_ref().map(|newest| newest.sequence);
    if let Some((sequence, position, path)) = broken.filter(|broken| known < Some(broken.0)) {
        return Err(OpenError::Corrupt {
            path,
            position,
            reason: format!(
                "this part of a checkpoint is damaged, and what was durable after it ({sequence}) builds on it"
            ),
        });
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

pub(super) async fn journal_exists<I: Io>(
    io: &I,
    layout: &Layout,
    shard: ShardId,
) -> Result<bool, OpenError> {
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
