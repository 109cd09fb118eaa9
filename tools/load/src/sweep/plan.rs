//! What a sweep measures, in which order, and how long that takes.
//!
//! Pure. Invariants: the order of the grid reads the same from both ends for an even number of repetitions, so that a
//! steady drift of the machine cancels in every pair and every repetition; at least one target, one batch size, one
//! number in flight; every list is bounded.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::knee::KneeLimits;

/// Most brokers that one sweep compares: charts beside each other stop being readable beyond.
pub const TARGETS_MAX: usize = 4;
/// Most values of one axis.
pub const AXIS_VALUES_MAX: usize = 16;
/// Most runs of one sweep: three weeks at 6 s each.
pub const RUNS_MAX: usize = 300_000;
/// What a run takes beside its warm-up and its measured time: creating and deleting its topic, connecting.
pub const RUN_OVERHEAD: Duration = Duration::from_millis(700);

/// A broker to measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// What the report calls it.
    pub name: String,
    /// `HOST:PORT`, several with commas.
    pub bootstrap: String,
}

/// The values that vary. Each list has at least one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axes {
    /// Bytes that a batch is filled up to, before compression.
    pub batch_bytes: Vec<u64>,
    /// Microseconds for which records gather: 0 sends each at once, `None` sends batches only when they are full. Only
    /// matters at a rate.
    pub linger_us: Vec<Option<u64>>,
    /// Unanswered requests per connection.
    pub in_flight: Vec<u64>,
    /// Offered records per second; `None` is as fast as answers come (closed loop).
    pub rates: Vec<Option<u64>>,
}

/// One combination of the axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    /// Bytes that a batch is filled up to.
    pub batch_bytes: u64,
    /// Microseconds for which records gather; `None` until their batch is full, as always in a closed loop, where none
    /// has to be waited for.
    pub linger_us: Option<u64>,
    /// Unanswered requests per connection.
    pub in_flight: u64,
    /// Offered records per second; `None` is a closed loop.
    pub rate: Option<u64>,
}

/// What is the same at every point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fixed {
    /// Bytes of each value.
    pub record_bytes: u64,
    /// Connections over all cores.
    pub connections: u64,
    /// Partitions of each run's topic.
    pub partitions: i32,
    /// Its replicas; -1 is the broker's default.
    pub replication_factor: i16,
    /// Its other settings, `name=value`.
    pub topic_configs: Vec<(String, String)>,
    /// `0`, `1` or `all`.
    pub acks: String,
    /// Codec.
    pub compression: String,
    /// Whether producers are idempotent.
    pub idempotent: bool,
    /// CPUs of the generator, as written on the command line.
    pub cores: Option<String>,
}

/// Everything that decides what a sweep does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Brokers; the first is the baseline of ratios.
    pub targets: Vec<Target>,
    /// What varies.
    pub axes: Axes,
    /// What does not.
    pub fixed: Fixed,
    /// Times that each point of the grid is measured on each target.
    pub repetitions: u32,
    /// Time before measuring, in milliseconds.
    pub warmup_ms: u64,
    /// Measured time, in milliseconds.
    pub measure_ms: u64,
    /// How the knee of each batch size is looked for; `None` leaves it out.
    pub knee: Option<KneeLimits>,
}

/// A plan that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A list is empty or too long.
    #[error("{what}: give 1 to {max} values")]
    Values {
        /// Which list.
        what: &'static str,
        /// Its bound.
        max: usize,
    },
    /// A number that must be positive is not.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
    /// Two targets of one name.
    #[error("two targets are called {0:?}: give each its own name, --target NAME=HOST:PORT")]
    SameName(String),
    /// Longer than anybody waits.
    #[error("{runs} runs are too many, {RUNS_MAX} is the most: fewer values or fewer repetitions")]
    TooLong {
        /// How many it would be.
        runs: usize,
    },
}

impl Plan {
    /// Checks ranges and combinations.
    pub fn validate(&self) -> Result<(), PlanError> {
        let axes = &self.axes;
        let lengths = [
            ("--target", self.targets.len(), TARGETS_MAX),
            ("--batch-bytes", axes.batch_bytes.len(), AXIS_VALUES_MAX),
            ("--linger", axes.linger_us.len(), AXIS_VALUES_MAX),
            ("--in-flight", axes.in_flight.len(), AXIS_VALUES_MAX),
            ("--rate", axes.rates.len(), AXIS_VALUES_MAX),
        ];
        for (what, length, max) in lengths {
            if length == 0 || length > max {
                return Err(PlanError::Values { what, max });
            }
        }
        let zeros = [
            ("--batch-bytes", axes.batch_bytes.contains(&0)),
            ("--in-flight", axes.in_flight.contains(&0)),
            ("--rate", axes.rates.contains(&Some(0))),
            ("--repetitions", self.repetitions == 0),
            ("--duration", self.measure_ms == 0),
        ];
        if let Some((what, _)) = zeros.iter().find(|(_, zero)| *zero) {
            return Err(PlanError::Zero(what));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = self.targets.iter().find(|t| !names.insert(&t.name)) {
            return Err(PlanError::SameName(twice.name.clone()));
        }
        let runs = self.runs_max();
        if runs > RUNS_MAX {
            return Err(PlanError::TooLong { runs });
        }
        Ok(())
    }

    /// The grid: every combination once. A closed loop never waits for records, so lingers are one there.
    pub fn points(&self) -> Vec<Point> {
        let mut seen = BTreeSet::new();
        let mut points = Vec::new();
        for &batch_bytes in &self.axes.batch_bytes {
            for &in_flight in &self.axes.in_flight {
                for &rate in &self.axes.rates {
                    for &linger_us in &self.axes.linger_us {
                        let point = Point {
                            batch_bytes,
                            linger_us: linger_us.filter(|_| rate.is_some()),
                            in_flight,
                            rate,
                        };
                        if seen.insert(point) {
                            points.push(point);
                        }
                    }
                }
            }
        }
        points
    }

    /// The grid's runs in order, as (repetition, target, point): A-B, B-A, A-B, ... over the points, and each odd
    /// repetition is the mirror of the even one before it.
    pub fn grid(&self) -> Vec<(u32, usize, Point)> {
        let mut runs = Vec::new();
        for repetition in 0..self.repetitions {
            let mut round = Vec::new();
            for (index, point) in self.points().into_iter().enumerate() {
                round.extend(alternate(self.targets.len(), index).map(|t| (repetition, t, point)));
            }
            if repetition % 2 == 1 {
                round.reverse();
            }
            runs.extend(round);
        }
        runs
    }

    /// Batch sizes and lingers whose knee is looked for, each once.
    pub fn knee_groups(&self) -> Vec<(u64, Option<u64>)> {
        let mut groups = Vec::new();
        if self.knee.is_none() {
            return groups;
        }
        for &batch_bytes in &self.axes.batch_bytes {
            for &linger_us in &self.axes.linger_us {
                if !groups.contains(&(batch_bytes, linger_us)) {
                    groups.push((batch_bytes, linger_us));
                }
            }
        }
        groups
    }

    /// Whether the grid measures each batch size as fast as answers come, which a search for the knee starts from.
    pub fn has_closed_loop(&self) -> bool {
        self.axes.rates.contains(&None)
    }

    /// Runs if every search for a knee takes all its steps.
    pub fn runs_max(&self) -> usize {
        let targets = self.targets.len();
        let repetitions = usize::try_from(self.repetitions).unwrap_or(usize::MAX);
        let grid = self
            .points()
            .len()
            .saturating_mul(repetitions)
            .saturating_mul(targets);
        let steps = self.knee.as_ref().map_or(0, |knee| {
            usize::try_from(knee.steps_max).unwrap_or(usize::MAX)
        });
        let first = usize::from(!self.has_closed_loop());
        let knees = self
            .knee_groups()
            .len()
            .saturating_mul(steps.saturating_add(first))
            .saturating_mul(targets);
        grid.saturating_add(knees)
    }

    /// Time of one run.
    pub fn run_time(&self) -> Duration {
        Duration::from_millis(self.warmup_ms.saturating_add(self.measure_ms)) + RUN_OVERHEAD
    }

    /// Time of the sweep if every search for a knee takes all its steps.
    pub fn estimate(&self) -> Duration {
        let runs = u32::try_from(self.runs_max()).unwrap_or(u32::MAX);
        self.run_time().saturating_mul(runs)
    }
}

/// Targets in order for round `index`: forward, backward, backward, forward is what two rounds amount to.
pub fn alternate(targets: usize, index: usize) -> impl Iterator<Item = usize> {
    (0..targets).map(move |at| {
        if index.is_multiple_of(2) {
            at
        } else {
            targets - 1 - at
        }
    })
}

impl fmt::Display for Point {
    /// `batch 32 KiB, linger 1 ms, 8 in flight`, without the rate.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "batch {}", super::words::bytes(self.batch_bytes))?;
        match self.linger_us {
            None => {}
            Some(0) => out.write_str(", at once")?,
            Some(micros) => write!(out, ", linger {}", super::words::micros(micros))?,
        }
        write!(out, ", {} in flight", self.in_flight)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan(targets: &[&str]) -> Plan {
        Plan {
            targets: targets
                .iter()
                .map(|name| Target {
                    name: (*name).to_owned(),
                    bootstrap: "127.0.0.1:9092".to_owned(),
                })
                .collect(),
            axes: Axes {
                batch_bytes: vec![4 << 10, 64 << 10],
                linger_us: vec![None],
                in_flight: vec![1, 8],
                rates: vec![None],
            },
            fixed: Fixed {
                record_bytes: 1024,
                connections: 4,
                partitions: 8,
                replication_factor: -1,
                topic_configs: Vec::new(),
                acks: "all".to_owned(),
                compression: "none".to_owned(),
                idempotent: false,
                cores: None,
            },
            repetitions: 2,
            warmup_ms: 1_000,
            measure_ms: 5_000,
            knee: Some(KneeLimits::default()),
        }
    }

    #[test]
    fn the_grid_reads_the_same_from_both_ends() {
        for targets in [&["a"][..], &["a", "b"], &["a", "b", "c"]] {
            let grid = plan(targets).grid();
            assert_eq!(grid.len(), 4 * 2 * targets.len());
            let places: Vec<(usize, Point)> = grid.iter().map(|run| (run.1, run.2)).collect();
            let mut mirrored = places.clone();
            mirrored.reverse();
            assert_eq!(places, mirrored);
        }
    }

    #[test]
    fn a_steady_drift_cancels_between_targets() {
        let grid = plan(&["a", "b"]).grid();
        let first: Vec<usize> = grid.iter().take(4).map(|run| run.1).collect();
        assert_eq!(first, [0, 1, 1, 0]);
        let sum = |target| -> usize {
            let places = grid.iter().enumerate().filter(|(_, run)| run.1 == target);
            places.map(|(at, _)| at).sum()
        };
        assert_eq!(sum(0), sum(1));
    }

    #[test]
    fn a_closed_loop_has_no_linger() {
        let mut plan = plan(&["a"]);
        plan.axes.linger_us = vec![None, Some(0), Some(1_000)];
        assert_eq!(plan.points().len(), 4);
        plan.axes.rates = vec![None, Some(10_000)];
        assert_eq!(plan.points().len(), 4 + 12);
        assert_eq!(plan.knee_groups().len(), 6);
    }

    #[test]
    fn the_estimate_counts_every_run() {
        let mut plan = plan(&["a", "b"]);
        let steps = KneeLimits::default().steps_max as usize;
        assert_eq!(plan.runs_max(), 16 + 2 * 2 * steps);
        assert_eq!(plan.estimate(), plan.run_time() * plan.runs_max() as u32);
        plan.axes.rates = vec![Some(1_000)];
        assert_eq!(plan.runs_max(), 16 + 2 * 2 * (steps + 1));
        plan.knee = None;
        assert_eq!(plan.runs_max(), 16);
    }

    #[test]
    fn senseless_plans_are_refused() {
        assert_eq!(plan(&["a", "b"]).validate(), Ok(()));
        let refused = |change: fn(&mut Plan)| {
            let mut plan = plan(&["a", "b"]);
            change(&mut plan);
            plan.validate().unwrap_err()
        };
        assert_eq!(
            refused(|p| p.targets[1].name = "a".to_owned()),
            PlanError::SameName("a".to_owned())
        );
        assert_eq!(
            refused(|p| p.repetitions = 0),
            PlanError::Zero("--repetitions")
        );
        assert_eq!(
            refused(|p| p.axes.rates = vec![Some(0)]),
            PlanError::Zero("--rate")
        );
        for change in [
            (|p| p.axes.in_flight.clear()) as fn(&mut Plan),
            |p| p.targets.clear(),
            |p| p.axes.batch_bytes = vec![1; AXIS_VALUES_MAX + 1],
        ] {
            assert!(matches!(refused(change), PlanError::Values { .. }));
        }
        assert!(matches!(
            refused(|p| p.repetitions = u32::MAX),
            PlanError::TooLong { .. }
        ));
    }

    #[test]
    fn points_in_words() {
        let point = Point {
            batch_bytes: 32 << 10,
            linger_us: Some(1_000),
            in_flight: 8,
            rate: None,
        };
        assert_eq!(point.to_string(), "batch 32 KiB, linger 1 ms, 8 in flight");
    }
}
