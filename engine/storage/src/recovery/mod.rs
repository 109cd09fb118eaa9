//! Start: from whatever state a stop left a data directory in to running shards.
//!
//! [`recover_data_dir`] runs once, before any shard opens. If the logs are divided as they were, there is little to do:
//! each shard replays its journal when it opens, into memory, and goes on in the same journal, so a start needs no space
//! and no time for files. If the number of shards has changed, all journals are replayed into segments first; only with
//! empty journals may logs move. Repeating any part after a crash gives the same logs.

mod apply;
mod decide;
mod doubtful;
mod load;
mod open;
mod probe;
mod reshard;
mod survey;

use std::collections::{BTreeMap, BTreeSet};

use model::{ShardId, TopicPartition};
use runtime::Io;

use self::decide::{Known, Start, decide};
use self::load::{check_shards, make_checkpoints_durable, shards_on_disk};
use self::reshard::divide;
use self::survey::survey;
use crate::checkpoint::{Checkpoint, RunState};
use crate::error::{OpenError, open_io};
use crate::layout::Layout;
use crate::lost_found;
use crate::options::StorageOptions;

pub(crate) use self::load::load_checkpoint;

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Every shard had been shut down in order (or there was nothing).
    pub clean: bool,
    /// Under which registration the broker that stopped in order had written last; `None` if it did not, or none is noted.
    pub broker_epoch: Option<i64>,
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

/// Brings a data directory to where each of `shard_count` shards can be opened, with the logs that are its own by
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
    let shards = shards_on_disk(io, &layout).await?;
    make_checkpoints_durable(io, &layout, &shards).await?;
    check_shards(io, options, &layout, &shards).await?;
    remove_spares(io, &layout).await?;
    let checkpoints = load_checkpoints(io, &layout, shards).await?;
    check_identity(options, &checkpoints)?;
    let known: BTreeMap<ShardId, Option<Known>> = checkpoints
        .iter()
        .map(|(shard, checkpoint)| (*shard, checkpoint.as_ref().map(Known::of)))
        .collect();
    let mut report = RecoveryReport {
        clean: known.values().flatten().all(|known| known.is_clean),
        shards: u16::try_from(known.len()).expect("shards are numbered by u16"),
        broker_epoch: broker_epoch(&checkpoints),
        ..RecoveryReport::default()
    };
    match decide(&known, shard_count) {
        Start::AsItIs => survey(io, &layout, &checkpoints, &mut report).await?,
        Start::Divide => {
            let options = StorageOptions {
                shard_count,
                ..options.clone()
            };
            divide(io, &options, &layout, checkpoints, owner, &mut report).await?;
        }
    }
    Ok(report)
}

async fn load_checkpoints<I: Io>(
    io: &I,
    layout: &Layout,
    shards: BTreeSet<ShardId>,
) -> Result<BTreeMap<ShardId, Option<Checkpoint>>, OpenError> {
    let mut checkpoints = BTreeMap::new();
    for shard in shards {
        checkpoints.insert(shard, load_checkpoint(io, layout, shard).await?);
    }
    Ok(checkpoints)
}

/// Refuses the data of another broker.
fn check_identity(
    options: &StorageOptions,
    checkpoints: &BTreeMap<ShardId, Option<Checkpoint>>,
) -> Result<(), OpenError> {
    let Some(wanted) = &options.identity else {
        return Ok(());
    };
    let noted = checkpoints.values().flatten();
    for found in noted.filter_map(|checkpoint| checkpoint.identity.as_ref()) {
        if let Some(found) = found.difference(wanted) {
            return Err(OpenError::OtherBroker {
                directory: options.directory.clone(),
                found,
            });
        }
    }
    Ok(())
}

/// The epoch that all shards have ended under in order.
fn broker_epoch(checkpoints: &BTreeMap<ShardId, Option<Checkpoint>>) -> Option<i64> {
    let mut epochs = BTreeSet::new();
    for checkpoint in checkpoints.values().flatten() {
        let is_clean = checkpoint.state == RunState::CleanShutdown;
        let identity = checkpoint.identity.as_ref().filter(|_| is_clean)?;
        epochs.insert(identity.broker_epoch);
    }
    let epoch = epochs.pop_first().filter(|epoch| *epoch >= 0)?;
    epochs.is_empty().then_some(epoch)
}

/// Moves the directories of these logs to `lost+found` and takes the logs out of the checkpoints. To be called after
/// [`recover_data_dir`] and before the shards run; doing it again does no harm. Empties the journals first, so that a
/// log is nothing but its directory and its entry in a checkpoint.
pub async fn set_aside<I: Io>(
    io: &I,
    options: &StorageOptions,
    owner: impl Fn(TopicPartition) -> ShardId,
    shard_count: u16,
    logs: &BTreeSet<TopicPartition>,
) -> Result<(), OpenError> {
    let layout = Layout::new(&options.directory);
    let options = StorageOptions {
        shard_count,
        ..options.clone()
    };
    let shards = shards_on_disk(io, &layout).await?;
    let checkpoints = load_checkpoints(io, &layout, shards.clone()).await?;
    let mut report = RecoveryReport::default();
    divide(io, &options, &layout, checkpoints, owner, &mut report).await?;
    lost_found::move_unknown(io, &layout, logs).await?;
    let checkpoints = load_checkpoints(io, &layout, shards).await?;
    for checkpoint in checkpoints.into_values().flatten() {
        reshard::forget_logs(io, &layout, checkpoint, logs).await?;
    }
    Ok(())
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
        // The directory stays: on a full device it could not be made anew.
        let names = io.read_dir(&directory).await;
        for name in names.map_err(open_io("list", &directory))? {
            let path = directory.join(name.file_name().unwrap_or_default());
            let removed = io.remove_file(&path).await;
            removed.map_err(open_io("remove", &path))?;
        }
    }
    Ok(())
}
