//! `ringlog-sim`: many seeds of the simulation, and the fuzzers.
//!
//! Exit code 0 means that every promise held; otherwise what was broken, with the seed and how to see it again, is the
//! last thing printed.
// A tool, not the broker: it may look at the clock.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use ringlog_sim::fuzz::BatchFuzzer;
use ringlog_sim::history::Tallies;
use ringlog_sim::run::{Outcome, run};
use ringlog_sim::scenarios::{SCENARIOS, Scenario, find};

/// Seeds that are played when nothing is said.
const SEEDS: u64 = 100;
/// Seeds that are played twice to compare their traces.
const DETERMINISM_SEEDS: u64 = 10;
/// Failed seeds that are told in words.
const TOLD_MAX: usize = 5;
/// Fuzz cases between two looks at the clock.
const CASES_PER_LOOK: u64 = 256;

thread_local! {
    /// What this thread plays, for the message of a panic.
    static PLAYING: Cell<Option<(&'static str, u64)>> = const { Cell::new(None) };
}

/// Plays seeds of the whole broker in a simulated machine.
#[derive(Parser)]
#[command(name = "ringlog-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Print the broker's log (for one seed)
    #[arg(long, global = true)]
    log: bool,
}

#[derive(Subcommand)]
enum Command {
    /// The power fails at random moments, also during recovery
    PowerCut(Seeds),
    /// kill -9 at random moments, also during recovery
    Kill(Seeds),
    /// Writes, flushes and reads fail, the disk is full or slow
    DiskFaults(Seeds),
    /// Connections are reset, cut one way or both, delayed
    Network(Seeds),
    /// Restarts with another count of shards, after every kind of stop
    Shards(Seeds),
    /// Every scenario
    All(Seeds),
    /// Power cuts over a storage that acknowledges too early: succeeds when that is caught
    Planted(Seeds),
    /// Some seeds of every scenario twice: the traces must be equal
    Determinism(Seeds),
    /// Mutated requests, responses and record batches
    Fuzz {
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// Where chance starts
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

#[derive(Args, Clone)]
struct Seeds {
    /// How many seeds
    #[arg(long)]
    seeds: Option<u64>,
    /// The first one
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Threads; each plays its own seeds
    #[arg(long, default_value_t = 1)]
    jobs: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.log {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .init();
    }
    name_seed_on_panic();
    let passed = match arguments.command {
        Command::PowerCut(seeds) => play(&["power-cut"], &seeds),
        Command::Kill(seeds) => play(&["kill"], &seeds),
        Command::DiskFaults(seeds) => play(&["disk-faults"], &seeds),
        Command::Network(seeds) => play(&["network"], &seeds),
        Command::Shards(seeds) => play(&["shards"], &seeds),
        Command::All(seeds) => {
            let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            play(&names, &seeds)
        }
        Command::Planted(seeds) => planted(&seeds),
        Command::Determinism(seeds) => determinism(&seeds),
        Command::Fuzz { seconds, seed } => fuzz(Duration::from_secs(seconds), seed),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A panic of the broker ends the process in a release build: say at least where.
fn name_seed_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some((name, seed)) = PLAYING.get() {
            eprintln!(
                "panic in {name} of seed {seed}; again: {}",
                again(name, seed)
            );
        }
        before(panic);
    }));
}

fn again(name: &str, seed: u64) -> String {
    format!("ringlog-sim {name} --seeds 1 --seed {seed} --log")
}

fn play_one(scenario: &'static Scenario, seed: u64, planted: bool) -> Outcome {
    PLAYING.set(Some((scenario.name, seed)));
    let outcome = run(scenario, seed, planted);
    PLAYING.set(None);
    outcome
}

/// Plays seeds on some threads; calls `seen` with each outcome until it says enough.
fn play_seeds(
    scenario: &'static Scenario,
    seeds: &Seeds,
    planted: bool,
    mut seen: impl FnMut(Outcome) -> bool,
) {
    let next = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let count = seeds.seeds.unwrap_or(SEEDS);
    let (to, from) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..seeds.jobs.max(1) {
            let to = to.clone();
            scope.spawn(|| {
                // The receiver goes away when enough was seen.
                let to = to;
                while !enough.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count
                        || to
                            .send(play_one(scenario, seeds.seed + index, planted))
                            .is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(to);
        for outcome in from {
            if !seen(outcome) {
                enough.store(true, Ordering::Relaxed);
                break;
            }
        }
    });
}

fn progress(name: &'static str, count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:12} {wide_bar} {pos}/{len} seeds {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count).with_style(style).with_message(name)
}

fn play(names: &[&str], seeds: &Seeds) -> bool {
    let mut table = Table::new();
    table.set_header([
        "scenario",
        "seeds",
        "failed",
        "acked",
        "refused",
        "no answer",
        "read",
        "commits",
        "stops",
        "in recovery",
        "fences",
        "events",
        "seconds",
    ]);
    let mut failed: Vec<(&str, Outcome)> = Vec::new();
    for scenario in names.iter().filter_map(|name| find(name)) {
        let start = Instant::now();
        let count = seeds.seeds.unwrap_or(SEEDS);
        let bar = progress(scenario.name, count);
        let (mut sum, mut events, mut broken) = (Tallies::default(), 0, 0);
        play_seeds(scenario, seeds, false, |outcome| {
            bar.inc(1);
            sum.add(&outcome.tallies);
            events += outcome.trace_count;
            if !outcome.violations.is_empty() {
                broken += 1;
                failed.push((scenario.name, outcome));
            }
            true
        });
        bar.finish_and_clear();
        let numbers = [
            count,
            broken,
            sum.acknowledged,
            sum.failed,
            sum.indeterminate,
            sum.records_read,
            sum.commits,
            sum.stops,
            sum.stops_in_recovery,
            sum.fences,
            events,
        ];
        let mut row = vec![scenario.name.to_owned()];
        row.extend(numbers.iter().map(u64::to_string));
        row.push(format!("{:.1}", start.elapsed().as_secs_f64()));
        table.add_row(row);
    }
    println!("{table}");
    failed.sort_by_key(|(_, outcome)| outcome.seed);
    for (name, outcome) in failed.iter().take(TOLD_MAX) {
        println!("\n{name}, seed {}:", outcome.seed);
        for violation in &outcome.violations {
            println!("  {violation}");
        }
        println!("  again: {}", again(name, outcome.seed));
    }
    if failed.len() > TOLD_MAX {
        let rest: Vec<String> = failed
            .iter()
            .map(|(name, outcome)| format!("{name} {}", outcome.seed))
            .collect();
        println!("\nall failed seeds: {}", rest.join(", "));
    }
    failed.is_empty()
}

fn planted(seeds: &Seeds) -> bool {
    let Some(scenario) = find("power-cut") else {
        return false;
    };
    let mut caught = None;
    let mut tried = 0_u64;
    play_seeds(scenario, seeds, true, |outcome| {
        tried += 1;
        let lost = outcome
            .violations
            .iter()
            .find(|what| what.contains("is lost"))
            .cloned();
        if let Some(what) = lost {
            caught = Some((outcome.seed, what));
        }
        caught.is_none()
    });
    match caught {
        Some((seed, what)) => {
            println!("the planted bug was caught at seed {seed}, after {tried} seeds: {what}");
            true
        }
        None => {
            println!(
                "{tried} seeds did not notice that groups are acknowledged before they are durable"
            );
            false
        }
    }
}

fn determinism(seeds: &Seeds) -> bool {
    let mut equal = true;
    for scenario in SCENARIOS {
        let count = seeds.seeds.unwrap_or(DETERMINISM_SEEDS);
        for seed in seeds.seed..seeds.seed + count {
            let first = play_one(scenario, seed, false);
            let second = play_one(scenario, seed, false);
            let same = first.trace_hash == second.trace_hash
                && first.trace_count == second.trace_count
                && first.tallies == second.tallies;
            if !same {
                println!(
                    "{} of seed {seed} differs from one run to the next",
                    scenario.name
                );
            }
            equal &= same;
        }
        println!("{}: {count} seeds played twice", scenario.name);
    }
    equal
}

fn fuzz(duration: Duration, seed: u64) -> bool {
    let half = duration / 2;
    let start = Instant::now();
    let requests = protocol::fuzz::run(seed, |report| {
        !report.cases.is_multiple_of(CASES_PER_LOOK) || start.elapsed() < half
    });
    let mut table = Table::new();
    table.set_header(["fuzzer", "cases", "accepted", "cases/s"]);
    let rate =
        |cases: u64, since: Instant| format!("{:.0}", cases as f64 / since.elapsed().as_secs_f64());
    match requests {
        Ok(report) => {
            let numbers = [report.cases.to_string(), report.accepted.to_string()];
            let [cases, accepted] = numbers;
            table.add_row([
                "messages".to_owned(),
                cases,
                accepted,
                rate(report.cases, start),
            ]);
        }
        Err(failure) => {
            println!("{failure}\nagain: ringlog-sim fuzz --seed {seed}");
            return false;
        }
    }
    let start = Instant::now();
    let mut batches = BatchFuzzer::new(seed);
    while start.elapsed() < half {
        for _ in 0..CASES_PER_LOOK {
            if let Err(what) = batches.step() {
                println!("{what}\nagain: ringlog-sim fuzz --seed {seed}");
                return false;
            }
        }
    }
    let report = batches.report();
    let numbers = [report.cases.to_string(), report.accepted.to_string()];
    let [cases, accepted] = numbers;
    table.add_row([
        "batches".to_owned(),
        cases,
        accepted,
        rate(report.cases, start),
    ]);
    println!("{table}");
    true
}
