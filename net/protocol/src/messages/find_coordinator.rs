//! FindCoordinator (key 10), versions 0-6, flexible from 3.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of FindCoordinator.
    pub struct FindCoordinatorRequest {
        key: Text, 0-3;
        /// 0: group, 1: transaction, 2: share group.
        key_type: i8, 1+;
        coordinator_keys: Vec<Text>, 4+;
    }

    /// Response of FindCoordinator.
    pub struct FindCoordinatorResponse {
        throttle_time_ms: i32, 1+, ignorable;
        error_code: i16, 0-3;
        error_message: Option<Text>, 1-3, null 1-3, ignorable;
        node_id: i32, 0-3;
        host: Text, 0-3;
        port: i32, 0-3;
        coordinators: Vec<Coordinator>, 4+;
    }

    /// `coordinators` of [`FindCoordinatorResponse`].
    pub struct Coordinator {
        key: Text, 4+;
        node_id: i32, 4+;
        host: Text, 4+;
        port: i32, 4+;
        error_code: i16, 4+;
        error_message: Option<Text>, 4+, null 4+, ignorable;
    }
}
