//! Places in the quorum's log. Pure.

use model::LeaderEpoch;

/// Generation of leadership of the metadata log; the leader epoch of its batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

impl Term {
    /// The largest that a leader epoch can say.
    pub const MAX: Term = Term(i32::MAX as u64);
}

impl Term {
    /// As batches of the log say it.
    pub fn leader_epoch(self) -> LeaderEpoch {
        LeaderEpoch(i32::try_from(self.0).expect("terms end with what an epoch can say"))
    }
}

/// Place of an entry in the log, counted from 1. 0 is the place before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryIndex(pub u64);

/// An entry by its place and its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryId {
    /// The place.
    pub index: EntryIndex,
    /// The term. 0 where the place is 0 or is not told.
    pub term: Term,
}
