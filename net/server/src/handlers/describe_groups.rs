//! DescribeGroups (key 15): states and members of groups (KIP-430, KIP-1043).

use coordinator::DescribedGroup;
use protocol::Text;
use protocol::describe_groups::{
    self as wire, DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroupMember,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::{groups, topics};

/// From here on clients know GROUP_ID_NOT_FOUND, and there is room for a message.
const VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 6;

/// Answers from the groups' coordinators.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: DescribeGroupsRequest,
) -> Result<(), ConnectionEnd> {
    let version = context.version();
    let describe = |groups| coordinator::DescribeGroupsRequest {
        groups,
        knows_group_id_not_found: version >= VERSION_WITH_GROUP_ID_NOT_FOUND,
    };
    let described = groups::ask_each(context, &request.groups, describe);
    let described = described.await.into_iter();
    let groups =
        described.map(|group| to_wire(group, version, request.include_authorized_operations));
    let response = DescribeGroupsResponse {
        groups: groups.collect(),
        ..DescribeGroupsResponse::default()
    };
    context.count_codes(response.groups.iter().map(|group| group.error_code));
    context.answer(&response)
}

fn to_wire(group: DescribedGroup, version: i16, with_operations: bool) -> wire::DescribedGroup {
    let members = group
        .members
        .into_iter()
        .map(|member| DescribedGroupMember {
            member_id: member.member_id.into(),
            group_instance_id: member.group_instance_id.map(Text::from),
            client_id: member.client_id.into(),
            client_host: member.client_host.into(),
            member_metadata: member.metadata,
            member_assignment: member.assignment,
        });
    wire::DescribedGroup {
        error_code: error_codes::group(group.error).code(),
        error_message: match version {
            VERSION_WITH_GROUP_ID_NOT_FOUND.. => group.error_message.map(Text::from),
            _ => None,
        },
        group_id: group.group_id.into(),
        group_state: group.state.into(),
        protocol_type: group.protocol_type.into(),
        protocol_data: group.protocol_data.into(),
        members: members.collect(),
        authorized_operations: match with_operations && group.error.is_none() {
            true => groups::GROUP_OPERATIONS,
            false => topics::OPERATIONS_OMITTED,
        },
    }
}

#[cfg(test)]
mod tests {
    use coordinator::GroupError;

    use super::*;

    #[test]
    fn every_version_can_express_an_unknown_group() {
        let group = DescribedGroup {
            error: Some(GroupError::GroupIdNotFound),
            error_message: Some("there is none".into()),
            group_id: "g".into(),
            state: "Dead",
            protocol_type: String::new(),
            protocol_data: String::new(),
            members: Vec::new(),
        };
        for version in 0..=6 {
            let described = to_wire(group.clone(), version, version >= 3);
            assert_eq!(described.error_message.is_some(), version == 6, "{version}");
            assert_eq!(described.authorized_operations, topics::OPERATIONS_OMITTED);
            let response = DescribeGroupsResponse {
                groups: vec![described],
                ..DescribeGroupsResponse::default()
            };
            assert!(
                protocol::encode_response_message(1, version, &response).is_ok(),
                "{version}"
            );
        }
    }
}
