//! `ringlog-benches [FILTER]`: runs the bench of that name, or else all whose names contain it.

use std::process::ExitCode;

use ringlog_benches::instructions::{self, Baseline, Verdict, WORSE_MAX};
use ringlog_benches::{BENCHES, Bench, Effort, Measured};

/// The broker's allocator, so that buffers cost here what they cost there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const USAGE: &str = "\
usage: ringlog-benches [FILTER] [--quick | --instructions | --accept]

  --quick         a twentieth of the operations
  --instructions  count instructions under callgrind; fails if a bench needs more than accepted
  --accept        the same, and accepts the counts as the new baseline (benches/instructions.tsv)";

/// What to do with the chosen benches.
#[derive(Clone, Copy)]
enum Task {
    Time(Effort),
    Count { accept: bool },
}

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
    let (mut filter, mut task) = (None, Task::Time(Effort::Full));
    for argument in arguments {
        match argument.as_str() {
            "--quick" => task = Task::Time(Effort::Quick),
            "--instructions" => task = Task::Count { accept: false },
            "--accept" => task = Task::Count { accept: true },
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
    match task {
        Task::Time(effort) => {
            time(&wanted, effort, width);
            Ok(())
        }
        Task::Count { accept } => count(&wanted, accept, width),
    }
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

fn time(benches: &[&Bench], effort: Effort, width: usize) {
    println!(
        "{:<width$}  {:>12}  {:<7}  {:>9}  {:>9}",
        "name", "ns per", "op", "MB/s", "ops timed"
    );
    for bench in benches {
        print_row(bench, &bench.measure(effort), width);
    }
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

fn count(benches: &[&Bench], accept: bool, width: usize) -> Result<(), String> {
    let text = |error: instructions::InstructionsError| error.to_string();
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let path = Baseline::path();
    let mut baseline = Baseline::read(&path).map_err(text)?;
    let (mut worse, mut better) = (0, 0);
    println!("{:<width$}  {:>14}  {:<7}", "name", "instructions", "op");
    for bench in benches {
        let counted = instructions::count(&program, bench).map_err(text)?;
        let verdict = match baseline.judge(bench.name, counted) {
            Verdict::Same => String::new(),
            Verdict::New => {
                worse += 1;
                "no accepted count".to_owned()
            }
            Verdict::Better(share) => {
                better += 1;
                format!("{:.1} % less than accepted", share * 100.0)
            }
            Verdict::Worse(share) => {
                worse += 1;
                format!("{:.1} % MORE than accepted", share * 100.0)
            }
        };
        let row = format!(
            "{:<width$}  {counted:>14.1}  {:<7}  {verdict}",
            bench.name, bench.unit
        );
        println!("{}", row.trim_end());
        baseline.accept(bench.name, counted);
    }
    let how = "cargo run --release -p ringlog-benches -- --accept";
    if accept {
        baseline.retain(BENCHES);
        baseline.write(&path).map_err(text)?;
        println!("accepted in {}", path.display());
        return Ok(());
    }
    if better > 0 {
        println!("{better} of them got better; keep it so with: {how}");
    }
    if worse > 0 {
        return Err(format!(
            "{worse} of them need more than {:.0} % above the accepted instructions, or have none accepted; if there \
             is a good reason, accept them with: {how}",
            WORSE_MAX * 100.0
        ));
    }
    Ok(())
}
