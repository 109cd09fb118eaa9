//! Starting a shard: recovery, metadata, partitions, then the long-lived tasks.
//!
//! Shard 0 goes first: it recovers the data directory (the journals of the last run, however many shards that had)
//! and reads the metadata log. Then it hands the image to the others, which open their logs and report back. At last it
//! registers the broker; no shard serves clients before that is done.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use metadata::controller::{BrokerRegistrationRequest, change_fencing, register_broker};
use metadata::{MetadataImage, MetadataRecord};
use model::{BrokerEpoch, ShardId, TopicPartition};
use runtime::mailbox::{Inbox, Sender};
use runtime::{Io, TaskClass};
use storage::{CutError, OpenError, RecoveryReport, Storage, StorageOptions};

use crate::append::Urgency;
use crate::controller;
use crate::message::Envelope;
use crate::metadata_log::{self, LoadError, Loaded};
use crate::partition_table;
use crate::partitions::METADATA_PARTITION;
use crate::peer::Peers;
use crate::refusal::MetadataRefusal;
use crate::shard::{Shard, ShardOptions};
use crate::snapshot_writer;
use crate::tasks;
use crate::unknown_logs::{self, MetadataLost};

/// Why a shard does not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The metadata log cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The metadata log cannot begin where its snapshot ends.
    #[error("the metadata log cannot go on from its snapshot: {0}")]
    Reset(#[from] CutError),
    /// There are logs that the metadata log does not know.
    #[error(transparent)]
    MetadataLost(#[from] MetadataLost),
    /// The cluster refuses this broker.
    #[error("this broker cannot register: {0}")]
    Register(String),
    /// The first metadata records cannot be written.
    #[error(transparent)]
    Metadata(MetadataRefusal),
}

/// A running shard, and on shard 0 what recovery did.
pub struct Booted<I: Io> {
    pub shard: Rc<Shard<I>>,
    /// On shard 0.
    pub recovery: Option<RecoveryReport>,
}

/// Starts one shard of a broker. `senders[i]` is the mailbox of shard `i`; `inbox` is this shard's own.
pub async fn boot<I: Io>(
    io: I,
    options: ShardOptions,
    inbox: Inbox<Envelope>,
    senders: Vec<Sender<Envelope>>,
) -> Result<Booted<I>, BootError> {
    if options.shard == ShardId(0) {
        boot_first(io, options, inbox, senders).await
    } else {
        boot_other(io, options, inbox, senders).await
    }
}

async fn boot_first<I: Io>(
    io: I,
    options: ShardOptions,
    mut inbox: Inbox<Envelope>,
    senders: Vec<Sender<Envelope>>,
) -> Result<Booted<I>, BootError> {
    let count = u16::try_from(senders.len()).expect("shard count fits u16");
    let owner = |id| partition_table::owner(id, count);
    let recovery = storage::recover_data_dir(&io, &options.storage, owner, count).await?;
    let Opened {
        storage,
        loaded,
        deleted,
    } = open_metadata(&io, &options, owner, count, &recovery).await?;
    let Loaded {
        image,
        removed,
        bytes,
        last_timestamp,
        snapshot,
    } = loaded;
    let peers = Peers::new(options.shard, senders);
    let log_config = metadata_log::log_config(&options.config);
    let shard = Shard::assemble(io, options, storage, image, peers);
    shard.partitions.open_metadata(log_config);
    let snapshots = &shard.snapshots;
    snapshots.start_with(removed, bytes, last_timestamp, snapshot);
    open_partitions(&shard, &deleted);
    let shared = Arc::new(shard.image().clone());
    let deleted = Arc::new(deleted);
    for other in shard.peers.others() {
        let start = Envelope::Start(shared.clone(), deleted.clone());
        shard.peers.send(other, start);
    }
    let mut early = Vec::new();
    let mut waiting_for = count - 1;
    while waiting_for > 0 {
        match inbox.next().await {
            Envelope::Started(other) => {
                tracing::debug!(shard = %other, "started");
                waiting_for -= 1;
            }
            // Work of a shard that has started: for later.
            other => early.push(other),
        }
    }
    let image_end = shard.image().end_offset();
    for other in 0..count {
        shard.quorum.applied(ShardId(other), image_end);
    }
    tasks::start(&shard, inbox, early);
    register(&shard, recovery.clean).await?;
    // Not before: decisions are made one at a time, and those of the registration are made outside of the queue.
    let driver = controller::run(shard.clone());
    shard.io.spawn(TaskClass::Foreground, driver);
    let snapshots = snapshot_writer::run(shard.clone());
    shard.io.spawn(TaskClass::Background, snapshots);
    for other in shard.peers.others() {
        shard.peers.send(other, Envelope::Serve);
    }
    Ok(Booted {
        shard,
        recovery: Some(recovery),
    })
}

/// The storage of shard 0, and what the metadata log says.
struct Opened<I: Io> {
    storage: Storage<I>,
    loaded: Loaded,
    /// Logs of any shard whose topics were deleted.
    deleted: BTreeSet<TopicPartition>,
}

/// Opens shard 0 and reads the metadata log. Logs of any shard that belong to no topic must be set aside before that
/// shard is opened, and only if somebody has said so: see [`unknown_logs`].
async fn open_metadata<I: Io>(
    io: &I,
    options: &ShardOptions,
    owner: impl Fn(TopicPartition) -> ShardId,
    count: u16,
    recovery: &RecoveryReport,
) -> Result<Opened<I>, BootError> {
    let accepts = options.storage.accept_lost_data;
    let mut storage = open_storage(io, options, count).await?;
    let log_config = metadata_log::log_config(&options.config);
    let log = storage.create_log(METADATA_PARTITION, log_config.clone());
    let mut aside = BTreeSet::new();
    let loaded = match metadata_log::load(&storage, &log, &options.cluster_id, accepts).await {
        Err(LoadError::Snapshot(error)) if accepts && error.is_loss() => {
            tracing::warn!(%error, "the metadata log is set aside");
            aside.insert(METADATA_PARTITION);
            Loaded::empty(&options.cluster_id)
        }
        loaded => loaded?,
    };
    let sorted = unknown_logs::sort(&recovery.found, &loaded.image, &loaded.removed);
    if !sorted.unknown.is_empty() {
        let lost = MetadataLost::new(&sorted.unknown, &loaded.image, recovery.torn_tail);
        if !accepts {
            return Err(lost.into());
        }
        tracing::warn!("{lost}");
        aside.extend(sorted.unknown);
    }
    if !aside.is_empty() {
        drop((log, storage));
        storage::set_aside(io, &options.storage, owner, count, &aside).await?;
        storage = open_storage(io, options, count).await?;
    }
    let log = storage.create_log(METADATA_PARTITION, log_config);
    let image_end = loaded.image.end_offset();
    if image_end > log.log_end_offset() {
        // A snapshot stands for more than was left of the log.
        storage.reset_before_start(&log, image_end)?;
    }
    Ok(Opened {
        storage,
        loaded,
        deleted: sorted.deleted,
    })
}

async fn boot_other<I: Io>(
    io: I,
    options: ShardOptions,
    mut inbox: Inbox<Envelope>,
    senders: Vec<Sender<Envelope>>,
) -> Result<Booted<I>, BootError> {
    let mut early = Vec::new();
    let (image, deleted) = loop {
        match inbox.next().await {
            Envelope::Start(image, deleted) => break (MetadataImage::clone(&image), deleted),
            // Work of a shard that has started: for later.
            other => early.push(other),
        }
    };
    let count = u16::try_from(senders.len()).expect("shard count fits u16");
    let storage = open_storage(&io, &options, count).await?;
    let peers = Peers::new(options.shard, senders);
    let shard = Shard::assemble(io, options, storage, image, peers);
    open_partitions(&shard, &deleted);
    tasks::start(&shard, inbox, early);
    shard.peers.send(ShardId(0), Envelope::Started(shard.id()));
    // Registration may take the partitions' leadership away and give it back. A client in between would have one
    // request refused and the next one accepted, out of order for its producer.
    shard.serve.take().await;
    Ok(Booted {
        shard,
        recovery: None,
    })
}

async fn open_storage<I: Io>(
    io: &I,
    options: &ShardOptions,
    shard_count: u16,
) -> Result<Storage<I>, OpenError> {
    let options = StorageOptions {
        shard_count,
        ..options.storage.clone()
    };
    Storage::open(io.clone(), options).await
}

/// Deletes the logs of deleted topics and opens all others of this shard.
fn open_partitions<I: Io>(shard: &Shard<I>, deleted: &BTreeSet<TopicPartition>) {
    shard.partitions.delete_logs(deleted);
    let opened = shard.partitions.open_all();
    shard.changed(opened);
}

/// Registers this process with the cluster and lifts its fence: in a quorum of one, it is its own controller.
///
/// After a clean stop it says so, and no partition needs a new leader epoch.
async fn register<I: Io>(shard: &Rc<Shard<I>>, is_clean: bool) -> Result<(), BootError> {
    let broker = shard.options.broker;
    let decision = {
        let image = shard.image();
        let epoch = BrokerEpoch(image.end_offset().0);
        let previous = image.broker(broker);
        let registration = BrokerRegistrationRequest {
            clean_shutdown_epoch: previous.filter(|_| is_clean).map(|broker| broker.epoch),
            ..shard.options.registration.as_ref().clone()
        };
        register_broker(&image, &registration, epoch, false)
    };
    decision
        .results
        .map_err(|error| BootError::Register(error.message))?;
    commit(shard, decision.records).await?;
    let unclean = |_: &str| false;
    let decision = change_fencing(&shard.image(), broker, false, &unclean);
    commit(shard, decision.records).await
}

async fn commit<I: Io>(
    shard: &Rc<Shard<I>>,
    records: Vec<MetadataRecord>,
) -> Result<(), BootError> {
    if records.is_empty() {
        return Ok(());
    }
    let committed = controller::commit(shard, records, Urgency::FreesSpace).await;
    committed.map_err(BootError::Metadata)
}
