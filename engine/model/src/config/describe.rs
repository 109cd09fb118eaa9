//! What DescribeConfigs answers about a topic, a broker, a group or a client metrics subscription.
//!
//! Sources and synonyms follow Apache Kafka 4.3.1, its habit included of naming no synonym when the first one is null
//! (`retention.ms` has none unless `log.retention.ms` is set).

use std::collections::BTreeMap;

use super::broker::{BrokerConfig, Settings, is_listed};
use super::error::ConfigError;
use super::key::{Access, Key, Kind};
use super::topic::default_value;
use super::{broker_key, broker_keys, client_metrics_keys, group_keys, topic_keys};

/// Where a value comes from, with its number in DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set on the topic.
    Topic = 1,
    /// Set at run time for this broker.
    DynamicBroker = 2,
    /// Set at run time for all brokers.
    DynamicDefaultBroker = 3,
    /// Set by file, environment or override.
    StaticBroker = 4,
    /// The default.
    Default = 5,
    /// Set on the client metrics subscription.
    ClientMetrics = 7,
    /// Set on the group.
    Group = 8,
}

impl Source {
    /// The number in DescribeConfigs.
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// Another place that could have given, or gave, a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The key there.
    pub name: &'static str,
    /// Its value; `None` if it is sensitive.
    pub value: Option<String>,
    /// What kind of place.
    pub source: Source,
}

/// One line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The key.
    pub name: &'static str,
    /// The effective value; `None` if it is null or sensitive.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// Whether it can only be changed by a restart.
    pub read_only: bool,
    /// Whether its value is hidden.
    pub sensitive: bool,
    /// Every place that gives a value, the effective one first.
    pub synonyms: Vec<Synonym>,
    /// Its type; [`Kind::code`] is the number.
    pub kind: Kind,
    /// What it does.
    pub doc: &'static str,
}

/// The configuration of a topic with these values of its own, by name.
pub fn describe_topic(
    overrides: &Settings,
    broker: &BrokerConfig,
) -> Result<Vec<Described>, ConfigError> {
    describe_over_broker(topic_keys(), overrides, Source::Topic, broker)
}

/// The configuration of a group with these values of its own, by name.
pub fn describe_group(
    overrides: &Settings,
    broker: &BrokerConfig,
) -> Result<Vec<Described>, ConfigError> {
    describe_over_broker(group_keys(), overrides, Source::Group, broker)
}

/// The configuration of a client metrics subscription with these values, by name.
pub fn describe_client_metrics(
    overrides: &Settings,
    broker: &BrokerConfig,
) -> Result<Vec<Described>, ConfigError> {
    describe_over_broker(
        client_metrics_keys(),
        overrides,
        Source::ClientMetrics,
        broker,
    )
}

fn describe_over_broker(
    keys: impl Iterator<Item = &'static Key>,
    overrides: &Settings,
    own: Source,
    broker: &BrokerConfig,
) -> Result<Vec<Described>, ConfigError> {
    let mut out = BTreeMap::new();
    for key in keys {
        let mut synonyms = match key.synonyms.first() {
            Some(_) => broker_synonyms(key.synonyms, broker)?,
            None => Vec::new(),
        };
        let value = match overrides.get(key.name) {
            Some(text) => {
                let value = key.parse(text)?.to_string();
                let shown = (!key.is_sensitive()).then(|| value.clone());
                synonyms.insert(
                    0,
                    Synonym {
                        name: key.name,
                        value: shown,
                        source: own,
                    },
                );
                value
            }
            None => default_value(key, broker)?.to_string(),
        };
        out.insert(
            key.name,
            described(key, Some(value), key.access == Access::ReadOnly, synonyms),
        );
    }
    Ok(out.into_values().collect())
}

/// The configuration of a broker, by name. `one_broker` is false for the answer about all brokers (empty resource name),
/// whose synonyms are only what was set for all.
pub fn describe_broker(
    broker: &BrokerConfig,
    one_broker: bool,
) -> Result<Vec<Described>, ConfigError> {
    let mut out = BTreeMap::new();
    for key in broker_keys().filter(|key| is_listed(key, broker)) {
        let mut names = vec![key.name];
        names.extend(key.synonyms);
        let mut synonyms = broker_synonyms(&names, broker)?;
        if !one_broker {
            synonyms.retain(|synonym| synonym.source == Source::DynamicDefaultBroker);
        }
        let value = broker.value(key.name).map(ToString::to_string);
        out.insert(
            key.name,
            described(key, value, key.is_read_only(), synonyms),
        );
    }
    Ok(out.into_values().collect())
}

fn described(
    key: &'static Key,
    value: Option<String>,
    read_only: bool,
    synonyms: Vec<Synonym>,
) -> Described {
    Described {
        name: key.name,
        value: value.filter(|_| !key.is_sensitive()),
        source: synonyms
            .first()
            .map_or(Source::Default, |synonym| synonym.source),
        read_only,
        sensitive: key.is_sensitive(),
        synonyms,
        kind: key.kind,
        doc: key.doc,
    }
}

/// Every place that gives one of `names` a value, in precedence; nothing if the first name has none.
fn broker_synonyms(
    names: &[&'static str],
    broker: &BrokerConfig,
) -> Result<Vec<Synonym>, ConfigError> {
    let layers = [
        (broker.broker_settings(), Source::DynamicBroker),
        (broker.cluster_settings(), Source::DynamicDefaultBroker),
        (broker.static_settings(), Source::StaticBroker),
    ];
    let mut out: Vec<Synonym> = Vec::new();
    for name in names {
        let key = broker_key(name)?;
        let shown = |text: &str| -> Result<Option<String>, ConfigError> {
            Ok(if key.is_sensitive() {
                None
            } else {
                Some(key.parse(text)?.to_string())
            })
        };
        for (settings, source) in layers {
            if let Some(text) = settings.get(key.name) {
                out.push(Synonym {
                    name: key.name,
                    value: shown(text)?,
                    source,
                });
            }
        }
        if let Some(default) = key.default {
            out.push(Synonym {
                name: key.name,
                value: shown(default)?,
                source: Source::Default,
            });
        }
    }
    let skipped = out
        .iter()
        .take_while(|synonym| Some(&synonym.name) != names.first())
        .count();
    out.drain(..skipped);
    Ok(out)
}
