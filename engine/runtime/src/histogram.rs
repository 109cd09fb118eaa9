//! How often which value was seen: a log-linear histogram of plain cells.
//!
//! Values have no unit here; the definition of the metric says it. Each power of two has [`STEPS`] buckets, so a value
//! is known within 1/32 (3.2 %); values up to 32 are exact. A bucket ends with, and includes, its upper bound, so that
//! the counts up to a power of two are exact, as Prometheus' `le` means them.
//! Recording is a shift, an addition and four plain stores: no atomic, no lock, no allocation.

use std::cell::Cell;
use std::time::Duration;

/// Buckets per power of two.
const STEPS: usize = 32;

const STEPS_BITS: u32 = STEPS.trailing_zeros();

/// Values above `2^VALUE_BITS` count in the last bucket: 9 minutes if they are nanoseconds, 512 GiB if bytes.
const VALUE_BITS: u32 = 39;

/// `[0, 32]` in steps of one, then 32 buckets for each power of two up to [`VALUE_BITS`]. 8 bytes each: 9 KiB.
const BUCKETS: usize = STEPS + STEPS * (VALUE_BITS - STEPS_BITS) as usize;

/// The largest value that is told apart.
pub const VALUE_MAX: u64 = 1 << VALUE_BITS;

/// Counts of values, for one shard. About 9 KiB: some per API, none per partition or connection.
pub struct Histogram {
    counts: Box<[Cell<u64>; BUCKETS]>,
    count: Cell<u64>,
    sum: Cell<u64>,
    max: Cell<u64>,
}

/// A histogram of durations in nanoseconds.
pub type LatencyHistogram = Histogram;

impl Default for Histogram {
    fn default() -> Self {
        Histogram::new()
    }
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Histogram {
        let cells: Box<[Cell<u64>]> = (0..BUCKETS).map(|_| Cell::new(0)).collect();
        let Ok(counts) = cells.try_into() else {
            unreachable!("as many cells as buckets were made");
        };
        Histogram {
            counts,
            count: Cell::new(0),
            sum: Cell::new(0),
            max: Cell::new(0),
        }
    }

    /// Counts a duration, in nanoseconds.
    #[inline]
    pub fn record(&self, duration: Duration) {
        self.record_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a number of nanoseconds.
    #[inline]
    pub fn record_nanos(&self, nanos: u64) {
        self.record_value(nanos);
    }

    /// Counts a value of any unit.
    #[inline]
    pub fn record_value(&self, value: u64) {
        let cell = &self.counts[bucket_of(value)];
        cell.set(cell.get().wrapping_add(1));
        self.count.set(self.count.get().wrapping_add(1));
        self.sum.set(self.sum.get().wrapping_add(value));
        self.max.set(self.max.get().max(value));
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// The sum of all values (nanoseconds, for durations). Wraps after 2^64: 584 years.
    pub fn sum_nanos(&self) -> u64 {
        self.sum.get()
    }

    /// The largest value; zero if there are none.
    pub fn max_nanos(&self) -> u64 {
        self.max.get()
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let counts = self.counts.iter().enumerate();
        let used = counts.filter(|(_, cell)| cell.get() > 0);
        HistogramSnapshot {
            counts: used
                .map(|(bucket, cell)| (bucket as u16, cell.get()))
                .collect(),
            count: self.count.get(),
            sum: self.sum.get(),
            max: self.max.get(),
        }
    }
}

/// The bucket whose lower bound is below `value` and whose upper bound is not.
#[inline]
fn bucket_of(value: u64) -> usize {
    let value = value.saturating_sub(1).min(VALUE_MAX - 1);
    let shift = 63 - (value | STEPS as u64).leading_zeros() - STEPS_BITS;
    shift as usize * STEPS + (value >> shift) as usize
}

/// The largest value of a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    ((bucket - shift * STEPS + 1) as u64) << shift
}

/// What a histogram had counted at one moment: sparse, `Send`, at most as large as its histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Bucket and count, in order, none of them zero.
    counts: Vec<(u16, u64)>,
    count: u64,
    sum: u64,
    max: u64,
}

impl HistogramSnapshot {
    /// A snapshot from what [`HistogramSnapshot::buckets`] gave elsewhere. Bounds that are not bounds of buckets count
    /// in the bucket that contains them.
    pub fn from_buckets(
        buckets: impl IntoIterator<Item = (u64, u64)>,
        sum: u64,
        max: u64,
    ) -> HistogramSnapshot {
        let mut counts: Vec<(u16, u64)> = buckets
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(upper, count)| (bucket_of(upper) as u16, count))
            .collect();
        counts.sort_unstable_by_key(|(bucket, _)| *bucket);
        counts.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            same
        });
        HistogramSnapshot {
            count: counts
                .iter()
                .fold(0, |sum: u64, (_, count)| sum.saturating_add(*count)),
            counts,
            sum,
            max,
        }
    }

    /// Adds what another histogram had counted.
    pub fn merge(&mut self, other: &HistogramSnapshot) {
        let mut merged = Vec::with_capacity(self.counts.len().max(other.counts.len()));
        let mut ours = self.counts.iter().copied().peekable();
        let mut theirs = other.counts.iter().copied().peekable();
        loop {
            let next = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) if our.0 == their.0 => {
                    let both = (our.0, our.1.wrapping_add(their.1));
                    ours.next();
                    theirs.next();
                    both
                }
                (Some(our), Some(their)) if our.0 > their.0 => take(&mut theirs),
                (Some(_), _) => take(&mut ours),
                (None, Some(_)) => take(&mut theirs),
                (None, None) => break,
            };
            merged.push(next);
        }
        self.counts = merged;
        self.count = self.count.wrapping_add(other.count);
        self.sum = self.sum.wrapping_add(other.sum);
        self.max = self.max.max(other.max);
    }

    /// What was counted since an earlier snapshot of the same histogram. Its maximum is known within a bucket.
    #[must_use]
    pub fn since(&self, earlier: &HistogramSnapshot) -> HistogramSnapshot {
        let before = |bucket: u16| {
            let found = earlier.counts.binary_search_by_key(&bucket, |(b, _)| *b);
            found.map_or(0, |at| earlier.counts[at].1)
        };
        let left = self
            .counts
            .iter()
            .map(|(bucket, count)| (*bucket, count.saturating_sub(before(*bucket))));
        let counts: Vec<(u16, u64)> = left.filter(|(_, count)| *count > 0).collect();
        let last = counts.last();
        let max = last.map_or(0, |(bucket, _)| {
            upper_bound(usize::from(*bucket)).min(self.max)
        });
        HistogramSnapshot {
            counts,
            count: self.count.saturating_sub(earlier.count),
            sum: self.sum.wrapping_sub(earlier.sum),
            max: if self.max > earlier.max {
                self.max
            } else {
                max
            },
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The sum of all values (nanoseconds, for durations).
    pub fn sum_nanos(&self) -> u64 {
        self.sum
    }

    /// The largest value; zero if there are none.
    pub fn max_nanos(&self) -> u64 {
        self.max
    }

    /// The value that the fraction `quantile` (0 to 1) of all values is not above; at most 1/32 too large. Zero if
    /// there are none.
    pub fn value_at_quantile(&self, quantile: f64) -> u64 {
        let total: u64 = self.counts.iter().map(|(_, count)| count).sum();
        let rank = ((quantile.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += count;
            if seen >= rank {
                return match usize::from(*bucket) {
                    last if last == BUCKETS - 1 => self.max,
                    bucket => upper_bound(bucket).min(self.max),
                };
            }
        }
        0
    }

    /// For every power of two up to the first that no value is above: how many values are not above it. Exact.
    pub fn cumulative_at_powers_of_two(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut counts = self.counts.iter().peekable();
        let mut seen = 0;
        let mut over = false;
        (0..=VALUE_BITS).map_while(move |bits| {
            if over {
                return None;
            }
            let bound = 1u64 << bits;
            // The last bucket also holds what is larger than every bound.
            let within = |bucket: u16| {
                let bucket = usize::from(bucket);
                upper_bound(bucket) <= bound && (bucket < BUCKETS - 1 || self.max <= VALUE_MAX)
            };
            while let Some((_, count)) = counts.next_if(|(bucket, _)| within(*bucket)) {
                seen += count;
            }
            over = counts.peek().is_none();
            Some((bound, seen))
        })
    }

    /// Upper bound and count of the buckets that are not empty, in order.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counts = self.counts.iter();
        counts.map(|(bucket, count)| (upper_bound(usize::from(*bucket)), *count))
    }
}

fn take(from: &mut impl Iterator<Item = (u16, u64)>) -> (u16, u64) {
    from.next().expect("looked at")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BUCKETS, Histogram, HistogramSnapshot, VALUE_MAX, bucket_of, upper_bound};

    fn of(values: impl IntoIterator<Item = u64>) -> HistogramSnapshot {
        let histogram = Histogram::new();
        for value in values {
            histogram.record_value(value);
        }
        histogram.snapshot()
    }

    #[test]
    fn buckets_tile_the_range_and_keep_the_error_small() {
        for bucket in 0..BUCKETS {
            let upper = upper_bound(bucket);
            assert_eq!(bucket_of(upper), bucket);
            if bucket + 1 < BUCKETS {
                assert_eq!(bucket_of(upper + 1), bucket + 1);
                let next = upper_bound(bucket + 1);
                assert!((next - upper - 1) as f64 <= 0.05 * (upper + 1) as f64);
            }
        }
        assert_eq!(upper_bound(BUCKETS - 1), VALUE_MAX);
        let mut value = 1u64;
        while value < VALUE_MAX {
            for around in [value - 1, value, value + 1, value + value / 3] {
                let known = of([around, u64::MAX]).value_at_quantile(0.5);
                assert!(known >= around && (known - around) as f64 <= 0.05 * around as f64 + 1.0);
            }
            value *= 2;
        }
    }

    #[test]
    fn values_out_of_range_are_counted_at_the_edge() {
        let histogram = Histogram::default();
        histogram.record_nanos(0);
        histogram.record(Duration::MAX);
        let snapshot = histogram.snapshot();
        assert_eq!((histogram.count(), snapshot.count()), (2, 2));
        assert_eq!(snapshot.value_at_quantile(0.5), 1);
        assert_eq!(snapshot.value_at_quantile(1.0), u64::MAX);
        // What is above every bound must not be said to be below one.
        assert_eq!(
            snapshot.cumulative_at_powers_of_two().last(),
            Some((VALUE_MAX, 1))
        );
        assert_eq!(
            of([VALUE_MAX]).cumulative_at_powers_of_two().last(),
            Some((VALUE_MAX, 1))
        );
    }

    #[test]
    fn quantiles_are_ranks() {
        let snapshot = of((1..=1000).map(|micros| micros * 1000));
        for (quantile, exact) in [
            (0.0, 1_000),
            (0.5, 500_000),
            (0.99, 990_000),
            (1.0, 1_000_000),
        ] {
            let known = snapshot.value_at_quantile(quantile);
            assert!(
                known >= exact && known <= exact + exact / 20,
                "{quantile}: {known}"
            );
        }
        assert_eq!(snapshot.max_nanos(), 1_000_000);
        assert_eq!(snapshot.sum_nanos(), 500_500_000);
        assert_eq!(HistogramSnapshot::default().value_at_quantile(0.5), 0);
    }

    #[test]
    fn cumulative_counts_are_exact_at_powers_of_two() {
        let values = [1, 2, 3, 4, 5, 8, 9, 1024, 1025, 2048];
        let counts: Vec<(u64, u64)> = of(values).cumulative_at_powers_of_two().collect();
        assert_eq!(counts.last(), Some(&(2048, 10)));
        for (bound, count) in counts {
            let exact = values.iter().filter(|value| **value <= bound).count() as u64;
            assert_eq!(count, exact, "le {bound}");
        }
        assert_eq!(
            HistogramSnapshot::default()
                .cumulative_at_powers_of_two()
                .collect::<Vec<_>>(),
            [(1, 0)]
        );
    }

    #[test]
    fn merging_adds_and_differences_take_away() {
        let (a, b) = (of([1, 5, 70_000]), of([5, 6, 1 << 30]));
        let mut both = a.clone();
        both.merge(&b);
        assert_eq!(both, of([1, 5, 70_000, 5, 6, 1 << 30]));
        assert_eq!(both.since(&a), b);
        let shown = HistogramSnapshot::from_buckets(both.buckets(), both.sum_nanos(), both.max);
        assert_eq!(shown, both);
        let none = both.since(&both);
        assert_eq!(
            (none.count(), none.max_nanos(), none.buckets().count()),
            (0, 0, 0)
        );
        assert_eq!(of([10, 20]).since(&of([20])).max_nanos(), 10);
    }
}
