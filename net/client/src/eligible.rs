//! Who else may lead partitions (KIP-966): eligible leader replicas.

use std::collections::BTreeMap;

use model::{BrokerId, PartitionIndex};
use protocol::Text;
use protocol::messages::describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest};
use runtime::Io;

use crate::admin::missing;
use crate::cluster::Cluster;
use crate::error::ClientError;

/// Answers to one question at most: with the pages that brokers give, more than a topic can have partitions.
const PAGES_MAX: usize = 10_000;

impl<I: Io> Cluster<I> {
    /// By partition: replicas out of sync that have everything that was acknowledged. Those without any are left out.
    pub async fn eligible_leaders(
        &mut self,
        topic: &str,
    ) -> Result<BTreeMap<PartitionIndex, Vec<BrokerId>>, ClientError> {
        let mut request = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest {
                name: Text::copy_from(topic),
            }],
            ..DescribeTopicPartitionsRequest::default()
        };
        let mut eligible = BTreeMap::new();
        for _ in 0..PAGES_MAX {
            let response = self.ask_any(&request).await?;
            for topic in response.topics {
                let what = topic.name.map(String::from).unwrap_or_default();
                ClientError::check(&format!("topic {what}"), topic.error_code, None)?;
                for partition in topic.partitions {
                    let replicas = partition.eligible_leader_replicas.unwrap_or_default();
                    if !replicas.is_empty() {
                        let index = PartitionIndex(partition.partition_index);
                        eligible.insert(index, replicas.into_iter().map(BrokerId).collect());
                    }
                }
            }
            match response.next_cursor {
                None => return Ok(eligible),
                cursor => request.cursor = cursor,
            }
        }
        Err(missing("DescribeTopicPartitions"))
    }
}
