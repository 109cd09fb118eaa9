//! What brokers hold of partitions: bytes, and how far a follower is behind.

use std::collections::BTreeMap;

use model::{BrokerId, PartitionIndex};
use protocol::Text;
use protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsPartition, DescribeLogDirsRequest,
};
use runtime::Io;

use crate::cluster::{Cluster, Topic};
use crate::error::ClientError;

/// A partition's log on one broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldLog {
    /// Of its records.
    pub size_bytes: u64,
    /// Committed records that are not in it, as far as it has been told; 0 on the leader.
    pub lag: u64,
}

/// Logs by topic and partition.
pub type HeldLogs = BTreeMap<(String, PartitionIndex), HeldLog>;

impl<I: Io> Cluster<I> {
    /// The logs that one broker holds, of these partitions of a topic, or (`None`) all.
    pub async fn held_logs(
        &mut self,
        broker: BrokerId,
        wanted: Option<(&str, Vec<PartitionIndex>)>,
    ) -> Result<HeldLogs, ClientError> {
        let named = |(topic, partitions): (&str, Vec<PartitionIndex>)| {
            vec![DescribableLogDirTopic {
                topic: Text::copy_from(topic),
                partitions: partitions.into_iter().map(|index| index.0).collect(),
            }]
        };
        let request = DescribeLogDirsRequest {
            topics: wanted.map(named),
        };
        let response = self.ask(broker, &request).await?;
        let what = format!("the logs of broker {broker}");
        ClientError::check(&what, response.error_code, None)?;
        let mut held = HeldLogs::new();
        for directory in response.results {
            ClientError::check(&what, directory.error_code, None)?;
            for topic in directory.topics {
                let partitions = topic.partitions.iter();
                for partition in partitions.filter(|partition| !partition.is_future_key) {
                    let place = (
                        topic.name.as_str().to_owned(),
                        PartitionIndex(partition.partition_index),
                    );
                    held.insert(place, held_log(partition)?);
                }
            }
        }
        Ok(held)
    }

    /// The logs of a topic's partitions, by broker: of each that has a replica and answers. One that does not is left out.
    pub async fn replicas_held(
        &mut self,
        topic: &Topic,
    ) -> Result<BTreeMap<BrokerId, BTreeMap<PartitionIndex, HeldLog>>, ClientError> {
        let mut by_broker: BTreeMap<BrokerId, Vec<PartitionIndex>> = BTreeMap::new();
        for partition in &topic.partitions {
            for broker in &partition.replicas {
                by_broker.entry(*broker).or_default().push(partition.index);
            }
        }
        let mut all = BTreeMap::new();
        for (broker, partitions) in by_broker {
            let held = match self
                .held_logs(broker, Some((&topic.name, partitions)))
                .await
            {
                Err(error) if error.is_retriable() => continue,
                held => held?,
            };
            let held = held.into_iter().map(|((_, index), log)| (index, log));
            all.insert(broker, held.collect());
        }
        Ok(all)
    }
}

fn held_log(partition: &DescribeLogDirsPartition) -> Result<HeldLog, ClientError> {
    let number = |what: &str, number: i64| {
        u64::try_from(number).map_err(|_| ClientError::Malformed {
            api: "DescribeLogDirs",
            reason: format!("a log of {number} {what}"),
        })
    };
    Ok(HeldLog {
        size_bytes: number("bytes", partition.partition_size)?,
        lag: number("records behind", partition.offset_lag)?,
    })
}
