//! CreatePartitions (key 37): more partitions for topics (KIP-195).

use metadata::controller::{CreatePartitionsRequest, MorePartitions};
use model::{BrokerId, ErrorCode, ShardId};
use protocol::Text;
use protocol::create_partitions::{
    self as wire, CreatePartitionsResponse, CreatePartitionsTopicResult,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes::{self, Refused};

/// Answers when every shard of this broker serves the new partitions.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &wire::CreatePartitionsRequest,
) -> Result<(), ConnectionEnd> {
    let topics = request.topics.iter().map(|topic| MorePartitions {
        name: topic.name.as_str().to_owned(),
        count: topic.count,
        assignments: topic.assignments.as_ref().map(|assignments| {
            let brokers = assignments.iter().map(|one| &one.broker_ids);
            brokers
                .map(|ids| ids.iter().copied().map(BrokerId).collect())
                .collect()
        }),
    });
    let create = CreatePartitionsRequest {
        topics: topics.collect(),
        validate_only: request.validate_only,
    };
    let names: Vec<_> = create
        .topics
        .iter()
        .map(|topic| topic.name.clone())
        .collect();
    let created = context.server.shard.ask(ShardId(0), create).await;
    let refused: Vec<(String, Option<Refused>)> = match created {
        Ok(results) => results
            .into_iter()
            .map(|(name, result)| (name, result.err().map(error_codes::controller)))
            .collect(),
        Err(refusal) => {
            let error = error_codes::metadata(&refusal);
            let refused = |name| (name, Some(error.clone()));
            names.into_iter().map(refused).collect()
        }
    };
    let results = refused
        .into_iter()
        .map(|(name, error)| CreatePartitionsTopicResult {
            name: Text::copy_from(&name),
            error_code: context.code(error.as_ref().map_or(ErrorCode::None, |e| e.code)),
            error_message: error.map(|error| Text::copy_from(&error.message)),
        });
    context.answer(&CreatePartitionsResponse {
        results: results.collect(),
        ..CreatePartitionsResponse::default()
    })
}
