//! What brokers say of their configuration and that of topics, and changes of it.

use std::fmt;

use model::BrokerId;
use protocol::Text;
use protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
};
use protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use runtime::Io;

use crate::admin::missing;
use crate::cluster::Cluster;
use crate::error::ClientError;

/// `resource_type` of a topic.
const RESOURCE_TOPIC: i8 = 2;
/// `resource_type` of a broker.
const RESOURCE_BROKER: i8 = 4;
/// `config_operation` that gives a key a value.
const OPERATION_SET: i8 = 0;
/// `config_operation` that takes it away.
const OPERATION_DELETE: i8 = 1;
/// `config_source` of a value that the topic itself has.
const SOURCE_TOPIC: i8 = 1;
/// `config_source` of a value that nobody set.
const SOURCE_DEFAULT: i8 = 5;
/// `config_source` by number, from 1.
const SOURCES: [&str; 8] = [
    "topic",
    "broker, at run time",
    "all brokers, at run time",
    "broker's file",
    "default",
    "broker's logger",
    "client metrics",
    "group",
];
/// `config_type` by number, from 0.
const TYPES: [&str; 10] = [
    "unknown", "boolean", "string", "int", "short", "long", "double", "list", "class", "password",
];

/// Whose configuration is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOwner {
    /// A topic's.
    Topic(String),
    /// A broker's.
    Broker(BrokerId),
    /// What holds for every broker that has no value of its own.
    AllBrokers,
}

/// A change of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// This key has this value from now on.
    Set(String, String),
    /// This key has no value of its own any more.
    Delete(String),
}

/// A setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// Its name.
    pub name: String,
    /// Its value; `None` if the broker does not tell.
    pub value: Option<String>,
    /// Whether the topic has its own value.
    pub is_own: bool,
}

/// A setting and all that the broker says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its value; `None` if it has none or the broker does not tell.
    pub value: Option<String>,
    /// Type of the value, if the broker says so.
    pub kind: &'static str,
    /// Who set it.
    pub source: &'static str,
    /// Whether nobody did.
    pub is_default: bool,
    /// Whether only a restart changes it.
    pub is_read_only: bool,
    /// Whether its value is never shown.
    pub is_sensitive: bool,
    /// What it does, if the broker says so.
    pub documentation: Option<String>,
    /// Values that it has or would have otherwise, the winning one first: name, value, who set it.
    pub synonyms: Vec<(String, Option<String>, &'static str)>,
}

impl<I: Io> Cluster<I> {
    /// Settings of a topic, ascending by name.
    pub async fn topic_configs(&mut self, name: &str) -> Result<Vec<TopicConfig>, ClientError> {
        let owner = ConfigOwner::Topic(name.to_owned());
        let configs = self.described(&owner, false).await?;
        let config = |config: DescribeConfigsResourceResult| TopicConfig {
            name: String::from(config.name),
            value: config.value.map(String::from),
            is_own: config.config_source == SOURCE_TOPIC,
        };
        Ok(configs.into_iter().map(config).collect())
    }

    /// Settings with their documentation and synonyms, ascending by name.
    pub async fn configs(&mut self, owner: &ConfigOwner) -> Result<Vec<Config>, ClientError> {
        let configs = self.described(owner, true).await?;
        Ok(configs.into_iter().map(config_of).collect())
    }

    /// Changes values, all of them or none. `validate_only`: says whether that would be accepted, and changes nothing.
    pub async fn alter_configs(
        &mut self,
        owner: &ConfigOwner,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let (resource_type, name) = owner.resource();
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type,
                resource_name: Text::copy_from(&name),
                configs: changes.iter().map(altered).collect(),
            }],
            validate_only,
        };
        let response = match owner {
            ConfigOwner::Topic(_) | ConfigOwner::AllBrokers => {
                self.ask_controller(&request).await?
            }
            ConfigOwner::Broker(id) => self.ask(*id, &request).await?,
        };
        let Some(result) = response.responses.into_iter().next() else {
            return Err(missing("IncrementalAlterConfigs"));
        };
        let what = format!("changing the configuration of {owner}");
        let message = result.error_message.map(String::from);
        ClientError::check(&what, result.error_code, message)
    }

    async fn described(
        &mut self,
        owner: &ConfigOwner,
        with_words: bool,
    ) -> Result<Vec<DescribeConfigsResourceResult>, ClientError> {
        let (resource_type, name) = owner.resource();
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type,
                resource_name: Text::copy_from(&name),
                ..DescribeConfigsResource::default()
            }],
            include_synonyms: with_words,
            include_documentation: with_words,
        };
        // A broker's own values are known to itself only.
        let response = match owner {
            ConfigOwner::Topic(_) | ConfigOwner::AllBrokers => self.ask_any(&request).await?,
            ConfigOwner::Broker(id) => self.ask(*id, &request).await?,
        };
        let Some(result) = response.results.into_iter().next() else {
            return Err(missing("DescribeConfigs"));
        };
        let what = format!("configuration of {owner}");
        let message = result.error_message.map(String::from);
        ClientError::check(&what, result.error_code, message)?;
        let mut configs = result.configs;
        configs.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        Ok(configs)
    }
}

impl ConfigOwner {
    /// Type and name on the wire.
    fn resource(&self) -> (i8, String) {
        match self {
            ConfigOwner::Topic(name) => (RESOURCE_TOPIC, name.clone()),
            ConfigOwner::Broker(id) => (RESOURCE_BROKER, id.to_string()),
            ConfigOwner::AllBrokers => (RESOURCE_BROKER, String::new()),
        }
    }
}

impl fmt::Display for ConfigOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigOwner::Topic(name) => f.write_str(name),
            ConfigOwner::Broker(id) => write!(f, "broker {id}"),
            ConfigOwner::AllBrokers => f.write_str("all brokers"),
        }
    }
}

fn altered(change: &ConfigChange) -> AlterableConfig {
    let (name, config_operation, value) = match change {
        ConfigChange::Set(name, value) => (name, OPERATION_SET, Some(Text::copy_from(value))),
        ConfigChange::Delete(name) => (name, OPERATION_DELETE, None),
    };
    AlterableConfig {
        name: Text::copy_from(name),
        config_operation,
        value,
    }
}

fn config_of(config: DescribeConfigsResourceResult) -> Config {
    let synonyms = config.synonyms.into_iter();
    Config {
        name: String::from(config.name),
        value: config.value.map(String::from),
        kind: word(&TYPES, i32::from(config.config_type)),
        source: source(config.config_source),
        is_default: config.config_source == SOURCE_DEFAULT,
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
        documentation: config.documentation.map(String::from),
        synonyms: synonyms
            .map(|synonym| {
                let value = synonym.value.map(String::from);
                (String::from(synonym.name), value, source(synonym.source))
            })
            .collect(),
    }
}

fn source(code: i8) -> &'static str {
    word(&SOURCES, i32::from(code) - 1)
}

fn word(words: &[&'static str], number: i32) -> &'static str {
    let number = usize::try_from(number).ok();
    let word = number.and_then(|number| words.get(number));
    word.copied().unwrap_or("unknown")
}
