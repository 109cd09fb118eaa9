//! ListPartitionReassignments (key 46), version 0, flexible from 0.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of ListPartitionReassignments.
    pub struct ListPartitionReassignmentsRequest {
        timeout_ms: i32, 0+, = 60000;
        /// Null: all of them.
        topics: Option<Vec<ListPartitionReassignmentsTopics>>, 0+, null 0+, = None;
    }

    /// `topics` of [`ListPartitionReassignmentsRequest`].
    pub struct ListPartitionReassignmentsTopics {
        name: Text, 0+;
        partition_indexes: Vec<i32>, 0+;
    }

    /// Response of ListPartitionReassignments.
    pub struct ListPartitionReassignmentsResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
        topics: Vec<OngoingTopicReassignment>, 0+;
    }

    /// `topics` of [`ListPartitionReassignmentsResponse`].
    pub struct OngoingTopicReassignment {
        name: Text, 0+;
        partitions: Vec<OngoingPartitionReassignment>, 0+;
    }

    /// `partitions` of [`OngoingTopicReassignment`].
    pub struct OngoingPartitionReassignment {
        partition_index: i32, 0+;
        replicas: Vec<i32>, 0+;
        adding_replicas: Vec<i32>, 0+;
        removing_replicas: Vec<i32>, 0+;
    }
}
