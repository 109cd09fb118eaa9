//! The state of the cluster after a prefix of the metadata log.
//!
//! Pure. Every shard owns one; shard 0 hands the same records to all of them. It is cheap to hold and to clone:
//! topics and configurations are shared by reference count and copied only when a record changes them.
//! Invariants: a topic's partitions are numbered 0..n without holes; a name and an id lead to the same topic;
//! `end_offset` never decreases; epochs of a partition never decrease.

mod apply;
mod difference;
mod snapshot;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::config::DRAIN_KEY;
use model::{BrokerId, Offset, PartitionIndex, ProducerId, TopicId, TopicPartition};

use crate::planted::PlantedFault;
use crate::record::ConfigResourceType;
use crate::topic_name;

pub use apply::ApplyError;
pub(crate) use apply::merge;
pub use snapshot::removal_records;
pub use state::{BrokerRegistration, PartitionState, Reassignment, Replicas, Topic};

/// The configuration values that were set on one resource, by key. Defaults are not in it.
pub type ConfigMap = BTreeMap<String, String>;

/// The cluster as the first `end_offset` records of the metadata log describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataImage {
    cluster_id: Arc<str>,
    topics: BTreeMap<TopicId, Arc<Topic>>,
    topic_ids: BTreeMap<Arc<str>, TopicId>,
    /// (collision key, name) of every name that has one.
    collision_keys: BTreeSet<(Arc<str>, Arc<str>)>,
    configs: BTreeMap<ConfigResourceType, BTreeMap<Arc<str>, Arc<ConfigMap>>>,
    brokers: BTreeMap<BrokerId, Arc<BrokerRegistration>>,
    features: BTreeMap<String, i16>,
    next_producer_id: ProducerId,
    controller_id: Option<BrokerId>,
    partition_count: usize,
    end_offset: Offset,
    planted: Option<PlantedFault>,
}

impl MetadataImage {
    /// The empty cluster of that identity (22 characters of base64, as in `meta.properties`).
    pub fn new(cluster_id: &str) -> MetadataImage {
        MetadataImage {
            cluster_id: Arc::from(cluster_id),
            topics: BTreeMap::new(),
            topic_ids: BTreeMap::new(),
            collision_keys: BTreeSet::new(),
            configs: BTreeMap::new(),
            brokers: BTreeMap::new(),
            features: BTreeMap::new(),
            next_producer_id: ProducerId(0),
            controller_id: None,
            partition_count: 0,
            end_offset: Offset::ZERO,
            planted: None,
        }
    }

    /// Identity of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The topic of that name.
    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    /// The topic of that identity.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The identity of the topic of that name.
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.topic_ids.get(name).copied()
    }

    /// The state of one partition.
    pub fn partition(&self, partition: TopicPartition) -> Option<&PartitionState> {
        self.topics
            .get(&partition.topic)?
            .partition(partition.partition)
    }

    /// All topics, ordered by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topic_ids.values().filter_map(|id| self.topics.get(id))
    }

    /// All partitions, ordered by topic id and index.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicPartition, &PartitionState)> {
        self.topics.values().flat_map(|topic| {
            topic.partitions().map(|(partition, state)| {
                let id = TopicPartition {
                    topic: topic.id(),
                    partition,
                };
                (id, state)
            })
        })
    }

    /// Number of topics.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Number of partitions of all topics.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// A topic with another name that this name collides with (`.` and `_` count as the same).
    pub fn colliding_topic(&self, name: &str) -> Option<&str> {
        let key: Arc<str> = Arc::from(topic_name::collision_key(name)?);
        self.collision_keys
            .range((key.clone(), Arc::from(""))..)
            .take_while(|(other, _)| *other == key)
            .map(|(_, other)| other.as_ref())
            .find(|other| *other != name)
    }

    /// What was set on a resource; `None` when nothing was.
    pub fn configs(&self, kind: ConfigResourceType, name: &str) -> Option<&Arc<ConfigMap>> {
        self.configs.get(&kind)?.get(name)
    }

    /// What was set on a topic; `None` when nothing was.
    pub fn topic_configs(&self, name: &str) -> Option<&Arc<ConfigMap>> {
        self.configs(ConfigResourceType::Topic, name)
    }

    /// All resources of a kind on which something was set, ordered by name.
    pub fn configs_of_kind(
        &self,
        kind: ConfigResourceType,
    ) -> impl Iterator<Item = (&str, &Arc<ConfigMap>)> {
        self.configs
            .get(&kind)
            .into_iter()
            .flatten()
            .map(|(name, map)| (name.as_ref(), map))
    }

    /// A registered broker.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<BrokerRegistration>> {
        self.brokers.get(&id)
    }

    /// All registered brokers, ordered by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerRegistration>> {
        self.brokers.values()
    }

    /// Whether the broker may lead partitions and be in ISRs.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|broker| broker.is_active())
    }

    /// Whether the broker gives its replicas away and gets none: [`DRAIN_KEY`] says so.
    pub fn is_drained(&self, id: BrokerId) -> bool {
        self.broker_value(id, DRAIN_KEY)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// What was set for one broker alone.
    pub fn broker_value(&self, id: BrokerId, key: &str) -> Option<&str> {
        let set = self.configs(ConfigResourceType::Broker, &id.to_string())?;
        set.get(key).map(String::as_str)
    }

    /// Finalized feature levels, by name.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The first producer id that no broker has been given.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// The broker that drives the metadata log, if it is known.
    pub fn controller_id(&self) -> Option<BrokerId> {
        self.controller_id
    }

    /// States who drives the metadata log. Not part of the log: the quorum knows it.
    pub fn set_controller_id(&mut self, controller: Option<BrokerId>) {
        self.controller_id = controller;
    }

    /// Leaves out a condition of the decisions that read this image. For tests.
    #[doc(hidden)]
    pub fn plant(&mut self, fault: PlantedFault) {
        self.planted = Some(fault);
    }

    pub(crate) fn is_planted(&self, fault: PlantedFault) -> bool {
        self.planted == Some(fault)
    }

    /// Offset of the first record that is not part of this image.
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// The partition counts and indexes of a topic, or `None` if there is no such topic.
    pub fn partition_count_of(&self, name: &str) -> Option<PartitionIndex> {
        Some(self.topic_by_name(name)?.next_partition())
    }
}
