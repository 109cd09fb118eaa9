//! A broker of one to three shards on a node of the simulation: its lives, their ends.
//!
//! `net/broker` wires it as in the real program; here is what the real program has a process for. Several of them, each
//! on its node, are as many machines. Owned by the scenario; clients only ask it whether a shard was fenced, which is
//! what no client may see an acknowledgement after.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerPlan, Resources, Running};
use model::{BrokerId, TopicPartition};
use runtime::sim::{SimIo, Simulation, delayed};
use runtime::{Io, Signal, Snapshot, TaskClass, labels};
use server::Server;
use shard::{Closed, Shard};

use super::settings::BrokerSettings;

/// The port it listens on.
pub const PORT: u16 = 9092;
/// Messages that an inbox holds.
const INBOX_CAPACITY: usize = 256;
/// How long a clean stop waits for clients.
const DRAIN_PATIENCE: Duration = Duration::from_millis(50);
/// Memory for requests and for answers, of a shard.
const MEMORY_BYTES: usize = 4 << 20;
/// Connections of a shard.
const CONNECTIONS_MAX: usize = 100;

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
    lives: Cell<u64>,
    life: RefCell<Rc<Life>>,
}

impl Broker {
    /// A broker on this node that does not run yet.
    pub fn new(node: usize, settings: BrokerSettings) -> Rc<Broker> {
        Rc::new(Broker {
            node,
            settings,
            lives: Cell::new(0),
            life: RefCell::default(),
        })
    }

    /// The node that it runs on.
    pub fn node(&self) -> usize {
        self.node
    }

    /// Its `node.id`.
    pub fn id(&self) -> BrokerId {
        self.settings.config.node_id
    }

    /// Where it listens.
    pub fn address(&self, simulation: &Simulation) -> SocketAddr {
        simulation.address(self.node, PORT)
    }

    /// Lives that have begun.
    pub fn lives(&self) -> u64 {
        self.lives.get()
    }

    /// The shards of this life that serve by now.
    pub fn shards(&self) -> Vec<Rc<Shard<SimIo>>> {
        self.life.borrow().shards.borrow().clone()
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
        self.lives.set(self.lives.get() + 1);
        let plan = self.plan(self.address(simulation), shard_count);
        let links = broker::links_through(shard_count, INBOX_CAPACITY, |_, to, inbox| {
            let Some(longest) = self.settings.mailbox_delay else {
                return inbox;
            };
            let io = simulation.io(self.node, usize::from(to.0));
            delayed(&io, inbox, INBOX_CAPACITY, longest)
        });
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
