//! What is measured of a workload: names, units, how a figure is written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One kind of figure. The order is that of columns and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// 10^6 bytes of record batches per second.
    MbPerSecond,
    /// Records per second.
    RecordsPerSecond,
    /// Requests per second.
    RequestsPerSecond,
    /// Median latency, from the intended time to the answer.
    P50Ms,
    /// 99th percentile of it.
    P99Ms,
    /// 99.9th percentile of it.
    P999Ms,
    /// CPU time of the broker per 10^9 bytes.
    CpuSecondsPerGb,
    /// CPU time of the broker per request.
    CpuUsPerRequest,
    /// CPU time of the broker per record.
    CpuUsPerRecord,
    /// System calls of the broker per request.
    SyscallsPerRequest,
    /// Of those, `io_uring_enter`.
    EntersPerRequest,
    /// Operations that io_uring handed to a kernel worker, per request.
    PuntsPerRequest,
    /// Bytes that the broker caused to be written to the device per byte of the load.
    DeviceWritesPerByte,
    /// Bytes that the broker caused to be read from the device per byte of the load.
    DeviceReadsPerByte,
    /// Voluntary context switches of the broker per request.
    SwitchesPerRequest,
    /// Part of the time from sending a request to its answer's arrival that the broker's stages account for.
    StagesPercent,
    /// Share of its core that the generator used; near 100 it is what was measured.
    GeneratorPercent,
    /// From the start of the process in an empty directory to its first answer.
    StartSeconds,
    /// Physical memory of the broker's process, 10^6 bytes.
    ResidentMb,
    /// Until a topic with that many partitions had a leader for each.
    CreatedSeconds,
    /// Physical memory per partition beyond that of the empty broker.
    KibPerPartition,
    /// CPU of the broker without any load, of one core.
    IdlePercent,
    /// After `kill -9`: from the start of the process until every partition has a leader.
    KilledStartSeconds,
    /// The same after a clean stop.
    CleanStartSeconds,
}

/// Figures of one measurement.
pub type Figures = BTreeMap<Metric, f64>;

impl Metric {
    /// Name with unit, as the head of a column.
    pub fn title(self) -> &'static str {
        match self {
            Metric::MbPerSecond => "MB/s",
            Metric::RecordsPerSecond => "records/s",
            Metric::RequestsPerSecond => "requests/s",
            Metric::P50Ms => "p50 ms",
            Metric::P99Ms => "p99 ms",
            Metric::P999Ms => "p99.9 ms",
            Metric::CpuSecondsPerGb => "CPU-s/GB",
            Metric::CpuUsPerRequest => "us/request",
            Metric::CpuUsPerRecord => "us/record",
            Metric::SyscallsPerRequest => "syscalls/req",
            Metric::EntersPerRequest => "enters/req",
            Metric::PuntsPerRequest => "punts/req",
            Metric::DeviceWritesPerByte => "written/B",
            Metric::DeviceReadsPerByte => "read/B",
            Metric::SwitchesPerRequest => "switches/req",
            Metric::StagesPercent => "stages %",
            Metric::GeneratorPercent => "load CPU %",
            Metric::StartSeconds => "start s",
            Metric::ResidentMb => "resident MB",
            Metric::CreatedSeconds => "created s",
            Metric::KibPerPartition => "KiB/partition",
            Metric::IdlePercent => "idle CPU %",
            Metric::KilledStartSeconds => "start after kill -9 s",
            Metric::CleanStartSeconds => "start after stop s",
        }
    }

    /// A figure with as many digits as it deserves.
    pub fn format(self, value: f64) -> String {
        let digits = match value.abs() {
            size if size >= 100.0 => 0,
            size if size >= 10.0 => 1,
            size if size >= 0.1 || size == 0.0 => 2,
            _ => 3,
        };
        grouped(&format!("{value:.digits$}"))
    }
}

/// Thin groups of three digits in the whole part: `12 345`.
fn grouped(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut out = String::new();
    for (place, digit) in whole.chars().enumerate() {
        let left = whole.len() - place;
        if place > 0 && left.is_multiple_of(3) && !out.ends_with('-') {
            out.push(' ');
        }
        out.push(digit);
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_the_digits_that_matter() {
        for (value, text) in [
            (0.0, "0.00"),
            (0.012, "0.012"),
            (0.69, "0.69"),
            (12.34, "12.3"),
            (999.6, "1 000"),
            (105_321.0, "105 321"),
            (-2.5, "-2.50"),
            (-250.4, "-250"),
        ] {
            assert_eq!(Metric::P50Ms.format(value), text);
        }
    }
}
