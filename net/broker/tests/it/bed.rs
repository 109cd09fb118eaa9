//! A broker on node 0 of a simulation, as the tests start it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use broker::{BrokerPlan, Resources, Running, StartError, StopError, links};
use model::ShardId;
use model::config::BrokerConfig;
use runtime::sim::{SimIo, Simulation};
use runtime::{Io, TaskClass};
use shard::Closed;
use storage::{FlushMethod, StorageOptions};

pub(crate) const DATA: &str = "/data";
pub(crate) const PORT: u16 = 9092;
/// Virtual time within which a start must end, waits for locks and ports included.
pub(crate) const START_TIME_MAX: Duration = Duration::from_secs(30);
const INBOX_CAPACITY: usize = 64;

/// How long a broker that ends waits for its clients.
pub(crate) const STOP_PATIENCE: Duration = Duration::from_millis(50);

pub(crate) type Outcome = Result<Running<SimIo>, StartError>;

/// A start of all shards, and how it went so far: by shard.
pub(crate) struct Started(Rc<RefCell<BTreeMap<usize, Outcome>>>);

pub(crate) fn plan(shards: u16, address: SocketAddr) -> BrokerPlan {
    let listeners = [("listeners", "PLAINTEXT://:0")];
    plan_with(shards, &[address], &listeners)
}

/// With these settings, and an address for each of its listeners.
pub(crate) fn plan_with(
    shards: u16,
    addresses: &[SocketAddr],
    settings: &[(&str, &str)],
) -> BrokerPlan {
    let storage = StorageOptions {
        directory: PathBuf::from(DATA),
        journal_first_file_bytes: 64 << 10,
        journal_file_bytes: 96 << 10,
        journal_bytes_max: 352 << 10,
        group_bytes_max: 32 << 10,
        tail_bytes_max: 256 << 10,
        cache_bytes_max: 64 << 10,
        open_files_max: 8,
        flush_method: FlushMethod::DurableWrite,
        spare_bytes_min: 4 << 10,
        ..StorageOptions::default()
    };
    let resources = Resources {
        tail_bytes: storage.tail_bytes_max,
        cache_bytes: storage.cache_bytes_max,
        request_bytes: 4 << 20,
        answer_bytes: 4 << 20,
        open_files: storage.open_files_max,
        connections: 100,
    };
    let settings = [("node.id", "1")].iter().chain(settings);
    let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let none = BTreeMap::new();
    let config = BrokerConfig::from_layers(&none, &none, &settings.collect()).unwrap();
    let host = addresses[0].ip().to_string();
    let plan = BrokerPlan::new(Arc::new(config), shards, resources, addresses, &host);
    BrokerPlan {
        storage,
        ..plan.unwrap()
    }
}

/// Starts every shard of the usual plan.
pub(crate) fn start(simulation: &Simulation, shards: u16) -> Started {
    start_as(simulation, plan(shards, simulation.address(0, PORT)))
}

pub(crate) fn start_as(simulation: &Simulation, plan: BrokerPlan) -> Started {
    start_on(simulation, 0, plan)
}

/// The same on a node.
pub(crate) fn start_on(simulation: &Simulation, node: usize, plan: BrokerPlan) -> Started {
    let outcomes = Rc::new(RefCell::new(BTreeMap::new()));
    for (index, links) in links(plan.shards, INBOX_CAPACITY).into_iter().enumerate() {
        let (io, plan, outcomes) = (simulation.io(node, index), plan.clone(), outcomes.clone());
        io.clone().spawn(TaskClass::Foreground, async move {
            let outcome = broker::start(io, plan, links).await;
            outcomes.borrow_mut().insert(index, outcome);
        });
    }
    Started(outcomes)
}

impl Started {
    /// Whether every shard serves.
    pub(crate) fn serves(&self, shards: u16) -> bool {
        let outcomes = self.0.borrow();
        outcomes.len() == usize::from(shards) && outcomes.values().all(Result::is_ok)
    }

    fn failed(&self) -> bool {
        self.0.borrow().values().any(Result::is_err)
    }

    /// Lets time pass until it is decided.
    pub(crate) fn wait(&self, simulation: &Simulation, shards: u16) {
        let deadline = simulation.now().plus(START_TIME_MAX);
        while !(self.serves(shards) || self.failed()) && simulation.now() < deadline {
            simulation.run_for(Duration::from_millis(1));
        }
    }

    /// The shards, which must serve.
    pub(crate) fn running(self, simulation: &Simulation, shards: u16) -> Vec<Running<SimIo>> {
        self.wait(simulation, shards);
        let outcomes = self.0.take();
        let started = outcomes.len();
        let running: Vec<_> = outcomes
            .into_values()
            .map(|outcome| outcome.unwrap_or_else(|error| panic!("it does not start: {error}")))
            .collect();
        assert_eq!(started, usize::from(shards), "the start does not end");
        running
    }

    /// Why it does not start.
    pub(crate) fn refused(self, simulation: &Simulation, shards: u16) -> StartError {
        self.wait(simulation, shards);
        let failures = self.0.take().into_values().filter_map(Result::err);
        failures.into_iter().next().expect("it was to be refused")
    }
}

/// Paths and contents of all files.
pub(crate) fn contents(simulation: &Simulation) -> BTreeMap<PathBuf, bytes::Bytes> {
    let files = simulation.files(0).into_iter();
    files
        .map(|path| {
            let bytes = simulation.file_bytes(0, &path);
            (path, bytes.expect("it was listed"))
        })
        .collect()
}

/// Writes a small file as somebody else would have.
pub(crate) fn write(simulation: &Simulation, path: &str, text: &str) {
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let path = Path::new(path);
        io.create_dir_all(path.parent().unwrap()).await.unwrap();
        runtime::small_file::replace(&io, path, text.as_bytes())
            .await
            .unwrap();
    });
}

/// How each shard of a broker has ended.
pub(crate) type Ends = Rc<RefCell<BTreeMap<ShardId, Result<Closed, StopError>>>>;

/// Begins the end of a shard.
pub(crate) fn stop(shard: Running<SimIo>, ends: &Ends) {
    let (io, ends) = (shard.shard.io.clone(), ends.clone());
    let number = shard.shard.id();
    io.spawn(TaskClass::Foreground, async move {
        let outcome = shard.stop(STOP_PATIENCE).await;
        ends.borrow_mut().insert(number, outcome);
    });
}
