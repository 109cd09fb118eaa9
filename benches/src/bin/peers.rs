//! `peers`: Apache Kafka and Ringlog under the same loads, in paired order. What is compared: benches/peers/README.md.

// A program that measures: it writes its report.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ringlog_benches::drive::{DriveError, JAVA_OPTIONS, Kafka, Rig, RigOptions, Stop};
use ringlog_benches::peers::{Entry, Journal, Machine, Plan, PlanOptions, perform, report};
use ringlog_benches::workloads::Workload;

/// Load before Kafka's first window, and in a quick run: the compiler of one core is busy for half a minute.
const WARMUP_SECONDS: [u64; 2] = [30, 3];
const RESULTS: &str = "RESULTS.md";
const RAW: &str = "results.jsonl";

/// Compares Ringlog with Apache Kafka on this machine and writes the report.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only the workload of that name, or all that have it in their names.
    #[arg(long, value_name = "ROW")]
    only: Option<String>,
    /// Lists the workloads.
    #[arg(long)]
    list: bool,
    /// Rounds; in each, either broker runs once. The order alternates: A-B-B-A.
    #[arg(long, default_value_t = 2)]
    pairs: usize,
    /// Directory with Kafka's jars. [default: fetched with Maven into the user's cache, once]
    #[arg(long, value_name = "DIR")]
    kafka_libs: Option<PathBuf>,
    /// Options of Kafka's virtual machine.
    #[arg(long, default_value = JAVA_OPTIONS, allow_hyphen_values = true)]
    java_options: String,
    /// Seconds of load before a broker's first window. [default: 30, or 3 with --quick]
    #[arg(long, value_name = "SECONDS")]
    warmup: Option<u64>,
    /// Kafka also does what only Ringlog is asked to do: 24,000 partitions.
    #[arg(long)]
    kafka_everywhere: bool,
    /// Without the limits of the machine.
    #[arg(long)]
    no_limits: bool,
    /// Where the report and the raw results go. [default: benches/peers; target/peers with --only or --quick]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Continue what is in the output directory.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    rig: RigOptions,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), DriveError> {
    let mut workloads = Workload::chosen(arguments.only.as_deref());
    workloads.retain(|workload| workload.contest.group().is_some());
    if arguments.list || workloads.is_empty() {
        for workload in Workload::chosen(None) {
            if workload.contest.group().is_some() {
                println!("{:<17} {}", workload.name, workload.what);
            }
        }
        return Ok(());
    }
    let stop = Stop::on_signals()?;
    let kafka = Kafka::locate(
        arguments.kafka_libs.as_deref(),
        &arguments.java_options,
        &stop,
    )?;
    let rig = Rig::new(&arguments.rig, stop)?.with_kafka(kafka);
    let warmup = WARMUP_SECONDS[usize::from(rig.quick)];
    let warmup = Duration::from_secs(arguments.warmup.unwrap_or(warmup));
    let output = output(arguments);
    std::fs::create_dir_all(&output).map_err(DriveError::io(output.display().to_string()))?;
    let mut journal = Journal::open(&output.join(RAW), arguments.resume)?;
    let machine = Machine::here(&rig, &arguments.java_options, warmup.as_secs_f64());
    journal.append(Entry::Run(machine))?;
    let plan = Plan::new(&PlanOptions {
        pairs: arguments.pairs,
        workloads,
        kafka_everywhere: arguments.kafka_everywhere,
        limits: !arguments.no_limits,
    });
    let performed = perform(&rig, &plan, warmup, &mut journal);
    // Whatever was measured is reported, even if a person ended it.
    let path = output.join(RESULTS);
    std::fs::write(&path, report(&journal, &command()))
        .map_err(DriveError::io(path.display().to_string()))?;
    println!("report: {}", path.display());
    performed
}

/// The report of a part does not take the place of the whole one.
fn output(arguments: &Arguments) -> PathBuf {
    let is_part = arguments.only.is_some() || arguments.rig.quick;
    let default = if is_part {
        "target/peers"
    } else {
        "benches/peers"
    };
    let given = arguments.output.as_deref();
    given.unwrap_or(Path::new(default)).to_owned()
}

/// What was asked for, without the places of this machine.
fn command() -> String {
    let mut words = vec!["cargo run --release -p ringlog-benches --bin peers --".to_owned()];
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        match word.as_str() {
            "--kafka-libs" | "--output" | "--work-dir" | "--ringlog" => drop(arguments.next()),
            _ if word.contains('/') => {}
            _ => words.push(word),
        }
    }
    words.join(" ").trim_end_matches(" --").to_owned()
}
