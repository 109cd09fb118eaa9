//! Which runs of the broker wrote the groups of a journal. Pure. FORMAT.md, section "Checkpoint".

use crate::checkpoint::CheckpointError;
use crate::encoding::{Decoder, Encoder};

/// Which runs of the broker wrote the groups of a journal: each has a random generation, and goes on where the one before
/// ended. In order of their first groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generations {
    runs: Vec<(u64, u64)>,
}

impl Generations {
    /// A run begins with group `sequence`.
    pub(crate) fn begin(&mut self, sequence: u64, generation: u64) {
        // A run that wrote no group leaves no trace.
        self.runs.pop_if(|(first, _)| *first == sequence);
        let follows = self.runs.last().is_none_or(|(first, _)| *first < sequence);
        assert!(follows, "runs follow each other");
        self.runs.push((sequence, generation));
    }

    /// One run wrote everything.
    pub(crate) fn all(generation: u64) -> Generations {
        Generations {
            runs: vec![(1, generation)],
        }
    }

    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.count(self.runs.len());
        for (first, generation) in &self.runs {
            out.u64(*first);
            out.u64(*generation);
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Generations, CheckpointError> {
        let mut runs = Vec::new();
        for _ in 0..from.count(16)? {
            runs.push((from.u64()?, from.u64()?));
        }
        if runs.is_sorted_by(|before: &(u64, u64), after| before.0 < after.0) {
            Ok(Generations { runs })
        } else {
            Err(CheckpointError::Damaged("runs out of order"))
        }
    }

    /// The run that wrote, or would write, this group; 0 if none is known.
    pub(crate) fn of(&self, sequence: u64) -> u64 {
        let after = self.runs.partition_point(|(first, _)| *first <= sequence);
        after.checked_sub(1).map_or(0, |run| self.runs[run].1)
    }

    /// The present run.
    pub(crate) fn latest(&self) -> u64 {
        self.runs.last().map_or(0, |(_, generation)| *generation)
    }

    /// Those that groups from this one on belong to.
    pub(crate) fn since(&self, sequence: u64) -> Generations {
        let after = self.runs.partition_point(|(first, _)| *first <= sequence);
        Generations {
            runs: self.runs[after.max(1) - 1..].to_vec(),
        }
    }
}
