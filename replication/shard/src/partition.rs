//! One partition that this shard leads: its log, its replica state machine, and who waits for it.
//!
//! Owned by the partition table of one shard. Nothing here awaits; everything is a few comparisons.
//! Invariant: waiters are ordered by offset, because appends are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use model::{LeaderEpoch, MonotonicTime, Offset, TopicPartition};
use replica::{Assignment, LeaderReplica, LeaderSettings};
use storage::Log;

use crate::metrics::TopicCounters;
use crate::partition_rules::PartitionRules;
use crate::purgatory::OperationId;
use crate::request::{Acks, Isolation};
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

/// A partition led by this shard.
pub struct Partition {
    pub id: TopicPartition,
    pub log: Rc<Log>,
    rules: RefCell<Rc<PartitionRules>>,
    replica: RefCell<LeaderReplica>,
    durable_waiters: RefCell<VecDeque<Waiter>>,
    high_watermark_waiters: RefCell<VecDeque<Waiter>>,
    watchers: RefCell<Vec<Watcher>>,
    /// High watermark and last stable offset when the watchers were last looked at.
    woken_for: Cell<(Offset, Offset)>,
    deleted: Cell<bool>,
    /// What clients produced to the topic.
    pub(crate) counters: Rc<TopicCounters>,
}

impl Partition {
    /// A partition whose log is open. `replica` knows the committed ISR.
    pub fn new(
        id: TopicPartition,
        log: Rc<Log>,
        rules: PartitionRules,
        replica: LeaderReplica,
        counters: Rc<TopicCounters>,
    ) -> Rc<Partition> {
        let partition = Partition {
            id,
            log,
            rules: RefCell::new(Rc::new(rules)),
            replica: RefCell::new(replica),
            durable_waiters: RefCell::default(),
            high_watermark_waiters: RefCell::default(),
            watchers: RefCell::default(),
            woken_for: Cell::new((Offset::NONE, Offset::NONE)),
            deleted: Cell::new(false),
            counters,
        };
        partition.tell_log();
        Rc::new(partition)
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
        self.replica.borrow_mut().handle_settings(now, settings);
        let mut acknowledged = Vec::new();
        self.settle(&mut acknowledged);
        acknowledged
    }

    /// The log knows the high watermark at any time: what is stable depends on it.
    fn tell_log(&self) {
        self.log.set_high_watermark(self.high_watermark());
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.replica.borrow().leader_epoch()
    }

    /// Offsets below it are durable on every in-sync replica.
    pub fn high_watermark(&self) -> Offset {
        self.replica.borrow().high_watermark()
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
        self.replica.borrow().has_enough_in_sync()
    }

    /// The metadata of the partition changed. Returns who need not wait any more: a smaller in-sync set may move the high
    /// watermark.
    #[must_use]
    pub(crate) fn assigned(
        &self,
        now: MonotonicTime,
        assignment: Assignment<'_>,
    ) -> Vec<AcknowledgeTarget> {
        self.replica.borrow_mut().handle_metadata(now, assignment);
        let mut acknowledged = Vec::new();
        self.settle(&mut acknowledged);
        acknowledged
    }

    /// Tells `target` once the records before `until` are acknowledged at this level.
    pub(crate) fn wait(&self, acks: Acks, until: Offset, target: AcknowledgeTarget) {
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

    /// The log is durable up to `end`. Moves the high watermark and adds who need not wait any more.
    pub(crate) fn durable(
        &self,
        now: MonotonicTime,
        end: Offset,
        acknowledged: &mut Vec<AcknowledgeTarget>,
    ) {
        self.replica.borrow_mut().handle_durable(now, end);
        pop_until(&self.durable_waiters, end, acknowledged);
        self.settle(acknowledged);
    }

    /// Records were removed from the front of the log: a transaction that was open there holds nobody up any more.
    pub(crate) fn front_removed(&self) {
        self.wake_if_readable();
    }

    /// What follows where the high watermark may have moved: nobody moves it in any other way.
    fn settle(&self, acknowledged: &mut Vec<AcknowledgeTarget>) {
        let high_watermark = self.high_watermark();
        pop_until(&self.high_watermark_waiters, high_watermark, acknowledged);
        self.tell_log();
        self.wake_if_readable();
    }

    /// Behind a slow replica the log grows and nothing more can be read: no watcher is looked at for that.
    fn wake_if_readable(&self) {
        let readable = (self.high_watermark(), self.last_stable_offset());
        if self.woken_for.replace(readable) != readable {
            self.wake_watchers();
        }
    }

    /// Adds a watcher, which is told at once if there is something to read already.
    pub fn watch(&self, watcher: Watcher) {
        if self.deleted.get() || self.readable_end(watcher.isolation) > watcher.seen {
            watcher.tell();
            return;
        }
        let mut watchers = self.watchers.borrow_mut();
        if watchers.len() >= WATCHERS_BEFORE_PURGE && watchers.len().is_power_of_two() {
            watchers.retain(Watcher::is_alive);
        }
        watchers.push(watcher);
    }

    /// The partition is gone: returns everybody who waits for it; watchers are told to look again.
    pub(crate) fn delete(&self) -> Vec<AcknowledgeTarget> {
        self.deleted.set(true);
        for watcher in self.watchers.borrow_mut().drain(..) {
            watcher.tell();
        }
        self.fail_waiters()
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
