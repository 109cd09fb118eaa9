//! AlterPartitionReassignments (key 45): which brokers shall hold the replicas of partitions (KIP-455).

use metadata::controller::{AlterReassignmentsRequest, PartitionReassignment, ReassignedTopics};
use model::{BrokerId, ErrorCode, PartitionIndex, ShardId};
use protocol::Text;
use protocol::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;

/// Answers when every shard of this broker knows what shall move.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &AlterPartitionReassignmentsRequest,
) -> Result<(), ConnectionEnd> {
    let mut response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        ..AlterPartitionReassignmentsResponse::default()
    };
    let asked = asked(request);
    match context.server.shard.ask(ShardId(0), asked).await {
        Ok(results) => response.responses = responses(context, results),
        Err(refusal) => {
            let refused = error_codes::metadata(&refusal);
            response.error_code = context.code(refused.code);
            response.error_message = Some(Text::copy_from(&refused.message));
        }
    }
    context.answer(&response)
}

fn asked(request: &AlterPartitionReassignmentsRequest) -> AlterReassignmentsRequest {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|partition| PartitionReassignment {
                partition: PartitionIndex(partition.partition_index),
                replicas: partition.replicas.as_ref().map(|replicas| {
                    let replicas = replicas.iter().copied();
                    replicas.map(BrokerId).collect()
                }),
            });
        (topic.name.as_str().to_owned(), partitions.collect())
    });
    AlterReassignmentsRequest {
        topics: topics.collect(),
        allow_replication_factor_change: request.allow_replication_factor_change,
    }
}

fn responses<I: Io>(
    context: &Context<'_, I>,
    results: ReassignedTopics,
) -> Vec<ReassignableTopicResponse> {
    let topics = results.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, result)| {
            let refused = result.err().map(error_codes::controller);
            let code = refused.as_ref().map_or(ErrorCode::None, |one| one.code);
            ReassignablePartitionResponse {
                partition_index: partition.0,
                error_code: context.code(code),
                error_message: refused.map(|one| Text::copy_from(&one.message)),
            }
        });
        ReassignableTopicResponse {
            name: Text::copy_from(&name),
            partitions: partitions.collect(),
        }
    });
    topics.collect()
}
