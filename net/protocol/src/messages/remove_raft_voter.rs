//! RemoveRaftVoter (key 81), version 0, flexible from 0.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;
use crate::wire::Uuid;

schema! {
    /// Request of RemoveRaftVoter.
    pub struct RemoveRaftVoterRequest {
        cluster_id: Option<Text>, 0+, null 0+;
        voter_id: i32, 0+;
        voter_directory_id: Uuid, 0+;
    }

    /// Response of RemoveRaftVoter.
    pub struct RemoveRaftVoterResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+, ignorable;
    }
}
