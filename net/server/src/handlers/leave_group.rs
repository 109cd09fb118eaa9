//! LeaveGroup (key 13): members go, by themselves or removed by an administrator (KIP-345).

use coordinator::{LeaveGroupReply, LeavingMember};
use protocol::Text;
use protocol::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::groups;

/// From here on a request names several members, and each has an error of its own.
const VERSION_WITH_MEMBERS: i16 = 3;

/// Answers from the group's coordinator.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: LeaveGroupRequest,
) -> Result<(), ConnectionEnd> {
    let leave = to_coordinator(&request, context.version());
    let reply = groups::ask(context, &request.group_id, leave).await;
    let response = to_wire(reply, context.version());
    context.count_codes([response.error_code]);
    context.count_codes(response.members.iter().map(|member| member.error_code));
    context.answer(&response)
}

fn to_coordinator(request: &LeaveGroupRequest, version: i16) -> coordinator::LeaveGroupRequest {
    let members = if version < VERSION_WITH_MEMBERS {
        vec![LeavingMember {
            member_id: request.member_id.as_str().to_owned(),
            group_instance_id: None,
        }]
    } else {
        let members = request.members.iter().map(|member| LeavingMember {
            member_id: member.member_id.as_str().to_owned(),
            group_instance_id: groups::owned(member.group_instance_id.as_ref()),
        });
        members.collect()
    };
    coordinator::LeaveGroupRequest {
        group_id: request.group_id.as_str().to_owned(),
        members,
    }
}

fn to_wire(reply: LeaveGroupReply, version: i16) -> LeaveGroupResponse {
    if version < VERSION_WITH_MEMBERS {
        return LeaveGroupResponse {
            error_code: error_codes::group(reply.single_error()).code(),
            ..LeaveGroupResponse::default()
        };
    }
    let members = reply.members.into_iter().map(|member| MemberResponse {
        member_id: member.member_id.into(),
        group_instance_id: member.group_instance_id.map(Text::from),
        error_code: error_codes::group(member.error).code(),
    });
    LeaveGroupResponse {
        error_code: error_codes::group(reply.error).code(),
        members: members.collect(),
        ..LeaveGroupResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use coordinator::{GroupError, LeftMember};

    use super::*;

    #[test]
    fn an_old_version_shows_the_error_of_its_only_member() {
        let reply = |error, member| LeaveGroupReply {
            error,
            members: vec![LeftMember {
                member_id: "m".into(),
                group_instance_id: None,
                error: member,
            }],
        };
        let unknown = Some(GroupError::UnknownMemberId);
        let elsewhere = Some(GroupError::NotCoordinator);
        let table = [
            (2, None, None, None, 0),
            (2, None, unknown, unknown, 0),
            (2, elsewhere, unknown, elsewhere, 0),
            (3, None, unknown, None, 1),
        ];
        for (version, error, member, shown, members) in table {
            let response = to_wire(reply(error, member), version);
            assert_eq!(
                response.error_code,
                error_codes::group(shown).code(),
                "{version} {error:?} {member:?}"
            );
            assert_eq!(response.members.len(), members);
            assert!(protocol::encode_response_message(1, version, &response).is_ok());
        }
    }

    #[test]
    fn an_old_version_names_its_member_at_the_top() {
        let request = LeaveGroupRequest {
            member_id: "m".into(),
            ..LeaveGroupRequest::default()
        };
        assert_eq!(to_coordinator(&request, 2).members[0].member_id, "m");
        assert!(to_coordinator(&request, 3).members.is_empty());
    }
}
