//! ListPartitionReassignments (key 46): partitions whose replicas are being moved (KIP-455).

use metadata::{MetadataImage, PartitionState, Topic};
use model::PartitionIndex;
use protocol::Text;
use protocol::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::topics;

/// Answers from the image. What is asked about and does not exist is left out, as in Kafka.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: &ListPartitionReassignmentsRequest,
) -> Result<(), ConnectionEnd> {
    let names = request.topics.iter().flatten().map(|topic| &topic.name);
    topics::catch_up(context, names).await;
    let image = context.server.shard.image();
    let topics = ongoing(&image, request);
    drop(image);
    context.answer(&ListPartitionReassignmentsResponse {
        topics,
        ..ListPartitionReassignmentsResponse::default()
    })
}

fn ongoing(
    image: &MetadataImage,
    request: &ListPartitionReassignmentsRequest,
) -> Vec<OngoingTopicReassignment> {
    let listed: Vec<OngoingTopicReassignment> = match &request.topics {
        None => image
            .topics()
            .map(|topic| of_topic(topic, topic.partitions()))
            .collect(),
        Some(asked) => asked
            .iter()
            .filter_map(|asked| {
                let topic = image.topic_by_name(&asked.name)?;
                let indexes = asked.partition_indexes.iter().copied().map(PartitionIndex);
                let partitions = indexes.filter_map(|index| Some((index, topic.partition(index)?)));
                Some(of_topic(topic, partitions))
            })
            .collect(),
    };
    let is_moving = |topic: &OngoingTopicReassignment| !topic.partitions.is_empty();
    listed.into_iter().filter(is_moving).collect()
}

fn of_topic<'a>(
    topic: &Topic,
    partitions: impl Iterator<Item = (PartitionIndex, &'a PartitionState)>,
) -> OngoingTopicReassignment {
    let moving = partitions.filter(|(_, state)| {
        !state.adding_replicas().is_empty() || !state.removing_replicas().is_empty()
    });
    let moving = moving.map(|(index, state)| OngoingPartitionReassignment {
        partition_index: index.0,
        replicas: topics::ids(&state.replicas),
        adding_replicas: topics::ids(state.adding_replicas()),
        removing_replicas: topics::ids(state.removing_replicas()),
    });
    OngoingTopicReassignment {
        name: Text::copy_from(topic.name()),
        partitions: moving.collect(),
    }
}
