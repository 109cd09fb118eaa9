//! ElectLeaders (key 43), versions 0-2, flexible from 2.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of ElectLeaders.
    pub struct ElectLeadersRequest {
        /// 0 elects the preferred leader, 1 anyone for a partition without a leader.
        election_type: i8, 1+;
        /// Null: all of them.
        topic_partitions: Option<Vec<TopicPartitions>>, 0+, null 0+;
        timeout_ms: i32, 0+, = 60000;
    }

    /// `topic_partitions` of [`ElectLeadersRequest`].
    pub struct TopicPartitions {
        topic: Text, 0+;
        partitions: Vec<i32>, 0+;
    }

    /// Response of ElectLeaders.
    pub struct ElectLeadersResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 1+;
        replica_election_results: Vec<ReplicaElectionResult>, 0+;
    }

    /// `replica_election_results` of [`ElectLeadersResponse`].
    pub struct ReplicaElectionResult {
        topic: Text, 0+;
        partition_result: Vec<PartitionResult>, 0+;
    }

    /// `partition_result` of [`ReplicaElectionResult`].
    pub struct PartitionResult {
        partition_id: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+;
    }
}
