//! DeleteRecords (key 21): removes records from the front of partitions (KIP-107).

use model::{ErrorCode, Offset, PartitionIndex, TopicPartition};
use protocol::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use runtime::Io;
use shard::refusal::DeleteRecordsRefusal;
use shard::request::DeleteRecords;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::topics;
use crate::scatter::Scatter;

/// Answers when the new start is durable.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &DeleteRecordsRequest,
) -> Result<(), ConnectionEnd> {
    let names = request.topics.iter().map(|topic| &topic.name);
    topics::catch_up(context, names).await;
    let mut scatter = Scatter::default();
    for topic in &request.topics {
        let id = context.server.shard.image().topic_id(&topic.name);
        for partition in &topic.partitions {
            let topic_id = match id {
                None => Err(ErrorCode::UnknownTopicOrPartition),
                Some(_) if topics::is_internal(&topic.name) => {
                    Err(ErrorCode::InvalidTopicException)
                }
                Some(id) => Ok(id),
            };
            match topic_id {
                Err(error) => scatter.decided(Err(error)),
                Ok(topic) => {
                    let id = TopicPartition {
                        topic,
                        partition: PartitionIndex(partition.partition_index),
                    };
                    let one = DeleteRecords {
                        id,
                        before: Offset(partition.offset),
                    };
                    scatter.ask(context.server.shard.owner(id), one);
                }
            }
        }
    }
    let translate = |result: Result<_, DeleteRecordsRefusal>| {
        result.map_err(|refusal| error_codes::delete_records(&refusal))
    };
    let results = scatter.gather(&context.server.shard, translate).await;
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let result = results.next().expect("one result per partition");
            DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: result.unwrap_or(Offset::NONE).0,
                error_code: context.code(result.err().unwrap_or(ErrorCode::None)),
            }
        });
        DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    let topics = topics.collect();
    context.answer(&DeleteRecordsResponse {
        topics,
        ..DeleteRecordsResponse::default()
    })
}
