//! The intended send time inside a record, for produce-to-consume latency.
//!
//! Pure. Written over the front of the value of each batch's first record. Both ends run in one process, so the time is
//! the monotonic clock's.

use model::MonotonicTime;

/// Bytes of a trace: magic u32, run u64, intended time u64 in nanoseconds; big-endian.
pub const TRACE_BYTES: usize = 20;
const MAGIC: [u8; 4] = *b"RLt1";

/// When the batch that begins with this record was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Random number of the run.
    pub run: u64,
    /// The intended time.
    pub intended: MonotonicTime,
}

impl Trace {
    /// Writes the trace over the front of `value`. Shorter values are left alone: the workload refuses them before.
    pub fn write(&self, value: &mut [u8]) {
        if let Some(front) = value.first_chunk_mut::<TRACE_BYTES>() {
            front[..4].copy_from_slice(&MAGIC);
            front[4..12].copy_from_slice(&self.run.to_be_bytes());
            front[12..].copy_from_slice(&self.intended.0.to_be_bytes());
        }
    }

    /// The trace of a value, if it has one.
    pub fn read(value: &[u8]) -> Option<Trace> {
        let rest = value.strip_prefix(&MAGIC)?;
        let (run, rest) = rest.split_first_chunk::<8>()?;
        let intended = rest.first_chunk::<8>()?;
        Some(Trace {
            run: u64::from_be_bytes(*run),
            intended: MonotonicTime(u64::from_be_bytes(*intended)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let trace = Trace {
            run: 7,
            intended: MonotonicTime(1 << 60),
        };
        let mut value = vec![9; 30];
        trace.write(&mut value);
        assert_eq!(Trace::read(&value), Some(trace));
        for cut in 0..TRACE_BYTES {
            assert_eq!(Trace::read(&value[..cut]), None);
        }
        assert_eq!(Trace::read(&[9; 30]), None);
    }
}
