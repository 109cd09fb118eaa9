//! Which run comes next: first the grid, then the searches for the knees, their targets taking turns.
//!
//! Pure. `next()` names a run, `record()` takes its outcome; the same outcomes give the same runs, which is how a sweep
//! is gone on with: its file is played into a new sequence. Invariant: `next()` without `record()` names the same run.

use std::collections::VecDeque;

use super::knee::{Knee, KneeLimits, KneeSearch};
use super::plan::{Plan, Point, alternate};
use super::record::{Job, Measurement, Phase};
use crate::statistics::median;

/// A measurement that the plan did not ask for at its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {number} of the file is not the one that its plan asks for; start a new sweep")]
pub struct Mismatch {
    /// Which, from 1.
    pub number: usize,
}

/// A knee that was looked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundKnee {
    /// On which target, by its place in the plan.
    pub target: usize,
    /// At which batch size, in bytes.
    pub batch_bytes: u64,
    /// With which linger, in microseconds; `None` is whole batches.
    pub linger_us: Option<u64>,
    /// Where it is.
    pub knee: Knee,
}

/// The searches of one batch size and linger: one per target.
#[derive(Clone, Debug)]
struct Group {
    batch_bytes: u64,
    linger_us: Option<u64>,
    /// Rounds taken, which decides the order of the targets.
    round: usize,
    /// `None` until the closed loop is known, and for good where it failed.
    searches: Vec<Option<KneeSearch>>,
    steps: Vec<u32>,
}

/// The runs of a sweep.
#[derive(Clone, Debug)]
pub struct Sequence {
    plan: Plan,
    queue: VecDeque<Job>,
    waiting: VecDeque<(u64, Option<u64>)>,
    group: Option<Group>,
    done: Vec<Measurement>,
    knees: Vec<FoundKnee>,
}

impl Sequence {
    /// From the beginning.
    pub fn new(plan: Plan) -> Sequence {
        let grid = plan.grid().into_iter();
        let queue = grid.map(|(repetition, target, point)| Job {
            phase: Phase::Grid,
            target,
            repetition,
            point,
        });
        let mut sequence = Sequence {
            queue: queue.collect(),
            waiting: plan.knee_groups().into(),
            group: None,
            done: Vec::new(),
            knees: Vec::new(),
            plan,
        };
        sequence.refill();
        sequence
    }

    /// Gone on with after `measurements`.
    pub fn resume(plan: Plan, measurements: Vec<Measurement>) -> Result<Sequence, Mismatch> {
        let mut sequence = Sequence::new(plan);
        for (index, measurement) in measurements.into_iter().enumerate() {
            let fits = sequence
                .next()
                .is_some_and(|job| same_place(&job, &measurement.job));
            if !fits {
                return Err(Mismatch { number: index + 1 });
            }
            sequence.record(measurement);
        }
        Ok(sequence)
    }

    /// The run to make now; `None` when everything is measured.
    pub fn next(&self) -> Option<Job> {
        self.queue.front().copied()
    }

    /// Takes the outcome of the run that `next()` named.
    pub fn record(&mut self, measurement: Measurement) {
        self.queue.pop_front();
        let job = measurement.job;
        if job.phase == Phase::Knee
            && let Some(group) = &mut self.group
            && let Some(Some(search)) = group.searches.get_mut(job.target)
            && let Some(rate) = job.point.rate
        {
            search.record(rate, measurement.figures.as_ref());
        }
        self.done.push(measurement);
        self.refill();
    }

    /// What was measured, in order.
    pub fn measurements(&self) -> &[Measurement] {
        &self.done
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Knees whose search is over, and those under way.
    pub fn knees(&self) -> Vec<FoundKnee> {
        let mut knees = self.knees.clone();
        if let Some(group) = &self.group {
            knees.extend(group.found());
        }
        knees
    }

    /// Runs that are still to come at most.
    pub fn remaining_max(&self) -> usize {
        let limits = self.plan.knee.unwrap_or_default();
        let targets = self.plan.targets.len();
        let steps = usize::try_from(limits.steps_max).unwrap_or(usize::MAX);
        let first = usize::from(!self.plan.has_closed_loop());
        let waiting = self
            .waiting
            .len()
            .saturating_mul(steps.saturating_add(first))
            .saturating_mul(targets);
        let queued = self.queue.len();
        let searching = self.group.as_ref().map_or(0, |group| {
            let left = group
                .searches
                .iter()
                .zip(&group.steps)
                .map(|(search, steps)| {
                    // Before the first round the ceilings are still being measured.
                    let over = match search {
                        Some(search) => search.next_rate().is_none(),
                        None => group.round > 0,
                    };
                    let left = if over {
                        0
                    } else {
                        limits.steps_max.saturating_sub(*steps)
                    };
                    usize::try_from(left).unwrap_or(usize::MAX)
                });
            left.sum::<usize>()
        });
        queued.saturating_add(waiting).saturating_add(searching)
    }

    /// Fills the queue when it is empty: another round of the group under way, or the next group.
    fn refill(&mut self) {
        let Some(limits) = self.plan.knee else {
            return;
        };
        while self.queue.is_empty() {
            if let Some(mut group) = self.group.take() {
                self.begin_searches(&mut group, limits);
                self.queue = group.next_round(self.in_flight());
                if self.queue.is_empty() {
                    self.knees.extend(group.found());
                } else {
                    self.group = Some(group);
                    return;
                }
            }
            let Some((batch_bytes, linger_us)) = self.waiting.pop_front() else {
                return;
            };
            let targets = self.plan.targets.len();
            self.group = Some(Group {
                batch_bytes,
                linger_us,
                round: 0,
                searches: vec![None; targets],
                steps: vec![0; targets],
            });
            self.queue = self.ceilings(batch_bytes);
        }
    }

    /// Most requests in flight of the plan: at a rate they are room, not pressure.
    fn in_flight(&self) -> u64 {
        self.plan.axes.in_flight.iter().copied().max().unwrap_or(1)
    }

    /// Closed loops for targets that have none at this batch size, and did not fail at it before.
    fn ceilings(&self, batch_bytes: u64) -> VecDeque<Job> {
        let point = Point {
            batch_bytes,
            linger_us: None,
            in_flight: self.in_flight(),
            rate: None,
        };
        let missing = alternate(self.plan.targets.len(), 0)
            .filter(|target| !self.tried_closed_loop(*target, batch_bytes));
        let jobs = missing.map(|target| Job {
            phase: Phase::Ceiling,
            target,
            repetition: 0,
            point,
        });
        jobs.collect()
    }

    fn tried_closed_loop(&self, target: usize, batch_bytes: u64) -> bool {
        self.closed_loops(target, batch_bytes).next().is_some()
    }

    fn closed_loops(&self, target: usize, batch_bytes: u64) -> impl Iterator<Item = &Measurement> {
        self.done.iter().filter(move |m| {
            let point = m.job.point;
            m.job.target == target && point.batch_bytes == batch_bytes && point.rate.is_none()
        })
    }

    /// The best closed loop of a target at a batch size, in records per second: per number in flight the median of the
    /// repetitions, so that one lucky run does not set the ceiling.
    fn ceiling(&self, target: usize, batch_bytes: u64) -> Option<f64> {
        let rates = |in_flight: u64| -> Vec<f64> {
            self.closed_loops(target, batch_bytes)
                .filter(|m| m.job.point.in_flight == in_flight)
                .filter_map(|m| m.figures.as_ref().map(|f| f.records_per_second))
                .collect()
        };
        let medians = self
            .plan
            .axes
            .in_flight
            .iter()
            .filter_map(|n| median(&rates(*n)));
        medians.filter(|rate| *rate > 0.0).reduce(f64::max)
    }

    fn begin_searches(&self, group: &mut Group, limits: KneeLimits) {
        for (target, search) in group.searches.iter_mut().enumerate() {
            if search.is_none() {
                let ceiling = self.ceiling(target, group.batch_bytes);
                *search = ceiling.map(|rate| KneeSearch::new(limits, rate));
            }
        }
    }
}

impl Group {
    fn next_round(&mut self, in_flight: u64) -> VecDeque<Job> {
        let mut jobs = VecDeque::new();
        for target in alternate(self.searches.len(), self.round) {
            let Some(rate) = self.searches[target]
                .as_ref()
                .and_then(KneeSearch::next_rate)
            else {
                continue;
            };
            jobs.push_back(Job {
                phase: Phase::Knee,
                target,
                repetition: self.steps[target],
                point: Point {
                    batch_bytes: self.batch_bytes,
                    linger_us: self.linger_us,
                    in_flight,
                    rate: Some(rate),
                },
            });
            self.steps[target] += 1;
        }
        self.round += 1;
        jobs
    }

    fn found(&self) -> Vec<FoundKnee> {
        let searches = self.searches.iter().enumerate();
        let found = searches.filter_map(|(target, search)| {
            Some(FoundKnee {
                target,
                batch_bytes: self.batch_bytes,
                linger_us: self.linger_us,
                knee: search.as_ref()?.knee(),
            })
        });
        found.collect()
    }
}

/// Whether a stored run stands where the plan asks for one. The rate of a step is taken as stored: it was computed from
/// figures that went through text.
fn same_place(asked: &Job, stored: &Job) -> bool {
    let mut asked = *asked;
    if asked.phase == Phase::Knee && stored.point.rate.is_some() {
        asked.point.rate = stored.point.rate;
    }
    asked == *stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::plan::tests::plan;
    use crate::sweep::queue_model::Model;

    fn measure(job: Job) -> Measurement {
        let model = Model {
            // The second target is slower.
            request_s: 50e-6 * (1.0 + job.target as f64),
            ..Model::default()
        };
        let point = job.point;
        let figures = match point.rate {
            None => model.closed_loop(point.batch_bytes, point.in_flight),
            Some(rate) => model.open_loop(point.batch_bytes, rate),
        };
        Measurement {
            job,
            figures: Some(figures),
            error: None,
        }
    }

    fn played(mut sequence: Sequence) -> Sequence {
        while let Some(job) = sequence.next() {
            assert!(sequence.remaining_max() > 0);
            let before = sequence.remaining_max();
            sequence.record(measure(job));
            assert!(sequence.remaining_max() < before, "time left never grows");
        }
        assert_eq!(sequence.remaining_max(), 0);
        sequence
    }

    #[test]
    fn the_grid_comes_first_then_every_knee_is_found() {
        let plan = plan(&["a", "b"]);
        assert_eq!(Sequence::new(plan.clone()).remaining_max(), plan.runs_max());
        let done = played(Sequence::new(plan.clone()));
        assert!(done.measurements().len() <= plan.runs_max());
        let grid = done.measurements().iter().take(16);
        assert!(grid.clone().all(|m| m.job.phase == Phase::Grid));
        let knees = done.knees();
        assert_eq!(knees.len(), 4);
        let rate = |target| {
            let knee = knees
                .iter()
                .find(|k| k.target == target && k.batch_bytes == 64 << 10);
            knee.unwrap().knee.rate.unwrap()
        };
        assert!(rate(0) > rate(1), "the slower target has the lower knee");
    }

    #[test]
    fn targets_take_turns_in_the_searches() {
        let done = played(Sequence::new(plan(&["a", "b"])));
        let steps = done
            .measurements()
            .iter()
            .filter(|m| m.job.phase == Phase::Knee);
        let order: Vec<usize> = steps.take(8).map(|m| m.job.target).collect();
        assert_eq!(order, [0, 1, 1, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn a_ceiling_is_measured_where_the_grid_has_none() {
        let mut plan = plan(&["a"]);
        plan.axes.rates = vec![Some(1_000)];
        let done = played(Sequence::new(plan.clone()));
        let ceilings = done
            .measurements()
            .iter()
            .filter(|m| m.job.phase == Phase::Ceiling);
        assert_eq!(ceilings.count(), 2);
        assert_eq!(done.knees().len(), 2);
    }

    #[test]
    fn a_sweep_can_be_gone_on_with_after_every_run() {
        let plan = plan(&["a", "b"]);
        let whole = played(Sequence::new(plan.clone()));
        for kept in 0..=whole.measurements().len() {
            let text = serde_json::to_string(&whole.measurements()[..kept]).unwrap();
            let stored: Vec<Measurement> = serde_json::from_str(&text).unwrap();
            let resumed = played(Sequence::resume(plan.clone(), stored).unwrap());
            // Figures went through text and may differ in their last bit; what is run may not.
            let jobs = |sequence: &Sequence| -> Vec<Job> {
                sequence.measurements().iter().map(|m| m.job).collect()
            };
            assert_eq!(jobs(&resumed), jobs(&whole), "after {kept}");
        }
    }

    #[test]
    fn another_plan_s_runs_are_refused() {
        let whole = played(Sequence::new(plan(&["a"])));
        let mut other = plan(&["a"]);
        other.axes.in_flight = vec![2];
        let refused = Sequence::resume(other, whole.measurements().to_vec());
        assert_eq!(refused.unwrap_err(), Mismatch { number: 1 });
        let mut twice = whole.measurements().to_vec();
        twice.extend(whole.measurements().to_vec());
        assert!(Sequence::resume(plan(&["a"]), twice).is_err());
    }

    #[test]
    fn a_target_that_always_fails_ends_and_has_no_knee() {
        let mut sequence = Sequence::new(plan(&["a", "b"]));
        let mut runs = 0;
        while let Some(job) = sequence.next() {
            let mut measurement = measure(job);
            if job.target == 1 {
                measurement.figures = None;
                measurement.error = Some("refused".to_owned());
            }
            sequence.record(measurement);
            runs += 1;
            assert!(runs <= sequence.plan().runs_max());
        }
        assert!(sequence.knees().iter().all(|knee| knee.target == 0));
    }
}
