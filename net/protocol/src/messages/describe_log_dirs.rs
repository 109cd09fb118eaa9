//! DescribeLogDirs (key 35), versions 1-5, flexible from 2.
//!
//! Source: the schemas of Apache Kafka 4.3.1; see `schema.rs` for the notation.

use crate::schema::schema;
use crate::text::Text;

schema! {
    /// Request of DescribeLogDirs.
    pub struct DescribeLogDirsRequest {
        /// Null: all of them.
        topics: Option<Vec<DescribableLogDirTopic>>, 0+, null 0+;
    }

    /// `topics` of [`DescribeLogDirsRequest`].
    pub struct DescribableLogDirTopic {
        topic: Text, 0+;
        partitions: Vec<i32>, 0+;
    }

    /// Response of DescribeLogDirs.
    pub struct DescribeLogDirsResponse {
        throttle_time_ms: i32, 0+;
        error_code: i16, 3+, ignorable;
        results: Vec<DescribeLogDirsResult>, 0+;
    }

    /// `results` of [`DescribeLogDirsResponse`].
    pub struct DescribeLogDirsResult {
        error_code: i16, 0+;
        /// An absolute path.
        log_dir: Text, 0+;
        topics: Vec<DescribeLogDirsTopic>, 0+;
        /// Of the volume; -1 is not known.
        total_bytes: i64, 4+, ignorable, = -1;
        /// Of the volume; -1 is not known.
        usable_bytes: i64, 4+, ignorable, = -1;
        is_cordoned: bool, 5+, ignorable;
    }

    /// `topics` of [`DescribeLogDirsResult`].
    pub struct DescribeLogDirsTopic {
        name: Text, 0+;
        partitions: Vec<DescribeLogDirsPartition>, 0+;
    }

    /// `partitions` of [`DescribeLogDirsTopic`].
    pub struct DescribeLogDirsPartition {
        partition_index: i32, 0+;
        partition_size: i64, 0+;
        offset_lag: i64, 0+;
        is_future_key: bool, 0+;
    }
}
