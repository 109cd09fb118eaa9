//! CreateTopics (key 19), versions 2-7, flexible from 5.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use model::TopicId;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of CreateTopics.
    pub struct CreateTopicsRequest {
        topics: Vec<CreatableTopic>, 0+;
        timeout_ms: i32, 0+, = 60000;
        validate_only: bool, 1+;
    }

    /// `topics` of [`CreateTopicsRequest`].
    pub struct CreatableTopic {
        name: Text, 0+;
        /// -1: the broker's default; must be -1 with `assignments`.
        num_partitions: i32, 0+;
        /// -1: the broker's default; must be -1 with `assignments`.
        replication_factor: i16, 0+;
        assignments: Vec<CreatableReplicaAssignment>, 0+;
        configs: Vec<CreatableTopicConfig>, 0+;
    }

    /// `assignments` of [`CreatableTopic`].
    pub struct CreatableReplicaAssignment {
        partition_index: i32, 0+;
        broker_ids: Vec<i32>, 0+;
    }

    /// `configs` of [`CreatableTopic`].
    pub struct CreatableTopicConfig {
        name: Text, 0+;
        value: Option<Text>, 0+, null 0+;
    }

    /// Response of CreateTopics.
    pub struct CreateTopicsResponse {
        throttle_time_ms: i32, 2+, ignorable;
        topics: Vec<CreatableTopicResult>, 0+;
    }

    /// `topics` of [`CreateTopicsResponse`].
    pub struct CreatableTopicResult {
        name: Text, 0+;
        topic_id: TopicId, 7+, ignorable;
        error_code: i16, 0+;
        error_message: Option<Text>, 1+, null 0+, ignorable;
        topic_config_error_code: i16, 5+, tag 0, ignorable;
        num_partitions: i32, 5+, ignorable, = -1;
        replication_factor: i16, 5+, ignorable, = -1;
        configs: Option<Vec<CreatableTopicConfigs>>, 5+, null 5+, ignorable;
    }

    /// `configs` of [`CreatableTopicResult`].
    pub struct CreatableTopicConfigs {
        name: Text, 5+;
        value: Option<Text>, 5+, null 5+;
        read_only: bool, 5+;
        config_source: i8, 5+, ignorable, = -1;
        is_sensitive: bool, 5+;
    }
}
