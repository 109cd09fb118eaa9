//! DescribeCluster (key 60), versions 0-2, flexible from 0.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of DescribeCluster.
    pub struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool, 0+;
        /// 1: brokers; 2: controllers.
        endpoint_type: i8, 1+, = 1;
        include_fenced_brokers: bool, 2+;
    }

    /// Response of DescribeCluster.
    pub struct DescribeClusterResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 0+;
        error_message: Option<Text>, 0+, null 0+, = None;
        endpoint_type: i8, 1+, = 1;
        cluster_id: Text, 0+;
        controller_id: i32, 0+, = -1;
        brokers: Vec<DescribeClusterBroker>, 0+;
        cluster_authorized_operations: i32, 0+, = i32::MIN;
    }

    /// `brokers` of [`DescribeClusterResponse`].
    pub struct DescribeClusterBroker {
        broker_id: i32, 0+;
        host: Text, 0+;
        port: i32, 0+;
        rack: Option<Text>, 0+, null 0+, = None;
        is_fenced: bool, 2+;
    }
}
