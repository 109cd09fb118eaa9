//! DescribeGroups (key 15), versions 0-6, flexible from 5.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use bytes::Bytes;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of DescribeGroups.
    pub struct DescribeGroupsRequest {
        groups: Vec<Text>, 0+;
        include_authorized_operations: bool, 3+;
    }

    /// Response of DescribeGroups.
    pub struct DescribeGroupsResponse {
        throttle_time_ms: i32, 1+, ignorable;
        groups: Vec<DescribedGroup>, 0+;
    }

    /// `groups` of [`DescribeGroupsResponse`].
    pub struct DescribedGroup {
        error_code: i16, 0+;
        error_message: Option<Text>, 6+, null 6+, = None;
        group_id: Text, 0+;
        group_state: Text, 0+;
        protocol_type: Text, 0+;
        protocol_data: Text, 0+;
        members: Vec<DescribedGroupMember>, 0+;
        authorized_operations: i32, 3+, = i32::MIN;
    }

    /// `members` of [`DescribedGroup`].
    pub struct DescribedGroupMember {
        member_id: Text, 0+;
        group_instance_id: Option<Text>, 4+, null 4+, ignorable, = None;
        client_id: Text, 0+;
        client_host: Text, 0+;
        member_metadata: Bytes, 0+;
        member_assignment: Bytes, 0+;
    }
}
