//! A client of Kafka-compatible brokers: one connection, one cluster. For peers, the command line, the load generator
//! and tests.
//!
//! Generic over `I: Io`. Nothing a server sends panics: it ends as a [`ClientError`]. Everything is bounded: requests
//! in flight, bytes of a response, time of an operation.

pub mod admin;
pub mod assignment;
pub mod cluster;
pub mod configs;
pub mod connection;
pub mod eligible;
pub mod error;
pub mod frame;
pub mod group;
pub mod groups;
pub mod log_dirs;
pub mod partitioner;
pub mod position;
pub mod quorum;
pub mod reader;
pub mod reassignments;
pub mod records;
pub mod rpc;
pub mod versions;
pub mod writer;

pub use admin::NewTopic;
pub use cluster::{Broker, Cluster, ClusterOptions, Partition, Resolve, Topic, resolve_literal};
pub use configs::{Config, ConfigChange, ConfigOwner, TopicConfig};
pub use connection::{Connection, ConnectionOptions, Pending, RawConnection};
pub use error::{ClientError, code_name};
pub use frame::FrameReader;
pub use group::{GroupMember, GroupOptions, Standing};
pub use groups::{CommittedOffset, GroupDescription, GroupMemberDescription, GroupSummary};
pub use log_dirs::{HeldLog, HeldLogs};
pub use partitioner::partition_for_key;
pub use position::{Bounds, Position};
pub use quorum::{Quorum, QuorumReplica};
pub use reader::{Moved, Reader};
pub use reassignments::{OngoingMove, WantedReplicas};
pub use records::{Acks, FetchLimits, Fetched, OffsetSpec, init_producer_id_request};
pub use rpc::Rpc;
pub use versions::Versions;
pub use writer::{Outgoing, Writer, WriterOptions, Written};
