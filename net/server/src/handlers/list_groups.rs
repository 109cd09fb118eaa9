//! ListGroups (key 16): all groups that this broker coordinates (KIP-518, KIP-848).

use coordinator::GroupReply;
use model::ErrorCode;
use protocol::Text;
use protocol::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use runtime::Io;
use shard::coordinator_host::GroupWork;
use shard::message::ShardRequest;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::groups;

/// Answers from the coordinators of all shards. While one of them loads, the list would have holes: it is refused.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: ListGroupsRequest,
) -> Result<(), ConnectionEnd> {
    let strings = |texts: &[Text]| -> Vec<String> {
        let texts = texts.iter();
        texts.map(|text| text.as_str().to_owned()).collect()
    };
    let list = coordinator::ListGroupsRequest {
        states: strings(&request.states_filter),
        types: strings(&request.types_filter),
    };
    let shard = &context.server.shard;
    let replies = shard.call_all(|| ShardRequest::Group(GroupWork::List(list.clone())));
    let replies = replies.await.into_iter().map(groups::group_reply);
    let response = to_wire(replies);
    context.count_codes([response.error_code]);
    context.answer(&response)
}

fn to_wire(replies: impl Iterator<Item = GroupReply>) -> ListGroupsResponse {
    let mut groups = Vec::new();
    for reply in replies {
        match reply {
            GroupReply::List {
                error: ErrorCode::None,
                groups: listed,
            } => groups.extend(listed),
            GroupReply::List { error, .. } => {
                return ListGroupsResponse {
                    error_code: error.code(),
                    ..ListGroupsResponse::default()
                };
            }
            other => unreachable!("a coordinator answered ListGroups with {other:?}"),
        }
    }
    let groups = groups.into_iter().map(|group| ListedGroup {
        group_id: group.group_id.into(),
        protocol_type: group.protocol_type.into(),
        group_state: group.state.into(),
        group_type: group.group_type.into(),
    });
    ListGroupsResponse {
        groups: groups.collect(),
        ..ListGroupsResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(group: &str, error: ErrorCode) -> GroupReply {
        let listed = coordinator::ListedGroup {
            group_id: group.to_owned(),
            protocol_type: "consumer".into(),
            state: "Stable",
            group_type: "classic",
        };
        GroupReply::List {
            error,
            groups: vec![listed],
        }
    }

    #[test]
    fn shards_are_put_together_and_one_that_loads_refuses_the_list() {
        let (none, loading) = (ErrorCode::None, ErrorCode::CoordinatorLoadInProgress);
        for (second, expected) in [(none, (0, 2)), (loading, (14, 0))] {
            let response = to_wire([reply("a", none), reply("b", second)].into_iter());
            assert_eq!((response.error_code, response.groups.len()), expected);
            for version in 0..=5 {
                assert!(protocol::encode_response_message(1, version, &response).is_ok());
            }
        }
    }
}
