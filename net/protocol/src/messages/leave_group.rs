//! LeaveGroup (key 13), versions 0-5, flexible from 4.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of LeaveGroup.
    pub struct LeaveGroupRequest {
        group_id: Text, 0+;
        member_id: Text, 0-2;
        members: Vec<MemberIdentity>, 3+;
    }

    /// `members` of [`LeaveGroupRequest`].
    pub struct MemberIdentity {
        member_id: Text, 3+;
        group_instance_id: Option<Text>, 3+, null 3+, = None;
        reason: Option<Text>, 5+, null 5+, ignorable, = None;
    }

    /// Response of LeaveGroup.
    pub struct LeaveGroupResponse {
        throttle_time_ms: i32, 1+, ignorable;
        error_code: i16, 0+;
        members: Vec<MemberResponse>, 3+;
    }

    /// `members` of [`LeaveGroupResponse`].
    pub struct MemberResponse {
        member_id: Text, 3+;
        group_instance_id: Option<Text>, 3+, null 3+;
        error_code: i16, 3+;
    }
}
