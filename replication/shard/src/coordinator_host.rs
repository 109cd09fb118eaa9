//! Group coordinators of this shard: one for each partition of `__consumer_offsets` that it leads.
//!
//! Drives the pure machine of the `coordinator` crate: takes requests and time to it, its records to the log and its
//! replies to whoever asked. Two long-lived tasks, started with the first partition, do what has to wait: one loads
//! partitions ([`load`]), the other appends ([`append`]). Everything else is synchronous.
//! Invariants: records enter the log in the order in which the machine gave them out, and it hears of their outcome in
//! that order; every request gets exactly one reply, also when the partition goes away.

mod append;
mod hosted;
mod load;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use coordinator::{GroupReply, GroupRequest, GroupSettings, ListGroupsRequest, ListedGroup, Now};
use model::config::BrokerSettings;
use model::{ErrorCode, MonotonicTime, TopicPartition};
use runtime::{Io, Signal, TaskClass};

use crate::message::ShardReply;
use crate::reply::ReplyTo;
use crate::shard::Shard;
use crate::work_queue::WorkQueue;
use hosted::{Destination, Hosted};

/// The topic of committed offsets and group metadata.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// How long the end of a topic waits for the deletion of its offsets.
const DELETIONS_PATIENCE: Duration = Duration::from_secs(2);

/// How often it looks.
const DELETIONS_INTERVAL: Duration = Duration::from_millis(1);

/// Group work for one shard.
#[derive(Debug)]
pub enum GroupWork {
    /// For the coordinator of one partition of [`OFFSETS_TOPIC`].
    Coordinate(TopicPartition, GroupRequest),
    /// For all coordinators of the shard; the reply is [`GroupReply::List`].
    List(ListGroupsRequest),
}

/// The coordinators of one shard.
pub struct CoordinatorHost {
    hosted: RefCell<BTreeMap<TopicPartition, Rc<Hosted>>>,
    /// No coordinator has anything due before this. It may be too early, never too late.
    timeout_next: Cell<Option<MonotonicTime>>,
    /// Coordinators with records for the log, each once.
    appending: RefCell<VecDeque<Rc<Hosted>>>,
    append_wanted: Rc<Signal>,
    loading: Rc<WorkQueue<Rc<Hosted>>>,
    started: Cell<bool>,
}

impl Default for CoordinatorHost {
    fn default() -> CoordinatorHost {
        CoordinatorHost {
            hosted: RefCell::default(),
            timeout_next: Cell::new(None),
            appending: RefCell::default(),
            append_wanted: Signal::new(),
            loading: WorkQueue::new(),
            started: Cell::new(false),
        }
    }
}

impl CoordinatorHost {
    fn get(&self, id: TopicPartition) -> Option<Rc<Hosted>> {
        self.hosted.borrow().get(&id).cloned()
    }

    fn all(&self) -> Vec<Rc<Hosted>> {
        self.hosted.borrow().values().cloned().collect()
    }

    fn note_timeout(&self, timeout: Option<MonotonicTime>) {
        let earlier = match (self.timeout_next.get(), timeout) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        self.timeout_next.set(earlier);
    }

    fn want_append(&self, hosted: &Rc<Hosted>) {
        if !hosted.queued.replace(true) {
            self.appending.borrow_mut().push_back(hosted.clone());
            self.append_wanted.raise();
        }
    }
}

/// Puts the answers of several coordinators to one ListGroups together.
struct Listing {
    missing: usize,
    error: ErrorCode,
    groups: Vec<ListedGroup>,
    reply: ReplyTo,
}

impl<I: Io> Shard<I> {
    /// Takes group work. The reply may come much later: a rebalance waits for the members of the group.
    pub(crate) fn group(&self, work: GroupWork, reply: ReplyTo) {
        match work {
            GroupWork::Coordinate(id, request) => match self.coordinators.get(id) {
                Some(hosted) => {
                    hosted.handle(self.group_now(), request, Destination::Asker(reply));
                    self.settle(&hosted);
                }
                None => self.answer_group(reply, request.refuse(ErrorCode::NotCoordinator)),
            },
            GroupWork::List(request) => self.list_groups(&request, reply),
        }
    }

    /// Lets session, rebalance and retention timeouts happen. One comparison when nothing is due.
    pub(crate) fn group_timeouts(&self, now: MonotonicTime) {
        let host = &self.coordinators;
        if host.timeout_next.get().is_none_or(|due| due > now) {
            return;
        }
        host.timeout_next.set(None);
        for hosted in host.all() {
            if hosted.handle_timeout(self.group_now()) {
                self.settle(&hosted);
            } else {
                host.note_timeout(hosted.timeout());
            }
        }
    }

    /// A partition is led by this shard from now on. If it belongs to [`OFFSETS_TOPIC`], so are its groups.
    pub(crate) fn coordinator_partition_opened(
        self: &Rc<Self>,
        id: TopicPartition,
        topic_name: &str,
    ) {
        if topic_name != OFFSETS_TOPIC {
            return;
        }
        let Some(partition) = self.partition(id) else {
            return;
        };
        let host = &self.coordinators;
        if !host.started.replace(true) {
            self.io
                .spawn(TaskClass::Foreground, load::run(self.clone()));
            self.io
                .spawn(TaskClass::Foreground, append::run(self.clone()));
        }
        self.coordinator_partition_closed(id);
        let hosted = Hosted::new(id, settings(&self.options.config));
        host.hosted.borrow_mut().insert(id, hosted.clone());
        if partition.log.log_start_offset() == partition.log.log_end_offset() {
            self.finish_loading(&hosted);
        } else {
            host.loading.push(hosted);
        }
    }

    /// A partition is no longer led by this shard: everybody who waits for one of its groups is told so.
    pub(crate) fn coordinator_partition_closed(&self, id: TopicPartition) {
        let hosted = self.coordinators.hosted.borrow_mut().remove(&id);
        if let Some(hosted) = hosted {
            hosted.resign(self.group_now(), ErrorCode::NotCoordinator);
            self.settle(&hosted);
        }
    }

    /// Topics were deleted: every coordinator of the shard lets go of what was committed for them. One that is being
    /// loaded does it when it has been.
    pub(crate) fn coordinator_topics_deleted(&self, topics: &BTreeSet<Arc<str>>) {
        if topics.is_empty() {
            return;
        }
        for hosted in self.coordinators.all() {
            if hosted.is_loaded() {
                hosted.topics_deleted(self.group_now(), topics);
                self.settle(&hosted);
            }
        }
    }

    /// Whether deletions of offsets are on their way to the log.
    pub(crate) fn has_coordinator_deletions(&self) -> bool {
        let all = self.coordinators.all();
        all.iter().any(|hosted| hosted.has_deletions_in_flight())
    }

    /// Waits until deletions of offsets are durable or have failed. A topic made anew meanwhile would be given the old
    /// one's offsets by a crash. Not for ever: offsets are worth less than a controller that works.
    pub(crate) async fn coordinator_deletions(&self) {
        let deadline = self.io.now().plus(DELETIONS_PATIENCE);
        while self.has_coordinator_deletions() && self.io.now() < deadline {
            self.io.sleep(DELETIONS_INTERVAL).await;
        }
    }

    fn finish_loading(&self, hosted: &Rc<Hosted>) {
        hosted.finish_loading(self.group_now());
        // The broker may have stopped between the end of a topic and the deletion of its offsets. Offsets are committed
        // for topics that exist only; and the image is as new as any topic, while a broker is its own controller.
        let image = self.image.borrow();
        let mut gone = hosted.committed_topics();
        gone.retain(|topic| image.topic_by_name(topic).is_none());
        drop(image);
        if !gone.is_empty() {
            hosted.topics_deleted(self.group_now(), &gone);
        }
        self.settle(hosted);
    }

    /// Performs what a coordinator wants done. To be called after everything that it was told.
    fn settle(&self, hosted: &Rc<Hosted>) {
        for (destination, reply) in hosted.take_replies() {
            match destination {
                Destination::Asker(asker) => self.answer_group(asker, reply),
                Destination::Listing(listing) => self.listed(&listing, reply),
            }
        }
        if hosted.has_work_for_log() {
            self.coordinators.want_append(hosted);
        }
        self.coordinators.note_timeout(hosted.timeout());
    }

    fn list_groups(&self, request: &ListGroupsRequest, reply: ReplyTo) {
        let all = self.coordinators.all();
        if all.is_empty() {
            let nothing = GroupReply::List {
                error: ErrorCode::None,
                groups: Vec::new(),
            };
            return self.answer_group(reply, nothing);
        }
        let listing = Rc::new(RefCell::new(Some(Listing {
            missing: all.len(),
            error: ErrorCode::None,
            groups: Vec::new(),
            reply,
        })));
        for hosted in all {
            let request = GroupRequest::List(request.clone());
            let destination = Destination::Listing(listing.clone());
            hosted.handle(self.group_now(), request, destination);
            self.settle(&hosted);
        }
    }

    fn listed(&self, listing: &RefCell<Option<Listing>>, reply: GroupReply) {
        let GroupReply::List { error, groups } = reply else {
            unreachable!("a coordinator answers a list with a list");
        };
        let mut slot = listing.borrow_mut();
        let listed = slot.as_mut().expect("each coordinator answers once");
        listed.missing -= 1;
        listed.groups.extend(groups);
        if listed.error.is_none() {
            listed.error = error;
        }
        if listed.missing > 0 {
            return;
        }
        let listed = slot.take().expect("looked at");
        drop(slot);
        let groups = match listed.error {
            ErrorCode::None => listed.groups,
            _ => Vec::new(),
        };
        let reply = GroupReply::List {
            error: listed.error,
            groups,
        };
        self.answer_group(listed.reply, reply);
    }

    fn answer_group(&self, to: ReplyTo, reply: GroupReply) {
        self.peers.answer(to, ShardReply::Group(reply));
    }

    fn group_now(&self) -> Now {
        Now {
            monotonic: self.io.now(),
            wall: self.io.wall_clock(),
        }
    }
}

fn settings(config: &BrokerSettings) -> GroupSettings {
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    let millis = |number: i64| Duration::from_millis(u64::try_from(number).unwrap_or(0));
    let minutes = u64::try_from(config.offsets_retention_minutes).unwrap_or(0);
    GroupSettings {
        session_timeout_ms_min: config.group_min_session_timeout_ms,
        session_timeout_ms_max: config.group_max_session_timeout_ms,
        initial_rebalance_delay: millis(i64::from(config.group_initial_rebalance_delay_ms)),
        group_size_max: count(config.group_max_size),
        offset_metadata_max: count(config.offset_metadata_max_bytes),
        offsets_retention: Duration::from_secs(minutes.saturating_mul(60)),
        offsets_retention_check_interval: millis(config.offsets_retention_check_interval_ms),
    }
}

#[cfg(test)]
mod tests {
    use model::config::BrokerConfig;

    use super::*;

    #[test]
    fn settings_of_a_broker_that_was_told_nothing_are_those_of_kafka() {
        let config = BrokerConfig::defaults().unwrap();
        let group_size_max = i32::MAX as usize;
        let expected = GroupSettings {
            group_size_max,
            ..GroupSettings::default()
        };
        assert_eq!(settings(&config), expected);
    }

    #[test]
    fn the_earliest_timeout_is_kept() {
        let host = CoordinatorHost::default();
        let table = [
            (None, None),
            (Some(7), Some(7)),
            (Some(9), Some(7)),
            (None, Some(7)),
            (Some(3), Some(3)),
        ];
        for (noted, expected) in table {
            host.note_timeout(noted.map(MonotonicTime));
            assert_eq!(host.timeout_next.get(), expected.map(MonotonicTime));
        }
    }
}
