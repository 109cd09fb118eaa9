//! One partition that this broker has a replica of: its log, its role, and who waits for it.
//!
//! Owned by the partition table of one shard. Nothing here awaits; everything is a few comparisons. What a role wants done
//! that takes longer goes to [`ReplicaEvents`].
//! Invariants: waiters are ordered by offset, because appends are; only a leader has any; a role's outputs are performed in
//! one place ([`Partition::settle`]), after everything that the role is told.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use model::{
    BrokerEpoch, BrokerId, LeaderEpoch, MonotonicTime, Offset, PartitionEpoch, TopicPartition,
};
use replica::{
    Assignment, EpochEnd, FollowerFetch, FollowerLog, FollowerOutput, FollowerReplica, Frame,
    FrameRefusal, IsrRefusal, LeaderLog, LeaderReplica, LeaderSettings, LogEnds, Output,
    PlantedFault, ReplicaError, SubscribeAnswer, Subscription,
};
use storage::Log;

use crate::metrics::TopicCounters;
use crate::partition_rules::PartitionRules;
use crate::purgatory::OperationId;
use crate::replica_events::{Cut, ReplicaEvents};
use crate::request::{Acks, Isolation};
use crate::role::{Led, Role};
use crate::watch::Watcher;

/// Watchers a partition keeps before it looks for those that are over.
const WATCHERS_BEFORE_PURGE: usize = 64;

/// Somebody who waits for an offset to be acknowledged.
pub(crate) enum AcknowledgeTarget {
    /// One partition of a produce request.
    Operation(OperationId, usize),
    /// A numbered batch of the group coordinator of this partition.
    Coordinator(TopicPartition, u64),
}

struct Waiter {
    until: Offset,
    target: AcknowledgeTarget,
}

/// Why pushed records are not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeRefusal<E> {
    #[error("the partition is not followed here")]
    NotFollowing,
    #[error(transparent)]
    Frame(#[from] FrameRefusal),
    /// The log does not take them.
    #[error("{0}")]
    Append(E),
}

/// A partition of this shard.
pub struct Partition {
    pub id: TopicPartition,
    pub log: Rc<Log>,
    rules: RefCell<Rc<PartitionRules>>,
    role: RefCell<Role>,
    /// Of the role, for those who look often.
    replicated: Cell<bool>,
    /// When the role is to be looked at, as the events have it.
    timeout: Cell<Option<MonotonicTime>>,
    events: Rc<ReplicaEvents>,
    durable_waiters: RefCell<VecDeque<Waiter>>,
    high_watermark_waiters: RefCell<VecDeque<Waiter>>,
    watchers: RefCell<Vec<Watcher>>,
    /// High watermark and last stable offset when the watchers were last looked at.
    woken_for: Cell<(Offset, Offset)>,
    planted: Cell<Option<PlantedFault>>,
    /// What clients produced to the topic.
    pub(crate) counters: Rc<TopicCounters>,
}

impl Partition {
    /// A partition whose log is open, without a role yet.
    pub(crate) fn new(
        id: TopicPartition,
        log: Rc<Log>,
        rules: PartitionRules,
        counters: Rc<TopicCounters>,
        events: Rc<ReplicaEvents>,
    ) -> Rc<Partition> {
        Rc::new(Partition {
            id,
            log,
            rules: RefCell::new(Rc::new(rules)),
            role: RefCell::new(Role::Offline),
            replicated: Cell::new(false),
            timeout: Cell::new(None),
            events,
            durable_waiters: RefCell::default(),
            high_watermark_waiters: RefCell::default(),
            watchers: RefCell::default(),
            woken_for: Cell::new((Offset::NONE, Offset::NONE)),
            planted: Cell::new(None),
            counters,
        })
    }

    /// Leaves out a condition, in roles from now on. For tests.
    pub(crate) fn plant(&self, fault: Option<PlantedFault>) {
        self.planted.set(fault);
    }

    pub fn rules(&self) -> Rc<PartitionRules> {
        self.rules.borrow().clone()
    }

    /// The topic's configuration changed. Returns who need not wait any more.
    #[must_use]
    pub(crate) fn configure(
        &self,
        now: MonotonicTime,
        rules: PartitionRules,
        settings: LeaderSettings,
    ) -> Vec<AcknowledgeTarget> {
        *self.rules.borrow_mut() = Rc::new(rules);
        let mut acknowledged = Vec::new();
        if let Some(leader) = self.role.borrow_mut().leader_mut() {
            leader.handle_settings(now, settings);
        }
        self.settle(&mut acknowledged);
        acknowledged
    }

    /// Whether this broker leads it.
    pub fn leads(&self) -> bool {
        self.led_epoch().is_some()
    }

    /// The epoch in which this broker leads it, if it does.
    pub(crate) fn led_epoch(&self) -> Option<LeaderEpoch> {
        self.role.borrow().leader().map(LeaderReplica::leader_epoch)
    }

    /// The epoch in which this broker follows, if it does and its log is in one piece.
    pub(crate) fn followed_epoch(&self) -> Option<LeaderEpoch> {
        let role = self.role.borrow();
        let follows = matches!(&*role, Role::Follower(follower) if !follower.is_cutting());
        follows.then(|| role.leader_epoch())
    }

    /// What its leader tells of it, if this broker leads it.
    pub(crate) fn led(&self) -> Option<Led> {
        let role = self.role.borrow();
        let leader = role.leader()?;
        Some(Led {
            epoch: leader.leader_epoch(),
            replicas: leader.replica_count(),
            in_sync: leader.isr().len(),
            has_enough_in_sync: leader.has_enough_in_sync(),
            is_replicated: leader.has_followers(),
            lag_max: leader.follower_lags().max().unwrap_or(0),
            lag_sum: leader.follower_lags().sum(),
        })
    }

    /// Committed records, as far as the leader has told, that are not in this log; none on the leader itself.
    pub(crate) fn committed_lag(&self) -> u64 {
        match &*self.role.borrow() {
            Role::Follower(follower) => follower.committed_lag(),
            Role::Leader(_) | Role::Offline => 0,
        }
    }

    /// The epoch that is led or followed.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.role.borrow().leader_epoch()
    }

    /// Offsets below it are durable on every in-sync replica, as far as this one knows.
    pub fn high_watermark(&self) -> Offset {
        let known = self.role.borrow().high_watermark();
        known.unwrap_or_else(|| self.log.high_watermark())
    }

    /// Offsets below it belong to no transaction that is open, or whose end is not on every in-sync replica.
    pub fn last_stable_offset(&self) -> Offset {
        self.log.last_stable_offset()
    }

    /// The end that a reader with this isolation can see.
    pub fn readable_end(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable_offset(),
        }
    }

    /// Whether enough replicas are in sync for `acks=all`.
    pub fn has_enough_in_sync(&self) -> bool {
        let role = self.role.borrow();
        role.leader().is_some_and(LeaderReplica::has_enough_in_sync)
    }

    /// Whether other brokers have replicas of it, as far as this role is concerned with them.
    pub(crate) fn is_replicated(&self) -> bool {
        self.replicated.get()
    }

    /// Whether it follows as this process of its broker.
    pub(crate) fn follows_as(&self, process: BrokerEpoch) -> bool {
        matches!(&*self.role.borrow(), Role::Follower(follower) if follower.broker_epoch() == process)
    }

    /// Whether the log is being cut, or waits for it: the role stays until that is done.
    pub(crate) fn is_cutting(&self) -> bool {
        self.role.borrow().is_cutting()
    }

    /// Leads from now on, or under a new epoch, which the log has begun if others follow. Returns who need not wait any more.
    #[must_use]
    pub(crate) fn lead(
        &self,
        now: MonotonicTime,
        broker: BrokerId,
        settings: LeaderSettings,
        assignment: Assignment<'_>,
    ) -> Vec<AcknowledgeTarget> {
        assert!(!self.is_cutting(), "{} leads with a log in pieces", self.id);
        let mut acknowledged = Vec::new();
        let mut role = self.role.borrow_mut();
        match role.leader_mut() {
            // A smaller in-sync set may move the high watermark.
            Some(leader) => leader.handle_metadata(now, assignment),
            None => {
                self.events.forget(self.id);
                let ends = LogEnds {
                    log_end_offset: self.log.log_end_offset(),
                    durable_end_offset: self.log.durable_end_offset(),
                };
                let known = self.log.high_watermark();
                let mut leader =
                    LeaderReplica::take_over(now, broker, settings, assignment, ends, known);
                if let Some(fault) = self.planted.get() {
                    leader.plant(fault);
                }
                *role = Role::Leader(leader);
            }
        }
        self.replicated.set(role.is_replicated());
        drop(role);
        self.settle(&mut acknowledged);
        if !self.replicated.get() {
            self.reschedule(None);
        }
        acknowledged
    }

    /// Follows from now on, or another leader. Returns who waited for the leader that this one was: watchers are told to look
    /// again. A log that is being cut is told of its leader when that is done.
    #[must_use]
    pub(crate) fn follow(
        &self,
        (broker, process): (BrokerId, BrokerEpoch),
        leader: Option<BrokerId>,
        leader_epoch: LeaderEpoch,
    ) -> Vec<AcknowledgeTarget> {
        let mut role = self.role.borrow_mut();
        let is_same =
            matches!(&*role, Role::Follower(follower) if follower.broker_epoch() == process);
        if !is_same {
            assert!(!role.is_cutting(), "another process cuts the log");
            self.events.forget(self.id);
            let mut follower = FollowerReplica::new(broker, process, self.follower_log());
            if let Some(fault) = self.planted.get() {
                follower.plant(fault);
            }
            *role = Role::Follower(follower);
        }
        if let Some(follower) = role.follower_mut() {
            follower.handle_leader(leader, leader_epoch);
        }
        self.replicated.set(true);
        drop(role);
        let waiting = self.leads_no_longer();
        self.settle(&mut Vec::new());
        waiting
    }

    fn follower_log(&self) -> FollowerLog {
        FollowerLog {
            log_end_offset: self.log.log_end_offset(),
            durable_end_offset: self.log.durable_end_offset(),
            // One that has begun without a record counts, too: it is cut off if the leader does not know it.
            last_epoch: self.last_epoch(),
            high_watermark: self.log.high_watermark(),
        }
    }

    /// The newest leader epoch that the log knows, with or without a record of it.
    pub(crate) fn last_epoch(&self) -> LeaderEpoch {
        self.log.latest_leader_epoch().unwrap_or(LeaderEpoch::NONE)
    }

    /// Has no role any more: the partition is gone, this broker's replica is, or its process is not registered. Returns
    /// everybody who waits for it; watchers are told to look again.
    #[must_use]
    pub(crate) fn stop(&self) -> Vec<AcknowledgeTarget> {
        self.events.forget(self.id);
        *self.role.borrow_mut() = Role::Offline;
        self.replicated.set(false);
        self.leads_no_longer()
    }

    fn leads_no_longer(&self) -> Vec<AcknowledgeTarget> {
        self.reschedule(None);
        for watcher in self.watchers.borrow_mut().drain(..) {
            watcher.tell();
        }
        self.fail_waiters()
    }

    /// Tells `target` once the records before `until` are acknowledged at this level.
    pub(crate) fn wait(&self, acks: Acks, until: Offset, target: AcknowledgeTarget) {
        assert!(self.leads(), "nobody acknowledges records of {}", self.id);
        let queue = match acks {
            Acks::All => &self.high_watermark_waiters,
            Acks::Leader | Acks::None => &self.durable_waiters,
        };
        let mut queue = queue.borrow_mut();
        // A duplicate waits for the original, which may lie before later appends.
        let place = queue.partition_point(|w| w.until <= until);
        queue.insert(place, Waiter { until, target });
    }

    /// Whether records before `until` are acknowledged already.
    pub fn is_acknowledged(&self, acks: Acks, until: Offset) -> bool {
        match acks {
            Acks::All => self.high_watermark() >= until,
            Acks::Leader | Acks::None => self.log.durable_end_offset() >= until,
        }
    }

    /// The log of a replicated partition has grown by what its leader appended.
    pub(crate) fn appended(&self, now: MonotonicTime) {
        if let Some(leader) = self.role.borrow_mut().leader_mut() {
            leader.handle_append(now, self.log.log_end_offset());
            self.events.appended(self.id);
        }
    }

    /// The log is durable up to `end`. Moves the high watermark and adds who need not wait any more.
    pub(crate) fn durable(
        &self,
        now: MonotonicTime,
        end: Offset,
        acknowledged: &mut Vec<AcknowledgeTarget>,
    ) {
        match &mut *self.role.borrow_mut() {
            Role::Leader(leader) => leader.handle_durable(now, end),
            // What is durable when a log has been cut is told with the end of the cut.
            Role::Follower(follower) if follower.is_cutting() => return,
            Role::Follower(follower) => follower.handle_durable(end),
            Role::Offline => return,
        }
        pop_until(&self.durable_waiters, end, acknowledged);
        self.settle(acknowledged);
    }

    /// Records were removed from the front of the log: a transaction that was open there holds nobody up any more, and
    /// followers are to remove them, too.
    pub(crate) fn front_removed(&self) {
        self.wake_if_readable();
        if self.replicated.get() {
            self.events.advanced(self.id);
        }
    }

    /// What a led partition's log says to a follower that subscribes. `epoch_end` is what its leader epoch cache has for the
    /// follower's last epoch.
    pub(crate) fn subscribe(
        &self,
        now: MonotonicTime,
        subscription: &Subscription,
        epoch_end: Option<EpochEnd>,
    ) -> Option<Result<SubscribeAnswer, ReplicaError>> {
        let mut role = self.role.borrow_mut();
        let leader = role.leader_mut()?;
        leader.handle_append(now, self.log.log_end_offset());
        let log = LeaderLog {
            log_start_offset: self.log.log_start_offset(),
            epoch_end,
        };
        let answer = leader.handle_subscribe(subscription, log);
        if answer == Ok(SubscribeAnswer::Accepted) {
            self.events.accepted(self.id);
        }
        Some(answer)
    }

    /// Whether this process of a follower is served in the present leader epoch; that is returned.
    pub(crate) fn serves(&self, broker: BrokerId, process: BrokerEpoch) -> Option<LeaderEpoch> {
        let role = self.role.borrow();
        let leader = role.leader()?;
        (leader.session_of(broker) == Some(process)).then(|| leader.leader_epoch())
    }

    /// A follower tells what is durable there.
    pub(crate) fn follower_durable(
        &self,
        now: MonotonicTime,
        fetch: FollowerFetch,
        acknowledged: &mut Vec<AcknowledgeTarget>,
    ) -> Result<(), ReplicaError> {
        let mut role = self.role.borrow_mut();
        let Some(leader) = role.leader_mut() else {
            return Err(ReplicaError::NotSubscribed(fetch.broker));
        };
        leader.handle_append(now, self.log.log_end_offset());
        leader.handle_follower_fetch(now, fetch)?;
        drop(role);
        self.settle(acknowledged);
        Ok(())
    }

    /// Something else that the leader is told, if this broker leads.
    #[must_use]
    fn tell_leader(
        &self,
        now: MonotonicTime,
        event: impl FnOnce(&mut LeaderReplica),
    ) -> Vec<AcknowledgeTarget> {
        let mut acknowledged = Vec::new();
        let mut role = self.role.borrow_mut();
        if let Some(leader) = role.leader_mut() {
            leader.handle_append(now, self.log.log_end_offset());
            event(leader);
            drop(role);
            self.settle(&mut acknowledged);
        }
        acknowledged
    }

    /// The metadata lets a follower's broker be in an ISR, or no longer.
    #[must_use]
    pub(crate) fn eligibility(
        &self,
        now: MonotonicTime,
        broker: BrokerId,
        eligible: bool,
    ) -> Vec<AcknowledgeTarget> {
        self.tell_leader(now, |leader| {
            leader.handle_eligibility(now, broker, eligible)
        })
    }

    /// The controller has answered to a proposal.
    #[must_use]
    pub(crate) fn isr_result(
        &self,
        now: MonotonicTime,
        based_on: PartitionEpoch,
        result: Result<PartitionEpoch, IsrRefusal>,
    ) -> Vec<AcknowledgeTarget> {
        self.tell_leader(now, |leader| {
            leader.handle_isr_result(now, based_on, result)
        })
    }

    /// The time has come at which the role wanted to be looked at. The events have forgotten it.
    #[must_use]
    pub(crate) fn timeout(&self, now: MonotonicTime) -> Vec<AcknowledgeTarget> {
        self.timeout.set(None);
        self.tell_leader(now, |leader| leader.handle_timeout(now))
    }

    /// The leader has answered to a subscription. `own` is what this log's leader epoch cache has for the epoch of a
    /// divergence.
    pub(crate) fn subscribed(
        &self,
        leader_epoch: LeaderEpoch,
        answer: SubscribeAnswer,
        own: Option<EpochEnd>,
    ) {
        self.tell_follower(|follower| {
            follower.handle_subscribe_answer(leader_epoch, answer, own);
        });
    }

    /// The stream to the leader has ended, or the subscription was refused.
    pub(crate) fn disconnected(&self) {
        self.tell_follower(FollowerReplica::handle_disconnected);
    }

    /// The log has been cut as it was asked for.
    pub(crate) fn truncated(&self) {
        if !self.is_cutting() {
            // It has another role, or none, since it was asked for.
            return;
        }
        let (end, durable_end) = (self.log.log_end_offset(), self.log.durable_end_offset());
        let last_epoch = self.last_epoch();
        self.tell_follower(|follower| {
            follower.handle_truncated(end, last_epoch);
            follower.handle_durable(durable_end);
        });
    }

    fn tell_follower(&self, event: impl FnOnce(&mut FollowerReplica)) {
        if let Some(follower) = self.role.borrow_mut().follower_mut() {
            event(follower);
        }
        self.settle(&mut Vec::new());
    }

    /// The leader pushes records: `append` brings them to the log. Nothing has changed if it, or the frame, is refused.
    pub(crate) fn take_frame<E>(
        &self,
        frame: Frame,
        append: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), TakeRefusal<E>> {
        let mut role = self.role.borrow_mut();
        let Some(follower) = role.follower_mut() else {
            return Err(TakeRefusal::NotFollowing);
        };
        let mut after = follower.clone();
        after.handle_frame(frame)?;
        append().map_err(TakeRefusal::Append)?;
        assert_eq!(
            after.log_end_offset(),
            self.log.log_end_offset(),
            "what was taken of {} was appended",
            self.id
        );
        *follower = after;
        drop(role);
        self.settle(&mut Vec::new());
        Ok(())
    }

    /// Where the log that follows ends, if records are taken.
    pub(crate) fn takes_at(&self) -> Option<Offset> {
        match &*self.role.borrow() {
            Role::Follower(follower) if follower.is_fetching() => Some(follower.log_end_offset()),
            _ => None,
        }
    }

    /// What follows where a role was told something: nobody moves the high watermark in any other way.
    fn settle(&self, acknowledged: &mut Vec<AcknowledgeTarget>) {
        let Some(high_watermark) = self.role.borrow().high_watermark() else {
            return self.perform_outputs();
        };
        pop_until(&self.high_watermark_waiters, high_watermark, acknowledged);
        // The log knows it at any time: what is stable depends on it.
        self.log.set_high_watermark(high_watermark);
        self.wake_if_readable();
        if self.replicated.get() {
            self.perform_outputs();
        }
    }

    fn perform_outputs(&self) {
        let mut role = self.role.borrow_mut();
        match &mut *role {
            Role::Leader(leader) => {
                while let Some(output) = leader.poll_output() {
                    match output {
                        Output::HighWatermark(_) => self.events.advanced(self.id),
                        Output::ProposeIsr(proposal) => self.events.propose(self.id, proposal),
                    }
                }
                let next = leader.next_timeout();
                self.reschedule(next);
            }
            Role::Follower(follower) => {
                while let Some(output) = follower.poll_output() {
                    self.perform(output);
                }
            }
            Role::Offline => {}
        }
    }

    fn perform(&self, output: FollowerOutput) {
        let id = self.id;
        match output {
            // It was told to the log, and nobody waits for it here.
            FollowerOutput::HighWatermark(_) => {}
            FollowerOutput::Subscribe(leader, subscription) => {
                self.events.subscribe(id, leader, subscription);
            }
            FollowerOutput::Acknowledge(epoch, end) => self.events.acknowledge(id, epoch, end),
            FollowerOutput::Truncate {
                to,
                below_high_watermark,
            } => {
                if below_high_watermark {
                    tracing::error!(partition = %id, %to, "an unclean election: committed records are cut off");
                }
                self.events.cut(id, Cut::Truncate(to));
            }
            FollowerOutput::StartOver(at) => self.events.cut(id, Cut::StartOver(at)),
        }
    }

    fn reschedule(&self, next: Option<MonotonicTime>) {
        let before = self.timeout.replace(next);
        if before != next {
            self.events.schedule(self.id, before, next);
        }
    }

    /// Behind a slow replica the log grows and nothing more can be read: no watcher is looked at for that.
    fn wake_if_readable(&self) {
        let readable = (self.high_watermark(), self.last_stable_offset());
        if self.woken_for.replace(readable) != readable {
            self.wake_watchers();
        }
    }

    /// Adds a watcher, which is told at once if there is something to read already, or nothing can be read here.
    pub fn watch(&self, watcher: Watcher) {
        if !self.leads() || self.readable_end(watcher.isolation) > watcher.seen {
            watcher.tell();
            return;
        }
        let mut watchers = self.watchers.borrow_mut();
        if watchers.len() >= WATCHERS_BEFORE_PURGE && watchers.len().is_power_of_two() {
            watchers.retain(Watcher::is_alive);
        }
        watchers.push(watcher);
    }

    /// Nothing more will be acknowledged: returns everybody who waits.
    pub(crate) fn fail_waiters(&self) -> Vec<AcknowledgeTarget> {
        let mut waiting = Vec::new();
        pop_until(&self.durable_waiters, Offset(i64::MAX), &mut waiting);
        pop_until(&self.high_watermark_waiters, Offset(i64::MAX), &mut waiting);
        waiting
    }

    fn wake_watchers(&self) {
        let mut watchers = self.watchers.borrow_mut();
        if watchers.is_empty() {
            return;
        }
        watchers.retain(|watcher| {
            let readable = self.readable_end(watcher.isolation) > watcher.seen;
            if readable {
                watcher.tell();
            }
            !readable && watcher.is_alive()
        });
    }
}

fn pop_until(
    queue: &RefCell<VecDeque<Waiter>>,
    end: Offset,
    acknowledged: &mut Vec<AcknowledgeTarget>,
) {
    let mut queue = queue.borrow_mut();
    while queue.front().is_some_and(|waiter| waiter.until <= end) {
        let waiter = queue.pop_front().expect("looked at");
        acknowledged.push(waiter.target);
    }
}
