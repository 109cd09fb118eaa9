//! DescribeQuorum (key 55), versions 0-2, flexible from 0.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;
use crate::wire::Uuid;

schema! {
    /// Request of DescribeQuorum.
    pub struct DescribeQuorumRequest {
        topics: Vec<DescribeQuorumRequestTopic>, 0+;
    }

    /// `topics` of [`DescribeQuorumRequest`].
    pub struct DescribeQuorumRequestTopic {
        topic_name: Text, 0+;
        partitions: Vec<DescribeQuorumRequestPartition>, 0+;
    }

    /// `partitions` of [`DescribeQuorumRequestTopic`].
    pub struct DescribeQuorumRequestPartition {
        partition_index: i32, 0+;
    }

    /// Response of DescribeQuorum.
    pub struct DescribeQuorumResponse {
        error_code: i16, 0+;
        error_message: Option<Text>, 2+, null 2+, ignorable;
        topics: Vec<DescribeQuorumTopic>, 0+;
        nodes: Vec<DescribeQuorumNode>, 2+;
    }

    /// `topics` of [`DescribeQuorumResponse`].
    pub struct DescribeQuorumTopic {
        topic_name: Text, 0+;
        partitions: Vec<DescribeQuorumPartition>, 0+;
    }

    /// `partitions` of [`DescribeQuorumTopic`].
    pub struct DescribeQuorumPartition {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 2+, null 2+, ignorable;
        leader_id: i32, 0+;
        leader_epoch: i32, 0+;
        high_watermark: i64, 0+;
        current_voters: Vec<QuorumReplicaState>, 0+;
        observers: Vec<QuorumReplicaState>, 0+;
    }

    /// `current_voters` and `observers` of [`DescribeQuorumPartition`].
    pub struct QuorumReplicaState {
        replica_id: i32, 0+;
        replica_directory_id: Uuid, 2+;
        log_end_offset: i64, 0+;
        /// -1 is not known.
        last_fetch_timestamp: i64, 1+, ignorable, = -1;
        /// -1 is not known.
        last_caught_up_timestamp: i64, 1+, ignorable, = -1;
    }

    /// `nodes` of [`DescribeQuorumResponse`].
    pub struct DescribeQuorumNode {
        node_id: i32, 2+;
        listeners: Vec<DescribeQuorumListener>, 2+;
    }

    /// `listeners` of [`DescribeQuorumNode`].
    pub struct DescribeQuorumListener {
        name: Text, 2+;
        host: Text, 2+;
        port: u16, 2+;
    }
}
