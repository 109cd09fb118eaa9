//! Who may use the last of the journal's space. Pure.
//!
//! The journal frees space by a checkpoint, which itself needs a group (the barrier); a deletion frees space on the
//! device, and its mark needs one too. So each claim leaves room for those that matter more.

/// What room is asked for, the least urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// Records, and the carried remains of small logs.
    Append,
    /// What was decided, and marks: the deletion of a topic and then of its logs, a log's new start, what a start has to
    /// write before anybody can decide. A mark of a deletion that finds no room waits in memory.
    Mark,
    /// The group that a checkpoint waits for.
    Barrier,
}

/// Room kept for each claim: this many groups of marks or barriers. Each must end in a checkpoint, or gather in memory.
const SHARE_BYTES_MIN: usize = 16 << 10;
const SHARE_BYTES_MAX: usize = 256 << 10;

impl Claim {
    /// Bytes that this claim leaves to others, in a journal of `journal_bytes`.
    pub(crate) fn leaves(self, journal_bytes: u64) -> usize {
        let share = usize::try_from(journal_bytes / 64).map_or(SHARE_BYTES_MAX, |share| {
            share.clamp(SHARE_BYTES_MIN, SHARE_BYTES_MAX)
        });
        let shares = match self {
            Claim::Append => 4,
            Claim::Mark => 1,
            Claim::Barrier => 0,
        };
        shares * share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_urgent_the_less_is_left() {
        let claims = [Claim::Append, Claim::Mark, Claim::Barrier];
        for journal_bytes in [128 << 10, 1 << 20, 65 << 20, 512 << 20] {
            let left = claims.map(|claim| claim.leaves(journal_bytes));
            assert!(left.is_sorted_by(|more, less| more > less), "{left:?}");
            assert!(
                (left[0] as u64) <= journal_bytes / 2,
                "{left:?} of {journal_bytes}"
            );
        }
    }
}
