//! A running broker: one executor per core with a shard on each, wired by `net/broker`, and their ties to this process.
//!
//! The main thread divides the machine, starts the shards, waits until all of them serve, and at the end has them stop.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::listeners::{peer_listener, served_listeners};
use broker::{
    BrokerPlan, CLOSE_PATIENCE, DRAIN_MARGIN, INBOX_CAPACITY, LEAVE_PATIENCE, Links,
    ListenerRefused, PeerPlan, Resources, StartError, StopError,
};
use console::{Console, ConsoleError, Phase, Question, ShardQuestions};
use model::config::{BrokerConfig, Listener};
use shard::Closed;
use storage::RecoveryReport;
use uring::{LockedPlan, Running, UringIo, UringOptions};

use crate::descriptors::{DescriptorPlan, TooFewDescriptors};
use crate::fence::{self, Fence, FenceWatch};
use crate::http;
use crate::limits::{self, connections_max};
use crate::memory::MemoryPlan;
use crate::ports;
use crate::shard_thread::{Report, ShardThread};
use crate::version::VERSION;

/// How long all shards together may take to start: recovery replays at most the journals.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// The same where a start waits for other brokers: for ever, as far as anybody can tell.
const JOIN_PATIENCE: Duration = Duration::from_secs(365 * 24 * 3600);

/// How much later than a shard must have reported its end the main thread stops waiting for the report.
const REPORT_MARGIN: Duration = Duration::from_secs(5);

/// How long the executors may take to end after their shards have.
const EXECUTOR_PATIENCE: Duration = Duration::from_secs(60);

/// Why a broker does not start or end.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The limit of open files is too low.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The executors cannot start.
    #[error(transparent)]
    Start(#[from] uring::StartError),
    /// A listener cannot be served.
    #[error(transparent)]
    Listener(#[from] ListenerRefused),
    /// The address of a listener is taken: it may be any of them.
    #[error(
        "listeners={listeners}: {source}. Is another broker running there? Use --listen HOST:PORT"
    )]
    Taken {
        /// As configured.
        listeners: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address of the HTTP server cannot be used.
    #[error("ringlog.http.listen={address}: {reason}")]
    Http {
        /// As configured.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The HTTP server does not start.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The data directory is not for this broker.
    #[error(transparent)]
    Directory(broker::DirectoryError),
    /// A shard does not start.
    #[error("shard {shard}: {error}")]
    NotStarted {
        /// Which.
        shard: usize,
        /// Why.
        error: StartError,
    },
    /// A shard did not end in order.
    #[error("shard {shard}: {error}")]
    Stop {
        /// Which.
        shard: usize,
        /// Why.
        error: StopError,
    },
    /// A shard told what does not fit.
    #[error("shard {shard} is out of step: {report}")]
    OutOfStep {
        /// Which.
        shard: usize,
        /// What it told.
        report: String,
    },
    /// The executors did not end.
    #[error(transparent)]
    Join(#[from] uring::JoinError),
    /// A shard acknowledges nothing until a restart.
    #[error(
        "the storage of shard {shard} is fenced, only a restart helps (ringlog.fenced.exit.delay.ms=-1 would stay): {reason}"
    )]
    Fenced {
        /// Which.
        shard: usize,
        /// Why.
        reason: String,
    },
    /// A shard did not answer in time.
    #[error("the shards did not {0} in time")]
    TimedOut(&'static str),
}

/// A running broker.
pub struct Node {
    running: Running,
    stops: Vec<flume::Sender<Duration>>,
    reports: flume::Receiver<(usize, Report)>,
    drain_patience: Duration,
    console: Option<Console>,
    fences: FenceWatch,
    /// As configured.
    listeners: String,
    /// Where clients connect: for each listener.
    pub addresses: Vec<SocketAddr>,
    /// Shards, one per core.
    pub shard_count: usize,
    /// The data directory.
    pub data_dir: PathBuf,
    /// What recovery did, if there was something.
    pub recovery: Option<String>,
    /// How long the start took.
    pub started_in: Duration,
}

/// What each shard's thread takes for itself.
type Handover<T> = flume::Receiver<T>;

/// What every shard's thread is started with.
#[derive(Clone)]
struct Threads {
    plan: BrokerPlan,
    links: Vec<Handover<Links<UringIo>>>,
    reports: flume::Sender<(usize, Report)>,
    stops: Vec<flume::Receiver<Duration>>,
    /// What the console asks each shard.
    questions: Vec<flume::Receiver<Question>>,
    fences: flume::Sender<Fence>,
}

impl Node {
    /// Starts a broker and returns when it serves. `other_executors` of this process will run beside it.
    pub fn start(config: BrokerConfig, other_executors: usize) -> Result<Node, NodeError> {
        let start = Instant::now();
        let cpus = cpus(&config)?;
        let config = Arc::new(config);
        let memory = plan_memory(&config, cpus.len());
        // The data directory is not named here: nothing in it is touched before it is known to be ours.
        let options = UringOptions {
            pool_bytes_max: memory.buffer_pool_bytes,
            other_executors,
            ..UringOptions::default()
        };
        let locked = plan_locked(cpus.len(), &options)?;
        let plan = plan(&config, cpus.len(), memory, &locked)?;
        // Before the shards, which touch the data directory: an address that cannot be used is known at once.
        let listeners = comma_separated(&served_listeners(&config)?);
        check_ports(&listeners, &plan)?;
        let http_listener = http::bind(&config)?;
        let (report_to, reports) = flume::unbounded();
        let (stop_to, stops) = cpus.iter().map(|_| flume::bounded(1)).unzip();
        let (ask, questions) = cpus.iter().map(|_| console::shards::questions()).unzip();
        // Before recovery, which may take its time: probes are told that the broker starts.
        let console = start_console(http_listener, ask)?;
        let (fences_to, fences) = fence::watch(config.fenced_exit_delay_ms);
        let threads = Threads {
            links: hand_over(broker::links(plan.shards, INBOX_CAPACITY)),
            plan,
            reports: report_to,
            stops,
            questions,
            fences: fences_to,
        };
        let running = uring::start(&cpus, options, move |index, io| threads.of(index).run(io))?;
        let mut node = Node {
            running,
            stops: stop_to,
            reports,
            drain_patience: drain_patience(&config),
            console,
            fences,
            listeners,
            addresses: Vec::new(),
            shard_count: cpus.len(),
            data_dir: PathBuf::from(&config.data_dir),
            recovery: None,
            started_in: Duration::ZERO,
        };
        let patience = match waits_for_others(&config) {
            true => JOIN_PATIENCE,
            false => START_PATIENCE,
        };
        node.wait_until_serving(start + patience)?;
        if let Some(console) = &node.console {
            console.set_phase(Phase::Serving);
        }
        node.started_in = start.elapsed();
        Ok(node)
    }

    fn wait_until_serving(&mut self, deadline: Instant) -> Result<(), NodeError> {
        for _ in 0..self.shard_count {
            match self.next_report(deadline, "start")? {
                (
                    _,
                    Report::Serving {
                        addresses,
                        recovery,
                    },
                ) => {
                    self.addresses = addresses;
                    let described = recovery.as_ref().and_then(describe_recovery);
                    self.recovery = self.recovery.take().or(described);
                }
                (shard, report) => return Err(self.failure(shard, report)),
            }
        }
        Ok(())
    }

    fn next_report(
        &self,
        deadline: Instant,
        what: &'static str,
    ) -> Result<(usize, Report), NodeError> {
        let report = self.reports.recv_deadline(deadline);
        report.map_err(|_| NodeError::TimedOut(what))
    }

    /// What a report that was not hoped for means.
    fn failure(&self, shard: usize, report: Report) -> NodeError {
        match report {
            Report::NotStarted(StartError::Directory(error)) => NodeError::Directory(error),
            Report::NotStarted(StartError::Listen { source, .. })
                if source.kind() == ErrorKind::AddrInUse =>
            {
                let listeners = self.listeners.clone();
                NodeError::Taken { listeners, source }
            }
            Report::NotStarted(error) => NodeError::NotStarted { shard, error },
            Report::Stopped(Err(error)) => NodeError::Stop { shard, error },
            other => NodeError::OutOfStep {
                shard,
                report: format!("{other:?}"),
            },
        }
    }

    /// Where metrics are served, if they are.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.console.as_ref().map(Console::address)
    }

    /// Whether a shard has ended by itself, which only a broken invariant does.
    pub fn is_broken(&self) -> bool {
        self.running.any_ended()
    }

    /// Why the broker must end by itself: a shard was fenced, and has been for as long as that may last.
    pub fn fenced_for_good(&self) -> Option<NodeError> {
        self.fences.due().map(|fence| NodeError::Fenced {
            shard: fence.shard,
            reason: fence.reason,
        })
    }

    /// Answers what is owed, makes everything durable, closes the logs.
    pub fn stop(self) -> Result<Closed, NodeError> {
        if let Some(console) = &self.console {
            console.set_phase(Phase::Stopping);
        }
        for shard in &self.stops {
            // A shard that is gone cannot take orders; the wait for its report says so.
            if shard.send(self.drain_patience).is_err() {
                tracing::error!("a shard is gone");
            }
        }
        let closed = self.wait_until_stopped()?;
        // It has told how draining went; from now on no shard is there to answer it.
        drop(self.console);
        self.running.join(EXECUTOR_PATIENCE)?;
        Ok(closed)
    }

    /// One report of each shard, also if one of them has failed: the others are to end in order. Tells the first failure.
    fn wait_until_stopped(&self) -> Result<Closed, NodeError> {
        let ends = self.drain_patience + DRAIN_MARGIN + CLOSE_PATIENCE;
        let patience = LEAVE_PATIENCE + ends;
        let deadline = Instant::now() + patience + REPORT_MARGIN;
        let mut closed = Closed::Clean;
        let mut failure = None;
        for _ in 0..self.shard_count {
            match self.next_report(deadline, "close their logs") {
                Ok((_, Report::Stopped(Ok(Closed::Clean)))) => {}
                Ok((_, Report::Stopped(Ok(Closed::DiskFull)))) => closed = Closed::DiskFull,
                Ok((shard, report)) => {
                    failure.get_or_insert(self.failure(shard, report));
                }
                Err(error) => return Err(failure.unwrap_or(error)),
            }
        }
        failure.map_or(Ok(closed), Err)
    }
}

impl Threads {
    /// What one shard's thread is given; once.
    fn of(&self, index: usize) -> ShardThread {
        let links = self.links[index].try_recv();
        ShardThread {
            index,
            plan: self.plan.clone(),
            links: links.expect("each shard is started once"),
            reports: self.reports.clone(),
            stop: self.stops[index].clone(),
            questions: self.questions[index].clone(),
            fences: self.fences.clone(),
        }
    }
}

/// Threads are started by a closure that they share, so what is for one of them alone comes in a queue.
fn hand_over<T>(each: Vec<T>) -> Vec<Handover<T>> {
    let one = |value| {
        let (to, taken) = flume::bounded(1);
        to.send(value).expect("the queue has room for one");
        taken
    };
    each.into_iter().map(one).collect()
}

fn start_console(
    listener: Option<TcpListener>,
    ask: Vec<ShardQuestions>,
) -> Result<Option<Console>, ConsoleError> {
    listener
        .map(|listener| Console::start(listener, ask, VERSION))
        .transpose()
}

/// Whether the listeners' addresses are free.
fn check_ports(listeners: &str, plan: &BrokerPlan) -> Result<(), NodeError> {
    let addresses = plan.listeners.iter().map(|planned| planned.address);
    ports::check_free(addresses).map_err(|(address, source)| match source.kind() {
        ErrorKind::AddrInUse => NodeError::Taken {
            listeners: listeners.to_owned(),
            source,
        },
        _ => NodeError::Listener(ListenerRefused {
            key: "listeners",
            listener: address.to_string(),
            reason: source.to_string(),
        }),
    })
}

/// The plan of a broker on so many cores of this machine.
fn plan(
    config: &Arc<BrokerConfig>,
    cores: usize,
    memory: MemoryPlan,
    locked: &LockedPlan,
) -> Result<BrokerPlan, NodeError> {
    let mut addresses = Vec::new();
    for listener in served_listeners(config)? {
        let address = resolve(listener).map_err(|reason| ListenerRefused {
            key: "listeners",
            listener: listener.to_string(),
            reason,
        })?;
        addresses.push(address);
    }
    let descriptors = plan_descriptors(config, cores)?;
    let resources = Resources {
        tail_bytes: memory.tail_bytes,
        cache_bytes: memory.cache_bytes as u64,
        request_bytes: memory.request_bytes,
        answer_bytes: memory.answer_bytes,
        open_files: descriptors.shard_files,
        connections: descriptors.connections.min(connections_max(locked)),
    };
    let shards = u16::try_from(cores).expect("cores fit 16 bits");
    let host_name = host_name();
    let mut plan = BrokerPlan::new(config.clone(), shards, resources, &addresses, &host_name)?;
    let listener = peer_listener(config);
    let listen = resolve(&listener).map_err(|reason| ListenerRefused {
        key: "ringlog.peer.listen",
        listener: listener.to_string(),
        reason,
    })?;
    // Without it (no /proc) a stop that was not clean proves nothing about what is there.
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    plan.boot_id = boot_id.map(|id| id.trim().to_owned());
    plan.peers = Some(PeerPlan::new(config, listen, &host_name, look_up));
    let log_dir = &mut plan.server.log_dir;
    *log_dir = std::path::absolute(&*log_dir).map_err(|source| {
        NodeError::Directory(broker::DirectoryError::Io {
            path: log_dir.clone(),
            source,
        })
    })?;
    Ok(plan)
}

/// Whether a start may depend on brokers that do not run yet.
fn waits_for_others(config: &BrokerConfig) -> bool {
    !config.join.is_empty()
        || !config.controller_quorum_voters.is_empty()
        || !config.controller_quorum_bootstrap_servers.is_empty()
}

/// As a configuration file has it.
pub(crate) fn comma_separated<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    items.join(",")
}

fn drain_patience(config: &BrokerConfig) -> Duration {
    let millis = u64::try_from(config.drain_timeout_ms);
    Duration::from_millis(millis.expect("the registry of settings bounds it"))
}

/// Looks a name up. On shard 0, which waits for it: brokers are found at a start, or when they have moved.
fn look_up(host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// The first address of a listener's host; of every interface if it names none.
pub(crate) fn resolve(listener: &Listener) -> Result<SocketAddr, String> {
    let host = match listener.host.as_str() {
        "" => "0.0.0.0",
        host => host,
    };
    let mut addresses = (host, listener.port)
        .to_socket_addrs()
        .map_err(|error| error.to_string())?;
    addresses
        .next()
        .ok_or_else(|| "the host has no address".to_owned())
}

/// Divides the memory, says what it cannot hold, and has what is not used given back.
fn plan_memory(config: &BrokerConfig, shard_count: usize) -> MemoryPlan {
    let memory = MemoryPlan::new(config.memory_bytes, shard_count);
    if let Some(warning) = memory.warning(config) {
        tracing::warn!("{warning}");
    }
    let whole_bytes = memory.whole_bytes(shard_count);
    if let Err(error) = crate::allocator::start_giving_back(whole_bytes) {
        tracing::warn!(%error, "memory that is not used is kept");
    }
    memory
}

/// What the limit of open files allows. Says so.
fn plan_descriptors(
    config: &BrokerConfig,
    shards: usize,
) -> Result<DescriptorPlan, TooFewDescriptors> {
    let wanted = usize::try_from(config.max_connections);
    let wanted = wanted.expect("the registry of settings bounds it");
    let limit = crate::memory::descriptor_limit();
    let plan = DescriptorPlan::new(limit, shards, wanted)?;
    match plan.warning(limit, wanted) {
        Some(warning) => tracing::warn!("{warning}"),
        None => tracing::info!("{}", plan.sentence(limit)),
    }
    Ok(plan)
}

/// What the limit of locked memory allows. Says so if it is not all that is of use.
fn plan_locked(shards: usize, options: &UringOptions) -> Result<LockedPlan, uring::StartError> {
    let locked = uring::locked_plan(shards, options)?;
    if let Some(sentence) = limits::locked_sentence(&locked, shards) {
        match locked.has_small_rings() {
            true => tracing::warn!("{sentence}"),
            false => tracing::info!("{sentence}"),
        }
    }
    Ok(locked)
}

/// What recovery did, in a sentence, if the directory was not new.
fn describe_recovery(report: &RecoveryReport) -> Option<String> {
    if report.logs == 0 {
        return None;
    }
    let how = match (report.clean, report.torn_tail) {
        (true, _) => "a clean stop",
        (false, false) => "an unclean stop",
        (false, true) => "an unclean stop in the middle of a write",
    };
    Some(format!(
        "recovered {} partitions after {how}: {} groups, {} batches, {} bytes replayed",
        report.logs, report.groups_replayed, report.batches_replayed, report.bytes_replayed
    ))
}

/// The cores that the broker runs on, a shard each.
pub(crate) fn cpus(config: &BrokerConfig) -> Result<Vec<usize>, NodeError> {
    if !config.cores.is_empty() {
        return Ok(config.cores.clone());
    }
    let mut cpus = uring::allowed_cpus()?;
    // It counts the quota of the process's control group, too: more shards would only wait for each other.
    let quota = std::thread::available_parallelism().map_or(cpus.len(), usize::from);
    if quota < cpus.len() {
        tracing::info!(
            cores = quota,
            of = cpus.len(),
            "a limit of CPU time (container) allows fewer cores than there are: --cores overrides"
        );
        cpus.truncate(quota);
    }
    Ok(cpus)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}
