//! Named workloads: the set that Ringlog is measured with, each a line of arguments.
//!
//! A registry: adding one is one entry of [`WORKLOADS`].

use clap::{Args, Parser};
use serde::Serialize;

use super::LoadArgs;
use super::args::ReportFormat;
use crate::commands::CommandError;
use crate::commands::table::{print_json, print_table};
use crate::interrupt::Interrupt;
use crate::stdio::outln;

/// Arguments of `ringlog load workload`.
#[derive(Debug, Args)]
pub struct WorkloadArgs {
    /// Name of the workload, or `list`.
    name: String,
    /// Bytes that lie there before reading begins (w6 only): 20g.
    #[arg(long, value_parser = crate::quantity::size, default_value = "20g")]
    backlog_bytes: usize,
    /// Only print the command.
    #[arg(long)]
    dry_run: bool,
    /// How to print the list or the report.
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
    /// Further arguments of the command, which win over those of the workload.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// A workload.
struct Workload {
    name: &'static str,
    what: &'static str,
    runs: Runs,
}

enum Runs {
    /// `ringlog load` with these arguments.
    Load(&'static str),
    /// First a backlog is produced, then these arguments.
    Backlog(&'static str),
    /// Nothing, because something is missing.
    Missing(&'static str),
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "w1",
        what: "1 partition, 1 KiB records, 16 KiB batches",
        runs: Runs::Load(
            "produce --topic w1 --partitions 1 --record-bytes 1k --batch-bytes 16k --connections 1",
        ),
    },
    Workload {
        name: "w2",
        what: "100 partitions, 1 KiB records with keys, 50 producers, batches up to 4 KiB",
        runs: Runs::Load(
            "produce --topic w2 --partitions 100 --record-bytes 1k --keys uniform --batch-bytes 4k --connections 50",
        ),
    },
    Workload {
        name: "w3",
        what: "one record of 100 bytes per request",
        runs: Runs::Load("produce --topic w3 --record-bytes 100 --batch-records 1 --connections 8"),
    },
    Workload {
        name: "w4",
        what: "1 MiB batches",
        runs: Runs::Load("produce --topic w4 --record-bytes 1k --batch-bytes 1m"),
    },
    Workload {
        name: "w5",
        what: "produce to 1 partition with 4 readers (w5 --readers 1, --readers 16)",
        runs: Runs::Load(
            "end-to-end --topic w5 --partitions 1 --record-bytes 1k --batch-bytes 16k --connections 1 --rate 20k --readers 4",
        ),
    },
    Workload {
        name: "w6",
        what: "work off a backlog (--backlog-bytes 20g) while producing",
        runs: Runs::Backlog(
            "end-to-end --topic w6 --record-bytes 1k --batch-bytes 64k --rate 20k --from start --duration 60s",
        ),
    },
    Workload {
        name: "w7",
        what: "transactions of 10 records",
        runs: Runs::Missing("the load generator has no transactional producer yet"),
    },
    Workload {
        name: "w8",
        what: "w1 over TLS with SCRAM",
        runs: Runs::Missing("the load generator speaks neither TLS nor SASL yet"),
    },
    Workload {
        name: "w9",
        what: "3 brokers, 3 replicas, one machine",
        runs: Runs::Missing(
            "it needs three brokers: start them, then `ringlog load produce --replication-factor 3 --bootstrap A,B,C`",
        ),
    },
    Workload {
        name: "w10",
        what: "retention deletes segments while producing",
        runs: Runs::Load(
            "produce --topic w10 --partitions 2 --record-bytes 1k --batch-bytes 64k \
             --config retention.bytes=67108864 --config segment.bytes=16777216",
        ),
    },
    Workload {
        name: "w11",
        what: "zstd batches that the broker keeps as they are",
        runs: Runs::Load(
            "produce --topic w11 --record-bytes 1k --batch-bytes 64k --compression zstd \
             --config compression.type=producer",
        ),
    },
    Workload {
        name: "w12",
        what: "compaction of skewed keys",
        runs: Runs::Load(
            "produce --topic w12 --partitions 2 --record-bytes 1k --batch-bytes 64k --keys zipf:10000 \
             --config cleanup.policy=compact --config segment.bytes=16777216",
        ),
    },
];

/// A load command as it stands on the command line.
#[derive(Debug, Parser)]
struct LoadCommand {
    #[command(flatten)]
    args: LoadArgs,
}

/// Runs the workload, or lists them all.
pub fn run(args: &WorkloadArgs, interrupt: &Interrupt) -> Result<(), CommandError> {
    if args.name.eq_ignore_ascii_case("list") {
        return match args.format {
            ReportFormat::Json => print_json(&WORKLOADS.iter().map(row).collect::<Vec<_>>()),
            ReportFormat::Text | ReportFormat::Csv => {
                let cells = WORKLOADS.iter().map(row);
                let cells =
                    cells.map(|row| vec![row.name.to_owned(), row.what.to_owned(), row.runs]);
                print_table(&["name", "what", "runs"], cells.collect(), &[])
            }
        };
    }
    for line in lines(args)? {
        // What is printed for programs is the report alone.
        if args.dry_run || args.format == ReportFormat::Text {
            outln!("ringlog load {}", line.join(" "))?;
        }
        if !args.dry_run {
            super::run_until(parse(&line)?, interrupt)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Row {
    name: &'static str,
    what: &'static str,
    runs: String,
}

fn row(workload: &Workload) -> Row {
    Row {
        name: workload.name,
        what: workload.what,
        runs: match &workload.runs {
            Runs::Load(line) | Runs::Backlog(line) => format!("ringlog load {line}"),
            Runs::Missing(why) => format!("not there: {why}"),
        },
    }
}

/// The command lines of a workload, in order.
fn lines(args: &WorkloadArgs) -> Result<Vec<Vec<String>>, CommandError> {
    let found = WORKLOADS
        .iter()
        .find(|w| w.name.eq_ignore_ascii_case(&args.name));
    let words = |line: &str| -> Vec<String> {
        let format = match args.format {
            ReportFormat::Text => "",
            ReportFormat::Json => " --format json",
            ReportFormat::Csv => " --format csv",
        };
        let own = format!("{line}{format}");
        let own = own.split_ascii_whitespace().map(str::to_owned);
        own.chain(args.rest.iter().cloned()).collect()
    };
    match found.map(|workload| (&workload.runs, workload)) {
        None => Err(CommandError::Usage(format!(
            "there is no workload {}: `ringlog load workload list` shows them",
            args.name
        ))),
        Some((Runs::Missing(why), workload)) => Err(CommandError::Usage(format!(
            "{} ({}) cannot run: {why}",
            workload.name, workload.what
        ))),
        Some((Runs::Load(line), _)) => Ok(vec![words(line)]),
        Some((Runs::Backlog(line), workload)) => {
            let records = (args.backlog_bytes / 1024).max(1);
            let mut first: Vec<String> = format!(
                "produce --topic {} --record-bytes 1k --batch-bytes 1m --records {records}",
                workload.name
            )
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect();
            first.extend(bootstrap_of(&args.rest));
            Ok(vec![first, words(line)])
        }
    }
}

/// The words that say where the broker is and which topic is meant: the backlog must go there too.
fn bootstrap_of(rest: &[String]) -> Vec<String> {
    const SHARED: [&str; 5] = [
        "--bootstrap",
        "--bootstrap-server",
        "--topic",
        "--partitions",
        "--cores",
    ];
    let mut kept = Vec::new();
    for (position, word) in rest.iter().enumerate() {
        if SHARED.contains(&word.as_str()) {
            kept.extend(rest[position..].iter().take(2).cloned());
        } else if SHARED.iter().any(|s| word.starts_with(&format!("{s}="))) {
            kept.push(word.clone());
        }
    }
    kept
}

fn parse(line: &[String]) -> Result<LoadArgs, CommandError> {
    let words = std::iter::once("load").chain(line.iter().map(String::as_str));
    let command = LoadCommand::try_parse_from(words);
    command
        .map(|command| command.args)
        .map_err(|error| CommandError::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str, rest: &[&str]) -> WorkloadArgs {
        WorkloadArgs {
            name: name.to_owned(),
            backlog_bytes: 1 << 20,
            dry_run: true,
            format: ReportFormat::Text,
            rest: rest.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    #[test]
    fn every_workload_parses_or_says_why_not_and_names_are_in_order() {
        for (number, workload) in WORKLOADS.iter().enumerate() {
            assert_eq!(workload.name, format!("w{}", number + 1));
            match (lines(&args(workload.name, &[])), &workload.runs) {
                (Err(error), Runs::Missing(why)) => assert!(error.to_string().contains(why)),
                (Ok(lines), Runs::Load(_) | Runs::Backlog(_)) => {
                    for line in lines {
                        parse(&line).unwrap();
                    }
                }
                _ => panic!("{}", workload.name),
            }
        }
        assert!(lines(&args("w13", &[])).is_err());
    }

    #[test]
    fn further_arguments_win_and_the_backlog_goes_to_the_same_broker() {
        let rest = ["--rate", "5k", "--bootstrap", "a:1"];
        let lines = lines(&args("W6", &rest)).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0][lines[0].len() - 2..], ["--bootstrap", "a:1"]);
        assert!(lines[0].contains(&"1024".to_owned()));
        let LoadArgs { action } = parse(&lines[1]).unwrap();
        let super::super::args::Action::EndToEnd(parsed) = action else {
            panic!("not end to end");
        };
        assert_eq!(parsed.rate(), Some(5000));
        assert_eq!(parsed.shared.server.bootstrap, "a:1");
    }
}
