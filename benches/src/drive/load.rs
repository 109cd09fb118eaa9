//! The generator: `ringlog load`, one process per measurement, and what its report says.

use std::process::ExitStatus;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Counted, DriveError, Launch, Rig, Running, Target};
use crate::workloads::{Fetch, Figures, Metric, Produce};

/// How long a load may take beyond its time.
const SLACK: Duration = Duration::from_secs(90);
/// How often a topic is written to before a failure is one, and the pause between.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// Requests in flight of a fill, and of its connections.
const FILL_IN_FLIGHT: u64 = 5;
const FILL_CONNECTIONS: u64 = 4;

/// The part of a report that figures come from; it has more.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Report {
    seconds: f64,
    records: f64,
    records_per_second: f64,
    batch_bytes: f64,
    mb_per_second: f64,
    requests: f64,
    requests_per_second: f64,
    latency_ms: Latency,
    errors: f64,
    generator: Used,
    watched: Option<Used>,
    broker: Option<Explained>,
    note: Option<String>,
    fatal: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Latency {
    p50: f64,
    p99: f64,
    p999: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Used {
    cpu_seconds: f64,
    device_bytes_written: f64,
    device_bytes_read: f64,
    voluntary_switches: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Explained {
    share_until_arrival: f64,
}

/// What a load came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Loaded {
    /// The figures.
    pub figures: Figures,
    /// What is odd about them.
    pub notes: Vec<String>,
    /// The whole report.
    pub report: Value,
}

impl Rig {
    /// Arguments of a producing load.
    pub fn produce_words(&self, target: &Target, topic: &str, produce: &Produce) -> Vec<String> {
        let mut words = self.words("produce", target, topic);
        words.extend(flags(&[
            ("--connections", produce.connections),
            ("--in-flight", produce.in_flight),
            ("--partitions", produce.partitions),
            ("--record-bytes", produce.record_bytes),
            ("--batch-records", produce.batch_records),
        ]));
        if let Some(requests) = produce.requests_per_second {
            words.extend(flags(&[("--rate", requests * produce.batch_records)]));
        }
        words
    }

    /// Arguments of a fetching load.
    pub fn fetch_words(&self, target: &Target, topic: &str, fetch: &Fetch) -> Vec<String> {
        let mut words = self.words("consume", target, topic);
        words.extend(["--from", "start", "--repeat"].map(str::to_owned));
        words.extend(flags(&[
            ("--connections", FILL_CONNECTIONS),
            ("--in-flight", FILL_IN_FLIGHT),
            ("--partition-bytes", fetch.request_bytes),
            ("--response-bytes", fetch.request_bytes),
        ]));
        words
    }

    fn words(&self, mode: &str, target: &Target, topic: &str) -> Vec<String> {
        let pid = target.pid.to_string();
        let cpu = self.load_cpu.to_string();
        let mut words = vec![
            "load",
            mode,
            "--bootstrap",
            &target.address,
            "--topic",
            topic,
            "--cores",
            &cpu,
            "--watch-pid",
            &pid,
            "--format",
            "json",
        ];
        if let Some(metrics) = &target.metrics {
            words.extend(["--broker-metrics", metrics]);
        }
        words.into_iter().map(str::to_owned).collect()
    }

    /// Loads for the time of a window after a warm-up, a longer one before a long window, counting system calls meanwhile
    /// if asked to.
    pub fn load(
        &self,
        words: &[String],
        target: &Target,
        window: Duration,
        counting: bool,
    ) -> Result<Loaded, DriveError> {
        let warmup = self.warmup.max(window / 10);
        let mut running = self.start_load(words, warmup, window)?;
        let counted = if counting {
            self.stop.sleep(warmup + window / 10)?;
            self.count_calls(target.pid, window * 3 / 4)?
        } else {
            Counted::default()
        };
        let status = running.wait(&self.stop, warmup + window + SLACK)?;
        finish_load(&mut running, status, &counted)
    }

    /// Loads for so long and forgets it, failed requests too: Kafka refuses some until a new topic is led.
    pub fn warm(&self, words: &[String], time: Duration) -> Result<(), DriveError> {
        let mut running = self.start_load(words, Duration::ZERO, time)?;
        running.wait(&self.stop, time + SLACK)?;
        Ok(())
    }

    fn start_load(
        &self,
        words: &[String],
        warmup: Duration,
        window: Duration,
    ) -> Result<Running, DriveError> {
        let millis = |time: Duration| format!("{}ms", time.as_millis());
        let launch = self.tool("load").args(words);
        let launch = launch.args(["--warmup", &millis(warmup), "--duration", &millis(window)]);
        launch.start()
    }

    /// Produces so many records, one connection per partition group.
    pub fn fill(&self, target: &Target, topic: &str, fetch: &Fetch) -> Result<(), DriveError> {
        let records = fetch.fill_bytes / fetch.record_bytes;
        let mut words = self.words("produce", target, topic);
        words.extend(flags(&[
            ("--connections", FILL_CONNECTIONS),
            ("--in-flight", FILL_IN_FLIGHT),
            ("--record-bytes", fetch.record_bytes),
            ("--batch-records", fetch.batch_records),
            ("--records", records),
        ]));
        self.until_clean(&self.tool("fill").args(words))
    }

    /// Produces one small batch to each partition: a single connection takes them in turn.
    pub fn touch(&self, target: &Target, topic: &str, partitions: u64) -> Result<(), DriveError> {
        let mut words = self.words("produce", target, topic);
        words.extend(flags(&[
            ("--connections", 1),
            ("--in-flight", 16),
            ("--record-bytes", 200),
            ("--batch-records", 1),
            ("--records", partitions),
        ]));
        self.until_clean(&self.tool("touch").args(words))
    }

    /// Until no request fails: Kafka names the leaders of a new topic some time before they take requests. What an
    /// attempt has written stays, so that some partitions get more than one turn.
    fn until_clean(&self, load: &Launch) -> Result<(), DriveError> {
        let mut attempt = 1;
        loop {
            match load.start()?.succeed(&self.stop, SLACK) {
                Err(DriveError::Ended { .. }) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
            self.stop.sleep(PAUSE)?;
        }
    }

    /// A command of `ringlog` on the core of the load.
    pub fn tool(&self, log: &str) -> Launch {
        let launch = Launch::new(&self.ringlog, self.work.join(log));
        launch.on_cpu(self.load_cpu)
    }
}

/// What the report of a load that has ended says.
fn finish_load(
    running: &mut Running,
    status: ExitStatus,
    counted: &Counted,
) -> Result<Loaded, DriveError> {
    let report: Value = match serde_json::from_str(&running.output()?) {
        Ok(report) => report,
        Err(_) if !status.success() => return Err(running.bad_end(status)),
        Err(error) => return Err(unreadable(&error)),
    };
    let known = Report::deserialize(&report).map_err(|error| unreadable(&error))?;
    Ok(Loaded {
        figures: known.figures(counted),
        notes: known.notes(),
        report,
    })
}

fn flags(flags: &[(&str, u64)]) -> Vec<String> {
    let words = flags.iter();
    words
        .flat_map(|(name, value)| [(*name).to_owned(), value.to_string()])
        .collect()
}

fn unreadable(error: &serde_json::Error) -> DriveError {
    DriveError::Unreadable {
        what: "the report of the load".to_owned(),
        reason: error.to_string(),
    }
}

impl Report {
    fn figures(&self, counted: &Counted) -> Figures {
        let mut figures = Figures::from([
            (Metric::MbPerSecond, self.mb_per_second),
            (Metric::RecordsPerSecond, self.records_per_second),
            (Metric::RequestsPerSecond, self.requests_per_second),
            (Metric::P50Ms, self.latency_ms.p50),
            (Metric::P99Ms, self.latency_ms.p99),
            (Metric::P999Ms, self.latency_ms.p999),
        ]);
        let mut put = |metric, amount: f64, per: f64| {
            if per > 0.0 {
                figures.insert(metric, amount / per);
            }
        };
        let generator = self.generator.cpu_seconds * 100.0;
        put(Metric::GeneratorPercent, generator, self.seconds);
        if let Some(broker) = &self.broker {
            put(Metric::StagesPercent, broker.share_until_arrival, 0.01);
        }
        if let Some(watched) = &self.watched {
            let micros = watched.cpu_seconds * 1e6;
            put(
                Metric::CpuSecondsPerGb,
                watched.cpu_seconds * 1e9,
                self.batch_bytes,
            );
            put(Metric::CpuUsPerRequest, micros, self.requests);
            put(Metric::CpuUsPerRecord, micros, self.records);
            let (written, read) = (watched.device_bytes_written, watched.device_bytes_read);
            put(Metric::DeviceWritesPerByte, written, self.batch_bytes);
            put(Metric::DeviceReadsPerByte, read, self.batch_bytes);
            let switches = watched.voluntary_switches;
            put(Metric::SwitchesPerRequest, switches, self.requests);
        }
        let rates = [
            (Metric::SyscallsPerRequest, counted.syscalls),
            (Metric::EntersPerRequest, counted.enters),
            (Metric::PuntsPerRequest, counted.punts),
        ];
        for (metric, per_second) in rates {
            if let Some(per_second) = per_second {
                put(metric, per_second, self.requests_per_second);
            }
        }
        figures
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        notes.extend(self.note.clone());
        notes.extend(
            self.fatal
                .as_ref()
                .map(|fatal| format!("given up: {fatal}")),
        );
        if self.errors > 0.0 {
            notes.push(format!("{} requests failed", self.errors));
        }
        if self.generator.cpu_seconds > self.seconds * 0.95 {
            notes.push("the generator used its whole core".to_owned());
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_follow_from_a_report_whatever_else_is_in_it() {
        let report = serde_json::json!({
            "mode": "produce", "seconds": 2.0, "records": 2000, "requests": 1000,
            "requests_per_second": 500.0, "mb_per_second": 32.0, "batch_bytes": 64_000_000,
            "latency_ms": { "p50": 0.5, "p99": 2.0, "p999": 3.0, "p9999": 4.0 },
            "generator": { "cpu_seconds": 1.96 }, "a later field": [1, 2],
            "watched": { "cpu_seconds": 0.032, "device_bytes_written": 128_000_000 },
            "errors": 3,
        });
        let report = Report::deserialize(report).unwrap();
        let counted = Counted {
            syscalls: Some(1500.0),
            ..Counted::default()
        };
        let figures = report.figures(&counted);
        for (metric, value) in [
            (Metric::P99Ms, 2.0),
            (Metric::CpuSecondsPerGb, 0.5),
            (Metric::CpuUsPerRequest, 32.0),
            (Metric::DeviceWritesPerByte, 2.0),
            (Metric::SyscallsPerRequest, 3.0),
        ] {
            assert!((figures[&metric] - value).abs() < 1e-9, "{metric:?}");
        }
        assert!(!figures.contains_key(&Metric::PuntsPerRequest));
        assert_eq!(report.notes().len(), 2);
    }
}
