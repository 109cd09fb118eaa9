//! The knee of a broker: the highest offered rate that it still serves in time.
//!
//! Pure. A search is given one rate's outcome at a time and says which rate to try next. Invariants: it never asks for
//! more than `steps_max` rates; the rate that held is below the lowest rate that broke.

use serde::{Deserialize, Serialize};

use super::record::Figures;

/// What a rate must meet, and how long is searched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct KneeLimits {
    /// Highest p99 in milliseconds, from the intended send time.
    pub p99_ms_max: f64,
    /// Lowest share of the offered rate that must be achieved.
    pub achieved_min: f64,
    /// Most rates that are tried.
    pub steps_max: u32,
}

impl Default for KneeLimits {
    fn default() -> KneeLimits {
        KneeLimits {
            p99_ms_max: 10.0,
            achieved_min: 0.99,
            steps_max: 6,
        }
    }
}

/// The first rate, as a share of what the closed loop reached.
const FIRST_SHARE: f64 = 0.1;
/// The highest rate, as a share of what the closed loop reached: open loops may do a little better.
const LAST_SHARE: f64 = 1.05;
/// While nothing holds, the next rate is this share of the lowest that broke.
const RETREAT: f64 = 0.25;
/// Rates that lie closer than this, relative to the larger one, are the same.
const RESOLUTION: f64 = 0.02;

/// Why a rate did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Broke {
    /// p99 was above the limit.
    Late,
    /// The broker took less than was offered.
    Behind,
    /// The run failed, or requests of it did.
    Failed,
    /// The generator could not keep to the schedule: nothing is known about the broker.
    Generator,
}

impl Broke {
    /// In words, as the end of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Broke::Late => "p99 is above the limit",
            Broke::Behind => "the broker takes less than is offered",
            Broke::Failed => "requests fail",
            Broke::Generator => "the generator did not keep to the schedule",
        }
    }
}

impl KneeLimits {
    /// Whether a run met the limits; why not, if not. `None` is a run that failed.
    pub fn judge(&self, figures: Option<&Figures>) -> Result<(), Broke> {
        let Some(figures) = figures.filter(|f| f.errors == 0 && f.requests > 0) else {
            return Err(Broke::Failed);
        };
        let broke = if figures.achieved_share() < self.achieved_min {
            Broke::Behind
        } else if figures.latency_ms.p99 > self.p99_ms_max {
            Broke::Late
        } else {
            // Latency counts from the schedule: what held did so in spite of a generator that was late at times.
            return Ok(());
        };
        // A schedule that the generator missed says nothing about what the broker could do.
        match figures.invalid {
            Some(_) => Err(Broke::Generator),
            None => Err(broke),
        }
    }
}

/// Where the knee was found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// Highest rate that held, in records per second; `None` if none did.
    pub rate: Option<u64>,
    /// Lowest rate that broke and why; `None` if none did, and the knee lies at `rate` or above.
    pub broke: Option<(u64, Broke)>,
}

/// One search, for one batch size on one broker.
#[derive(Clone, Debug)]
pub struct KneeSearch {
    limits: KneeLimits,
    /// Records per second of the closed loop.
    closed_loop: f64,
    tried: u32,
    knee: Knee,
}

impl KneeSearch {
    /// A search below (and a little above) the rate that a closed loop reached.
    pub fn new(limits: KneeLimits, closed_loop: f64) -> KneeSearch {
        KneeSearch {
            limits,
            closed_loop: closed_loop.max(1.0),
            tried: 0,
            knee: Knee {
                rate: None,
                broke: None,
            },
        }
    }

    /// The next rate to try, in records per second; `None` when the search is over.
    pub fn next_rate(&self) -> Option<u64> {
        if self.tried >= self.limits.steps_max {
            return None;
        }
        let last = rounded(self.closed_loop * LAST_SHARE);
        let next = match (self.knee.rate, self.knee.broke) {
            (None, None) => rounded(self.closed_loop * FIRST_SHARE),
            (None, Some((broke, _))) => rounded(broke as f64 * RETREAT),
            (Some(held), broke) => {
                let upper = broke.map_or(last, |(rate, _)| rate);
                if (upper as f64 - held as f64) <= upper as f64 * RESOLUTION {
                    return None;
                }
                rounded((held as f64 + upper as f64) / 2.0)
            }
        };
        let held = self.knee.rate.is_some_and(|held| next <= held);
        let broke = self.knee.broke.is_some_and(|(broke, _)| next >= broke);
        (!held && !broke).then_some(next)
    }

    /// Takes in what a rate came to; `None` is a run that failed.
    pub fn record(&mut self, rate: u64, figures: Option<&Figures>) {
        self.tried += 1;
        match self.limits.judge(figures) {
            Ok(()) => self.knee.rate = Some(self.knee.rate.map_or(rate, |held| held.max(rate))),
            Err(why) => {
                if self.knee.broke.is_none_or(|(broke, _)| rate < broke) {
                    self.knee.broke = Some((rate, why));
                }
            }
        }
        // A noisy machine may break at a rate below one that held: the careful answer is the lower one.
        if let (Some(held), Some((broke, _))) = (self.knee.rate, self.knee.broke)
            && held >= broke
        {
            self.knee.rate = None;
        }
    }

    /// What is known so far.
    pub fn knee(&self) -> Knee {
        self.knee
    }
}

/// Three significant digits, at least 1: rates that people can read and repeat.
fn rounded(rate: f64) -> u64 {
    let scale = 10f64.powf(rate.max(1.0).log10().floor() - 2.0).max(1.0);
    ((rate / scale).round() * scale).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::queue_model::Model;

    fn search(model: &Model, limits: KneeLimits) -> (Knee, u32) {
        let closed = model.closed_loop(64 << 10, 8).records_per_second;
        let mut search = KneeSearch::new(limits, closed);
        let mut steps = 0;
        while let Some(rate) = search.next_rate() {
            search.record(rate, Some(&model.open_loop(64 << 10, rate)));
            steps += 1;
            assert!(steps <= limits.steps_max, "the search does not end");
        }
        (search.knee(), steps)
    }

    #[test]
    fn finds_the_rate_that_the_formula_gives() {
        let model = Model::default();
        let limits = KneeLimits {
            steps_max: 12,
            ..KneeLimits::default()
        };
        let (knee, _) = search(&model, limits);
        let truth = model.rate_at_p99(64 << 10, limits.p99_ms_max);
        let found = knee.rate.unwrap() as f64;
        assert!(found <= truth, "{found} is above {truth}");
        assert!(found >= truth * 0.97, "{found} is far below {truth}");
        let (broke, why) = knee.broke.unwrap();
        assert!(broke as f64 > truth);
        assert_eq!(why, Broke::Late);
    }

    #[test]
    fn steps_are_bounded_and_few_steps_still_bracket_it() {
        let model = Model::default();
        for steps_max in 1..8 {
            let limits = KneeLimits {
                steps_max,
                ..KneeLimits::default()
            };
            let (knee, steps) = search(&model, limits);
            assert!(steps <= steps_max);
            let truth = model.rate_at_p99(64 << 10, limits.p99_ms_max);
            assert!(knee.rate.is_none_or(|rate| rate as f64 <= truth));
            assert!(knee.broke.is_none_or(|(rate, _)| rate as f64 > truth));
        }
    }

    #[test]
    fn a_limit_that_nothing_meets_finds_nothing() {
        let limits = KneeLimits {
            p99_ms_max: 1e-6,
            ..KneeLimits::default()
        };
        let (knee, steps) = search(&Model::default(), limits);
        assert_eq!(knee.rate, None);
        assert_eq!(knee.broke.unwrap().1, Broke::Late);
        assert!(steps <= limits.steps_max);
    }

    #[test]
    fn a_limit_that_everything_meets_says_that_the_knee_was_not_seen() {
        let mut search = KneeSearch::new(KneeLimits::default(), 1_000_000.0);
        let fine = Figures::fixture(500.0, 1.0);
        while let Some(rate) = search.next_rate() {
            search.record(rate, Some(&fine));
        }
        let knee = search.knee();
        assert_eq!(knee.broke, None);
        assert!(knee.rate.unwrap() >= 1_000_000);
    }

    #[test]
    fn judges() {
        let limits = KneeLimits::default();
        let fine = Figures::fixture(500.0, 9.9);
        assert_eq!(limits.judge(Some(&fine)), Ok(()));
        assert_eq!(limits.judge(None), Err(Broke::Failed));
        let failing = Figures {
            errors: 1,
            ..fine.clone()
        };
        assert_eq!(limits.judge(Some(&failing)), Err(Broke::Failed));
        let late = Figures::fixture(500.0, 10.1);
        assert_eq!(limits.judge(Some(&late)), Err(Broke::Late));
        let behind = Figures {
            offered_records_per_second: Some(fine.records_per_second * 1.02),
            ..fine.clone()
        };
        assert_eq!(limits.judge(Some(&behind)), Err(Broke::Behind));
        let held = Figures {
            invalid: Some("the generator fell behind".to_owned()),
            ..fine.clone()
        };
        assert_eq!(limits.judge(Some(&held)), Ok(()));
        let missed = Figures {
            invalid: Some("the generator fell behind".to_owned()),
            ..behind
        };
        assert_eq!(limits.judge(Some(&missed)), Err(Broke::Generator));
    }

    #[test]
    fn noise_gives_the_careful_answer() {
        let mut search = KneeSearch::new(KneeLimits::default(), 1_000.0);
        search.record(500, Some(&Figures::fixture(1.0, 1.0)));
        search.record(400, Some(&Figures::fixture(1.0, 99.0)));
        assert_eq!(search.knee().rate, None);
        assert_eq!(search.next_rate(), Some(100));
    }

    #[test]
    fn rates_have_three_digits() {
        for (rate, expected) in [(0.2, 1), (7.4, 7), (1_234.0, 1_230), (987_654.0, 988_000)] {
            assert_eq!(rounded(rate), expected);
        }
    }
}
