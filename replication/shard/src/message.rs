//! What travels between the shards of one broker: questions, each with the type of its answer.
//!
//! A question goes to the shard that can answer it ([`Ask`]), which may be the asker's own; the answer comes back into
//! a [`ReplySlot`] of its own type. Messages carry batches of work: one per target shard per request, never one per
//! partition. The registry below is the one place that lists the questions.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use coordinator::{GroupReply, GroupRequest, ListGroupsReply, ListGroupsRequest};
use indexmap::IndexMap;
use metadata::controller::{
    AlterConfigsRequest, AlterConfigsResults, AlterReassignmentsRequest, ControllerError,
    CreatePartitionsRequest, CreateTopicsRequest, DeletableTopic, DeletedTopic,
    ElectLeadersRequest, ElectedTopics, IsrChange, ReassignedTopics, ReportedLog,
};
use metadata::{MetadataImage, MetadataRecord};
use model::{Offset, PartitionEpoch, ShardId, TopicPartition};

use crate::refusal::{DeleteRecordsRefusal, LeadRefusal, MetadataRefusal, ReadRefusal};
use crate::reply::ReplySlot;
use crate::request::{
    AllocateProducerIds, AllocatedIds, CandidateLogs, CreatedPartitions, CreatedTopics,
    DeleteRecords, DeletionsDurable, DescribeQuorum, EpochEnd, EpochEnded, Fetch, FetchedParts,
    FoundOffset, LedSizes, ListOffset, LogSize, LogSized, MetadataEnd, Produce, ProducedParts,
    QuorumDescribed, UnregisterBroker, Watch,
};

/// A question to a shard, and what is answered to it.
pub trait Ask: Sized + Send + 'static {
    type Answer: Send + 'static;

    /// As it travels to another shard.
    fn into_question(self) -> Question;

    /// As the shard that is asked takes it.
    fn asked(self, reply: ReplyTo<Self>) -> Asked;

    /// The answer as it travels back, to the question that the asker calls `token`.
    fn into_reply(token: u64, answer: Self::Answer) -> Reply;

    /// The answers of this kind that a shard waits for.
    fn awaited(all: &Awaited) -> &AwaitedAnswers<Self::Answer>;
}

/// The return address of a question.
pub enum ReplyTo<Q: Ask> {
    /// A part of a slot on this shard.
    Local(Rc<ReplySlot<Q::Answer>>, usize),
    /// A question of another shard, named by its token there.
    Remote(ShardId, u64),
    /// Nobody waits (`acks=0` on this shard).
    Nobody,
}

/// A part of a slot that an answer goes to.
type Part<A> = (Rc<ReplySlot<A>>, usize);

/// The answers of one kind that a shard waits for, by token.
pub struct AwaitedAnswers<A>(RefCell<IndexMap<u64, Part<A>>>);

impl<A> Default for AwaitedAnswers<A> {
    fn default() -> AwaitedAnswers<A> {
        AwaitedAnswers(RefCell::default())
    }
}

impl<A> AwaitedAnswers<A> {
    pub(crate) fn add(&self, token: u64, slot: Rc<ReplySlot<A>>, part: usize) {
        let previous = self.0.borrow_mut().insert(token, (slot, part));
        assert!(previous.is_none(), "two questions have one token");
    }

    fn arrived(&self, token: u64, answer: A) {
        let awaited = self.0.borrow_mut().swap_remove(&token);
        let (slot, part) = awaited.expect("a shard answered a question that nobody asked");
        slot.deliver(part, answer);
    }
}

macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident, $field:ident: $question:ty => $answer:ty;)*) => {
        /// A question on its way to another shard.
        #[derive(Debug)]
        pub enum Question {
            $($(#[$doc])* $name($question),)*
        }

        /// A question as the shard that is asked has it: with the address of its answer.
        pub enum Asked {
            $($(#[$doc])* $name($question, ReplyTo<$question>),)*
        }

        /// An answer on its way back, under the asker's token.
        #[derive(Debug)]
        pub enum Reply {
            $($(#[$doc])* $name(u64, $answer),)*
        }

        /// All answers that a shard waits for.
        #[derive(Default)]
        pub struct Awaited {
            $($field: AwaitedAnswers<$answer>,)*
        }

        impl Awaited {
            /// An answer has arrived from another shard.
            pub(crate) fn arrived(&self, reply: Reply) {
                match reply {
                    $(Reply::$name(token, answer) => self.$field.arrived(token, answer),)*
                }
            }
        }

        impl Question {
            /// The question, to be answered to the shard that sent it.
            pub(crate) fn asked_by(self, from: ShardId, token: u64) -> Asked {
                match self {
                    $(Question::$name(question) => question.asked(ReplyTo::Remote(from, token)),)*
                }
            }
        }

        $(impl Ask for $question {
            type Answer = $answer;

            fn into_question(self) -> Question {
                Question::$name(self)
            }

            fn asked(self, reply: ReplyTo<$question>) -> Asked {
                Asked::$name(self, reply)
            }

            fn into_reply(token: u64, answer: $answer) -> Reply {
                Reply::$name(token, answer)
            }

            fn awaited(all: &Awaited) -> &AwaitedAnswers<$answer> {
                &all.$field
            }
        })*
    };
}

questions! {
    /// Append records.
    Produce, produce: Produce => ProducedParts;
    /// Read records, without waiting.
    Fetch, fetch: Fetch => FetchedParts;
    /// Tell me when there is more to read. The answer: indices of the watched partitions that have more, at least one;
    /// none if the watch was dropped.
    Watch, watch: Watch => Vec<u32>;
    /// Look up offsets.
    ListOffsets, list_offsets: Vec<ListOffset> => Vec<Result<Option<FoundOffset>, ReadRefusal>>;
    /// Look up ends of leader epochs.
    EpochEnds, epoch_ends: Vec<EpochEnd> => Vec<Result<Option<EpochEnded>, LeadRefusal>>;
    /// Remove records from the front. The answer: the new low watermarks.
    DeleteRecords, delete_records: Vec<DeleteRecords> => Vec<Result<Offset, DeleteRecordsRefusal>>;
    /// Work for the coordinator of a group.
    Group, group: GroupQuestion => GroupReply;
    /// The groups of all coordinators of the shard.
    ListGroups, list_groups: ListGroupsRequest => ListGroupsReply;
    /// Make topics (shard 0).
    CreateTopics, create_topics: CreateTopicsRequest => Result<CreatedTopics, MetadataRefusal>;
    /// Delete topics (shard 0).
    DeleteTopics, delete_topics: Vec<DeletableTopic> => Result<Vec<DeletedTopic>, MetadataRefusal>;
    /// Make partitions (shard 0).
    CreatePartitions, create_partitions: CreatePartitionsRequest
        => Result<CreatedPartitions, MetadataRefusal>;
    /// Change values of configurations (shard 0).
    AlterConfigs, alter_configs: AlterConfigsRequest => Result<AlterConfigsResults, MetadataRefusal>;
    /// Hold elections (shard 0).
    ElectLeaders, elect_leaders: ElectLeadersRequest => Result<ElectedTopics, MetadataRefusal>;
    /// Move replicas (shard 0).
    AlterReassignments, alter_reassignments: AlterReassignmentsRequest
        => Result<ReassignedTopics, MetadataRefusal>;
    /// Forget a broker (shard 0).
    UnregisterBroker, unregister_broker: UnregisterBroker
        => Result<Result<(), ControllerError>, MetadataRefusal>;
    /// In-sync sets that leaders propose (shard 0). The answer: for each, the version of the partition from then on.
    AlterPartitions, alter_partitions: Vec<IsrChange>
        => Result<Vec<Result<PartitionEpoch, ControllerError>>, MetadataRefusal>;
    /// Bytes of logs. The answer: nothing for a log that the shard does not have.
    LogSizes, log_sizes: Vec<LogSize> => Vec<Option<LogSized>>;
    /// Give me producer ids (shard 0).
    AllocateProducerIds, allocate_producer_ids: AllocateProducerIds
        => Result<AllocatedIds, MetadataRefusal>;
    /// Make the deletion of logs durable. The answer: up to which end of the metadata log they are, or nothing if the
    /// storage is fenced.
    DeletionsDurable, deletions_durable: DeletionsDurable => Option<Offset>;
    /// How far the metadata log has come (shard 0).
    MetadataEnd, metadata_end: MetadataEnd => Offset;
    /// Logs that an election waits for.
    CandidateLogs, candidate_logs: CandidateLogs => Vec<ReportedLog>;
    /// Partitions that are led here, and the bytes of their logs.
    LedSizes, led_sizes: LedSizes => Vec<(TopicPartition, u64)>;
    /// Who agrees on the metadata log (shard 0).
    DescribeQuorum, describe_quorum: DescribeQuorum => Result<QuorumDescribed, MetadataRefusal>;
}

/// Work for the coordinator of one partition of the topic of committed offsets.
#[derive(Debug)]
pub struct GroupQuestion {
    /// The partition whose leader coordinates the group.
    pub partition: TopicPartition,
    pub request: GroupRequest,
}

/// One message in a shard's inbox.
pub enum Envelope {
    /// Another shard asks.
    Question {
        from: ShardId,
        /// Its name for the question.
        token: u64,
        /// The metadata log's end as the asker knows it: it may have learned of a topic that this shard has not yet.
        metadata_end: Offset,
        question: Question,
    },
    /// Another shard answers.
    Reply(Reply),
    /// Shard 0 has recovered the data directory: open your logs, delete these of them, and serve this image.
    Start(Arc<MetadataImage>, Arc<BTreeSet<TopicPartition>>),
    /// A shard serves.
    Started(ShardId),
    /// The broker is registered: clients may come.
    Serve,
    /// Shard 0 has committed metadata records ending before this offset.
    Metadata(Offset, Arc<[MetadataRecord]>),
    /// Shard 0 goes on from a snapshot that it was given: this is what it stands for.
    Image(Arc<MetadataImage>),
    /// A shard has applied the metadata records before this offset.
    MetadataApplied(ShardId, Offset),
}
