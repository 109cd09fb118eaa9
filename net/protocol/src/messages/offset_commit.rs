//! OffsetCommit (key 8), versions 2-10, flexible from 8.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use model::TopicId;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of OffsetCommit.
    pub struct OffsetCommitRequest {
        group_id: Text, 0+;
        generation_id_or_member_epoch: i32, 1+, ignorable, = -1;
        member_id: Text, 1+, ignorable;
        group_instance_id: Option<Text>, 7+, null 7+, = None;
        retention_time_ms: i64, 2-4, ignorable, = -1;
        topics: Vec<OffsetCommitRequestTopic>, 0+;
    }

    /// `topics` of [`OffsetCommitRequest`].
    pub struct OffsetCommitRequestTopic {
        name: Text, 0-9, ignorable;
        topic_id: TopicId, 10+, ignorable;
        partitions: Vec<OffsetCommitRequestPartition>, 0+;
    }

    /// `partitions` of [`OffsetCommitRequestTopic`].
    pub struct OffsetCommitRequestPartition {
        partition_index: i32, 0+;
        committed_offset: i64, 0+;
        committed_leader_epoch: i32, 6+, ignorable, = -1;
        committed_metadata: Option<Text>, 0+, null 0+;
    }

    /// Response of OffsetCommit.
    pub struct OffsetCommitResponse {
        throttle_time_ms: i32, 3+, ignorable;
        topics: Vec<OffsetCommitResponseTopic>, 0+;
    }

    /// `topics` of [`OffsetCommitResponse`].
    pub struct OffsetCommitResponseTopic {
        name: Text, 0-9, ignorable;
        topic_id: TopicId, 10+, ignorable;
        partitions: Vec<OffsetCommitResponsePartition>, 0+;
    }

    /// `partitions` of [`OffsetCommitResponseTopic`].
    pub struct OffsetCommitResponsePartition {
        partition_index: i32, 0+;
        error_code: i16, 0+;
    }
}
