//! ListGroups (key 16), versions 0-5, flexible from 3.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of ListGroups.
    pub struct ListGroupsRequest {
        states_filter: Vec<Text>, 4+;
        types_filter: Vec<Text>, 5+;
    }

    /// Response of ListGroups.
    pub struct ListGroupsResponse {
        throttle_time_ms: i32, 1+, ignorable;
        error_code: i16, 0+;
        groups: Vec<ListedGroup>, 0+;
    }

    /// `groups` of [`ListGroupsResponse`].
    pub struct ListedGroup {
        group_id: Text, 0+;
        protocol_type: Text, 0+;
        group_state: Text, 4+, ignorable;
        group_type: Text, 5+, ignorable;
    }
}
