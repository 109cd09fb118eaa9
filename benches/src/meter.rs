//! Takes the time of one operation: fixed counts, several runs, the best of them.
//!
//! The best run is the one that the machine disturbed least. Everything timed goes through [`timed`], which is never
//! inlined: callgrind can be told to count between its entry and its end (README.md).

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// For figures.
    Full,
    /// For instruction counts and a quick look.
    Quick,
    /// For tests: only that it works.
    Tiny,
}

impl Effort {
    /// Runs, of which the best counts.
    fn runs(self) -> u32 {
        match self {
            Effort::Full => 10,
            Effort::Quick => 3,
            Effort::Tiny => 1,
        }
    }

    /// Operations per run, for a bench that asks for `ops`.
    fn ops(self, ops: u64) -> u64 {
        match self {
            Effort::Full => ops,
            Effort::Quick => (ops / 20).max(1),
            Effort::Tiny => ops.min(2),
        }
    }
}

/// The outcome of one bench.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Nanoseconds per operation in the best run.
    pub nanos_per_op: f64,
    /// Bytes that one operation works on; 0 where that says nothing.
    pub bytes_per_op: u64,
    /// Operations timed, all runs together.
    pub ops: u64,
}

impl Measured {
    /// Megabytes (10^6 bytes) per second, where bytes apply.
    pub fn megabytes_per_second(&self) -> Option<f64> {
        (self.bytes_per_op > 0 && self.nanos_per_op > 0.0)
            .then(|| self.bytes_per_op as f64 * 1000.0 / self.nanos_per_op)
    }
}

/// What a bench is given.
#[derive(Debug)]
pub struct Meter {
    effort: Effort,
    measured: Option<Measured>,
}

impl Meter {
    /// A meter for one bench.
    pub fn new(effort: Effort) -> Meter {
        Meter {
            effort,
            measured: None,
        }
    }

    /// What was measured.
    pub fn measured(&self) -> Option<Measured> {
        self.measured
    }

    /// Measures `op`, called `ops` times per run. `bytes_per_op` is 0 where bytes do not apply.
    pub fn repeat<T>(&mut self, ops: u64, bytes_per_op: usize, mut op: impl FnMut() -> T) {
        self.runs(ops, bytes_per_op, |ops| {
            timed(|| {
                for _ in 0..ops {
                    black_box(op());
                }
            })
        });
    }

    /// Measures `run`, which does as many operations as it is told and says how long they took by [`timed`].
    pub fn runs(&mut self, ops: u64, bytes_per_op: usize, mut run: impl FnMut(u64) -> Duration) {
        let ops = self.effort.ops(ops);
        let times = (0..self.effort.runs()).map(|_| run(ops));
        let best = times.min().unwrap_or_default();
        self.measured = Some(Measured {
            nanos_per_op: best.as_nanos() as f64 / ops as f64,
            bytes_per_op: bytes_per_op as u64,
            ops: ops * u64::from(self.effort.runs()),
        });
    }
}

/// How long `work` took.
#[inline(never)]
pub(crate) fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
