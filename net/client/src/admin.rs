//! Topics: create, delete, list, describe, add partitions, trim.

use std::collections::BTreeMap;

use model::{BrokerId, ErrorCode, Offset, PartitionIndex};
use protocol::Text;
use protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use runtime::Io;

use crate::cluster::{Cluster, RETRY_WAIT_MAX, RETRY_WAIT_MIN, Topic};
use crate::error::ClientError;

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

    /// Adds partitions to a topic until it has `total`, and waits until all of them have leaders.
    pub async fn add_partitions(&mut self, name: &str, total: i32) -> Result<Topic, ClientError> {
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic {
                name: Text::copy_from(name),
                count: total,
                assignments: None,
            }],
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let response = self.ask_controller(&request).await?;
        let Some(result) = response.results.into_iter().next() else {
            return Err(missing("CreatePartitions"));
        };
        let what = format!("adding partitions to {name}");
        let message = result.error_message.map(String::from);
        ClientError::check(&what, result.error_code, message)?;
        let deadline = self.io.now().plus(self.options.operation_timeout);
        let mut wait = RETRY_WAIT_MIN;
        loop {
            let topic = self.topic(name).await?;
            if topic.partitions.len() >= usize::try_from(total).unwrap_or(0) {
                return Ok(topic);
            }
            if self.io.now() >= deadline {
                return Err(ClientError::Timeout(self.options.operation_timeout));
            }
            self.io.sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    /// Deletes the records of partitions below an offset each (`Offset::NONE`: all there are); where the partitions
    /// begin now, in their order.
    pub async fn delete_records(
        &mut self,
        topic: &Topic,
        before: &BTreeMap<PartitionIndex, Offset>,
    ) -> Result<Vec<(PartitionIndex, Offset)>, ClientError> {
        let mut by_leader: BTreeMap<BrokerId, Vec<DeleteRecordsPartition>> = BTreeMap::new();
        for (partition, offset) in before {
            let leader = self.leader(topic, *partition)?;
            by_leader
                .entry(leader)
                .or_default()
                .push(DeleteRecordsPartition {
                    partition_index: partition.0,
                    offset: offset.0,
                });
        }
        let mut starts = Vec::with_capacity(before.len());
        for (leader, partitions) in by_leader {
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: Text::copy_from(&topic.name),
                    partitions,
                }],
                timeout_ms: self.timeout_ms(),
            };
            let response = self.ask(leader, &request).await?;
            for answer in response.topics.into_iter().flat_map(|t| t.partitions) {
                let what = format!("trimming {}-{}", topic.name, answer.partition_index);
                ClientError::check(&what, answer.error_code, None)?;
                let partition = PartitionIndex(answer.partition_index);
                starts.push((partition, Offset(answer.low_watermark)));
            }
        }
        starts.sort();
        if starts.len() != before.len() {
            return Err(missing("DeleteRecords"));
        }
        Ok(starts)
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
