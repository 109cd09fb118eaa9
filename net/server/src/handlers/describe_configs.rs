//! DescribeConfigs (key 32): values, where they come from, and what they mean (KIP-133, KIP-226, KIP-524).

use metadata::{ConfigMap, ConfigResourceType};
use model::ErrorCode;
use model::config::{
    ConfigError, Described, describe_broker, describe_client_metrics, describe_group,
    describe_topic,
};
use protocol::Text;
use protocol::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult,
    DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Answers from the image and the registry.
pub fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &DescribeConfigsRequest,
) -> Result<(), ConnectionEnd> {
    let results = request.resources.iter().map(|resource| {
        let (error, message, configs) = match describe(context, resource) {
            Ok(entries) => {
                let wanted = entries
                    .into_iter()
                    .filter(|entry| is_wanted(resource, entry));
                let configs = wanted.map(|entry| respond(request, entry)).collect();
                (ErrorCode::None, None, configs)
            }
            Err((error, message)) => (error, Some(message), Vec::new()),
        };
        DescribeConfigsResult {
            error_code: context.code(error),
            error_message: Some(Text::copy_from(message.unwrap_or_default().as_str())),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            configs,
        }
    });
    let results = results.collect();
    context.answer(&DescribeConfigsResponse {
        results,
        ..DescribeConfigsResponse::default()
    })
}

/// No list of keys, and an empty one, mean all.
fn is_wanted(resource: &DescribeConfigsResource, entry: &Described) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| **key == *entry.name),
        _ => true,
    }
}

fn describe<I: Io>(
    context: &Context<'_, I>,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, (ErrorCode, String)> {
    let name = resource.resource_name.as_str();
    let config = context.server.shard.config();
    let set = |kind| {
        let image = context.server.shard.image();
        image.configs(kind, name).cloned().unwrap_or_default()
    };
    match resource.resource_type {
        TOPIC => topic(context, name),
        BROKER => broker(context, name),
        CLIENT_METRICS => describe_client_metrics(&set(ConfigResourceType::ClientMetrics), &config)
            .map_err(invalid),
        GROUP if !name.is_empty() => {
            describe_group(&set(ConfigResourceType::Group), &config).map_err(invalid)
        }
        GROUP => Err((ErrorCode::InvalidRequest, "the group id is empty".into())),
        kind => Err((
            ErrorCode::InvalidRequest,
            format!("resources of type {kind} have no configuration here"),
        )),
    }
}

fn topic<I: Io>(
    context: &Context<'_, I>,
    name: &str,
) -> Result<Vec<Described>, (ErrorCode, String)> {
    if let Err(reason) = metadata::topic_name::validate(name) {
        return Err((ErrorCode::InvalidTopicException, reason.to_string()));
    }
    let image = context.server.shard.image();
    if image.topic_by_name(name).is_none() {
        return Err((ErrorCode::UnknownTopicOrPartition, String::new()));
    }
    let none = ConfigMap::new();
    let overrides = image.topic_configs(name).map_or(&none, |map| map.as_ref());
    describe_topic(overrides, &context.server.shard.config()).map_err(invalid)
}

/// The empty name is the default of all brokers.
fn broker<I: Io>(
    context: &Context<'_, I>,
    name: &str,
) -> Result<Vec<Described>, (ErrorCode, String)> {
    let config = &context.server.shard.config();
    let own = context.server.shard.options.broker.0;
    match name.parse::<i32>() {
        _ if name.is_empty() => describe_broker(config, false).map_err(invalid),
        Ok(id) if id == own => describe_broker(config, true).map_err(invalid),
        Ok(id) => Err((
            ErrorCode::InvalidRequest,
            format!("this is broker {own}: ask broker {id} itself"),
        )),
        Err(_) => Err((
            ErrorCode::InvalidRequest,
            format!("{name:?} is not the number of a broker"),
        )),
    }
}

/// Stored values that this release does not accept.
fn invalid(error: ConfigError) -> (ErrorCode, String) {
    (ErrorCode::InvalidConfig, error.to_string())
}

fn respond(request: &DescribeConfigsRequest, entry: Described) -> DescribeConfigsResourceResult {
    let synonyms = entry.synonyms.iter().map(|synonym| DescribeConfigsSynonym {
        name: synonym.name.into(),
        value: synonym.value.as_deref().map(Text::copy_from),
        source: synonym.source.code(),
    });
    DescribeConfigsResourceResult {
        synonyms: if request.include_synonyms {
            synonyms.collect()
        } else {
            Vec::new()
        },
        documentation: request
            .include_documentation
            .then(|| Text::from_static(entry.doc)),
        name: entry.name.into(),
        value: entry.value.as_deref().map(Text::copy_from),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
        config_type: entry.kind.code(),
    }
}
