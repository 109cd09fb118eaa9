//! OffsetCommit (key 8): how far a group has come (KIP-320, KIP-848).

use coordinator::CommitPartition;
use metadata::MetadataImage;
use model::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicPartition};
use protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::groups;

/// The last version in which a client says how long to keep its offsets.
const VERSION_WITH_RETENTION_MAX: i16 = 4;
/// From here on clients know GROUP_ID_NOT_FOUND.
const VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 9;
/// From here on topics are named by their ids.
const VERSION_WITH_TOPIC_IDS: i16 = 10;

/// Answers when the offsets are durable.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: OffsetCommitRequest,
) -> Result<(), ConnectionEnd> {
    let shard = &context.server.shard;
    let known = |topic| resolve(&shard.image(), topic, context.version()).is_ok();
    if !request.topics.iter().all(known) {
        shard.catch_up().await;
    }
    let Plan { commit, refused } = Plan::new(&shard.image(), &request, context.version());
    let mut committed = Vec::new();
    if !commit.topics.is_empty() {
        committed = errors_in_order(groups::ask(context, &request.group_id, commit).await);
    }
    let response = to_wire(&request, &refused, committed);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    context.count_codes(partitions.map(|partition| partition.error_code));
    context.answer(&response)
}

/// What goes to the coordinator, and what is refused before.
struct Plan {
    commit: coordinator::OffsetCommitRequest,
    /// One per partition of the request, in order. `None`: the coordinator decides.
    refused: Vec<Option<ErrorCode>>,
}

impl Plan {
    fn new(image: &MetadataImage, request: &OffsetCommitRequest, version: i16) -> Plan {
        let mut refused = Vec::new();
        let mut topics = Vec::new();
        for topic in &request.topics {
            let known = resolve(image, topic, version);
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let error = match &known {
                    Err(error) => Some(*error),
                    Ok(known) => {
                        let id = TopicPartition {
                            topic: known.id(),
                            partition: PartitionIndex(partition.partition_index),
                        };
                        let exists = image.partition(id).is_some();
                        (!exists).then_some(ErrorCode::UnknownTopicOrPartition)
                    }
                };
                refused.push(error);
                if error.is_none() {
                    partitions.push(to_coordinator(partition));
                }
            }
            if let Ok(known) = known
                && !partitions.is_empty()
            {
                topics.push((known.name().to_string(), partitions));
            }
        }
        let commit = coordinator::OffsetCommitRequest {
            group_id: request.group_id.as_str().to_owned(),
            generation_id: request.generation_id_or_member_epoch,
            member_id: request.member_id.as_str().to_owned(),
            group_instance_id: groups::owned(request.group_instance_id.as_ref()),
            retention_ms: (version <= VERSION_WITH_RETENTION_MAX)
                .then_some(request.retention_time_ms),
            topics,
            knows_group_id_not_found: version >= VERSION_WITH_GROUP_ID_NOT_FOUND,
        };
        Plan { commit, refused }
    }
}

fn resolve<'a>(
    image: &'a MetadataImage,
    topic: &OffsetCommitRequestTopic,
    version: i16,
) -> Result<&'a metadata::Topic, ErrorCode> {
    let (found, missing) = if version >= VERSION_WITH_TOPIC_IDS {
        (image.topic_by_id(topic.topic_id), ErrorCode::UnknownTopicId)
    } else {
        let found = image.topic_by_name(&topic.name);
        (found, ErrorCode::UnknownTopicOrPartition)
    };
    found.map(AsRef::as_ref).ok_or(missing)
}

fn to_coordinator(partition: &OffsetCommitRequestPartition) -> CommitPartition {
    CommitPartition {
        partition: PartitionIndex(partition.partition_index),
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: groups::owned(partition.committed_metadata.as_ref()),
    }
}

fn errors_in_order(reply: coordinator::OffsetCommitReply) -> Vec<ErrorCode> {
    let topics = reply.topics.into_iter();
    topics
        .flat_map(|(_, partitions)| partitions)
        .map(|(_, error)| error_codes::group(error))
        .collect()
}

fn to_wire(
    request: &OffsetCommitRequest,
    refused: &[Option<ErrorCode>],
    committed: Vec<ErrorCode>,
) -> OffsetCommitResponse {
    let mut refused = refused.iter();
    let mut committed = committed.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let refused = refused.next().expect("one decision per partition");
            let error =
                refused.unwrap_or_else(|| committed.next().expect("one answer per partition"));
            OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
            }
        });
        OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
        }
    });
    OffsetCommitResponse {
        topics: topics.collect(),
        ..OffsetCommitResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use model::TopicId;
    use protocol::Text;

    use super::*;
    use crate::handlers::groups::tests::image;

    fn topic(name: &'static str, id: TopicId, partitions: &[i32]) -> OffsetCommitRequestTopic {
        let partitions = partitions.iter().map(|index| OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: 7,
            ..OffsetCommitRequestPartition::default()
        });
        OffsetCommitRequestTopic {
            name: Text::from(name),
            topic_id: id,
            partitions: partitions.collect(),
        }
    }

    #[test]
    fn unknown_partitions_are_refused_and_the_rest_goes_to_the_coordinator() {
        let (image, id) = image();
        let unknown = TopicId([9; 16]);
        let (no_partition, no_topic) = (
            Some(ErrorCode::UnknownTopicOrPartition),
            Some(ErrorCode::UnknownTopicId),
        );
        let none = TopicId::ZERO;
        let table = [
            (
                9,
                "orders",
                none,
                &[0, 5, 1][..],
                vec![None, no_partition, None],
            ),
            (9, "other", none, &[0], vec![no_partition]),
            (9, "orders", none, &[-1], vec![no_partition]),
            (10, "", id, &[0, 5], vec![None, no_partition]),
            (10, "", unknown, &[0], vec![no_topic]),
            (10, "", none, &[0], vec![no_topic]),
        ];
        for (version, name, topic_id, partitions, expected) in table {
            let request = OffsetCommitRequest {
                topics: vec![topic(name, topic_id, partitions)],
                ..OffsetCommitRequest::default()
            };
            let plan = Plan::new(&image, &request, version);
            assert_eq!(plan.refused, expected, "{version} {name} {partitions:?}");
            let asked: Vec<_> = plan.commit.topics.iter().flat_map(|(_, p)| p).collect();
            assert_eq!(
                asked.len(),
                expected.iter().flatten().count().abs_diff(expected.len())
            );
            assert!(plan.commit.topics.iter().all(|(name, _)| name == "orders"));
        }
    }

    #[test]
    fn answers_find_back_to_their_partitions() {
        let request = OffsetCommitRequest {
            topics: vec![
                topic("a", TopicId::ZERO, &[0, 1]),
                topic("b", TopicId::ZERO, &[4]),
            ],
            ..OffsetCommitRequest::default()
        };
        let refused = [Some(ErrorCode::UnknownTopicOrPartition), None, None];
        let committed = vec![ErrorCode::None, ErrorCode::OffsetMetadataTooLarge];
        let response = to_wire(&request, &refused, committed);
        let codes: Vec<_> = response
            .topics
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(|p| (p.partition_index, p.error_code))
            })
            .collect();
        assert_eq!(codes, [(0, 3), (1, 0), (4, 12)]);
    }

    #[test]
    fn the_retention_of_old_versions_reaches_the_coordinator() {
        let (image, _) = image();
        let request = OffsetCommitRequest {
            retention_time_ms: 5,
            ..OffsetCommitRequest::default()
        };
        for (version, expected) in [(2, Some(5)), (4, Some(5)), (5, None), (10, None)] {
            let plan = Plan::new(&image, &request, version);
            assert_eq!(plan.commit.retention_ms, expected, "{version}");
            assert_eq!(
                plan.commit.knows_group_id_not_found,
                version >= 9,
                "{version}"
            );
        }
    }
}
