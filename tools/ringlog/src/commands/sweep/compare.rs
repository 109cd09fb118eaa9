//! `ringlog sweep compare`: two sweeps, such as of two versions, point by point.

use std::path::PathBuf;

use ::load::sweep::compare::{Compared, compare};
use ::load::sweep::{Analysis, Header, Sequence, record, words};
use clap::Args;
use serde::Serialize;

use super::journal_of;
use crate::commands::CommandError;
use crate::commands::table::{Format, print_json, print_table};
use crate::stdio::{noteln, outln};

/// Arguments of `ringlog sweep compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The sweep to compare with: its folder or its points.jsonl
    before: PathBuf,
    /// The other one
    after: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A row, as JSON.
#[derive(Serialize)]
struct Row<'a> {
    target: &'a str,
    #[serde(flatten)]
    point: ::load::sweep::Point,
    mb_per_second: (f64, f64),
    throughput_ratio: f64,
    p99_ms: (f64, f64),
    p99_ratio: f64,
    /// Whether throughput differs by more than repetitions do; null if there was only one.
    distinct: Option<bool>,
}

/// Runs the command.
pub fn run(args: &CompareArgs) -> Result<(), CommandError> {
    let read = |path| {
        let file = journal_of(path);
        let (header, measurements) = record::read(&file)?;
        let sequence = Sequence::resume(header.plan.clone(), measurements)
            .map_err(|error| CommandError::Failed(format!("{}: {error}", file.display())))?;
        Ok::<Analysis, CommandError>(Analysis::new(header, &sequence))
    };
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let names = |analysis: &Analysis| -> Vec<String> {
        let targets = analysis.header.plan.targets.iter();
        targets.map(|target| target.name.clone()).collect()
    };
    let (first, second) = (names(&before), names(&after));
    let (both, alone) = compare((&first, &before.summaries), (&second, &after.summaries));
    for difference in differences(&before.header, &after.header) {
        noteln!("ringlog: the sweeps differ in more than time: {difference}");
    }
    if both.is_empty() {
        return Err(CommandError::Failed(
            "no point was measured in both sweeps: the same targets by name, batch sizes, lingers, requests in flight \
             and rates are needed"
                .to_owned(),
        ));
    }
    match args.format {
        Format::Json => print_json(&both.iter().map(row).collect::<Vec<Row<'_>>>()),
        Format::Text => {
            print(&both)?;
            outln!(
                "{} points; {alone} more were measured in one sweep only. ~ is no more than repetitions of one sweep differ",
                both.len()
            )
        }
    }
}

/// What else is not the same, so that nobody takes it for the broker's work.
fn differences(before: &Header, after: &Header) -> Vec<String> {
    let (first, second) = (&before.plan, &after.plan);
    let pairs = [
        (
            "machine",
            format!("{:?}", before.machine),
            format!("{:?}", after.machine),
        ),
        (
            "load",
            format!("{:?}", first.fixed),
            format!("{:?}", second.fixed),
        ),
        (
            "measured time",
            format!("{} ms", first.measure_ms),
            format!("{} ms", second.measure_ms),
        ),
    ];
    let pairs = pairs
        .into_iter()
        .filter(|(_, before, after)| before != after);
    pairs
        .map(|(what, before, after)| format!("{what}: {before} / {after}"))
        .collect()
}

fn row(compared: &Compared) -> Row<'_> {
    Row {
        target: &compared.target,
        point: compared.point,
        mb_per_second: compared.mb_per_second,
        throughput_ratio: compared.throughput_ratio(),
        p99_ms: compared.p99_ms,
        p99_ratio: compared.p99_ratio(),
        distinct: compared.is_distinct(),
    }
}

fn print(both: &[Compared]) -> Result<(), CommandError> {
    let header = [
        "target", "point", "rate", "MB/s", "then", "ratio", "p99 ms", "then", "ratio",
    ];
    let rows = both.iter().map(|compared| {
        let point = compared.point;
        let sign = match compared.is_distinct() {
            Some(false) => "~",
            _ => "",
        };
        vec![
            compared.target.clone(),
            point.to_string(),
            point
                .rate
                .map_or_else(|| "max".to_owned(), |rate| words::compact(rate as f64)),
            words::number(compared.mb_per_second.0),
            words::number(compared.mb_per_second.1),
            format!("{sign}{:.2}", compared.throughput_ratio()),
            words::number(compared.p99_ms.0),
            words::number(compared.p99_ms.1),
            format!("{:.2}", compared.p99_ratio()),
        ]
    });
    print_table(&header, rows.collect(), &[2, 3, 4, 5, 6, 7, 8])
}
