//! InitProducerId (key 22): an identity for an idempotent producer (KIP-98, KIP-360).

use model::{ErrorCode, ProducerEpoch, ProducerId};
use protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;

/// Hands out a new id with epoch 0. Transactional producers are refused: there is no transaction coordinator yet.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &InitProducerIdRequest,
) -> Result<(), ConnectionEnd> {
    let identity = match request.transactional_id.as_deref() {
        Some("") => Err(ErrorCode::InvalidRequest),
        // Not retriable, so that the client says so at once; FindCoordinator answers the same.
        Some(_) => Err(ErrorCode::UnsupportedVersion),
        None => {
            let id = context.server.shard.new_producer_id().await;
            id.map_err(|refusal| {
                tracing::warn!(%refusal, "no producer id can be given");
                error_codes::metadata(&refusal).code
            })
        }
    };
    let (error, id, epoch) = match identity {
        Ok(id) => (ErrorCode::None, id, ProducerEpoch(0)),
        Err(error) => (error, ProducerId::NONE, ProducerEpoch::NONE),
    };
    context.answer(&InitProducerIdResponse {
        error_code: context.code(error),
        producer_id: id.0,
        producer_epoch: epoch.0,
        ..InitProducerIdResponse::default()
    })
}
