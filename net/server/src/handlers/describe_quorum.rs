//! DescribeQuorum (key 55): who agrees on the metadata log, and how far each has come (KIP-595, KIP-836).

use model::{ErrorCode, ShardId};
use protocol::Text;
use protocol::describe_quorum::{
    DescribeQuorumListener, DescribeQuorumNode, DescribeQuorumPartition, DescribeQuorumRequest,
    DescribeQuorumResponse, DescribeQuorumTopic, QuorumReplicaState,
};
use runtime::Io;
use shard::request::MetadataTerm;

use crate::connection::ConnectionEnd;
use crate::context::Context;

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
    let (partition, nodes) = quorum_of_one(context).await;
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

/// A broker alone: all that is in the log is agreed on, and it is reached where it serves clients.
async fn quorum_of_one<I: Io>(
    context: &Context<'_, I>,
) -> (DescribeQuorumPartition, Vec<DescribeQuorumNode>) {
    let shard = &context.server.shard;
    shard.catch_up().await;
    let end = shard.image().end_offset().0;
    let now = context.server.io.wall_clock().0;
    let registration = &shard.options.registration;
    let id = shard.options.broker.0;
    // It is registered with the one directory that it has; zeros stand for a directory that is not known.
    let directory = registration.log_dirs.first();
    let voter = QuorumReplicaState {
        replica_id: id,
        replica_directory_id: directory.map_or([0; 16], |directory| directory.0),
        log_end_offset: end,
        last_fetch_timestamp: now,
        last_caught_up_timestamp: now,
    };
    let listeners = registration
        .endpoints
        .iter()
        .map(|endpoint| DescribeQuorumListener {
            name: Text::copy_from(&endpoint.name),
            host: Text::copy_from(&endpoint.host),
            port: endpoint.port,
        });
    let node = DescribeQuorumNode {
        node_id: id,
        listeners: listeners.collect(),
    };
    let term = shard.ask(ShardId(0), MetadataTerm).await;
    let partition = DescribeQuorumPartition {
        leader_id: id,
        leader_epoch: term.0,
        high_watermark: end,
        current_voters: vec![voter],
        ..DescribeQuorumPartition::default()
    };
    (partition, vec![node])
}
