//! `ringlog demo`: a broker on embedded defaults, loaded for some seconds, read back and verified.

use std::time::{Duration, Instant};

use ::load::Report;
use ::load::report::grouped;
use ::load::verify::Findings;
use clap::Parser;
use serde::Serialize;

use super::broker::{self, BrokerArgs};
use super::table::{Format, print_json};
use super::{CommandError, load};
use crate::interrupt::Interrupt;
use crate::node::Node;
use crate::quantity::{duration, written};
use crate::stdio::outln;

/// The demo's topic. Each run stamps its records, so it verifies its own among those of earlier runs.
const TOPIC: &str = "ringlog-demo";

/// Arguments of `ringlog demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End after the report instead of leaving the broker running until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// How long each of the two loads takes
    #[arg(long, value_parser = duration, default_value = "3s", value_name = "TIME")]
    duration: Duration,
    /// How to print; json is one document at the end, and needs --exit
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// The load command's arguments, parsed as if they stood on the command line.
#[derive(Debug, Parser)]
struct LoadCommand {
    #[command(flatten)]
    args: load::LoadArgs,
}

/// What the demo has shown, as JSON.
#[derive(Default, Serialize)]
struct Shown {
    first_record_ms: u128,
    loads: Vec<ShownLoad>,
}

#[derive(Serialize)]
struct ShownLoad {
    name: &'static str,
    report: Report,
}

/// Runs the demo.
pub fn run(args: DemoArgs) -> Result<(), CommandError> {
    let start = Instant::now();
    if args.format == Format::Json && !args.exit {
        return Err(CommandError::Usage(
            "--format json is printed at the end: give --exit, too".to_owned(),
        ));
    }
    let config = args.broker.to_config()?;
    let signals = broker::signals()?;
    let interrupt = Interrupt::watch()?;
    let node = Node::start(config, 1)?;
    if args.format == Format::Text {
        broker::announce(&node);
    }
    let demo = Demo {
        bootstrap: node.addresses[0].to_string(),
        duration: written(args.duration),
        text: args.format == Format::Text,
        interrupt,
    };
    let mut shown = Shown::default();
    let outcome = demo.show(start, &mut shown);
    if outcome.is_ok() && !args.exit {
        let Demo { bootstrap, .. } = demo;
        let told = outln!(
            "\nThe broker is running on {bootstrap}: point any Kafka client at it. Try
    ringlog topic list --bootstrap {bootstrap}
    ringlog topic consume {TOPIC} --count 3 --bootstrap {bootstrap}
    ringlog load consume --topic {TOPIC} --bootstrap {bootstrap}
Ctrl-C ends it; the data stays in {}.",
            node.data_dir.display()
        );
        if told.is_ok() {
            return broker::serve(node, signals);
        }
    }
    node.stop()?;
    let printed = match args.format {
        Format::Json => print_json(&shown),
        Format::Text => Ok(()),
    };
    outcome.and(printed)
}

/// A demo whose broker is running.
struct Demo {
    bootstrap: String,
    duration: String,
    text: bool,
    interrupt: Interrupt,
}

impl Demo {
    /// Loads the broker and says what came of it. After Ctrl-C, of what there is by then, and nothing more is begun.
    fn show(&self, start: Instant, shown: &mut Shown) -> Result<(), CommandError> {
        let one = ["--records", "1", "--batch-records", "1"];
        checked(&self.load(&[&one[..], &["--connections", "1"]].concat())?)?;
        self.interrupt.check()?;
        shown.first_record_ms = start.elapsed().as_millis();
        self.say(format_args!(
            "\nFirst record acknowledged, and on the device, {} ms after the start.\n\
             Now two loads of {} each, every request acknowledged from the device (acks=all):\n",
            shown.first_record_ms, self.duration
        ))?;
        let batches = "--batch-records 64 --record-bytes 1024 --verify";
        self.part("64 records of 1 KiB per request", batches, shown)?;
        let single = "--batch-records 1 --record-bytes 200 --connections 8";
        self.part("one record of 200 bytes per request", single, shown)
    }

    /// One load with these words, and what it came to.
    fn part(&self, name: &'static str, words: &str, shown: &mut Shown) -> Result<(), CommandError> {
        let mut words: Vec<&str> = words.split_ascii_whitespace().collect();
        words.extend(["--duration", &self.duration]);
        let report = self.load(&words)?;
        let told = self.tell(name, &report);
        let outcome = match self.interrupt.is_set() {
            true => verified(&report),
            false => checked(&report),
        };
        shown.loads.push(ShownLoad { name, report });
        outcome.and(self.interrupt.check()).and(told)
    }

    fn tell(&self, name: &str, report: &Report) -> Result<(), CommandError> {
        let latency = &report.latency_ms;
        self.say(format_args!(
            "  {name}{}\n    throughput  {} records/s, {:.1} MB/s\n    latency     p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            // A note is what an interrupted load has; reading back may have been cut short as well.
            match report.note.is_some() && self.interrupt.is_set() {
                true => format!(", interrupted after {:.2} s", report.seconds),
                false => String::new(),
            },
            grouped(report.records_per_second as u64),
            report.mb_per_second,
            latency.p50,
            latency.p99,
            latency.max,
        ))?;
        match &report.verification {
            Some(findings) => self.tell_findings(findings),
            None => Ok(()),
        }
    }

    fn tell_findings(&self, findings: &Findings) -> Result<(), CommandError> {
        self.say(format_args!(
            "    read back   {} records verified: {}{}",
            grouped(findings.verified),
            match findings.is_clean() {
                true => "none lost, none twice, none out of order, none changed".to_owned(),
                false => findings.verdict(),
            },
            match findings.unread {
                0 => String::new(),
                unread => format!(" ({} more not read back)", grouped(unread)),
            }
        ))?;
        findings
            .examples
            .iter()
            .try_for_each(|example| self.say(format_args!("      {example}")))
    }

    fn say(&self, text: std::fmt::Arguments<'_>) -> Result<(), CommandError> {
        if self.text { outln!("{text}") } else { Ok(()) }
    }

    fn load(&self, words: &[&str]) -> Result<Report, CommandError> {
        let fixed = [
            "load",
            "produce",
            "--bootstrap",
            &self.bootstrap,
            "--topic",
            TOPIC,
        ];
        let quiet = (!self.text).then_some(["--format", "json"]);
        let line = fixed.iter().chain(quiet.iter().flatten()).chain(words);
        let command = LoadCommand::try_parse_from(line)
            .map_err(|error| CommandError::Usage(error.to_string()))?;
        load::produce_report(command.args, &self.interrupt)
    }
}

/// An error if a load did not go well.
fn checked(report: &Report) -> Result<(), CommandError> {
    verified(report)?;
    if report.is_clean() && report.requests > 0 {
        return Ok(());
    }
    let reason = report.fatal.clone().unwrap_or_else(|| {
        let kinds = report.errors_by_kind.iter();
        let kinds: Vec<String> = kinds
            .map(|(kind, count)| format!("{count} x {kind}"))
            .collect();
        match kinds.is_empty() {
            true => "nothing was acknowledged".to_owned(),
            false => kinds.join(", "),
        }
    });
    Err(CommandError::Failed(format!(
        "the demo did not go well: {reason}"
    )))
}

/// An error if what was read back is not what was acknowledged.
fn verified(report: &Report) -> Result<(), CommandError> {
    match report.verification.as_ref().is_none_or(Findings::is_clean) {
        true => Ok(()),
        false => Err(CommandError::Violated(
            "the demo did not go well: what was read back is not what was acknowledged".to_owned(),
        )),
    }
}
