//! Apache Kafka: its jars from Maven's repository, one KRaft node with the settings it ships with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::server::{RETENTION, empty, free_address};
use super::{DriveError, Launch, Rig, Stop};

/// The version that is compared with.
pub const VERSION: &str = "4.3.1";
/// Twice the heap of `kafka-server-start.sh`, and the collector that the virtual machine chooses for the cores it has: on
/// one core the serial one, with which Kafka is up to 1.6 times as fast there as with that script's G1.
pub const JAVA_OPTIONS: &str = "-server -Xms2g -Xmx2g -Djava.awt.headless=true";
/// A cluster id in its encoding.
const CLUSTER_ID: &str = "AAAAAAAAQACAAAAAAAAAAAQ";
/// How long formatting the data directory may take.
const FORMAT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long Maven may take.
const MAVEN_TIMEOUT: Duration = Duration::from_secs(600);

/// Where Kafka is and how it runs.
#[derive(Clone, Debug)]
pub struct Kafka {
    libs: PathBuf,
    java_options: Vec<String>,
}

impl Kafka {
    /// From a directory with its jars. Without one they are fetched into the user's cache, once.
    pub fn locate(
        libs: Option<&Path>,
        java_options: &str,
        stop: &Stop,
    ) -> Result<Kafka, DriveError> {
        let libs = match libs {
            Some(libs) => libs.to_owned(),
            None => cache_directory(),
        };
        if !has_jars(&libs) {
            fetch(&libs, stop)?;
        }
        let java_options = java_options.split_whitespace().map(str::to_owned);
        Ok(Kafka {
            libs,
            java_options: java_options.collect(),
        })
    }

    /// What `java -version` says.
    pub fn java_version() -> String {
        let output = Command::new("java").arg("-version").output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        let said = said.unwrap_or_default();
        said.lines().next().unwrap_or("unknown").to_owned()
    }

    /// How a node on a formatted directory is started.
    pub(super) fn launch(
        &self,
        rig: &Rig,
        directory: &Path,
        address: SocketAddr,
    ) -> Result<Launch, DriveError> {
        let properties = rig.work.join("server.properties");
        let text = server_properties(directory, address, free_address()?);
        std::fs::write(&properties, text)
            .map_err(DriveError::io(properties.display().to_string()))?;
        let config = properties.display().to_string();
        let format = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"];
        let mut formatted = Launch::new("java", rig.work.join("format"))
            .args(["-cp", &self.classpath()])
            .args(format)
            .args([&config])
            .start()?;
        formatted.succeed(&rig.stop, FORMAT_TIMEOUT)?;
        Ok(Launch::new("java", rig.work.join("kafka"))
            .args(&self.java_options)
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error"])
            .args(["-cp", &self.classpath(), "kafka.Kafka", &config]))
    }

    fn classpath(&self) -> String {
        format!("{}/*", self.libs.display())
    }
}

fn server_properties(directory: &Path, address: SocketAddr, controller: SocketAddr) -> String {
    let mut lines = vec![
        "process.roles=broker,controller".to_owned(),
        "node.id=1".to_owned(),
        format!("controller.quorum.voters=1@{controller}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        format!("listeners=PLAINTEXT://{address},CONTROLLER://{controller}"),
        format!("advertised.listeners=PLAINTEXT://{address}"),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
        "inter.broker.listener.name=PLAINTEXT".to_owned(),
        format!("log.dirs={}", directory.display()),
        "offsets.topic.replication.factor=1".to_owned(),
        "transaction.state.log.replication.factor=1".to_owned(),
        "transaction.state.log.min.isr=1".to_owned(),
        "share.coordinator.state.topic.replication.factor=1".to_owned(),
        "share.coordinator.state.topic.min.isr=1".to_owned(),
    ];
    lines.extend(RETENTION.map(|(key, value)| format!("{key}={value}")));
    lines.join("\n") + "\n"
}

fn cache_directory() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/tmp".into()));
    let cache = cache.unwrap_or_else(|| home().join(".cache"));
    cache.join("ringlog").join(format!("kafka-{VERSION}"))
}

fn has_jars(libs: &Path) -> bool {
    libs.join(format!("kafka_2.13-{VERSION}.jar")).exists()
}

/// By a throw-away project that has nothing but these dependencies.
fn fetch(libs: &Path, stop: &Stop) -> Result<(), DriveError> {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.kafka", "kafka-tools", VERSION),
        dependency("org.slf4j", "slf4j-simple", "1.7.36"),
    ];
    let pom = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>peer</groupId><artifactId>kafka</artifactId><version>1</version>\
         <dependencies>{}</dependencies></project>\n",
        dependencies.concat()
    );
    empty(libs)?;
    let path = libs.join("pom.xml");
    std::fs::write(&path, pom).map_err(DriveError::io(path.display().to_string()))?;
    let copy = ["-q", "-B", "-f", &path.display().to_string()].map(str::to_owned);
    let output = format!("-DoutputDirectory={}", libs.display());
    let mut maven = Launch::new("mvn", libs.join("maven"))
        .args(copy)
        .args(["dependency:copy-dependencies", &output])
        .start()?;
    maven.succeed(stop, MAVEN_TIMEOUT)?;
    if has_jars(libs) {
        return Ok(());
    }
    Err(DriveError::Missing {
        path: libs.to_owned(),
        hint: "Maven ended well, but Kafka's jar is not there",
    })
}
