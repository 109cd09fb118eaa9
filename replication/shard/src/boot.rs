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
use storage::{Log, OpenError, RecoveryReport, Storage, StorageOptions};

use crate::controller::{self, Urgency};
use crate::message::Envelope;
use crate::metadata_log::{self, LoadContext, LoadError, Loaded};
use crate::metadata_quorum;
use crate::metadata_replica::MetadataReplica;
use crate::metadata_upgrade;
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
    /// The storage was fenced meanwhile.
    #[error("the storage is fenced: {0}")]
    Fenced(String),
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
        log,
        loaded,
        deleted,
    } = open_metadata(&io, &options, owner, count, &recovery).await?;
    let Loaded {
        contents,
        recovered,
    } = loaded;
    let peers = Peers::new(options.shard, senders);
    let replica = MetadataReplica::new(io.now(), io.random(), log, recovered);
    let shard = Shard::assemble(io, options, storage, contents.image, peers);
    shard.take_part(replica);
    shard.snapshots.start_with(
        contents.removed,
        contents.bytes,
        contents.last_timestamp,
        contents.snapshot,
    );
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
        shard.controller.applied(ShardId(other), image_end);
    }
    tasks::start(&shard, inbox, early);
    metadata_quorum::start(&shard);
    become_active(&shard).await?;
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
    log: Rc<Log>,
    loaded: Loaded,
    /// Logs of any shard whose topics were deleted.
    deleted: BTreeSet<TopicPartition>,
}

/// Opens shard 0 and reads the metadata log. Logs of any shard that belong to no topic must be set aside before that
/// shard is opened, and only if somebody has said so: see [`unknown_logs`]. After that it is read once more.
async fn open_metadata<I: Io>(
    io: &I,
    options: &ShardOptions,
    owner: impl Fn(TopicPartition) -> ShardId,
    count: u16,
    recovery: &RecoveryReport,
) -> Result<Opened<I>, BootError> {
    let accept_lost_data = options.storage.accept_lost_data;
    let mut left = recovery.found.clone();
    loop {
        let storage = open_storage(io, options, count).await?;
        let config = metadata_log::log_config(&options.config);
        let log = storage.create_log(METADATA_PARTITION, config);
        let context = LoadContext {
            me: options.replica_key(),
            cluster_id: &options.cluster_id,
            found: &left,
            accept_lost_data,
        };
        let aside = match read_metadata(&storage, &log, context).await {
            Err(error) if accept_lost_data && error.is_loss() => {
                tracing::warn!(%error, "the metadata log is set aside");
                BTreeSet::from([METADATA_PARTITION])
            }
            Err(error) => return Err(error.into()),
            Ok(loaded) => {
                let sorted = unknown_logs::sort(&left, &loaded.contents);
                if sorted.unknown.is_empty() {
                    return Ok(Opened {
                        storage,
                        log,
                        loaded,
                        deleted: sorted.deleted,
                    });
                }
                let image = &loaded.contents.image;
                let lost = MetadataLost::new(&sorted.unknown, image, recovery.torn_tail);
                if !accept_lost_data {
                    return Err(lost.into());
                }
                tracing::warn!("{lost}");
                sorted.unknown
            }
        };
        drop((log, storage));
        storage::set_aside(io, &options.storage, &owner, count, &aside).await?;
        left.retain(|log| !aside.contains(log));
    }
}

async fn read_metadata<I: Io>(
    storage: &Storage<I>,
    log: &Rc<Log>,
    context: LoadContext<'_>,
) -> Result<Loaded, LoadError> {
    metadata_upgrade::upgrade(storage, log, context).await?;
    metadata_log::load(storage, log, context).await
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

/// Waits until this broker is the controller, which knows all that was decided. The only voter becomes it as soon as its
/// disk has taken the first entry of its term.
async fn become_active<I: Io>(shard: &Rc<Shard<I>>) -> Result<(), BootError> {
    let replica = shard.replica().expect("this is shard 0");
    while !replica.is_active() {
        if let Some(reason) = shard.storage.fence_reason() {
            return Err(BootError::Fenced(reason));
        }
        replica.changed().await;
    }
    Ok(())
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
