//! Starting a shard: recovery, metadata, partitions, then the long-lived tasks.
//!
//! Shard 0 goes first: it recovers the data directory (the journals of the last run, however many shards that had)
//! and reads the metadata log. It takes part in the quorum and registers the broker, fenced; the image that holds this says
//! what has become of the partitions meanwhile. Then it opens its logs and hands the image to the others, which open theirs
//! and report back. No shard serves clients before the controller has let the broker in.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use metadata::MetadataImage;
use model::{BrokerEpoch, ShardId, TopicPartition};
use runtime::mailbox::{Inbox, Sender};
use runtime::{Io, TaskClass};
use storage::{Log, OpenError, RecoveryReport, Storage, StorageOptions};

use crate::controller;
use crate::forwarding;
use crate::isr_changes;
use crate::life::{self, LifeError};
use crate::message::Envelope;
use crate::metadata_log::{self, LoadContext, LoadError, Loaded};
use crate::metadata_quorum;
use crate::metadata_replica::MetadataReplica;
use crate::metadata_upgrade;
use crate::partition_table;
use crate::partitions::METADATA_PARTITION;
use crate::peer::Peers;
use crate::shard::{Shard, ShardOptions};
use crate::sizes;
use crate::snapshot_writer;
use crate::suspects;
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
    /// There are logs that the metadata log does not know.
    #[error(transparent)]
    MetadataLost(#[from] MetadataLost),
    /// The broker does not become one of the cluster.
    #[error(transparent)]
    Life(#[from] LifeError),
}

/// A running shard, and on shard 0 what recovery did.
pub struct Booted<I: Io> {
    pub shard: Rc<Shard<I>>,
    /// On shard 0.
    pub recovery: Option<RecoveryReport>,
}

/// Starts one shard of a broker. `senders[i]` is the mailbox of shard `i`; `inbox` is this shard's own. `prepared` is called
/// when it can be told of other brokers: without them shard 0 may wait for ever.
pub async fn boot<I: Io>(
    io: I,
    options: ShardOptions,
    inbox: Inbox<Envelope>,
    senders: Vec<Sender<Envelope>>,
    prepared: impl FnOnce(&Rc<Shard<I>>),
) -> Result<Booted<I>, BootError> {
    if options.shard == ShardId(0) {
        boot_first(io, options, inbox, senders, prepared).await
    } else {
        boot_other(io, options, inbox, senders, prepared).await
    }
}

async fn boot_first<I: Io>(
    io: I,
    options: ShardOptions,
    inbox: Inbox<Envelope>,
    senders: Vec<Sender<Envelope>>,
    prepared: impl FnOnce(&Rc<Shard<I>>),
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
    shard
        .controller
        .begins(ShardId(0), shard.image().end_offset());
    tasks::start(&shard, inbox, Vec::new());
    prepared(&shard);
    // Of those that were there when this broker stopped: the controller is among them, or known to one.
    shard.tell_addresses();
    metadata_quorum::start(&shard);
    forwarding::start(&shard);
    let class = TaskClass::Foreground;
    shard.io.spawn(class, controller::run(shard.clone()));
    let stopped_as = recovery.broker_epoch.filter(|_| recovery.clean);
    life::register(&shard, stopped_as.map(BrokerEpoch)).await?;
    // Topics may have been removed since this broker has stopped.
    let deleted: BTreeSet<TopicPartition> = {
        let image = shard.image();
        let found = recovery.found.iter().copied();
        let gone = found.filter(|id| *id != METADATA_PARTITION && image.partition(*id).is_none());
        gone.chain(deleted).collect()
    };
    shard.open_partitions(&deleted);
    shard.io.spawn(class, isr_changes::run(shard.clone()));
    start_others(&shard, deleted).await;
    shard.io.spawn(class, life::beat(shard.clone()));
    shard.io.spawn(class, suspects::report(shard.clone()));
    shard.io.spawn(class, sizes::report(shard.clone()));
    shard
        .io
        .spawn(class, controller::look_for_moves(shard.clone()));
    life::wait_unfenced(&shard).await?;
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

/// Hands the image to the other shards, which are told from then on what is decided, and waits until they have opened
/// their logs.
async fn start_others<I: Io>(shard: &Rc<Shard<I>>, deleted: BTreeSet<TopicPartition>) {
    let (image, deleted) = (Arc::new(shard.image().clone()), Arc::new(deleted));
    for other in shard.peers.others() {
        let start = Envelope::Start(image.clone(), deleted.clone());
        shard.peers.send(other, start);
        shard.controller.begins(other, image.end_offset());
    }
    let others = shard.shard_count() - 1;
    shard.controller.wait_started(others).await;
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
            founds: options.founds,
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
    prepared: impl FnOnce(&Rc<Shard<I>>),
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
    prepared(&shard);
    shard.open_partitions(&deleted);
    tasks::start(&shard, inbox, early);
    let proposals = isr_changes::run(shard.clone());
    shard.io.spawn(TaskClass::Foreground, proposals);
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
