//! A running broker: one executor per core, wired together and to this process.
//!
//! The main thread starts the shards, waits until all of them listen, and at the end takes them down in two steps:
//! first every shard answers what it owes, then every shard closes its log. A shard that is still answering may need
//! the others.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use console::{Console, ConsoleError, Phase, Question, ShardQuestions};
use metadata::controller::BrokerRegistrationRequest;
use metadata::record::{BrokerEndpoint, BrokerFeature};
use model::ShardId;
use model::config::{BrokerConfig, Listener};
use runtime::mailbox::{Inbox, Sender, mailbox};
use runtime::{Io, Listener as _, Signal, TaskClass};
use server::memory::Oversize;
use server::outbox::OutboxLimits;
use server::{Server, ServerOptions, listener};
use shard::message::Envelope;
use shard::{Closed, ShardOptions, boot};
use storage::{RecoveryReport, StorageOptions};
use uring::{Running, UringIo, UringOptions};

use crate::data_directory::{DataDirectory, DirectoryError, random_identity};
use crate::descriptors::{DescriptorPlan, TooFewDescriptors};
use crate::fence::{self, Fence, FenceWatch};
use crate::http;
use crate::memory::MemoryPlan;

/// Messages a shard's inbox holds. Each is one request or answer of another shard; connections bound their number.
const INBOX_CAPACITY: usize = 4096;

/// How long all shards together may take to start: recovery replays at most the journals.
const START_PATIENCE: Duration = Duration::from_secs(600);

/// How long a port in use is waited for: the kernel takes down the rings, and with them the listener, of a killed
/// process some time after the process is gone.
const PORT_PATIENCE: Duration = Duration::from_secs(3);

/// How long closing the logs may take after the last answer.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);

/// The feature level that clients of Kafka 4.3 expect (`metadata.version`, 30 is 4.3-IV0).
const METADATA_VERSION: i16 = 30;

/// Why a broker does not start or end.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The limit of open files is too low.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The executors cannot start.
    #[error(transparent)]
    Start(#[from] uring::StartError),
    /// A listener cannot be used.
    #[error("listeners={listener}: {reason}")]
    Listener {
        /// As configured.
        listener: String,
        /// Why not.
        reason: String,
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
    /// A shard gave up.
    #[error("shard {shard}: {reason}")]
    Shard {
        /// Which.
        shard: usize,
        /// Why.
        reason: String,
    },
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

/// What the main thread tells a shard.
#[derive(Clone, Copy, Debug)]
enum Order {
    Drain(Duration),
    Close,
}

/// What a shard tells the main thread.
#[derive(Debug)]
enum Report {
    /// Shard 0 has bound the port that the others are to share.
    Bound(SocketAddr),
    /// Every connection will be served.
    Listening {
        recovery: Option<RecoveryReport>,
    },
    Drained,
    Closed(Closed),
    Failed(String),
}

/// A running broker.
pub struct Node {
    running: Running,
    orders: Vec<flume::Sender<Order>>,
    reports: flume::Receiver<(usize, Report)>,
    drain_patience: Duration,
    console: Option<Console>,
    fences: FenceWatch,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Shards, one per core.
    pub shard_count: usize,
    /// The data directory.
    pub data_dir: PathBuf,
    /// What recovery did, if there was something.
    pub recovery: Option<String>,
    /// How long the start took.
    pub started_in: Duration,
    directory: DataDirectory,
}

/// What every shard is started with.
#[derive(Clone)]
struct ShardPlan {
    config: Arc<BrokerConfig>,
    cluster_id: Arc<str>,
    data_dir: PathBuf,
    listener: Listener,
    advertised: Listener,
    memory: MemoryPlan,
    oversize: Oversize,
    incarnation: metadata::Uuid,
    directory_id: metadata::Uuid,
    descriptors: DescriptorPlan,
    /// Receives the port that shard 0 has bound.
    port: flume::Receiver<SocketAddr>,
    reports: flume::Sender<(usize, Report)>,
    senders: Vec<Sender<Envelope>>,
    /// Each holds the inbox of one shard, for that shard to take.
    inboxes: Vec<InboxHandover>,
    orders: Vec<flume::Receiver<Order>>,
    /// What the console asks each shard.
    questions: Vec<flume::Receiver<Question>>,
    fences: flume::Sender<Fence>,
    /// As noted in the data directory.
    shards_known: u16,
}

impl Node {
    /// Starts a broker and returns when it serves.
    pub fn start(config: BrokerConfig) -> Result<Node, NodeError> {
        let start = Instant::now();
        let cpus = cpus(&config)?;
        let data_dir = PathBuf::from(&config.data_dir);
        let directory = DataDirectory::open(&data_dir, config.node_id)?;
        let (listener, address) = listener(&config)?;
        check_free(&listener, address)?;
        // Before the shards: an address that cannot be used is known at once.
        let http_listener = http::bind(&config)?;
        let (report_to, reports) = flume::unbounded();
        let (port_to, port) = flume::bounded(cpus.len());
        let (order_to, orders) = cpus.iter().map(|_| flume::bounded(2)).unzip();
        let (ask, questions) = cpus.iter().map(|_| console::shards::questions()).unzip();
        // Before recovery, which may take its time: probes are told that the broker starts.
        let console = start_console(http_listener, ask)?;
        let (fences_to, fences) = fence::watch(config.fenced_exit_delay_ms);
        let (senders, inboxes) = inboxes(cpus.len());
        let memory = plan_memory(&config, cpus.len());
        let uring_options = UringOptions {
            data_directories: vec![data_dir.clone()],
            pool_bytes_max: memory.buffer_pool_bytes,
            ..UringOptions::default()
        };
        let plan = ShardPlan {
            cluster_id: directory.cluster_id.as_str().into(),
            advertised: advertised(&config, &listener),
            listener,
            memory,
            oversize: Oversize::default(),
            incarnation: identity()?,
            directory_id: directory.directory_id,
            descriptors: plan_descriptors(&config, cpus.len())?,
            data_dir: data_dir.clone(),
            config: Arc::new(config),
            port,
            reports: report_to,
            senders,
            inboxes,
            orders,
            questions,
            fences: fences_to,
            shards_known: directory.shards,
        };
        let drain_ms = u64::try_from(plan.config.drain_timeout_ms).unwrap_or(0);
        let drain_patience = Duration::from_millis(drain_ms);
        let running = uring::start(&cpus, uring_options, move |index, io| {
            run_shard(index, io, address, plan.clone())
        })?;
        let mut node = Node {
            running,
            orders: order_to,
            reports,
            drain_patience,
            console,
            fences,
            address,
            shard_count: cpus.len(),
            data_dir,
            recovery: None,
            started_in: Duration::ZERO,
            directory,
        };
        node.wait_until_listening(&port_to)?;
        if let Some(console) = &node.console {
            console.set_phase(Phase::Serving);
        }
        node.started_in = start.elapsed();
        Ok(node)
    }

    fn wait_until_listening(&mut self, port: &flume::Sender<SocketAddr>) -> Result<(), NodeError> {
        let deadline = Instant::now() + START_PATIENCE;
        let mut listening = 0;
        let mut found = None;
        while listening < self.shard_count {
            match self.next_report(deadline, "start")? {
                (_, Report::Bound(address)) => {
                    self.address = address;
                    for _ in 1..self.shard_count {
                        port.send(address)
                            .map_err(|_| NodeError::TimedOut("start"))?;
                    }
                }
                (_, Report::Listening { recovery }) => {
                    listening += 1;
                    found = found.or(recovery);
                }
                (shard, report) => return Err(unexpected(shard, report)),
            }
        }
        if let Some(report) = found {
            let shards = u16::try_from(self.shard_count).expect("cores fit 16 bits");
            self.directory.note_shards(shards.max(report.shards));
            self.recovery = describe_recovery(&report);
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
        // A shard gives slow clients this long; the margin is for the report itself.
        let deadline = Instant::now() + self.drain_patience + Duration::from_secs(5);
        self.order(Order::Drain(self.drain_patience));
        self.wait_for_all(deadline, "drain")?;
        self.order(Order::Close);
        let deadline = Instant::now() + CLOSE_PATIENCE;
        let reports = self.wait_for_all(deadline, "close their logs")?;
        let is_full = reports
            .iter()
            .any(|report| matches!(report, Report::Closed(Closed::DiskFull)));
        // It has told how draining went; from now on no shard is there to answer it.
        drop(self.console);
        self.running
            .join(CLOSE_PATIENCE)
            .map_err(|error| NodeError::Shard {
                shard: 0,
                reason: error.to_string(),
            })?;
        Ok(match is_full {
            true => Closed::DiskFull,
            false => Closed::Clean,
        })
    }

    fn order(&self, order: Order) {
        for shard in &self.orders {
            // A shard that is gone cannot take orders; the wait for its report says so.
            if shard.send(order).is_err() {
                tracing::error!("a shard is gone");
            }
        }
    }

    /// One report of each shard, also if one of them has failed: the others are to end in order. Tells the first failure.
    fn wait_for_all(
        &self,
        deadline: Instant,
        what: &'static str,
    ) -> Result<Vec<Report>, NodeError> {
        let mut reports = Vec::with_capacity(self.shard_count);
        let mut failure = None;
        for _ in 0..self.shard_count {
            match self.next_report(deadline, what) {
                Ok((_, report @ (Report::Drained | Report::Closed(_)))) => reports.push(report),
                Ok((shard, report)) => {
                    failure.get_or_insert(unexpected(shard, report));
                }
                Err(error) => return Err(failure.unwrap_or(error)),
            }
        }
        failure.map_or(Ok(reports), Err)
    }
}

fn unexpected(shard: usize, report: Report) -> NodeError {
    let reason = match report {
        Report::Failed(reason) => reason,
        other => format!("out of step: {other:?}"),
    };
    NodeError::Shard { shard, reason }
}

fn start_console(
    listener: Option<TcpListener>,
    ask: Vec<ShardQuestions>,
) -> Result<Option<Console>, ConsoleError> {
    let version = env!("CARGO_PKG_VERSION");
    listener
        .map(|listener| Console::start(listener, ask, version))
        .transpose()
}

type InboxHandover = flume::Receiver<Inbox<Envelope>>;

fn inboxes(count: usize) -> (Vec<Sender<Envelope>>, Vec<InboxHandover>) {
    let one = |_| {
        let (sender, inbox) = mailbox(INBOX_CAPACITY);
        let (hand_over, taken) = flume::bounded(1);
        hand_over.send(inbox).expect("the queue has room for one");
        (sender, taken)
    };
    (0..count).map(one).unzip()
}

fn identity() -> Result<metadata::Uuid, NodeError> {
    let drawn = random_identity().map_err(|source| DirectoryError::Io {
        path: "/dev/urandom".into(),
        source,
    })?;
    Ok(metadata::Uuid(drawn.0))
}

/// The listener to serve and its address.
fn listener(config: &BrokerConfig) -> Result<(Listener, SocketAddr), NodeError> {
    let listener = config.listeners.first().cloned();
    let listener = listener.ok_or_else(|| NodeError::Listener {
        listener: String::new(),
        reason: "no listener is configured".into(),
    })?;
    let refuse = |reason: String| NodeError::Listener {
        listener: listener.to_string(),
        reason,
    };
    if config.listeners.len() > 1 {
        return Err(refuse("this release serves one listener".into()));
    }
    if listener.name != "PLAINTEXT" {
        return Err(refuse(
            "this release serves PLAINTEXT only; put TLS in front of it".into(),
        ));
    }
    let address = resolve(&listener).map_err(refuse)?;
    Ok((listener.clone(), address))
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

/// Refuses an address that another process listens on. The shards share theirs (SO_REUSEPORT), so the kernel would let
/// a second broker in beside a first one.
fn check_free(listener: &Listener, address: SocketAddr) -> Result<(), NodeError> {
    let deadline = Instant::now() + PORT_PATIENCE;
    loop {
        match TcpListener::bind(address) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => {
                return Err(NodeError::Listener {
                    listener: listener.to_string(),
                    reason: format!(
                        "{error}. Is another broker running there? Use --listen HOST:PORT"
                    ),
                });
            }
        }
    }
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

/// What the limit of open files allows. Says so if that is little.
fn plan_descriptors(
    config: &BrokerConfig,
    shards: usize,
) -> Result<DescriptorPlan, TooFewDescriptors> {
    let wanted = usize::try_from(config.max_connections).unwrap_or(0);
    let limit = crate::memory::descriptor_limit();
    let plan = DescriptorPlan::new(limit, shards, wanted)?;
    if let Some(warning) = plan.warning(limit, wanted) {
        tracing::warn!("{warning}");
    }
    Ok(plan)
}

async fn run_shard(index: usize, io: UringIo, address: SocketAddr, plan: ShardPlan) {
    let reports = plan.reports.clone();
    let result = serve_shard(index, io, address, plan).await;
    let report = match result {
        Ok(closed) => Report::Closed(closed),
        Err(reason) => Report::Failed(reason),
    };
    // The main thread may have given up waiting; then nobody is left to tell.
    if reports.send((index, report)).is_err() {
        tracing::warn!(
            shard = index,
            "ended after the main thread stopped listening"
        );
    }
}

async fn serve_shard(
    index: usize,
    io: UringIo,
    address: SocketAddr,
    plan: ShardPlan,
) -> Result<Closed, String> {
    let inbox = plan.inboxes[index].try_recv();
    let inbox = inbox.map_err(|_| "this shard's inbox was taken before")?;
    let orders = Orders::start(&io, plan.orders[index].clone());
    let tell = |report| {
        plan.reports
            .send((index, report))
            .map_err(|e| e.to_string())
    };

    // The port is known before anything is registered: with port 0, clients must be told the real one.
    let listener = if index == 0 {
        let listener = listen(&io, address, &plan).await?;
        let bound = listener.local_addr().map_err(|error| error.to_string())?;
        tell(Report::Bound(bound))?;
        listener
    } else {
        let bound = receive(&io, plan.port.clone()).await;
        listen(&io, bound, &plan).await?
    };
    let bound = listener.local_addr().map_err(|error| error.to_string())?;
    let options = shard_options(index, bound, &plan);
    let booted = boot(io.clone(), options, inbox, plan.senders.clone())
        .await
        .map_err(|error| error.to_string())?;
    let shard = booted.shard;
    let server = Server::new(shard.clone(), server_options(&plan));
    http::answer(&io, &shard, &server, plan.questions[index].clone());
    fence::report(&io, index, &shard, plan.fences.clone());
    listener::start(&server, listener);
    tell(Report::Listening {
        recovery: booted.recovery,
    })?;

    if let Order::Drain(patience) = orders.next().await {
        listener::drain(&server, patience).await;
    }
    tell(Report::Drained)?;
    orders.next().await;
    shard.close().await.map_err(|error| error.to_string())
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

async fn listen(
    io: &UringIo,
    address: SocketAddr,
    plan: &ShardPlan,
) -> Result<<UringIo as Io>::Listener, String> {
    io.listen(address, plan.senders.len() > 1)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn shard_options(index: usize, bound: SocketAddr, plan: &ShardPlan) -> ShardOptions {
    let shard = ShardId(u16::try_from(index).expect("cores fit 16 bits"));
    let advertised = &plan.advertised;
    let is_any =
        |host: &str| host.is_empty() || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    let host = if is_any(&advertised.host) {
        host_name()
    } else {
        advertised.host.clone()
    };
    let port = if advertised.port == 0 {
        bound.port()
    } else {
        advertised.port
    };
    let registration = BrokerRegistrationRequest {
        cluster_id: plan.cluster_id.to_string(),
        broker_id: plan.config.node_id,
        incarnation_id: plan.incarnation,
        endpoints: vec![BrokerEndpoint {
            name: plan.listener.name.clone(),
            host,
            port,
            security_protocol: 0,
        }],
        features: vec![BrokerFeature {
            name: "metadata.version".into(),
            min_supported_version: 7,
            max_supported_version: METADATA_VERSION,
        }],
        rack: plan.config.rack.clone(),
        log_dirs: vec![plan.directory_id],
        clean_shutdown_epoch: None,
    };
    ShardOptions {
        shard,
        broker: plan.config.node_id,
        cluster_id: plan.cluster_id.clone(),
        registration: Arc::new(registration),
        config: plan.config.clone(),
        storage: storage_options(shard, plan),
    }
}

/// The cores that the broker runs on, a shard each.
fn cpus(config: &BrokerConfig) -> Result<Vec<usize>, NodeError> {
    if config.cores.is_empty() {
        Ok(uring::allowed_cpus()?)
    } else {
        Ok(config.cores.clone())
    }
}

/// What clients are told.
fn advertised(config: &BrokerConfig, listener: &Listener) -> Listener {
    let first = config.advertised_listeners.first();
    first.unwrap_or(listener).clone()
}

fn storage_options(shard: ShardId, plan: &ShardPlan) -> StorageOptions {
    let interval = u64::try_from(plan.config.log_retention_check_interval_ms).unwrap_or(u64::MAX);
    let defaults = StorageOptions::default();
    StorageOptions {
        directory: plan.data_dir.clone(),
        shard,
        journal_bytes_max: plan.config.journal_bytes_max,
        spares_bytes_max: plan.config.spares_bytes_max,
        shards_known: plan.shards_known,
        accept_lost_data: plan.config.accept_lost_data,
        tail_bytes_max: plan.memory.tail_bytes,
        cache_bytes_max: plan.memory.cache_bytes as u64,
        open_files_max: plan.descriptors.shard_files,
        retention_check_interval: Duration::from_millis(interval),
        ..defaults
    }
}

fn server_options(plan: &ShardPlan) -> ServerOptions {
    let config = &plan.config;
    let ms = |value: i64| Duration::from_millis(u64::try_from(value).unwrap_or(u64::MAX));
    ServerOptions {
        listener: plan.listener.name.clone(),
        request_bytes_max: usize::try_from(config.socket_request_max_bytes).unwrap_or(0),
        request_memory_bytes: plan.memory.request_bytes,
        answer_memory_bytes: plan.memory.answer_bytes,
        oversize: plan.oversize.clone(),
        outbox: OutboxLimits {
            requests_max: config.connection_requests_max,
            bytes_max: usize::try_from(config.connection_bytes_max).unwrap_or(usize::MAX),
        },
        connections_max: plan.descriptors.connections / plan.senders.len(),
        idle_max: ms(config.connections_max_idle_ms),
        frame_duration_max: ms(i64::from(config.request_read_timeout_ms)),
        write_duration_max: ms(i64::from(config.request_read_timeout_ms)),
    }
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

/// Orders of the main thread, brought in by a detached task of the shard: futures that another thread wakes are
/// awaited by nothing else.
struct Orders {
    queue: std::rc::Rc<std::cell::RefCell<std::collections::VecDeque<Order>>>,
    signal: std::rc::Rc<Signal>,
}

impl Orders {
    fn start(io: &UringIo, orders: flume::Receiver<Order>) -> Orders {
        let queue = std::rc::Rc::new(std::cell::RefCell::new(std::collections::VecDeque::new()));
        let signal = Signal::new();
        let (to, raise) = (queue.clone(), signal.clone());
        io.spawn(TaskClass::Foreground, async move {
            while let Ok(order) = orders.recv_async().await {
                to.borrow_mut().push_back(order);
                raise.raise();
            }
        });
        Orders { queue, signal }
    }

    async fn next(&self) -> Order {
        loop {
            if let Some(order) = self.queue.borrow_mut().pop_front() {
                return order;
            }
            self.signal.wait().await;
        }
    }
}

/// A value from the main thread, awaited by a detached task as above.
async fn receive(io: &UringIo, from: flume::Receiver<SocketAddr>) -> SocketAddr {
    let slot = runtime::Oneshot::new();
    let to = slot.clone();
    io.spawn(TaskClass::Foreground, async move {
        if let Ok(address) = from.recv_async().await {
            to.set(address);
        }
    });
    slot.take().await
}
