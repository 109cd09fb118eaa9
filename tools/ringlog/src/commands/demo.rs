//! `ringlog demo`: a broker on embedded defaults, loaded for some seconds, read back and verified.

use std::time::Instant;

use ::load::Report;
use ::load::report::grouped;
use ::load::verify::Findings;
use clap::Parser;

use super::broker::{self, BrokerArgs};
use super::{CommandError, load};
use crate::node::Node;

/// The demo's topic. Each run stamps its records, so it verifies its own among those of earlier runs.
const TOPIC: &str = "ringlog-demo";

/// Arguments of `ringlog demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End after the report instead of leaving the broker running until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// How long to load the broker
    #[arg(long, default_value = "3s", value_name = "TIME")]
    duration: String,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// The load command's arguments, parsed as if they stood on the command line.
#[derive(Debug, Parser)]
struct LoadCommand {
    #[command(flatten)]
    args: load::LoadArgs,
}

/// Runs the demo.
pub fn run(args: DemoArgs) -> Result<(), CommandError> {
    let start = Instant::now();
    let config = args.broker.to_config()?;
    let signals = broker::signals()?;
    let node = Node::start(config)?;
    broker::announce(&node);
    let bootstrap = node.address.to_string();
    let shown = show(&bootstrap, &args.duration, start);
    if shown.is_err() || args.exit {
        node.stop()?;
        return shown;
    }
    println!(
        "\nThe broker is running on {bootstrap}: point any Kafka client at it. Try
    ringlog topic list --bootstrap {bootstrap}
    ringlog load consume --topic {TOPIC} --bootstrap {bootstrap}
Ctrl-C ends it; the data stays in {}.",
        node.data_dir.display()
    );
    broker::serve(node, signals)
}

/// Loads the broker and says what came of it.
fn show(bootstrap: &str, duration: &str, start: Instant) -> Result<(), CommandError> {
    let one = ["--records", "1", "--batch-records", "1"];
    checked(load(
        bootstrap,
        &[&one[..], &["--connections", "1"]].concat(),
    )?)?;
    println!(
        "\nFirst record acknowledged, and on the device, {} ms after the start.",
        start.elapsed().as_millis()
    );
    println!(
        "Now two loads of {duration} each, every request acknowledged from the device (acks=all):\n"
    );

    let batches = [
        "--batch-records",
        "64",
        "--record-bytes",
        "1024",
        "--verify",
    ];
    let report = load(
        bootstrap,
        &[&batches[..], &["--duration", duration]].concat(),
    )?;
    print_load("64 records of 1 KiB per request", &report);
    if let Some(findings) = &report.verification {
        print_findings(findings);
    }
    checked(report)?;

    let single = ["--batch-records", "1", "--record-bytes", "200"];
    let report = load(
        bootstrap,
        &[&single[..], &["--connections", "8", "--duration", duration]].concat(),
    )?;
    print_load("one record of 200 bytes per request", &report);
    checked(report)
}

fn print_load(what: &str, report: &Report) {
    let latency = &report.latency_ms;
    println!(
        "  {what}\n    throughput  {} records/s, {:.1} MB/s\n    latency     p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        grouped(report.records_per_second as u64),
        report.mb_per_second,
        latency.p50,
        latency.p99,
        latency.max,
    );
}

fn print_findings(findings: &Findings) {
    println!(
        "    read back   {} records verified: {}",
        grouped(findings.verified),
        if findings.is_clean() {
            "none lost, none twice, none out of order, none changed".to_owned()
        } else {
            findings.verdict()
        }
    );
    for example in &findings.examples {
        println!("      {example}");
    }
}

/// An error if a load did not go well.
fn checked(report: Report) -> Result<(), CommandError> {
    if report.is_clean() && report.requests > 0 {
        return Ok(());
    }
    let reason = report.fatal.unwrap_or_else(|| {
        let kinds: Vec<String> = report
            .errors_by_kind
            .iter()
            .map(|(kind, count)| format!("{count} x {kind}"))
            .collect();
        match kinds.is_empty() {
            true => "what was read back is not what was acknowledged".to_owned(),
            false => kinds.join(", "),
        }
    });
    Err(CommandError::Failed(format!(
        "the demo did not go well: {reason}"
    )))
}

fn load(bootstrap: &str, arguments: &[&str]) -> Result<Report, CommandError> {
    let fixed = [
        "load",
        "produce",
        "--bootstrap",
        bootstrap,
        "--topic",
        TOPIC,
    ];
    let line = fixed.iter().chain(arguments);
    let command = LoadCommand::try_parse_from(line)
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    load::produce_report(command.args)
}
