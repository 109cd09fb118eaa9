//! A broker under measurement: started, asked whether it serves, killed, stopped, started again.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{DriveError, Launch, Rig, Running};
use crate::workloads::Durability;

/// How long a broker may take to serve.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// How long it may take to end by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(120);
/// How long it may take to create a topic and elect its leaders.
const TOPIC_TIMEOUT: Duration = Duration::from_secs(240);
/// How long one question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// ApiVersions version 0 without a client id: length, API key 18, version, correlation id, null.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
/// Retention looks at logs this often, so that no disk fills up: as Kafka and Ringlog both spell it.
pub(super) const RETENTION: [(&str, &str); 2] = [
    ("log.retention.check.interval.ms", "2000"),
    ("log.segment.delete.delay.ms", "1000"),
];

/// Which broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// Apache Kafka.
    Kafka,
    /// Ours.
    Ringlog,
}

impl Peer {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Kafka => "Kafka",
            Peer::Ringlog => "Ringlog",
        }
    }
}

/// What is special about a broker.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Descriptors it may have open.
    pub descriptors: Option<u64>,
    /// Memory, for Ringlog, where it is not the rig's.
    pub memory: Option<&'static str>,
}

/// How a broker ends before it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `kill -9`.
    Killed,
    /// SIGTERM.
    Stopped,
}

/// What a load is pointed at.
#[derive(Clone, Debug)]
pub struct Target {
    /// `HOST:PORT`.
    pub address: String,
    /// The process that serves there.
    pub pid: u32,
    /// `HOST:PORT` of its metrics, if it tells them as Ringlog does.
    pub metrics: Option<String>,
}

/// A broker with a data directory of its own, removed with it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    launch: Launch,
    running: Running,
    directory: PathBuf,
}

impl Server {
    /// Starts one on an empty directory. Also says how long it took from the start of the process to its first answer.
    pub fn start(rig: &Rig, peer: Peer, setup: &Setup) -> Result<(Server, Duration), DriveError> {
        let directory = rig.work.join("data");
        empty(&directory)?;
        let address = free_address()?;
        let metrics = match peer {
            Peer::Ringlog => Some(free_address()?),
            Peer::Kafka => None,
        };
        let launch = match peer {
            Peer::Ringlog => ringlog(rig, &directory, (address, metrics), setup),
            Peer::Kafka => rig.kafka()?.launch(rig, &directory, address)?,
        };
        let launch = launch.on_cpu(rig.broker_cpu);
        let launch = launch.descriptors(setup.descriptors);
        let started = Instant::now();
        let running = launch.start()?;
        let mut server = Server {
            address,
            metrics,
            launch,
            running,
            directory,
        };
        server.wait_until_it_answers(rig)?;
        Ok((server, started.elapsed()))
    }

    /// What a load is pointed at.
    pub fn target(&self) -> Target {
        Target {
            address: self.address(),
            pid: self.pid(),
            metrics: self.metrics.map(|address| address.to_string()),
        }
    }

    fn address(&self) -> String {
        self.address.to_string()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn wait_until_it_answers(&mut self, rig: &Rig) -> Result<(), DriveError> {
        let address = self.address;
        rig.stop.until("the broker's start", START_TIMEOUT, || {
            if let Some(status) = self.running.ended()? {
                return Err(self.running.bad_end(status));
            }
            Ok(answers(address).then_some(()))
        })
    }

    /// Ends it and starts it again on what it has. Says how long it took until every partition of the topic was led.
    pub fn restart(
        &mut self,
        rig: &Rig,
        ending: Ending,
        topic: &str,
        partitions: u64,
    ) -> Result<Duration, DriveError> {
        match ending {
            Ending::Killed => self.running.kill()?,
            Ending::Stopped => self.running.terminate(&rig.stop, STOP_TIMEOUT)?,
        }
        let started = Instant::now();
        self.running = self.launch.start()?;
        self.wait_until_it_answers(rig)?;
        self.wait_until_led(rig, topic, partitions)?;
        Ok(started.elapsed())
    }

    /// Creates a topic, bounded on disk, and waits until it is led. Says how long that took.
    pub fn create_topic(
        &mut self,
        rig: &Rig,
        peer: Peer,
        topic: &Topic<'_>,
    ) -> Result<Duration, DriveError> {
        let started = Instant::now();
        let partitions = topic.partitions.to_string();
        let address = self.address();
        let bytes = (topic.bytes_max / topic.partitions.max(1)).max(SEGMENT_BYTES);
        let mut settings = vec![
            format!("retention.bytes={bytes}"),
            format!("segment.bytes={SEGMENT_BYTES}"),
        ];
        match (peer, topic.durability) {
            (Peer::Kafka, Durability::Flushed) => settings.push("flush.messages=1".to_owned()),
            (Peer::Kafka, Durability::PageCache) => {}
            (Peer::Ringlog, Durability::Flushed) => {
                settings.push("ringlog.durability=flushed".to_owned());
            }
            (Peer::Ringlog, Durability::PageCache) => {
                settings.push("ringlog.durability=written".to_owned());
            }
        }
        let settings = settings.iter().flat_map(|setting| ["--config", setting]);
        let create = ["topic", "create", topic.name, "--partitions", &partitions];
        let mut created = rig
            .tool("create")
            .args(create)
            .args(["--bootstrap", &address])
            .args(settings)
            .start()?;
        let status = created.wait(&rig.stop, TOPIC_TIMEOUT)?;
        // A client may give up before a large topic is there; then it is there a little later.
        match self.wait_until_led(rig, topic.name, topic.partitions) {
            Err(DriveError::TimedOut { .. }) if !status.success() => Err(created.bad_end(status)),
            led => led.map(|()| started.elapsed()),
        }
    }

    /// Deletes a topic.
    pub fn delete_topic(&mut self, rig: &Rig, name: &str) -> Result<(), DriveError> {
        let address = self.address();
        let delete = ["topic", "delete", name, "--bootstrap", &address];
        let mut deleted = rig.tool("delete").args(delete).start()?;
        deleted.succeed(&rig.stop, TOPIC_TIMEOUT)
    }

    fn wait_until_led(
        &mut self,
        rig: &Rig,
        topic: &str,
        partitions: u64,
    ) -> Result<(), DriveError> {
        let address = self.address();
        let words = ["topic", "describe", topic, "--format", "json"];
        let describe = rig.tool("describe").args(words);
        let describe = describe.args(["--bootstrap", &address]);
        let what = format!("leaders of topic {topic}");
        rig.stop.until(&what, TOPIC_TIMEOUT, || {
            if let Some(status) = self.running.ended()? {
                return Err(self.running.bad_end(status));
            }
            let mut described = describe.start()?;
            let status = described.wait(&rig.stop, TOPIC_TIMEOUT)?;
            let led = status.success() && is_led(&described.output()?, partitions);
            Ok(led.then_some(()))
        })
    }

    /// Physical memory, in bytes.
    pub fn resident_bytes(&self) -> Result<f64, DriveError> {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).map_err(DriveError::io(path))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        let kib = kib.ok_or_else(|| DriveError::Unreadable {
            what: "/proc status".to_owned(),
            reason: "no VmRSS".to_owned(),
        })?;
        Ok(kib * 1024.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error shows when it is ended again; what is left in the directory is removed with the rig.
        drop(self.running.kill());
        drop(std::fs::remove_dir_all(&self.directory));
    }
}

/// A topic to be created.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its partitions.
    pub partitions: u64,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Bytes it may take on disk before its oldest segments go.
    pub bytes_max: u64,
}

/// Size at which segments are closed: small, so that retention can delete them soon.
const SEGMENT_BYTES: u64 = 128 << 20;

fn ringlog(
    rig: &Rig,
    directory: &Path,
    (address, metrics): (SocketAddr, Option<SocketAddr>),
    setup: &Setup,
) -> Launch {
    let (cpu, address) = (rig.broker_cpu.to_string(), address.to_string());
    let metrics = metrics.map_or(String::new(), |metrics| metrics.to_string());
    let mut launch = Launch::new(&rig.ringlog, rig.work.join("ringlog"))
        .args(["broker", "--cores", &cpu, "--listen", &address])
        .args(["--http-listen", &metrics])
        .args(["--data-dir".as_ref(), directory.as_os_str()]);
    for (key, value) in RETENTION {
        launch = launch.args(["--override", &format!("{key}={value}")]);
    }
    match setup.memory.or(rig.memory.as_deref()) {
        Some(memory) => launch.args(["--memory", memory]),
        None => launch,
    }
}

/// An empty directory of that name.
pub(super) fn empty(directory: &Path) -> Result<(), DriveError> {
    let what = || DriveError::io(directory.display().to_string());
    if directory.exists() {
        std::fs::remove_dir_all(directory).map_err(what())?;
    }
    std::fs::create_dir_all(directory).map_err(what())
}

/// An address that is free now.
pub(super) fn free_address() -> Result<SocketAddr, DriveError> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map_err(DriveError::io("a free port"))
}

/// Whether a broker answers there.
fn answers(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ASK_TIMEOUT))?;
        stream.write_all(&API_VERSIONS)?;
        stream.read(&mut [0; 8])
    };
    ask().is_ok_and(|bytes| bytes > 0)
}

/// Whether a described topic has all its partitions and a leader for each.
fn is_led(description: &str, partitions: u64) -> bool {
    let Ok(described) = serde_json::from_str::<serde_json::Value>(description) else {
        return false;
    };
    let number = |name: &str| described["topic"][name].as_u64();
    number("partitions") == Some(partitions) && number("without_leader") == Some(0)
}
