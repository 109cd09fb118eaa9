//! `ringlog broker`: runs a broker until SIGTERM or Ctrl-C.

use std::path::PathBuf;
use std::time::Duration;

use model::config::{BrokerConfig, parse_environment, parse_properties};
use shard::Closed;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::CommandError;
use crate::memory::parse_size;
use crate::node::{Node, NodeError};

/// How often the main thread looks whether a shard has died.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// Arguments of `ringlog broker`. Each is short for a configuration key.
#[derive(Debug, Default, clap::Args)]
pub struct BrokerArgs {
    /// Where the data lies [ringlog.data.dir; default ./ringlog-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
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
    /// A properties file; Kafka's server.properties works
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets any configuration key; wins over the file and RINGLOG_... variables
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

impl BrokerArgs {
    /// The configuration from all layers.
    pub fn to_config(&self) -> Result<BrokerConfig, CommandError> {
        let usage = |error: &dyn std::fmt::Display| CommandError::Usage(error.to_string());
        let file = match &self.config {
            None => Default::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| CommandError::io(path.display().to_string(), error))?;
                parse_properties(&text).map_err(|error| usage(&error))?
            }
        };
        let variables: Vec<_> = std::env::vars().collect();
        let variables = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| *name != "RINGLOG_LOG");
        let environment = parse_environment(variables).map_err(|error| usage(&error))?;
        let mut overrides = std::collections::BTreeMap::new();
        let mut set = |key: &str, value: String| overrides.insert(key.to_owned(), value);
        for text in &self.overrides {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                CommandError::Usage(format!("--override {text}: write it as key=value"))
            })?;
            set(key.trim(), value.to_owned());
        }
        if let Some(directory) = &self.data_dir {
            set("ringlog.data.dir", directory.clone());
        }
        if let Some(address) = &self.listen {
            set("listeners", format!("PLAINTEXT://{address}"));
        }
        if let Some(address) = &self.http_listen {
            set("ringlog.http.listen", address.clone());
        }
        if let Some(cores) = &self.cores {
            let list = if cores == "all" {
                String::new()
            } else {
                cores.clone()
            };
            set("ringlog.cores", list);
        }
        if let Some(memory) = &self.memory {
            let bytes = parse_size(memory).map_err(|error| usage(&error))?;
            set("ringlog.memory.bytes", bytes.to_string());
        }
        if self.accept_lost_data {
            set("ringlog.accept.lost.data", "true".to_owned());
        }
        BrokerConfig::from_layers(&file, &environment, &overrides).map_err(|error| usage(&error))
    }
}

/// Runs a broker.
pub fn run(args: BrokerArgs) -> Result<(), CommandError> {
    let config = args.to_config()?;
    // Before the threads of the shards: they inherit the mask.
    let signals = signals()?;
    let node = Node::start(config)?;
    announce(&node);
    serve(node, signals)
}

/// Serves until the end, and ends in order.
pub fn serve(node: Node, signals: Signals) -> Result<(), CommandError> {
    let fenced = wait_for_signal(&node, signals)?;
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
    println!(
        "ringlog ready listen={} shards={} data={} start_ms={} http={}",
        node.address,
        node.shard_count,
        node.data_dir.display(),
        node.started_in.as_millis(),
        node.http_address()
            .map_or("off".to_owned(), |address| address.to_string())
    );
}

/// SIGTERM and SIGINT, from now on.
pub fn signals() -> Result<Signals, CommandError> {
    Signals::new([SIGTERM, SIGINT]).map_err(|error| CommandError::io("signals", error))
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
