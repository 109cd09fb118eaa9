//! `ringlog broker`: runs a broker until SIGTERM, SIGHUP or Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use model::config::BrokerConfig;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use shard::Closed;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::CommandError;
use crate::configuration::{Flag, Layers};
use crate::node::{Node, NodeError, comma_separated};
use crate::notify;
use crate::stdio;

/// How often the main thread looks whether a shard has died.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Keys that name the data directory.
const DATA_DIR_KEYS: [&str; 3] = ["ringlog.data.dir", "log.dirs", "log.dir"];

/// Arguments of `ringlog broker`. Each is short for a configuration key.
#[derive(Debug, Default, clap::Args)]
pub struct BrokerArgs {
    /// Where the data lies [ringlog.data.dir; default ./ringlog-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Number of this broker in its cluster [node.id; default 1]
    #[arg(long, value_name = "N")]
    pub node_id: Option<String>,
    /// Joins the cluster of the broker that clients reach there [ringlog.join]
    #[arg(long, value_name = "HOST:PORT")]
    pub join: Option<String>,
    /// Address to listen on, port 0 for any free one [listeners; default 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Address of the metrics server, port 0 for any free one, '' for none [ringlog.http.listen; default 127.0.0.1:9191]
    #[arg(long, value_name = "HOST:PORT")]
    pub http_listen: Option<String>,
    /// CPUs to run on, one shard each: 0 or 0,1 or 0-3 [ringlog.cores; default all]
    #[arg(long, value_name = "LIST")]
    pub cores: Option<String>,
    /// Memory for everything the broker keeps, such as 2G [ringlog.memory.bytes; default 1/32 of the machine]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Start although metadata or a whole shard is gone; unknown logs move to lost+found [ringlog.accept.lost.data]
    #[arg(long)]
    pub accept_lost_data: bool,
    /// A properties file; Kafka's server.properties works. Here and everywhere, bytes may be written as 64KiB, times as 1h
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets any configuration key; wins over the file and RINGLOG_... variables
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Ends at once when this process, which has started it, does, however that ends
    #[arg(long, hide = true, value_name = "PID")]
    pub parent: Option<i32>,
}

impl BrokerArgs {
    /// The configuration from all layers. Warns of what has no effect.
    pub fn to_config(&self) -> Result<BrokerConfig, CommandError> {
        checked(&self.layers()?)
    }

    /// The same with a data directory that `make` gives if none is named.
    pub fn to_config_in(
        &self,
        make: impl FnOnce() -> Result<PathBuf, CommandError>,
    ) -> Result<BrokerConfig, CommandError> {
        let mut layers = self.layers()?;
        // What makes no sense is said before anything is made.
        layers.to_config()?;
        if !layers.sets_any(&DATA_DIR_KEYS) {
            let path = make()?;
            layers.add(Flag {
                key: DATA_DIR_KEYS[0].to_owned(),
                value: path.display().to_string(),
                written: "the temporary directory".to_owned(),
            });
        }
        checked(&layers)
    }

    fn layers(&self) -> Result<Layers, CommandError> {
        Layers::read(self.config.as_deref(), self.flags()?)
    }
    /// The settings of the command line; short forms win over `--override`.
    fn flags(&self) -> Result<Vec<Flag>, CommandError> {
        let mut flags = Vec::new();
        for text in &self.overrides {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                CommandError::Usage(format!("--override {text}: write it as key=value"))
            })?;
            flags.push(Flag {
                key: key.trim().to_owned(),
                value: value.to_owned(),
                // Without the value, which may be a secret.
                written: format!("--override {}", key.trim()),
            });
        }
        let mut set = |name: &str, key: &str, given: Option<&String>, value: Option<String>| {
            if let (Some(given), Some(value)) = (given, value) {
                flags.push(Flag {
                    key: key.to_owned(),
                    value,
                    written: format!("{name} {given}"),
                });
            }
        };
        let directory = self.data_dir.as_ref();
        set(
            "--data-dir",
            "ringlog.data.dir",
            directory,
            directory.cloned(),
        );
        let node = self.node_id.as_ref();
        set("--node-id", "node.id", node, node.cloned());
        let join = self.join.as_ref();
        set("--join", "ringlog.join", join, join.cloned());
        let listen = self.listen.as_ref();
        let plaintext = listen.map(|address| format!("PLAINTEXT://{address}"));
        set("--listen", "listeners", listen, plaintext);
        let http = self.http_listen.as_ref();
        set("--http-listen", "ringlog.http.listen", http, http.cloned());
        let cores = self.cores.as_ref();
        let list = cores.map(|cores| match cores.as_str() {
            "all" => String::new(),
            list => list.to_owned(),
        });
        set("--cores", "ringlog.cores", cores, list);
        let memory = self.memory.as_ref();
        set("--memory", "ringlog.memory.bytes", memory, memory.cloned());
        if self.accept_lost_data {
            flags.push(Flag {
                key: "ringlog.accept.lost.data".to_owned(),
                value: "true".to_owned(),
                written: "--accept-lost-data".to_owned(),
            });
        }
        Ok(flags)
    }
}

/// The configuration of these layers, and warnings of what has no effect in them.
fn checked(layers: &Layers) -> Result<BrokerConfig, CommandError> {
    let config = layers.to_config()?;
    for sentence in layers.without_effect() {
        tracing::warn!("{sentence}");
    }
    let unknown = layers.unknown_variables();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(ToString::to_string).collect();
        tracing::warn!(
            "variables that name no configuration have no effect: {}",
            names.join(", ")
        );
    }
    Ok(config)
}

/// Has the system kill this process when the one that has started it is gone: a demo leaves no brokers behind, not even
/// one that is killed itself.
fn end_with(parent: i32) -> Result<(), CommandError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| CommandError::io("a signal at the end of the parent", error.into()))?;
    // From before the signal was asked for, nobody tells that it has ended.
    match getppid().map(Pid::as_raw_pid) {
        Some(found) if found == parent => Ok(()),
        _ => Err(CommandError::Failed(format!(
            "process {parent}, which has started this one, is gone"
        ))),
    }
}

/// Runs a broker.
pub fn run(args: BrokerArgs) -> Result<(), CommandError> {
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    let config = args.to_config()?;
    // Before the threads of the shards: they inherit the mask.
    let signals = signals()?;
    let node = Node::start(config, 0)?;
    announce(&node);
    notify::tell(notify::READY);
    serve(node, signals)
}

/// Serves until the end, and ends in order.
pub fn serve(node: Node, signals: Signals) -> Result<(), CommandError> {
    let fenced = wait_for_signal(&node, signals)?;
    notify::tell(notify::STOPPING);
    tracing::info!("draining");
    let stopped = node.stop();
    // Whatever else went wrong afterwards, this is why.
    if let Some(fenced) = fenced {
        return Err(fenced.into());
    }
    match stopped? {
        Closed::Clean => tracing::info!("stopped"),
        Closed::DiskFull => tracing::warn!(
            "stopped without closing the logs: the device is full. Nothing acknowledged is lost; the next start \
             replays the journals"
        ),
    }
    Ok(())
}

/// Says that connections are accepted, in one line that scripts wait for.
pub fn announce(node: &Node) {
    if let Some(recovery) = &node.recovery {
        tracing::info!("{recovery}");
    }
    stdio::announce(format_args!(
        "ringlog ready listen={} shards={} data={} start_ms={} http={}",
        comma_separated(&node.addresses),
        node.shard_count,
        node.data_dir.display(),
        node.started_in.as_millis(),
        node.http_address()
            .map_or("off".to_owned(), |address| address.to_string())
    ));
}

/// SIGTERM, SIGINT and, unless the process was told to ignore it (nohup), SIGHUP, from now on: each is a stop in order. A
/// terminal that is closed sends SIGHUP.
pub fn signals() -> Result<Signals, CommandError> {
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    let wanted = [SIGTERM, SIGINT].into_iter().chain(hangup);
    Signals::new(wanted).map_err(|error| CommandError::io("signals", error))
}

/// Whether this process ignores a signal.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Waits for the end: a signal, a shard that died, or a fence that has lasted for as long as it may. Returns the fence
/// if that is why.
fn wait_for_signal(node: &Node, mut signals: Signals) -> Result<Option<NodeError>, CommandError> {
    loop {
        if signals.pending().next().is_some() {
            return Ok(None);
        }
        if let Some(fenced) = node.fenced_for_good() {
            return Ok(Some(fenced));
        }
        if node.is_broken() {
            return Err(CommandError::from(NodeError::TimedOut("stay alive")));
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}
