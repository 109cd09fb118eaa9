//! What a member of the metadata quorum has promised (Raft's hard state): its term, its vote and how far it knows the log to
//! be committed. Pure. Journaled and checkpointed with the log it belongs to.

use crate::encoding::{Decoder, Encoder, Short};

/// Bytes of an encoded state.
pub(crate) const QUORUM_STATE_BYTES: usize = 24;

/// Raft's hard state. All zero for logs of other kinds, and in the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuorumState {
    /// The newest term seen. Never decreases.
    pub term: u64,
    /// Who got this member's vote in `term`; 0: nobody.
    pub vote: u64,
    /// Entries up to this index are known to be committed. Never decreases.
    pub commit: u64,
}

impl QuorumState {
    pub(crate) fn encode(&self, out: &mut Encoder) {
        out.u64(self.term);
        out.u64(self.vote);
        out.u64(self.commit);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<QuorumState, Short> {
        Ok(QuorumState {
            term: from.u64()?,
            vote: from.u64()?,
            commit: from.u64()?,
        })
    }

    /// Whether a member may go from here to `next`: terms do not go back, a vote is given once per term.
    pub fn may_become(&self, next: &QuorumState) -> bool {
        let keeps_vote = self.vote == 0 || self.vote == next.vote;
        next.commit >= self.commit
            && (next.term > self.term || (next.term == self.term && keeps_vote))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_and_votes_do_not_go_back() {
        let state = |term, vote, commit| QuorumState { term, vote, commit };
        let present = state(3, 2, 10);
        // (next, allowed)
        let table = [
            (state(3, 2, 10), true),
            (state(3, 2, 11), true),
            (state(4, 0, 10), true),
            (state(4, 1, 10), true),
            (state(3, 1, 10), false),
            (state(3, 0, 10), false),
            (state(2, 2, 10), false),
            (state(4, 1, 9), false),
        ];
        for (next, allowed) in table {
            assert_eq!(present.may_become(&next), allowed, "{next:?}");
        }
        assert!(state(3, 0, 0).may_become(&state(3, 1, 0)), "the first vote");
        let mut out = Encoder::default();
        present.encode(&mut out);
        assert_eq!(out.bytes.len(), QUORUM_STATE_BYTES);
        assert_eq!(
            QuorumState::decode(&mut Decoder::new(&out.bytes)),
            Ok(present)
        );
    }
}
