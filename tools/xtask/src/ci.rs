//! `cargo xtask ci`: one list of steps, the same on a laptop and in `.ci/run`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::processes::{self, Broker};
use crate::{arrows, dist, docs, tidy};

/// How one step ended.
enum Outcome {
    Passed,
    /// A facility is missing; the reason is shown and counted.
    Skipped(String),
    Failed(String),
}

type Step = (&'static str, &'static str, fn() -> Outcome);

/// Every step, in order: the quick ones first.
const STEPS: [Step; 14] = [
    ("fmt", "sources are formatted", fmt),
    ("arrows", "crates use only what stands below them", || {
        checked(arrows::check())
    }),
    ("tidy", "sizes, unsafe code, formats", || {
        checked(tidy::check())
    }),
    ("docs", "generated documents are up to date", || {
        checked(docs::check())
    }),
    (
        "clippy",
        "no warnings, no banned clocks, threads, files",
        clippy,
    ),
    ("test", "unit, table, property and contract tests", test),
    ("build", "the release binaries", build),
    (
        "dist",
        "a Debian package, its unit, a broker out of it",
        packed,
    ),
    ("sim", "seeds of every scenario, planted bugs", sim),
    (
        "benches",
        "instructions of the hot paths, a look at the end-to-end benches",
        benches,
    ),
    ("fuzz", "60 s of hostile frames for every API", fuzz),
    (
        "broker",
        "start, kill -9, hostile bytes, bounded memory, the answers table",
        broker,
    ),
    ("report", "a sweep's report in a browser", report),
    (
        "clients",
        "one real client of each language, Kafka's own tools",
        clients,
    ),
];

/// Seconds that the decoder is fuzzed.
const FUZZ_SECONDS: &str = "60";

/// Runs every step, or those named.
pub fn run(names: &[String]) -> Result<String, String> {
    for name in names {
        if !STEPS.iter().any(|(step, ..)| step == name) {
            let known: Vec<&str> = STEPS.iter().map(|(step, ..)| *step).collect();
            return Err(format!(
                "no step {name:?}; the steps are {}",
                known.join(", ")
            ));
        }
    }
    let mut lines = String::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (name, what, step) in STEPS {
        if !names.is_empty() && !names.iter().any(|wanted| wanted == name) {
            continue;
        }
        println!("\n=== {name}: {what}");
        let start = Instant::now();
        let outcome = step();
        let time = seconds(start.elapsed());
        let (word, detail) = match &outcome {
            Outcome::Passed => ("passed", String::new()),
            Outcome::Skipped(reason) => ("SKIPPED", format!("  {reason}")),
            Outcome::Failed(reason) => ("FAILED", format!("  {reason}")),
        };
        match outcome {
            Outcome::Passed => passed += 1,
            Outcome::Skipped(_) => skipped += 1,
            Outcome::Failed(_) => failed += 1,
        }
        println!("=== {name}: {word} after {time}{detail}");
        writeln!(lines, "  {name:<8} {word:<8} {time:>8}{detail}").expect("writing to memory");
    }
    let summary =
        format!("\nsteps:\n{lines}\nci: {passed} passed, {failed} failed, {skipped} skipped\n");
    if failed == 0 {
        Ok(summary)
    } else {
        Err(summary)
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn checked(result: Result<String, String>) -> Outcome {
    match result {
        Ok(report) => {
            print!("{report}");
            Outcome::Passed
        }
        Err(problems) => Outcome::Failed(problems),
    }
}

fn ran(result: Result<(), String>) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(problem) => Outcome::Failed(problem),
    }
}

fn cargo(arguments: &[&str]) -> Outcome {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    ran(processes::run(&cargo, arguments))
}

fn fmt() -> Outcome {
    cargo(&["fmt", "--all", "--check"])
}

fn clippy() -> Outcome {
    cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ])
}

fn test() -> Outcome {
    cargo(&["test", "--workspace", "--locked", "--quiet"])
}

fn build() -> Outcome {
    cargo(&[
        "build",
        "--release",
        "--locked",
        "--quiet",
        "-p",
        "ringlog",
        "-p",
        "ringlog-sim",
        "-p",
        "ringlog-benches",
    ])
}

/// A program of the release build.
pub fn binary(name: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    target.join("release").join(name)
}

fn packed() -> Outcome {
    match missing(&["strip", "tar", "gzip"]) {
        Some(reason) => Outcome::Skipped(reason),
        None => ran(dist::check()),
    }
}

fn sim() -> Outcome {
    let sim = binary("ringlog-sim");
    // Its registry of scenarios says how many seeds of which.
    ran(processes::run(&sim.to_string_lossy(), &["ci"]))
}

fn fuzz() -> Outcome {
    let sim = binary("ringlog-sim");
    ran(processes::run(
        &sim.to_string_lossy(),
        &["fuzz", "--seconds", FUZZ_SECONDS],
    ))
}

/// What the end-to-end benches are run on: they must work, their figures are those of a busy machine.
const END_TO_END: [&str; 3] = ["64x1KiB", "fetch-64KiB", "partitions-4000"];

fn benches() -> Outcome {
    if let Some(reason) = missing(&["valgrind", "setpriv", "taskset", "prlimit"]) {
        return Outcome::Skipped(reason);
    }
    let run = || {
        let counted = binary("ringlog-benches");
        processes::run(&counted.to_string_lossy(), &["--instructions"])?;
        let end_to_end = binary("end-to-end");
        END_TO_END.iter().try_for_each(|workload| {
            processes::run(&end_to_end.to_string_lossy(), &[workload, "--quick"])
        })
    };
    ran(run())
}

/// A directory for brokers' data, on the disk of the build, so that direct I/O is what is tested.
fn scratch(name: &str) -> Result<PathBuf, String> {
    let folder = Path::new("target").join("ci").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// Whether a program can be run; if not, the step is skipped in plain sight.
fn missing(programs: &[&str]) -> Option<String> {
    let absent: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| processes::run("which", &[program]).is_err())
        .collect();
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}

fn broker() -> Outcome {
    if let Some(reason) = missing(&["python3"]) {
        return Outcome::Skipped(reason);
    }
    ran(broker_checks())
}

/// Memory that the broker under attack is given, and what its process may then take: budget, allocator slack, code.
const ATTACKED_MEMORY: &str = "256M";
const ATTACKED_RSS_MIB: &str = "640";

/// Seconds of each part of the memory check; what comes back at its end takes half a minute more.
const MEMORY_SECONDS: &str = "2";

/// Two shards, so that requests of one are for the other.
const CORES_UNDER_LOAD: &str = "0,1";

/// Kill -9 cycles of a CI run; the full proof is `tools/compat/crash/check --cycles 100`.
const CRASH_CYCLES: &str = "10";

fn broker_checks() -> Result<(), String> {
    let ringlog = binary("ringlog");
    let data = scratch("broker")?;
    let attacked = [
        "--memory",
        ATTACKED_MEMORY,
        "--override",
        "num.partitions=4",
    ];
    let broker = Broker::start(&ringlog, &data.join("data"), &attacked)?;
    let pid = broker.pid().to_string();
    let address = broker.address.clone();
    processes::run("tools/compat/answers/check", &["--bootstrap", &address])?;
    let hostile = [
        "--bootstrap",
        &address,
        "--pid",
        &pid,
        "--rss-max",
        ATTACKED_RSS_MIB,
    ];
    processes::run(
        "tools/compat/hostile/check",
        &[&hostile[..], &["--seconds", "2"]].concat(),
    )?;
    broker.stop()?;
    let ringlog_path = ringlog.to_string_lossy().into_owned();
    let scratch = data.to_string_lossy().into_owned();
    processes::run(
        "tools/compat/memory/check",
        &[
            "--seconds",
            MEMORY_SECONDS,
            "--directory",
            &scratch,
            "--",
            &ringlog_path,
            "broker",
            "--cores",
            CORES_UNDER_LOAD,
        ],
    )?;
    let crash = data.join("crash").to_string_lossy().into_owned();
    let address = free_address()?;
    let ringlog = ringlog.to_string_lossy().into_owned();
    let command = [
        &ringlog,
        "broker",
        "--listen",
        &address,
        "--data-dir",
        &crash,
    ];
    let harness = ["--bootstrap", &address, "--cycles", CRASH_CYCLES, "--"];
    for check in ["lives", "upgrade", "full_disk"] {
        let directory = data.join(check).to_string_lossy().into_owned();
        let program = format!("tools/compat/{check}/check");
        processes::run(&program, &["--ringlog", &ringlog, "--data", &directory])?;
    }
    processes::run("tools/compat/crash/check", &["--planted"])?;
    processes::run(
        "tools/compat/crash/check",
        &[&harness[..], &command].concat(),
    )
}

/// An address that is free now, for a broker that is killed and started on it again and again.
fn free_address() -> Result<String, String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok(address.to_string())
}

/// The page that `ringlog sweep` writes, opened in a browser at two widths, light and dark.
fn report() -> Outcome {
    if let Some(reason) = missing(&["python3", "chromium"]) {
        return Outcome::Skipped(reason);
    }
    let ringlog = binary("ringlog").to_string_lossy().into_owned();
    ran(processes::run(
        "tools/compat/report/check",
        &["--planted", "--ringlog", &ringlog],
    ))
}

/// What another client may wait in a CI run, which shares its cores; on a quiet machine it is under 50 ms.
const CODECS_WAIT_MS: &str = "250";

fn clients() -> Outcome {
    if let Some(reason) = missing(&["python3", "java", "mvn", "go", "node", "npm"]) {
        return Outcome::Skipped(reason);
    }
    let run = || {
        let data = scratch("clients")?;
        let broker = Broker::start(&binary("ringlog"), &data.join("data"), &[])?;
        let address = broker.address.clone();
        processes::run("tools/compat/run", &["--bootstrap", &address, "--smoke"])?;
        processes::run(
            "tools/compat/codecs/check",
            &[
                "--bootstrap",
                &address,
                "--smoke",
                "--wait-max",
                CODECS_WAIT_MS,
            ],
        )?;
        let tools = "tools/compat/kafka-tools/check";
        processes::run(tools, &["--bootstrap", &address, "--smoke"])?;
        broker.stop()?;
        let ringlog = binary("ringlog").to_string_lossy().into_owned();
        let faults = ["--short", "--ringlog", &ringlog];
        processes::run("tools/compat/cluster/faults", &faults)?;
        // Segments are cut to their exact size when the broker stops.
        let partitions = data.join("data").join("partitions");
        processes::run(tools, &["--segments", &partitions.to_string_lossy()])
    };
    ran(run())
}
