//! What a start has to do, from what the checkpoints say. Pure.

use std::collections::BTreeMap;

use model::ShardId;

use crate::checkpoint::{Checkpoint, RunState};

/// What a shard's checkpoint says of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Into how many shards the directory is divided; 0 if it does not say.
    pub(super) shard_count: u16,
    /// It was shut down in order.
    pub(super) is_clean: bool,
}

impl Known {
    pub(super) fn of(checkpoint: &Checkpoint) -> Known {
        Known {
            shard_count: checkpoint.shard_count,
            is_clean: checkpoint.state == RunState::CleanShutdown,
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The logs are divided as wanted.
    AsItIs,
    /// They are not, or not all of it was done.
    Divide,
}

/// Decides. `known` are the shards of which there is anything on disk, `None` if no checkpoint was ever completed.
pub(super) fn decide(known: &BTreeMap<ShardId, Option<Known>>, shard_count: u16) -> Start {
    let is_there = |shard: ShardId| known.get(&shard).is_some_and(Option::is_some);
    // The last checkpoint of a division to be written says that it is complete, so all must say the same.
    let is_divided = (0..shard_count).map(ShardId).all(is_there)
        && known
            .values()
            .flatten()
            .all(|known| known.shard_count == shard_count);
    if is_divided {
        Start::AsItIs
    } else {
        Start::Divide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        let known = |shard_count| {
            Some(Known {
                shard_count,
                is_clean: false,
            })
        };
        // (what is there, shards wanted) -> what to do
        let table = [
            (vec![], 1, Start::Divide),
            (vec![(0, None)], 1, Start::Divide),
            (vec![(0, known(1))], 1, Start::AsItIs),
            // An earlier release does not say.
            (vec![(0, known(0))], 1, Start::Divide),
            (vec![(0, known(0)), (1, known(0))], 2, Start::Divide),
            // More or fewer cores.
            (vec![(0, known(1))], 2, Start::Divide),
            (vec![(0, known(2)), (1, known(2))], 1, Start::Divide),
            // Cut off in the middle of dividing.
            (vec![(0, known(1)), (1, known(2))], 2, Start::Divide),
            (vec![(0, known(2))], 2, Start::Divide),
            (vec![(0, known(2)), (1, None)], 2, Start::Divide),
            (vec![(0, known(1)), (1, known(2))], 1, Start::Divide),
            // Surplus shards keep a checkpoint that says that they have nothing.
            (vec![(0, known(1)), (1, known(1))], 1, Start::AsItIs),
        ];
        for (number, (shards, wanted, expected)) in table.into_iter().enumerate() {
            let shards = shards
                .into_iter()
                .map(|(shard, known)| (ShardId(shard), known))
                .collect();
            assert_eq!(decide(&shards, wanted), expected, "row {number}");
        }
    }
}
