//! What a shard can be asked, and what it answers: plain structs, without any of the wire's versions.
//!
//! Everything here is `Send`: a request for a partition of another shard travels there whole, one message per shard.

use bytes::Bytes;
use metadata::controller::{ControllerError, CreatedTopic, ProducerIdBlock};
use model::record::{CheckedBatch, ValidationError};
use model::{BrokerId, LeaderEpoch, MonotonicTime, Offset, ProducerId, Timestamp, TopicPartition};
use quorum::ReplicaKey;
use serde::{Deserialize, Serialize};

use crate::refusal::{ProduceRefused, ReadRefusal};

/// When a produce request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never (`acks=0`).
    None,
    /// When the leader has made the records durable at the topic's level (`acks=1`).
    Leader,
    /// When the high watermark has passed them (`acks=all`).
    All,
}

/// Records for some partitions of one shard.
#[derive(Debug)]
pub struct Produce {
    /// When to answer.
    pub acks: Acks,
    /// How long to wait for the acknowledgement, in milliseconds.
    pub timeout_ms: u32,
    /// Whether the request's version knows zstd (KIP-110).
    pub zstd_allowed: bool,
    /// The partitions, in request order. The answer keeps this order.
    pub partitions: Vec<ProducePartition>,
}

impl Produce {
    /// Bytes of records, for back pressure.
    pub fn bytes(&self) -> usize {
        self.partitions.iter().map(|p| p.records.len()).sum()
    }
}

#[derive(Debug)]
pub struct ProducePartition {
    pub id: TopicPartition,
    /// Exactly one record batch: as the client sent it, or in the topic's own codec.
    pub records: Bytes,
    /// What is known about it.
    pub checked: Checked,
}

/// Whether a batch was checked before it came to the shard that owns its partition.
#[derive(Debug, Default)]
pub enum Checked {
    /// It was not: checked when it is appended.
    #[default]
    Not,
    /// It is good.
    Good(Box<CheckedBatch>),
    /// It is not. The shard that owns the partition still says whether that is the first reason to refuse it.
    Refused(Box<ValidationError>),
}

/// Records of one partition are in its log, as far as acknowledged as was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub base_offset: Offset,
    /// The broker's time if the topic uses LogAppendTime, else -1.
    pub log_append_time: Timestamp,
    /// First offset still in the log.
    pub log_start_offset: Offset,
}

/// The outcome for one partition of a produce request.
pub type ProduceResult = Result<Produced, Box<ProduceRefused>>;

#[derive(Debug)]
pub struct ProducedParts {
    /// One per partition, in the order of the request.
    pub results: Vec<ProduceResult>,
    /// When what was done.
    pub times: ProduceTimes,
}

/// When a produce request made its way through the shard that owns its partitions; of several partitions, the last to
/// be acknowledged counts. A step that was not taken has the time of the one before it, or zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProduceTimes {
    /// The shard began with it.
    pub begun_at: MonotonicTime,
    /// Its records were in the open commit group.
    pub staged_at: MonotonicTime,
    /// The write of its last commit group was submitted.
    pub submitted_at: MonotonicTime,
    /// That group was durable at the topic's level.
    pub durable_at: MonotonicTime,
    /// The high watermark had passed the records, if that was waited for.
    pub acknowledged_at: MonotonicTime,
    /// The answer had come to the shard that asked.
    pub answered_at: MonotonicTime,
}

/// When a fetch was carried out by the shard that owns its partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchTimes {
    /// The shard began with it.
    pub begun_at: MonotonicTime,
    /// Everything was read.
    pub done_at: MonotonicTime,
}

/// Up to where a fetch may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// The high watermark.
    ReadUncommitted,
    /// The last stable offset.
    ReadCommitted,
}

/// Reading from some partitions of one shard, without waiting.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub isolation: Isolation,
    /// Bytes for all partitions together; the first batch of the first non-empty partition comes whatever its size.
    pub bytes_max: usize,
    /// Whether that exception applies (no other shard has given data yet).
    pub at_least_one_batch: bool,
    /// Whether a replica that follows will do.
    pub from_followers: bool,
    /// The partitions, in request order. The answer keeps this order.
    pub partitions: Vec<FetchPartition>,
}

#[derive(Clone, Copy, Debug)]
pub struct FetchPartition {
    pub id: TopicPartition,
    /// First offset wanted.
    pub offset: Offset,
    /// Bytes wanted at most.
    pub bytes_max: usize,
    /// The leader epoch the client believes in; -1 is unknown.
    pub current_leader_epoch: LeaderEpoch,
    /// Epoch of the last record the client has; -1 is unknown.
    pub last_fetched_epoch: LeaderEpoch,
    /// Another replica that the client reads from better than from the leader.
    pub closest: Option<BrokerId>,
}

/// What was read from one partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Offsets below it are acknowledged on every in-sync replica.
    pub high_watermark: Offset,
    /// Offsets below it belong to decided transactions.
    pub last_stable_offset: Offset,
    /// First offset still in the log.
    pub log_start_offset: Offset,
    /// Where the client's log departs from ours: (epoch, its end offset here).
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Where the client is to read from now on; nothing was read for it here.
    pub closest: Option<BrokerId>,
    /// Whole record batches as stored.
    pub records: Vec<Bytes>,
    /// Aborted transactions of which the records hold something, by producer and first offset, for who reads committed
    /// records and leaves them out. At most as many as were open at the first record and began behind it.
    pub aborted: Option<Vec<(ProducerId, Offset)>>,
}

impl Fetched {
    /// Of the records.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }

    /// Of all that an answer holds of it.
    pub fn answer_bytes(&self) -> usize {
        let aborted = self.aborted.as_ref().map_or(0, Vec::len);
        self.bytes() + aborted * size_of::<(ProducerId, Offset)>()
    }

    /// Lets go of what was read.
    pub fn let_go(&mut self) {
        self.records = Vec::new();
        if let Some(aborted) = &mut self.aborted {
            *aborted = Vec::new();
        }
    }
}

#[derive(Debug)]
pub struct FetchedParts {
    /// One per partition, in the order of the request.
    pub results: Vec<Result<Fetched, ReadRefusal>>,
    /// When what was done.
    pub times: FetchTimes,
}

/// Asking to be told once when any of these partitions has more to read than was seen.
#[derive(Clone, Debug)]
pub struct Watch {
    pub isolation: Isolation,
    /// When to give up.
    pub deadline: MonotonicTime,
    /// The partitions and how far the asker has seen: it is told when the readable end is beyond that.
    pub partitions: Vec<(TopicPartition, Offset)>,
}

/// A point in a log that ListOffsets can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first offset in the log.
    Earliest,
    /// The end that this reader can see.
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after a time.
    Timestamp(Timestamp),
    /// The last offset in tiered storage, of which there is none.
    LatestTiered,
}

/// Looking up one offset in one partition.
#[derive(Clone, Copy, Debug)]
pub struct ListOffset {
    pub id: TopicPartition,
    /// The leader epoch the client believes in; -1 is unknown.
    pub current_leader_epoch: LeaderEpoch,
    pub isolation: Isolation,
    pub spec: OffsetSpec,
}

/// The answer to [`ListOffset`], if there is such a record or place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// Timestamp of the record found; -1 if a place was asked for.
    pub timestamp: Timestamp,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// Asking where a leader epoch ends (KIP-101).
#[derive(Clone, Copy, Debug)]
pub struct EpochEnd {
    pub id: TopicPartition,
    /// The leader epoch the client believes in; -1 is unknown.
    pub current_leader_epoch: LeaderEpoch,
    pub epoch: LeaderEpoch,
}

/// The answer to [`EpochEnd`], if the epoch is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnded {
    /// The largest known epoch not above the one asked about.
    pub epoch: LeaderEpoch,
    /// Its end, exclusive.
    pub end_offset: Offset,
}

/// Removing the records before an offset.
#[derive(Clone, Copy, Debug)]
pub struct DeleteRecords {
    pub id: TopicPartition,
    /// New first offset; -1 means the high watermark.
    pub before: Offset,
}

/// Asking for the size of a partition's log.
#[derive(Clone, Copy, Debug)]
pub struct LogSize {
    pub id: TopicPartition,
}

/// A partition's log, whoever leads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSized {
    /// Of its batches.
    pub size_bytes: u64,
    /// Committed records, as far as the leader has told, that are not in it.
    pub lag: u64,
}

/// Asking for a broker's registration to end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UnregisterBroker {
    pub broker: BrokerId,
}

/// Topics that were asked for, by distinct name, and what became of each.
pub type CreatedTopics = Vec<(String, Result<CreatedTopic, ControllerError>)>;

/// Topics that were to get more partitions, by distinct name, and what became of each.
pub type CreatedPartitions = Vec<(String, Result<(), ControllerError>)>;

/// Asking for a block of producer ids.
#[derive(Clone, Copy, Debug)]
pub struct AllocateProducerIds;

/// The answer to [`AllocateProducerIds`].
pub type AllocatedIds = ProducerIdBlock;

/// Asking for the logs of removed topics to be gone for good.
#[derive(Clone, Copy, Debug)]
pub struct DeletionsDurable;

/// Asking how far the metadata log has come.
#[derive(Clone, Copy, Debug)]
pub struct MetadataEnd;

/// Asking a shard for its logs of partitions that nobody leads before all suspects have told what they have.
#[derive(Clone, Copy, Debug)]
pub struct CandidateLogs;

/// Asking a shard for the partitions that it leads, and the bytes of their logs.
#[derive(Clone, Copy, Debug)]
pub struct LedSizes;

/// Asking who agrees on the metadata log (KIP-595).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct DescribeQuorum;

/// The answer to [`DescribeQuorum`], by the leader.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuorumDescribed {
    pub leader: BrokerId,
    /// Its term, as the log's batches have it.
    pub epoch: LeaderEpoch,
    /// Where what is agreed on ends.
    pub high_watermark: Offset,
    /// Voters, then observers.
    pub replicas: Vec<QuorumReplica>,
}

/// A replica of the metadata log, as the leader knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuorumReplica {
    pub key: ReplicaKey,
    pub is_voter: bool,
    /// How far it agrees with the leader's log; -1: nobody knows yet.
    pub log_end_offset: Offset,
    /// Whether it was heard of lately.
    pub is_active: bool,
}
