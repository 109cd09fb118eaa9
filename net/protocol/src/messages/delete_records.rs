//! DeleteRecords (key 21), versions 0-2, flexible from 2.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of DeleteRecords.
    pub struct DeleteRecordsRequest {
        topics: Vec<DeleteRecordsTopic>, 0+;
        timeout_ms: i32, 0+;
    }

    /// `topics` of [`DeleteRecordsRequest`].
    pub struct DeleteRecordsTopic {
        name: Text, 0+;
        partitions: Vec<DeleteRecordsPartition>, 0+;
    }

    /// `partitions` of [`DeleteRecordsTopic`].
    pub struct DeleteRecordsPartition {
        partition_index: i32, 0+;
        /// -1: the high watermark.
        offset: i64, 0+;
    }

    /// Response of DeleteRecords.
    pub struct DeleteRecordsResponse {
        throttle_time_ms: i32, 0+;
        topics: Vec<DeleteRecordsTopicResult>, 0+;
    }

    /// `topics` of [`DeleteRecordsResponse`].
    pub struct DeleteRecordsTopicResult {
        name: Text, 0+;
        partitions: Vec<DeleteRecordsPartitionResult>, 0+;
    }

    /// `partitions` of [`DeleteRecordsTopicResult`].
    pub struct DeleteRecordsPartitionResult {
        partition_index: i32, 0+;
        low_watermark: i64, 0+;
        error_code: i16, 0+;
    }
}
