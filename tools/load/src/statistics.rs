//! What repeated measurements say: medians, paired ratios with an interval, and how far the same thing varies.
//!
//! Pure and seeded: the same numbers and seed give the same interval. Values that are not finite and positive have no
//! ratio and are left out together with their partner, so that pairs stay pairs.

use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap: the 2.5 % tail then holds 50 of them.
const RESAMPLES: usize = 2_000;
/// Values that a bootstrap looks at; with `RESAMPLES` this bounds its work to 20 million draws.
const SAMPLES_MAX: usize = 10_000;

/// How one thing compares with another over pairs that were measured next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// Pairs that had a ratio.
    pub pairs: usize,
    /// Median of `other / baseline`.
    pub median: f64,
    /// Lower end of the 95 % bootstrap interval of that median.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Ratio {
    /// Whether the interval leaves out 1: the two differ by more than chance explains. Never so for fewer than
    /// `PAIRS_MIN` pairs, whose interval is only their range.
    pub fn is_distinct(&self) -> bool {
        self.pairs >= PAIRS_MIN && (self.low > 1.0 || self.high < 1.0)
    }
}

/// Fewer pairs than this cannot exclude chance at 95 %: all of 5 fair coins fall alike in 6 % of the cases.
pub const PAIRS_MIN: usize = 6;

/// The middle value, or the mean of the two in the middle; `None` of nothing. Values that are not numbers are left out.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    middle(&sorted)
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let half = sorted.len() / 2;
    let upper = *sorted.get(half)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[half - 1] + upper) / 2.0)
}

/// `other[i] / baseline[i]` over all pairs; `None` if no pair has a ratio.
pub fn paired_ratio(baseline: &[f64], other: &[f64], seed: u64) -> Option<Ratio> {
    let usable = |value: f64| value.is_finite() && value > 0.0;
    let ratios: Vec<f64> = baseline
        .iter()
        .zip(other)
        .filter(|(a, b)| usable(**a) && usable(**b))
        .map(|(a, b)| b / a)
        .take(SAMPLES_MAX)
        .collect();
    let median = median(&ratios)?;
    let (low, high) = interval(&ratios, seed);
    Some(Ratio {
        pairs: ratios.len(),
        median,
        low,
        high,
    })
}

/// 95 % percentile-bootstrap interval of the median of `values`, which are at least one.
fn interval(values: &[f64], seed: u64) -> (f64, f64) {
    let mut random = SplitMix(seed);
    let mut medians: Vec<f64> = Vec::with_capacity(RESAMPLES);
    let mut sample = vec![0.0; values.len()];
    for _ in 0..RESAMPLES {
        for place in &mut sample {
            *place = values[random.below(values.len())];
        }
        sample.sort_by(f64::total_cmp);
        medians.extend(middle(&sample));
    }
    medians.sort_by(f64::total_cmp);
    let cut = RESAMPLES / 40;
    (medians[cut], medians[RESAMPLES - 1 - cut])
}

/// How far repetitions of the same thing lie apart: over all groups with at least two values, the median of
/// `(largest - smallest) / median`. It is what a difference between two things must exceed to mean anything.
pub fn spread(groups: &[Vec<f64>]) -> Option<f64> {
    let ranges: Vec<f64> = groups.iter().filter_map(|g| range(g)).collect();
    median(&ranges)
}

/// `(largest - smallest) / median` of at least two values.
pub fn range(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let middle = median(values).filter(|m| *m > 0.0)?;
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    Some((largest - smallest) / middle)
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for resampling, and the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1 and small: the bias of the multiplication is below 2^-50.
    fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        (wide >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0][..], Some(3.0)),
            (&[9.0, 1.0][..], Some(5.0)),
            (&[9.0, 1.0, 2.0][..], Some(2.0)),
            (&[f64::NAN, 4.0][..], Some(4.0)),
        ] {
            assert_eq!(median(values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_clear_difference_is_distinct_and_noise_around_one_is_not() {
        let a: Vec<f64> = (0..12).map(|i| 100.0 + f64::from(i % 5)).collect();
        let twice: Vec<f64> = a.iter().map(|v| v * 2.0).collect();
        let ratio = paired_ratio(&a, &twice, 1).unwrap();
        assert_eq!((ratio.pairs, ratio.median), (12, 2.0));
        assert!(ratio.is_distinct());
        let noisy: Vec<f64> = a
            .iter()
            .enumerate()
            .map(|(i, v)| if i % 2 == 0 { v * 1.1 } else { v / 1.1 })
            .collect();
        let ratio = paired_ratio(&a, &noisy, 1).unwrap();
        assert!(ratio.low <= 1.0 && 1.0 <= ratio.high, "{ratio:?}");
        assert!(!ratio.is_distinct());
    }

    #[test]
    fn few_pairs_prove_nothing() {
        let ratio = paired_ratio(&[1.0, 1.0], &[3.0, 3.1], 1).unwrap();
        assert!(ratio.low > 1.0 && !ratio.is_distinct());
    }

    #[test]
    fn pairs_without_a_ratio_are_left_out_together() {
        let ratio = paired_ratio(&[1.0, 0.0, 2.0], &[2.0, 7.0, f64::NAN], 1).unwrap();
        assert_eq!((ratio.pairs, ratio.median), (1, 2.0));
        assert_eq!(paired_ratio(&[0.0], &[1.0], 1), None);
        assert_eq!(paired_ratio(&[], &[], 1), None);
    }

    #[test]
    fn the_seed_decides_the_interval() {
        let a: Vec<f64> = (1..40).map(f64::from).collect();
        let b: Vec<f64> = (1..40).map(|i| f64::from(i * i % 17 + 1)).collect();
        let once = paired_ratio(&a, &b, 7).unwrap();
        assert_eq!(once, paired_ratio(&a, &b, 7).unwrap());
        assert!(once.low < once.median && once.median < once.high);
    }

    #[test]
    fn the_interval_covers_the_truth_as_often_as_it_says() {
        // 200 experiments whose true median ratio is 1: about 95 % of the intervals must contain it.
        let mut random = SplitMix(42);
        let mut covered = 0;
        for seed in 0..200 {
            let mut noise = || 1.0 + (random.below(2_001) as f64 - 1_000.0) / 10_000.0;
            let a: Vec<f64> = (0..20).map(|_| noise()).collect();
            let b: Vec<f64> = (0..20).map(|_| noise()).collect();
            let ratio = paired_ratio(&a, &b, seed).unwrap();
            covered += usize::from(ratio.low <= 1.0 && 1.0 <= ratio.high);
        }
        assert!((180..=200).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn spread_needs_repetitions() {
        assert_eq!(spread(&[vec![1.0], vec![]]), None);
        let spread = spread(&[vec![90.0, 110.0], vec![100.0, 102.0], vec![5.0]]).unwrap();
        assert!(
            (spread - (0.2 + 2.0 / 101.0) / 2.0).abs() < 1e-9,
            "{spread}"
        );
    }
}
