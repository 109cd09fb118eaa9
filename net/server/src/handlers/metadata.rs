//! Metadata (key 3): topics, their partitions and leaders, and the brokers to talk to.

use std::collections::BTreeSet;

use metadata::controller::{CreateTopicsRequest, NewTopic};
use metadata::{MetadataImage, Topic};
use model::{ErrorCode, TopicId};
use protocol::Text;
use protocol::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use runtime::Io;
use shard::coordinator_host::OFFSETS_TOPIC;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::{groups, topics};

/// The first version that tells LISTENER_NOT_FOUND from LEADER_NOT_AVAILABLE.
const VERSION_WITH_LISTENER_ERROR: i16 = 6;

/// Answers, creating the topics that the client asked for if that is allowed.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &MetadataRequest,
) -> Result<(), ConnectionEnd> {
    let version = context.version();
    if version == 0 && request.topics.is_none() {
        return Err(ConnectionEnd::Protocol("null topics in Metadata v0".into()));
    }
    let all = match &request.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let (topics, missing) = if all {
        (all_topics(context, request), Vec::new())
    } else {
        named_topics(context, request)
    };
    let response = respond(context, request, topics);
    let creates = request.allow_auto_topic_creation
        && context
            .server
            .shard
            .options
            .config
            .auto_create_topics_enable;
    if creates && !missing.is_empty() {
        create(context, missing).await;
    }
    context.answer(&response)
}

fn respond<I: Io>(
    context: &Context<'_, I>,
    request: &MetadataRequest,
    topics: Vec<MetadataResponseTopic>,
) -> MetadataResponse {
    let image = context.server.shard.image();
    let brokers = topics::live_brokers(context, &image).into_iter();
    MetadataResponse {
        brokers: brokers
            .map(|broker| MetadataResponseBroker {
                node_id: broker.id.0,
                host: broker.host,
                port: broker.port,
                rack: broker.rack,
            })
            .collect(),
        cluster_id: Some(Text::copy_from(image.cluster_id())),
        controller_id: topics::controller_id(context),
        topics,
        cluster_authorized_operations: if request.include_cluster_authorized_operations {
            topics::CLUSTER_OPERATIONS
        } else {
            topics::OPERATIONS_OMITTED
        },
        ..MetadataResponse::default()
    }
}

fn all_topics<I: Io>(
    context: &Context<'_, I>,
    request: &MetadataRequest,
) -> Vec<MetadataResponseTopic> {
    let image = context.server.shard.image();
    image
        .topics()
        .map(|topic| describe(context, &image, topic, request))
        .collect()
}

/// The topics asked for, and the names among them that could be created.
fn named_topics<I: Io>(
    context: &Context<'_, I>,
    request: &MetadataRequest,
) -> (Vec<MetadataResponseTopic>, Vec<String>) {
    let image = context.server.shard.image();
    let mut results = Vec::new();
    let mut missing = Vec::new();
    let mut seen = BTreeSet::new();
    for asked in request.topics.iter().flatten() {
        let name = asked.name.as_deref();
        let by_id = asked.topic_id != TopicId::ZERO;
        if !seen.insert((asked.topic_id, name.map(str::to_owned))) {
            continue;
        }
        let found = match name {
            _ if by_id => image
                .topic_by_id(asked.topic_id)
                .ok_or(ErrorCode::UnknownTopicId),
            None => Err(ErrorCode::UnknownServerError),
            Some(name) => match image.topic_by_name(name) {
                Some(topic) => Ok(topic),
                None if metadata::topic_name::validate(name).is_err() => {
                    Err(ErrorCode::InvalidTopicException)
                }
                None => {
                    missing.push(name.to_owned());
                    Err(ErrorCode::UnknownTopicOrPartition)
                }
            },
        };
        results.push(match found {
            Ok(topic) => describe(context, &image, topic, request),
            Err(error) => MetadataResponseTopic {
                error_code: context.code(error),
                name: unknown_name(context.version(), name, by_id),
                topic_id: asked.topic_id,
                ..MetadataResponseTopic::default()
            },
        });
    }
    (results, missing)
}

/// How an unknown topic is named in the answer: a name that was not asked for by name is null, where that exists.
fn unknown_name(version: i16, name: Option<&str>, by_id: bool) -> Option<Text> {
    match name {
        Some(name) if !by_id => Some(Text::copy_from(name)),
        _ if by_id && version >= 12 => None,
        _ => Some(Text::EMPTY),
    }
}

fn describe<I: Io>(
    context: &Context<'_, I>,
    image: &MetadataImage,
    topic: &Topic,
    request: &MetadataRequest,
) -> MetadataResponseTopic {
    let knows_listeners = context.version() >= VERSION_WITH_LISTENER_ERROR;
    let partitions = topic.partitions().map(|(index, state)| {
        let (error, leader_id) = topics::leader(context, image, state, knows_listeners);
        MetadataResponsePartition {
            error_code: context.code(error),
            partition_index: index.0,
            leader_id,
            leader_epoch: state.leader_epoch.0,
            replica_nodes: topics::ids(&state.replicas),
            isr_nodes: topics::ids(&state.isr),
            offline_replicas: topics::offline_replicas(image, state),
        }
    });
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(Text::copy_from(topic.name())),
        topic_id: topic.id(),
        is_internal: topics::is_internal(topic.name()),
        partitions: partitions.collect(),
        topic_authorized_operations: if request.include_topic_authorized_operations {
            topics::TOPIC_OPERATIONS
        } else {
            topics::OPERATIONS_OMITTED
        },
    }
}

/// Creates topics for a client that will ask again. What is refused, it learns then.
async fn create<I: Io>(context: &Context<'_, I>, names: Vec<String>) {
    let shard = &context.server.shard;
    let config = &shard.options.config;
    let new = |name: String| match name.as_str() {
        OFFSETS_TOPIC => groups::offsets_topic(context),
        _ => NewTopic {
            name,
            topic_id: topics::new_topic_id(&context.server.io),
            partition_count: -1,
            replication_factor: -1,
            ..NewTopic::default()
        },
    };
    let request = CreateTopicsRequest {
        topics: names.into_iter().map(new).collect(),
        validate_only: false,
        partition_count_default: config.num_partitions,
        replication_factor_default: i16::try_from(config.default_replication_factor)
            .unwrap_or(i16::MAX),
    };
    match shard.ask(model::ShardId(0), request).await {
        Ok(results) => {
            for (topic, result) in results {
                match result {
                    Ok(_) => tracing::info!(topic, "created on demand"),
                    Err(error) => tracing::info!(topic, %error, "not created on demand"),
                }
            }
        }
        Err(refusal) => tracing::warn!(%refusal, "no topic can be created on demand"),
    }
}
