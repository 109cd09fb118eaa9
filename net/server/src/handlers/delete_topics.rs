//! DeleteTopics (key 20), by name or by id (KIP-516).

use metadata::controller::{DeletableTopic, DeletedTopic};
use model::{ErrorCode, ShardId, TopicId};
use protocol::Text;
use protocol::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};
use runtime::Io;
use shard::refusal::MetadataRefusal;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes::{self, Refused};

/// Answers when every shard of this broker has forgotten the topics.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &DeleteTopicsRequest,
) -> Result<(), ConnectionEnd> {
    let by_name = request.topic_names.iter().map(|name| DeletableTopic {
        name: Some(name.as_str().to_owned()),
        topic_id: TopicId::ZERO,
    });
    let by_state = request.topics.iter().map(|topic| DeletableTopic {
        name: topic.name.as_deref().map(str::to_owned),
        topic_id: topic.topic_id,
    });
    let topics: Vec<_> = by_name.chain(by_state).collect();
    let shard = &context.server.shard;
    let deleted = shard.ask(ShardId(0), topics.clone()).await;
    let responses = match deleted {
        Ok(deleted) => deleted.into_iter().map(respond).collect(),
        Err(refusal) => refuse_all(topics, &refusal),
    };
    let response = DeleteTopicsResponse {
        responses,
        ..DeleteTopicsResponse::default()
    };
    context.count_codes(response.responses.iter().map(|topic| topic.error_code));
    context.answer(&response)
}

fn refuse_all(topics: Vec<DeletableTopic>, refusal: &MetadataRefusal) -> Vec<DeletableTopicResult> {
    let error = error_codes::metadata(refusal);
    let refuse = |topic: DeletableTopic| result(topic.name, topic.topic_id, Some(error.clone()));
    topics.into_iter().map(refuse).collect()
}

fn respond(deleted: DeletedTopic) -> DeletableTopicResult {
    let error = deleted.result.err().map(error_codes::controller);
    result(deleted.name, deleted.topic_id, error)
}

fn result(name: Option<String>, topic_id: TopicId, error: Option<Refused>) -> DeletableTopicResult {
    DeletableTopicResult {
        name: name.as_deref().map(Text::copy_from),
        topic_id,
        error_code: error.as_ref().map_or(ErrorCode::None, |e| e.code).code(),
        error_message: error.map(|error| Text::copy_from(&error.message)),
    }
}
