//! Plays many seeds on all cores, shows how far it is, tells at the end what came of them.

use std::cell::Cell;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Instant;

use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use ringlog_sim::history::Tallies;
use ringlog_sim::planted::Planted;
use ringlog_sim::run::{Outcome, run};
use ringlog_sim::scenarios::Scenario;

/// Failed seeds of which everything is told; of the others, the first violation.
const TOLD_MAX: usize = 8;

thread_local! {
    /// What this thread plays, for the message of a panic.
    static PLAYING: Cell<Option<(&'static str, u64)>> = const { Cell::new(None) };
}

/// A panic of the broker ends the process in a release build: say at least where.
pub(crate) fn name_seed_on_panic() {
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
    format!("ringlog-sim run {name} --seeds 1 --seed {seed} --log")
}

/// Plays one seed on this thread.
pub(crate) fn play_one(
    scenario: &'static Scenario,
    seed: u64,
    planted: Option<Planted>,
) -> Outcome {
    PLAYING.set(Some((scenario.name, seed)));
    let outcome = run(scenario, seed, planted);
    PLAYING.set(None);
    outcome
}

/// Seeds of one scenario.
pub(crate) struct Series {
    pub(crate) scenario: &'static Scenario,
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Threads.
    pub(crate) jobs: u64,
    pub(crate) planted: Option<Planted>,
}

impl Series {
    /// Plays them; calls `seen` with each outcome until it says enough.
    pub(crate) fn play(&self, mut seen: impl FnMut(Outcome) -> bool) {
        let next = AtomicU64::new(0);
        let enough = AtomicBool::new(false);
        let (to, from) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let to = to.clone();
                scope.spawn(|| {
                    // The receiver goes away when enough was seen.
                    let to = to;
                    while !enough.load(Ordering::Relaxed) {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index >= self.count {
                            return;
                        }
                        let outcome = play_one(self.scenario, self.first + index, self.planted);
                        if to.send(outcome).is_err() {
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
}

fn progress(name: &'static str, count: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:14} {wide_bar} {pos}/{len} seeds {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(count).with_style(style).with_message(name)
}

/// What came of the seeds of one scenario.
#[derive(Default)]
struct Sum {
    tallies: Tallies,
    events: u64,
    failed: u64,
}

impl Sum {
    fn row(&self, name: &str, count: u64, seconds: f64) -> Vec<String> {
        let Sum {
            tallies,
            events,
            failed,
        } = self;
        let numbers = [
            count,
            *failed,
            tallies.acknowledged,
            tallies.failed,
            tallies.indeterminate,
            tallies.records_read,
            tallies.commits,
            tallies.topics_deleted,
            tallies.stops,
            tallies.stops_in_recovery,
            tallies.fences,
            tallies.full,
            tallies.metadata_snapshots,
            tallies.harms,
            tallies.looks,
            *events,
        ];
        let mut row = vec![name.to_owned()];
        row.extend(numbers.iter().map(u64::to_string));
        row.push(format!("{seconds:.1}"));
        row.push(format!("{:.1}", count as f64 / seconds));
        row
    }
}

/// Plays so many seeds of each scenario; whether every promise held.
pub(crate) fn play(chosen: &[(&'static Scenario, u64)], first: u64, jobs: u64) -> bool {
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
        "deleted",
        "stops",
        "in recovery",
        "fences",
        "full",
        "snapshots",
        "harms",
        "looks",
        "events",
        "seconds",
        "seeds/s",
    ]);
    let mut failed: Vec<(&str, Outcome)> = Vec::new();
    for (scenario, count) in chosen {
        let start = Instant::now();
        let bar = progress(scenario.name, *count);
        let mut sum = Sum::default();
        let series = Series {
            scenario,
            first,
            count: *count,
            jobs,
            planted: None,
        };
        series.play(|outcome| {
            bar.inc(1);
            sum.tallies.add(&outcome.tallies);
            sum.events += outcome.trace_count;
            if !outcome.violations.is_empty() {
                sum.failed += 1;
                failed.push((scenario.name, outcome));
            }
            true
        });
        bar.finish_and_clear();
        let seconds = start.elapsed().as_secs_f64();
        if !std::io::stderr().is_terminal() {
            // The bar shows on terminals only.
            let (name, failed) = (scenario.name, sum.failed);
            println!("{name}: {count} seeds in {seconds:.1} s, {failed} failed");
        }
        table.add_row(sum.row(scenario.name, *count, seconds));
    }
    println!("{table}");
    tell(&mut failed);
    failed.is_empty()
}

fn tell(failed: &mut [(&str, Outcome)]) {
    failed.sort_by_key(|(name, outcome)| (*name, outcome.seed));
    for (index, (name, outcome)) in failed.iter().enumerate() {
        println!("\n{name}, seed {}:", outcome.seed);
        let most = if index < TOLD_MAX { usize::MAX } else { 1 };
        for violation in outcome.violations.iter().take(most) {
            println!("  {violation}");
        }
        println!("  again: {}", again(name, outcome.seed));
    }
}
