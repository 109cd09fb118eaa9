//! Who gets the metadata log, and who has a vote on it: what its leader has to look at, and what follows.
//!
//! Pure. On shard 0. All registered brokers get the log. Votes are given one at a time, to brokers that have caught up and are
//! not fenced. A directory that was replaced loses its vote, and so does a broker that is forgotten, or shall have none; one
//! that is lost loses it to another that is there.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use model::{BrokerId, MonotonicTime};
use quorum::ReplicaKey;

/// Brokers that have a vote when the configuration names none: one of three may fail.
pub const VOTERS_WANTED: usize = 3;

/// Most voters, if more are asked for: two of five may fail.
pub const VOTERS_MAX: usize = 5;

/// How often votes are looked at while this replica leads.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Who gets a vote, or loses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VoterChange {
    Add(ReplicaKey),
    Remove(ReplicaKey),
}

/// A registered broker, as far as votes are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) key: ReplicaKey,
    pub(crate) is_alive: bool,
    pub(crate) vote: Vote,
}

/// Whether a broker shall have a vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vote {
    /// If one is to be given.
    Auto,
    /// It was asked for.
    Always,
    /// Others shall have it: somebody said so, or the broker gives away what it has.
    Never,
    /// It was away for too long: rather somebody else.
    Lost,
}

/// What is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) brokers_changed: bool,
    pub(crate) looks_at_voters: bool,
}

/// What the leader has still to tell the quorum.
#[derive(Default)]
pub(crate) struct Observers {
    brokers_changed: Cell<bool>,
    looks_at_voters: Cell<bool>,
    looked_at: Cell<MonotonicTime>,
    /// The controller decides: votes stay as they are meanwhile.
    votes_held: Cell<bool>,
}

impl Observers {
    /// Brokers have registered, changed or gone.
    pub(crate) fn brokers_changed(&self) {
        self.brokers_changed.set(true);
        self.looks_at_voters.set(true);
    }

    pub(crate) fn hold_votes(&self, are_held: bool) {
        self.votes_held.set(are_held);
    }

    pub(crate) fn look_at_voters(&self) {
        self.looks_at_voters.set(true);
    }

    /// What is to be done: the brokers to be told, the votes to be looked at.
    pub(crate) fn take(&self) -> Due {
        Due {
            brokers_changed: self.brokers_changed.take(),
            looks_at_voters: !self.votes_held.get() && self.looks_at_voters.take(),
        }
    }

    /// Time has passed. Whether something is due.
    pub(crate) fn tick(&self, now: MonotonicTime) -> bool {
        if now.since(self.looked_at.get()) >= LOOK_INTERVAL {
            self.looked_at.set(now);
            self.looks_at_voters.set(true);
        }
        self.looks_at_voters.get()
    }
}

/// The next change of the voters, if there is reason for one. `wanted` are those that shall have a vote; if nobody is named,
/// the first that are there.
pub(crate) fn next_change(
    me: ReplicaKey,
    voters: &[ReplicaKey],
    brokers: &[Candidate],
    wanted: &[BrokerId],
) -> Option<VoterChange> {
    let is_voter = |key: ReplicaKey| voters.contains(&key);
    let present = |broker: BrokerId| brokers.iter().find(|one| one.key.broker == broker);
    // A directory that is gone will never vote again.
    let replaced = voters.iter().find(|voter| {
        let now = present(voter.broker);
        **voter != me && now.is_some_and(|now| now.key != **voter && now.is_alive)
    });
    if let Some(replaced) = replaced {
        return Some(VoterChange::Remove(*replaced));
    }
    let may_vote = |broker: &&Candidate| match broker.vote {
        Vote::Always => broker.is_alive,
        Vote::Auto => broker.is_alive && (wanted.is_empty() || wanted.contains(&broker.key.broker)),
        Vote::Never | Vote::Lost => false,
    };
    let fitting: BTreeSet<ReplicaKey> = brokers
        .iter()
        .filter(may_vote)
        .map(|broker| broker.key)
        .collect();
    let has_successor = fitting.iter().any(|key| !is_voter(*key));
    let is_up =
        |voter: &ReplicaKey| *voter == me || present(voter.broker).is_some_and(|one| one.is_alive);
    // Those that are left must be able to decide.
    let can_go = |voter: &&ReplicaKey| {
        let left = voters.iter().filter(|other| other != voter);
        let up = left.clone().filter(|other| is_up(other)).count();
        2 * up > left.count()
    };
    // The leader hands over before it loses its own.
    let others = voters.iter().filter(|voter| **voter != me).filter(can_go);
    let leaves = others.filter(|voter| match present(voter.broker).map(|one| one.vote) {
        None | Some(Vote::Never) => true,
        Some(Vote::Lost) => has_successor,
        Some(Vote::Auto | Vote::Always) => false,
    });
    if let Some(leaves) = leaves.min() {
        return Some(VoterChange::Remove(*leaves));
    }
    let named = brokers.iter().filter(|one| one.vote == Vote::Always);
    let limit = match wanted.len() {
        0 => VOTERS_WANTED.max(named.count().min(VOTERS_MAX)),
        named => named,
    };
    // With an even number of voters no more may fail than with one less: the step to it is made only if the next one is there.
    let all: BTreeSet<ReplicaKey> = fitting.iter().chain(voters).copied().collect();
    let reachable = all.len().min(limit);
    let target = match wanted.is_empty() {
        true => reachable - (1 - reachable % 2),
        false => reachable,
    };
    if voters.len() >= target {
        return None;
    }
    let next = fitting.into_iter().find(|key| !is_voter(*key));
    next.map(VoterChange::Add)
}

#[cfg(test)]
mod tests {
    use quorum::DirectoryId;

    use super::*;

    fn key(broker: i32, directory: u8) -> ReplicaKey {
        ReplicaKey {
            broker: BrokerId(broker),
            directory: DirectoryId([directory; 16]),
        }
    }

    /// Brokers in their first directory, dead if negative.
    fn brokers(numbers: &[i32]) -> Vec<Candidate> {
        let one = |number: &i32| Candidate {
            key: key(number.abs(), 1),
            is_alive: *number > 0,
            vote: Vote::Auto,
        };
        numbers.iter().map(one).collect()
    }

    #[test]
    fn votes_are_given_in_pairs_up_to_three() {
        let table: [(&[i32], &[i32], Option<i32>); 8] = [
            (&[1], &[1], None),
            (&[1], &[1, 2], None),
            (&[1], &[1, 2, 3], Some(2)),
            (&[1], &[1, -2, 3], None),
            (&[1], &[1, -2, 3, 4], Some(3)),
            (&[1, 2], &[1, 2, 3], Some(3)),
            (&[1, 2, 3], &[1, 2, 3, 4, 5], None),
            (&[1, 2, 3], &[1, 2, -3, 4, 5], None),
        ];
        for (voters, there, expected) in table {
            let voters: Vec<_> = voters.iter().map(|number| key(*number, 1)).collect();
            let change = next_change(key(1, 1), &voters, &brokers(there), &[]);
            let expected = expected.map(|number| VoterChange::Add(key(number, 1)));
            assert_eq!(change, expected, "{voters:?} {there:?}");
        }
    }

    #[test]
    fn who_is_named_gets_a_vote_and_nobody_else() {
        let wanted = [BrokerId(1), BrokerId(5)];
        let voters = [key(1, 1)];
        let change = next_change(key(1, 1), &voters, &brokers(&[1, 2, 3, 5]), &wanted);
        assert_eq!(change, Some(VoterChange::Add(key(5, 1))));
        let change = next_change(key(1, 1), &voters, &brokers(&[1, 2, 3, -5]), &wanted);
        assert_eq!(change, None);
    }

    #[test]
    fn votes_are_taken_from_who_shall_have_none_and_from_who_is_gone() {
        use Vote::{Always, Auto, Lost, Never};
        let voters = [key(1, 1), key(2, 1), key(3, 1)];
        let (remove, add) = (VoterChange::Remove, VoterChange::Add);
        let table: [(&[Vote], Option<VoterChange>); 8] = [
            (&[Auto, Auto, Auto], None),
            (&[Auto, Never, Auto], Some(remove(key(2, 1)))),
            // It has to hand over first.
            (&[Never, Auto, Auto], None),
            // Nobody could have it instead.
            (&[Auto, Lost, Auto], None),
            (&[Auto, Lost, Auto, Auto], Some(remove(key(2, 1)))),
            (&[Auto, Lost, Auto, Never], None),
            // Forgotten.
            (&[Auto, Auto], Some(remove(key(3, 1)))),
            (
                &[Always, Always, Always, Always, Always],
                Some(add(key(4, 1))),
            ),
        ];
        for (votes, expected) in table {
            let mut there = brokers(&[1, 2, 3, 4, 5][..votes.len()]);
            for (one, vote) in there.iter_mut().zip(votes) {
                one.vote = *vote;
                one.is_alive = *vote != Lost;
            }
            assert_eq!(
                next_change(key(1, 1), &voters, &there, &[]),
                expected,
                "{votes:?}"
            );
        }
    }

    #[test]
    fn no_vote_is_taken_from_a_majority() {
        let voters = [key(1, 1), key(2, 1), key(3, 1)];
        let mut there = brokers(&[1, 2, -3]);
        there[1].vote = Vote::Never;
        assert_eq!(next_change(key(1, 1), &voters, &there, &[]), None);
        there[2].vote = Vote::Never;
        let change = next_change(key(1, 1), &voters, &there, &[]);
        assert_eq!(change, Some(VoterChange::Remove(key(3, 1))));
    }

    #[test]
    fn the_vote_of_a_directory_that_is_gone_is_taken_first() {
        let mut there = brokers(&[1, 2, 3]);
        there[1].key = key(2, 9);
        let voters = [key(1, 1), key(2, 1), key(3, 1)];
        let change = next_change(key(1, 1), &voters, &there, &[]);
        assert_eq!(change, Some(VoterChange::Remove(key(2, 1))));
        let change = next_change(key(1, 1), &[key(1, 1), key(3, 1)], &there, &[]);
        assert_eq!(change, Some(VoterChange::Add(key(2, 9))));
    }
}
