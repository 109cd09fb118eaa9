//! What all measurements of a run share: the programs, the cores, the times, the work directory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::server::empty;
use super::{DriveError, Kafka, Stop};
use crate::workloads::Workload;

/// Times of a measurement, and of a quick one.
const WINDOW: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(1)];
const WARMUP: [Duration; 2] = [Duration::from_millis(1500), Duration::from_millis(300)];
/// A quick run holds this share of the partitions and of the bytes to fetch.
const QUICK_SHARE: u64 = 20;

/// Flags that every program of this kind has.
#[derive(Clone, Debug, clap::Args)]
pub struct RigOptions {
    /// The `ringlog` executable. [default: beside this program]
    #[arg(long, env = "RINGLOG_BINARY", value_name = "FILE")]
    pub ringlog: Option<PathBuf>,
    /// CPU of the broker.
    #[arg(long, default_value_t = 0)]
    pub broker_cpu: usize,
    /// CPU of the load.
    #[arg(long, default_value_t = second_cpu())]
    pub load_cpu: usize,
    /// Memory of Ringlog, such as 2G. [default: its own default]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Directory for the brokers' data, on the disk to be measured; removed at the end. [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub work_dir: Option<PathBuf>,
    /// Seconds of each measurement. [default: 8, or 1 with --quick]
    #[arg(long, value_name = "SECONDS")]
    pub window: Option<u64>,
    /// One second each and fewer partitions: to see that it works.
    #[arg(long)]
    pub quick: bool,
}

/// The second CPU, or the only one.
fn second_cpu() -> usize {
    std::thread::available_parallelism().map_or(0, |cpus| usize::from(cpus.get() > 1))
}

/// What measurements share.
#[derive(Debug)]
pub struct Rig {
    /// The executable.
    pub ringlog: PathBuf,
    /// Ends everything.
    pub stop: Stop,
    /// CPU of the broker.
    pub broker_cpu: usize,
    /// CPU of the load.
    pub load_cpu: usize,
    /// Memory of Ringlog, if not its default.
    pub memory: Option<String>,
    /// How long to measure.
    pub window: Duration,
    /// How long to load before measuring.
    pub warmup: Duration,
    /// Whether it is only to be seen that it works.
    pub quick: bool,
    /// Removed at the end.
    pub(super) work: PathBuf,
    kafka: Option<Kafka>,
}

impl Rig {
    /// From flags.
    pub fn new(options: &RigOptions, stop: Stop) -> Result<Rig, DriveError> {
        let program = std::env::current_exe().map_err(DriveError::io("this program"))?;
        let folder = program.parent().unwrap_or(Path::new("."));
        let ringlog = options.ringlog.clone();
        let ringlog = ringlog.unwrap_or_else(|| folder.join("ringlog"));
        if !ringlog.exists() {
            return Err(DriveError::Missing {
                path: ringlog,
                hint: "build it with `cargo build --release -p ringlog`, or name it with --ringlog",
            });
        }
        let work = options.work_dir.as_deref().unwrap_or(folder);
        let work = work.join(format!("benches-work-{}", std::process::id()));
        empty(&work)?;
        let quick = usize::from(options.quick);
        Ok(Rig {
            ringlog,
            stop,
            broker_cpu: options.broker_cpu,
            load_cpu: options.load_cpu,
            memory: options.memory.clone(),
            window: options.window.map_or(WINDOW[quick], Duration::from_secs),
            warmup: WARMUP[quick],
            quick: options.quick,
            work,
            kafka: None,
        })
    }

    /// Makes Kafka available.
    pub fn with_kafka(mut self, kafka: Kafka) -> Rig {
        self.kafka = Some(kafka);
        self
    }

    pub(super) fn kafka(&self) -> Result<&Kafka, DriveError> {
        self.kafka.as_ref().ok_or_else(|| DriveError::Missing {
            path: "Kafka".into(),
            hint: "this program does not compare",
        })
    }

    /// How long a workload is measured.
    pub fn window_of(&self, workload: &Workload) -> Duration {
        if self.quick {
            self.window
        } else {
            self.window.max(workload.window_min())
        }
    }

    /// As many partitions or bytes as this run wants of `count`.
    pub fn scaled(&self, count: u64) -> u64 {
        if self.quick {
            (count / QUICK_SHARE).max(1)
        } else {
            count
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // What cannot be removed stays; its place says what it is.
        drop(std::fs::remove_dir_all(&self.work));
    }
}
