//! What travels between the shards of one broker.
//!
//! Messages carry batches of work: one per target shard per request, never one per partition.

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::GroupReply;
use metadata::{MetadataImage, MetadataRecord};
use model::{ErrorCode, Offset, ShardId, TopicPartition};

use crate::controller::{ControllerReply, ControllerRequest};
use crate::coordinator_host::GroupWork;
use crate::request::{
    DeleteRecords, DeletedRecords, EpochEnd, EpochEnded, Fetch, FetchTimes, Fetched, ListOffset,
    ListedOffset, PartitionSize, Produce, ProduceTimes, Produced, Watch,
};

/// A request to one shard.
#[derive(Debug)]
pub enum ShardRequest {
    /// Append records.
    Produce(Produce),
    /// Read records, without waiting.
    Fetch(Fetch),
    /// Tell me when there is more to read.
    Watch(Watch),
    /// Look up offsets.
    ListOffsets(Vec<ListOffset>),
    /// Look up ends of leader epochs.
    EpochEnds(Vec<EpochEnd>),
    /// Remove records from the front.
    DeleteRecords(Vec<DeleteRecords>),
    /// Sizes of all partitions of the shard.
    PartitionSizes,
    /// Decide about metadata (shard 0 only).
    Controller(ControllerRequest),
    /// Consumer group work (the shard of the group's offsets partition).
    Group(GroupWork),
}

/// The answer to a [`ShardRequest`] of the same name.
#[derive(Debug)]
pub enum ShardReply {
    /// One result per partition, and when what was done.
    Produce(Vec<Produced>, ProduceTimes),
    /// One result per partition, and when what was done.
    Fetch(Vec<Fetched>, FetchTimes),
    /// Indices of the watched partitions that have more to read, at least one; none if the watch was dropped.
    Watch(Vec<u32>),
    /// One result per partition.
    ListOffsets(Vec<ListedOffset>),
    /// One result per partition.
    EpochEnds(Vec<EpochEnded>),
    /// One result per partition.
    DeleteRecords(Vec<DeletedRecords>),
    /// One per partition.
    PartitionSizes(Vec<PartitionSize>),
    /// What was decided.
    Controller(Result<ControllerReply, ErrorCode>),
    /// The group's answer.
    Group(GroupReply),
}

/// One message in a shard's inbox.
pub enum Envelope {
    /// Another shard asks.
    Request {
        /// Who.
        from: ShardId,
        /// Its name for the request.
        token: u64,
        /// What.
        request: ShardRequest,
    },
    /// Another shard answers.
    Reply {
        /// Our name for the request.
        token: u64,
        /// The answer.
        reply: ShardReply,
    },
    /// Shard 0 has recovered the data directory: open your logs, delete these of them, and serve this image.
    Start(Arc<MetadataImage>, Arc<BTreeSet<TopicPartition>>),
    /// A shard serves.
    Started(ShardId),
    /// The broker is registered: clients may come.
    Serve,
    /// Shard 0 has committed metadata records ending before this offset.
    Metadata(Offset, Arc<[MetadataRecord]>),
    /// A shard has applied the metadata records before this offset.
    MetadataApplied(ShardId, Offset),
}
