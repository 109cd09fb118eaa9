//! What values of records are made of: chance, texts of a file, or numbers.

use std::sync::Arc;

use bytes::Bytes;

use crate::keys::KeySource;
use crate::sizes::RecordSizes;
use crate::template::Draft;

/// Records whose values are numbers, at most: each has its place in the script, since none is like another.
pub const NUMBERS_MAX: u64 = 4_000_000;

/// Where values come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// Random bytes and constant ones, as [`RecordSizes`] and the compressibility say.
    #[default]
    Random,
    /// Each value is one of these, drawn; at least one.
    Listed(Arc<Vec<Bytes>>),
    /// Decimal numbers from this one on, each once and in order.
    Numbers {
        /// The first.
        first: u64,
    },
}

/// What the value of one record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// So many bytes.
    Random(usize),
    /// The text at this place of the list.
    Listed {
        /// The place.
        index: usize,
        /// Its length.
        bytes: usize,
    },
    /// This number.
    Number(u64),
}

impl Value {
    /// Its length.
    pub fn bytes(self) -> usize {
        match self {
            Value::Random(bytes) | Value::Listed { bytes, .. } => bytes,
            Value::Number(number) => {
                let digits = number.checked_ilog10().map_or(1, |power| power + 1);
                digits as usize
            }
        }
    }
}

impl Payload {
    /// The next record's value. Numbers are not drawn.
    pub fn draw(&self, sizes: &RecordSizes, random: &mut KeySource) -> Value {
        match self {
            Payload::Listed(texts) => {
                let index = random.random() % texts.len() as u64;
                let index = usize::try_from(index).expect("less than a length");
                Value::Listed {
                    index,
                    bytes: texts[index].len(),
                }
            }
            Payload::Random => Value::Random(sizes.draw(random)),
            Payload::Numbers { .. } => unreachable!("numbers have rounds of their own"),
        }
    }

    /// Puts a value into `out`, which is emptied; `fill` writes random ones.
    pub(crate) fn write(
        &self,
        draft: &Draft,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>, usize),
    ) {
        out.clear();
        match (draft.value, self) {
            (Value::Random(bytes), _) => fill(out, bytes),
            (Value::Listed { index, .. }, Payload::Listed(texts)) => {
                out.extend_from_slice(&texts[index]);
            }
            (Value::Listed { .. }, _) => unreachable!("drawn from a list that is not there"),
            (Value::Number(number), _) => out.extend_from_slice(number.to_string().as_bytes()),
        }
    }

    /// The sizes of listed values, for bounds and estimates.
    pub fn sizes(&self) -> Option<RecordSizes> {
        let Payload::Listed(texts) = self else {
            return None;
        };
        let lengths = || texts.iter().map(Bytes::len);
        Some(RecordSizes::Uniform {
            min: lengths().min()?,
            max: lengths().max()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_numbers() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(Value::Number(number).bytes(), number.to_string().len());
        }
    }
}
