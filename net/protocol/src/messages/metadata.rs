//! Metadata (key 3), versions 0-13, flexible from 9.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use model::TopicId;

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of Metadata.
    pub struct MetadataRequest {
        /// Null: all topics. Empty: none, but all in version 0.
        topics: Option<Vec<MetadataRequestTopic>>, 0+, null 1+;
        allow_auto_topic_creation: bool, 4+, = true;
        include_cluster_authorized_operations: bool, 8-10;
        include_topic_authorized_operations: bool, 8+;
    }

    /// `topics` of [`MetadataRequest`].
    pub struct MetadataRequestTopic {
        topic_id: TopicId, 10+, ignorable;
        name: Option<Text>, 0+, null 10+;
    }

    /// Response of Metadata.
    pub struct MetadataResponse {
        throttle_time_ms: i32, 3+, ignorable;
        brokers: Vec<MetadataResponseBroker>, 0+;
        cluster_id: Option<Text>, 2+, null 2+, ignorable, = None;
        /// Any live broker: it takes requests for the controller (KRaft).
        controller_id: i32, 1+, ignorable, = -1;
        topics: Vec<MetadataResponseTopic>, 0+;
        cluster_authorized_operations: i32, 8-10, = i32::MIN;
        error_code: i16, 13+, ignorable;
    }

    /// `brokers` of [`MetadataResponse`].
    pub struct MetadataResponseBroker {
        node_id: i32, 0+;
        host: Text, 0+;
        port: i32, 0+;
        rack: Option<Text>, 1+, null 1+, ignorable, = None;
    }

    /// `topics` of [`MetadataResponse`].
    pub struct MetadataResponseTopic {
        error_code: i16, 0+;
        name: Option<Text>, 0+, null 12+;
        topic_id: TopicId, 10+, ignorable;
        is_internal: bool, 1+, ignorable;
        partitions: Vec<MetadataResponsePartition>, 0+;
        /// Bit field; `i32::MIN` if not asked for.
        topic_authorized_operations: i32, 8+, = i32::MIN;
    }

    /// `partitions` of [`MetadataResponseTopic`].
    pub struct MetadataResponsePartition {
        error_code: i16, 0+;
        partition_index: i32, 0+;
        leader_id: i32, 0+;
        leader_epoch: i32, 7+, ignorable, = -1;
        replica_nodes: Vec<i32>, 0+;
        isr_nodes: Vec<i32>, 0+;
        offline_replicas: Vec<i32>, 5+, ignorable;
    }
}
