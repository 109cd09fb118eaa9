//! Reaching the coordinators of groups: the leaders of the partitions of `__consumer_offsets`.

use coordinator::{GroupAsk, group_partition};
use metadata::MetadataImage;
use metadata::controller::NewTopic;
use model::TopicPartition;
use protocol::Text;
use runtime::{Io, Signal};
use shard::coordinator_host::OFFSETS_TOPIC;
use shard::message::GroupQuestion;
use shard::reply::ReplySlot;

use crate::context::Context;
use crate::handlers::topics;
use crate::scatter::Scatter;

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
pub async fn ask<I: Io, Q: GroupAsk>(
    context: &Context<'_, I>,
    group_id: &str,
    request: Q,
) -> Q::Reply {
    let shard = &context.server.shard;
    let partition = partition_of(&shard.image(), group_id);
    match partition {
        Some(partition) => shard.ask_coordinator(partition, request).await,
        None => Q::reply(request.into_request().refuse_not_coordinator()),
    }
}

/// Asks the coordinators of many groups at once. The answers are in the order of the groups.
pub async fn ask_each<I: Io, Q: GroupAsk<Reply = Vec<A>>, A>(
    context: &Context<'_, I>,
    groups: &[Text],
    request: impl Fn(Vec<String>) -> Q,
) -> Vec<A> {
    let shard = &context.server.shard;
    let mut scatter = Scatter::default();
    for group in groups {
        let partition = partition_of(&shard.image(), group);
        scatter.ask(partition, group.as_str().to_owned());
    }
    let (places, parts) = scatter.split();
    let slot = ReplySlot::new(parts.len(), Signal::new());
    for (part, (partition, groups)) in parts.into_iter().enumerate() {
        let request = request(groups).into_request();
        match partition {
            Some(partition) => {
                let question = GroupQuestion { partition, request };
                shard.ask_into(shard.owner(partition), question, &slot, part);
            }
            None => slot.deliver(part, request.refuse_not_coordinator()),
        }
    }
    let replies = slot.wait().await.into_iter().map(Q::reply).collect();
    places.merge(replies, |answer| answer)
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
