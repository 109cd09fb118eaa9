//! IncrementalAlterConfigs (key 44): single values set, deleted, and lists added to (KIP-339).

use metadata::controller::{ConfigChange, ConfigOperation};
use protocol::Text;
use protocol::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::configs::{Alteration, alter};

/// Answers when every shard of this broker has the values.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &IncrementalAlterConfigsRequest,
) -> Result<(), ConnectionEnd> {
    let wanted = request.resources.iter().map(alteration).collect();
    let verdicts = alter(context, wanted, false, request.validate_only).await;
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
    context.answer(&IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponse::default()
    })
}

fn alteration(resource: &AlterConfigsResource) -> Alteration {
    let changes = resource.configs.iter().map(|config| ConfigChange {
        name: config.name.as_str().to_owned(),
        operation: ConfigOperation::from_code(config.config_operation),
        value: config
            .value
            .as_ref()
            .map(|text: &Text| text.as_str().to_owned()),
    });
    Alteration {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        changes: changes.collect(),
    }
}
