//! Heartbeat (key 12): a member is alive, and learns of a rebalance.

use protocol::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::groups;

/// Answers from the group's coordinator.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: HeartbeatRequest,
) -> Result<(), ConnectionEnd> {
    let heartbeat = coordinator::HeartbeatRequest {
        group_id: request.group_id.as_str().to_owned(),
        generation_id: request.generation_id,
        member_id: request.member_id.as_str().to_owned(),
        group_instance_id: groups::owned(request.group_instance_id.as_ref()),
    };
    let error = groups::ask(context, &request.group_id, heartbeat).await;
    context.answer(&HeartbeatResponse {
        error_code: context.code(error_codes::group(error)),
        ..HeartbeatResponse::default()
    })
}
