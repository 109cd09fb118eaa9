//! Produce (key 0), versions 3-13, flexible from 9.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use model::TopicId;

use crate::records::Records;
use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of Produce.
    pub struct ProduceRequest {
        transactional_id: Option<Text>, 3+, null 3+, = None;
        /// -1: all in-sync replicas; 1: the leader; 0: nobody, and there is no response.
        acks: i16, 0+;
        timeout_ms: i32, 0+;
        topic_data: Vec<TopicProduceData>, 0+;
    }

    /// `topic_data` of [`ProduceRequest`].
    pub struct TopicProduceData {
        name: Text, 0-12, ignorable;
        topic_id: TopicId, 13+, ignorable;
        partition_data: Vec<PartitionProduceData>, 0+;
    }

    /// `partition_data` of [`TopicProduceData`].
    pub struct PartitionProduceData {
        index: i32, 0+;
        /// Exactly one batch of magic 2.
        records: Option<Records>, 0+, null 0+;
    }

    /// Response of Produce.
    pub struct ProduceResponse {
        responses: Vec<TopicProduceResponse>, 0+;
        throttle_time_ms: i32, 1+, ignorable;
        node_endpoints: Vec<NodeEndpoint>, 10+, tag 0;
    }

    /// `responses` of [`ProduceResponse`].
    pub struct TopicProduceResponse {
        name: Text, 0-12, ignorable;
        topic_id: TopicId, 13+, ignorable;
        partition_responses: Vec<PartitionProduceResponse>, 0+;
    }

    /// `partition_responses` of [`TopicProduceResponse`].
    pub struct PartitionProduceResponse {
        index: i32, 0+;
        error_code: i16, 0+;
        /// Offset of the first record of the batch; -1 on error.
        base_offset: i64, 0+;
        /// -1 unless the topic stamps records with the time of append.
        log_append_time_ms: i64, 2+, ignorable, = -1;
        log_start_offset: i64, 5+, ignorable, = -1;
        record_errors: Vec<BatchIndexAndErrorMessage>, 8+, ignorable;
        error_message: Option<Text>, 8+, null 8+, ignorable, = None;
        /// With error 6 (KIP-951). Useless without `node_endpoints`.
        current_leader: LeaderIdAndEpoch, 10+, tag 0;
    }

    /// `record_errors` of [`PartitionProduceResponse`].
    pub struct BatchIndexAndErrorMessage {
        batch_index: i32, 8+;
        batch_index_error_message: Option<Text>, 8+, null 8+, = None;
    }

    /// `current_leader` of [`PartitionProduceResponse`].
    pub struct LeaderIdAndEpoch {
        leader_id: i32, 10+, = -1;
        leader_epoch: i32, 10+, = -1;
    }

    /// `node_endpoints` of [`ProduceResponse`].
    pub struct NodeEndpoint {
        node_id: i32, 10+;
        host: Text, 10+;
        port: i32, 10+;
        rack: Option<Text>, 10+, null 10+, = None;
    }
}
