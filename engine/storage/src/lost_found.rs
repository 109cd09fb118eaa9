//! Logs that nobody knows are set aside: their directories move to `lost+found` of the data directory. Nothing here
//! removes a byte.
//!
//! Runs between recovery and the opening of the shards. The journals are empty then: whatever they held for these logs
//! lies in segments, and a log is its directory and its entry in a checkpoint. The directory moves first, durably, and
//! then the checkpoints forget the log. After a crash in between the log is still unknown to whoever decided, its
//! directory is found to have moved already, and setting it aside again only writes the checkpoints. The other way
//! round, a crash would leave a directory that nobody asks for any more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use model::TopicPartition;
use runtime::Io;

use crate::error::{OpenError, open_io};
use crate::layout::Layout;

/// Directories that are named in the log one by one; of more only the count is told.
const NAMED_MAX: usize = 20;

/// Moves the directories of these logs to `lost+found`.
pub(crate) async fn move_unknown<I: Io>(
    io: &I,
    layout: &Layout,
    logs: &BTreeSet<TopicPartition>,
) -> Result<(), OpenError> {
    let why = "the metadata log does not know its topic";
    move_directories(io, layout, logs, why).await?;
    Ok(())
}

/// Sets aside partition directories that hold files but belong to no log of any checkpoint: a log made in their place
/// would write into them. A lost checkpoint leaves such directories, and so may a loss of power when the records
/// were acknowledged before they were durable. Returns how many.
pub(crate) async fn set_aside_strays<I: Io>(
    io: &I,
    layout: &Layout,
    known: &BTreeSet<TopicPartition>,
) -> Result<usize, OpenError> {
    let mut strays = BTreeSet::new();
    for name in names_in(io, &layout.partitions()).await? {
        let Some(id) = Layout::partition_of(&name).filter(|id| !known.contains(id)) else {
            continue;
        };
        if !names_in(io, &layout.partition(id)).await?.is_empty() {
            strays.insert(id);
        }
    }
    if strays.is_empty() {
        return Ok(0);
    }
    move_directories(io, layout, &strays, "no checkpoint names it").await
}

async fn move_directories<I: Io>(
    io: &I,
    layout: &Layout,
    logs: &BTreeSet<TopicPartition>,
    why: &'static str,
) -> Result<usize, OpenError> {
    let (partitions, lost_found) = (layout.partitions(), layout.lost_found());
    io.create_dir_all(&lost_found)
        .await
        .map_err(open_io("create", &lost_found))?;
    io.sync_dir(layout.root())
        .await
        .map_err(open_io("flush", layout.root()))?;
    let there = names_in(io, &partitions).await?;
    let mut taken = names_in(io, &lost_found).await?;
    let mut moved = 0;
    for id in logs {
        let from = layout.partition(*id);
        if !there.contains(&file_name(&from)) {
            continue;
        }
        let to = free_name(layout, *id, &taken);
        io.rename(&from, &to)
            .await
            .map_err(open_io("set aside", &from))?;
        taken.insert(file_name(&to));
        moved += 1;
        if moved <= NAMED_MAX {
            tracing::warn!(log = %id, to = %to.display(), why, "a log is set aside");
        }
    }
    if moved > NAMED_MAX {
        let more = moved - NAMED_MAX;
        tracing::warn!(more, to = %lost_found.display(), why, "more logs are set aside");
    }
    // The new names first: whatever a loss of power undoes, the files keep one of their two names.
    for directory in [lost_found, partitions] {
        io.sync_dir(&directory)
            .await
            .map_err(open_io("flush", &directory))?;
    }
    Ok(moved)
}

/// A log may be set aside more than once, if its topic is restored and lost again.
fn free_name(layout: &Layout, id: TopicPartition, taken: &BTreeSet<PathBuf>) -> PathBuf {
    (0..=taken.len())
        .map(|number| layout.set_aside(id, number))
        .find(|path| !taken.contains(&file_name(path)))
        .expect("of one name more than there are names, one is free")
}

async fn names_in<I: Io>(io: &I, directory: &Path) -> Result<BTreeSet<PathBuf>, OpenError> {
    let names = io.read_dir(directory).await;
    let names = names.map_err(open_io("list", directory))?;
    Ok(names.iter().map(|name| file_name(name)).collect())
}

fn file_name(path: &Path) -> PathBuf {
    PathBuf::from(path.file_name().unwrap_or_default())
}
