//! Finds the shards of a data directory and reads their checkpoints.

use std::collections::BTreeSet;

use model::ShardId;
use runtime::{File, Io, OpenMode};

use crate::checkpoint::{Checkpoint, CheckpointError, FORMAT};
use crate::error::{OpenError, open_io};
use crate::layout::Layout;

/// Shards that have a checkpoint or a journal. Data without any checkpoint is refused: it is not ours to overwrite.
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
    if shards.is_empty() {
        let partitions = layout.partitions();
        let names = io
            .read_dir(&partitions)
            .await
            .map_err(open_io("list", &partitions))?;
        if let Some(name) = names.first() {
            return Err(OpenError::Corrupt {
                path: partitions.join(name.file_name().unwrap_or_default()),
                position: 0,
                reason: "there are partitions but no checkpoint that knows them".to_owned(),
            });
        }
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
