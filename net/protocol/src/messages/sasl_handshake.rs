//! SaslHandshake (key 17), versions 0-1, flexible never.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of SaslHandshake.
    pub struct SaslHandshakeRequest {
        mechanism: Text, 0+;
    }

    /// Response of SaslHandshake.
    pub struct SaslHandshakeResponse {
        error_code: i16, 0+;
        mechanisms: Vec<Text>, 0+;
    }
}
