//! UnregisterBroker (key 64): forgets a broker that was stopped for good (KIP-631).

use model::{BrokerId, ErrorCode, ShardId};
use protocol::Text;
use protocol::unregister_broker::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use runtime::Io;
use shard::request::UnregisterBroker;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;

/// Answers when every shard of this broker has forgotten it.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &UnregisterBrokerRequest,
) -> Result<(), ConnectionEnd> {
    let unregister = UnregisterBroker {
        broker: BrokerId(request.broker_id),
    };
    let refused = match context.server.shard.ask(ShardId(0), unregister).await {
        Ok(result) => result.err().map(error_codes::controller),
        Err(refusal) => Some(error_codes::metadata(&refusal)),
    };
    let code = refused.as_ref().map_or(ErrorCode::None, |one| one.code);
    context.answer(&UnregisterBrokerResponse {
        error_code: context.code(code),
        error_message: refused.map(|one| Text::copy_from(&one.message)),
        ..UnregisterBrokerResponse::default()
    })
}
