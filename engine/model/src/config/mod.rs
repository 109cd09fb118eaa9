//! The configuration registry: every key with its type, default, range, access and documentation.
//!
//! One table drives parsing, validation, DescribeConfigs and the reference page. The keys of Apache Kafka 4.3.1 keep their
//! names and meanings; those that do nothing here are accepted, reported and say why ([`Effect::Ignored`]). Ringlog's own
//! keys begin with `ringlog.`.
//!
//! Adding a key is one line in a `*_keys.rs` table, and a field in [`BrokerConfig`] or [`TopicConfig`] for who uses it.

pub mod broker;
mod broker_keys;
mod cluster_keys;
mod coordinator_keys;
pub mod describe;
pub mod dynamic;
pub mod environment;
pub mod error;
mod group_keys;
pub mod key;
pub mod listener;
mod log_keys;
pub mod nearest;
mod own_keys;
pub mod properties;
mod reason;
pub mod reference;
mod security_keys;
pub mod topic;
mod topic_keys;
mod typed;
mod units;

pub use broker::{BrokerConfig, BrokerSettings};
pub use cluster_keys::RACK_AWARE_SELECTOR;
pub use describe::{
    Described, Source, Synonym, describe_broker, describe_client_metrics, describe_group,
    describe_topic,
};
pub use environment::{Environment, UnknownVariable, parse_environment, variable_of};
pub use error::ConfigError;
pub use key::{Access, Effect, Key, Kind, Valid, Value, split_list};
pub use listener::{Listener, Voter};
pub use own_keys::{DRAIN_KEY, VOTE_ALWAYS, VOTE_KEY, VOTE_NEVER};
pub use properties::{Properties, parse_properties};
pub use reference::config_reference;
pub use topic::{CleanupPolicy, CompressionType, Durability, TopicConfig};

/// Every key of a topic.
pub fn topic_keys() -> impl Iterator<Item = &'static Key> + Clone {
    own_keys::OWN_TOPIC_KEYS
        .iter()
        .chain(topic_keys::TOPIC_KEYS)
}

/// Every key of a broker.
pub fn broker_keys() -> impl Iterator<Item = &'static Key> + Clone {
    own_keys::OWN_KEYS
        .iter()
        .chain(broker_keys::BROKER_KEYS)
        .chain(log_keys::LOG_KEYS)
        .chain(cluster_keys::CLUSTER_KEYS)
        .chain(coordinator_keys::COORDINATOR_KEYS)
        .chain(security_keys::SECURITY_KEYS)
}

/// Every key of a group.
pub fn group_keys() -> impl Iterator<Item = &'static Key> + Clone {
    group_keys::GROUP_KEYS.iter()
}

/// Every key of a client metrics subscription.
pub fn client_metrics_keys() -> impl Iterator<Item = &'static Key> + Clone {
    group_keys::CLIENT_METRICS_KEYS.iter()
}

/// The topic key of a name.
pub fn topic_key(name: &str) -> Result<&'static Key, ConfigError> {
    find(topic_keys(), name)
}

/// The broker key of a name.
pub fn broker_key(name: &str) -> Result<&'static Key, ConfigError> {
    find(broker_keys(), name)
}

/// The client metrics key of a name.
pub fn client_metrics_key(name: &str) -> Result<&'static Key, ConfigError> {
    find(client_metrics_keys(), name)
}

/// The group key of a name.
pub fn group_key(name: &str) -> Result<&'static Key, ConfigError> {
    find(group_keys(), name)
}

fn find(
    mut keys: impl Iterator<Item = &'static Key> + Clone,
    name: &str,
) -> Result<&'static Key, ConfigError> {
    let all = keys.clone();
    keys.find(|key| key.name == name)
        .ok_or_else(|| ConfigError::Unknown {
            name: name.to_owned(),
            nearest: nearest::nearest(name, all.map(|key| key.name)),
        })
}
