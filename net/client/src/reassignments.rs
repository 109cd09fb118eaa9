//! Replicas that move between brokers: what is under way, and what shall be (KIP-455); brokers that are forgotten.

use std::collections::BTreeMap;

use model::{BrokerId, PartitionIndex};
use protocol::Text;
use protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use protocol::messages::list_partition_reassignments::ListPartitionReassignmentsRequest;
use protocol::messages::unregister_broker::UnregisterBrokerRequest;
use runtime::Io;

use crate::cluster::Cluster;
use crate::error::ClientError;

/// A partition whose replicas move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OngoingMove {
    /// Its topic.
    pub topic: String,
    /// Its index.
    pub partition: PartitionIndex,
    /// Who has replicas now, those that come and those that go among them.
    pub replicas: Vec<BrokerId>,
    /// Those that come.
    pub adding: Vec<BrokerId>,
    /// Those that go.
    pub removing: Vec<BrokerId>,
}

/// Which brokers shall hold a partition's replicas, the preferred leader first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedReplicas {
    /// Its topic.
    pub topic: String,
    /// Its index.
    pub partition: PartitionIndex,
    /// The brokers.
    pub replicas: Vec<BrokerId>,
}

impl<I: Io> Cluster<I> {
    /// All partitions whose replicas move.
    pub async fn ongoing_moves(&mut self) -> Result<Vec<OngoingMove>, ClientError> {
        let request = ListPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            topics: None,
        };
        let response = self.ask_controller(&request).await?;
        let message = response.error_message.map(String::from);
        ClientError::check("ListPartitionReassignments", response.error_code, message)?;
        let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
        let mut moves = Vec::new();
        for topic in response.topics {
            for partition in topic.partitions {
                moves.push(OngoingMove {
                    topic: String::from(topic.name.clone()),
                    partition: PartitionIndex(partition.partition_index),
                    replicas: brokers(partition.replicas),
                    adding: brokers(partition.adding_replicas),
                    removing: brokers(partition.removing_replicas),
                });
            }
        }
        Ok(moves)
    }

    /// Lets replicas move. The first refusal is told; what was not refused moves all the same.
    pub async fn reassign(&mut self, wanted: &[WantedReplicas]) -> Result<(), ClientError> {
        let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for one in wanted {
            let partition = ReassignablePartition {
                partition_index: one.partition.0,
                replicas: Some(one.replicas.iter().map(|id| id.0).collect()),
            };
            topics.entry(&one.topic).or_default().push(partition);
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| ReassignableTopic {
                name: Text::copy_from(name),
                partitions,
            });
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: self.timeout_ms(),
            allow_replication_factor_change: false,
            topics: topics.collect(),
        };
        let response = self.ask_controller(&request).await?;
        let message = response.error_message.map(String::from);
        ClientError::check("AlterPartitionReassignments", response.error_code, message)?;
        for topic in response.responses {
            let name = String::from(topic.name);
            for partition in topic.partitions {
                let what = format!("moving {name}-{}", partition.partition_index);
                let message = partition.error_message.map(String::from);
                ClientError::check(&what, partition.error_code, message)?;
            }
        }
        Ok(())
    }

    /// Makes the cluster forget a broker that was stopped for good.
    pub async fn unregister_broker(&mut self, broker: BrokerId) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest {
            broker_id: broker.0,
        };
        let response = self.ask_controller(&request).await?;
        let message = response.error_message.map(String::from);
        let what = format!("unregistering broker {broker}");
        ClientError::check(&what, response.error_code, message)
    }
}
