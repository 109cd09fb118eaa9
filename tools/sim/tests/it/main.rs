//! A few seeds of every scenario, and a short run of the batch fuzzer.

mod answer_order;
mod cluster;
mod frozen;
mod metrics;
mod three_brokers;

use ringlog_sim::fuzz::BatchFuzzer;
use ringlog_sim::history::Tallies;
use ringlog_sim::planted::PLANTED;
use ringlog_sim::run::run;
use ringlog_sim::scenarios::{SCENARIOS, find};

/// Seeds in which a planted bug must be noticed.
const PLANTED_SEEDS: u64 = 80;

#[test]
fn promises_hold() {
    for scenario in SCENARIOS {
        let mut acknowledged = 0;
        for seed in 0..4 {
            let outcome = run(scenario, seed, None);
            assert!(
                outcome.violations.is_empty(),
                "{} of seed {seed}: {:#?}",
                scenario.name,
                outcome.violations
            );
            acknowledged += outcome.tallies.acknowledged;
        }
        assert!(acknowledged > 0, "{} acknowledged nothing", scenario.name);
    }
}

/// What once failed, beside the seeds that are run each time: a deletion on a full disk was not decided, because starts had
/// used up the room in the journal; then appends were left too little of a small one.
#[test]
fn what_once_failed_holds() {
    for (name, seed) in [
        ("full-disk", 1086),
        ("full-disk", 1849),
        ("full-disk", 1857),
    ] {
        let scenario = find(name).expect("it is registered");
        let violations = run(scenario, seed, None).violations;
        assert!(
            violations.is_empty(),
            "{name} of seed {seed}: {violations:#?}"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for name in ["shards", "several"] {
        let scenario = find(name).expect("it is registered");
        let (first, second) = (run(scenario, 5, None), run(scenario, 5, None));
        assert_eq!(first.trace_hash, second.trace_hash, "{name}");
        assert_eq!(first.tallies, second.tallies, "{name}");
        assert_ne!(first.trace_hash, run(scenario, 6, None).trace_hash);
    }
}

/// Brokers are looked into, and something happens to them, or the scenario shows nothing.
#[test]
fn several_brokers_suffer_and_are_looked_at() {
    let scenario = find("several").expect("it is registered");
    let mut tallies = Tallies::default();
    for seed in 0..10 {
        tallies.add(&run(scenario, seed, None).tallies);
    }
    assert!(tallies.harms > 20 && tallies.looks > 40, "{tallies:?}");
    assert!(tallies.acknowledged > 100, "{tallies:?}");
}

/// Each checker fails when what it watches is broken.
#[test]
fn planted_bugs_are_noticed() {
    for bug in PLANTED {
        let scenario = find(bug.scenario).expect("it is registered");
        let noticed = (0..PLANTED_SEEDS).any(|seed| {
            let outcome = run(scenario, seed, Some(bug.what));
            bug.noticed(&outcome).is_some()
        });
        assert!(noticed, "{PLANTED_SEEDS} seeds did not notice {}", bug.name);
    }
}

#[test]
fn mutated_batches_do_no_harm() {
    let mut fuzzer = BatchFuzzer::new(1);
    for _ in 0..3_000 {
        fuzzer.step().expect("bounded, and readable if valid");
    }
    let report = fuzzer.report();
    assert!(
        report.accepted > 0 && report.accepted < report.cases,
        "{report:?}"
    );
}
