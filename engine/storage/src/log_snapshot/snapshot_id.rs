//! Names and bounds of snapshots. Pure.

use std::fmt;

use model::{LeaderEpoch, Offset};

/// Largest snapshot, in bytes: it is read into memory as a whole. A partition is about 100 bytes, so five million fit.
pub const SNAPSHOT_BYTES_MAX: u64 = 512 << 20;

/// Which snapshot of a log. The later one stands for more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId {
    /// It stands for the records before this offset.
    pub end_offset: Offset,
    /// The leader epoch of the last of them.
    pub epoch: LeaderEpoch,
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:010}", self.end_offset.0, self.epoch.0)
    }
}
