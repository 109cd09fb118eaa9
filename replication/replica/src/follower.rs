//! What a leader knows of one follower's progress.
//!
//! Invariants: `caught_up_at` is a time at which the follower had everything that the leader then had; an end is known
//! only of a follower whose log was found to be a prefix of the leader's, and only as its present process told it.

use model::{BrokerEpoch, BrokerId, LeaderEpoch, MonotonicTime, Offset};
use std::time::Duration;

/// A fetch by a follower: it states that everything below `fetch_offset` is durable there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FollowerFetch {
    /// Who fetches.
    pub broker: BrokerId,
    /// Its registration: which process fetches.
    pub broker_epoch: BrokerEpoch,
    /// The leader epoch in which it was accepted.
    pub leader_epoch: LeaderEpoch,
    /// Its log end offset, durable at the topic's level.
    pub fetch_offset: Offset,
    /// Whether the metadata lets it be in an ISR: unfenced, not shutting down, its broker epoch as the request says.
    pub eligible: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Follower {
    pub(crate) broker: BrokerId,
    /// The process that the leader serves. `None` until one is accepted in this leader epoch.
    session: Option<BrokerEpoch>,
    /// `None` until its first fetch in this session.
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
            session: None,
            log_end_offset: None,
            eligible: caught_up_at.is_some(),
            caught_up_at,
            previous: None,
        }
    }

    /// The process that the leader serves, -1 for none.
    pub(crate) fn broker_epoch(&self) -> BrokerEpoch {
        self.session.unwrap_or(BrokerEpoch(-1))
    }

    pub(crate) fn session(&self) -> Option<BrokerEpoch> {
        self.session
    }

    pub(crate) fn is_served(&self, process: BrokerEpoch) -> bool {
        self.session == Some(process)
    }

    /// A process asks, and is served or not. What another one told, or this one before, counts no longer.
    pub(crate) fn handle_subscribe(&mut self, session: Option<BrokerEpoch>) {
        self.session = session;
        self.log_end_offset = None;
        self.previous = None;
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

    /// The leader's log is about to grow beyond `leader_log_end`.
    pub(crate) fn handle_append(&mut self, now: MonotonicTime, leader_log_end: Offset) {
        if self.log_end_offset == Some(leader_log_end) {
            self.caught_up_at = Some(now);
        }
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
