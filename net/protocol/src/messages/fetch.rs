//! Fetch (key 1), versions 4-18, flexible from 12.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use model::TopicId;

use crate::records::Records;
use crate::schema::schema;
use crate::text::Text;
use crate::wire::Uuid;

schema! {
    /// Request of Fetch.
    pub struct FetchRequest {
        cluster_id: Option<Text>, 12+, null 12+, tag 0, ignorable, = None;
        /// -1: a consumer; otherwise the broker that follows. From version 15 on in `replica_state`.
        replica_id: i32, 0-14, = -1;
        replica_state: ReplicaState, 15+, tag 1;
        max_wait_ms: i32, 0+;
        min_bytes: i32, 0+;
        max_bytes: i32, 3+, ignorable, = i32::MAX;
        isolation_level: i8, 4+, ignorable;
        session_id: i32, 7+, ignorable;
        /// -1: no session; 0: open one; above: the next fetch of a session (KIP-227).
        session_epoch: i32, 7+, ignorable, = -1;
        topics: Vec<FetchTopic>, 0+;
        forgotten_topics_data: Vec<ForgottenTopic>, 7+;
        rack_id: Text, 11+, ignorable;
    }

    /// `replica_state` of [`FetchRequest`].
    pub struct ReplicaState {
        replica_id: i32, 15+, = -1;
        replica_epoch: i64, 15+, = -1;
    }

    /// `topics` of [`FetchRequest`].
    pub struct FetchTopic {
        topic: Text, 0-12, ignorable;
        topic_id: TopicId, 13+, ignorable;
        partitions: Vec<FetchPartition>, 0+;
    }

    /// `partitions` of [`FetchTopic`].
    pub struct FetchPartition {
        partition: i32, 0+;
        current_leader_epoch: i32, 9+, ignorable, = -1;
        fetch_offset: i64, 0+;
        last_fetched_epoch: i32, 12+, = -1;
        log_start_offset: i64, 5+, ignorable, = -1;
        partition_max_bytes: i32, 0+;
        replica_directory_id: Uuid, 17+, tag 0, ignorable;
        /// What the follower knows.
        high_watermark: i64, 18+, tag 1, ignorable, = i64::MAX;
    }

    /// `forgotten_topics_data` of [`FetchRequest`].
    pub struct ForgottenTopic {
        topic: Text, 7-12, ignorable;
        topic_id: TopicId, 13+, ignorable;
        partitions: Vec<i32>, 7+;
    }

    /// Response of Fetch.
    pub struct FetchResponse {
        throttle_time_ms: i32, 1+, ignorable;
        error_code: i16, 7+, ignorable;
        session_id: i32, 7+;
        responses: Vec<FetchableTopicResponse>, 0+;
        node_endpoints: Vec<NodeEndpoint>, 16+, tag 0;
    }

    /// `responses` of [`FetchResponse`].
    pub struct FetchableTopicResponse {
        topic: Text, 0-12, ignorable;
        topic_id: TopicId, 13+, ignorable;
        partitions: Vec<PartitionData>, 0+;
    }

    /// `partitions` of [`FetchableTopicResponse`].
    pub struct PartitionData {
        partition_index: i32, 0+;
        error_code: i16, 0+;
        high_watermark: i64, 0+;
        last_stable_offset: i64, 4+, ignorable, = -1;
        log_start_offset: i64, 5+, ignorable, = -1;
        diverging_epoch: EpochEndOffset, 12+, tag 0;
        current_leader: LeaderIdAndEpoch, 12+, tag 1;
        snapshot_id: SnapshotId, 12+, tag 2;
        /// Null unless the reader asked for committed records only.
        aborted_transactions: Option<Vec<AbortedTransaction>>, 4+, null 4+, ignorable;
        /// -1: this broker.
        preferred_read_replica: i32, 11+, = -1;
        /// Whole batches; the first may begin below the offset asked for.
        records: Option<Records>, 0+, null 0+;
    }

    /// `diverging_epoch` of [`PartitionData`].
    pub struct EpochEndOffset {
        epoch: i32, 12+, = -1;
        end_offset: i64, 12+, = -1;
    }

    /// `current_leader` of [`PartitionData`].
    pub struct LeaderIdAndEpoch {
        leader_id: i32, 12+, = -1;
        leader_epoch: i32, 12+, = -1;
    }

    /// `snapshot_id` of [`PartitionData`].
    pub struct SnapshotId {
        end_offset: i64, 0+, = -1;
        epoch: i32, 0+, = -1;
    }

    /// `aborted_transactions` of [`PartitionData`].
    pub struct AbortedTransaction {
        producer_id: i64, 4+;
        first_offset: i64, 4+;
    }

    /// `node_endpoints` of [`FetchResponse`].
    pub struct NodeEndpoint {
        node_id: i32, 16+;
        host: Text, 16+;
        port: i32, 16+;
        rack: Option<Text>, 16+, null 16+, = None;
    }
}
