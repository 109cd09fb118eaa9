//! OffsetForLeaderEpoch (key 23): where leader epochs end (KIP-101, KIP-320).

use model::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicPartition};
use protocol::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    OffsetForLeaderTopicResult,
};
use runtime::Io;
use shard::message::{ShardReply, ShardRequest};
use shard::request::{EpochEnd, EpochEnded};

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::scatter::Scatter;

/// Answers from the shards that own the partitions.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &OffsetForLeaderEpochRequest,
) -> Result<(), ConnectionEnd> {
    let mut scatter = Scatter::default();
    for topic in &request.topics {
        let id = context.server.shard.image().topic_id(&topic.topic);
        for partition in &topic.partitions {
            let Some(topic) = id else {
                scatter.decided(EpochEnded {
                    error: ErrorCode::UnknownTopicOrPartition,
                    epoch: LeaderEpoch::NONE,
                    end_offset: Offset::NONE,
                });
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
    let results = scatter
        .gather(context, ShardRequest::EpochEnds, |reply| match reply {
            ShardReply::EpochEnds(results) => results,
            other => unreachable!("a shard answered OffsetForLeaderEpoch with {other:?}"),
        })
        .await;
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let result = results.next().expect("one result per partition");
            EpochEndOffset {
                error_code: context.code(result.error),
                partition: partition.partition,
                leader_epoch: result.epoch.0,
                end_offset: result.end_offset.0,
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
