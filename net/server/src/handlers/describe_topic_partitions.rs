//! DescribeTopicPartitions (key 75): partitions of topics, a page at a time (KIP-966).

use metadata::{MetadataImage, Topic};
use model::{ErrorCode, PartitionIndex};
use protocol::Text;
use protocol::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::topics;

/// Partitions in one answer at most (`max.request.partition.size.limit`).
const PARTITIONS_MAX: usize = 2000;

/// Answers from the image: topics in order of name, starting at the cursor.
pub fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &DescribeTopicPartitionsRequest,
) -> Result<(), ConnectionEnd> {
    let image = context.server.shard.image();
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = asked.clamp(1, PARTITIONS_MAX);
    let start = request.cursor.as_ref();
    let names = names(request, &image);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        let first = match start {
            Some(cursor) if *cursor.topic_name == *name => cursor.partition_index.max(0),
            _ => 0,
        };
        if left == 0 {
            response.next_cursor = Some(Cursor {
                topic_name: Text::copy_from(&name),
                partition_index: 0,
            });
            break;
        }
        let Some(topic) = image.topic_by_name(&name) else {
            response.topics.push(unknown(&name));
            context.count_codes(response.topics.last().map(|topic| topic.error_code));
            continue;
        };
        let (described, next) = describe(context, &image, topic, first, left);
        left -= described.partitions.len();
        response.topics.push(described);
        if let Some(partition_index) = next {
            response.next_cursor = Some(Cursor {
                topic_name: Text::copy_from(&name),
                partition_index,
            });
            break;
        }
    }
    context.answer(&response)
}

/// The names asked for (all, if none), from the cursor's on, each once.
fn names(request: &DescribeTopicPartitionsRequest, image: &MetadataImage) -> Vec<String> {
    let mut names: Vec<String> = if request.topics.is_empty() {
        image
            .topics()
            .map(|topic| topic.name().as_ref().to_owned())
            .collect()
    } else {
        let asked = request.topics.iter();
        asked.map(|topic| topic.name.as_str().to_owned()).collect()
    };
    names.sort_unstable();
    names.dedup();
    if let Some(cursor) = &request.cursor {
        names.retain(|name| name.as_str() >= cursor.topic_name.as_str());
    }
    names
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match metadata::topic_name::validate(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(Text::copy_from(name)),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

/// Up to `partitions_max` partitions from `first` on, and the index of the next one if there are more.
fn describe<I: Io>(
    context: &Context<'_, I>,
    image: &MetadataImage,
    topic: &Topic,
    first: i32,
    partitions_max: usize,
) -> (DescribeTopicPartitionsResponseTopic, Option<i32>) {
    let mut rest = topic
        .partitions()
        .skip_while(|(index, _)| *index < PartitionIndex(first));
    let partitions = rest.by_ref().take(partitions_max);
    let partitions = partitions.map(|(index, state)| {
        let (error, leader_id) = topics::leader(context, image, state, true);
        DescribeTopicPartitionsResponsePartition {
            error_code: context.code(error),
            partition_index: index.0,
            leader_id,
            leader_epoch: state.leader_epoch.0,
            replica_nodes: topics::ids(&state.replicas),
            isr_nodes: topics::ids(&state.isr),
            eligible_leader_replicas: Some(topics::ids(state.eligible_leader_replicas())),
            last_known_elr: Some(topics::ids(state.last_known_elr())),
            offline_replicas: topics::offline_replicas(image, state),
        }
    });
    let described = DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(Text::copy_from(topic.name().as_ref())),
        topic_id: topic.id(),
        is_internal: topics::is_internal(topic.name()),
        partitions: partitions.collect(),
        topic_authorized_operations: topics::TOPIC_OPERATIONS,
    };
    (described, rest.next().map(|(index, _)| index.0))
}
