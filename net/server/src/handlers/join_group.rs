//! JoinGroup (key 11): becoming a member, or staying one (KIP-62, KIP-345, KIP-394, KIP-559, KIP-814).

use std::net::SocketAddr;

use bytes::Bytes;
use coordinator::{JoinGroupReply, JoinProtocol};
use protocol::Text;
use protocol::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use runtime::{Io, Stream};

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::groups;

/// From here on a new member is first given an id to come back with.
const VERSION_WITH_KNOWN_MEMBER_ID: i16 = 4;
/// Before it, the name of the protocol cannot be null.
const VERSION_WITH_NULL_PROTOCOL: i16 = 7;
/// From here on a leader can be told to keep the assignment that exists.
const VERSION_WITH_SKIPPED_ASSIGNMENT: i16 = 9;

/// Answers when the group has met. This connection does nothing else meanwhile, as with Kafka.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: JoinGroupRequest,
) -> Result<(), ConnectionEnd> {
    let io = &context.server.io;
    let mut bits = [0; 16];
    bits[..8].copy_from_slice(&io.random().to_be_bytes());
    bits[8..].copy_from_slice(&io.random().to_be_bytes());
    let client = Client {
        id: context.header.client_id.as_ref(),
        address: context.connection.stream.peer_addr().ok(),
        member_id_bits: bits,
    };
    let join = to_coordinator(&request, context.version(), &client);
    let reply = groups::ask(context, &request.group_id, join).await;
    let response = to_wire(reply, context.version());
    context.count_codes([response.error_code]);
    context.answer(&response)
}

struct Client<'a> {
    id: Option<&'a Text>,
    address: Option<SocketAddr>,
    member_id_bits: [u8; 16],
}

fn to_coordinator(
    request: &JoinGroupRequest,
    version: i16,
    client: &Client<'_>,
) -> coordinator::JoinGroupRequest {
    let protocols = request.protocols.iter().map(|protocol| JoinProtocol {
        name: protocol.name.as_str().to_owned(),
        // A member outlives its request: it must not keep the whole frame.
        metadata: Bytes::copy_from_slice(&protocol.metadata),
    });
    let host = client.address.map(|address| address.ip().to_canonical());
    coordinator::JoinGroupRequest {
        group_id: request.group_id.as_str().to_owned(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        member_id: request.member_id.as_str().to_owned(),
        group_instance_id: groups::owned(request.group_instance_id.as_ref()),
        protocol_type: request.protocol_type.as_str().to_owned(),
        protocols: protocols.collect(),
        client_id: groups::owned(client.id).unwrap_or_default(),
        client_host: host.map_or_else(String::new, |host| format!("/{host}")),
        member_id_bits: client.member_id_bits,
        requires_known_member_id: version >= VERSION_WITH_KNOWN_MEMBER_ID,
        may_skip_assignment: version >= VERSION_WITH_SKIPPED_ASSIGNMENT,
    }
}

fn to_wire(reply: JoinGroupReply, version: i16) -> JoinGroupResponse {
    let members = reply.members.into_iter();
    let members = members.map(|member| JoinGroupResponseMember {
        member_id: member.member_id.into(),
        group_instance_id: member.group_instance_id.map(Text::from),
        metadata: member.metadata,
    });
    JoinGroupResponse {
        error_code: error_codes::group(reply.error).code(),
        generation_id: reply.generation_id,
        protocol_type: reply.protocol_type.map(Text::from),
        protocol_name: match reply.protocol_name {
            None if version < VERSION_WITH_NULL_PROTOCOL => Some(Text::EMPTY),
            name => name.map(Text::from),
        },
        leader: reply.leader.into(),
        skip_assignment: reply.skip_assignment && version >= VERSION_WITH_SKIPPED_ASSIGNMENT,
        member_id: reply.member_id.into(),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use coordinator::JoinedMember;

    use super::*;

    #[test]
    fn versions_choose_what_the_coordinator_may_do() {
        let table = [
            (0, false, false),
            (3, false, false),
            (4, true, false),
            (9, true, true),
        ];
        let client = Client {
            id: None,
            address: Some("[::ffff:10.0.0.1]:9".parse().unwrap()),
            member_id_bits: [7; 16],
        };
        for (version, requires_known_member_id, may_skip_assignment) in table {
            let join = to_coordinator(&JoinGroupRequest::default(), version, &client);
            assert_eq!(
                join.requires_known_member_id, requires_known_member_id,
                "{version}"
            );
            assert_eq!(join.may_skip_assignment, may_skip_assignment, "{version}");
            assert_eq!(join.client_host, "/10.0.0.1");
            assert_eq!(
                join.rebalance_timeout_ms, -1,
                "a field that version 0 lacks"
            );
        }
    }

    #[test]
    fn every_version_can_express_every_reply() {
        let member = JoinedMember {
            member_id: "m".into(),
            group_instance_id: Some("i".into()),
            metadata: Bytes::from_static(b"s"),
        };
        let reply = JoinGroupReply {
            error: None,
            generation_id: 3,
            protocol_type: None,
            protocol_name: None,
            leader: "m".into(),
            skip_assignment: true,
            member_id: "m".into(),
            members: vec![member],
        };
        for version in 0..=9 {
            let response = to_wire(reply.clone(), version);
            assert_eq!(response.skip_assignment, version == 9, "{version}");
            assert!(
                protocol::encode_response_message(1, version, &response).is_ok(),
                "{version}"
            );
        }
    }
}
