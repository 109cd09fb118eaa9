//! What the machine could do at best: direct writes to its device, and the loopback with a server that does nothing.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{DriveError, Launch, LogLimit, Rig, Target};
use crate::workloads::{Figures, Metric, Produce, Shape, Workload};

/// Bytes written before, so that no write extends the file or fills a hole.
pub(super) const FILE_BYTES: usize = 256 << 20;
/// Size of the writes with which that is done.
const CACHED_WRITE_BYTES: usize = 1 << 20;
/// What direct I/O wants to begin at.
const ALIGNMENT: usize = 4096;
/// Sizes of a write.
const WRITE_BYTES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];
/// Writers at the same time, each one write after the other.
const DEPTHS: [u64; 2] = [1, 4];
/// The write whose latency is measured: as large and as frequent as a group commit of the open loop.
const PACED_WRITE_BYTES: usize = 68 << 10;
const PACED_WRITES_PER_SECOND: u32 = 500;
/// A log is measured for so many times as long as one kind of write: it has to come into balance.
const LOG_TIMES: u32 = 8;
/// How long the null server may take to listen.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// How fast one kind of write is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// Bytes of a write.
    pub write_bytes: usize,
    /// Writes at the same time.
    pub depth: u64,
    /// Whether each is on the medium when it returns (O_DSYNC).
    pub durable: bool,
    /// Whether they do not go to the device at all, but to new pages of the page cache.
    pub cached: bool,
    /// 10^6 bytes per second.
    pub mb_per_second: f64,
}

/// How long durable writes take that come one at a time, at a fixed rate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceLatency {
    /// Bytes of a write.
    pub write_bytes: usize,
    /// Writes per second.
    pub per_second: u32,
    /// Percentiles.
    pub figures: Figures,
}

/// What the loopback and the load come to by themselves, for one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoopbackLimit {
    /// The workload.
    pub workload: String,
    /// As of a broker.
    pub figures: Figures,
}

/// Limits at one moment of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Of the device under the brokers' data.
    pub device: Vec<DeviceLimit>,
    /// Of a flushed write.
    pub device_latency: Option<DeviceLatency>,
    /// Of both writes of a flushed log.
    pub log: Vec<LogLimit>,
    /// Of the loopback.
    pub loopback: Vec<LoopbackLimit>,
}

impl Limits {
    /// The fastest durable write, in MB/s.
    pub fn durable_mb_per_second(&self) -> Option<f64> {
        let durable = self.device.iter().filter(|limit| limit.durable);
        durable.map(|limit| limit.mb_per_second).reduce(f64::max)
    }

    /// A figure of the loopback for a workload.
    pub fn of_loopback(&self, workload: &str, metric: Metric) -> Option<f64> {
        let mut limits = self.loopback.iter();
        let found = limits.find(|limit| limit.workload == workload)?;
        found.figures.get(&metric).copied()
    }
}

impl Rig {
    /// Measures each kind of write for `time`, on the disk of the brokers' data, how long one takes, and for longer what a
    /// flushed log reaches.
    pub fn device_limits(&self, time: Duration) -> Result<Limits, DriveError> {
        let path = self.work.join("device-probe");
        let measured = self.probe_device(&path, time).and_then(|device| {
            Ok(Limits {
                device,
                device_latency: Some(self.device_latency(&path)?),
                log: self.log_limits(&path, time * LOG_TIMES)?,
                loopback: Vec::new(),
            })
        });
        // It may not be there if it could not be written.
        drop(std::fs::remove_file(&path));
        measured
    }

    /// Durable writes at a fixed rate, for a window, to a file written before.
    fn device_latency(&self, path: &Path) -> Result<DeviceLatency, DriveError> {
        let direct = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_DIRECT | libc::O_DSYNC)
            .open(path);
        let wrap = || DriveError::io(path.display().to_string());
        let direct = direct.map_err(wrap())?;
        let space = AlignedBlock::new(PACED_WRITE_BYTES);
        let pace = Duration::from_secs(1) / PACED_WRITES_PER_SECOND;
        let (started, mut due) = (Instant::now(), Duration::ZERO);
        let (mut times_ms, mut place) = (Vec::new(), 0);
        while due < self.window {
            self.stop.sleep(due.saturating_sub(started.elapsed()))?;
            let before = Instant::now();
            direct.write_all_at(space.bytes(), place).map_err(wrap())?;
            times_ms.push(before.elapsed().as_secs_f64() * 1e3);
            place = (place + PACED_WRITE_BYTES as u64) % (FILE_BYTES / 2) as u64;
            place -= place % ALIGNMENT as u64;
            due += pace;
        }
        Ok(DeviceLatency {
            write_bytes: PACED_WRITE_BYTES,
            per_second: PACED_WRITES_PER_SECOND,
            figures: percentiles(times_ms),
        })
    }

    fn probe_device(&self, path: &Path, time: Duration) -> Result<Vec<DeviceLimit>, DriveError> {
        let wrap = || DriveError::io(path.display().to_string());
        let mut file = File::create(path).map_err(wrap())?;
        let block = vec![0x5a; CACHED_WRITE_BYTES];
        let started = Instant::now();
        for _ in 0..FILE_BYTES / CACHED_WRITE_BYTES {
            self.stop.check()?;
            file.write_all(&block).map_err(wrap())?;
        }
        let mut limits = vec![DeviceLimit {
            write_bytes: CACHED_WRITE_BYTES,
            depth: 1,
            durable: false,
            cached: true,
            mb_per_second: FILE_BYTES as f64 / 1e6 / started.elapsed().as_secs_f64(),
        }];
        file.sync_all().map_err(wrap())?;
        for durable in [false, true] {
            let flags = libc::O_DIRECT | if durable { libc::O_DSYNC } else { 0 };
            let direct = OpenOptions::new()
                .write(true)
                .custom_flags(flags)
                .open(path);
            let direct = direct.map_err(wrap())?;
            for write_bytes in WRITE_BYTES {
                for depth in DEPTHS {
                    self.stop.check()?;
                    let mb_per_second = rate(&direct, write_bytes, depth, time).map_err(wrap())?;
                    limits.push(DeviceLimit {
                        write_bytes,
                        depth,
                        durable,
                        cached: false,
                        mb_per_second,
                    });
                }
            }
        }
        Ok(limits)
    }

    /// Measures the loads of these workloads against a server that answers without keeping anything.
    pub fn loopback_limits(&self, names: &[&str]) -> Result<Vec<LoopbackLimit>, DriveError> {
        let mut limits = Vec::new();
        for name in names {
            let Some(Shape::Produce(produce)) = Workload::named(name).map(|w| w.shape) else {
                continue;
            };
            limits.push(self.loopback_limit(name, &produce)?);
        }
        Ok(limits)
    }

    fn loopback_limit(&self, name: &str, produce: &Produce) -> Result<LoopbackLimit, DriveError> {
        let address = super::server::free_address()?.to_string();
        let cpu = self.broker_cpu.to_string();
        let words = ["load", "null-server", "--listen", &address, "--core", &cpu];
        let server = Launch::new(&self.ringlog, self.work.join("null-server"));
        let server = server.args(words).on_cpu(self.broker_cpu).start()?;
        self.stop.until("the null server", READY_TIMEOUT, || {
            Ok(server.output()?.contains("ready").then_some(()))
        })?;
        let target = Target {
            address,
            pid: server.pid(),
            metrics: None,
        };
        let words = self.produce_words(&target, name, produce);
        let loaded = self.load(&words, &target, self.window, false)?;
        Ok(LoopbackLimit {
            workload: name.to_owned(),
            figures: loaded.figures,
        })
    }
}

/// Percentiles of times in ms; none of none.
pub(super) fn percentiles(mut times_ms: Vec<f64>) -> Figures {
    times_ms.sort_by(f64::total_cmp);
    let Some(last) = times_ms.len().checked_sub(1) else {
        return Figures::new();
    };
    let parts = [
        (Metric::P50Ms, 0.5),
        (Metric::P99Ms, 0.99),
        (Metric::P999Ms, 0.999),
    ];
    let at = |part: f64| times_ms[(last as f64 * part) as usize];
    parts.map(|(metric, part)| (metric, at(part))).into()
}

/// Bytes to write that begin where direct I/O wants them to.
pub(super) struct AlignedBlock {
    space: Vec<u8>,
    bytes: Range<usize>,
}

impl AlignedBlock {
    pub(super) fn new(len: usize) -> AlignedBlock {
        let space = vec![0xa5; len + ALIGNMENT];
        let from = space.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        AlignedBlock {
            space,
            bytes: from..from + len,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.space[self.bytes.clone()]
    }
}

/// 10^6 bytes per second of `depth` writers, each going around its own part of the file.
fn rate(file: &File, write_bytes: usize, depth: u64, time: Duration) -> std::io::Result<f64> {
    let start = Instant::now();
    let writer = |part: u64| -> std::io::Result<u64> {
        let block = AlignedBlock::new(write_bytes);
        let (step, part_bytes) = (write_bytes as u64, FILE_BYTES as u64 / depth);
        let (mut written, mut place) = (0, 0);
        while start.elapsed() < time {
            file.write_all_at(block.bytes(), part * part_bytes + place)?;
            written += step;
            place = (place + step) % part_bytes;
        }
        Ok(written)
    };
    let writer = &writer;
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..depth)
            .map(|part| scope.spawn(move || writer(part)))
            .collect();
        let ended = writers.into_iter().map(|writer| writer.join());
        ended
            .map(|ended| ended.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())))
            .sum::<std::io::Result<u64>>()
    })?;
    Ok(written as f64 / 1e6 / start.elapsed().as_secs_f64())
}
