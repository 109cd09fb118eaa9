//! Starting a shard: recovery, metadata, partitions, then the long-lived tasks.
//!
//! Shard 0 goes first: it recovers the data directory (the journals of the last run, however many shards that had)
//! and reads the metadata log. Then it hands the image to the others, which open their logs and report back. At last it
//! registers the broker; no shard serves clients before that is done.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use metadata::MetadataImage;
use metadata::controller::{BrokerRegistrationRequest, change_fencing, register_broker};
use model::record::{DecompressionScratch, ValidationRules};
use model::{BrokerEpoch, ErrorCode, LeaderEpoch, PartitionEpoch, ShardId, TopicPartition};
use replica::{Assignment, LeaderReplica, LeaderSettings};
use runtime::mailbox::{Inbox, Sender};
use runtime::{Io, Oneshot};
use storage::{Durability, LogConfig, OpenError, RecoveryReport, Storage, StorageOptions};

use crate::batch_check::BatchChecks;
use crate::coordinator_host::CoordinatorHost;
use crate::message::Envelope;
use crate::metrics::Counters;
use crate::partition::{Partition, PartitionRules};
use crate::partition_table::{self, PartitionTable};
use crate::peer::Peers;
use crate::produce::Urgency;
use crate::producer_ids::ProducerIds;
use crate::purgatory::Purgatory;
use crate::quorum_driver::{self, LoadError, METADATA_PARTITION, QuorumDriver};
use crate::shard::{Shard, ShardOptions};
use crate::timers::Timers;
use crate::unknown_logs::{self, MetadataLost};
use crate::watch::RemoteWatches;
use crate::work_queue::WorkQueue;

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
    /// The cluster refuses this broker.
    #[error("this broker cannot register: {0}")]
    Register(String),
    /// The first metadata records cannot be written.
    #[error("the metadata log cannot be written: {0:?}")]
    Metadata(ErrorCode),
}

/// A running shard, and on shard 0 what recovery did.
pub struct Booted<I: Io> {
    /// The shard.
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
        image,
        deleted,
    } = open_metadata(&io, &options, owner, count, &recovery).await?;
    let peers = Peers::new(options.shard, senders);
    let shard = assemble(io, options, storage, image, peers);
    shard.open_metadata_partition();
    shard.delete_logs(&deleted);
    shard.open_partitions();
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
    shard.start(inbox, early);
    shard.register(recovery.clean).await?;
    shard.start_controller();
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
    image: MetadataImage,
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
    let storage = open_storage(io, options, count).await?;
    let log = storage.create_log(METADATA_PARTITION, metadata_log_config());
    let loaded = quorum_driver::load(&storage, &log, &options.cluster_id).await?;
    let sorted = unknown_logs::sort(&recovery.found, &loaded.image, &loaded.deleted);
    let storage = if sorted.unknown.is_empty() {
        storage
    } else {
        let lost = MetadataLost::new(&sorted.unknown, &loaded.image, recovery.torn_tail);
        if !options.storage.accept_lost_data {
            return Err(lost.into());
        }
        tracing::warn!("{lost}");
        drop((log, storage));
        storage::set_aside(io, &options.storage, owner, count, &sorted.unknown).await?;
        open_storage(io, options, count).await?
    };
    Ok(Opened {
        storage,
        image: loaded.image,
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
    let shard = assemble(io, options, storage, image, peers);
    shard.delete_logs(&deleted);
    shard.open_partitions();
    shard.start(inbox, early);
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

fn assemble<I: Io>(
    io: I,
    options: ShardOptions,
    storage: Storage<I>,
    image: MetadataImage,
    peers: Peers,
) -> Rc<Shard<I>> {
    let shard_count = peers.shard_count();
    Rc::new(Shard {
        io,
        options,
        storage,
        partitions: RefCell::new(PartitionTable::default()),
        image: RefCell::new(image),
        purgatory: RefCell::new(Purgatory::default()),
        timers: Timers::default(),
        peers: Rc::new(peers),
        scratch: RefCell::new(DecompressionScratch::default()),
        checks: BatchChecks::default(),
        reads: WorkQueue::new(),
        produces: WorkQueue::new(),
        remote_watches: RemoteWatches::default(),
        quorum: QuorumDriver::new(shard_count),
        coordinators: CoordinatorHost::default(),
        producer_ids: ProducerIds::default(),
        counters: Counters::default(),
        fenced: Cell::new(false),
        serve: Oneshot::new(),
    })
}

impl<I: Io> Shard<I> {
    /// The metadata log is a partition like any other, but no client sees it.
    fn open_metadata_partition(self: &Rc<Self>) {
        let log = self
            .storage
            .create_log(METADATA_PARTITION, metadata_log_config());
        let end = log.durable_end_offset();
        let broker = self.options.broker;
        let replica = LeaderReplica::new(
            self.io.now(),
            broker,
            LeaderSettings {
                min_insync_replicas: 1,
                replica_lag_max: self.replica_lag_max(),
            },
            Assignment {
                leader_epoch: LeaderEpoch(0),
                partition_epoch: PartitionEpoch(0),
                replicas: &[broker],
                isr: &[broker],
            },
            end,
            end,
        );
        let rules = PartitionRules {
            validation: ValidationRules::default(),
            durability: Durability::Flushed,
            log_append_time: false,
            deletes: false,
            internal: true,
            recompress: None,
        };
        let counters = Rc::default();
        let partition = Partition::new(METADATA_PARTITION, log, rules, replica, counters);
        self.partitions.borrow_mut().insert(partition);
    }

    /// Registers this process with the cluster and lifts its fence: in a quorum of one, it is its own controller.
    ///
    /// After a clean stop it says so, and no partition needs a new leader epoch.
    async fn register(self: &Rc<Self>, is_clean: bool) -> Result<(), BootError> {
        let decision = {
            let image = self.image();
            let epoch = BrokerEpoch(image.end_offset().0);
            let previous = image.broker(self.options.broker);
            let registration = BrokerRegistrationRequest {
                clean_shutdown_epoch: previous.filter(|_| is_clean).map(|broker| broker.epoch),
                ..self.options.registration.as_ref().clone()
            };
            register_broker(&image, &registration, epoch, false)
        };
        decision
            .results
            .map_err(|error| BootError::Register(error.message))?;
        self.commit_boot(decision.records).await?;
        let unclean = |_: &str| false;
        let decision = change_fencing(&self.image(), self.options.broker, false, &unclean);
        self.commit_boot(decision.records).await
    }

    async fn commit_boot(
        self: &Rc<Self>,
        records: Vec<metadata::MetadataRecord>,
    ) -> Result<(), BootError> {
        if records.is_empty() {
            return Ok(());
        }
        let committed = self.commit_metadata(records, Urgency::FreesSpace).await;
        committed.map_err(BootError::Metadata)
    }
}

/// Kept for ever: the log is the cluster's memory.
fn metadata_log_config() -> LogConfig {
    LogConfig {
        retention_ms: -1,
        retention_bytes: -1,
        delete_enabled: false,
        ..LogConfig::default()
    }
}
