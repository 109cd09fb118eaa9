//! A broker of one to three shards on a node of the simulation: its settings, its lives, their ends.
//!
//! Wires shards as the real program does: mailboxes, `boot`, server, listener. Owned by the scenario; clients only ask
//! it whether a shard was fenced, which is what no client may see an acknowledgement after.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use metadata::Uuid;
use metadata::controller::BrokerRegistrationRequest;
use metadata::record::{BrokerEndpoint, BrokerFeature};
use model::config::{BrokerConfig, broker::Settings};
use model::{ShardId, TopicPartition};
use runtime::mailbox::{Inbox, Sender, mailbox};
use runtime::sim::{Generator, SimIo, Simulation};
use runtime::{Io, Snapshot, TaskClass, labels};
use server::memory::Oversize;
use server::outbox::OutboxLimits;
use server::{Server, ServerOptions, listener};
use shard::message::Envelope;
use shard::{Shard, ShardOptions, boot};
use storage::{FlushMethod, StorageOptions};

/// The node that the broker runs on.
pub const NODE: usize = 0;
/// The port it listens on.
pub const PORT: u16 = 9092;
/// Most shards of a broker here.
pub const SHARDS_MAX: usize = 3;
/// Messages that an inbox holds.
const INBOX_CAPACITY: usize = 256;
/// `metadata.version` of Kafka 4.3.
const METADATA_VERSION: i16 = 30;
/// How long a clean stop waits for clients.
const DRAIN_PATIENCE: Duration = Duration::from_millis(50);

/// What stays the same over the lives of a broker.
#[derive(Clone)]
pub struct BrokerSettings {
    /// Shards of the first life.
    pub shards: u16,
    /// Of every shard; the number is filled in.
    pub storage: StorageOptions,
    /// As in a configuration file.
    pub config: Arc<BrokerConfig>,
}

impl BrokerSettings {
    /// Everything small, so that rolls, checkpoints and recycling of the journal happen all the time.
    pub fn draw(random: &Generator) -> BrokerSettings {
        let pick = |choices: &[u64]| choices[random.index(choices.len())];
        let first = pick(&[64, 128]) << 10;
        let file = pick(&[96, 128, 192]) << 10;
        let storage = StorageOptions {
            directory: PathBuf::from("/data"),
            journal_first_file_bytes: first,
            journal_file_bytes: file,
            journal_bytes_max: first + file * pick(&[2, 3, 5]),
            group_bytes_max: (pick(&[16, 32, 64]) << 10) as usize,
            groups_in_flight_max: pick(&[1, 2, 3, 4]) as usize,
            group_overlap_bytes_min: (pick(&[0, 4, 16]) << 10) as usize,
            tail_bytes_max: (pick(&[192, 256, 512]) << 10) as usize,
            cache_bytes_max: pick(&[32, 64, 256]) << 10,
            open_files_max: pick(&[4, 8, 64]) as usize,
            flush_method: if random.one_in(2) {
                FlushMethod::DurableWrite
            } else {
                FlushMethod::WriteThenSync
            },
            segment_write_bytes: (pick(&[6, 16, 32]) << 10) as usize,
            carry_bytes_max: (pick(&[0, 2, 4]) << 10) as usize,
            spare_bytes_min: 4 << 10,
            index_chunk_bytes: (pick(&[1, 4]) << 10) as u32,
            extent_bytes: (pick(&[8, 32]) << 10) as u32,
            sync_files_max: pick(&[1, 4, 100]) as usize,
            segment_writers: pick(&[1, 2, 4]) as usize,
            ..StorageOptions::default()
        };
        let overrides: Settings = [
            ("node.id", "1"),
            ("auto.create.topics.enable", "false"),
            ("offsets.topic.num.partitions", "2"),
            ("group.initial.rebalance.delay.ms", "0"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let none = Settings::new();
        let config = BrokerConfig::from_layers(&none, &none, &overrides)
            .expect("the simulation's own settings are in range");
        BrokerSettings {
            shards: random.between(1, SHARDS_MAX as u64) as u16,
            storage,
            config: Arc::new(config),
        }
    }
}

/// One life of the broker, from start to stop.
#[derive(Default)]
struct Life {
    shard_count: Cell<u16>,
    shards: RefCell<Vec<Rc<Shard<SimIo>>>>,
    servers: RefCell<Vec<Rc<Server<SimIo>>>>,
    failure: RefCell<Option<String>>,
}

/// How far a start has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// Recovering.
    UnderWay,
    /// Every shard serves.
    Done,
    /// A shard gave up, for this reason.
    Failed(String),
}

/// A broker. See the module's text.
pub struct Broker {
    settings: BrokerSettings,
    life: RefCell<Rc<Life>>,
}

impl Broker {
    /// A broker that does not run yet.
    pub fn new(settings: BrokerSettings) -> Rc<Broker> {
        Rc::new(Broker {
            settings,
            life: RefCell::default(),
        })
    }

    /// Its settings.
    pub fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    /// Begins a life on a node that is up. [`Broker::progress`] tells how it goes.
    pub fn start(&self, simulation: &Simulation, shard_count: u16) {
        let life = Rc::new(Life::default());
        life.shard_count.set(shard_count);
        *self.life.borrow_mut() = life.clone();
        let (senders, inboxes): (Vec<Sender<Envelope>>, Vec<Inbox<Envelope>>) =
            (0..shard_count).map(|_| mailbox(INBOX_CAPACITY)).unzip();
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let io = simulation.io(NODE, index);
            let address = simulation.address(NODE, PORT);
            let options = self.shard_options(&io, index as u16, address.ip().to_string());
            let (life, senders) = (life.clone(), senders.clone());
            io.clone().spawn(TaskClass::Foreground, async move {
                if let Err(reason) = serve(io, address, options, inbox, senders, &life).await {
                    life.failure.borrow_mut().get_or_insert(reason);
                }
            });
        }
    }

    /// How far the start has come.
    pub fn progress(&self) -> Start {
        let life = self.life.borrow();
        if let Some(reason) = life.failure.borrow().clone() {
            return Start::Failed(reason);
        }
        if life.shards.borrow().len() == usize::from(life.shard_count.get()) {
            Start::Done
        } else {
            Start::UnderWay
        }
    }

    /// Forgets a life whose node was killed or lost its power.
    pub fn ended(&self) {
        let life = self.life.take();
        drop(life);
    }

    /// Answers what is owed, closes the logs. Kill the node afterwards.
    pub async fn stop(&self) -> Result<(), String> {
        let life = self.life.borrow().clone();
        let servers = life.servers.borrow().clone();
        for server in &servers {
            listener::drain(server, DRAIN_PATIENCE).await;
        }
        let shards = life.shards.borrow().clone();
        for shard in &shards {
            let closed = shard.storage.shutdown().await;
            closed.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Why shards are fenced, if any is.
    pub fn fence_reason(&self) -> Option<String> {
        let life = self.life.borrow();
        let shards = life.shards.borrow();
        shards.iter().find_map(|shard| shard.storage.fence_reason())
    }

    /// Whether the shard that serves a partition is fenced.
    pub fn is_fenced(&self, partition: TopicPartition) -> bool {
        let life = self.life.borrow();
        let count = life.shard_count.get();
        if count == 0 {
            return false;
        }
        let owner = shard::partition_table::owner(partition, count);
        let shards = life.shards.borrow();
        let owner = shards.iter().find(|shard| shard.id() == owner);
        owner.is_some_and(|shard| shard.storage.fence_reason().is_some())
    }

    /// What all shards of this life have counted.
    pub fn snapshot(&self) -> Snapshot {
        let life = self.life.borrow();
        let mut all = Snapshot::new();
        for server in life.servers.borrow().iter() {
            all.merge(&server.snapshot());
        }
        all
    }

    /// Checkpoints and segment writes of this life so far.
    pub fn background_work(&self) -> (u64, u64) {
        let life = self.life.borrow();
        let shards = life.shards.borrow();
        let mut counted = Snapshot::new();
        for shard in shards.iter() {
            shard.storage.snapshot_into(&mut counted);
        }
        let segment = labels([("kind", "segment")]);
        (
            counted.total("ringlog_checkpoints_total"),
            counted.number("ringlog_device_writes_total", &segment),
        )
    }

    fn shard_options(&self, io: &SimIo, index: u16, host: String) -> ShardOptions {
        let cluster_id = "simulated";
        let mut incarnation = [0; 16];
        incarnation[..8].copy_from_slice(&io.random().to_be_bytes());
        let registration = BrokerRegistrationRequest {
            cluster_id: cluster_id.to_owned(),
            broker_id: self.settings.config.node_id,
            incarnation_id: Uuid(incarnation),
            endpoints: vec![BrokerEndpoint {
                name: "PLAINTEXT".to_owned(),
                host,
                port: PORT,
                security_protocol: 0,
            }],
            features: vec![BrokerFeature {
                name: "metadata.version".to_owned(),
                min_supported_version: 7,
                max_supported_version: METADATA_VERSION,
            }],
            rack: None,
            log_dirs: vec![Uuid([7; 16])],
            clean_shutdown_epoch: None,
        };
        ShardOptions {
            shard: ShardId(index),
            broker: self.settings.config.node_id,
            cluster_id: cluster_id.into(),
            registration: Arc::new(registration),
            config: self.settings.config.clone(),
            storage: StorageOptions {
                shard: ShardId(index),
                ..self.settings.storage.clone()
            },
        }
    }
}

async fn serve(
    io: SimIo,
    address: std::net::SocketAddr,
    options: ShardOptions,
    inbox: Inbox<Envelope>,
    senders: Vec<Sender<Envelope>>,
    life: &Rc<Life>,
) -> Result<(), String> {
    let number = options.shard;
    let shared = senders.len() > 1;
    let describe = |error: &dyn std::error::Error| format!("shard {number}: {error}");
    let listener = io
        .listen(address, shared)
        .await
        .map_err(|error| describe(&error))?;
    let booted = boot(io, options, inbox, senders)
        .await
        .map_err(|error| describe(&error))?;
    let server = Server::new(booted.shard.clone(), server_options());
    listener::start(&server, listener);
    life.servers.borrow_mut().push(server);
    life.shards.borrow_mut().push(booted.shard);
    Ok(())
}

fn server_options() -> ServerOptions {
    ServerOptions {
        listener: "PLAINTEXT".to_owned(),
        request_bytes_max: 1 << 20,
        request_memory_bytes: 4 << 20,
        answer_memory_bytes: 4 << 20,
        oversize: Oversize::default(),
        outbox: OutboxLimits {
            requests_max: 16,
            bytes_max: 64 << 10,
        },
        connections_max: 100,
        idle_max: Duration::from_secs(600),
        frame_duration_max: Duration::from_secs(30),
        write_duration_max: Duration::from_secs(30),
    }
}
