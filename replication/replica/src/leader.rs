//! High watermark and ISR of one partition, as its leader knows them.
//!
//! Pure. Owned by the partition's shard, one per led partition and leadership.
//! Invariants: the high watermark never decreases; it never exceeds the durable log end of any replica that may be in
//! the ISR, the leader's own included; it stands still while the ISR is smaller than the effective minimum. What counts
//! of a follower was told by its present process, in this leader epoch, after its log was found to be a prefix of this.
//! Source: kafka.md 3.2 to 3.5, KIP-497, KIP-903, KIP-966.

use std::cmp::Ordering;
use std::time::Duration;

use model::{BrokerEpoch, BrokerId, LeaderEpoch, MonotonicTime, Offset, PartitionEpoch};

use crate::follower::{Follower, FollowerFetch};
use crate::isr::{IsrProposal, IsrRefusal, IsrState, Members, Pending};
use crate::planted::PlantedFault;
use crate::subscription::{LeaderLog, SubscribeAnswer, Subscription, compare};

/// How long to wait before a proposal is repeated that failed for a passing reason.
const PROPOSAL_RETRY: Duration = Duration::from_millis(500);

/// Settings that may change while a partition is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaderSettings {
    /// `min.insync.replicas` of the topic.
    pub min_insync_replicas: u32,
    /// `replica.lag.time.max.ms`: a member that has not been caught up for this long leaves the ISR.
    pub replica_lag_max: Duration,
}

/// What the metadata says about the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// Generation of leadership.
    pub leader_epoch: LeaderEpoch,
    /// Version of this state.
    pub partition_epoch: PartitionEpoch,
    /// All replicas, this broker among them.
    pub replicas: &'a [BrokerId],
    /// In-sync replicas, this broker among them.
    pub isr: &'a [BrokerId],
}

/// Where the log of a broker that takes leadership ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnds {
    /// Durable or not. This leader epoch begins here.
    pub log_end_offset: Offset,
    /// Up to where it is durable at the topic's level. What a follower has appended may still be on its way to the disk.
    pub durable_end_offset: Offset,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Records below this offset are committed: wake consumers and acknowledgements.
    HighWatermark(Offset),
    /// Ask the controller; answer with [`LeaderReplica::handle_isr_result`].
    ProposeIsr(IsrProposal),
}

/// Why a follower is refused. It subscribes anew when it knows better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// The broker has no replica as far as this leader knows; with an epoch in the request the wire's answer is
    /// UNKNOWN_LEADER_EPOCH, else NOT_LEADER_OR_FOLLOWER.
    #[error("broker {0} is not a replica")]
    NotAReplica(BrokerId),
    /// The follower's leader epoch is over.
    #[error("leader epoch {found} is over, {current} is in force")]
    FencedLeaderEpoch {
        /// The follower's.
        found: LeaderEpoch,
        /// The one in which this broker leads.
        current: LeaderEpoch,
    },
    /// The follower knows of a later leader epoch than this broker.
    #[error("leader epoch {found} is not known, {current} is in force")]
    UnknownLeaderEpoch {
        /// The follower's.
        found: LeaderEpoch,
        /// The one in which this broker leads.
        current: LeaderEpoch,
    },
    /// A later process of the same broker has been served.
    #[error("registration {found} of broker {broker} is over")]
    StaleBrokerEpoch {
        /// Who.
        broker: BrokerId,
        /// Its registration.
        found: BrokerEpoch,
    },
    /// This process of it has not been accepted in this leader epoch.
    #[error("broker {0} is not subscribed")]
    NotSubscribed(BrokerId),
    /// It claims records that the leader does not have.
    #[error("broker {broker} fetches at {fetch_offset}, the log ends at {log_end_offset}")]
    BeyondLogEnd {
        /// Who.
        broker: BrokerId,
        /// Where it fetches.
        fetch_offset: Offset,
        /// The leader's end.
        log_end_offset: Offset,
    },
}

/// A partition's replication state on its leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeaderReplica {
    broker: BrokerId,
    settings: LeaderSettings,
    leader_epoch: LeaderEpoch,
    partition_epoch: PartitionEpoch,
    /// Where this leader epoch begins: a follower joins the ISR only from here on.
    epoch_start: Offset,
    log_end_offset: Offset,
    durable_end_offset: Offset,
    high_watermark: Offset,
    high_watermark_reported: Offset,
    replica_count: usize,
    followers: Vec<Follower>,
    isr: IsrState,
    /// Not sent yet.
    proposal: Option<IsrProposal>,
    retry_at: Option<MonotonicTime>,
    check_at: Option<MonotonicTime>,
    planted: Option<PlantedFault>,
}

impl LeaderReplica {
    /// Takes leadership of a log that is durable up to its end. `log_end_offset` is where this leader epoch begins;
    /// `high_watermark` is the last one known (from a checkpoint, or as a follower), 0 if none is.
    pub fn new(
        now: MonotonicTime,
        broker: BrokerId,
        settings: LeaderSettings,
        assignment: Assignment<'_>,
        log_end_offset: Offset,
        high_watermark: Offset,
    ) -> LeaderReplica {
        let ends = LogEnds {
            log_end_offset,
            durable_end_offset: log_end_offset,
        };
        LeaderReplica::take_over(now, broker, settings, assignment, ends, high_watermark)
    }

    /// Takes leadership of a log whose end may still be on its way to the disk.
    /// Panics if more is durable than there is.
    pub fn take_over(
        now: MonotonicTime,
        broker: BrokerId,
        settings: LeaderSettings,
        assignment: Assignment<'_>,
        ends: LogEnds,
        high_watermark: Offset,
    ) -> LeaderReplica {
        let LogEnds {
            log_end_offset,
            durable_end_offset,
        } = ends;
        assert!(
            durable_end_offset <= log_end_offset,
            "more is durable than there is"
        );
        let high_watermark = high_watermark.min(durable_end_offset);
        let mut leader = LeaderReplica {
            broker,
            settings,
            leader_epoch: assignment.leader_epoch,
            partition_epoch: assignment.partition_epoch,
            epoch_start: log_end_offset,
            log_end_offset,
            durable_end_offset,
            high_watermark,
            high_watermark_reported: high_watermark,
            replica_count: 0,
            followers: Vec::new(),
            isr: IsrState::Committed(Members::new()),
            proposal: None,
            retry_at: None,
            check_at: None,
            planted: None,
        };
        leader.install(now, assignment);
        leader.advance_high_watermark(now);
        leader
    }

    /// Leaves out a condition. For tests.
    #[doc(hidden)]
    pub fn plant(&mut self, fault: PlantedFault) {
        self.planted = Some(fault);
    }

    /// Committed records end here.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Records end here, durable or not.
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset
    }

    /// Durable records end here.
    pub fn durable_end_offset(&self) -> Offset {
        self.durable_end_offset
    }

    /// Generation of leadership.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// Version of the partition's metadata in force here.
    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// The committed in-sync replicas.
    pub fn isr(&self) -> &[BrokerId] {
        self.isr.committed()
    }

    /// Whether `acks=all` may be accepted: otherwise NOT_ENOUGH_REPLICAS.
    pub fn has_enough_in_sync(&self) -> bool {
        self.isr().len() >= self.min_isr_effective()
    }

    /// `min.insync.replicas`, but never more than there are replicas (KIP-966).
    pub fn min_isr_effective(&self) -> usize {
        (self.settings.min_insync_replicas as usize).min(self.replica_count)
    }

    /// Log end of a follower in this epoch, if it has fetched.
    pub fn follower_end_offset(&self, broker: BrokerId) -> Option<Offset> {
        self.follower(broker)?.log_end_offset
    }

    /// Replicas that the partition has, this one included.
    pub fn replica_count(&self) -> usize {
        self.replica_count
    }

    /// Records that each follower lacks, of those that have fetched in this epoch.
    pub fn follower_lags(&self) -> impl Iterator<Item = u64> {
        let ends = self
            .followers
            .iter()
            .filter_map(|follower| follower.log_end_offset);
        ends.map(|end| {
            let behind = self.log_end_offset.0 - end.0;
            u64::try_from(behind).expect("no follower is beyond the leader's end")
        })
    }

    /// The process of a follower that has been accepted in this leader epoch: it is who records are pushed to.
    pub fn session_of(&self, broker: BrokerId) -> Option<BrokerEpoch> {
        self.follower(broker)?.session()
    }

    /// Records were appended up to `log_end_offset`; they are readable by followers, not durable yet. Whoever had everything
    /// before has had it until now: nobody tells anything of a partition to which nothing happens.
    /// Panics if the end goes back: a leader never truncates.
    pub fn handle_append(&mut self, now: MonotonicTime, log_end_offset: Offset) {
        assert!(
            log_end_offset >= self.log_end_offset,
            "a leader's log end went back"
        );
        if log_end_offset > self.log_end_offset {
            for follower in &mut self.followers {
                follower.handle_append(now, self.log_end_offset);
            }
            self.log_end_offset = log_end_offset;
        }
    }

    /// Whether there is anybody but this broker: without followers there is nothing to push and no time to watch.
    pub fn has_followers(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Everything below `durable_end_offset` is durable here at the topic's level. Panics if it goes back.
    pub fn handle_durable(&mut self, now: MonotonicTime, durable_end_offset: Offset) {
        assert!(
            durable_end_offset >= self.durable_end_offset,
            "the durable end went back"
        );
        self.durable_end_offset = durable_end_offset;
        self.log_end_offset = self.log_end_offset.max(durable_end_offset);
        self.advance_high_watermark(now);
    }

    /// A follower asks for what follows its log. What it told before counts no longer; from an accepted one the driver
    /// pushes what follows, and hears what is durable there by [`LeaderReplica::handle_follower_fetch`].
    ///
    /// A member of the ISR of which nothing is known holds the high watermark where it is.
    pub fn handle_subscribe(
        &mut self,
        subscription: &Subscription,
        log: LeaderLog,
    ) -> Result<SubscribeAnswer, ReplicaError> {
        self.check_leader_epoch(subscription.leader_epoch)?;
        let unchecked = self.is_planted(PlantedFault::UncheckedSubscription);
        let log_end_offset = self.log_end_offset;
        let follower = self.follower_mut(subscription.broker)?;
        if follower.broker_epoch() > subscription.broker_epoch {
            return Err(ReplicaError::StaleBrokerEpoch {
                broker: subscription.broker,
                found: subscription.broker_epoch,
            });
        }
        let mut answer = compare(subscription, log, log_end_offset);
        if unchecked && subscription.log_end_offset <= log_end_offset {
            answer = SubscribeAnswer::Accepted;
        }
        let is_accepted = answer == SubscribeAnswer::Accepted;
        follower.handle_subscribe(is_accepted.then_some(subscription.broker_epoch));
        Ok(answer)
    }

    /// A follower fetches, before it is answered.
    pub fn handle_follower_fetch(
        &mut self,
        now: MonotonicTime,
        fetch: FollowerFetch,
    ) -> Result<(), ReplicaError> {
        let log_end_offset = self.log_end_offset;
        let any_session = self.is_planted(PlantedFault::AnySession);
        if !any_session {
            self.check_leader_epoch(fetch.leader_epoch)?;
        }
        let follower = self.follower_mut(fetch.broker)?;
        if !follower.is_served(fetch.broker_epoch) && !any_session {
            return Err(ReplicaError::NotSubscribed(fetch.broker));
        }
        if fetch.fetch_offset > log_end_offset {
            return Err(ReplicaError::BeyondLogEnd {
                broker: fetch.broker,
                fetch_offset: fetch.fetch_offset,
                log_end_offset,
            });
        }
        follower.handle_fetch(now, fetch, log_end_offset);
        self.maybe_expand(|follower| follower.broker == fetch.broker);
        self.advance_high_watermark(now);
        Ok(())
    }

    /// The metadata lets a follower be in an ISR, or no longer: its broker was unfenced, fenced, or shuts down. One that
    /// has caught up joins, though it has nothing more to tell; one that may not join is not waited for.
    pub fn handle_eligibility(&mut self, now: MonotonicTime, broker: BrokerId, eligible: bool) {
        let Ok(follower) = self.follower_mut(broker) else {
            return;
        };
        follower.eligible = eligible;
        self.expand_by_caught_up(now);
        self.advance_high_watermark(now);
    }

    /// The metadata of the partition changed while this broker leads it. Older versions are ignored, and so is the one
    /// in force: dropping a pending expansion for it would let the high watermark pass a member. It is installed all the
    /// same if it comes with a new leader epoch: then the controller has done more than it was asked for when it accepted a
    /// proposal, such as to end a move, and of that nothing is known here yet. A new leader epoch forgets what followers
    /// told; the log may have grown since, so the epoch begins at the present end.
    pub fn handle_metadata(&mut self, now: MonotonicTime, assignment: Assignment<'_>) {
        let known = (self.leader_epoch, self.partition_epoch);
        let is_news = (assignment.leader_epoch, assignment.partition_epoch) > known;
        if !is_news || assignment.partition_epoch < self.partition_epoch {
            return;
        }
        if assignment.leader_epoch > self.leader_epoch {
            self.epoch_start = self.log_end_offset;
            self.followers.clear();
        }
        self.install(now, assignment);
        self.advance_high_watermark(now);
        self.expand_by_caught_up(now);
    }

    /// Settings changed.
    pub fn handle_settings(&mut self, now: MonotonicTime, settings: LeaderSettings) {
        self.settings = settings;
        self.advance_high_watermark(now);
    }

    /// The controller's answer to the proposal that was based on the partition epoch `based_on`: the epoch after it,
    /// or why not. Ignored when newer metadata came first.
    ///
    /// The driver hands an acceptance over when the metadata before it has been applied here: after a new
    /// `min.insync.replicas` the controller counts on a high watermark that stands still below it.
    pub fn handle_isr_result(
        &mut self,
        now: MonotonicTime,
        based_on: PartitionEpoch,
        result: Result<PartitionEpoch, IsrRefusal>,
    ) {
        if based_on != self.partition_epoch {
            return;
        }
        let IsrState::Pending(pending) = &mut self.isr else {
            return;
        };
        match result {
            Ok(partition_epoch) => {
                self.partition_epoch = self.partition_epoch.max(partition_epoch);
                self.isr = IsrState::Committed(pending.accepted());
                // Another one may have caught up meanwhile. After a refusal nobody is tried again before something new
                // is heard: the refusal would come again, too.
                self.advance_high_watermark(now);
                self.expand_by_caught_up(now);
            }
            Err(IsrRefusal::Rejected) => match pending.refused() {
                Some(committed) => self.isr = IsrState::Committed(committed),
                None => self.retry_at = Some(now.plus(PROPOSAL_RETRY)),
            },
            Err(IsrRefusal::Outdated) => {} // Stays pending until new metadata tells what is true.
            Err(IsrRefusal::NotNow) => {
                if self.planted != Some(PlantedFault::TrustsAnyRefusal) {
                    pending.repeat();
                }
                self.retry_at = Some(now.plus(PROPOSAL_RETRY));
            }
        }
        self.advance_high_watermark(now);
    }

    /// When [`LeaderReplica::handle_timeout`] is wanted; `None` while there is no follower to watch.
    pub fn next_timeout(&self) -> Option<MonotonicTime> {
        match (self.check_at, self.retry_at) {
            (Some(check), Some(retry)) => Some(check.min(retry)),
            (check, retry) => check.or(retry),
        }
    }

    /// Time has passed: drop laggards from the ISR, repeat a failed proposal.
    pub fn handle_timeout(&mut self, now: MonotonicTime) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            let pending = self.isr.pending();
            self.proposal = pending.map(|pending| pending.proposal().clone());
        }
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_at = Some(now.plus(self.settings.replica_lag_max / 2));
            self.maybe_shrink(now);
            self.advance_high_watermark(now);
            self.expand_by_caught_up(now);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.high_watermark > self.high_watermark_reported {
            self.high_watermark_reported = self.high_watermark;
            return Some(Output::HighWatermark(self.high_watermark));
        }
        self.proposal.take().map(Output::ProposeIsr)
    }

    fn install(&mut self, now: MonotonicTime, assignment: Assignment<'_>) {
        self.leader_epoch = assignment.leader_epoch;
        self.partition_epoch = assignment.partition_epoch;
        self.replica_count = assignment.replicas.len();
        self.isr = IsrState::Committed(Members::from_slice(assignment.isr));
        self.proposal = None;
        self.retry_at = None;
        self.followers
            .retain(|follower| assignment.replicas.contains(&follower.broker));
        for broker in assignment.replicas {
            let known = self
                .followers
                .iter()
                .any(|follower| follower.broker == *broker);
            if *broker != self.broker && !known {
                let caught_up_at = assignment.isr.contains(broker).then_some(now);
                self.followers.push(Follower::new(*broker, caught_up_at));
            }
        }
        let lag_max = self.settings.replica_lag_max;
        self.check_at = (!self.followers.is_empty()).then(|| now.plus(lag_max / 2));
    }

    fn check_leader_epoch(&self, found: LeaderEpoch) -> Result<(), ReplicaError> {
        let current = self.leader_epoch;
        match found.cmp(&current) {
            Ordering::Less => Err(ReplicaError::FencedLeaderEpoch { found, current }),
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(ReplicaError::UnknownLeaderEpoch { found, current }),
        }
    }

    fn follower(&self, broker: BrokerId) -> Option<&Follower> {
        self.followers.iter().find(|f| f.broker == broker)
    }

    fn follower_mut(&mut self, broker: BrokerId) -> Result<&mut Follower, ReplicaError> {
        let follower = self.followers.iter_mut().find(|f| f.broker == broker);
        follower.ok_or(ReplicaError::NotAReplica(broker))
    }

    fn proposal_of(&self, isr: &[BrokerId]) -> IsrProposal {
        let process = |broker: &BrokerId| {
            let follower = self.follower(*broker);
            follower.map_or(BrokerEpoch(-1), Follower::broker_epoch)
        };
        IsrProposal {
            isr: isr.iter().map(|id| (*id, process(id))).collect(),
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
        }
    }

    fn propose(&mut self, proposed: Members) {
        let proposal = self.proposal_of(&proposed);
        self.proposal = Some(proposal.clone());
        let committed = Members::from_slice(self.isr.committed());
        self.isr = IsrState::Pending(Pending::new(committed, proposal));
    }

    /// Looks at everybody again. An idle partition's followers have nothing to tell, so whatever kept one out is not
    /// followed by a fetch when it is over.
    fn expand_by_caught_up(&mut self, now: MonotonicTime) {
        let (end, lag_max) = (self.log_end_offset, self.settings.replica_lag_max);
        self.maybe_expand(|follower| follower.is_caught_up(now, end, lag_max));
    }

    /// Proposes the first of these followers that may join.
    fn maybe_expand(&mut self, is_meant: impl Fn(&Follower) -> bool) {
        if self.isr.is_pending() {
            return;
        }
        let joins = |follower: &&Follower| is_meant(follower) && self.may_join(follower);
        if let Some(candidate) = self.followers.iter().find(joins) {
            let mut proposed = Members::from_slice(self.isr.committed());
            proposed.push(candidate.broker);
            self.propose(proposed);
        }
    }

    fn may_join(&self, follower: &Follower) -> bool {
        let Some(end) = follower.log_end_offset else {
            return false;
        };
        let reaches_epoch =
            end >= self.epoch_start || self.is_planted(PlantedFault::JoinsBeforeEpochStart);
        let is_caught_up = end >= self.high_watermark && reaches_epoch;
        follower.eligible && is_caught_up && !self.isr.may_contain(follower.broker)
    }

    fn maybe_shrink(&mut self, now: MonotonicTime) {
        if self.isr.is_pending() {
            return;
        }
        let lags = |broker: &BrokerId| {
            self.follower(*broker).is_some_and(|follower| {
                !follower.is_caught_up(now, self.log_end_offset, self.settings.replica_lag_max)
            })
        };
        let kept: Members = self.isr().iter().copied().filter(|id| !lags(id)).collect();
        if kept.len() < self.isr().len() {
            self.propose(kept);
        }
    }

    fn advance_high_watermark(&mut self, now: MonotonicTime) {
        if !self.has_enough_in_sync() && !self.is_planted(PlantedFault::BelowMinimum) {
            return;
        }
        let mut lowest = match self.is_planted(PlantedFault::CountsOwnLogEnd) {
            true => self.log_end_offset,
            false => self.durable_end_offset,
        };
        for follower in &self.followers {
            // A caught-up outsider is about to join: waiting for it avoids a high watermark that it would hold back.
            let joins = follower.eligible
                && follower.log_end_offset.is_some()
                && follower.is_caught_up(now, self.log_end_offset, self.settings.replica_lag_max);
            if self.counts(follower.broker) || joins && self.joins_count() {
                lowest = lowest.min(follower.log_end_offset.unwrap_or(Offset::ZERO));
            }
        }
        self.high_watermark = self.high_watermark.max(lowest);
    }

    /// Whether the high watermark waits for the broker, because it may be in the ISR.
    fn counts(&self, broker: BrokerId) -> bool {
        let committed = self.isr.committed().contains(&broker);
        match self.planted {
            Some(PlantedFault::PendingJoinDoesNotCount) => committed,
            Some(PlantedFault::PendingLeaveDoesNotCount) => {
                let stays = |pending: &Pending| pending.proposal().contains(broker);
                committed && self.isr.pending().is_none_or(stays)
            }
            _ => self.isr.may_contain(broker),
        }
    }

    /// A caught-up outsider is not waited for where it is planted that a pending one does not count.
    fn joins_count(&self) -> bool {
        !self.is_planted(PlantedFault::PendingJoinDoesNotCount)
    }

    fn is_planted(&self, fault: PlantedFault) -> bool {
        self.planted == Some(fault)
    }
}
