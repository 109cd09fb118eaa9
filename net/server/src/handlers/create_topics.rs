//! CreateTopics (key 19).

use metadata::ConfigMap;
use metadata::controller::{CreateTopicsRequest, CreatedTopic, ManualAssignment, NewTopic};
use model::config::describe_topic;
use model::{BrokerId, PartitionIndex, ShardId};
use protocol::Text;
use protocol::create_topics::{
    self as wire, CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use runtime::Io;
use shard::refusal::MetadataRefusal;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes::{self, Refused};
use crate::handlers::topics;

/// Answers when every shard of this broker knows the topics.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &wire::CreateTopicsRequest,
) -> Result<(), ConnectionEnd> {
    let shard = &context.server.shard;
    let config = &shard.options.config;
    let asked = request.topics.iter();
    let create = CreateTopicsRequest {
        topics: asked.map(|topic| new_topic(context, topic)).collect(),
        validate_only: request.validate_only,
        partition_count_default: config.num_partitions,
        replication_factor_default: i16::try_from(config.default_replication_factor)
            .unwrap_or(i16::MAX),
    };
    let created = shard.ask(ShardId(0), create).await;
    let results = match created {
        Ok(results) => results
            .into_iter()
            .map(|(name, result)| (name, result.map_err(error_codes::controller)))
            .collect(),
        Err(refusal) => refuse_all(request, &refusal),
    };
    let topics = results.into_iter().map(|(name, result)| {
        let asked = request.topics.iter().find(|topic| *topic.name == *name);
        respond(context, name, asked, result)
    });
    let topics = topics.collect();
    context.answer(&CreateTopicsResponse {
        topics,
        ..CreateTopicsResponse::default()
    })
}

fn new_topic<I: Io>(context: &Context<'_, I>, topic: &CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.iter().map(|assignment| ManualAssignment {
        partition: PartitionIndex(assignment.partition_index),
        replicas: assignment
            .broker_ids
            .iter()
            .copied()
            .map(BrokerId)
            .collect(),
    });
    let configs = topic.configs.iter().map(|config| {
        let value = config.value.as_deref().map(str::to_owned);
        (config.name.as_str().to_owned(), value)
    });
    NewTopic {
        name: topic.name.as_str().to_owned(),
        topic_id: topics::new_topic_id(&context.server.io),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
    }
}

/// What became of each topic.
type Results = Vec<(String, Result<CreatedTopic, Refused>)>;

fn refuse_all(request: &wire::CreateTopicsRequest, refusal: &MetadataRefusal) -> Results {
    let error = error_codes::metadata(refusal);
    let names = request.topics.iter().map(|topic| topic.name.as_str());
    names
        .map(|name| (name.to_owned(), Err(error.clone())))
        .collect()
}

fn respond<I: Io>(
    context: &Context<'_, I>,
    name: String,
    asked: Option<&CreatableTopic>,
    result: Result<CreatedTopic, Refused>,
) -> CreatableTopicResult {
    match result {
        Err(error) => CreatableTopicResult {
            name: Text::copy_from(&name),
            error_code: context.code(error.code),
            error_message: Some(Text::copy_from(&error.message)),
            configs: Some(Vec::new()),
            ..CreatableTopicResult::default()
        },
        Ok(created) => CreatableTopicResult {
            name: Text::copy_from(&name),
            topic_id: created.topic_id,
            num_partitions: created.partition_count,
            replication_factor: created.replication_factor,
            configs: Some(effective(context, asked)),
            ..CreatableTopicResult::default()
        },
    }
}

/// The configuration that the topic has from now on.
fn effective<I: Io>(
    context: &Context<'_, I>,
    asked: Option<&CreatableTopic>,
) -> Vec<CreatableTopicConfigs> {
    let asked = asked.into_iter().flat_map(|topic| &topic.configs);
    let overrides: ConfigMap = asked
        .filter_map(|config| {
            let value = config.value.as_deref()?;
            Some((config.name.as_str().to_owned(), value.to_owned()))
        })
        .collect();
    // The controller has accepted them, so they describe; if not, the answer only lacks this list.
    let described = describe_topic(&overrides, &context.server.shard.config());
    described
        .unwrap_or_default()
        .into_iter()
        .map(|entry| CreatableTopicConfigs {
            name: entry.name.into(),
            value: entry.value.as_deref().map(Text::copy_from),
            read_only: entry.read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.sensitive,
        })
        .collect()
}
