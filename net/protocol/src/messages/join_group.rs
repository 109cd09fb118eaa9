//! JoinGroup (key 11), versions 0-9, flexible from 6.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use bytes::Bytes;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of JoinGroup.
    pub struct JoinGroupRequest {
        group_id: Text, 0+;
        session_timeout_ms: i32, 0+;
        rebalance_timeout_ms: i32, 1+, ignorable, = -1;
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 5+, null 5+, = None;
        protocol_type: Text, 0+;
        protocols: Vec<JoinGroupRequestProtocol>, 0+;
        reason: Option<Text>, 8+, null 8+, ignorable, = None;
    }

    /// `protocols` of [`JoinGroupRequest`].
    pub struct JoinGroupRequestProtocol {
        name: Text, 0+;
        metadata: Bytes, 0+;
    }

    /// Response of JoinGroup.
    pub struct JoinGroupResponse {
        throttle_time_ms: i32, 2+, ignorable;
        error_code: i16, 0+;
        generation_id: i32, 0+, = -1;
        protocol_type: Option<Text>, 7+, null 7+, ignorable, = None;
        protocol_name: Option<Text>, 0+, null 7+;
        leader: Text, 0+;
        skip_assignment: bool, 9+;
        member_id: Text, 0+;
        members: Vec<JoinGroupResponseMember>, 0+;
    }

    /// `members` of [`JoinGroupResponse`].
    pub struct JoinGroupResponseMember {
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 5+, null 5+, ignorable, = None;
        metadata: Bytes, 0+;
    }
}
