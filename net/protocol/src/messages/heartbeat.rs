//! Heartbeat (key 12), versions 0-4, flexible from 4.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of Heartbeat.
    pub struct HeartbeatRequest {
        group_id: Text, 0+;
        generation_id: i32, 0+;
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 3+, null 3+, = None;
    }

    /// Response of Heartbeat.
    pub struct HeartbeatResponse {
        throttle_time_ms: i32, 1+, ignorable;
        error_code: i16, 0+;
    }
}
