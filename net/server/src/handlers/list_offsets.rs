//! ListOffsets (key 2): earliest, latest, by timestamp (KIP-79, KIP-734, KIP-405, KIP-1005, KIP-1023).

use model::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicPartition};
use protocol::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use runtime::Io;
use shard::refusal::ReadRefusal;
use shard::request::{FoundOffset, Isolation, ListOffset, OffsetSpec};

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::topics;
use crate::scatter::Scatter;

/// From here on leader epochs are told (KIP-320).
const VERSION_WITH_LEADER_EPOCH: i16 = 4;

/// What was found, if anything.
type Outcome = Result<Option<FoundOffset>, ErrorCode>;

/// What clients are told when there is no such record.
const NOTHING: FoundOffset = FoundOffset {
    timestamp: Timestamp::NONE,
    offset: Offset::NONE,
    leader_epoch: LeaderEpoch::NONE,
};

/// What a timestamp field asks for. The special values exist from a version on.
fn spec(timestamp: i64, version: i16) -> Result<OffsetSpec, ErrorCode> {
    match timestamp {
        0.. => Ok(OffsetSpec::Timestamp(Timestamp(timestamp))),
        -1 => Ok(OffsetSpec::Latest),
        -2 => Ok(OffsetSpec::Earliest),
        -3 if version >= 7 => Ok(OffsetSpec::MaxTimestamp),
        // Without tiered storage everything is local.
        -4 if version >= 8 => Ok(OffsetSpec::Earliest),
        -5 if version >= 9 => Ok(OffsetSpec::LatestTiered),
        -6 if version >= 11 => Ok(OffsetSpec::LatestTiered),
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

/// Answers from the shards that own the partitions.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &ListOffsetsRequest,
) -> Result<(), ConnectionEnd> {
    let isolation = match request.isolation_level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    };
    let names = request.topics.iter().map(|topic| &topic.name);
    topics::catch_up(context, names).await;
    let mut scatter = Scatter::default();
    for topic in &request.topics {
        let id = context.server.shard.image().topic_id(&topic.name);
        for partition in &topic.partitions {
            let spec = spec(partition.timestamp, context.version());
            match (id, spec) {
                (_, Err(error)) => scatter.decided(Err(error)),
                (None, _) => {
                    scatter.decided(Err(ErrorCode::UnknownTopicOrPartition));
                }
                (Some(topic), Ok(spec)) => {
                    let id = TopicPartition {
                        topic,
                        partition: PartitionIndex(partition.partition_index),
                    };
                    let one = ListOffset {
                        id,
                        current_leader_epoch: LeaderEpoch(partition.current_leader_epoch),
                        isolation,
                        spec,
                    };
                    scatter.ask(context.server.shard.owner(id), one);
                }
            }
        }
    }
    let translate =
        |result: Result<_, ReadRefusal>| result.map_err(|error| error_codes::read(&error));
    let results: Vec<Outcome> = scatter.gather(&context.server.shard, translate).await;
    let mut results = results.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let result = results.next().expect("one result per partition");
            let error = result.err().unwrap_or(ErrorCode::None);
            let found = result.ok().flatten().unwrap_or(NOTHING);
            ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                error_code: context.code(error),
                timestamp: found.timestamp.0,
                offset: found.offset.0,
                // Older versions have no place for it.
                leader_epoch: match context.version() {
                    VERSION_WITH_LEADER_EPOCH.. => found.leader_epoch.0,
                    _ => LeaderEpoch::NONE.0,
                },
            }
        });
        ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    let topics = topics.collect();
    context.answer(&ListOffsetsResponse {
        topics,
        ..ListOffsetsResponse::default()
    })
}
