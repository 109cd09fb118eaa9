//! The partitions of this shard that this broker has replicas of. They come and go with the metadata log, and so do their
//! roles.
//!
//! Owned by the shard; whoever needs a partition asks here. What follows for others from a change is returned
//! ([`PartitionChange`]), not done: the shard tells them.
//! Invariants: every replica that the metadata gives this broker is open here; its role is the one that the metadata gives
//! it, or it waits for that: its log is being cut, or takes no mark yet.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use metadata::{ConfigResourceType, MetadataDelta, PartitionDelta, PartitionState, Topic, Uuid};
use model::config::TopicConfig;
use model::{
    BrokerEpoch, BrokerId, LeaderEpoch, MonotonicTime, PartitionIndex, ShardId, TopicId,
    TopicPartition,
};
use replica::{Assignment, LeaderSettings, PlantedFault};
use runtime::{Io, Snapshot};
use storage::{LogConfig, Storage};

use crate::metadata_cache::{MetadataCache, has_broker_configs};
use crate::metrics::TopicTable;
use crate::partition::{AcknowledgeTarget, Partition};
use crate::partition_rules::PartitionRules;
use crate::partition_table::{PartitionTable, owner};
use crate::refusal::{LeadRefusal, WaitFailure};
use crate::replica_events::ReplicaEvents;
use crate::role::Duty;

/// The partition that holds the metadata log.
pub(crate) const METADATA_PARTITION: TopicPartition = TopicPartition {
    topic: TopicId::METADATA,
    partition: PartitionIndex(0),
};

/// Whose partitions they are.
pub(crate) struct Place {
    pub(crate) broker: BrokerId,
    pub(crate) shard: ShardId,
    pub(crate) shard_count: u16,
    /// Of this process.
    pub(crate) incarnation: Uuid,
}

/// What others are to hear of.
#[must_use]
pub(crate) enum PartitionChange {
    /// This shard leads it from now on.
    Opened(TopicPartition, Arc<str>),
    /// It no longer does: these will never be acknowledged.
    Closed {
        id: TopicPartition,
        waiting: Vec<AcknowledgeTarget>,
        why: WaitFailure,
    },
    /// These need not wait any more.
    Settled(Vec<AcknowledgeTarget>),
}

/// The partitions of one shard.
pub(crate) struct Partitions<I: Io> {
    io: I,
    storage: Storage<I>,
    cache: Rc<MetadataCache>,
    place: Place,
    table: RefCell<PartitionTable>,
    topics: TopicTable,
    events: Rc<ReplicaEvents>,
    /// As which this process is registered.
    registration: Cell<Option<BrokerEpoch>>,
    /// Partitions that could not take the role yet which the metadata gives them.
    postponed: RefCell<BTreeSet<TopicPartition>>,
    /// What is wrong on purpose with the roles.
    planted: Cell<Option<PlantedFault>>,
}

impl<I: Io> Partitions<I> {
    /// Without any partition yet.
    pub(crate) fn new(
        io: I,
        storage: Storage<I>,
        cache: Rc<MetadataCache>,
        place: Place,
        events: Rc<ReplicaEvents>,
    ) -> Partitions<I> {
        Partitions {
            io,
            storage,
            cache,
            place,
            table: RefCell::default(),
            topics: TopicTable::default(),
            events,
            registration: Cell::new(None),
            postponed: RefCell::default(),
            planted: Cell::new(None),
        }
    }

    /// Leaves out a condition, in roles from now on. For tests.
    pub(crate) fn plant(&self, fault: PlantedFault) {
        self.planted.set(Some(fault));
    }

    pub(crate) fn get(&self, id: TopicPartition) -> Option<Rc<Partition>> {
        self.table.borrow().get(id)
    }

    /// The partition, if this shard leads it and the client's idea of the epoch is right.
    pub(crate) fn lead(
        &self,
        id: TopicPartition,
        believed: LeaderEpoch,
    ) -> Result<Rc<Partition>, LeadRefusal> {
        let hint = || self.cache.leader_hint(id);
        let partition = self.get(id);
        let led = partition.and_then(|partition| Some((partition.led_epoch()?, partition)));
        let Some((epoch, partition)) = led else {
            return Err(hint().map_or(LeadRefusal::Unknown, LeadRefusal::NotLeader));
        };
        if believed < LeaderEpoch(0) || believed == epoch {
            return Ok(partition);
        }
        Err(match hint() {
            None => LeadRefusal::Unknown,
            Some(hint) if believed < epoch => LeadRefusal::EpochOver(hint),
            Some(hint) => LeadRefusal::EpochAhead(hint),
        })
    }

    /// A partition that this broker follows, under the leader epoch that the client believes in, if it has one.
    pub(crate) fn followed(
        &self,
        id: TopicPartition,
        believed: LeaderEpoch,
    ) -> Option<Rc<Partition>> {
        let partition = self.get(id)?;
        let epoch = partition.followed_epoch()?;
        (believed < LeaderEpoch(0) || believed == epoch).then_some(partition)
    }

    pub(crate) fn table(&self) -> Ref<'_, PartitionTable> {
        self.table.borrow()
    }

    pub(crate) fn snapshot_topics(&self, into: &mut Snapshot) {
        self.topics.snapshot_into(into);
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Nothing more will be acknowledged on this shard: returns everybody who waits.
    pub(crate) fn fail_all(&self) -> Vec<AcknowledgeTarget> {
        let table = self.table.borrow();
        table
            .iter()
            .flat_map(|partition| partition.fail_waiters())
            .collect()
    }

    /// Opens every replica of the image that belongs to this shard; at start.
    pub(crate) fn open_all(&self) -> Vec<PartitionChange> {
        self.registration.set(self.registered());
        let mine: Vec<TopicPartition> = {
            let image = self.cache.image();
            let all = image.partitions().map(|(id, _)| id);
            all.filter(|id| self.is_mine(*id)).collect()
        };
        mine.into_iter().flat_map(|id| self.assume(id)).collect()
    }

    /// Deletes this shard's logs among `deleted`: their topics were deleted, durably, before the broker stopped. Every
    /// other log has a topic: shard 0 has set aside those that have none, or did not start.
    pub(crate) fn delete_logs(&self, deleted: &BTreeSet<TopicPartition>) {
        let image = self.cache.image();
        for id in self.storage.logs() {
            if deleted.contains(&id) {
                tracing::info!(partition = %id, "deleting the log of a deleted topic");
                self.storage.delete_log(id);
            } else {
                let is_known = id == METADATA_PARTITION || image.partition(id).is_some();
                assert!(is_known, "the log {id} was neither set aside nor deleted");
            }
        }
    }

    /// Follows a change of the metadata, which the cache holds already.
    pub(crate) fn follow(&self, delta: &MetadataDelta) -> Vec<PartitionChange> {
        let mut changes = Vec::new();
        for (id, change) in &delta.partitions {
            if self.is_mine(*id) {
                changes.extend(match change {
                    PartitionDelta::Deleted => self.close(*id, WaitFailure::Deleted),
                    PartitionDelta::Created | PartitionDelta::Changed { .. } => self.assume(*id),
                });
            }
        }
        changes.extend(self.brokers_changed(&delta.brokers));
        if has_broker_configs(delta) {
            changes.push(PartitionChange::Settled(self.broker_configured()));
        }
        for (kind, name) in &delta.configs {
            if *kind == ConfigResourceType::Topic {
                let settled = self.topic_configured(name);
                changes.push(PartitionChange::Settled(settled));
            }
        }
        changes
    }

    /// What of a topic's configuration matters per request.
    pub(crate) fn topic_rules(&self, topic: &Arc<Topic>) -> PartitionRules {
        let config = self.cache.topic_config(topic);
        PartitionRules::of_topic(&config, crate::is_internal(topic.name()))
    }

    fn is_mine(&self, id: TopicPartition) -> bool {
        owner(id, self.place.shard_count) == self.place.shard
    }

    /// As which this process is registered.
    pub(crate) fn registration(&self) -> Option<BrokerEpoch> {
        self.registration.get()
    }

    /// As which this process is registered, as far as the metadata says.
    fn registered(&self) -> Option<BrokerEpoch> {
        let image = self.cache.image();
        let broker = image.broker(self.place.broker)?;
        (broker.incarnation == self.place.incarnation).then_some(broker.epoch)
    }

    /// Brokers registered, unregistered, were fenced or unfenced: this one's replicas may have another duty, and those of
    /// others may be in an ISR or not.
    fn brokers_changed(&self, brokers: &BTreeSet<BrokerId>) -> Vec<PartitionChange> {
        let mut changes = Vec::new();
        if brokers.is_empty() {
            return changes;
        }
        let registration = self.registered();
        if self.registration.replace(registration) != registration {
            // Who is the only replica leads without it.
            let image = self.cache.image();
            let has_others = |id: &TopicPartition| {
                let state = image.partition(*id);
                state.is_some_and(|state| state.replicas[..] != [self.place.broker])
            };
            let table = self.table.borrow();
            let ids = table.iter().map(|partition| partition.id);
            let all: Vec<TopicPartition> = ids.filter(has_others).collect();
            drop((table, image));
            changes.extend(all.into_iter().flat_map(|id| self.assume(id)));
        }
        let now = self.io.now();
        let image = self.cache.image();
        let table = self.table.borrow();
        for partition in table.iter().filter(|p| p.is_replicated() && p.leads()) {
            for broker in brokers {
                let eligible = image.is_active(*broker);
                let settled = partition.eligibility(now, *broker, eligible);
                changes.push(PartitionChange::Settled(settled));
            }
        }
        changes
    }

    /// Gives a partition the role that the metadata gives it, and opens it first if need be.
    fn assume(&self, id: TopicPartition) -> Vec<PartitionChange> {
        self.postponed.borrow_mut().remove(&id);
        let (topic, state) = {
            let image = self.cache.image();
            let topic = image.topic_by_id(id.topic).cloned();
            let state = topic
                .as_ref()
                .and_then(|t| t.partition(id.partition).cloned());
            match (topic, state) {
                (Some(topic), Some(state)) => (topic, state),
                // Deleted by the same records that created it.
                _ => return Vec::new(),
            }
        };
        let duty = Duty::of(&state, self.place.broker, self.registration.get());
        if duty == Duty::Leave {
            return self.close(id, WaitFailure::NotLeader);
        }
        let partition = self.open(id, &topic);
        // It was closed in the middle of a cut, and is back before its end.
        if self.events.is_cutting(id) && !partition.is_cutting() {
            self.postponed.borrow_mut().insert(id);
            return Vec::new();
        }
        let led = partition.leads();
        match duty {
            Duty::Lead if !self.begins_epoch(&partition, &state) => {
                // Nobody is followed in an epoch that is this broker's own.
                let process = self.registration.get().unwrap_or(BrokerEpoch(-1));
                self.postponed.borrow_mut().insert(id);
                self.set_following(&partition, led, None, process, state.leader_epoch)
            }
            Duty::Lead => {
                let config = self.cache.topic_config(&topic);
                let settings = self.leader_settings(&config);
                let assigned = assignment(&state);
                let settled = partition.lead(self.io.now(), self.place.broker, settings, assigned);
                let mut changes = vec![PartitionChange::Settled(settled)];
                if !led {
                    changes.push(PartitionChange::Opened(id, topic.name().clone()));
                }
                changes
            }
            Duty::Follow(leader, process) => {
                self.set_following(&partition, led, leader, process, state.leader_epoch)
            }
            Duty::Wait if partition.is_cutting() => {
                self.postponed.borrow_mut().insert(id);
                Vec::new()
            }
            Duty::Wait => stopped(id, led, partition.stop(), WaitFailure::NotLeader),
            Duty::Leave => unreachable!("it was closed"),
        }
    }

    /// The partition, opened if it was not.
    fn open(&self, id: TopicPartition, topic: &Arc<Topic>) -> Rc<Partition> {
        if let Some(partition) = self.get(id) {
            return partition;
        }
        let config = self.cache.topic_config(topic);
        let log = self.storage.create_log(id, self.log_config(&config));
        let rules = PartitionRules::of_topic(&config, crate::is_internal(topic.name()));
        let counters = self.topics.of(topic.name());
        let partition = Partition::new(id, log, rules, counters, self.events.clone());
        partition.plant(self.planted.get());
        self.table.borrow_mut().insert(partition.clone());
        partition
    }

    /// Whether a partition may be led in the epoch that the metadata says: it is led in it already, or its log has begun it.
    /// Nobody asks the log of the only replica where epochs begin.
    fn begins_epoch(&self, partition: &Partition, state: &PartitionState) -> bool {
        let epoch = state.leader_epoch;
        if partition.led_epoch() == Some(epoch) {
            return true;
        }
        if partition.is_cutting() {
            return false;
        }
        if state.replicas.len() == 1 {
            return true;
        }
        let begun = self.storage.start_epoch(&partition.log, epoch);
        if let Err(error) = &begun {
            tracing::debug!(partition = %partition.id, %epoch, %error, "not led yet");
        }
        begun.is_ok()
    }

    fn set_following(
        &self,
        partition: &Partition,
        led: bool,
        leader: Option<BrokerId>,
        process: BrokerEpoch,
        leader_epoch: LeaderEpoch,
    ) -> Vec<PartitionChange> {
        if partition.is_cutting() && !partition.follows_as(process) {
            self.postponed.borrow_mut().insert(partition.id);
            return Vec::new();
        }
        let me = (self.place.broker, process);
        let waiting = partition.follow(me, leader, leader_epoch);
        stopped(partition.id, led, waiting, WaitFailure::NotLeader)
    }

    /// Tries again what could not be done: a log was cut, or time has passed.
    pub(crate) fn retry(&self) -> Vec<PartitionChange> {
        if self.postponed.borrow().is_empty() {
            return Vec::new();
        }
        let postponed = self.postponed.take();
        postponed
            .into_iter()
            .flat_map(|id| self.assume(id))
            .collect()
    }

    /// Leaders whose followers lag, or whose proposals were not answered. Returns who need not wait any more.
    pub(crate) fn timeouts(&self, now: MonotonicTime) -> Vec<AcknowledgeTarget> {
        let due = self.events.take_due(now);
        let partitions = due.into_iter().filter_map(|id| self.get(id));
        partitions
            .flat_map(|partition| partition.timeout(now))
            .collect()
    }

    /// Has a partition no longer, because its topic is gone or because its replicas are elsewhere. Its log goes, too: the
    /// controller takes a replica away only when every other one is in sync, or when this one was never counted on, and the
    /// image is of what is committed. A replica that comes back begins anew; if the process ends before the deletion is
    /// durable, the next start finds the log and comes by here again, or follows with it like one that was away.
    fn close(&self, id: TopicPartition, why: WaitFailure) -> Vec<PartitionChange> {
        self.postponed.borrow_mut().remove(&id);
        let partition = self.table.borrow_mut().remove(id);
        if why != WaitFailure::Deleted && self.storage.log(id).is_some() {
            tracing::info!(partition = %id, "deleting the log of a replica that is not on this broker any more");
        }
        self.events.log_gone(id);
        self.storage.delete_log(id);
        partition.map_or_else(Vec::new, |partition| {
            let led = partition.leads();
            stopped(id, led, partition.stop(), why)
        })
    }

    /// Returns who need not wait any more.
    fn topic_configured(&self, name: &str) -> Vec<AcknowledgeTarget> {
        let Some(topic) = self.cache.image().topic_by_name(name).cloned() else {
            return Vec::new();
        };
        let id = |partition| TopicPartition {
            topic: topic.id(),
            partition,
        };
        let ids = topic.partitions().map(|(partition, _)| id(partition));
        let mine = ids.filter_map(|id| self.get(id)).collect();
        self.configure(&topic, mine)
    }

    /// The defaults of all topics may have changed. Work in proportion to the partitions of this shard. Returns who need not
    /// wait any more.
    fn broker_configured(&self) -> Vec<AcknowledgeTarget> {
        let mut settled = Vec::new();
        let mut by_topic: BTreeMap<TopicId, Vec<Rc<Partition>>> = BTreeMap::new();
        for partition in self.table.borrow().iter() {
            let of_topic = by_topic.entry(partition.id.topic).or_default();
            of_topic.push(partition.clone());
        }
        for (id, partitions) in by_topic {
            let topic = self.cache.image().topic_by_id(id).cloned();
            if let Some(topic) = topic {
                settled.extend(self.configure(&topic, partitions));
            }
        }
        settled
    }

    /// Tells partitions of a topic what is configured now. Returns who need not wait any more.
    fn configure(
        &self,
        topic: &Arc<Topic>,
        partitions: Vec<Rc<Partition>>,
    ) -> Vec<AcknowledgeTarget> {
        let mut settled = Vec::new();
        if partitions.is_empty() {
            return settled;
        }
        let config = self.cache.topic_config(topic);
        let rules = PartitionRules::of_topic(&config, crate::is_internal(topic.name()));
        for partition in partitions {
            let settings = self.leader_settings(&config);
            settled.extend(partition.configure(self.io.now(), rules.clone(), settings));
            self.storage
                .set_config(&partition.log, self.log_config(&config));
        }
        settled
    }

    /// `replica.lag.time.max.ms`.
    fn replica_lag_max(&self) -> Duration {
        let ms = self.cache.config().replica_lag_time_max_ms;
        // A negative one is as good as none: whoever lags is out.
        Duration::from_millis(ms.max(0).unsigned_abs())
    }

    fn leader_settings(&self, config: &TopicConfig) -> LeaderSettings {
        LeaderSettings {
            // The registry's range begins at 1.
            min_insync_replicas: config.min_insync_replicas.unsigned_abs(),
            replica_lag_max: self.replica_lag_max(),
        }
    }

    fn log_config(&self, config: &TopicConfig) -> LogConfig {
        LogConfig {
            // The registry's range begins at 1 MiB.
            segment_bytes: config.segment_bytes.unsigned_abs().into(),
            segment_ms: config.segment_ms,
            retention_bytes: config.retention_bytes,
            retention_ms: config.retention_ms,
            delete_enabled: config.cleanup_policy.delete,
            producer_id_expiration_ms: i64::from(self.cache.config().producer_id_expiration_ms),
        }
    }
}

/// What others are to hear when a partition is not led any more, if it was.
fn stopped(
    id: TopicPartition,
    led: bool,
    waiting: Vec<AcknowledgeTarget>,
    why: WaitFailure,
) -> Vec<PartitionChange> {
    match led {
        true => vec![PartitionChange::Closed { id, waiting, why }],
        false => {
            assert!(waiting.is_empty(), "only a leader has waiters");
            Vec::new()
        }
    }
}

fn assignment(state: &PartitionState) -> Assignment<'_> {
    Assignment {
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        replicas: &state.replicas,
        isr: &state.isr,
    }
}
