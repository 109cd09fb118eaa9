//! Latency histograms: nanoseconds, three significant digits, bounded range, mergeable.

use std::time::Duration;

use hdrhistogram::Histogram as Counts;

/// The largest value that is told apart, in nanoseconds (10 minutes). Larger ones count as this.
pub const NANOS_MAX: u64 = 600_000_000_000;

const DIGITS: u8 = 3;

/// A histogram of durations. About 250 KiB: keep a handful per shard, none per partition or connection.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Counts<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Histogram {
        let counts = Counts::new_with_bounds(1, NANOS_MAX, DIGITS);
        Histogram {
            counts: counts.expect("constant bounds are valid"),
        }
    }

    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        self.record_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts one value in nanoseconds.
    pub fn record_nanos(&mut self, nanos: u64) {
        self.counts.saturating_record(nanos);
    }

    /// Adds what another histogram counted.
    pub fn merge(&mut self, other: &Histogram) {
        let merged = self.counts.add(&other.counts);
        merged.expect("all histograms have the same bounds");
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// The value below or at which `percentile` percent of the values are; zero if there are none.
    pub fn percentile(&self, percentile: f64) -> Duration {
        Duration::from_nanos(self.counts.value_at_percentile(percentile))
    }

    /// The largest value; zero if there are none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.counts.max())
    }

    /// The mean; zero if there are none.
    pub fn mean(&self) -> Duration {
        Duration::from_nanos(self.counts.mean() as u64)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.reset();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Histogram, NANOS_MAX};

    #[test]
    fn percentiles_keep_three_digits() {
        let mut histogram = Histogram::new();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let median = histogram.percentile(50.0).as_nanos();
        assert!((499_000..=501_000).contains(&median), "{median}");
        assert_eq!(histogram.count(), 1000);
        let mean = histogram.mean().as_nanos();
        assert!((500_000..=501_500).contains(&mean), "{mean}");
    }

    #[test]
    fn out_of_range_counts_at_the_edge() {
        let mut histogram = Histogram::new();
        histogram.record_nanos(0);
        histogram.record(Duration::MAX);
        assert_eq!(histogram.count(), 2);
        let max = histogram.max().as_nanos() as u64;
        assert!((NANOS_MAX..NANOS_MAX + NANOS_MAX / 500).contains(&max));
    }

    #[test]
    fn merging_adds_and_clearing_forgets() {
        let (mut a, mut b) = (Histogram::new(), Histogram::default());
        assert_eq!(a.percentile(99.0), Duration::ZERO);
        a.record_nanos(10);
        b.record_nanos(1000);
        a.merge(&b);
        assert_eq!((a.count(), a.max()), (2, Duration::from_nanos(1000)));
        a.clear();
        assert_eq!(a.count(), 0);
    }
}
