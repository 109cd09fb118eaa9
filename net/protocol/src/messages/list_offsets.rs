//! ListOffsets (key 2), versions 1-11, flexible from 6.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of ListOffsets.
    pub struct ListOffsetsRequest {
        replica_id: i32, 0+;
        isolation_level: i8, 2+;
        topics: Vec<ListOffsetsTopic>, 0+;
        timeout_ms: i32, 10+, ignorable;
    }

    /// `topics` of [`ListOffsetsRequest`].
    pub struct ListOffsetsTopic {
        name: Text, 0+;
        partitions: Vec<ListOffsetsPartition>, 0+;
    }

    /// `partitions` of [`ListOffsetsTopic`].
    pub struct ListOffsetsPartition {
        partition_index: i32, 0+;
        current_leader_epoch: i32, 4+, ignorable, = -1;
        /// From 0: the first record as late as this. -1 latest, -2 earliest, -3 largest timestamp (7+), -4 earliest
        /// local (8+), -5 latest tiered (9+), -6 earliest pending upload (11+).
        timestamp: i64, 0+;
    }

    /// Response of ListOffsets.
    pub struct ListOffsetsResponse {
        throttle_time_ms: i32, 2+, ignorable;
        topics: Vec<ListOffsetsTopicResponse>, 0+;
    }

    /// `topics` of [`ListOffsetsResponse`].
    pub struct ListOffsetsTopicResponse {
        name: Text, 0+;
        partitions: Vec<ListOffsetsPartitionResponse>, 0+;
    }

    /// `partitions` of [`ListOffsetsTopicResponse`].
    pub struct ListOffsetsPartitionResponse {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        timestamp: i64, 1+, = -1;
        offset: i64, 1+, = -1;
        leader_epoch: i32, 4+, = -1;
    }
}
