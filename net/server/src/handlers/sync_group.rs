//! SyncGroup (key 14): the leader hands in the assignment, everybody gets theirs (KIP-62, KIP-345, KIP-559).

use bytes::Bytes;
use model::ErrorCode;
use protocol::Text;
use protocol::sync_group::{SyncGroupRequest, SyncGroupResponse};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::groups;

/// From here on a member says what it believes the group's protocol to be, and must.
const VERSION_WITH_PROTOCOL: i16 = 5;

/// Answers when the leader's assignment is durable. This connection does nothing else meanwhile, as with Kafka.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: SyncGroupRequest,
) -> Result<(), ConnectionEnd> {
    if lacks_protocol(&request, context.version()) {
        return context.answer(&SyncGroupResponse {
            error_code: context.code(ErrorCode::InconsistentGroupProtocol),
            ..SyncGroupResponse::default()
        });
    }
    let reply = groups::ask(context, &request.group_id, to_coordinator(&request)).await;
    context.answer(&SyncGroupResponse {
        error_code: context.code(error_codes::group(reply.error)),
        protocol_type: reply.protocol_type.map(Text::from),
        protocol_name: reply.protocol_name.map(Text::from),
        assignment: reply.assignment,
        ..SyncGroupResponse::default()
    })
}

fn lacks_protocol(request: &SyncGroupRequest, version: i16) -> bool {
    let both = request.protocol_type.is_some() && request.protocol_name.is_some();
    version >= VERSION_WITH_PROTOCOL && !both
}

fn to_coordinator(request: &SyncGroupRequest) -> coordinator::SyncGroupRequest {
    let assignments = request.assignments.iter().map(|one| {
        // An assignment outlives its request: it must not keep the whole frame.
        let assignment = Bytes::copy_from_slice(&one.assignment);
        (one.member_id.as_str().to_owned(), assignment)
    });
    coordinator::SyncGroupRequest {
        group_id: request.group_id.as_str().to_owned(),
        generation_id: request.generation_id,
        member_id: request.member_id.as_str().to_owned(),
        group_instance_id: groups::owned(request.group_instance_id.as_ref()),
        protocol_type: groups::owned(request.protocol_type.as_ref()),
        protocol_name: groups::owned(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_is_mandatory_from_version_five() {
        let some = Some(Text::from("x"));
        let table = [
            (4, None, None, false),
            (5, None, None, true),
            (5, some.clone(), None, true),
            (5, None, some.clone(), true),
            (5, some.clone(), some, false),
        ];
        for (version, protocol_type, protocol_name, lacks) in table {
            let request = SyncGroupRequest {
                protocol_type,
                protocol_name,
                ..SyncGroupRequest::default()
            };
            assert_eq!(
                lacks_protocol(&request, version),
                lacks,
                "{version} {request:?}"
            );
        }
    }
}
