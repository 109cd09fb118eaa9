//! DescribeTopicPartitions (key 75), versions 0, flexible from 0.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use model::TopicId;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of DescribeTopicPartitions.
    pub struct DescribeTopicPartitionsRequest {
        topics: Vec<TopicRequest>, 0+;
        response_partition_limit: i32, 0+, = 2000;
        cursor: Option<Cursor>, 0+, null 0+, = None;
    }

    /// `topics` of [`DescribeTopicPartitionsRequest`].
    pub struct TopicRequest {
        name: Text, 0+;
    }

    /// `cursor` of [`DescribeTopicPartitionsRequest`].
    pub struct Cursor {
        topic_name: Text, 0+;
        partition_index: i32, 0+;
    }

    /// Response of DescribeTopicPartitions.
    pub struct DescribeTopicPartitionsResponse {
        throttle_time_ms: i32, 0+, ignorable;
        topics: Vec<DescribeTopicPartitionsResponseTopic>, 0+;
        next_cursor: Option<Cursor>, 0+, null 0+, = None;
    }

    /// `topics` of [`DescribeTopicPartitionsResponse`].
    pub struct DescribeTopicPartitionsResponseTopic {
        error_code: i16, 0+;
        name: Option<Text>, 0+, null 0+;
        topic_id: TopicId, 0+, ignorable;
        is_internal: bool, 0+, ignorable;
        partitions: Vec<DescribeTopicPartitionsResponsePartition>, 0+;
        topic_authorized_operations: i32, 0+, = i32::MIN;
    }

    /// `partitions` of [`DescribeTopicPartitionsResponseTopic`].
    pub struct DescribeTopicPartitionsResponsePartition {
        error_code: i16, 0+;
        partition_index: i32, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32, 0+, ignorable, = -1;
        replica_nodes: Vec<i32>, 0+;
        isr_nodes: Vec<i32>, 0+;
        eligible_leader_replicas: Option<Vec<i32>>, 0+, null 0+, = None;
        last_known_elr: Option<Vec<i32>>, 0+, null 0+, = None;
        offline_replicas: Vec<i32>, 0+, ignorable;
    }
}
