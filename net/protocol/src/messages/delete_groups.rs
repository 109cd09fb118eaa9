//! DeleteGroups (key 42), versions 0-2, flexible from 2.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of DeleteGroups.
    pub struct DeleteGroupsRequest {
        groups_names: Vec<Text>, 0+;
    }

    /// Response of DeleteGroups.
    pub struct DeleteGroupsResponse {
        throttle_time_ms: i32, 0+;
        results: Vec<DeletableGroupResult>, 0+;
    }

    /// `results` of [`DeleteGroupsResponse`].
    pub struct DeletableGroupResult {
        group_id: Text, 0+;
        error_code: i16, 0+;
    }
}
