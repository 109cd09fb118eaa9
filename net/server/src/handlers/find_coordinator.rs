//! FindCoordinator (key 10): which broker coordinates a group (KIP-98, KIP-699).

use metadata::controller::{self, CreateTopicsRequest};
use model::{ErrorCode, ShardId};
use protocol::Text;
use protocol::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::{groups, topics};

/// From this version on a request names several keys.
const VERSION_WITH_KEYS: i16 = 4;

/// What a key names.
const KIND_GROUP: i8 = 0;
const KIND_TRANSACTION: i8 = 1;

/// The error of one key, with a text for people.
type Refusal = (ErrorCode, &'static str);

/// Answers from the image. The first question about a group creates the topic of committed offsets.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &FindCoordinatorRequest,
) -> Result<(), ConnectionEnd> {
    let ready = match check_kind(request.key_type) {
        Ok(()) => ensure_offsets_topic(context).await,
        Err(refusal) => Err(refusal),
    };
    let find = |key: &Text| match ready.and_then(|()| leader(context, key)) {
        Ok(address) => Coordinator {
            key: key.clone(),
            node_id: address.id.0,
            host: address.host,
            port: address.port,
            error_message: Some(Text::EMPTY),
            ..Coordinator::default()
        },
        Err((error, message)) => Coordinator {
            key: key.clone(),
            node_id: -1,
            port: -1,
            error_code: context.code(error),
            error_message: Some(message.into()),
            ..Coordinator::default()
        },
    };
    if context.version() >= VERSION_WITH_KEYS {
        return context.answer(&FindCoordinatorResponse {
            coordinators: request.coordinator_keys.iter().map(find).collect(),
            ..FindCoordinatorResponse::default()
        });
    }
    let found = find(&request.key);
    context.answer(&FindCoordinatorResponse {
        error_code: found.error_code,
        // What Kafka says when there is nothing to say.
        error_message: match found.error_code {
            0 => Some("NONE".into()),
            _ => found.error_message,
        },
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    })
}

/// Kafka names a broker for transactional ids too. There is no transaction coordinator here, and naming one would only
/// move the failure to a request that cannot explain it. The error is one that clients do not retry.
fn check_kind(kind: i8) -> Result<(), Refusal> {
    match kind {
        KIND_GROUP => Ok(()),
        KIND_TRANSACTION => Err((
            ErrorCode::UnsupportedVersion,
            "this release does not support transactions",
        )),
        _ => Err((
            ErrorCode::InvalidRequest,
            "there is no coordinator of this kind",
        )),
    }
}

async fn ensure_offsets_topic<I: Io>(context: &Context<'_, I>) -> Result<(), Refusal> {
    let shard = &context.server.shard;
    if groups::partition_of(&shard.image(), "").is_some() {
        return Ok(());
    }
    let create = CreateTopicsRequest {
        topics: vec![groups::offsets_topic(context)],
        ..CreateTopicsRequest::default()
    };
    let created = shard.ask(ShardId(0), create).await;
    let results = created.map_err(|refusal| {
        tracing::error!(%refusal, "the topic of committed offsets cannot be created");
        NOT_CREATED
    })?;
    for (topic, result) in results {
        match result {
            Ok(_) => tracing::info!(topic, "created for the first group"),
            // Another connection was first.
            Err(error) if error.refusal == controller::Refusal::TopicAlreadyExists => {}
            Err(error) => {
                tracing::error!(topic, %error, "not created");
                return Err(NOT_CREATED);
            }
        }
    }
    Ok(())
}

const NOT_CREATED: Refusal = (
    ErrorCode::CoordinatorNotAvailable,
    "the topic of committed offsets cannot be created",
);

fn leader<I: Io>(context: &Context<'_, I>, group_id: &str) -> Result<topics::Address, Refusal> {
    let image = context.server.shard.image();
    let partition = groups::partition_of(&image, group_id);
    let state = partition.and_then(|partition| image.partition(partition));
    let leader = state.and_then(|state| image.broker(state.leader?));
    leader
        .filter(|broker| broker.is_active())
        .and_then(|broker| topics::address(context, broker))
        .ok_or((
            ErrorCode::CoordinatorNotAvailable,
            "the coordinator of the group is not available",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_have_a_coordinator() {
        let table = [
            (0, None),
            (1, Some(ErrorCode::UnsupportedVersion)),
            (2, Some(ErrorCode::InvalidRequest)),
            (7, Some(ErrorCode::InvalidRequest)),
            (-1, Some(ErrorCode::InvalidRequest)),
        ];
        for (kind, expected) in table {
            assert_eq!(
                check_kind(kind).err().map(|refusal| refusal.0),
                expected,
                "{kind}"
            );
        }
    }
}
