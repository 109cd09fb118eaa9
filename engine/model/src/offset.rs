//! Offsets of records in a partition.
//!
//! Invariant: a stored record's offset is never negative. `Offset::NONE` (-1) is the wire's "no offset".

use std::fmt;

use serde::{Deserialize, Serialize};

/// Position of a record in its partition, counted from 0.
///
/// End offsets (log end offset, high watermark) are exclusive: they name the next record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Offset(pub i64);

impl Offset {
    /// The wire's "no offset".
    pub const NONE: Offset = Offset(-1);
    /// The first offset of a new partition.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records further on. Panics on overflow: no log has 2^63 records.
    #[must_use]
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0.checked_add(count).expect("offset overflow"))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
