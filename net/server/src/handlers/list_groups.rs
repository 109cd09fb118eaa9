//! ListGroups (key 16): all groups that this broker coordinates (KIP-518, KIP-848).

use coordinator::ListGroupsReply;
use protocol::Text;
use protocol::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;

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
    let replies = context.server.shard.ask_all(&list).await;
    let response = to_wire(replies);
    context.count_codes([response.error_code]);
    context.answer(&response)
}

fn to_wire(replies: Vec<ListGroupsReply>) -> ListGroupsResponse {
    let mut whole = ListGroupsReply::empty();
    for reply in replies {
        whole.absorb(reply);
    }
    let groups = whole.groups.into_iter().map(|group| ListedGroup {
        group_id: group.group_id.into(),
        protocol_type: group.protocol_type.into(),
        group_state: group.state.into(),
        group_type: group.group_type.into(),
    });
    ListGroupsResponse {
        error_code: error_codes::group(whole.error).code(),
        groups: groups.collect(),
        ..ListGroupsResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use coordinator::GroupError;

    use super::*;

    fn reply(group: &str, error: Option<GroupError>) -> ListGroupsReply {
        let listed = coordinator::ListedGroup {
            group_id: group.to_owned(),
            protocol_type: "consumer".into(),
            state: "Stable",
            group_type: "classic",
        };
        ListGroupsReply {
            error,
            groups: vec![listed],
        }
    }

    #[test]
    fn shards_are_put_together_and_one_that_loads_refuses_the_list() {
        let (none, loading) = (None, Some(GroupError::CoordinatorLoadInProgress));
        for (second, expected) in [(none, (0, 2)), (loading, (14, 0))] {
            let response = to_wire(vec![reply("a", none), reply("b", second)]);
            assert_eq!((response.error_code, response.groups.len()), expected);
            for version in 0..=5 {
                assert!(protocol::encode_response_message(1, version, &response).is_ok());
            }
        }
    }
}
