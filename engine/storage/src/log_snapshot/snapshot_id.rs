//! Names and bounds of snapshots. Pure.

use std::fmt;
use std::str::FromStr;

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

/// A text that names no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a snapshot")]
pub struct NotAName;

impl FromStr for SnapshotId {
    type Err = NotAName;

    fn from_str(name: &str) -> Result<SnapshotId, NotAName> {
        let (end_offset, epoch) = name.split_once('-').ok_or(NotAName)?;
        let id = SnapshotId {
            end_offset: Offset(end_offset.parse().map_err(|_| NotAName)?),
            epoch: LeaderEpoch(epoch.parse().map_err(|_| NotAName)?),
        };
        // One name for each.
        match id.to_string() == name {
            true => Ok(id),
            false => Err(NotAName),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_names_one_snapshot() {
        let id = SnapshotId {
            end_offset: Offset(258),
            epoch: LeaderEpoch(7),
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        for name in [
            "",
            "-",
            "258-7",
            "../1-1",
            "00000000000000000258-000000000x",
        ] {
            assert_eq!(name.parse::<SnapshotId>(), Err(NotAName), "{name}");
        }
    }
}
