//! ElectLeaders (key 43): the preferred replica shall lead, or anyone who can (KIP-183, KIP-460).

use metadata::controller::{self, ElectionKind};
use model::{ErrorCode, PartitionIndex, ShardId};
use protocol::Text;
use protocol::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes::{self, Refused};

/// Answers when every shard of this broker knows the new leaders.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &ElectLeadersRequest,
) -> Result<(), ConnectionEnd> {
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        kind => {
            let refused = Refused {
                code: ErrorCode::InvalidRequest,
                message: format!("there are no elections of type {kind}"),
            };
            return refuse(context, request, &refused);
        }
    };
    let topics = request.topic_partitions.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().copied().map(PartitionIndex);
            (topic.topic.as_str().to_owned(), partitions.collect())
        });
        topics.collect()
    });
    let elect = controller::ElectLeadersRequest { kind, topics };
    let elected = match context.server.shard.ask(ShardId(0), elect).await {
        Ok(elected) => elected,
        Err(refusal) => return refuse(context, request, &error_codes::metadata(&refusal)),
    };
    let results = elected.into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(partition, result)| {
            let refused = result.err().map(error_codes::controller);
            partition_result(context, partition.0, refused.as_ref())
        });
        ReplicaElectionResult {
            topic: Text::copy_from(&name),
            partition_result: partitions.collect(),
        }
    });
    context.answer(&ElectLeadersResponse {
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    })
}

/// Refuses the request, and so each partition that it names.
fn refuse<I: Io>(
    context: &Context<'_, I>,
    request: &ElectLeadersRequest,
    refused: &Refused,
) -> Result<(), ConnectionEnd> {
    let topics = request.topic_partitions.iter().flatten();
    let results = topics.map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|id| partition_result(context, *id, Some(refused)));
        ReplicaElectionResult {
            topic: topic.topic.clone(),
            partition_result: partitions.collect(),
        }
    });
    context.answer(&ElectLeadersResponse {
        error_code: context.code(refused.code),
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    })
}

fn partition_result<I: Io>(
    context: &Context<'_, I>,
    partition_id: i32,
    refused: Option<&Refused>,
) -> PartitionResult {
    PartitionResult {
        partition_id,
        error_code: context.code(refused.map_or(ErrorCode::None, |refused| refused.code)),
        error_message: refused.map(|refused| Text::copy_from(&refused.message)),
    }
}
