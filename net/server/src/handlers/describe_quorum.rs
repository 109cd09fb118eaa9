//! DescribeQuorum (key 55): who agrees on the metadata log, and how far each has come (KIP-595, KIP-836).

use model::{ErrorCode, ShardId};
use protocol::Text;
use protocol::describe_quorum::{
    DescribeQuorumListener, DescribeQuorumNode, DescribeQuorumPartition, DescribeQuorumRequest,
    DescribeQuorumResponse, DescribeQuorumTopic, QuorumReplicaState,
};
use runtime::Io;
use shard::refusal::MetadataRefusal;
use shard::request::{DescribeQuorum, QuorumReplica};

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;

/// Kafka's name of the metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Answers about the one log that a quorum agrees on; a request about anything else is refused as a whole.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &DescribeQuorumRequest,
) -> Result<(), ConnectionEnd> {
    if !is_about_metadata(request) {
        return context.answer(&refused(context, request));
    }
    let (partition, nodes) = match describe(context).await {
        Ok(described) => described,
        Err(refusal) => {
            let refused = error_codes::metadata(&refusal);
            return context.answer(&DescribeQuorumResponse {
                error_code: context.code(refused.code),
                error_message: Some(Text::copy_from(&refused.message)),
                ..DescribeQuorumResponse::default()
            });
        }
    };
    context.answer(&DescribeQuorumResponse {
        topics: vec![DescribeQuorumTopic {
            topic_name: METADATA_TOPIC.into(),
            partitions: vec![partition],
        }],
        nodes,
        ..DescribeQuorumResponse::default()
    })
}

fn is_about_metadata(request: &DescribeQuorumRequest) -> bool {
    let [topic] = request.topics.as_slice() else {
        return false;
    };
    let [partition] = topic.partitions.as_slice() else {
        return false;
    };
    *topic.topic_name == *METADATA_TOPIC && partition.partition_index == 0
}

fn refused<I: Io>(
    context: &Context<'_, I>,
    request: &DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|partition| DescribeQuorumPartition {
            partition_index: partition.partition_index,
            error_code: context.code(ErrorCode::UnknownTopicOrPartition),
            error_message: Some("no quorum agrees on it".into()),
            ..DescribeQuorumPartition::default()
        });
        DescribeQuorumTopic {
            topic_name: topic.topic_name.clone(),
            partitions: partitions.collect(),
        }
    });
    DescribeQuorumResponse {
        topics: topics.collect(),
        ..DescribeQuorumResponse::default()
    }
}

/// As its leader has it. When a replica last fetched is not known to the moment: one that was heard of lately has now.
async fn describe<I: Io>(
    context: &Context<'_, I>,
) -> Result<(DescribeQuorumPartition, Vec<DescribeQuorumNode>), MetadataRefusal> {
    let shard = &context.server.shard;
    let quorum = shard.ask(ShardId(0), DescribeQuorum).await?;
    let now = context.server.io.wall_clock().0;
    let end = quorum.high_watermark.0;
    let state = |replica: &QuorumReplica| QuorumReplicaState {
        replica_id: replica.key.broker.0,
        replica_directory_id: replica.key.directory.0,
        log_end_offset: replica.log_end_offset.0,
        last_fetch_timestamp: if replica.is_active { now } else { -1 },
        last_caught_up_timestamp: match replica.is_active && replica.log_end_offset.0 >= end {
            true => now,
            false => -1,
        },
    };
    let of = |is_voter| {
        let replicas = quorum.replicas.iter();
        let replicas = replicas.filter(move |replica| replica.is_voter == is_voter);
        replicas.map(state).collect()
    };
    let partition = DescribeQuorumPartition {
        leader_id: quorum.leader.0,
        leader_epoch: quorum.epoch.0,
        high_watermark: end,
        current_voters: of(true),
        observers: of(false),
        ..DescribeQuorumPartition::default()
    };
    let image = shard.image();
    let nodes = image.brokers().map(|broker| {
        let listeners = broker
            .endpoints
            .iter()
            .map(|endpoint| DescribeQuorumListener {
                name: Text::copy_from(&endpoint.name),
                host: Text::copy_from(&endpoint.host),
                port: endpoint.port,
            });
        DescribeQuorumNode {
            node_id: broker.id.0,
            listeners: listeners.collect(),
        }
    });
    Ok((partition, nodes.collect()))
}
