//! OffsetFetch (key 9), versions 1-10, flexible from 6.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use model::TopicId;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of OffsetFetch.
    pub struct OffsetFetchRequest {
        group_id: Text, 0-7;
        /// Null: all topics of the group.
        topics: Option<Vec<OffsetFetchRequestTopic>>, 0-7, null 2-7;
        groups: Vec<OffsetFetchRequestGroup>, 8+;
        require_stable: bool, 7+;
    }

    /// `topics` of [`OffsetFetchRequest`].
    pub struct OffsetFetchRequestTopic {
        name: Text, 0-7;
        partition_indexes: Vec<i32>, 0-7;
    }

    /// `groups` of [`OffsetFetchRequest`].
    pub struct OffsetFetchRequestGroup {
        group_id: Text, 8+;
        member_id: Option<Text>, 9+, null 9+, ignorable, = None;
        member_epoch: i32, 9+, ignorable, = -1;
        /// Null: all topics of the group.
        topics: Option<Vec<OffsetFetchRequestTopics>>, 8+, null 8+;
    }

    /// `topics` of [`OffsetFetchRequestGroup`].
    pub struct OffsetFetchRequestTopics {
        name: Text, 8-9, ignorable;
        topic_id: TopicId, 10+, ignorable;
        partition_indexes: Vec<i32>, 8+;
    }

    /// Response of OffsetFetch.
    pub struct OffsetFetchResponse {
        throttle_time_ms: i32, 3+, ignorable;
        topics: Vec<OffsetFetchResponseTopic>, 0-7;
        error_code: i16, 2-7, ignorable;
        groups: Vec<OffsetFetchResponseGroup>, 8+;
    }

    /// `topics` of [`OffsetFetchResponse`].
    pub struct OffsetFetchResponseTopic {
        name: Text, 0-7;
        partitions: Vec<OffsetFetchResponsePartition>, 0-7;
    }

    /// `partitions` of [`OffsetFetchResponseTopic`].
    pub struct OffsetFetchResponsePartition {
        partition_index: i32, 0-7;
        /// -1: nothing committed.
        committed_offset: i64, 0-7;
        committed_leader_epoch: i32, 5-7, ignorable, = -1;
        metadata: Option<Text>, 0-7, null 0-7;
        error_code: i16, 0-7;
    }

    /// `groups` of [`OffsetFetchResponse`].
    pub struct OffsetFetchResponseGroup {
        group_id: Text, 8+;
        topics: Vec<OffsetFetchResponseTopics>, 8+;
        error_code: i16, 8+;
    }

    /// `topics` of [`OffsetFetchResponseGroup`].
    pub struct OffsetFetchResponseTopics {
        name: Text, 8-9, ignorable;
        topic_id: TopicId, 10+, ignorable;
        partitions: Vec<OffsetFetchResponsePartitions>, 8+;
    }

    /// `partitions` of [`OffsetFetchResponseTopics`].
    pub struct OffsetFetchResponsePartitions {
        partition_index: i32, 8+;
        /// -1: nothing committed.
        committed_offset: i64, 8+;
        committed_leader_epoch: i32, 8+, ignorable, = -1;
        metadata: Option<Text>, 8+, null 8+;
        error_code: i16, 8+;
    }
}
