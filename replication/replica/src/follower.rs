//! What a leader knows of one follower's progress.
//!
//! Invariant: `caught_up_at` is a time at which the follower had everything that the leader then had.

use model::{BrokerId, MonotonicTime, Offset};
use std::time::Duration;

/// A fetch by a follower: it states that everything below `fetch_offset` is durable there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    /// Who fetches.
    pub broker: BrokerId,
    /// Its log end offset, durable at the topic's level.
    pub fetch_offset: Offset,
    /// Whether the metadata lets it be in an ISR: unfenced, not shutting down, its broker epoch as the request says.
    pub eligible: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Follower {
    pub(crate) broker: BrokerId,
    /// `None` until its first fetch in this leader epoch.
    pub(crate) log_end_offset: Option<Offset>,
    pub(crate) eligible: bool,
    caught_up_at: Option<MonotonicTime>,
    /// The leader's log end at the previous fetch, and when that was.
    previous: Option<(Offset, MonotonicTime)>,
}

impl Follower {
    /// A follower of which nothing is known; members of the ISR count as caught up when leadership begins.
    pub(crate) fn new(broker: BrokerId, caught_up_at: Option<MonotonicTime>) -> Follower {
        Follower {
            broker,
            log_end_offset: None,
            eligible: caught_up_at.is_some(),
            caught_up_at,
            previous: None,
        }
    }

    pub(crate) fn handle_fetch(
        &mut self,
        now: MonotonicTime,
        fetch: FollowerFetch,
        leader_log_end: Offset,
    ) {
        if fetch.fetch_offset >= leader_log_end {
            self.caught_up_at = Some(now);
        } else if let Some((end, at)) = self.previous
            && fetch.fetch_offset >= end
        {
            self.caught_up_at = self.caught_up_at.max(Some(at));
        }
        self.previous = Some((leader_log_end, now));
        self.log_end_offset = Some(fetch.fetch_offset);
        self.eligible = fetch.eligible;
    }

    /// Whether it had everything within the last `lag_max`.
    pub(crate) fn is_caught_up(
        &self,
        now: MonotonicTime,
        leader_log_end: Offset,
        lag_max: Duration,
    ) -> bool {
        self.log_end_offset == Some(leader_log_end)
            || self.caught_up_at.is_some_and(|at| now.since(at) <= lag_max)
    }
}
