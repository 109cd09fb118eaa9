//! High watermark and ISR of one partition, as its leader knows them.
//!
//! Pure. Owned by the partition's shard, one per led partition and leadership.
//! Invariants: the high watermark never decreases; it never exceeds the durable log end of any replica that may be in
//! the ISR, the leader's own included; it stands still while the ISR is smaller than the effective minimum.
//! Source: kafka.md 3.2 to 3.4, KIP-497, KIP-966.

use std::time::Duration;

use model::{BrokerId, LeaderEpoch, MonotonicTime, Offset, PartitionEpoch};

use crate::follower::{Follower, FollowerFetch};
use crate::isr::{IsrProposal, IsrRefusal, IsrState, Members};

/// How long to wait before a proposal is repeated that failed for a passing reason.
const PROPOSAL_RETRY: Duration = Duration::from_millis(500);

/// Settings that may change while a partition is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Records below this offset are committed: wake consumers and acknowledgements.
    HighWatermark(Offset),
    /// Ask the controller; answer with [`LeaderReplica::handle_isr_result`].
    ProposeIsr(IsrProposal),
}

/// Why a follower's fetch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// The broker has no replica as far as this leader knows; with an epoch in the request the wire's answer is
    /// UNKNOWN_LEADER_EPOCH, else NOT_LEADER_OR_FOLLOWER.
    #[error("broker {0} is not a replica")]
    NotAReplica(BrokerId),
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
#[derive(Clone, Debug)]
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
}

impl LeaderReplica {
    /// Takes leadership. `log_end_offset` is where this leader epoch begins and what is durable here;
    /// `high_watermark` is the last one known (from a checkpoint, or as a follower), 0 if none is.
    pub fn new(
        now: MonotonicTime,
        broker: BrokerId,
        settings: LeaderSettings,
        assignment: Assignment<'_>,
        log_end_offset: Offset,
        high_watermark: Offset,
    ) -> LeaderReplica {
        let high_watermark = high_watermark.min(log_end_offset);
        let mut leader = LeaderReplica {
            broker,
            settings,
            leader_epoch: assignment.leader_epoch,
            partition_epoch: assignment.partition_epoch,
            epoch_start: log_end_offset,
            log_end_offset,
            durable_end_offset: log_end_offset,
            high_watermark,
            high_watermark_reported: high_watermark,
            replica_count: 0,
            followers: Vec::new(),
            isr: IsrState::Committed(Members::new()),
            proposal: None,
            retry_at: None,
            check_at: None,
        };
        leader.install(now, assignment);
        leader.advance_high_watermark(now);
        leader
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
        let follower = self.followers.iter().find(|f| f.broker == broker);
        follower.and_then(|follower| follower.log_end_offset)
    }

    /// Records were appended up to `log_end_offset`; they are readable by followers, not durable yet.
    /// Panics if the end goes back: a leader never truncates.
    pub fn handle_append(&mut self, log_end_offset: Offset) {
        assert!(
            log_end_offset >= self.log_end_offset,
            "a leader's log end went back"
        );
        self.log_end_offset = log_end_offset;
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

    /// A follower fetches, before it is answered.
    pub fn handle_follower_fetch(
        &mut self,
        now: MonotonicTime,
        fetch: FollowerFetch,
    ) -> Result<(), ReplicaError> {
        let log_end_offset = self.log_end_offset;
        let follower = self.followers.iter_mut().find(|f| f.broker == fetch.broker);
        let follower = follower.ok_or(ReplicaError::NotAReplica(fetch.broker))?;
        if fetch.fetch_offset > log_end_offset {
            return Err(ReplicaError::BeyondLogEnd {
                broker: fetch.broker,
                fetch_offset: fetch.fetch_offset,
                log_end_offset,
            });
        }
        follower.handle_fetch(now, fetch, log_end_offset);
        self.maybe_expand(fetch);
        self.advance_high_watermark(now);
        Ok(())
    }

    /// The metadata of the partition changed while this broker leads it. Older versions are ignored, and so is the one
    /// in force: dropping a pending expansion for it would let the high watermark pass a member. A new leader epoch
    /// forgets what followers told; the log may have grown since, so the epoch begins at the present end.
    pub fn handle_metadata(&mut self, now: MonotonicTime, assignment: Assignment<'_>) {
        if assignment.partition_epoch <= self.partition_epoch
            || assignment.leader_epoch < self.leader_epoch
        {
            return;
        }
        if assignment.leader_epoch > self.leader_epoch {
            self.epoch_start = self.log_end_offset;
            self.followers.clear();
        }
        self.install(now, assignment);
        self.advance_high_watermark(now);
    }

    /// Settings changed.
    pub fn handle_settings(&mut self, now: MonotonicTime, settings: LeaderSettings) {
        self.settings = settings;
        self.advance_high_watermark(now);
    }

    /// The controller's answer to the proposal that was based on the partition epoch `based_on`: the epoch after it,
    /// or why not. Ignored when newer metadata came first.
    pub fn handle_isr_result(
        &mut self,
        now: MonotonicTime,
        based_on: PartitionEpoch,
        result: Result<PartitionEpoch, IsrRefusal>,
    ) {
        if based_on != self.partition_epoch {
            return;
        }
        let IsrState::Pending {
            committed,
            proposed,
        } = &mut self.isr
        else {
            return;
        };
        match result {
            Ok(partition_epoch) => {
                self.partition_epoch = self.partition_epoch.max(partition_epoch);
                self.isr = IsrState::Committed(std::mem::take(proposed));
            }
            Err(IsrRefusal::Rejected) => {
                self.isr = IsrState::Committed(std::mem::take(committed));
            }
            Err(IsrRefusal::Outdated) => {} // Stays pending until new metadata tells what is true.
            Err(IsrRefusal::NotNow) => self.retry_at = Some(now.plus(PROPOSAL_RETRY)),
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
            if let IsrState::Pending { proposed, .. } = &self.isr {
                self.proposal = Some(self.proposal_of(proposed.to_vec()));
            }
        }
        if self.check_at.is_some_and(|at| at <= now) {
            self.check_at = Some(now.plus(self.settings.replica_lag_max / 2));
            self.maybe_shrink(now);
            self.advance_high_watermark(now);
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

    fn proposal_of(&self, isr: Vec<BrokerId>) -> IsrProposal {
        IsrProposal {
            isr,
            leader_epoch: self.leader_epoch,
            partition_epoch: self.partition_epoch,
        }
    }

    fn propose(&mut self, proposed: Members) {
        self.proposal = Some(self.proposal_of(proposed.to_vec()));
        self.isr = IsrState::Pending {
            committed: Members::from_slice(self.isr.committed()),
            proposed,
        };
    }

    fn maybe_expand(&mut self, fetch: FollowerFetch) {
        let caught_up =
            fetch.fetch_offset >= self.high_watermark && fetch.fetch_offset >= self.epoch_start;
        if self.isr.is_pending()
            || self.isr.may_contain(fetch.broker)
            || !fetch.eligible
            || !caught_up
        {
            return;
        }
        let mut proposed = Members::from_slice(self.isr.committed());
        proposed.push(fetch.broker);
        self.propose(proposed);
    }

    fn maybe_shrink(&mut self, now: MonotonicTime) {
        if self.isr.is_pending() {
            return;
        }
        let lags = |broker: &BrokerId| {
            let follower = self.followers.iter().find(|f| f.broker == *broker);
            follower.is_some_and(|follower| {
                !follower.is_caught_up(now, self.log_end_offset, self.settings.replica_lag_max)
            })
        };
        let kept: Members = self.isr().iter().copied().filter(|id| !lags(id)).collect();
        if kept.len() < self.isr().len() {
            self.propose(kept);
        }
    }

    fn advance_high_watermark(&mut self, now: MonotonicTime) {
        if !self.has_enough_in_sync() {
            return;
        }
        let mut lowest = self.durable_end_offset;
        for follower in &self.followers {
            // A caught-up outsider is about to join: waiting for it avoids a high watermark that it would hold back.
            let joins = follower.eligible
                && follower.log_end_offset.is_some()
                && follower.is_caught_up(now, self.log_end_offset, self.settings.replica_lag_max);
            if self.isr.may_contain(follower.broker) || joins {
                lowest = lowest.min(follower.log_end_offset.unwrap_or(Offset::ZERO));
            }
        }
        self.high_watermark = self.high_watermark.max(lowest);
    }
}
