//! A follower says where its log ends, and the leader whether that is a prefix of its own (KIP-101, KIP-595).
//!
//! Both logs agree up to the end of the last epoch that both have. A follower that has more than that, or that ends
//! behind it, is told where the leader's epoch ends; it cuts its log and asks again. Each round ends at an older epoch
//! or with agreement.

use model::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

/// Where the records of an epoch end in a log: what its leader epoch cache answers for an epoch, or for the last one
/// before it that the log knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EpochEnd {
    /// The largest epoch in the log up to the one that was asked for.
    pub epoch: LeaderEpoch,
    /// Where the next epoch begins, or the log ends.
    pub end_offset: Offset,
}

/// A follower asks for what follows its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subscription {
    /// Who asks.
    pub broker: BrokerId,
    /// Its registration: which process asks.
    pub broker_epoch: BrokerEpoch,
    /// The leader epoch in which it takes the one it asks for the leader.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends, durable or not.
    pub log_end_offset: Offset,
    /// The epoch of its last record, [`LeaderEpoch::NONE`] of an empty log.
    pub last_epoch: LeaderEpoch,
}

/// What the leader's log says about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderLog {
    /// Where it starts.
    pub log_start_offset: Offset,
    /// What its leader epoch cache has for the follower's last epoch; `None` if all its epochs are later.
    pub epoch_end: Option<EpochEnd>,
}

/// The leader's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubscribeAnswer {
    /// The follower's log is a prefix of the leader's. What follows is on its way.
    Accepted,
    /// The follower's log departs from the leader's, where this epoch ends in it or before.
    Diverged(EpochEnd),
    /// The leader has nothing that the follower's log could be continued with. It begins anew, here.
    StartOver(Offset),
}

/// The leader's answer to a follower whose log ends there, in this epoch.
pub(crate) fn compare(
    subscription: &Subscription,
    log: LeaderLog,
    leader_log_end: Offset,
) -> SubscribeAnswer {
    let end = subscription.log_end_offset;
    if end < log.log_start_offset {
        return SubscribeAnswer::StartOver(log.log_start_offset);
    }
    if subscription.last_epoch == LeaderEpoch::NONE {
        // Without a record there is nothing to disagree on, but where the log stands.
        return match end <= leader_log_end {
            true => SubscribeAnswer::Accepted,
            false => SubscribeAnswer::StartOver(log.log_start_offset),
        };
    }
    match log.epoch_end {
        None => SubscribeAnswer::StartOver(log.log_start_offset),
        Some(leader) if leader.epoch < subscription.last_epoch || leader.end_offset < end => {
            SubscribeAnswer::Diverged(leader)
        }
        Some(_) => SubscribeAnswer::Accepted,
    }
}

/// What a follower cuts its log to when it is told where the leader's epoch ends. `own` is what its own leader epoch
/// cache has for that epoch; `None` if all its epochs are later.
pub(crate) fn truncation_point(
    diverging: EpochEnd,
    own: Option<EpochEnd>,
    log_end: Offset,
) -> Offset {
    match own {
        // Both have records of the epoch: they agree up to where the shorter of the two ends.
        Some(own) if own.epoch == diverging.epoch => {
            diverging.end_offset.min(own.end_offset).min(log_end)
        }
        // What follows the follower's last epoch before it is not in the leader's log.
        Some(own) => own.end_offset.min(log_end),
        // Nor is anything that the follower has: the leader knows none of its epochs.
        None => Offset::ZERO,
    }
}
