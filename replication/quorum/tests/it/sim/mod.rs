//! Clusters under faults, by seeds. `QUORUM_SEEDS=5000 cargo test -p ringlog-quorum --test it seeds_of` plays more of them,
//! `QUORUM_SEED=17` one.

mod checks;
pub(crate) mod disk;
pub(crate) mod image;
mod marks;
mod node;
pub(crate) mod rng;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ringlog_quorum::PlantedFault;

use marks::Marks;
use world::{Shape, World};

const MILLI: u64 = 1_000_000;
/// Seeds within which a planted fault must be noticed.
const PLANTED_SEEDS: u64 = 2_000;

/// What anybody can do wrong.
const ORDINARY: Shape = Shape {
    faults_ms: 20_000,
    planted: None,
    voters: 0,
    churn: false,
    slow_disks: false,
};
/// Voters come and go all the time.
const CHURN: Shape = Shape {
    churn: true,
    ..ORDINARY
};
/// Writes pile up, and leaders change over them.
const SLOW_DISKS: Shape = Shape {
    slow_disks: true,
    ..ORDINARY
};

/// Plays a seed. The hash of its course, and what happened in it.
fn play(seed: u64, shape: Shape) -> (u64, Marks) {
    let mut world = World::new(seed, shape);
    world.play(shape.faults_ms * MILLI);
    world.heal();
    world.settle(60_000);
    world.marks.decided = world.checks.facts.len() as u64;
    (world.trace, world.marks)
}

/// A seed's marks, or what went wrong with it.
fn outcome(seed: u64, shape: Shape) -> Result<Marks, String> {
    let played = catch_unwind(AssertUnwindSafe(|| play(seed, shape)));
    played.map(|(_, marks)| marks).map_err(|error| {
        let text = error.downcast_ref::<String>().cloned();
        let text = text.or_else(|| error.downcast_ref::<&str>().map(ToString::to_string));
        text.unwrap_or_else(|| "a panic".to_owned())
    })
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays many seeds; all of them together must have come everywhere.
fn seeds(shape: Shape, usual: u64) {
    if let Some(seed) = setting("QUORUM_SEED") {
        let outcome = outcome(seed, shape);
        println!("{outcome:?}");
        outcome.unwrap();
        return;
    }
    let mut sum = Marks::default();
    for seed in 0..setting("QUORUM_SEEDS").unwrap_or(usual) {
        match outcome(seed, shape) {
            Ok(marks) => sum.add(marks),
            Err(failure) => panic!("QUORUM_SEED={seed}: {failure}"),
        }
    }
    println!("{sum:?}");
    assert_eq!(sum.missing(), [] as [&str; 0], "{sum:?}");
}

#[test]
fn seeds_of_ordinary_clusters() {
    seeds(ORDINARY, 300);
}

#[test]
fn seeds_of_changing_voters() {
    seeds(CHURN, 100);
}

#[test]
fn seeds_of_slow_disks() {
    seeds(SLOW_DISKS, 100);
}

#[test]
fn a_seed_has_one_course() {
    for seed in [3, 8, 21] {
        let course = play(seed, CHURN).0;
        assert_eq!(course, play(seed, CHURN).0);
        assert_ne!(course, play(seed + 1, CHURN).0);
    }
}

/// Plays seeds with a fault until one shows it in these words. Other failures may come before: what is wrong at all does not
/// go wrong in one way only.
fn noticed(planted: PlantedFault, shape: Shape, words: &[&str]) {
    let shape = Shape {
        planted: Some(planted),
        ..shape
    };
    for seed in 0..PLANTED_SEEDS {
        if let Err(failure) = outcome(seed, shape)
            && words.iter().any(|words| failure.contains(words))
        {
            println!("{planted:?}: noticed at seed {seed}: {failure}");
            return;
        }
    }
    panic!("{PLANTED_SEEDS} seeds did not notice {planted:?}");
}

fn with(voters: u64) -> Shape {
    Shape { voters, ..ORDINARY }
}

#[test]
fn messages_that_do_not_wait_for_the_disk_are_noticed() {
    noticed(
        PlantedFault::SendsBeforePersisted,
        with(3),
        &["not durable"],
    );
}

#[test]
fn votes_that_are_not_written_are_noticed() {
    noticed(
        PlantedFault::VoteNotWritten,
        with(3),
        &["not durable", "two votes"],
    );
}

#[test]
fn a_commit_without_the_own_disk_is_noticed() {
    noticed(
        PlantedFault::CommitsWithoutOwnDisk,
        ORDINARY,
        &["not durable"],
    );
}

#[test]
fn a_log_that_is_not_cut_is_noticed() {
    noticed(PlantedFault::NoTruncation, with(3), &["a gap in the log"]);
}

#[test]
fn a_stale_snapshot_is_noticed() {
    noticed(PlantedFault::StaleSnapshot, with(3), &["begun anew at"]);
}

#[test]
fn a_wiped_voter_that_votes_again_is_noticed() {
    noticed(PlantedFault::AnyDirectory, with(3), &["lacks committed"]);
}

#[test]
fn a_single_voter_that_hurries_is_noticed() {
    noticed(PlantedFault::SingleVoterHurries, with(1), &["not durable"]);
}

#[test]
fn what_is_applied_before_it_is_durable_is_noticed() {
    noticed(
        PlantedFault::AppliesBeforePersisted,
        with(3),
        &["not durable"],
    );
}
