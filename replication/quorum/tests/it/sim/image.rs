//! The state machine of a simulation: a hash over everything that was applied, in order.

use model::Offset;
use ringlog_quorum::Entry;

/// What was applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) index: u64,
    pub(crate) end_offset: Offset,
    pub(crate) hash: u64,
}

impl Image {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.base_offset(), self.end_offset, "applied out of order");
        self.index += 1;
        self.end_offset = entry.end_offset();
        self.hash = hash(self.hash, entry.batch());
    }
}

/// FNV-1a, from a hash on.
pub(crate) fn hash(from: u64, bytes: &[u8]) -> u64 {
    let start = from ^ 0xcbf2_9ce4_8422_2325;
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
