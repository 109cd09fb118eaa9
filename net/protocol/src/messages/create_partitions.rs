//! CreatePartitions (key 37), versions 0-3, flexible from 2.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of CreatePartitions.
    pub struct CreatePartitionsRequest {
        topics: Vec<CreatePartitionsTopic>, 0+;
        timeout_ms: i32, 0+;
        validate_only: bool, 0+;
    }

    /// `topics` of [`CreatePartitionsRequest`].
    pub struct CreatePartitionsTopic {
        name: Text, 0+;
        /// How many there shall be, not how many to add.
        count: i32, 0+;
        assignments: Option<Vec<CreatePartitionsAssignment>>, 0+, null 0+;
    }

    /// `assignments` of [`CreatePartitionsTopic`].
    pub struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>, 0+;
    }

    /// Response of CreatePartitions.
    pub struct CreatePartitionsResponse {
        throttle_time_ms: i32, 0+;
        results: Vec<CreatePartitionsTopicResult>, 0+;
    }

    /// `results` of [`CreatePartitionsResponse`].
    pub struct CreatePartitionsTopicResult {
        name: Text, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+, = None;
    }
}
