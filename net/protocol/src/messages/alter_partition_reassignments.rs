//! AlterPartitionReassignments (key 45), versions 0-1, flexible from 0.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of AlterPartitionReassignments.
    pub struct AlterPartitionReassignmentsRequest {
        timeout_ms: i32, 0+, = 60000;
        allow_replication_factor_change: bool, 1+, = true;
        topics: Vec<ReassignableTopic>, 0+;
    }

    /// `topics` of [`AlterPartitionReassignmentsRequest`].
    pub struct ReassignableTopic {
        name: Text, 0+;
        partitions: Vec<ReassignablePartition>, 0+;
    }

    /// `partitions` of [`ReassignableTopic`].
    pub struct ReassignablePartition {
        partition_index: i32, 0+;
        /// Null: give up the reassignment under way.
        replicas: Option<Vec<i32>>, 0+, null 0+, = None;
    }

    /// Response of AlterPartitionReassignments.
    pub struct AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32, 0+;
        allow_replication_factor_change: bool, 1+, ignorable, = true;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        responses: Vec<ReassignableTopicResponse>, 0+;
    }

    /// `responses` of [`AlterPartitionReassignmentsResponse`].
    pub struct ReassignableTopicResponse {
        name: Text, 0+;
        partitions: Vec<ReassignablePartitionResponse>, 0+;
    }

    /// `partitions` of [`ReassignableTopicResponse`].
    pub struct ReassignablePartitionResponse {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
