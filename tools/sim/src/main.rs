//! `ringlog-sim`: many seeds of the simulation, and the fuzzers.
//!
//! Exit code 0 means that every promise held; otherwise what was broken, with the seed and how to see it again, is the
//! last thing printed.
// A tool, not the broker: it may look at the clock.
#![allow(clippy::disallowed_methods)]

mod play;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use comfy_table::Table;
use ringlog_sim::fuzz::BatchFuzzer;
use ringlog_sim::planted::{PLANTED, PlantedBug};
use ringlog_sim::scenarios::{SCENARIOS, Scenario, find};
use ringlog_sim::size::{self, Size};

use crate::play::Series;

/// Seeds that are played when nothing is said.
const SEEDS: u64 = 100;
/// Seeds in which a planted bug must be noticed.
const PLANTED_SEEDS: u64 = 200;
/// Seeds that are played twice to compare their traces.
const DETERMINISM_SEEDS: u64 = 10;
/// Fuzz cases between two looks at the clock.
const CASES_PER_LOOK: u64 = 256;

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
    /// Plays seeds of the scenarios named, or of all
    Run {
        /// Which; `list` tells
        scenarios: Vec<String>,
        /// Every scenario
        #[arg(long, conflicts_with = "scenarios")]
        all: bool,
        #[command(flatten)]
        seeds: Seeds,
    },
    /// The registry: every scenario, every planted bug
    List,
    /// Of every scenario the seeds that CI plays, then the planted bugs, each of which must be noticed
    Ci {
        /// Threads
        #[arg(long, default_value_t = jobs())]
        jobs: u64,
    },
    /// Seeds with a planted bug until it is noticed: every bug, or those named
    Planted {
        /// Which; `list` tells
        bugs: Vec<String>,
        #[command(flatten)]
        seeds: Seeds,
    },
    /// Some seeds of every scenario twice: the traces must be equal
    Determinism(Seeds),
    /// A large cluster's controller alone: records, bytes and time of a broker's failure
    Size {
        /// Brokers
        #[arg(long, default_value_t = 162)]
        brokers: u32,
        /// Partitions of all topics
        #[arg(long, default_value_t = 24_000)]
        partitions: u32,
        /// Replicas of each partition
        #[arg(long, default_value_t = 3)]
        replication_factor: u16,
    },
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
    #[arg(long, default_value_t = jobs())]
    jobs: u64,
}

impl Seeds {
    fn from_zero(count: u64, jobs: u64) -> Seeds {
        Seeds {
            seeds: Some(count),
            seed: 0,
            jobs,
        }
    }
}

/// As many threads as there are cores.
fn jobs() -> u64 {
    std::thread::available_parallelism().map_or(1, |count| count.get() as u64)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.log {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .init();
    }
    play::name_seed_on_panic();
    let passed = match arguments.command {
        Command::Run {
            scenarios,
            all,
            seeds,
        } => chosen(&scenarios, all).map(|chosen| {
            let count = seeds.seeds.unwrap_or(SEEDS);
            let chosen: Vec<_> = chosen.into_iter().map(|found| (found, count)).collect();
            play::play(&chosen, seeds.seed, seeds.jobs)
        }),
        Command::List => {
            list();
            Ok(true)
        }
        Command::Ci { jobs } => Ok(ci(jobs)),
        Command::Planted { bugs, seeds } => named(&bugs).map(|bugs| {
            // All are tried, so that one run tells of each.
            let missed = bugs.iter().filter(|bug| !planted(bug, &seeds));
            missed.count() == 0
        }),
        Command::Determinism(seeds) => Ok(determinism(&seeds)),
        Command::Size {
            brokers,
            partitions,
            replication_factor,
        } => measure(Size {
            brokers,
            partitions,
            replication_factor,
        }),
        Command::Fuzz { seconds, seed } => Ok(fuzz(Duration::from_secs(seconds), seed)),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn chosen(names: &[String], all: bool) -> Result<Vec<&'static Scenario>, String> {
    if all {
        return Ok(SCENARIOS.iter().collect());
    }
    if names.is_empty() {
        return Err("name scenarios, or say --all".to_owned());
    }
    let known = |name: &String| find(name).ok_or_else(|| format!("there is no scenario {name}"));
    names.iter().map(known).collect()
}

fn named(names: &[String]) -> Result<Vec<&'static PlantedBug>, String> {
    if names.is_empty() {
        return Ok(PLANTED.iter().collect());
    }
    let known = |name: &String| {
        let found = PLANTED.iter().find(|bug| bug.name == name);
        found.ok_or_else(|| format!("there is no planted bug {name}"))
    };
    names.iter().map(known).collect()
}

fn list() {
    let mut table = Table::new();
    table.set_header(["scenario", "what happens", "seeds in CI"]);
    for scenario in SCENARIOS {
        let seeds = scenario.ci_seeds.to_string();
        table.add_row([scenario.name, scenario.about, &seeds]);
    }
    println!("{table}");
    let mut table = Table::new();
    table.set_header(["planted bug", "scenario", "noticed as"]);
    for bug in PLANTED {
        table.add_row([bug.name, bug.scenario, bug.noticed_as]);
    }
    println!("{table}");
}

/// What `cargo xtask ci` runs: the registry says how much of what.
fn ci(jobs: u64) -> bool {
    let chosen: Vec<(&'static Scenario, u64)> = SCENARIOS
        .iter()
        .map(|scenario| (scenario, scenario.ci_seeds))
        .collect();
    let mut passed = play::play(&chosen, 0, jobs);
    for bug in PLANTED {
        passed &= planted(bug, &Seeds::from_zero(PLANTED_SEEDS, jobs));
    }
    passed
}

/// Whether a planted bug is noticed.
fn planted(bug: &PlantedBug, seeds: &Seeds) -> bool {
    let Some(scenario) = find(bug.scenario) else {
        println!("{}: there is no scenario {}", bug.name, bug.scenario);
        return false;
    };
    let mut caught = None;
    let mut tried = 0_u64;
    let count = seeds.seeds.unwrap_or(PLANTED_SEEDS);
    let series = Series {
        scenario,
        first: seeds.seed,
        count,
        jobs: seeds.jobs,
        planted: Some(bug.what),
    };
    series.play(|outcome| {
        tried += 1;
        if let Some(what) = bug.noticed(&outcome) {
            caught = Some((outcome.seed, what));
        }
        caught.is_none()
    });
    match caught {
        Some((seed, what)) => {
            println!(
                "planted {}: noticed by {} at seed {seed}, after {tried} seeds: {what}",
                bug.name, bug.scenario
            );
            true
        }
        None => {
            println!(
                "planted {}: {tried} seeds of {} DID NOT NOTICE",
                bug.name, bug.scenario
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
            let first = play::play_one(scenario, seed, None);
            let second = play::play_one(scenario, seed, None);
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

/// Prints what the events of a large cluster cost.
fn measure(size: Size) -> Result<bool, String> {
    let mut last = Instant::now();
    let mut times = Vec::new();
    let events = size::run(size, |what| {
        times.push((what, last.elapsed()));
        last = Instant::now();
    })?;
    let mut table = Table::new();
    table.set_header([
        "event",
        "partitions concerned",
        "leaders moved",
        "offline",
        "records",
        "bytes",
        "ms",
    ]);
    for (event, (_, took)) in events.iter().zip(&times[1..]) {
        let numbers = [
            event.concerned,
            event.leaders_moved,
            event.offline,
            event.records,
            event.bytes,
        ];
        let mut row = vec![event.what.to_owned()];
        row.extend(numbers.iter().map(usize::to_string));
        row.push(format!("{:.1}", took.as_secs_f64() * 1e3));
        table.add_row(row);
    }
    let Size {
        brokers,
        partitions,
        replication_factor,
    } = size;
    println!(
        "{brokers} brokers, {partitions} partitions, replication factor {replication_factor}: built in {:.1} ms",
        times[0].1.as_secs_f64() * 1e3
    );
    println!("{table}");
    Ok(true)
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
