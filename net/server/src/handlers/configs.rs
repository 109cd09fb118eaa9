//! What AlterConfigs and IncrementalAlterConfigs share: from wire to the controller and back.
//!
//! One answer per resource of the request, in its order, as Kafka gives them: one that is named twice has two.

use std::collections::BTreeMap;

use metadata::ConfigResourceType;
use metadata::controller::{AlterConfigsRequest, ConfigChange, ConfigResource};
use model::{ErrorCode, ShardId};
use protocol::Text;
use runtime::Io;

use crate::context::Context;
use crate::error_codes::{self, Refused};

/// What is asked for one resource.
pub struct Alteration {
    /// Kafka's number of what kind it is.
    pub resource_type: i8,
    pub resource_name: Text,
    pub changes: Vec<ConfigChange>,
}

/// Error code and text of one resource.
pub type Verdict = (i16, Option<Text>);

/// Changes values, and waits until every shard of this broker has them. `replaces`: what is not set is forgotten.
pub async fn alter<I: Io>(
    context: &Context<'_, I>,
    wanted: Vec<Alteration>,
    replaces: bool,
    validate_only: bool,
) -> Vec<Verdict> {
    let resources: Vec<Result<ConfigResource, Refused>> = wanted
        .iter()
        .map(|alteration| resource(context, alteration))
        .collect();
    let asked = wanted.into_iter().zip(&resources);
    let asked = asked.filter_map(|(alteration, resource)| {
        let resource = resource.as_ref().ok()?;
        Some((resource.clone(), alteration.changes))
    });
    let request = AlterConfigsRequest {
        resources: asked.collect(),
        replaces,
        validate_only,
    };
    let altered = match context.server.shard.ask(ShardId(0), request).await {
        Ok(results) => Ok(results.into_iter().collect::<BTreeMap<_, _>>()),
        Err(refusal) => Err(error_codes::metadata(&refusal)),
    };
    let verdicts = resources.into_iter().map(|resource| {
        let refused = resource.and_then(|resource| match &altered {
            Ok(results) => {
                let result = results.get(&resource).expect("one result per resource");
                result.clone().map_err(error_codes::controller)
            }
            Err(refused) => Err(refused.clone()),
        });
        match refused {
            Ok(()) => (context.code(ErrorCode::None), None),
            Err(error) => (
                context.code(error.code),
                Some(Text::copy_from(&error.message)),
            ),
        }
    });
    verdicts.collect()
}

/// A resource whose values this broker may change: a broker's are the business of that broker.
fn resource<I: Io>(
    context: &Context<'_, I>,
    alteration: &Alteration,
) -> Result<ConfigResource, Refused> {
    let refuse = |message: String| {
        Err(Refused {
            code: ErrorCode::InvalidRequest,
            message,
        })
    };
    let code = alteration.resource_type;
    let Some(kind) = ConfigResourceType::from_code(code) else {
        return refuse(format!("resources of type {code} have no configuration"));
    };
    let name = alteration.resource_name.as_str();
    let own = context.server.shard.options.broker.to_string();
    let is_other = match kind {
        ConfigResourceType::Broker => !name.is_empty() && name != own,
        ConfigResourceType::BrokerLogger => name != own,
        ConfigResourceType::Topic
        | ConfigResourceType::ClientMetrics
        | ConfigResourceType::Group => false,
    };
    if is_other {
        return refuse(format!(
            "this is broker {own}: it does not configure {name:?}"
        ));
    }
    Ok(ConfigResource {
        kind,
        name: name.to_owned(),
    })
}
