//! OffsetForLeaderEpoch (key 23): where leader epochs end (KIP-101, KIP-320).

use model::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicPartition};
use protocol::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use runtime::Io;
use shard::refusal::LeadRefusal;
use shard::request::{EpochEnd, EpochEnded};

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::topics;
use crate::scatter::Scatter;

/// The end of an epoch, if it is known.
type Outcome = Result<Option<EpochEnded>, ErrorCode>;

/// What clients are told of an epoch that is not known.
const NOTHING: EpochEnded = EpochEnded {
    epoch: LeaderEpoch::NONE,
    end_offset: Offset::NONE,
};

/// Answers from the shards that own the partitions.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &OffsetForLeaderEpochRequest,
) -> Result<(), ConnectionEnd> {
    let names = request.topics.iter().map(|topic| &topic.topic);
    topics::catch_up(context, names).await;
    let mut scatter = Scatter::default();
    for topic in &request.topics {
        let id = context.server.shard.image().topic_id(&topic.topic);
        for partition in &topic.partitions {
            let Some(topic) = id else {
                scatter.decided(Err(ErrorCode::UnknownTopicOrPartition));
                continue;
            };
            let id = TopicPartition {
                topic,
                partition: PartitionIndex(partition.partition),
            };
            let one = EpochEnd {
                id,
                current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                epoch: LeaderEpoch(partition.leader_epoch),
            };
            scatter.ask(context.server.shard.owner(id), one);
        }
    }
    let translate =
        |result: Result<_, LeadRefusal>| result.map_err(|error| error_codes::lead(&error));
    let results: Vec<Outcome> = scatter.gather(&context.server.shard, translate).await;
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let result = results.next().expect("one result per partition");
            let error = result.err().unwrap_or(ErrorCode::None);
            let end = result.ok().flatten().unwrap_or(NOTHING);
            EpochEndOffset {
                error_code: context.code(error),
                partition: partition.partition,
                leader_epoch: end.epoch.0,
                end_offset: end.end_offset.0,
            }
        });
        OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: partitions.collect(),
        }
    });
    let topics = topics.collect();
    context.answer(&OffsetForLeaderEpochResponse {
        topics,
        ..OffsetForLeaderEpochResponse::default()
    })
}
