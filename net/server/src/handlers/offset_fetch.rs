//! OffsetFetch (key 9): what groups have committed (KIP-88, KIP-447, KIP-709, KIP-848).
//!
//! Before version 8 a request names one group at the top; inside, all versions look like version 8.

use coordinator::OffsetFetchReply;
use metadata::MetadataImage;
use model::{ErrorCode, LeaderEpoch, Offset, PartitionIndex, TopicId};
use protocol::Text;
use protocol::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use runtime::Io;

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::error_codes;
use crate::handlers::groups;

/// From here on an error of the group has its own place.
const VERSION_WITH_GROUP_ERROR: i16 = 2;
/// From here on a request names several groups.
const VERSION_WITH_GROUPS: i16 = 8;
/// From here on topics are named by their ids.
const VERSION_WITH_TOPIC_IDS: i16 = 10;

/// Answers from the groups' coordinators. Without transactions every committed offset is stable.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: OffsetFetchRequest,
) -> Result<(), ConnectionEnd> {
    let version = context.version();
    if version >= VERSION_WITH_GROUPS {
        let mut fetched = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            fetched.push(fetch(context, group).await);
        }
        return context.answer(&OffsetFetchResponse {
            groups: fetched,
            ..OffsetFetchResponse::default()
        });
    }
    let group = single_group(&request);
    let fetched = fetch(context, &group).await;
    context.answer(&single_response(&group, fetched, version))
}

async fn fetch<I: Io>(
    context: &Context<'_, I>,
    group: &OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let shard = &context.server.shard;
    let version = context.version();
    let (question, unknown) = to_coordinator(&shard.image(), group, version);
    let reply = groups::ask(context, &group.group_id, question).await;
    let fetched = to_wire(&shard.image(), reply, unknown, version);
    let partitions = fetched.topics.iter().flat_map(|topic| &topic.partitions);
    context.count_codes([fetched.error_code]);
    context.count_codes(partitions.map(|partition| partition.error_code));
    fetched
}

/// The question, and the answers for topics that do not exist.
fn to_coordinator(
    image: &MetadataImage,
    group: &OffsetFetchRequestGroup,
    version: i16,
) -> (
    coordinator::OffsetFetchRequest,
    Vec<OffsetFetchResponseTopics>,
) {
    let mut unknown = Vec::new();
    let topics = group.topics.as_ref().map(|topics| {
        let mut asked = Vec::with_capacity(topics.len());
        for topic in topics {
            let name = if version >= VERSION_WITH_TOPIC_IDS {
                match image.topic_by_id(topic.topic_id) {
                    Some(known) => known.name().to_string(),
                    None => {
                        unknown.push(failed(topic, ErrorCode::UnknownTopicId));
                        continue;
                    }
                }
            } else {
                topic.name.as_str().to_owned()
            };
            let indexes = topic.partition_indexes.iter().copied();
            asked.push((name, indexes.map(PartitionIndex).collect()));
        }
        asked
    });
    let question = coordinator::OffsetFetchRequest {
        group_id: group.group_id.as_str().to_owned(),
        topics,
    };
    (question, unknown)
}

/// Every partition that was asked for, without an offset.
fn failed(topic: &OffsetFetchRequestTopics, error: ErrorCode) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter();
    let partitions = partitions.map(|index| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: Offset::NONE.0,
        committed_leader_epoch: LeaderEpoch::NONE.0,
        metadata: Some(Text::EMPTY),
        error_code: error.code(),
    });
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

fn to_wire(
    image: &MetadataImage,
    reply: OffsetFetchReply,
    unknown: Vec<OffsetFetchResponseTopics>,
    version: i16,
) -> OffsetFetchResponseGroup {
    let mut topics = Vec::with_capacity(reply.topics.len() + unknown.len());
    for (name, offsets) in reply.topics {
        let topic_id = match image.topic_id(&name) {
            Some(id) => id,
            // A topic that was deleted since has no id by which this version could name it.
            None if version >= VERSION_WITH_TOPIC_IDS => continue,
            None => TopicId::ZERO,
        };
        let partitions = offsets
            .into_iter()
            .map(|offset| OffsetFetchResponsePartitions {
                partition_index: offset.partition.0,
                committed_offset: offset.offset.0,
                committed_leader_epoch: offset.leader_epoch.0,
                metadata: Some(offset.metadata.into()),
                error_code: error_codes::group(offset.error).code(),
            });
        topics.push(OffsetFetchResponseTopics {
            name: name.into(),
            topic_id,
            partitions: partitions.collect(),
        });
    }
    if reply.error.is_none() {
        topics.extend(unknown);
    }
    OffsetFetchResponseGroup {
        group_id: reply.group_id.into(),
        topics,
        error_code: error_codes::group(reply.error).code(),
    }
}

/// The only group of an old request, as newer ones have it.
fn single_group(request: &OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.as_ref().map(|topics| {
        let topics = topics.iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name.clone(),
            topic_id: TopicId::ZERO,
            partition_indexes: topic.partition_indexes.clone(),
        });
        topics.collect()
    });
    OffsetFetchRequestGroup {
        group_id: request.group_id.clone(),
        topics,
        ..OffsetFetchRequestGroup::default()
    }
}

/// The answer about the only group of an old request.
fn single_response(
    group: &OffsetFetchRequestGroup,
    fetched: OffsetFetchResponseGroup,
    version: i16,
) -> OffsetFetchResponse {
    let error = fetched.error_code;
    let topics = if error != 0 && version < VERSION_WITH_GROUP_ERROR {
        let asked = group.topics.iter().flatten();
        let code = ErrorCode::from_code(error).unwrap_or(ErrorCode::UnknownServerError);
        asked.map(|topic| failed(topic, code)).collect()
    } else {
        fetched.topics
    };
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter();
        let partitions = partitions.map(|partition| OffsetFetchResponsePartition {
            partition_index: partition.partition_index,
            committed_offset: partition.committed_offset,
            committed_leader_epoch: partition.committed_leader_epoch,
            metadata: partition.metadata,
            error_code: partition.error_code,
        });
        OffsetFetchResponseTopic {
            name: topic.name,
            partitions: partitions.collect(),
        }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: error,
        ..OffsetFetchResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use coordinator::FetchedOffset;
    use protocol::offset_fetch::OffsetFetchRequestTopic;

    use super::*;
    use crate::handlers::groups::tests::image;

    fn reply(topic: &str) -> OffsetFetchReply {
        let offset = FetchedOffset {
            partition: PartitionIndex(1),
            offset: Offset(42),
            leader_epoch: LeaderEpoch(3),
            metadata: "note".into(),
            error: None,
        };
        OffsetFetchReply {
            group_id: "g".into(),
            error: None,
            topics: vec![(topic.to_owned(), vec![offset])],
        }
    }

    #[test]
    fn topics_are_asked_for_by_name_whatever_the_request_named() {
        let (image, id) = image();
        let by = |name: &'static str, topic_id| OffsetFetchRequestTopics {
            name: name.into(),
            topic_id,
            partition_indexes: vec![0],
        };
        let (known, other) = (TopicId::ZERO, TopicId([9; 16]));
        let table = [
            (8, by("orders", known), vec!["orders"], 0),
            (9, by("gone", known), vec!["gone"], 0),
            (10, by("", id), vec!["orders"], 0),
            (10, by("", other), vec![], 1),
        ];
        for (version, topic, asked, refused) in table {
            let group = OffsetFetchRequestGroup {
                topics: Some(vec![topic]),
                ..OffsetFetchRequestGroup::default()
            };
            let (question, unknown) = to_coordinator(&image, &group, version);
            let names: Vec<_> = question.topics.unwrap().into_iter().map(|t| t.0).collect();
            assert_eq!(names, asked, "{version}");
            assert_eq!(unknown.len(), refused, "{version}");
            let codes = unknown.iter().flat_map(|topic| &topic.partitions);
            assert!(codes.map(|p| p.error_code).all(|code| code == 100));
        }
        let all = OffsetFetchRequestGroup::default();
        let null = OffsetFetchRequestGroup {
            topics: None,
            ..all
        };
        assert_eq!(to_coordinator(&image, &null, 10).0.topics, None);
    }

    #[test]
    fn a_deleted_topic_is_left_out_where_it_has_no_name() {
        let (image, id) = image();
        let table = [
            (9, "orders", 1, id),
            (9, "gone", 1, TopicId::ZERO),
            (10, "orders", 1, id),
            (10, "gone", 0, TopicId::ZERO),
        ];
        for (version, topic, count, topic_id) in table {
            let group = to_wire(&image, reply(topic), Vec::new(), version);
            assert_eq!(group.topics.len(), count, "{version} {topic}");
            assert!(group.topics.iter().all(|topic| topic.topic_id == topic_id));
        }
    }

    #[test]
    fn an_error_of_the_group_is_where_the_version_has_a_place_for_it() {
        let request = OffsetFetchRequest {
            group_id: "g".into(),
            topics: Some(vec![OffsetFetchRequestTopic {
                name: "orders".into(),
                partition_indexes: vec![0, 1],
            }]),
            ..OffsetFetchRequest::default()
        };
        let group = single_group(&request);
        for (version, partition_errors) in [(1, vec![14, 14]), (2, vec![]), (7, vec![])] {
            let fetched = OffsetFetchResponseGroup {
                error_code: 14,
                ..OffsetFetchResponseGroup::default()
            };
            let response = single_response(&group, fetched, version);
            let errors: Vec<_> = response
                .topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(|p| p.error_code))
                .collect();
            assert_eq!(errors, partition_errors, "{version}");
            assert!(protocol::encode_response_message(1, version, &response).is_ok());
        }
    }

    #[test]
    fn offsets_survive_every_version() {
        let (image, _) = image();
        for version in 1..=10 {
            let fetched = to_wire(&image, reply("orders"), Vec::new(), version);
            let partition = fetched.topics[0].partitions[0].clone();
            let (offset, metadata) = (partition.committed_offset, partition.metadata);
            assert_eq!((offset, metadata.as_deref()), (42, Some("note")));
            let response = if version >= VERSION_WITH_GROUPS {
                OffsetFetchResponse {
                    groups: vec![fetched],
                    ..OffsetFetchResponse::default()
                }
            } else {
                single_response(&OffsetFetchRequestGroup::default(), fetched, version)
            };
            assert!(
                protocol::encode_response_message(1, version, &response).is_ok(),
                "{version}"
            );
        }
    }
}
