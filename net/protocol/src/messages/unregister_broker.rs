//! UnregisterBroker (key 64), version 0, flexible from 0.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of UnregisterBroker.
    pub struct UnregisterBrokerRequest {
        broker_id: i32, 0+;
    }

    /// Response of UnregisterBroker.
    pub struct UnregisterBrokerResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
