//! The regression gate: instructions of one operation of each bench, counted under callgrind, against a checked-in list.
//!
//! Only what is timed is counted (`meter::timed`), so that preparation does not matter. Counts of one build repeat
//! exactly: inputs come from fixed seeds, one thread runs, and [`ENVIRONMENT`] takes clocks and chance out of the
//! allocator and out of the C library's choice of `memcpy`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Bench;

/// How much more than the baseline fails. A build repeats its counts exactly, so this is not noise. It leaves room for
/// changes elsewhere that move the layout of code and heap: the same operation then takes other branches in the
/// allocator and in `memcpy`, mostly worth less than 1 %. Twice that still finds a copy, a check or an allocation that
/// was added to an operation. Where the compiler inlines otherwise it may be more: then look, and accept.
pub const WORSE_MAX: f64 = 0.02;

/// The allocator gives back nothing by the clock and offsets nothing by chance; copies are counted as vector
/// instructions, where `rep movsb` would count each byte as one.
const ENVIRONMENT: [(&str, &str); 2] = [
    (
        "_RJEM_MALLOC_CONF",
        "dirty_decay_ms:-1,muzzy_decay_ms:-1,narenas:1,cache_oblivious:false,experimental_tcache_gc:false",
    ),
    ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS"),
];

const HEADER: &str = "# Instructions per operation under callgrind, checked by `cargo xtask ci benches`. To accept new ones:\n\
    # cargo run --release -p ringlog-benches -- --accept\n";

/// Why the gate did not come to a verdict.
#[derive(Debug, thiserror::Error)]
pub enum InstructionsError {
    /// A program cannot be run.
    #[error("{program}: {source}")]
    Program {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// Callgrind ran but did not count.
    #[error("{bench} under callgrind: {reason}")]
    NotCounted {
        /// What was counted.
        bench: String,
        /// What it said.
        reason: String,
    },
    /// The list of accepted counts cannot be read or written.
    #[error("{}: {reason}", path.display())]
    Baseline {
        /// Where it is.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Accepted counts by the name of the bench.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline(BTreeMap<String, f64>);

/// A count beside the accepted one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// No count was accepted yet.
    New,
    /// Within bounds, or exactly as before.
    Same,
    /// This share less than accepted: accept it, so that it stays.
    Better(f64),
    /// This share more than accepted: the gate fails.
    Worse(f64),
}

impl Baseline {
    /// The checked-in list.
    pub fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.tsv")
    }

    /// Reads the list; none there is an empty one.
    pub fn read(path: &Path) -> Result<Baseline, InstructionsError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Baseline::parse(&text).map_err(|reason| failed(path, reason)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Baseline::default()),
            Err(error) => Err(failed(path, error.to_string())),
        }
    }

    fn parse(text: &str) -> Result<Baseline, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let parsed = lines.map(|line| {
            let (name, count) = line.split_once('\t')?;
            Some((name.to_owned(), count.parse().ok()?))
        });
        let counts: Option<BTreeMap<String, f64>> = parsed.collect();
        let counts = counts.ok_or("expected lines of a name, a tab and a count")?;
        Ok(Baseline(counts))
    }

    /// Writes the list.
    pub fn write(&self, path: &Path) -> Result<(), InstructionsError> {
        std::fs::write(path, self.text()).map_err(|error| failed(path, error.to_string()))
    }

    fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        for (name, count) in &self.0 {
            writeln!(text, "{name}\t{count:.1}").expect("writing to memory");
        }
        text
    }

    /// Accepts a count.
    pub fn accept(&mut self, name: &str, count: f64) {
        self.0.insert(name.to_owned(), count);
    }

    /// The accepted count.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Forgets benches that are no longer there, and names them.
    pub fn retain(&mut self, benches: &[Bench]) -> Vec<String> {
        let known = |name: &str| benches.iter().any(|bench| bench.name == name);
        let gone = self.0.keys().filter(|name| !known(name)).cloned().collect();
        self.0.retain(|name, _| known(name));
        gone
    }

    /// What is to be said about a new count.
    pub fn judge(&self, name: &str, count: f64) -> Verdict {
        let Some(accepted) = self.get(name).filter(|accepted| *accepted > 0.0) else {
            return Verdict::New;
        };
        let change = count / accepted - 1.0;
        if change > WORSE_MAX {
            Verdict::Worse(change)
        } else if change < -WORSE_MAX {
            Verdict::Better(-change)
        } else {
            Verdict::Same
        }
    }
}

fn failed(path: &Path, reason: String) -> InstructionsError {
    InstructionsError::Baseline {
        path: path.to_owned(),
        reason,
    }
}

/// Instructions of one operation: runs `program`, which is this program, on one bench under callgrind.
pub fn count(program: &Path, bench: &Bench) -> Result<f64, InstructionsError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*meter::timed*"])
        .arg(program)
        .args([bench.name, "--quick"])
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| name == "PATH"))
        .envs(ENVIRONMENT)
        .output()
        .map_err(|source| InstructionsError::Program {
            program: "valgrind".to_owned(),
            source,
        })?;
    let table = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let per_op = collected(&said).zip(ops_timed(&table, bench.name));
    let per_op = per_op.filter(|(collected, ops)| *collected > 0 && *ops > 0);
    let Some((collected, ops)) = per_op else {
        return Err(InstructionsError::NotCounted {
            bench: bench.name.to_owned(),
            reason: said.into_owned(),
        });
    };
    Ok(collected as f64 / ops as f64)
}

/// From callgrind's last words: `==PID== Collected : 7234092`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

/// From the table of this program: its last column.
fn ops_timed(table: &str, name: &str) -> Option<u64> {
    let row = |line: &&str| line.split_whitespace().next() == Some(name);
    let line = table.lines().find(row)?;
    line.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_judged_by_what_was_accepted() {
        let mut baseline = Baseline::default();
        baseline.accept("a/b", 1000.0);
        for (count, verdict) in [
            (1000.0, "same"),
            (1019.0, "same"),
            (1021.0, "worse"),
            (981.0, "same"),
            (900.0, "better"),
        ] {
            let said = match baseline.judge("a/b", count) {
                Verdict::Worse(_) => "worse",
                Verdict::Better(_) => "better",
                Verdict::Same => "same",
                Verdict::New => "new",
            };
            assert_eq!(said, verdict, "{count}");
        }
        assert_eq!(baseline.judge("other", 1.0), Verdict::New);
    }

    #[test]
    fn the_list_survives_a_round_trip() {
        let mut baseline = Baseline::default();
        baseline.accept("log/append", 12.5);
        baseline.accept("mailbox/hop", 241.0);
        assert_eq!(Baseline::parse(&baseline.text()), Ok(baseline));
        for bad in ["name", "name 5", "name\tfive"] {
            assert!(Baseline::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_are_found_in_what_the_programs_say() {
        let said = "==7== Events    : Ir\n==7== Collected : 7234092\n";
        assert_eq!(collected(said), Some(7_234_092));
        assert_eq!(collected("no"), None);
        let table = "name  ns per  op  MB/s  ops timed\nmailbox/hop  753.8  message  -  30000\n";
        assert_eq!(ops_timed(table, "mailbox/hop"), Some(30_000));
        assert_eq!(ops_timed(table, "mailbox"), None);
    }

    #[test]
    fn every_bench_has_an_accepted_count_and_none_is_stale() {
        let mut baseline = Baseline::read(&Baseline::path()).unwrap();
        for bench in crate::BENCHES {
            assert!(baseline.get(bench.name).is_some(), "{}", bench.name);
        }
        assert_eq!(baseline.retain(crate::BENCHES), Vec::<String>::new());
    }
}
