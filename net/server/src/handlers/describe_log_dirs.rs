//! DescribeLogDirs (key 35): the data directory, its volume, and the sizes of the logs in it (KIP-113, KIP-827).
//!
//! A broker has one data directory. A log's size is that of its record batches, wherever they are: what is in the
//! journal only counts, space that a segment has set aside does not. Its lag is that of a follower behind what its leader has
//! told of as committed.

use std::collections::{BTreeMap, BTreeSet};

use metadata::MetadataImage;
use model::{ErrorCode, PartitionIndex, TopicPartition};
use protocol::Text;
use protocol::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};
use runtime::Io;
use shard::request::{LogSize, LogSized};

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::topics;
use crate::scatter::Scatter;

/// Stands for a size that is not known.
const UNKNOWN_BYTES: i64 = -1;

/// Answers from the storage of every shard concerned.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &DescribeLogDirsRequest,
) -> Result<(), ConnectionEnd> {
    let names = request.topics.iter().flatten().map(|topic| &topic.topic);
    topics::catch_up(context, names).await;
    let shard = &context.server.shard;
    let wanted = wanted(&shard.image(), request);
    let mut scatter = Scatter::default();
    for id in wanted.values().flatten() {
        scatter.ask(shard.owner(*id), LogSize { id: *id });
    }
    let logs = scatter.gather(shard, |log: Option<LogSized>| log).await;
    let topics = described(wanted, logs);
    let directory = &context.server.options.log_dir;
    let log_dir = Text::copy_from(&directory.to_string_lossy());
    let result = match context.server.io.file_system_space(directory).await {
        Ok(space) => DescribeLogDirsResult {
            error_code: context.code(ErrorCode::None),
            log_dir,
            topics,
            total_bytes: known(space.total_bytes),
            usable_bytes: known(space.available_bytes),
            ..DescribeLogDirsResult::default()
        },
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "cannot look at the volume");
            DescribeLogDirsResult {
                error_code: context.code(ErrorCode::KafkaStorageError),
                log_dir,
                ..DescribeLogDirsResult::default()
            }
        }
    };
    context.answer(&DescribeLogDirsResponse {
        results: vec![result],
        ..DescribeLogDirsResponse::default()
    })
}

/// The partitions asked for (all, if none were named) that exist, each once, by name of the topic.
fn wanted(
    image: &MetadataImage,
    request: &DescribeLogDirsRequest,
) -> BTreeMap<String, BTreeSet<TopicPartition>> {
    let mut wanted: BTreeMap<String, BTreeSet<TopicPartition>> = BTreeMap::new();
    let Some(topics) = &request.topics else {
        for topic in image.topics() {
            let ids = topic.partitions().map(|(partition, _)| TopicPartition {
                topic: topic.id(),
                partition,
            });
            wanted.insert(topic.name().as_ref().to_owned(), ids.collect());
        }
        return wanted;
    };
    for asked in topics {
        let Some(topic) = image.topic_by_name(&asked.topic) else {
            continue;
        };
        let ids = asked.partitions.iter().map(|partition| TopicPartition {
            topic: topic.id(),
            partition: PartitionIndex(*partition),
        });
        let known = ids.filter(|id| image.partition(*id).is_some());
        let of_topic = wanted.entry(asked.topic.as_str().to_owned()).or_default();
        of_topic.extend(known);
    }
    wanted
}

/// Topics with the partitions that have a log here. `logs` are those of all wanted, in their order.
fn described(
    wanted: BTreeMap<String, BTreeSet<TopicPartition>>,
    logs: Vec<Option<LogSized>>,
) -> Vec<DescribeLogDirsTopic> {
    let mut logs = logs.into_iter();
    let topics = wanted.into_iter().map(|(name, ids)| {
        let partitions = ids.into_iter().filter_map(|id| {
            let log = logs.next().expect("one log per partition")?;
            let number =
                |count: u64| i64::try_from(count).expect("logs have less than 2^63 of anything");
            Some(DescribeLogDirsPartition {
                partition_index: id.partition.0,
                partition_size: number(log.size_bytes),
                offset_lag: number(log.lag),
                ..DescribeLogDirsPartition::default()
            })
        });
        DescribeLogDirsTopic {
            name: Text::copy_from(&name),
            partitions: partitions.collect(),
        }
    });
    topics
        .filter(|topic| !topic.partitions.is_empty())
        .collect()
}

/// A size that the wire cannot say is told as not known.
fn known(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(UNKNOWN_BYTES)
}
