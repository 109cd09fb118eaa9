//! `ringlog demo`: a broker on embedded defaults, loaded for some seconds, read back and verified. With `--brokers`, a
//! cluster that loses a broker meanwhile.

mod cluster;
mod data;
mod seconds;

use std::time::{Duration, Instant};

use ::load::Report;
use ::load::report::grouped;
use ::load::seconds::Second;
use ::load::verify::Findings;
use clap::Parser;
use serde::Serialize;

use super::broker::{self, BrokerArgs};
use super::table::{Format, print_json};
use super::{CommandError, load};
use crate::interrupt::Interrupt;
use crate::node::Node;
use crate::quantity::{duration, written};
use crate::stdio::{Paint, outln};
use data::Temporary;
use seconds::Bars;

/// The demo's topic. Each run stamps its records, so it verifies its own among those of earlier runs.
const TOPIC: &str = "ringlog-demo";

/// Arguments of `ringlog demo`.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// End after the report instead of leaving the broker running until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// Leave the data where it is at the end; so does --data-dir
    #[arg(long)]
    keep: bool,
    /// How long each of the two loads takes; of several brokers, the time before and behind the kill
    #[arg(long, value_parser = duration, default_value = "3s", value_name = "TIME")]
    duration: Duration,
    /// How many brokers; of several, each a process, one is killed and started again while they are loaded
    #[arg(long, default_value_t = 1, value_parser = brokers, value_name = "N")]
    brokers: i32,
    /// How to print; json is one document at the end, and needs --exit
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// Brokers of a demo: with two, nobody could be missed, and a machine has room for so many.
fn brokers(text: &str) -> Result<i32, String> {
    match text.parse() {
        Ok(count @ (1 | 3..=7)) => Ok(count),
        Ok(2) => Err("of two brokers none can be missed: give 3".to_owned()),
        _ => Err("expected 1, or 3 to 7".to_owned()),
    }
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
    if args.brokers > 1 {
        return cluster::run(&args, args.brokers);
    }
    let signals = broker::signals()?;
    let interrupt = Interrupt::watch()?;
    // Lives longer than the broker in it.
    let mut temporary = None;
    let config = args.broker.to_config_in(|| {
        let made = Temporary::new(args.keep)
            .map_err(|error| CommandError::io("a directory for the demo's data", error))?;
        Ok(temporary.insert(made).path().to_owned())
    })?;
    let node = Node::start(config, 1)?;
    let demo = Demo {
        bootstrap: node.addresses[0].to_string(),
        data: match temporary.is_some() && !args.keep {
            true => format!(
                "{}, which goes when it ends (--keep keeps it)",
                node.data_dir.display()
            ),
            false => format!("{}, which stays", node.data_dir.display()),
        },
        duration: written(args.duration),
        text: args.format == Format::Text,
        paint: Paint::stdout(),
        interrupt,
    };
    if demo.text {
        broker::announce(&node);
    }
    let mut shown = Shown::default();
    let outcome = demo.show(start, &mut shown);
    if outcome.is_ok() && demo.conclude(&shown, args.exit).is_ok() && !args.exit {
        return broker::serve(node, signals);
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
    /// Where the data is, and whether it stays.
    data: String,
    duration: String,
    text: bool,
    paint: Paint,
    interrupt: Interrupt,
}

impl Demo {
    /// Loads the broker and says what came of it. After Ctrl-C, of what there is by then, and nothing more is begun.
    fn show(&self, start: Instant, shown: &mut Shown) -> Result<(), CommandError> {
        let one = ["--records", "1", "--batch-records", "1"];
        checked(
            &self
                .load(&[&one[..], &["--connections", "1"]].concat(), false)?
                .0,
        )?;
        self.interrupt.check()?;
        shown.first_record_ms = start.elapsed().as_millis();
        self.say(format_args!(
            "\nData in {}.\nFirst record acknowledged, and on the device, {:.2} s after the start.\n\
             Now two loads of {} each, every request acknowledged from the device (acks=all):\n",
            self.data,
            shown.first_record_ms as f64 / 1e3,
            self.duration
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
        self.say(format_args!("  {}", self.paint.strong(name)))?;
        let (report, lines) = self.load(&words, true)?;
        let told = lines.and_then(|()| self.tell(&report));
        let outcome = match self.interrupt.is_set() {
            true => verified(&report),
            false => checked(&report),
        };
        shown.loads.push(ShownLoad { name, report });
        outcome.and(self.interrupt.check()).and(told)
    }

    fn tell(&self, report: &Report) -> Result<(), CommandError> {
        let latency = &report.latency_ms;
        self.say(format_args!(
            "    throughput  {} records/s, {:.1} MB/s\n    latency     p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms\n    time        {:.2} s{}",
            grouped(report.records_per_second as u64),
            report.mb_per_second,
            latency.p50,
            latency.p99,
            latency.max,
            report.seconds,
            // A note is what an interrupted load has; reading back may have been cut short as well.
            match report.note.is_some() && self.interrupt.is_set() {
                true => format!(", interrupted after {:.2} s", report.seconds),
                false => String::new(),
            },
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
                true => self
                    .paint
                    .good("none lost, none twice, none out of order, none changed"),
                false => self.paint.bad(&findings.verdict()),
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

    /// What has been shown, and what to do next.
    fn conclude(&self, shown: &Shown, exits: bool) -> Result<(), CommandError> {
        let records: u64 = shown.loads.iter().map(|load| load.report.records).sum();
        let verified = shown
            .loads
            .iter()
            .find_map(|load| load.report.verification.as_ref());
        let verified = verified.map_or(0, |findings| findings.verified);
        self.say(format_args!(
            "\n{} {} records acknowledged from the device, {} of them read back as they were sent.",
            self.paint.good("All is well:"),
            grouped(records),
            grouped(verified)
        ))?;
        let bootstrap = &self.bootstrap;
        match exits {
            true => self.say(format_args!(
                "\nNext
    ringlog doctor                     what this machine could do better
    ringlog broker                     a broker that keeps its data, in ./ringlog-data
    ringlog topic create orders        then point any Kafka client at 127.0.0.1:9092
    ringlog sweep                      which batch sizes and latencies go together here"
            )),
            false => self.say(format_args!(
                "\nThe broker is running on {bootstrap}: point any Kafka client at it. Try
    ringlog topic consume {TOPIC} --count 3 --bootstrap {bootstrap}
    ringlog load consume --topic {TOPIC} --bootstrap {bootstrap}
    ringlog top                        what it does right now
Ctrl-C ends it. Data in {}.",
                self.data
            )),
        }
    }

    /// A load, and whether its seconds could be printed, if they are to be.
    fn load(
        &self,
        words: &[&str],
        shows_seconds: bool,
    ) -> Result<(Report, Result<(), CommandError>), CommandError> {
        let fixed = [
            "load",
            "produce",
            "--bootstrap",
            &self.bootstrap,
            "--topic",
            TOPIC,
        ];
        let command = LoadCommand::try_parse_from(fixed.iter().chain(words))
            .map_err(|error| CommandError::Usage(error.to_string()))?;
        let mut bars = Bars::default();
        let mut lines = Ok(());
        let mut each = |second: &Second| {
            let line = shows_seconds
                .then(|| bars.line(second, self.paint))
                .flatten();
            if let Some(line) = line.filter(|_| lines.is_ok()) {
                lines = self.say(format_args!("{line}"));
            }
        };
        let report = load::produce_report(command.args, &self.interrupt, &mut each)?;
        Ok((report, lines))
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
