//! Who agrees on the metadata log, and how far each is.

use model::{BrokerId, LeaderEpoch, Offset};
use protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumRequestPartition, DescribeQuorumRequestTopic,
    QuorumReplicaState,
};
use runtime::Io;

use crate::admin::missing;
use crate::cluster::Cluster;
use crate::error::ClientError;

/// Kafka's name of the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The quorum, as its leader has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Its leader, which is the controller; `None` while there is none.
    pub leader: Option<BrokerId>,
    pub leader_epoch: LeaderEpoch,
    /// Records below it are agreed on.
    pub high_watermark: Offset,
    /// Those who agree.
    pub voters: Vec<QuorumReplica>,
    /// Those who are told.
    pub observers: Vec<QuorumReplica>,
}

/// One replica of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumReplica {
    pub broker: BrokerId,
    pub log_end_offset: Offset,
    /// Whether the leader has heard of it lately.
    pub is_active: bool,
}

impl QuorumReplica {
    fn of(state: &QuorumReplicaState) -> QuorumReplica {
        QuorumReplica {
            broker: BrokerId(state.replica_id),
            log_end_offset: Offset(state.log_end_offset),
            is_active: state.last_fetch_timestamp >= 0,
        }
    }
}

impl Quorum {
    /// Records that a replica has not yet of those agreed on.
    pub fn lag(&self, replica: &QuorumReplica) -> i64 {
        // One may be ahead of what is agreed on.
        (self.high_watermark.0 - replica.log_end_offset.0).max(0)
    }
}

impl<I: Io> Cluster<I> {
    /// Asks for the quorum of the metadata log.
    pub async fn quorum(&mut self) -> Result<Quorum, ClientError> {
        let request = DescribeQuorumRequest {
            topics: vec![DescribeQuorumRequestTopic {
                topic_name: METADATA_TOPIC.into(),
                partitions: vec![DescribeQuorumRequestPartition { partition_index: 0 }],
            }],
        };
        let response = self.ask_any(&request).await?;
        let message = response.error_message.map(String::from);
        ClientError::check("the quorum", response.error_code, message)?;
        let mut partitions = response
            .topics
            .into_iter()
            .flat_map(|topic| topic.partitions);
        let Some(partition) = partitions.next() else {
            return Err(missing("DescribeQuorum"));
        };
        let message = partition.error_message.map(String::from);
        ClientError::check("the quorum", partition.error_code, message)?;
        let replicas = |states: &[QuorumReplicaState]| {
            let mut replicas: Vec<QuorumReplica> = states.iter().map(QuorumReplica::of).collect();
            replicas.sort_by_key(|replica| replica.broker);
            replicas
        };
        Ok(Quorum {
            leader: (partition.leader_id >= 0).then_some(BrokerId(partition.leader_id)),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            high_watermark: Offset(partition.high_watermark),
            voters: replicas(&partition.current_voters),
            observers: replicas(&partition.observers),
        })
    }
}
