//! What a load came to: one report, as rows for people and as JSON for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::tally::Tally;
use crate::verify::Findings;

/// Latency of requests in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LatencyMs {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Slowest.
    pub max: f64,
}

/// CPU and device work of one process over the load.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ProcessUse {
    /// CPU time in seconds, user and system.
    pub cpu_seconds: f64,
    /// Of that, in the kernel.
    pub system_seconds: f64,
    /// Bytes it caused to be written to devices.
    pub device_bytes_written: u64,
    /// Bytes it caused to be read from devices.
    pub device_bytes_read: u64,
    /// Times one of its threads went to sleep.
    pub voluntary_switches: u64,
}

/// Everything a load came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `produce` or `consume`.
    pub mode: &'static str,
    /// Measured time in seconds.
    pub seconds: f64,
    /// Records.
    pub records: u64,
    /// Records per second.
    pub records_per_second: f64,
    /// Bytes of record batches on the wire.
    pub batch_bytes: u64,
    /// 10^6 of those bytes per second.
    pub mb_per_second: f64,
    /// Bytes of keys and values before compression; 0 when consuming.
    pub record_bytes: u64,
    /// 10^6 of those bytes per second.
    pub record_mb_per_second: f64,
    /// Successful requests.
    pub requests: u64,
    /// Successful requests per second.
    pub requests_per_second: f64,
    /// From the intended time to the answer.
    pub latency_ms: LatencyMs,
    /// Failed requests.
    pub errors: u64,
    /// Failed requests by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Connections made; more than asked for means that some broke.
    pub connects: u64,
    /// Open loop: requests that were due and not sent by the end.
    pub unsent_requests: u64,
    /// The generator itself.
    pub generator: ProcessUse,
    /// The process that was watched.
    pub watched: Option<ProcessUse>,
    /// The verdict, if records were verified.
    pub verification: Option<Findings>,
    /// Why there is nothing to report, if there is nothing.
    pub note: Option<String>,
    /// Why the load was given up before its end.
    pub fatal: Option<String>,
}

impl Report {
    /// From merged counts over `elapsed`.
    pub fn new(mode: &'static str, tally: &Tally, elapsed: Duration) -> Report {
        let seconds = elapsed.as_secs_f64();
        let rate = |count: u64| {
            if seconds > 0.0 {
                count as f64 / seconds
            } else {
                0.0
            }
        };
        Report {
            mode,
            seconds,
            records: tally.records,
            records_per_second: rate(tally.records),
            batch_bytes: tally.batch_bytes,
            mb_per_second: rate(tally.batch_bytes) / 1e6,
            record_bytes: tally.record_bytes,
            record_mb_per_second: rate(tally.record_bytes) / 1e6,
            requests: tally.requests,
            requests_per_second: rate(tally.requests),
            latency_ms: LatencyMs {
                mean: tally.latency.mean() / 1e6,
                p50: tally.latency_ms(0.5),
                p99: tally.latency_ms(0.99),
                p999: tally.latency_ms(0.999),
                max: tally.latency.max() as f64 / 1e6,
            },
            errors: tally.error_count(),
            errors_by_kind: tally.errors.clone(),
            connects: tally.connects,
            unsent_requests: tally.unsent,
            generator: ProcessUse::default(),
            watched: None,
            verification: None,
            note: None,
            fatal: None,
        }
    }

    /// Whether everything went as it should: no error, nothing lost.
    pub fn is_clean(&self) -> bool {
        let verified = self.verification.as_ref().is_none_or(Findings::is_clean);
        self.errors == 0 && self.fatal.is_none() && verified
    }

    /// Name and value of each line, for a table.
    pub fn rows(&self) -> Vec<(String, String)> {
        let mut rows = Vec::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        if let Some(note) = &self.note {
            row("note", note.clone());
        }
        row("time", format!("{:.2} s", self.seconds));
        row("records", grouped(self.records));
        row("records/s", grouped(self.records_per_second as u64));
        row("MB/s", format!("{:.1}", self.mb_per_second));
        if self.record_bytes > 0 {
            row(
                "MB/s of keys and values",
                format!("{:.1}", self.record_mb_per_second),
            );
        }
        row("requests", grouped(self.requests));
        row("requests/s", grouped(self.requests_per_second as u64));
        let latency = &self.latency_ms;
        let quantiles = [
            ("latency p50", latency.p50),
            ("latency p99", latency.p99),
            ("latency p99.9", latency.p999),
            ("latency max", latency.max),
        ];
        for (name, value) in quantiles {
            row(name, format!("{value:.3} ms"));
        }
        row("errors", grouped(self.errors));
        for (kind, count) in &self.errors_by_kind {
            row(&format!("  {kind}"), grouped(*count));
        }
        row("connections made", grouped(self.connects));
        if self.unsent_requests > 0 {
            row(
                "due but not sent",
                format!("{} requests", grouped(self.unsent_requests)),
            );
        }
        self.process_row(&mut row, "generator CPU", &self.generator);
        if let Some(watched) = &self.watched {
            self.process_row(&mut row, "watched CPU", watched);
            row(
                "watched device writes",
                self.device_bytes(watched.device_bytes_written),
            );
            row(
                "watched device reads",
                self.device_bytes(watched.device_bytes_read),
            );
            row(
                "watched sleeps",
                self.per_request(watched.voluntary_switches),
            );
        }
        if let Some(findings) = &self.verification {
            verification_rows(findings, &mut row);
        }
        rows
    }

    fn process_row(&self, row: &mut impl FnMut(&str, String), name: &str, usage: &ProcessUse) {
        let busy = if self.seconds > 0.0 {
            usage.cpu_seconds / self.seconds * 100.0
        } else {
            0.0
        };
        let mut text = format!("{:.2} s, {busy:.0} % of a core", usage.cpu_seconds);
        if self.batch_bytes > 0 {
            let per_gb = usage.cpu_seconds / (self.batch_bytes as f64 / 1e9);
            text += &format!(", {per_gb:.2} s/GB");
        }
        if self.requests > 0 {
            let per_request = usage.cpu_seconds / self.requests as f64 * 1e6;
            text += &format!(", {per_request:.1} us/request");
        }
        row(name, text);
    }

    fn per_request(&self, count: u64) -> String {
        let mut text = grouped(count);
        if self.requests > 0 {
            text += &format!(", {:.2} per request", count as f64 / self.requests as f64);
        }
        text
    }

    fn device_bytes(&self, bytes: u64) -> String {
        let mut text = format!("{:.1} MB", bytes as f64 / 1e6);
        if self.batch_bytes > 0 {
            let per_byte = bytes as f64 / self.batch_bytes as f64;
            text += &format!(", {per_byte:.2} per byte of the load");
        }
        text
    }
}

fn verification_rows(findings: &Findings, row: &mut impl FnMut(&str, String)) {
    row("verification", findings.verdict());
    let counts = [
        ("  records verified", findings.verified),
        ("  lost", findings.lost),
        ("  gaps", findings.gaps),
        ("  duplicated", findings.duplicated),
        ("  reordered", findings.reordered),
        ("  corrupt", findings.corrupt),
        ("  misplaced", findings.misplaced),
        ("  offset breaks", findings.offset_breaks),
        ("  of other runs", findings.foreign),
        ("  not acknowledged", findings.unknown),
    ];
    for (name, count) in counts {
        row(name, grouped(count));
    }
    for example in &findings.examples {
        row("  for example", example.clone());
    }
}

/// A number with thin groups of three digits: `12 345 678`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_from_counts_and_time() {
        let mut tally = Tally {
            records: 500,
            batch_bytes: 4_000_000,
            ..Tally::default()
        };
        tally.answered(Duration::from_millis(3));
        let report = Report::new("produce", &tally, Duration::from_secs(2));
        assert_eq!(report.records_per_second, 250.0);
        assert_eq!(report.mb_per_second, 2.0);
        assert!((report.latency_ms.max - 3.0).abs() < 0.01);
        assert!(report.is_clean());
        assert_eq!(
            Report::new("produce", &tally, Duration::ZERO).records_per_second,
            0.0
        );
    }

    #[test]
    fn an_error_or_a_violation_is_not_clean() {
        let mut tally = Tally::default();
        tally.failed("timeout", 1);
        assert!(!Report::new("produce", &tally, Duration::from_secs(1)).is_clean());
        let mut report = Report::new("consume", &Tally::default(), Duration::from_secs(1));
        report.verification = Some(Findings {
            lost: 1,
            ..Findings::default()
        });
        assert!(!report.is_clean());
    }

    #[test]
    fn digits_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1 000"),
            (1234567, "1 234 567"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }
}
