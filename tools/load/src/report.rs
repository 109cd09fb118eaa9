//! What a load came to: one report, as rows for people, as JSON and CSV for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::seconds::Second;
use crate::sweep::Machine;
use crate::tally::Tally;
use crate::verify::Findings;

/// Latency of requests in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LatencyMs {
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// 99.99th percentile.
    pub p9999: f64,
    /// Slowest.
    pub max: f64,
}

impl LatencyMs {
    /// Of a histogram of nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> LatencyMs {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        LatencyMs {
            mean: histogram.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max() as f64 / 1e6,
        }
    }

    /// Name and value of each figure.
    fn figures(&self) -> [(&'static str, f64); 7] {
        [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("p99.99", self.p9999),
            ("max", self.max),
            ("mean", self.mean),
        ]
    }
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
    /// `produce`, `consume` or `end-to-end`.
    pub mode: &'static str,
    /// What decided when requests were sent.
    #[serde(rename = "loop")]
    pub loop_kind: LoopKind,
    /// Whether the figures are those of the broker: an open loop that the generator could not keep up with is not.
    pub valid: bool,
    /// Why not.
    pub invalid_reasons: Vec<String>,
    /// What else to know about the figures.
    pub warnings: Vec<String>,
    /// Open loop: records per second that were due.
    pub offered_records_per_second: Option<f64>,
    /// Open loop: records answered, of those that were due.
    pub achieved_ratio: Option<f64>,
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
    /// From sending to the answer: what the latency would be if the generator never sent late.
    pub since_sent_ms: LatencyMs,
    /// The last part of it, in which the answer lay in the generator's socket.
    pub answer_lag_ms: LatencyMs,
    /// Open loop: how much later than it could have the generator sent.
    pub send_lag_ms: Option<LatencyMs>,
    /// Open loop: requests that were due before the broker had answered enough earlier ones.
    pub held_back_requests: u64,
    /// From the intended time of a batch to its receipt by a consumer.
    pub end_to_end_ms: Option<LatencyMs>,
    /// Batches received end to end.
    pub end_to_end_batches: u64,
    /// Records that the consumers of an end-to-end load received, older ones included.
    pub consumed_records: u64,
    /// Bytes of the batches they were in.
    pub consumed_bytes: u64,
    /// Assignments that members of a consumer group went through, the first ones included.
    pub rebalances: u64,
    /// Failed requests.
    pub errors: u64,
    /// Failed requests by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Failed requests of the warm-up by kind.
    pub warmup_errors_by_kind: BTreeMap<String, u64>,
    /// Connections made; more than asked for means that some broke.
    pub connects: u64,
    /// Open loop: requests that were due and not sent by the end.
    pub unsent_requests: u64,
    /// Executors of the generator.
    pub generator_cores: u64,
    /// The generator itself.
    pub generator: ProcessUse,
    /// The process that was watched.
    pub watched: Option<ProcessUse>,
    /// What the broker says of these requests, if it was asked.
    pub broker: Option<BrokerTimes>,
    /// The verdict, if records were verified.
    pub verification: Option<Findings>,
    /// Why there is nothing to report, if there is nothing.
    pub note: Option<String>,
    /// Why the load was given up before its end.
    pub fatal: Option<String>,
    /// Second by second, the warm-up included.
    pub intervals: Vec<Interval>,
    /// What was asked for.
    pub parameters: BTreeMap<&'static str, String>,
    /// Version of the generator.
    pub version: &'static str,
    /// Where it ran.
    pub machine: Machine,
}

/// Where a broker's time went, from its own metrics.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BrokerTimes {
    /// The requests it is about, such as `produce acks=all`.
    pub api: String,
    /// How many it answered per second, those of other clients included.
    pub requests_per_second: f64,
    /// Mean time of one.
    pub mean_ms: f64,
    /// That time as a share of the time from sending to the answer: 0 to 1.
    pub share_of_seen: f64,
    /// The same, without the time that answers lay in the generator's socket until it was awake and read them. What
    /// remains are system calls and the network.
    pub share_until_arrival: f64,
    /// The stages it is the sum of, in their order.
    pub stages: Vec<StageTime>,
}

/// A stage of requests.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StageTime {
    /// Its name.
    pub name: String,
    /// Mean over the requests.
    pub mean_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Its part of the broker's time: 0 to 1.
    pub share: f64,
}

impl BrokerTimes {
    /// Name and value of each line.
    fn rows(&self, row: &mut impl FnMut(&str, String)) {
        let (seen, arrived) = (self.share_of_seen * 100.0, self.share_until_arrival * 100.0);
        let mean = self.mean_ms;
        row(
            &format!("broker's {}", self.api),
            format!("mean {mean:.3} ms, {seen:.1} % of the time since sent"),
        );
        row(
            "",
            format!("{arrived:.1} % of the time until the answer was in our socket"),
        );
        for stage in self.stages.iter().filter(|stage| stage.mean_ms > 0.0) {
            let (mean, p99, share) = (stage.mean_ms, stage.p99_ms, stage.share * 100.0);
            row(
                &format!("  {}", stage.name),
                format!("mean {mean:.3} ms, p99 {p99:.3} ms, {share:.1} %"),
            );
        }
    }
}

/// One second of a load.
#[derive(Clone, Debug, Serialize)]
pub struct Interval {
    /// Its number since sending began.
    pub second: u64,
    /// Whether it belongs to the warm-up.
    pub warmup: bool,
    /// Records.
    pub records: u64,
    /// Bytes of record batches.
    pub batch_bytes: u64,
    /// Failed requests.
    pub errors: u64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Slowest.
    pub max_ms: f64,
}

impl Interval {
    /// Of what all cores counted.
    pub fn of(second: &Second) -> Interval {
        let tally = &second.tally;
        Interval {
            second: second.number,
            warmup: second.warming,
            records: tally.records,
            batch_bytes: tally.batch_bytes,
            errors: tally.error_count(),
            p50_ms: tally.latency_ms(0.5),
            p99_ms: tally.latency_ms(0.99),
            max_ms: tally.latency.max() as f64 / 1e6,
        }
    }
}

/// What decides when requests are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoopKind {
    /// The answers: as fast as possible. A pause of the broker pauses the load too, so latency says little about it.
    #[default]
    Closed,
    /// A schedule: latency counts from when requests were due.
    Open,
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
        let some =
            |histogram: &Histogram<u64>| (!histogram.is_empty()).then(|| LatencyMs::of(histogram));
        Report {
            mode,
            loop_kind: LoopKind::Closed,
            valid: true,
            invalid_reasons: Vec::new(),
            warnings: Vec::new(),
            offered_records_per_second: None,
            achieved_ratio: None,
            seconds,
            records: tally.records,
            records_per_second: rate(tally.records),
            batch_bytes: tally.batch_bytes,
            mb_per_second: rate(tally.batch_bytes) / 1e6,
            record_bytes: tally.record_bytes,
            record_mb_per_second: rate(tally.record_bytes) / 1e6,
            requests: tally.requests,
            requests_per_second: rate(tally.requests),
            latency_ms: LatencyMs::of(&tally.latency),
            since_sent_ms: LatencyMs::of(&tally.since_sent),
            answer_lag_ms: LatencyMs::of(&tally.answer_lag),
            send_lag_ms: some(&tally.send_lag),
            held_back_requests: tally.held_back,
            end_to_end_ms: some(&tally.end_to_end),
            end_to_end_batches: tally.end_to_end.len(),
            consumed_records: 0,
            consumed_bytes: 0,
            rebalances: tally.rebalances,
            warmup_errors_by_kind: tally.warmup_errors.clone(),
            errors: tally.error_count(),
            errors_by_kind: tally.errors.clone(),
            connects: tally.connects,
            unsent_requests: tally.unsent,
            generator_cores: 1,
            generator: ProcessUse::default(),
            watched: None,
            broker: None,
            verification: None,
            note: None,
            fatal: None,
            intervals: Vec::new(),
            parameters: BTreeMap::new(),
            version: env!("CARGO_PKG_VERSION"),
            machine: Machine::here(),
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
        self.loop_rows(&mut row);
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
        latency_rows("latency", Some(&self.latency_ms), &mut row);
        latency_rows("end to end", self.end_to_end_ms.as_ref(), &mut row);
        if self.loop_kind == LoopKind::Open {
            let LatencyMs { mean, p50, p99, .. } = self.since_sent_ms;
            let text = format!("p50 {p50:.3} ms, p99 {p99:.3} ms, mean {mean:.3} ms");
            row("since sent", text);
            let LatencyMs { mean, p50, p99, .. } = self.answer_lag_ms;
            let text = format!("p50 {p50:.3} ms, p99 {p99:.3} ms, mean {mean:.3} ms");
            row("answer lag", text);
        }
        if let Some(lag) = &self.send_lag_ms {
            row(
                "send lag",
                format!("p99 {:.3} ms, max {:.3} ms", lag.p99, lag.max),
            );
        }
        if self.consumed_records > 0 {
            let rate = self.consumed_bytes as f64 / 1e6 / self.seconds.max(1e-9);
            let records = grouped(self.consumed_records);
            row("received", format!("{records} records, {rate:.1} MB/s"));
        }
        if self.rebalances > 0 {
            row("group assignments", grouped(self.rebalances));
        }
        self.trouble_rows(&mut row);
        self.use_rows(&mut row);
        if let Some(broker) = &self.broker {
            broker.rows(&mut row);
        }
        if let Some(findings) = &self.verification {
            verification_rows(findings, &mut row);
        }
        rows
    }

    /// What failed, waited or was left over.
    fn trouble_rows(&self, row: &mut impl FnMut(&str, String)) {
        row("errors", grouped(self.errors));
        for (kind, count) in &self.errors_by_kind {
            row(&format!("  {kind}"), grouped(*count));
        }
        for (kind, count) in &self.warmup_errors_by_kind {
            row(&format!("  {kind}, in the warm-up"), grouped(*count));
        }
        row("connections made", grouped(self.connects));
        if self.held_back_requests > 0 {
            row(
                "waited for the broker",
                format!("{} requests", grouped(self.held_back_requests)),
            );
        }
        if self.unsent_requests > 0 {
            row(
                "due but not sent",
                format!("{} requests", grouped(self.unsent_requests)),
            );
        }
    }

    /// What the processes used.
    fn use_rows(&self, row: &mut impl FnMut(&str, String)) {
        self.process_row(row, "generator CPU", &self.generator);
        if let Some(watched) = &self.watched {
            self.process_row(row, "watched CPU", watched);
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
    }

    fn loop_rows(&self, row: &mut impl FnMut(&str, String)) {
        if self.mode == "consume" {
            return;
        }
        match (self.loop_kind, self.offered_records_per_second) {
            (LoopKind::Open, Some(offered)) => {
                row(
                    "loop",
                    "open: latency counts from the intended time".to_owned(),
                );
                row("offered", format!("{} records/s", grouped(offered as u64)));
                let ratio = self.achieved_ratio.unwrap_or(0.0) * 100.0;
                row("achieved", format!("{ratio:.2} % of that"));
                let valid = if self.valid { "yes" } else { "no" };
                row("valid", valid.to_owned());
            }
            _ => row("loop", "closed: as fast as answers come".to_owned()),
        }
        for reason in &self.invalid_reasons {
            row("  because", reason.clone());
        }
        for warning in &self.warnings {
            row("  beware", warning.clone());
        }
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

    /// Names of the values of [`Report::csv_row`].
    pub fn csv_header() -> String {
        "mode,loop,valid,offered_records_per_second,achieved_ratio,seconds,records,records_per_second,batch_bytes,\
         mb_per_second,requests,requests_per_second,latency_p50_ms,latency_p90_ms,latency_p99_ms,latency_p99.9_ms,\
         latency_p99.99_ms,latency_max_ms,latency_mean_ms,end_to_end_p50_ms,end_to_end_p90_ms,end_to_end_p99_ms,\
         end_to_end_p99.9_ms,end_to_end_p99.99_ms,end_to_end_max_ms,end_to_end_mean_ms,send_lag_p99_ms,\
         held_back_requests,unsent_requests,errors,connects,generator_cpu_seconds,watched_cpu_seconds"
            .to_owned()
    }

    /// One line of CSV; values that do not exist are empty.
    pub fn csv_row(&self) -> String {
        let optional = |value: Option<f64>| value.map_or(String::new(), |v| format!("{v:.4}"));
        let kind = match self.loop_kind {
            LoopKind::Closed => "closed",
            LoopKind::Open => "open",
        };
        let mut values = vec![
            self.mode.to_owned(),
            kind.to_owned(),
            self.valid.to_string(),
            optional(self.offered_records_per_second),
            optional(self.achieved_ratio),
            format!("{:.3}", self.seconds),
            self.records.to_string(),
            format!("{:.1}", self.records_per_second),
            self.batch_bytes.to_string(),
            format!("{:.3}", self.mb_per_second),
            self.requests.to_string(),
            format!("{:.1}", self.requests_per_second),
        ];
        values.extend(self.latency_ms.figures().map(|(_, v)| format!("{v:.4}")));
        match &self.end_to_end_ms {
            Some(latency) => values.extend(latency.figures().map(|(_, v)| format!("{v:.4}"))),
            None => values.extend(std::iter::repeat_n(String::new(), 7)),
        }
        values.extend([
            optional(self.send_lag_ms.as_ref().map(|lag| lag.p99)),
            self.held_back_requests.to_string(),
            self.unsent_requests.to_string(),
            self.errors.to_string(),
            self.connects.to_string(),
            optional(Some(self.generator.cpu_seconds)),
            optional(self.watched.map(|watched| watched.cpu_seconds)),
        ]);
        values.join(",")
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

fn latency_rows(name: &str, latency: Option<&LatencyMs>, row: &mut impl FnMut(&str, String)) {
    for (figure, value) in latency.iter().flat_map(|l| l.figures()) {
        row(&format!("{name} {figure}"), format!("{value:.3} ms"));
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
        ("  not read back", findings.unread),
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
    fn csv_rows_have_as_many_values_as_the_header_has_names() {
        let mut tally = Tally::default();
        let plain = Report::new("produce", &tally, Duration::from_secs(1));
        tally.received(Duration::from_millis(1));
        tally.sent(Duration::ZERO, false);
        let full = Report::new("end-to-end", &tally, Duration::from_secs(1));
        let names = Report::csv_header().split(',').count();
        for report in [plain, full] {
            assert_eq!(report.csv_row().split(',').count(), names);
        }
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
