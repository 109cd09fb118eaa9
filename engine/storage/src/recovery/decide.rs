//! What a start has to do, from what the checkpoints say. Pure.

use std::collections::BTreeMap;

use model::ShardId;

use crate::checkpoint::{Checkpoint, RunState};

/// What a shard's checkpoint says of the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Into how many shards the directory is divided; 0 if it does not say.
    pub(super) shard_count: u16,
    /// The shard has run since it was divided so.
    pub(super) has_run: bool,
    /// It was shut down in order.
    pub(super) is_clean: bool,
}

impl Known {
    pub(super) fn of(checkpoint: &Checkpoint) -> Known {
        Known {
            shard_count: checkpoint.shard_count,
            has_run: checkpoint.state != RunState::Recovered,
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

/// A shard that was there has left nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard} of {shard_count} has no checkpoint, but another shard has run beside it")]
pub(super) struct Missing {
    pub(super) shard: ShardId,
    pub(super) shard_count: u16,
}

/// Decides. `known` are the shards of which there is anything on disk, `None` if no checkpoint was ever completed.
pub(super) fn decide(
    known: &BTreeMap<ShardId, Option<Known>>,
    shard_count: u16,
) -> Result<Start, Missing> {
    let is_there = |shard: &ShardId| known.get(shard).is_some_and(Option::is_some);
    // A division is complete once a shard of it has run: all checkpoints of it were durable before.
    let complete = known.values().flatten().filter(|known| known.has_run);
    if let Some(divided) = complete.map(|known| known.shard_count).max() {
        let missing = (0..divided).map(ShardId).find(|shard| !is_there(shard));
        if let Some(shard) = missing {
            return Err(Missing {
                shard,
                shard_count: divided,
            });
        }
    }
    let is_divided = (0..shard_count).map(ShardId).all(|shard| is_there(&shard))
        && known
            .values()
            .flatten()
            .all(|known| known.shard_count == shard_count);
    Ok(if is_divided {
        Start::AsItIs
    } else {
        Start::Divide
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        let known = |shard_count, has_run| {
            Some(Known {
                shard_count,
                has_run,
                is_clean: false,
            })
        };
        let missing = |shard, shard_count| {
            Err(Missing {
                shard: ShardId(shard),
                shard_count,
            })
        };
        // (what is there, shards wanted) -> what to do
        let table = [
            (vec![], 1, Ok(Start::Divide)),
            (vec![(0, None)], 1, Ok(Start::Divide)),
            (vec![(0, known(1, true))], 1, Ok(Start::AsItIs)),
            (vec![(0, known(1, false))], 1, Ok(Start::AsItIs)),
            // An earlier release does not say.
            (vec![(0, known(0, true))], 1, Ok(Start::Divide)),
            (
                vec![(0, known(0, true)), (1, known(0, true))],
                2,
                Ok(Start::Divide),
            ),
            // More or fewer cores.
            (vec![(0, known(1, true))], 2, Ok(Start::Divide)),
            (
                vec![(0, known(2, true)), (1, known(2, true))],
                1,
                Ok(Start::Divide),
            ),
            // Cut off in the middle of dividing.
            (
                vec![(0, known(1, true)), (1, known(2, false))],
                2,
                Ok(Start::Divide),
            ),
            (vec![(0, known(2, false))], 2, Ok(Start::Divide)),
            (
                vec![(0, known(2, false)), (1, known(1, true))],
                2,
                Ok(Start::Divide),
            ),
            // A shard that had run is gone.
            (vec![(1, known(2, true))], 2, missing(0, 2)),
            (vec![(0, None), (1, known(2, true))], 2, missing(0, 2)),
            (vec![(0, known(2, true))], 1, missing(1, 2)),
            // Surplus shards keep a checkpoint that says that they have nothing.
            (
                vec![(0, known(1, true)), (1, known(1, true))],
                1,
                Ok(Start::AsItIs),
            ),
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
