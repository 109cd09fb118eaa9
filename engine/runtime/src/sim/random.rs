//! Seeded chance: one generator per concern, and per node where a node draws, so that more draws in one do not change
//! the others.
//!
//! xoshiro256** seeded by splitmix64 (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018).

use std::cell::Cell;

/// A small deterministic generator. Not for secrets.
#[derive(Debug)]
pub struct Generator {
    state: Cell<[u64; 4]>,
}

impl Generator {
    /// The generator of stream number `stream` of `seed`.
    pub fn new(seed: u64, stream: u64) -> Generator {
        let mut mixer = seed ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03);
        let mut split = || {
            mixer = mixer.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut word = mixer;
            word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            word ^ (word >> 31)
        };
        Generator {
            state: Cell::new([split(), split(), split(), split()]),
        }
    }

    /// 64 random bits.
    pub fn next(&self) -> u64 {
        let mut state = self.state.get();
        let result = state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = state[1] << 17;
        state[2] ^= state[0];
        state[3] ^= state[1];
        state[1] ^= state[2];
        state[0] ^= state[3];
        state[2] ^= shifted;
        state[3] = state[3].rotate_left(45);
        self.state.set(state);
        result
    }

    /// A number below `bound`, which must not be zero.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "below() of an empty range");
        let wide = u128::from(self.next()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// An index below `len`, which must not be zero.
    pub fn index(&self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "between() of an empty range");
        match (high - low).checked_add(1) {
            Some(bound) => low + self.below(bound),
            None => self.next(),
        }
    }

    /// True once in `count` times.
    pub fn one_in(&self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// True with a probability of `per_million` in a million.
    pub fn chance(&self, per_million: u32) -> bool {
        self.below(1_000_000) < u64::from(per_million)
    }
}

/// Numbers of streams. Those of a node have its number in the upper half; node 0 has what the only node had when all
/// nodes shared one stream.
const SCHEDULE: u64 = 1;
const DISK: u64 = 2;
const NETWORK: u64 = 3;
const OWN: u64 = 4;
const WORKLOAD: u64 = 5;
const MAILBOX: u64 = 6;

/// The generators of one simulation that no node owns.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) schedule: Generator,
    pub(crate) network: Generator,
    pub(crate) workload: Generator,
}

impl Streams {
    pub(crate) fn new(seed: u64) -> Streams {
        Streams {
            schedule: Generator::new(seed, SCHEDULE),
            network: Generator::new(seed, NETWORK),
            workload: Generator::new(seed, WORKLOAD),
        }
    }
}

/// The generators of one node: what one node draws changes nothing for another.
#[derive(Debug)]
pub(crate) struct NodeStreams {
    /// What the node's program draws.
    pub(crate) own: Generator,
    pub(crate) disk: Generator,
    pub(crate) mailbox: Generator,
}

impl NodeStreams {
    pub(crate) fn new(seed: u64, node: usize) -> NodeStreams {
        let node = u64::from(u32::try_from(node).expect("few nodes"));
        let stream = |concern| Generator::new(seed, (node << 32) | concern);
        NodeStreams {
            own: stream(OWN),
            disk: stream(DISK),
            mailbox: stream(MAILBOX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Generator;

    #[test]
    fn streams_of_one_seed_differ_and_repeat() {
        let draw = |seed, stream| {
            let generator = Generator::new(seed, stream);
            [generator.next(), generator.next(), generator.next()]
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn bounds_hold() {
        let generator = Generator::new(1, 1);
        let mut seen = [false; 3];
        for _ in 0..200 {
            seen[generator.index(3)] = true;
            assert!((5..=6).contains(&generator.between(5, 6)));
        }
        assert_eq!(seen, [true; 3]);
        assert!(!generator.chance(0));
        assert!(generator.chance(1_000_000));
    }
}
