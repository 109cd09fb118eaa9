//! How large each record's value is.
//!
//! Pure. Draws come from a seeded source, so two runs of one workload send the same sizes.

use std::fmt;
use std::str::FromStr;

use model::quantity::parse_size;

use crate::keys::KeySource;

/// Sizes of a weighted list.
const WEIGHTED_MAX: usize = 64;

/// Distribution of value sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordSizes {
    /// All alike.
    Fixed(usize),
    /// Each size from `min` to `max` equally often.
    Uniform {
        /// Smallest.
        min: usize,
        /// Largest, at least `min`.
        max: usize,
    },
    /// Sizes with their weights, at least one of them above 0.
    Weighted(Vec<(usize, u32)>),
}

/// A distribution that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "expected SIZE, MIN..MAX or SIZE:WEIGHT,SIZE:WEIGHT (at most {WEIGHTED_MAX}), for example 1k, 100..2000 or 100:70,1k:30"
)]
pub struct RecordSizesError;

impl RecordSizes {
    /// The size of the next record.
    pub fn draw(&self, random: &mut KeySource) -> usize {
        match self {
            RecordSizes::Fixed(size) => *size,
            RecordSizes::Uniform { min, max } => {
                let span = (max.saturating_sub(*min) as u64).saturating_add(1);
                min + usize::try_from(random.random() % span).unwrap_or(0)
            }
            RecordSizes::Weighted(list) => {
                let total: u64 = list.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let mut drawn = random.random() % total.max(1);
                for (size, weight) in list {
                    match drawn.checked_sub(u64::from(*weight)) {
                        Some(rest) => drawn = rest,
                        None => return *size,
                    }
                }
                self.max()
            }
        }
    }

    /// The smallest size.
    pub fn min(&self) -> usize {
        match self {
            RecordSizes::Fixed(size) => *size,
            RecordSizes::Uniform { min, .. } => *min,
            RecordSizes::Weighted(list) => list.iter().map(|(size, _)| *size).min().unwrap_or(0),
        }
    }

    /// The largest size.
    pub fn max(&self) -> usize {
        match self {
            RecordSizes::Fixed(size) => *size,
            RecordSizes::Uniform { max, .. } => *max,
            RecordSizes::Weighted(list) => list.iter().map(|(size, _)| *size).max().unwrap_or(0),
        }
    }

    /// The mean size.
    pub fn mean(&self) -> f64 {
        match self {
            RecordSizes::Fixed(size) => *size as f64,
            RecordSizes::Uniform { min, max } => (*min as f64 + *max as f64) / 2.0,
            RecordSizes::Weighted(list) => {
                let total: f64 = list.iter().map(|(_, weight)| f64::from(*weight)).sum();
                let sum: f64 = list
                    .iter()
                    .map(|(size, weight)| *size as f64 * f64::from(*weight))
                    .sum();
                sum / total.max(1.0)
            }
        }
    }

    /// The size, if there is only one.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            RecordSizes::Fixed(size) => Some(*size),
            _ if self.min() == self.max() => Some(self.min()),
            _ => None,
        }
    }
}

impl FromStr for RecordSizes {
    type Err = RecordSizesError;

    fn from_str(text: &str) -> Result<RecordSizes, RecordSizesError> {
        if let Some((min, max)) = text.split_once("..") {
            let (min, max) = (size(min)?, size(max)?);
            return match min <= max {
                true => Ok(RecordSizes::Uniform { min, max }),
                false => Err(RecordSizesError),
            };
        }
        if !text.contains(':') {
            return Ok(RecordSizes::Fixed(size(text)?));
        }
        let mut list = Vec::new();
        for entry in text.split(',') {
            let (bytes, weight) = entry.split_once(':').ok_or(RecordSizesError)?;
            let weight: u32 = weight.parse().map_err(|_| RecordSizesError)?;
            list.push((size(bytes)?, weight));
        }
        let weights: u64 = list.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if list.len() > WEIGHTED_MAX || weights == 0 {
            return Err(RecordSizesError);
        }
        Ok(RecordSizes::Weighted(list))
    }
}

impl fmt::Display for RecordSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordSizes::Fixed(size) => write!(f, "{size}"),
            RecordSizes::Uniform { min, max } => write!(f, "{min}..{max}"),
            RecordSizes::Weighted(list) => {
                let entries: Vec<String> = list.iter().map(|(s, w)| format!("{s}:{w}")).collect();
                f.write_str(&entries.join(","))
            }
        }
    }
}

fn size(text: &str) -> Result<usize, RecordSizesError> {
    let bytes = parse_size(text).map_err(|_| RecordSizesError)?;
    usize::try_from(bytes).map_err(|_| RecordSizesError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyDistribution;

    #[test]
    fn texts() {
        for (text, expected) in [
            ("100", Ok(RecordSizes::Fixed(100))),
            ("1k", Ok(RecordSizes::Fixed(1024))),
            ("1KiB", Ok(RecordSizes::Fixed(1024))),
            (
                "100..2000",
                Ok(RecordSizes::Uniform {
                    min: 100,
                    max: 2000,
                }),
            ),
            (
                "100:70,1000:25,10000:5",
                Ok(RecordSizes::Weighted(vec![
                    (100, 70),
                    (1000, 25),
                    (10_000, 5),
                ])),
            ),
            ("2000..100", Err(RecordSizesError)),
            ("100:0", Err(RecordSizesError)),
            ("100:1,200", Err(RecordSizesError)),
            ("", Err(RecordSizesError)),
            ("99999999999999999999k", Err(RecordSizesError)),
        ] {
            assert_eq!(text.parse::<RecordSizes>(), expected, "{text}");
            if let Ok(sizes) = text.parse::<RecordSizes>() {
                assert_eq!(sizes.to_string().parse(), Ok(sizes));
            }
        }
    }

    #[test]
    fn draws_have_the_mean_and_stay_within_the_bounds() {
        for text in ["77", "100..2000", "100:70,1000:25,10000:5"] {
            let sizes: RecordSizes = text.parse().unwrap();
            let mut random = KeySource::new(KeyDistribution::None, 3);
            let draws = 100_000;
            let mut sum = 0;
            for _ in 0..draws {
                let size = sizes.draw(&mut random);
                assert!((sizes.min()..=sizes.max()).contains(&size));
                sum += size;
            }
            let mean = sum as f64 / f64::from(draws);
            assert!((mean / sizes.mean() - 1.0).abs() < 0.05, "{text}: {mean}");
        }
    }
}
