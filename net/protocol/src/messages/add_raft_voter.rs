//! AddRaftVoter (key 80), versions 0-1, flexible from 0.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;
use crate::wire::Uuid;

schema! {
    /// Request of AddRaftVoter.
    pub struct AddRaftVoterRequest {
        cluster_id: Option<Text>, 0+, null 0+;
        timeout_ms: i32, 0+;
        voter_id: i32, 0+;
        voter_directory_id: Uuid, 0+;
        listeners: Vec<AddRaftVoterListener>, 0+;
        /// False: the answer may come before the voters have agreed.
        ack_when_committed: bool, 1+, = true;
    }

    /// `listeners` of [`AddRaftVoterRequest`].
    pub struct AddRaftVoterListener {
        name: Text, 0+;
        host: Text, 0+;
        port: u16, 0+;
    }

    /// Response of AddRaftVoter.
    pub struct AddRaftVoterResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+, ignorable;
    }
}
