//! Topics: create, delete, list, describe.

use model::ErrorCode;
use protocol::Text;
use protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use runtime::Io;

use crate::cluster::{Cluster, RETRY_WAIT_MAX, RETRY_WAIT_MIN, Topic};
use crate::error::ClientError;

/// `resource_type` of a topic in DescribeConfigs.
const RESOURCE_TOPIC: i8 = 2;

/// A topic to be created.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Count of partitions; -1 lets the broker choose.
    pub partitions: i32,
    /// Replicas of each; -1 lets the broker choose.
    pub replication_factor: i16,
    /// Settings that differ from the broker's.
    pub configs: Vec<(String, String)>,
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

impl<I: Io> Cluster<I> {
    /// Creates a topic and waits until its partitions have leaders.
    pub async fn create_topic(&mut self, new: &NewTopic) -> Result<Topic, ClientError> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: Text::copy_from(name),
            value: Some(Text::copy_from(value)),
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Text::copy_from(&new.name),
                num_partitions: new.partitions,
                replication_factor: new.replication_factor,
                configs: new.configs.iter().map(config).collect(),
                ..CreatableTopic::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..CreateTopicsRequest::default()
        };
        let response = self.ask_controller(&request).await?;
        let Some(result) = response.topics.into_iter().next() else {
            return Err(missing("CreateTopics"));
        };
        let what = format!("creating topic {}", new.name);
        let message = result.error_message.map(String::from);
        ClientError::check(&what, result.error_code, message)?;
        self.topic(&new.name).await
    }

    /// Deletes a topic and waits until metadata no longer lists it.
    pub async fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState {
                name: Some(Text::copy_from(name)),
                ..DeleteTopicState::default()
            }],
            timeout_ms: self.timeout_ms(),
            ..DeleteTopicsRequest::default()
        };
        let response = self.ask_controller(&request).await?;
        let Some(result) = response.responses.into_iter().next() else {
            return Err(missing("DeleteTopics"));
        };
        let message = result.error_message.map(String::from);
        ClientError::check(
            &format!("deleting topic {name}"),
            result.error_code,
            message,
        )?;
        let deadline = self.io.now().plus(self.options.operation_timeout);
        let mut wait = RETRY_WAIT_MIN;
        loop {
            let errors = self.refresh(Some(&[name])).await?;
            if errors.get(name) == Some(&ErrorCode::UnknownTopicOrPartition.code()) {
                return Ok(());
            }
            if self.io.now() >= deadline {
                return Err(ClientError::Timeout(self.options.operation_timeout));
            }
            self.io.sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    /// All topics, ascending by name.
    pub async fn list_topics(&mut self) -> Result<Vec<Topic>, ClientError> {
        self.refresh(None).await?;
        Ok(self.topics().cloned().collect())
    }

    /// A topic that must exist already; without waiting for it to appear.
    pub async fn describe_topic(&mut self, name: &str) -> Result<Topic, ClientError> {
        let errors = self.refresh(Some(&[name])).await?;
        let code = errors.get(name).copied().unwrap_or(0);
        ClientError::check(&format!("topic {name}"), code, None)?;
        self.cached(name)
            .cloned()
            .ok_or_else(|| missing("Metadata"))
    }

    /// Settings of a topic, ascending by name.
    pub async fn topic_configs(&mut self, name: &str) -> Result<Vec<TopicConfig>, ClientError> {
        /// `config_source` of a value that the topic itself has.
        const SOURCE_TOPIC: i8 = 1;
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: RESOURCE_TOPIC,
                resource_name: Text::copy_from(name),
                ..DescribeConfigsResource::default()
            }],
            ..DescribeConfigsRequest::default()
        };
        let response = self.ask_any(&request).await?;
        let Some(result) = response.results.into_iter().next() else {
            return Err(missing("DescribeConfigs"));
        };
        let message = result.error_message.map(String::from);
        ClientError::check(
            &format!("configuration of {name}"),
            result.error_code,
            message,
        )?;
        let mut configs: Vec<TopicConfig> = result
            .configs
            .into_iter()
            .map(|config| TopicConfig {
                name: String::from(config.name),
                value: config.value.map(String::from),
                is_own: config.config_source == SOURCE_TOPIC,
            })
            .collect();
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(configs)
    }

    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options.operation_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

pub(crate) fn missing(api: &'static str) -> ClientError {
    ClientError::Malformed {
        api,
        reason: "the answer does not mention what was asked about".to_owned(),
    }
}
