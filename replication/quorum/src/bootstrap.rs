//! How a cluster's metadata log begins.
//!
//! Pure. All first voters begin with the same entry, which names them; it counts as committed by that. Everybody else gets
//! it from a leader like any other.

use bytes::Bytes;
use model::Offset;

use crate::control;
use crate::effects::HardState;
use crate::key::VoterSet;
use crate::place::Term;

/// What a first voter writes before it begins, in this order. A crash in between leaves a log without entries, with which it
/// begins once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The quorum state.
    pub state: HardState,
    /// The first batch of the log, at offset 0.
    pub batch: Bytes,
}

/// The beginning of a cluster with these voters. The same for each of them, to the byte.
pub fn bootstrap(voters: &VoterSet) -> Bootstrap {
    assert!(!voters.keys().is_empty(), "nobody would ever decide");
    Bootstrap {
        state: HardState {
            term: 1,
            vote: 0,
            commit: 0,
        },
        batch: control::voters(voters, Term(1), Offset::ZERO),
    }
}
