//! `ringlog-benches [FILTER] [--quick]`: runs the bench of that name, or else all whose names contain it.

use std::process::ExitCode;

use ringlog_benches::{BENCHES, Bench, Effort, Measured};

/// The broker's allocator, so that buffers cost here what they cost there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "usage: ringlog-benches [FILTER] [--quick]";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("ringlog-benches: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut filter, mut effort) = (None, Effort::Full);
    for argument in arguments {
        match argument.as_str() {
            "--quick" => effort = Effort::Quick,
            _ if argument.starts_with('-') || filter.is_some() => return Err(USAGE.to_owned()),
            _ => filter = Some(argument),
        }
    }
    let filter = filter.unwrap_or_default();
    let wanted = chosen(&filter);
    if wanted.is_empty() {
        let names: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        return Err(format!(
            "no bench has {filter:?} in its name; there are\n  {}",
            names.join("\n  ")
        ));
    }
    let width = wanted.iter().map(|bench| bench.name.len()).max();
    let width = width.unwrap_or_default();
    println!(
        "{:<width$}  {:>12}  {:<7}  {:>9}  {:>9}",
        "name", "ns per", "op", "MB/s", "ops timed"
    );
    for bench in wanted {
        print_row(bench, &bench.measure(effort), width);
    }
    Ok(())
}

/// The bench of that name alone, or else all that have it in their names.
fn chosen(filter: &str) -> Vec<&'static Bench> {
    let named = BENCHES.iter().find(|bench| bench.name == filter);
    named.map_or_else(
        || {
            let contain = BENCHES.iter().filter(|bench| bench.name.contains(filter));
            contain.collect()
        },
        |bench| vec![bench],
    )
}

fn print_row(bench: &Bench, measured: &Measured, width: usize) {
    let rate = measured
        .megabytes_per_second()
        .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}"));
    println!(
        "{:<width$}  {:>12.1}  {:<7}  {rate:>9}  {:>9}",
        bench.name, measured.nanos_per_op, bench.unit, measured.ops
    );
}
