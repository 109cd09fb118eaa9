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

use coordinator::{
    GroupAsk, GroupReply, GroupRequest, GroupSettings, ListGroupsReply, ListGroupsRequest, Now,
};
use model::config::BrokerSettings;
use model::{MonotonicTime, TopicPartition};
use runtime::{Io, Signal, TaskClass};
use storage::Storage;

use crate::append::Appender;
use crate::message::{GroupQuestion, ReplyTo};
use crate::metadata_cache::MetadataCache;
use crate::partitions::Partitions;
use crate::peer::Peers;
use crate::refusal::WaitFailure;
use crate::work_queue::WorkQueue;
use hosted::{Destination, Hosted};

/// The topic of committed offsets and group metadata.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// How long the end of a topic waits for the deletion of its offsets.
const DELETIONS_PATIENCE: Duration = Duration::from_secs(2);

/// How often it looks.
const DELETIONS_INTERVAL: Duration = Duration::from_millis(1);

/// What the coordinators work with.
pub(crate) struct Tools<I: Io> {
    pub(crate) io: I,
    pub(crate) storage: Storage<I>,
    pub(crate) cache: Rc<MetadataCache>,
    pub(crate) partitions: Rc<Partitions<I>>,
    pub(crate) appender: Rc<Appender<I>>,
    pub(crate) peers: Rc<Peers>,
}

/// The coordinators of one shard.
pub(crate) struct CoordinatorHost<I: Io> {
    tools: Tools<I>,
    settings: GroupSettings,
    hosted: RefCell<BTreeMap<TopicPartition, Rc<Hosted>>>,
    due: Due,
    /// Coordinators with records for the log, each once.
    appending: RefCell<VecDeque<Rc<Hosted>>>,
    append_wanted: Rc<Signal>,
    loading: Rc<WorkQueue<Rc<Hosted>>>,
    started: Cell<bool>,
}

/// When the next timeout of any coordinator is due: it may be too early, never too late.
#[derive(Default)]
struct Due(Cell<Option<MonotonicTime>>);

impl Due {
    fn note(&self, timeout: Option<MonotonicTime>) {
        let earlier = match (self.0.get(), timeout) {
            (Some(known), Some(new)) => Some(known.min(new)),
            (known, new) => known.or(new),
        };
        self.0.set(earlier);
    }

    /// Whether something is due. If so, everybody is to note their timeouts anew.
    fn take(&self, now: MonotonicTime) -> bool {
        let due = self.0.get().is_some_and(|due| due <= now);
        if due {
            self.0.set(None);
        }
        due
    }
}

/// Puts the answers of several coordinators to one ListGroups together.
struct Listing {
    missing: usize,
    answer: ListGroupsReply,
    reply: ReplyTo<ListGroupsRequest>,
}

impl<I: Io> CoordinatorHost<I> {
    pub(crate) fn new(tools: Tools<I>, config: &BrokerSettings) -> Rc<CoordinatorHost<I>> {
        Rc::new(CoordinatorHost {
            tools,
            settings: settings(config),
            hosted: RefCell::default(),
            due: Due::default(),
            appending: RefCell::default(),
            append_wanted: Signal::new(),
            loading: WorkQueue::new(),
            started: Cell::new(false),
        })
    }

    /// Takes group work. The reply may come much later: a rebalance waits for the members of the group.
    pub(crate) fn handle(&self, question: GroupQuestion, reply: ReplyTo<GroupQuestion>) {
        let GroupQuestion { partition, request } = question;
        match self.get(partition) {
            Some(hosted) => {
                hosted.handle(self.now(), request, Destination::Asker(reply));
                self.settle(&hosted);
            }
            None => self
                .tools
                .peers
                .answer(reply, request.refuse_not_coordinator()),
        }
    }

    /// Lists the groups of all coordinators of the shard.
    pub(crate) fn list(&self, request: &ListGroupsRequest, reply: ReplyTo<ListGroupsRequest>) {
        let all = self.all();
        if all.is_empty() {
            return self.tools.peers.answer(reply, ListGroupsReply::empty());
        }
        let listing = Rc::new(RefCell::new(Some(Listing {
            missing: all.len(),
            answer: ListGroupsReply::empty(),
            reply,
        })));
        for hosted in all {
            let request = GroupRequest::List(request.clone());
            let destination = Destination::Listing(listing.clone());
            hosted.handle(self.now(), request, destination);
            self.settle(&hosted);
        }
    }

    /// Lets session, rebalance and retention timeouts happen. One comparison when nothing is due.
    pub(crate) fn timeouts(&self, now: MonotonicTime) {
        if !self.due.take(now) {
            return;
        }
        for hosted in self.all() {
            if hosted.handle_timeout(self.now()) {
                self.settle(&hosted);
            } else {
                self.due.note(hosted.timeout());
            }
        }
    }

    /// A partition is led by this shard from now on. If it belongs to [`OFFSETS_TOPIC`], so are its groups.
    pub(crate) fn opened(self: &Rc<Self>, id: TopicPartition, topic_name: &str) {
        if topic_name != OFFSETS_TOPIC {
            return;
        }
        let Some(partition) = self.tools.partitions.get(id) else {
            return;
        };
        if !self.started.replace(true) {
            let io = &self.tools.io;
            io.spawn(TaskClass::Foreground, load::run(self.clone()));
            io.spawn(TaskClass::Foreground, append::run(self.clone()));
        }
        self.closed(id);
        let hosted = Hosted::new(id, self.settings.clone());
        self.hosted.borrow_mut().insert(id, hosted.clone());
        if partition.log.log_start_offset() == partition.log.log_end_offset() {
            self.finish_loading(&hosted);
        } else {
            self.loading.push(hosted);
        }
    }

    /// A partition is no longer led by this shard: everybody who waits for one of its groups is told so.
    pub(crate) fn closed(&self, id: TopicPartition) {
        let hosted = self.hosted.borrow_mut().remove(&id);
        if let Some(hosted) = hosted {
            hosted.resign(self.now());
            self.settle(&hosted);
        }
    }

    /// Topics were deleted: every coordinator of the shard lets go of what was committed for them. One that is being
    /// loaded does it when it has been.
    pub(crate) fn topics_deleted(&self, topics: &BTreeSet<Arc<str>>) {
        if topics.is_empty() {
            return;
        }
        for hosted in self.all() {
            if hosted.is_loaded() {
                hosted.topics_deleted(self.now(), topics);
                self.settle(&hosted);
            }
        }
    }

    /// A batch of a coordinator is acknowledged, or will never be.
    pub(crate) fn appended(
        &self,
        id: TopicPartition,
        number: u64,
        outcome: Result<(), WaitFailure>,
    ) {
        if let Some(hosted) = self.get(id) {
            let outcome = outcome.map_err(append::not_acknowledged);
            append::finished(self, &hosted, number, outcome);
        }
    }

    /// Whether deletions of offsets are on their way to the log.
    pub(crate) fn has_deletions(&self) -> bool {
        let all = self.all();
        all.iter().any(|hosted| hosted.has_deletions_in_flight())
    }

    /// Waits until deletions of offsets are durable or have failed. A topic made anew meanwhile would be given the old
    /// one's offsets by a crash. Not for ever: offsets are worth less than a controller that works.
    pub(crate) async fn deletions_done(&self) {
        let deadline = self.tools.io.now().plus(DELETIONS_PATIENCE);
        while self.has_deletions() && self.tools.io.now() < deadline {
            self.tools.io.sleep(DELETIONS_INTERVAL).await;
        }
    }

    fn finish_loading(&self, hosted: &Rc<Hosted>) {
        hosted.finish_loading(self.now());
        // The broker may have stopped between the end of a topic and the deletion of its offsets. Offsets are committed
        // for topics that exist only; and the image is as new as any topic, while a broker is its own controller.
        let image = self.tools.cache.image();
        let mut gone = hosted.committed_topics();
        gone.retain(|topic| image.topic_by_name(topic).is_none());
        drop(image);
        if !gone.is_empty() {
            hosted.topics_deleted(self.now(), &gone);
        }
        self.settle(hosted);
    }

    /// Performs what a coordinator wants done. To be called after everything that it was told.
    fn settle(&self, hosted: &Rc<Hosted>) {
        for (destination, reply) in hosted.take_replies() {
            match destination {
                Destination::Asker(asker) => self.tools.peers.answer(asker, reply),
                Destination::Listing(listing) => self.listed(&listing, reply),
            }
        }
        if hosted.has_work_for_log() {
            self.want_append(hosted);
        }
        self.due.note(hosted.timeout());
    }

    fn listed(&self, listing: &RefCell<Option<Listing>>, reply: GroupReply) {
        let mut slot = listing.borrow_mut();
        let listed = slot.as_mut().expect("each coordinator answers once");
        listed.answer.absorb(ListGroupsRequest::reply(reply));
        listed.missing -= 1;
        if listed.missing > 0 {
            return;
        }
        let listed = slot.take().expect("looked at");
        drop(slot);
        self.tools.peers.answer(listed.reply, listed.answer);
    }

    fn get(&self, id: TopicPartition) -> Option<Rc<Hosted>> {
        self.hosted.borrow().get(&id).cloned()
    }

    fn all(&self) -> Vec<Rc<Hosted>> {
        self.hosted.borrow().values().cloned().collect()
    }

    fn want_append(&self, hosted: &Rc<Hosted>) {
        if !hosted.queued.replace(true) {
            self.appending.borrow_mut().push_back(hosted.clone());
            self.append_wanted.raise();
        }
    }

    fn now(&self) -> Now {
        let io = &self.tools.io;
        Now {
            monotonic: io.now(),
            wall: io.wall_clock(),
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
        let due = Due::default();
        let table = [
            (None, None),
            (Some(7), Some(7)),
            (Some(9), Some(7)),
            (None, Some(7)),
            (Some(3), Some(3)),
        ];
        for (noted, expected) in table {
            due.note(noted.map(MonotonicTime));
            assert_eq!(due.0.get(), expected.map(MonotonicTime));
        }
    }
}
