//! A broker of one to three shards on a node of the simulation: its settings, its lives, their ends.
//!
//! `net/broker` wires it as in the real program; here is what the real program has a process for. Several of them, each
//! on its node, are as many machines. Owned by the scenario; clients only ask it whether a shard was fenced, which is
//! what no client may see an acknowledgement after.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerPlan, Resources, Running};
use model::TopicPartition;
use model::config::{BrokerConfig, broker::Settings};
use runtime::sim::{Generator, SimIo, Simulation};
use runtime::{Io, Signal, Snapshot, TaskClass, labels};
use server::Server;
use shard::{Closed, Shard};
use storage::{FlushMethod, StorageOptions};

/// The node that the only broker of most scenarios runs on.
pub const NODE: usize = 0;
/// The port it listens on.
pub const PORT: u16 = 9092;
/// Most shards of a broker here.
pub const SHARDS_MAX: usize = 3;
/// Messages that an inbox holds.
const INBOX_CAPACITY: usize = 256;
/// How long a clean stop waits for clients.
const DRAIN_PATIENCE: Duration = Duration::from_millis(50);
/// Memory for requests and for answers, of a shard.
const MEMORY_BYTES: usize = 4 << 20;
/// Connections of a shard.
const CONNECTIONS_MAX: usize = 100;

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
            ("listeners", "PLAINTEXT://:9092"),
            ("socket.request.max.bytes", "1048576"),
            ("ringlog.connection.requests.max", "16"),
            ("ringlog.connection.bytes.max", "65536"),
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

    /// The same with another `node.id`.
    #[must_use]
    pub fn with_node_id(self, node_id: i32) -> BrokerSettings {
        self.with(&[("node.id", &node_id.to_string())])
    }

    /// The same with other settings.
    #[must_use]
    pub fn with(self, settings: &[(&str, &str)]) -> BrokerSettings {
        let overrides = settings.iter();
        let overrides = overrides.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let known = self.config.static_settings();
        let config = BrokerConfig::from_layers(known, &Settings::new(), &overrides.collect());
        BrokerSettings {
            config: Arc::new(config.expect("the simulation's own settings are in range")),
            ..self
        }
    }
}

/// One life of the broker, from start to stop.
#[derive(Default)]
struct Life {
    shard_count: Cell<u16>,
    shards: RefCell<Vec<Rc<Shard<SimIo>>>>,
    servers: RefCell<Vec<Rc<Server<SimIo>>>>,
    /// Shards that serve and were not told to stop.
    running: RefCell<Vec<Running<SimIo>>>,
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
    node: usize,
    settings: BrokerSettings,
    life: RefCell<Rc<Life>>,
}

impl Broker {
    /// A broker that does not run yet, on the usual node.
    pub fn new(settings: BrokerSettings) -> Rc<Broker> {
        Broker::on(NODE, settings)
    }

    /// The same on another node.
    pub fn on(node: usize, settings: BrokerSettings) -> Rc<Broker> {
        Rc::new(Broker {
            node,
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
        let plan = self.plan(simulation.address(self.node, PORT), shard_count);
        let links = broker::links(shard_count, INBOX_CAPACITY);
        for (index, links) in links.into_iter().enumerate() {
            let io = simulation.io(self.node, index);
            let (life, plan) = (life.clone(), plan.clone());
            io.clone().spawn(TaskClass::Foreground, async move {
                match broker::start(io, plan, links).await {
                    Ok(running) => life.serves(running),
                    Err(error) => life.failed(format!("shard {index}: {error}")),
                }
            });
        }
    }

    fn plan(&self, address: SocketAddr, shard_count: u16) -> BrokerPlan {
        let storage = &self.settings.storage;
        let resources = Resources {
            tail_bytes: storage.tail_bytes_max,
            cache_bytes: storage.cache_bytes_max,
            request_bytes: MEMORY_BYTES,
            answer_bytes: MEMORY_BYTES,
            open_files: storage.open_files_max,
            connections: CONNECTIONS_MAX,
        };
        let config = self.settings.config.clone();
        let host = address.ip().to_string();
        let plan = BrokerPlan::new(config, shard_count, resources, &[address], &host);
        let plan = plan.expect("the simulation's own listener is served");
        BrokerPlan {
            storage: storage.clone(),
            ..plan
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
    pub async fn stop(&self) -> Result<Closed, String> {
        let life = self.life.borrow().clone();
        let running = life.running.take();
        let count = running.len();
        let ended = Rc::new(RefCell::new(Vec::new()));
        let signal = Signal::new();
        for shard in running {
            let io = shard.shard.io.clone();
            let (ended, signal) = (ended.clone(), signal.clone());
            io.spawn(TaskClass::Foreground, async move {
                let outcome = shard.stop(DRAIN_PATIENCE).await;
                ended.borrow_mut().push(outcome);
                signal.raise();
            });
        }
        while ended.borrow().len() < count {
            signal.wait().await;
        }
        let mut closed = Closed::Clean;
        for outcome in ended.take() {
            match outcome.map_err(|error| error.to_string())? {
                Closed::Clean => {}
                Closed::DiskFull => closed = Closed::DiskFull,
            }
        }
        Ok(closed)
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

    /// Snapshots of the metadata log of this life so far.
    pub fn metadata_snapshots(&self) -> u64 {
        let life = self.life.borrow();
        let mut counted = Snapshot::new();
        for shard in life.shards.borrow().iter() {
            shard.snapshot_into(&mut counted);
        }
        counted.total("ringlog_metadata_snapshots_total")
    }

    /// The identity of the cluster that it found or made; `None` before it serves.
    pub fn cluster_id(&self) -> Option<Arc<str>> {
        let life = self.life.borrow();
        let shards = life.shards.borrow();
        shards.first().map(|shard| shard.options.cluster_id.clone())
    }
}

impl Life {
    fn serves(&self, running: Running<SimIo>) {
        self.servers.borrow_mut().push(running.server.clone());
        self.shards.borrow_mut().push(running.shard.clone());
        self.running.borrow_mut().push(running);
    }

    fn failed(&self, reason: String) {
        self.failure.borrow_mut().get_or_insert(reason);
    }
}
