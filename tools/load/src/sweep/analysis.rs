//! What the measurements of a sweep say, before it becomes charts and tables.
//!
//! Pure. Repetitions of a point become one summary: the median of each figure (percentiles are never averaged), and how
//! far the repetitions lay apart. Summaries stand in the order of the plan.

use std::collections::BTreeMap;

use super::plan::{Plan, Point};
use super::record::{Figures, Header, Latency, Measurement, Phase};
use super::sequence::{FoundKnee, Sequence};
use crate::statistics::{Ratio, median, paired_ratio, range, spread};

/// Seed of the bootstrap: the same measurements give the same intervals.
const BOOTSTRAP_SEED: u64 = 0x5eed;

/// All runs of one point on one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Which target, by its place in the plan.
    pub target: usize,
    /// What was run.
    pub point: Point,
    /// Whether this was a step of a search rather than a point of the grid.
    pub searched: bool,
    /// Runs that were measured.
    pub runs: usize,
    /// Median of each figure; `None` if every run failed.
    pub figures: Option<Figures>,
    /// `(largest - smallest) / median` of the throughput, from two runs on.
    pub throughput_range: Option<f64>,
    /// Why runs failed.
    pub errors: Vec<String>,
}

/// How one target compares with the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Which target.
    pub target: usize,
    /// Batch size; `None` is all together.
    pub batch_bytes: Option<u64>,
    /// Its throughput over the first target's, over pairs of runs that followed each other.
    pub throughput: Option<Ratio>,
    /// Its p99 over the first target's.
    pub p99: Option<Ratio>,
}

/// Everything a report shows.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// What was known before.
    pub header: Header,
    /// The runs.
    pub measurements: Vec<Measurement>,
    /// One per target and point.
    pub summaries: Vec<Summary>,
    /// Knees.
    pub knees: Vec<FoundKnee>,
    /// One per further target and batch size, and one over all batch sizes.
    pub comparisons: Vec<Comparison>,
    /// How far repetitions of the same point lie apart in throughput.
    pub throughput_spread: Option<f64>,
    /// The same for p99.
    pub p99_spread: Option<f64>,
    /// Runs that were not made.
    pub missing_runs: usize,
}

impl Analysis {
    /// Of a sweep in whatever state it is.
    pub fn new(header: Header, sequence: &Sequence) -> Analysis {
        let measurements = sequence.measurements().to_vec();
        let plan = &header.plan;
        let by_point = |figure: fn(&Figures) -> f64| -> Vec<Vec<f64>> {
            let mut groups: BTreeMap<(usize, Point), Vec<f64>> = BTreeMap::new();
            for (m, figures) in grid(&measurements) {
                let group = groups.entry((m.job.target, m.job.point)).or_default();
                group.push(figure(figures));
            }
            groups.into_values().collect()
        };
        Analysis {
            summaries: summaries(&measurements),
            knees: sequence.knees(),
            comparisons: comparisons(plan, &measurements),
            throughput_spread: spread(&by_point(|f| f.mb_per_second)),
            p99_spread: spread(&by_point(|f| f.latency_ms.p99)),
            missing_runs: sequence.remaining_max(),
            measurements,
            header,
        }
    }

    /// Whether everything was measured.
    pub fn is_complete(&self) -> bool {
        self.missing_runs == 0
    }

    /// Summaries of one target with figures, in order.
    pub fn measured(&self, target: usize) -> impl Iterator<Item = (&Summary, &Figures)> {
        self.summaries
            .iter()
            .filter(move |summary| summary.target == target)
            .filter_map(|summary| Some((summary, summary.figures.as_ref()?)))
    }
}

/// Runs of the grid that were measured and mean something.
fn grid(measurements: &[Measurement]) -> impl Iterator<Item = (&Measurement, &Figures)> {
    measurements
        .iter()
        .filter(|m| m.job.phase == Phase::Grid)
        .filter_map(|m| Some((m, m.figures.as_ref()?)))
        .filter(|(_, figures)| figures.invalid.is_none())
}

fn summaries(measurements: &[Measurement]) -> Vec<Summary> {
    /// Target, batch bytes, linger, whether it was searched: the order of summaries; then the point itself.
    type Place = (usize, u64, Option<u64>, bool, Point);
    let mut groups: BTreeMap<Place, Vec<&Measurement>> = BTreeMap::new();
    for measurement in measurements {
        let (target, point) = (measurement.job.target, measurement.job.point);
        let searched = measurement.job.phase != Phase::Grid;
        let key = (target, point.batch_bytes, point.linger_us, searched, point);
        groups.entry(key).or_default().push(measurement);
    }
    let summaries = groups
        .into_iter()
        .map(|((target, _, _, searched, point), runs)| {
            let measured: Vec<&Figures> = runs.iter().filter_map(|m| m.figures.as_ref()).collect();
            let throughputs: Vec<f64> = measured.iter().map(|f| f.mb_per_second).collect();
            Summary {
                target,
                point,
                searched,
                runs: measured.len(),
                figures: middle(&measured),
                throughput_range: range(&throughputs),
                errors: runs.iter().filter_map(|m| m.error.clone()).collect(),
            }
        });
    summaries.collect()
}

/// The median of each figure; errors and remarks of any run are kept.
fn middle(runs: &[&Figures]) -> Option<Figures> {
    let first = runs.first()?;
    let of = |figure: fn(&Figures) -> f64| {
        let values: Vec<f64> = runs.iter().map(|f| figure(f)).collect();
        median(&values).unwrap_or(0.0)
    };
    Some(Figures {
        seconds: of(|f| f.seconds),
        records_per_second: of(|f| f.records_per_second),
        mb_per_second: of(|f| f.mb_per_second),
        requests: of(|f| f.requests as f64) as u64,
        requests_per_second: of(|f| f.requests_per_second),
        offered_records_per_second: first.offered_records_per_second,
        latency_ms: Latency {
            p50: of(|f| f.latency_ms.p50),
            p99: of(|f| f.latency_ms.p99),
            p999: of(|f| f.latency_ms.p999),
            max: runs.iter().map(|f| f.latency_ms.max).fold(0.0, f64::max),
        },
        errors: runs.iter().map(|f| f.errors).sum(),
        generator_cores: of(|f| f.generator_cores),
        invalid: runs.iter().find_map(|f| f.invalid.clone()),
        note: runs.iter().find_map(|f| f.note.clone()),
    })
}

fn comparisons(plan: &Plan, measurements: &[Measurement]) -> Vec<Comparison> {
    let mut comparisons = Vec::new();
    for target in 1..plan.targets.len() {
        let mut sizes: Vec<Option<u64>> = plan.axes.batch_bytes.iter().copied().map(Some).collect();
        sizes.dedup();
        sizes.push(None);
        for batch_bytes in sizes {
            let pairs = pairs(measurements, target, batch_bytes);
            let of = |figure: fn(&Figures) -> f64| {
                let first: Vec<f64> = pairs.iter().map(|(a, _)| figure(a)).collect();
                let other: Vec<f64> = pairs.iter().map(|(_, b)| figure(b)).collect();
                paired_ratio(&first, &other, BOOTSTRAP_SEED)
            };
            comparisons.push(Comparison {
                target,
                batch_bytes,
                throughput: of(|f| f.mb_per_second),
                p99: of(|f| f.latency_ms.p99),
            });
        }
    }
    comparisons
}

/// Runs of the grid on the first target and on `target` with the same point and repetition.
fn pairs(
    measurements: &[Measurement],
    target: usize,
    batch_bytes: Option<u64>,
) -> Vec<(&Figures, &Figures)> {
    let mut known: BTreeMap<(Point, u32), [Option<&Figures>; 2]> = BTreeMap::new();
    for (m, figures) in grid(measurements) {
        let job = m.job;
        if batch_bytes.is_some_and(|bytes| bytes != job.point.batch_bytes) {
            continue;
        }
        let pair = known.entry((job.point, job.repetition)).or_default();
        match job.target {
            0 => pair[0] = Some(figures),
            other if other == target => pair[1] = Some(figures),
            _ => {}
        }
    }
    let pairs = known.into_values().filter_map(|[a, b]| Some((a?, b?)));
    pairs.collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::sweep::Machine;
    use crate::sweep::plan::tests::plan;
    use crate::sweep::queue_model::Model;
    use crate::sweep::record::FORMAT_VERSION;

    /// A sweep over formulas, the second target half as fast, ended after `runs_max` runs.
    pub(crate) fn analysis(targets: &[&str], runs_max: usize) -> Analysis {
        let mut plan = plan(targets);
        plan.axes.in_flight = vec![1, 4, 16];
        let mut sequence = Sequence::new(plan.clone());
        let mut runs = 0;
        while let Some(job) = sequence.next().filter(|_| runs < runs_max) {
            runs += 1;
            let scale = 1.0 + job.target as f64;
            let model = Model {
                request_s: Model::default().request_s * scale,
                byte_s: Model::default().byte_s * scale,
            };
            let figures = match job.point.rate {
                None => model.closed_loop(job.point.batch_bytes, job.point.in_flight),
                Some(rate) => model.open_loop(job.point.batch_bytes, rate),
            };
            sequence.record(Measurement {
                job,
                figures: Some(figures),
                error: None,
            });
        }
        let header = Header {
            ringlog_sweep: FORMAT_VERSION,
            version: "0.1.0".to_owned(),
            command: "ringlog sweep".to_owned(),
            started: 1_000_000_000,
            machine: Machine::default(),
            brokers: vec![String::new(); targets.len()],
            plan,
        };
        Analysis::new(header, &sequence)
    }

    #[test]
    fn half_as_fast_is_a_ratio_of_one_half() {
        let analysis = analysis(&["a", "b"], usize::MAX);
        assert!(analysis.is_complete());
        assert_eq!(analysis.comparisons.len(), 3);
        for comparison in &analysis.comparisons {
            let throughput = comparison.throughput.unwrap();
            assert!((throughput.median - 0.5).abs() < 1e-9, "{throughput:?}");
            let p99 = comparison.p99.unwrap();
            assert!((p99.median - 2.0).abs() < 1e-9, "{p99:?}");
            let pairs = if comparison.batch_bytes.is_none() {
                12
            } else {
                6
            };
            assert_eq!(throughput.pairs, pairs);
        }
        assert_eq!(analysis.throughput_spread, Some(0.0));
    }

    #[test]
    fn summaries_are_of_all_repetitions() {
        let analysis = analysis(&["a"], usize::MAX);
        let grid: Vec<&Summary> = analysis.summaries.iter().filter(|s| !s.searched).collect();
        assert_eq!(grid.len(), 6);
        assert!(grid.iter().all(|s| s.runs == 2));
        assert!(analysis.comparisons.is_empty());
        let searched = analysis.summaries.iter().filter(|s| s.searched);
        assert!(searched.clone().count() > 4);
        assert!(searched.into_iter().all(|s| s.runs == 1));
    }

    #[test]
    fn an_early_end_says_what_is_missing() {
        let analysis = analysis(&["a", "b"], 3);
        assert!(!analysis.is_complete());
        assert_eq!(analysis.summaries.len(), 3);
        assert_eq!(analysis.comparisons[2].throughput.unwrap().pairs, 1);
    }

    #[test]
    fn medians_never_hide_errors() {
        let fine = Figures::fixture(100.0, 1.0);
        let bad = Figures {
            errors: 3,
            invalid: Some("late".to_owned()),
            ..Figures::fixture(300.0, 3.0)
        };
        let figures = middle(&[&fine, &bad]).unwrap();
        assert_eq!(
            (figures.mb_per_second, figures.latency_ms.p99),
            (200.0, 2.0)
        );
        assert_eq!(
            (figures.errors, figures.invalid.as_deref()),
            (3, Some("late"))
        );
        assert_eq!(figures.latency_ms.max, 6.0);
        assert_eq!(middle(&[]), None);
    }
}
