//! How long to wait before the next attempt to connect.
//!
//! Pure. Invariant: a pause is between half and the whole of a step, steps double from the first to the longest.

use std::time::Duration;

use crate::settings::{PlantedFault, Settings};

/// Doublings after which a step is the longest in any case: no shift of a pause goes beyond this.
const DOUBLINGS_MAX: u32 = 20;

/// The pauses of one link.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    least: Duration,
    longest: Duration,
    failures: u32,
    is_endless: bool,
}

impl Backoff {
    /// Nothing has failed yet.
    pub(crate) fn new(settings: &Settings) -> Backoff {
        Backoff {
            least: settings.backoff_min,
            longest: settings.backoff_max,
            failures: 0,
            is_endless: settings.is_planted(PlantedFault::BackoffEndless),
        }
    }

    /// An attempt failed: the pause before the next one. `random` spreads it over half of the step, so that those whom one
    /// event has cut off do not come back in one moment.
    pub(crate) fn failed(&mut self, random: u64) -> Duration {
        let step = self.least * 2u32.pow(self.failures.min(DOUBLINGS_MAX));
        let step = if self.is_endless {
            step
        } else {
            step.min(self.longest)
        };
        // Not beyond the last doubling: a count that only says "many" need not go on.
        if self.failures < DOUBLINGS_MAX {
            self.failures += 1;
        }
        let half = step / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// The connection was made and stayed.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let settings = Settings {
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(65),
            ..Settings::default()
        };
        let mut backoff = Backoff::new(&settings);
        let whole: Vec<_> = (0..5).map(|_| backoff.failed(u64::MAX)).collect();
        assert_eq!(whole, [10, 20, 40, 65, 65].map(Duration::from_millis));
        assert_eq!(backoff.failed(0), Duration::from_micros(32_500));
        for _ in 0..100 {
            assert!(backoff.failed(7) <= settings.backoff_max);
        }
        backoff.succeeded();
        assert_eq!(backoff.failed(0), Duration::from_millis(5));
    }
}
