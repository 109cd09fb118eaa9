//! SyncGroup (key 14), versions 0-5, flexible from 4.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use bytes::Bytes;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of SyncGroup.
    pub struct SyncGroupRequest {
        group_id: Text, 0+;
        generation_id: i32, 0+;
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 3+, null 3+, = None;
        protocol_type: Option<Text>, 5+, null 5+, ignorable, = None;
        protocol_name: Option<Text>, 5+, null 5+, ignorable, = None;
        assignments: Vec<SyncGroupRequestAssignment>, 0+;
    }

    /// `assignments` of [`SyncGroupRequest`].
    pub struct SyncGroupRequestAssignment {
        member_id: Text, 0+;
        assignment: Bytes, 0+;
    }

    /// Response of SyncGroup.
    pub struct SyncGroupResponse {
        throttle_time_ms: i32, 1+, ignorable;
        error_code: i16, 0+;
        protocol_type: Option<Text>, 5+, null 5+, ignorable, = None;
        protocol_name: Option<Text>, 5+, null 5+, ignorable, = None;
        assignment: Bytes, 0+;
    }
}
