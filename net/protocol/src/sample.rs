//! Random messages from a seed: for the tests and the fuzzer.
//!
//! Deterministic: the same seed gives the same messages.

use bytes::Bytes;

use crate::records::Records;
use crate::text::Text;
use crate::writer::SPLICE_BYTES_MIN;

/// Numbers at which codecs break.
const EDGES: [i64; 12] = [
    0,
    1,
    -1,
    -2,
    127,
    128,
    i16::MAX as i64,
    i16::MIN as i64,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];

/// A small deterministic generator (SplitMix64; Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    /// True once in `times`.
    pub fn chance(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A number, often one at which codecs break.
    pub fn number(&mut self) -> i64 {
        match self.below(3) {
            0 => EDGES[self.below(EDGES.len())],
            1 => self.below(1000) as i64,
            _ => self.bits() as i64,
        }
    }

    /// How many elements an array has: few, rarely more than one byte of compact length can say.
    pub(crate) fn count(&mut self) -> usize {
        if self.chance(200) { 130 } else { self.below(4) }
    }

    pub(crate) fn text(&mut self) -> Text {
        const LETTERS: [&str; 8] = ["a", "Z", "-", ".", "7", "\u{e9}", "\u{20ac}", "\u{1f980}"];
        let count = if self.chance(50) { 200 } else { self.below(12) };
        let text: String = (0..count)
            .map(|_| LETTERS[self.below(LETTERS.len())])
            .collect();
        Text::from(text)
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        let length = if self.chance(20) {
            SPLICE_BYTES_MIN + 7
        } else {
            self.below(40)
        };
        (0..length).map(|_| self.bits() as u8).collect()
    }

    pub(crate) fn records(&mut self) -> Records {
        let count = self.below(4);
        (0..count).map(|_| self.bytes()).collect()
    }
}
