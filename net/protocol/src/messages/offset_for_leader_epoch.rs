//! OffsetForLeaderEpoch (key 23), versions 2-4, flexible from 4.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of OffsetForLeaderEpoch.
    pub struct OffsetForLeaderEpochRequest {
        /// -2: a debugging consumer; -1: a consumer; otherwise the broker that follows.
        replica_id: i32, 3+, ignorable, = -2;
        topics: Vec<OffsetForLeaderTopic>, 0+;
    }

    /// `topics` of [`OffsetForLeaderEpochRequest`].
    pub struct OffsetForLeaderTopic {
        topic: Text, 0+;
        partitions: Vec<OffsetForLeaderPartition>, 0+;
    }

    /// `partitions` of [`OffsetForLeaderTopic`].
    pub struct OffsetForLeaderPartition {
        partition: i32, 0+;
        current_leader_epoch: i32, 2+, ignorable, = -1;
        leader_epoch: i32, 0+;
    }

    /// Response of OffsetForLeaderEpoch.
    pub struct OffsetForLeaderEpochResponse {
        throttle_time_ms: i32, 2+, ignorable;
        topics: Vec<OffsetForLeaderTopicResult>, 0+;
    }

    /// `topics` of [`OffsetForLeaderEpochResponse`].
    pub struct OffsetForLeaderTopicResult {
        topic: Text, 0+;
        partitions: Vec<EpochEndOffset>, 0+;
    }

    /// `partitions` of [`OffsetForLeaderTopicResult`].
    pub struct EpochEndOffset {
        error_code: i16, 0+;
        partition: i32, 0+;
        leader_epoch: i32, 1+, ignorable, = -1;
        end_offset: i64, 0+, = -1;
    }
}
