//! Which key each record carries.
//!
//! Pure. Draws depend on the seed alone, so two runs of one workload send the same keys.

use std::str::FromStr;

/// Number of distinct keys unless told otherwise.
pub const KEY_COUNT_DEFAULT: u64 = 100_000;
/// Skew of the zipf distribution unless told otherwise, as in YCSB.
const ZIPF_EXPONENT_DEFAULT: f64 = 0.99;

/// Distribution of keys over records.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KeyDistribution {
    /// Null keys.
    None,
    /// Each of `count` keys equally often.
    Uniform {
        /// Distinct keys, at least 1.
        count: u64,
    },
    /// Key of rank r with frequency proportional to r^-exponent.
    Zipf {
        /// Distinct keys, at least 1.
        count: u64,
        /// Skew, above 0.
        exponent: f64,
    },
}

/// A distribution that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected none, uniform[:COUNT] or zipf[:COUNT[:EXPONENT]], for example zipf:100000:0.99")]
pub struct KeyDistributionError;

impl FromStr for KeyDistribution {
    type Err = KeyDistributionError;

    fn from_str(text: &str) -> Result<KeyDistribution, KeyDistributionError> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let count = match parts.next() {
            Some(count) => count.parse().map_err(|_| KeyDistributionError)?,
            None => KEY_COUNT_DEFAULT,
        };
        let exponent = match parts.next() {
            Some(exponent) => exponent.parse().map_err(|_| KeyDistributionError)?,
            None => ZIPF_EXPONENT_DEFAULT,
        };
        if parts.next().is_some() || count == 0 || !(exponent > 0.0 && exponent < 100.0) {
            return Err(KeyDistributionError);
        }
        match name {
            "none" if !text.contains(':') => Ok(KeyDistribution::None),
            "uniform" => Ok(KeyDistribution::Uniform { count }),
            "zipf" => Ok(KeyDistribution::Zipf { count, exponent }),
            _ => Err(KeyDistributionError),
        }
    }
}

/// Draws keys.
#[derive(Clone, Debug)]
pub struct KeySource {
    distribution: KeyDistribution,
    state: u64,
    zipf: Option<Zipf>,
}

impl KeySource {
    /// A source of keys with this seed.
    pub fn new(distribution: KeyDistribution, seed: u64) -> KeySource {
        let zipf = match distribution {
            KeyDistribution::Zipf { count, exponent } => Some(Zipf::new(count, exponent)),
            _ => None,
        };
        KeySource {
            distribution,
            state: seed,
            zipf,
        }
    }

    /// Number of the next key, from 0; `None` for a null key. Under zipf, 0 is the most frequent.
    pub fn draw(&mut self) -> Option<u64> {
        match self.distribution {
            KeyDistribution::None => None,
            KeyDistribution::Uniform { count } => Some(self.random() % count.max(1)),
            KeyDistribution::Zipf { .. } => {
                let zipf = self.zipf.clone()?;
                loop {
                    let (u, v) = (self.unit(), self.unit());
                    if let Some(rank) = zipf.accept(u, v) {
                        return Some(rank - 1);
                    }
                }
            }
        }
    }

    /// 64 random bits (splitmix64, Steele et al. 2014).
    pub fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1].
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.random() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

/// The bytes of key number `number`: 16 hexadecimal digits.
pub fn key_bytes(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|i| DIGITS[(number >> (60 - 4 * i)) as usize & 15])
}

/// Zipf by rejection from the continuous envelope 1 for x < 1, x^-s beyond (Devroye 1986, X.6): O(1), no tables.
#[derive(Clone, Debug)]
struct Zipf {
    count: u64,
    exponent: f64,
    area: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Zipf {
        let n = count.max(1) as f64;
        let area = if (exponent - 1.0).abs() < 1e-9 {
            1.0 + n.ln()
        } else {
            (n.powf(1.0 - exponent) - exponent) / (1.0 - exponent)
        };
        Zipf {
            count: count.max(1),
            exponent,
            area,
        }
    }

    /// The rank that `u` points at, if `v` accepts it.
    fn accept(&self, u: f64, v: f64) -> Option<u64> {
        let (s, target) = (self.exponent, u * self.area);
        let x = if target <= 1.0 {
            target
        } else if (s - 1.0).abs() < 1e-9 {
            (target - 1.0).exp()
        } else {
            (target * (1.0 - s) + s).powf(1.0 / (1.0 - s))
        };
        let rank = (x.floor() as u64).saturating_add(1).min(self.count);
        let envelope = if x <= 1.0 { 1.0 } else { x.powf(-s) };
        let weight = (rank as f64).powf(-s);
        (v * envelope <= weight).then_some(rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(distribution: KeyDistribution, draws: usize, keys: usize) -> Vec<usize> {
        let mut source = KeySource::new(distribution, 7);
        let mut counts = vec![0; keys];
        for _ in 0..draws {
            counts[usize::try_from(source.draw().unwrap()).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn texts() {
        for (text, expected) in [
            ("none", Ok(KeyDistribution::None)),
            ("uniform", Ok(KeyDistribution::Uniform { count: 100_000 })),
            ("uniform:5", Ok(KeyDistribution::Uniform { count: 5 })),
            (
                "zipf:10:1.2",
                Ok(KeyDistribution::Zipf {
                    count: 10,
                    exponent: 1.2,
                }),
            ),
            ("none:3", Err(KeyDistributionError)),
            ("uniform:0", Err(KeyDistributionError)),
            ("zipf:10:nan", Err(KeyDistributionError)),
            ("pareto", Err(KeyDistributionError)),
        ] {
            assert_eq!(text.parse::<KeyDistribution>(), expected, "{text}");
        }
    }

    #[test]
    fn none_draws_nulls() {
        assert_eq!(KeySource::new(KeyDistribution::None, 1).draw(), None);
    }

    #[test]
    fn uniform_hits_every_key_about_equally() {
        let counts = counts(KeyDistribution::Uniform { count: 10 }, 100_000, 10);
        assert!(
            counts.iter().all(|c| (9_000..11_000).contains(c)),
            "{counts:?}"
        );
    }

    #[test]
    fn zipf_frequencies_follow_the_rank() {
        for exponent in [0.5, 0.99, 1.0, 2.0] {
            let keys = 100;
            let draws = 200_000;
            let counts = counts(
                KeyDistribution::Zipf {
                    count: 100,
                    exponent,
                },
                draws,
                keys,
            );
            let total: f64 = (1..=keys).map(|r| (r as f64).powf(-exponent)).sum();
            for rank in [1, 2, 10] {
                let expected = draws as f64 * (rank as f64).powf(-exponent) / total;
                let got = counts[rank - 1] as f64;
                assert!(
                    (got - expected).abs() < expected * 0.1 + 30.0,
                    "s {exponent} rank {rank}: {got} not {expected}"
                );
            }
        }
    }

    #[test]
    fn keys_are_sixteen_digits() {
        assert_eq!(&key_bytes(0xab), b"00000000000000ab");
    }
}
