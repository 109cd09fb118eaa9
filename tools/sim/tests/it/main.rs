//! A few seeds of every scenario, and a short run of the batch fuzzer.

mod metrics;

use ringlog_sim::fuzz::BatchFuzzer;
use ringlog_sim::run::run;
use ringlog_sim::scenarios::{SCENARIOS, find};

#[test]
fn promises_hold() {
    for scenario in SCENARIOS {
        let mut acknowledged = 0;
        for seed in 0..4 {
            let outcome = run(scenario, seed, false);
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

#[test]
fn the_same_seed_gives_the_same_trace() {
    let scenario = find("shards").expect("it is registered");
    let (first, second) = (run(scenario, 5, false), run(scenario, 5, false));
    assert_eq!(first.trace_hash, second.trace_hash);
    assert_ne!(first.trace_hash, run(scenario, 6, false).trace_hash);
}

#[test]
fn an_acknowledgement_before_durability_is_caught() {
    let scenario = find("power-cut").expect("it is registered");
    let caught = (0..80).any(|seed| {
        let outcome = run(scenario, seed, true);
        outcome
            .violations
            .iter()
            .any(|what| what.contains("is lost"))
    });
    assert!(caught, "80 seeds did not notice");
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
