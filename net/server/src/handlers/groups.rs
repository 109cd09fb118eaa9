//! Reaching the coordinators of groups: the leaders of the partitions of `__consumer_offsets`.

use std::collections::BTreeMap;

use coordinator::{GroupReply, GroupRequest, group_partition};
use metadata::MetadataImage;
use metadata::controller::NewTopic;
use model::{ErrorCode, TopicPartition};
use protocol::Text;
use runtime::{Io, Signal};
use shard::coordinator_host::{GroupWork, OFFSETS_TOPIC};
use shard::message::{ShardReply, ShardRequest};
use shard::reply::ReplySlot;

use crate::context::Context;
use crate::handlers::topics;

/// Every operation that exists for a group: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS (bits 3, 6, 8,
/// 10, 11). Without an authorizer everybody may do everything.
pub const GROUP_OPERATIONS: i32 = 0b1101_0100_1000;

/// The partition whose leader coordinates a group. `None` if the topic does not exist yet.
pub fn partition_of(image: &MetadataImage, group_id: &str) -> Option<TopicPartition> {
    let topic = image.topic_by_name(OFFSETS_TOPIC)?;
    let count = i32::try_from(topic.partition_count()).ok()?;
    (count > 0).then(|| TopicPartition {
        topic: topic.id(),
        partition: group_partition(group_id, count),
    })
}

/// The topic of committed offsets as it is to be created.
pub fn offsets_topic<I: Io>(context: &Context<'_, I>) -> NewTopic {
    let shard = &context.server.shard;
    let config = &shard.options.config;
    let image = shard.image();
    let live = image.brokers().filter(|broker| broker.is_active()).count();
    let live = i16::try_from(live).unwrap_or(i16::MAX);
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        (
            "segment.bytes",
            config.offsets_topic_segment_bytes.to_string(),
        ),
    ];
    NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        topic_id: topics::new_topic_id(&context.server.io),
        partition_count: config.offsets_topic_num_partitions,
        // A small cluster gets what it can have, so that a broker alone works without a setting.
        replication_factor: config.offsets_topic_replication_factor.min(live.max(1)),
        assignments: Vec::new(),
        configs: configs
            .map(|(name, value)| (name.to_owned(), Some(value)))
            .into(),
    }
}

/// Asks the coordinator of a group, and waits for as long as it takes.
pub async fn ask<I: Io>(
    context: &Context<'_, I>,
    group_id: &str,
    request: GroupRequest,
) -> GroupReply {
    let shard = &context.server.shard;
    let partition = partition_of(&shard.image(), group_id);
    let Some(partition) = partition else {
        return request.refuse(ErrorCode::NotCoordinator);
    };
    let work = ShardRequest::Group(GroupWork::Coordinate(partition, request));
    group_reply(shard.call(shard.owner(partition), work).await)
}

/// Asks the coordinators of many groups at once. The answers are in the order of the groups.
pub async fn ask_each<I: Io, A>(
    context: &Context<'_, I>,
    groups: &[Text],
    request: impl Fn(Vec<String>) -> GroupRequest,
    answers: impl Fn(GroupReply) -> Vec<A>,
) -> Vec<A> {
    let shard = &context.server.shard;
    let mut parts: BTreeMap<Option<TopicPartition>, Vec<usize>> = BTreeMap::new();
    for (index, group) in groups.iter().enumerate() {
        let partition = partition_of(&shard.image(), group);
        parts.entry(partition).or_default().push(index);
    }
    let mut placed: Vec<Option<A>> = Vec::new();
    placed.resize_with(groups.len(), || None);
    let mut place = |indices: &[usize], reply: GroupReply| {
        for (index, answer) in indices.iter().zip(answers(reply)) {
            placed[*index] = Some(answer);
        }
    };
    let named = |indices: &[usize]| {
        let names = indices
            .iter()
            .map(|index| groups[*index].as_str().to_owned());
        request(names.collect())
    };
    if let Some(indices) = parts.remove(&None) {
        let refused = named(&indices).refuse(ErrorCode::NotCoordinator);
        place(&indices, refused);
    }
    let slot = ReplySlot::new(parts.len(), Signal::new());
    for (part, (partition, indices)) in parts.iter().enumerate() {
        if let Some(partition) = *partition {
            let work = GroupWork::Coordinate(partition, named(indices));
            shard.submit(
                shard.owner(partition),
                ShardRequest::Group(work),
                &slot,
                part,
            );
        }
    }
    for (indices, reply) in parts.values().zip(slot.wait().await) {
        place(indices, group_reply(reply));
    }
    let placed = placed.into_iter();
    placed
        .map(|answer| answer.expect("one answer per group"))
        .collect()
}

/// What a shard answers to group work.
pub fn group_reply(reply: ShardReply) -> GroupReply {
    match reply {
        ShardReply::Group(reply) => reply,
        other => unreachable!("a shard answered group work with {other:?}"),
    }
}

/// An owned string of a field that may be null.
pub fn owned(text: Option<&Text>) -> Option<String> {
    text.map(|text| text.as_str().to_owned())
}

#[cfg(test)]
pub mod tests {
    use metadata::BrokerEndpoint;
    use metadata::controller::{BrokerRegistrationRequest, CreateTopicsRequest};
    use metadata::controller::{change_fencing, create_topics, register_broker};
    use model::{BrokerEpoch, BrokerId, TopicId};

    use super::*;

    /// A cluster of one broker with the topic `orders` of two partitions, and that topic's id.
    pub fn image() -> (MetadataImage, TopicId) {
        let mut image = MetadataImage::new("cluster");
        let registration = BrokerRegistrationRequest {
            cluster_id: "cluster".into(),
            broker_id: BrokerId(1),
            endpoints: vec![BrokerEndpoint {
                name: "PLAINTEXT".into(),
                host: "localhost".into(),
                port: 9092,
                security_protocol: 0,
            }],
            ..BrokerRegistrationRequest::default()
        };
        let registered = register_broker(&image, &registration, BrokerEpoch(0), false);
        apply(&mut image, &registered.records);
        let unfenced = change_fencing(&image, BrokerId(1), false, &|_| false);
        apply(&mut image, &unfenced.records);
        let topic_id = TopicId([3; 16]);
        let topic = NewTopic {
            name: "orders".into(),
            topic_id,
            partition_count: 2,
            replication_factor: 1,
            ..NewTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..CreateTopicsRequest::default()
        };
        let created = create_topics(&image, &request, &|_| Ok(()));
        apply(&mut image, &created.records);
        (image, topic_id)
    }

    fn apply(image: &mut MetadataImage, records: &[metadata::MetadataRecord]) {
        let base = image.end_offset();
        image.apply_batch(base, records).unwrap();
    }

    #[test]
    fn groups_have_no_coordinator_before_the_topic_of_offsets_exists() {
        let (image, _) = image();
        assert_eq!(partition_of(&image, "g"), None);
    }
}
