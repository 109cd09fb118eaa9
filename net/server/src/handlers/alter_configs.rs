//! AlterConfigs (key 33): all values of a resource at once; what is not named is forgotten (KIP-133).

use std::collections::BTreeMap;

use metadata::controller::{ConfigChange, ConfigOperation};
use protocol::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource, AlterConfigsResourceResponse, AlterConfigsResponse,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::configs::{Alteration, alter};

/// Answers when every shard of this broker has the values.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &AlterConfigsRequest,
) -> Result<(), ConnectionEnd> {
    let wanted = request.resources.iter().map(alteration).collect();
    let verdicts = alter(context, wanted, true, request.validate_only).await;
    let responses = request.resources.iter().zip(verdicts);
    let responses =
        responses.map(
            |(resource, (error_code, error_message))| AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name.clone(),
            },
        );
    context.answer(&AlterConfigsResponse {
        responses: responses.collect(),
        ..AlterConfigsResponse::default()
    })
}

/// Of a key that is named twice the last value counts, as in Kafka.
fn alteration(resource: &AlterConfigsResource) -> Alteration {
    let values = resource.configs.iter();
    let values: BTreeMap<_, _> = values
        .map(|config| (config.name.as_str(), config.value.as_ref()))
        .collect();
    let changes = values.into_iter().map(|(name, value)| ConfigChange {
        name: name.to_owned(),
        operation: Some(ConfigOperation::Set),
        value: value.map(|text| text.as_str().to_owned()),
    });
    Alteration {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        changes: changes.collect(),
    }
}
