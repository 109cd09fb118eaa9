//! The arguments of Kafka's `kafka-producer-perf-test`, and its output, so that scripts made for it go on working.
//!
//! Source: `ProducerPerformance` of Apache Kafka 4.3.1. What it does not have in common: batches are full at once without
//! a throughput limit, so `linger.ms` matters only with one, and latency never includes waiting in the producer's memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use client::{Acks, NewTopic};
use load::seconds::Second;
use load::{Limit, Payload, ProduceWorkload, Report, Tally};
use model::record::Compression;

use super::perf_payload as payload;
use super::run::{Runner, ensure_topics, run_produce_counted};
use super::values::setting;
use crate::commands::CommandError;
use crate::commands::table::print_table;
use crate::configuration::read_file;
use crate::interrupt::Interrupt;
use crate::profiles::bootstrap;
use crate::stdio::{noteln, outln};
use crate::variables;

/// The setting that names the broker.
const BOOTSTRAP_SERVERS: &str = "bootstrap.servers";
const TRANSACTIONAL_ID: &str = "transactional.id";
const MIB: f64 = 1024.0 * 1024.0;

/// Arguments of `ringlog load producer-perf-test`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("payload").required(true).args(["record_size", "payload_file", "payload_monotonic"]))]
pub struct PerfTestArgs {
    /// Topic to send to.
    #[arg(long)]
    topic: String,
    /// How many records.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) num_records: u64,
    /// Bytes of each record. Exactly one of this, --payload-file and --payload-monotonic is to be given.
    #[arg(long)]
    pub(super) record_size: Option<usize>,
    /// File of texts; each record is one of them, drawn.
    #[arg(long, value_name = "FILE")]
    pub(super) payload_file: Option<PathBuf>,
    /// What stands between the texts: itself, no regular expression; \n, \r, \t and \\ are known.
    #[arg(long, default_value = "\\n", value_name = "TEXT")]
    pub(super) payload_delimiter: String,
    /// Records are the numbers from 0 on, as text.
    #[arg(long)]
    pub(super) payload_monotonic: bool,
    /// Records per second; -1 for as fast as possible.
    #[arg(long, allow_negative_numbers = true)]
    throughput: f64,
    /// Settings of the producer: NAME=VALUE, several with spaces between them.
    #[arg(long, visible_alias = "command-property", num_args = 1.., value_parser = setting, value_name = "NAME=VALUE")]
    producer_props: Vec<(String, String)>,
    /// File with settings of the producer.
    #[arg(
        long = "producer.config",
        visible_alias = "command-config",
        value_name = "FILE"
    )]
    producer_config: Option<PathBuf>,
    /// The broker; wins over what the settings say.
    #[arg(long, value_parser = bootstrap, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// Print the whole report of this generator at the end.
    #[arg(long)]
    print_metrics: bool,
    /// Records sent before the steady state, which is summed up once more by itself.
    #[arg(long, default_value_t = 0)]
    warmup_records: u64,
    /// Milliseconds between two lines about the progress; whole seconds.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..), value_name = "MS")]
    reporting_interval: u64,
    /// Not there: this generator has no transactions.
    #[arg(long)]
    transactional_id: Option<String>,
    /// Not there: this generator has no transactions.
    #[arg(long, value_name = "MS")]
    transaction_duration_ms: Option<u64>,
}

/// Runs the test.
pub fn run(args: &PerfTestArgs, interrupt: &Interrupt) -> Result<(), CommandError> {
    if args.warmup_records >= args.num_records {
        return Err(CommandError::Usage(
            "--warmup-records must be fewer than --num-records".to_owned(),
        ));
    }
    let properties = properties(args)?;
    refuse_transactions(args, &properties).map_err(CommandError::Usage)?;
    let payload = payload::read(args)?;
    let (workload, ignored) = map(args, payload, properties).map_err(CommandError::Usage)?;
    if !ignored.is_empty() {
        noteln!(
            "ringlog: these settings have no counterpart and are ignored: {}",
            ignored.join(", ")
        );
    }
    if !args.reporting_interval.is_multiple_of(1000) {
        noteln!(
            "ringlog: --reporting-interval {} is taken as {} s: progress is counted by the second",
            args.reporting_interval,
            report_seconds(args.reporting_interval)
        );
    }
    workload
        .validate()
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    let new = NewTopic {
        name: args.topic.clone(),
        partitions: -1,
        replication_factor: -1,
        configs: Vec::new(),
    };
    ensure_topics(&workload.bootstrap, vec![new])?;
    measure(args, &workload, interrupt)
}

/// Settings of the file, then of the command line, then the broker that is named by itself.
fn properties(args: &PerfTestArgs) -> Result<BTreeMap<String, String>, CommandError> {
    let mut properties = match &args.producer_config {
        Some(path) => read_file(path)?.1.settings,
        None => BTreeMap::new(),
    };
    properties.extend(args.producer_props.iter().cloned());
    if let Some(server) = &args.bootstrap_server {
        properties.insert(BOOTSTRAP_SERVERS.to_owned(), server.clone());
    }
    if !properties.contains_key(BOOTSTRAP_SERVERS)
        && let Some(text) = variables::text(variables::BOOTSTRAP)
    {
        let server = bootstrap(&text).map_err(CommandError::Usage)?;
        properties.insert(BOOTSTRAP_SERVERS.to_owned(), server);
    }
    Ok(properties)
}

/// A test that asks for transactions and gets none would measure something else.
fn refuse_transactions(
    args: &PerfTestArgs,
    properties: &BTreeMap<String, String>,
) -> Result<(), String> {
    let asked = [
        ("--transactional-id", args.transactional_id.is_some()),
        (
            "--transaction-duration-ms",
            args.transaction_duration_ms.is_some(),
        ),
        (TRANSACTIONAL_ID, properties.contains_key(TRANSACTIONAL_ID)),
    ];
    match asked.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((name, _)) => Err(format!(
            "{name}: this generator has no transactions; leave it out to measure without them"
        )),
    }
}

/// Seconds that one progress line covers.
fn report_seconds(interval_ms: u64) -> u64 {
    interval_ms.div_ceil(1000)
}

/// Runs the records of the warm-up, then the others, and sums up.
fn measure(
    args: &PerfTestArgs,
    workload: &ProduceWorkload,
    interrupt: &Interrupt,
) -> Result<(), CommandError> {
    let runner = Runner {
        cpus: vec![None],
        watch_pid: None,
        progress: false,
        interrupt: interrupt.clone(),
    };
    let part = |first, records| {
        let workload = ProduceWorkload {
            limit: Limit {
                records: Some(records),
                duration: None,
            },
            payload: match &workload.payload {
                Payload::Numbers { .. } => Payload::Numbers { first },
                other => other.clone(),
            },
            ..workload.clone()
        };
        let mut lines = Lines::new(report_seconds(args.reporting_interval));
        let counted = run_produce_counted(&workload, &runner, &mut |second| {
            lines.add(second);
            if lines.outcome.is_err() {
                // Nobody will read the rest either.
                runner.interrupt.set();
            }
        })?;
        lines.outcome?;
        // An interrupted test is summed up as far as it came.
        if !runner.interrupt.is_set() {
            fail_on_errors(&counted.0)?;
        }
        Ok::<(Report, Tally), CommandError>(counted)
    };
    if args.warmup_records == 0 {
        let (report, tally) = part(0, args.num_records)?;
        outln!("{}", total("", &tally, report.seconds))?;
        return print_metrics(args, &report);
    }
    outln!(
        "Warmup first {} records. Steady state results will print after the complete test summary.",
        args.warmup_records
    )?;
    let warm = part(0, args.warmup_records)?;
    let steady = part(args.warmup_records, args.num_records - args.warmup_records)?;
    let mut all = warm.1;
    all.merge(&steady.1);
    let seconds = warm.0.seconds + steady.0.seconds;
    outln!("{}", total("", &all, seconds))?;
    outln!("{}", total(" steady state", &steady.1, steady.0.seconds))?;
    print_metrics(args, &steady.0)
}

fn fail_on_errors(report: &Report) -> Result<(), CommandError> {
    if let Some(fatal) = &report.fatal {
        return Err(CommandError::Failed(format!("given up: {fatal}")));
    }
    if report.errors > 0 {
        return Err(CommandError::Failed(format!(
            "{} requests failed: {:?}",
            report.errors, report.errors_by_kind
        )));
    }
    Ok(())
}

fn print_metrics(args: &PerfTestArgs, report: &Report) -> Result<(), CommandError> {
    if !args.print_metrics {
        return Ok(());
    }
    let rows = report.rows().into_iter();
    let rows = rows.map(|(name, value)| vec![name, value]);
    print_table(&["metric", "value"], rows.collect(), &[])
}

/// The lines that appear while the test runs.
struct Lines {
    tally: Tally,
    length: Duration,
    seconds: u64,
    /// Seconds of a line.
    line_seconds: u64,
    /// Whether they could be printed.
    outcome: Result<(), CommandError>,
}

impl Lines {
    fn new(line_seconds: u64) -> Lines {
        Lines {
            tally: Tally::default(),
            length: Duration::ZERO,
            seconds: 0,
            line_seconds,
            outcome: Ok(()),
        }
    }

    /// Counts a second, and prints a line when there are enough of them. Once one cannot be printed, no more are.
    fn add(&mut self, second: &Second) {
        self.tally.merge(&second.tally);
        self.length += second.length;
        self.seconds += 1;
        if self.seconds < self.line_seconds {
            return;
        }
        if self.tally.records > 0 && self.outcome.is_ok() {
            self.outcome = outln!("{}", window(&self.tally, self.length.as_secs_f64()));
        }
        (self.tally, self.length, self.seconds) = (Tally::default(), Duration::ZERO, 0);
    }
}

/// `5000 records sent, 1000.0 records/sec (0.95 MB/sec), 2.1 ms avg latency, 9.0 ms max latency.`
fn window(tally: &Tally, seconds: f64) -> String {
    let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    format!(
        "{} records sent, {:.1} records/sec ({:.2} MB/sec), {:.1} ms avg latency, {:.1} ms max latency.",
        tally.records,
        per_second(tally.records as f64),
        per_second(tally.record_bytes as f64) / MIB,
        tally.latency.mean() / 1e6,
        tally.latency.max() as f64 / 1e6,
    )
}

/// The last line. Kafka prints whole milliseconds for percentiles.
fn total(kind: &str, tally: &Tally, seconds: f64) -> String {
    let per_second = |count: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    let at = |quantile| tally.latency_ms(quantile).round() as u64;
    format!(
        "{}{kind} records sent, {:.6} records/sec ({:.2} MB/sec), {:.2} ms avg latency, {:.2} ms max latency, \
         {} ms 50th, {} ms 95th, {} ms 99th, {} ms 99.9th.",
        tally.records,
        per_second(tally.records as f64),
        per_second(tally.record_bytes as f64) / MIB,
        tally.latency.mean() / 1e6,
        tally.latency.max() as f64 / 1e6,
        at(0.5),
        at(0.95),
        at(0.99),
        at(0.999),
    )
}

/// The workload that these settings describe, with Kafka's defaults, and the settings that nothing stands for.
fn map(
    args: &PerfTestArgs,
    payload: Payload,
    mut properties: BTreeMap<String, String>,
) -> Result<(ProduceWorkload, Vec<String>), String> {
    let mut take = |name: &str| properties.remove(name);
    let bootstrap = take(BOOTSTRAP_SERVERS)
        .ok_or("the broker is not named: --producer-props bootstrap.servers=HOST:PORT")?;
    let acks = match take("acks").as_deref() {
        None | Some("all" | "-1") => Acks::All,
        Some("1") => Acks::Leader,
        Some("0") => Acks::None,
        Some(other) => return Err(format!("acks={other}: expected all, -1, 0 or 1")),
    };
    let linger = number(take("linger.ms"), "linger.ms", 5)?;
    let batch = number(take("batch.size"), "batch.size", 16_384)?;
    let in_flight = "max.in.flight.requests.per.connection";
    let in_flight = number(take(in_flight), in_flight, 5)?;
    let compression = take("compression.type").unwrap_or_else(|| "none".to_owned());
    let compression = Compression::from_name(&compression)
        .ok_or_else(|| format!("compression.type={compression} is not known"))?;
    let idempotent = match take("enable.idempotence").as_deref() {
        None => acks == Acks::All && in_flight <= 5,
        Some("true") => true,
        Some("false") => false,
        Some(other) => {
            return Err(format!(
                "enable.idempotence={other}: expected true or false"
            ));
        }
    };
    let timeout = number(take("request.timeout.ms"), "request.timeout.ms", 30_000)?;
    let client_id = take("client.id").unwrap_or_else(|| "perf-producer-client".to_owned());
    let rate = (args.throughput > 0.0).then_some(args.throughput.ceil() as u64);
    let whole = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let workload = ProduceWorkload {
        bootstrap,
        topic: args.topic.clone(),
        record_sizes: payload::sizes(args, &payload),
        compressibility: 0.0,
        batch: payload::batch(&payload, whole(batch)),
        payload,
        linger: rate.map(|_| Duration::from_millis(linger)),
        connections: 1,
        in_flight: whole(in_flight),
        acks,
        compression,
        rate,
        limit: Limit {
            records: Some(args.num_records),
            duration: None,
        },
        idempotent,
        client_id,
        request_timeout: Duration::from_millis(timeout),
        ..ProduceWorkload::default()
    };
    Ok((workload, properties.into_keys().collect()))
}

fn number(value: Option<String>, name: &str, default: u64) -> Result<u64, String> {
    match value {
        None => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| format!("{name}={text}: expected a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use load::BatchSize;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: PerfTestArgs,
    }

    fn mapped(line: &str) -> Result<(ProduceWorkload, Vec<String>), String> {
        let words = std::iter::once("test").chain(line.split_ascii_whitespace());
        let args = Command::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .args;
        let properties = properties(&args).map_err(|error| error.to_string())?;
        refuse_transactions(&args, &properties)?;
        let payload = payload::read(&args).map_err(|error| error.to_string())?;
        map(&args, payload, properties)
    }

    #[test]
    fn settings_of_scripts_are_understood_and_unknown_ones_named() {
        let (workload, ignored) = mapped(
            "--topic t --num-records 1000 --record-size 100 --throughput -1 --producer-props bootstrap.servers=a:1 \
             acks=1 linger.ms=10 batch.size=65536 compression.type=lz4 client.id=me buffer.memory=1 \
             max.in.flight.requests.per.connection=3",
        )
        .unwrap();
        assert_eq!(ignored, ["buffer.memory"]);
        assert_eq!(workload.bootstrap, "a:1");
        assert_eq!(workload.acks, Acks::Leader);
        assert_eq!(workload.batch, BatchSize::Bytes(65_536));
        assert_eq!((workload.in_flight, workload.linger), (3, None));
        assert_eq!(workload.client_id, "me");
        assert!(!workload.idempotent);
        workload.validate().unwrap();
    }

    #[test]
    fn defaults_are_those_of_kafka_and_a_throughput_is_an_open_loop() {
        let (workload, _) = mapped(
            "--topic t --num-records 7 --record-size 100 --throughput 500 --producer-props bootstrap.servers=a:1",
        )
        .unwrap();
        assert_eq!(workload.rate, Some(500));
        assert_eq!(workload.linger, Some(Duration::from_millis(5)));
        assert_eq!(workload.batch, BatchSize::Bytes(16_384));
        assert!(workload.idempotent);
        workload.validate().unwrap();
        for line in [
            "--topic t --num-records 7 --record-size 100 --throughput 500",
            "--topic t --num-records 7 --throughput 500 --producer-props bootstrap.servers=a:1",
            "--topic t --num-records 7 --record-size 1 --throughput 5 --producer-props bootstrap.servers=a:1 acks=2",
            "--topic t --num-records 7 --record-size 1 --payload-monotonic --throughput 5 --bootstrap-server a:1",
            "--topic t --num-records 0 --record-size 1 --throughput 5 --bootstrap-server a:1",
            "--topic t --num-records 7 --payload-file /nonexistent/x --throughput 5 --bootstrap-server a:1",
            "--topic t --num-records 7 --record-size 1 --throughput 5 --bootstrap-server a:1 --reporting-interval 0",
        ] {
            assert!(mapped(line).is_err(), "{line}");
        }
    }

    /// What `kafka-producer-perf-test --help` of 4.3.1 lists.
    #[test]
    fn every_flag_of_kafkas_tool_is_known() {
        let command = <Command as clap::CommandFactory>::command();
        let known: Vec<&str> = command
            .get_arguments()
            .flat_map(|argument| {
                let aliases = argument.get_all_aliases().unwrap_or_default();
                argument.get_long().into_iter().chain(aliases)
            })
            .collect();
        let flags = "bootstrap-server topic num-records payload-delimiter throughput producer-props command-property \
                     producer.config command-config print-metrics transactional-id transaction-duration-ms \
                     warmup-records reporting-interval record-size payload-file payload-monotonic";
        for flag in flags.split_ascii_whitespace() {
            assert!(known.contains(&flag), "--{flag} is not known: {known:?}");
        }
    }

    #[test]
    fn what_would_measure_something_else_is_refused_by_name() {
        let line =
            "--topic t --num-records 7 --record-size 1 --throughput 5 --bootstrap-server a:1";
        for (more, name) in [
            ("--transactional-id x", "--transactional-id"),
            ("--transaction-duration-ms 100", "--transaction-duration-ms"),
            ("--command-property transactional.id=x", "transactional.id"),
        ] {
            let error = mapped(&format!("{line} {more}")).unwrap_err();
            assert!(error.starts_with(&format!("{name}: ")), "{error}");
        }
        mapped(line).unwrap();
    }

    #[test]
    fn numbers_as_payloads_fit_the_batch_size() {
        let (workload, _) = mapped(
            "--topic t --num-records 1000 --payload-monotonic --throughput -1 --bootstrap-server a:1",
        )
        .unwrap();
        assert_eq!(workload.payload, Payload::Numbers { first: 0 });
        assert_eq!(workload.batch, BatchSize::Bytes(16_384));
        // Three digits, and what a record takes besides.
        assert_eq!(
            workload.records_per_batch_exact(),
            Some((16_384 - 61) / (3 + 12))
        );
        workload.validate().unwrap();
    }

    #[test]
    fn intervals_are_whole_seconds() {
        for (ms, seconds) in [(1, 1), (1000, 1), (1001, 2), (5000, 5)] {
            assert_eq!(report_seconds(ms), seconds);
        }
    }

    #[test]
    fn lines_look_like_those_of_kafka() {
        let mut tally = Tally {
            records: 5000,
            record_bytes: 5000 * 1024,
            ..Tally::default()
        };
        for _ in 0..100 {
            tally.answered(Duration::from_millis(2));
        }
        tally.answered(Duration::from_millis(40));
        assert_eq!(
            window(&tally, 5.0),
            "5000 records sent, 1000.0 records/sec (0.98 MB/sec), 2.4 ms avg latency, 40.0 ms max latency."
        );
        assert_eq!(
            total(" steady state", &tally, 5.0),
            "5000 steady state records sent, 1000.000000 records/sec (0.98 MB/sec), 2.38 ms avg latency, 40.01 ms max \
             latency, 2 ms 50th, 2 ms 95th, 2 ms 99th, 40 ms 99.9th."
        );
    }
}
