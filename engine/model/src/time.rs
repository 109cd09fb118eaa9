//! Two kinds of time, never mixed: monotonic time decides, wall-clock time only labels records.

use std::fmt;
use std::time::Duration;

/// Nanoseconds since an arbitrary start of this process. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonotonicTime(pub u64);

impl MonotonicTime {
    /// This time plus `duration`, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> MonotonicTime {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        MonotonicTime(self.0.saturating_add(nanos))
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: MonotonicTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Milliseconds since the Unix epoch, as records carry it. -1 is "no timestamp".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The wire's "no timestamp".
    pub const NONE: Timestamp = Timestamp(-1);
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
