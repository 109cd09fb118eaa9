//! The records of the metadata log, as Kafka's `__cluster_metadata` stores them (KIP-631).
//!
//! Pure. This file owns the shapes; `record/codec.rs` owns the bytes. Field names are Kafka's.
//! Invariant: a record states a fact that was already decided. Applying it needs no further judgement.

mod codec;

use model::{
    BrokerEpoch, BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, ProducerId, TopicId,
};
use serde::{Deserialize, Serialize};

pub use codec::{RECORD_BYTES_MAX, RecordError};

/// A 128-bit identity that is not a topic's: a broker incarnation or a log directory.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// "Not known yet". As a directory: the broker has not said where the replica lives (KIP-858).
    pub const ZERO: Uuid = Uuid([0; 16]);
}

/// One fact about the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// Type 0: a broker registered, replacing any earlier registration of that id.
    RegisterBroker(RegisterBrokerRecord),
    /// Type 1: a broker's registration ended.
    UnregisterBroker(UnregisterBrokerRecord),
    /// Type 2: a topic exists. Its partitions follow.
    Topic(TopicRecord),
    /// Type 3: a partition exists, with its whole state.
    Partition(PartitionRecord),
    /// Type 4: a configuration value was set or removed.
    Config(ConfigRecord),
    /// Type 5: some fields of a partition changed.
    PartitionChange(PartitionChangeRecord),
    /// Type 7: a broker may not lead any more. Newer writers use `BrokerRegistrationChange`.
    FenceBroker(FenceBrokerRecord),
    /// Type 8: a broker may lead. Newer writers use `BrokerRegistrationChange`.
    UnfenceBroker(UnfenceBrokerRecord),
    /// Type 9: a topic, its partitions and its configuration are gone.
    RemoveTopic(RemoveTopicRecord),
    /// Type 12: the finalized level of a feature.
    FeatureLevel(FeatureLevelRecord),
    /// Type 15: all producer ids below `next_producer_id` have been given to brokers.
    ProducerIds(ProducerIdsRecord),
    /// Type 17: some properties of a registered broker changed.
    BrokerRegistrationChange(BrokerRegistrationChangeRecord),
    /// Type 20: nothing. Keeps the log moving.
    NoOp,
}

/// An address of a broker for one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerEndpoint {
    /// Listener name, such as `PLAINTEXT`.
    pub name: String,
    /// Advertised host.
    pub host: String,
    /// Advertised port.
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// A range of levels of one feature that a broker supports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerFeature {
    /// Feature name, such as `metadata.version`.
    pub name: String,
    /// Lowest supported level.
    pub min_supported_version: i16,
    /// Highest supported level.
    pub max_supported_version: i16,
}

/// Type 0, versions 0 to 4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegisterBrokerRecord {
    /// The broker.
    pub broker_id: BrokerId,
    /// Drawn anew by each process start.
    pub incarnation_id: Uuid,
    /// This registration.
    pub broker_epoch: BrokerEpoch,
    /// One per advertised listener.
    pub endpoints: Vec<BrokerEndpoint>,
    /// What the broker's program supports.
    pub features: Vec<BrokerFeature>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// A fenced broker holds replicas but may not lead nor be in an ISR.
    pub fenced: bool,
    /// On its way down: as fenced for new leaderships.
    pub in_controlled_shutdown: bool,
    /// Directories of the broker, by identity.
    pub log_dirs: Vec<Uuid>,
    /// Directories that take no new replicas (KIP-1066). `None` when the writer did not know of them.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
    /// How many shards the broker's process has, from 1: with it others know which one serves a partition. Not Kafka's;
    /// `None` in records of releases that ran alone.
    pub shard_count: Option<u16>,
}

/// Type 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnregisterBrokerRecord {
    /// The broker.
    pub broker_id: BrokerId,
    /// The registration that ends.
    pub broker_epoch: BrokerEpoch,
}

/// Type 2.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRecord {
    /// The name.
    pub name: String,
    /// The identity.
    pub topic_id: TopicId,
}

/// Whether a partition's leader may have lost records by an unclean election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LeaderRecoveryState {
    /// Normal.
    #[default]
    Recovered,
    /// The leader was elected uncleanly and has not confirmed yet.
    Recovering,
}

/// Type 3, versions 0 to 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecord {
    /// Index within the topic.
    pub partition_id: PartitionIndex,
    /// The topic.
    pub topic_id: TopicId,
    /// Ordered: the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// In-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Replicas that a reassignment will remove.
    pub removing_replicas: Vec<BrokerId>,
    /// Replicas that a reassignment adds.
    pub adding_replicas: Vec<BrokerId>,
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// See [`LeaderRecoveryState`].
    pub leader_recovery_state: LeaderRecoveryState,
    /// Generation of leadership.
    pub leader_epoch: LeaderEpoch,
    /// Version of this partition's metadata.
    pub partition_epoch: PartitionEpoch,
    /// One directory per replica, in the order of `replicas`; empty when not known (version 0).
    pub directories: Vec<Uuid>,
    /// Replicas outside the ISR that hold everything up to the high watermark (KIP-966).
    pub eligible_leader_replicas: Option<Vec<BrokerId>>,
    /// The last known eligible leader replicas (KIP-966).
    pub last_known_elr: Option<Vec<BrokerId>>,
}

/// What a [`PartitionChangeRecord`] says about the leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaderChange {
    /// Same leader, same leader epoch.
    #[default]
    Unchanged,
    /// No leader. Raises the leader epoch.
    NoLeader,
    /// This leader, possibly the same again. Raises the leader epoch.
    Leader(BrokerId),
}

/// Type 5, versions 0 to 2. `None` means unchanged. Every change raises the partition epoch by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionChangeRecord {
    /// Index within the topic.
    pub partition_id: PartitionIndex,
    /// The topic.
    pub topic_id: TopicId,
    /// New in-sync replicas.
    pub isr: Option<Vec<BrokerId>>,
    /// New leader.
    pub leader: LeaderChange,
    /// New replicas.
    pub replicas: Option<Vec<BrokerId>>,
    /// New list of replicas to remove.
    pub removing_replicas: Option<Vec<BrokerId>>,
    /// New list of replicas being added.
    pub adding_replicas: Option<Vec<BrokerId>>,
    /// New recovery state.
    pub leader_recovery_state: Option<LeaderRecoveryState>,
    /// New directories.
    pub directories: Option<Vec<Uuid>>,
    /// New eligible leader replicas.
    pub eligible_leader_replicas: Option<Vec<BrokerId>>,
    /// New last known eligible leader replicas.
    pub last_known_elr: Option<Vec<BrokerId>>,
}

/// A kind of thing that carries configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConfigResourceType {
    /// 2: a topic, by name.
    Topic,
    /// 4: a broker, by its number as text; the empty name is the default of all brokers.
    Broker,
    /// 8: a broker's loggers.
    BrokerLogger,
    /// 16: a client metrics subscription.
    ClientMetrics,
    /// 32: a consumer group.
    Group,
}

impl ConfigResourceType {
    /// Kafka's number.
    pub fn code(self) -> i8 {
        match self {
            ConfigResourceType::Topic => 2,
            ConfigResourceType::Broker => 4,
            ConfigResourceType::BrokerLogger => 8,
            ConfigResourceType::ClientMetrics => 16,
            ConfigResourceType::Group => 32,
        }
    }

    /// The kind of a number; `None` if Kafka 4.3.1 does not define it.
    pub fn from_code(code: i8) -> Option<ConfigResourceType> {
        match code {
            2 => Some(ConfigResourceType::Topic),
            4 => Some(ConfigResourceType::Broker),
            8 => Some(ConfigResourceType::BrokerLogger),
            16 => Some(ConfigResourceType::ClientMetrics),
            32 => Some(ConfigResourceType::Group),
            _ => None,
        }
    }
}

/// Type 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigRecord {
    /// What kind of thing.
    pub resource_type: ConfigResourceType,
    /// Which one.
    pub resource_name: String,
    /// Key.
    pub name: String,
    /// Value; `None` removes the key.
    pub value: Option<String>,
}

/// Type 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FenceBrokerRecord {
    /// The broker.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
}

/// Type 8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnfenceBrokerRecord {
    /// The broker.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
}

/// Type 9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveTopicRecord {
    /// The topic.
    pub topic_id: TopicId,
}

/// Type 12. Level 0 removes the feature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureLevelRecord {
    /// Feature name.
    pub name: String,
    /// Finalized level.
    pub feature_level: i16,
}

/// Type 15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerIdsRecord {
    /// Who got the block.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// First id that has not been given away.
    pub next_producer_id: ProducerId,
}

/// Type 17, versions 0 to 3. `None` means unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerRegistrationChangeRecord {
    /// The broker.
    pub broker_id: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// Fence or unfence.
    pub fenced: Option<bool>,
    /// Controlled shutdown begins (it can only end with a new registration).
    pub in_controlled_shutdown: bool,
    /// New directories.
    pub log_dirs: Option<Vec<Uuid>>,
    /// New cordoned directories.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}
