//! Topics that come and go, and records deleted from the front of logs.

use std::collections::BTreeMap;
use std::time::Duration;

use client::ClientError;
use model::{ErrorCode, Offset, TopicId, TopicPartition};
use protocol::Text;
use protocol::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use protocol::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use protocol::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use runtime::Io;

use super::Client;
use super::link::Link;
use crate::history::{KnownTopic, TopicFate};

/// Longest wait for an answer of the controller, in milliseconds.
const TIMEOUT_MS: i32 = 600;
/// Shortest time between two administrative acts.
const PAUSE: Duration = Duration::from_millis(5);
/// Most topics at once.
const TOPICS_MAX: usize = 6;
/// Tries of the topics of the beginning.
const CREATE_TRIES_MAX: u32 = 20;

/// Makes the topics that stay.
pub async fn create_first_topics(client: &Client) -> Result<(), String> {
    let mut link = Link::new(client.io.clone(), &client.bootstrap);
    for number in 0..client.settings.topics {
        let name = format!("stays-{number}{}", client.settings.suffix);
        let mut tries = 0;
        while !create(client, &mut link, &name).await {
            tries += 1;
            if tries == CREATE_TRIES_MAX {
                return Err(format!("the topic {name} cannot be created"));
            }
        }
    }
    Ok(())
}

/// Administers until the run stops.
pub(super) async fn run(client: Client) {
    let mut link = Link::new(client.io.clone(), &client.bootstrap);
    let mut number = 0;
    while !client.history.is_stopping() {
        client.io.sleep(PAUSE).await;
        client.pause().await;
        match client.random.below(3) {
            0 if client.settings.topic_churn => {
                number += 1;
                let alive = client
                    .history
                    .facts()
                    .topics
                    .iter()
                    .filter(|topic| topic.fate == TopicFate::Alive)
                    .count();
                if alive < TOPICS_MAX {
                    let name = format!("goes-{number}{}", client.settings.suffix);
                    create(&client, &mut link, &name).await;
                }
            }
            1 if client.settings.topic_churn => delete(&client, &mut link).await,
            _ if client.settings.delete_records => delete_records(&client, &mut link).await,
            _ => {}
        }
    }
}

/// Creates a topic of the workload; whether it is known to exist now.
async fn create(client: &Client, link: &mut Link, name: &str) -> bool {
    let (random, settings) = (&client.random, &client.settings);
    let partitions = random.between(1, settings.partitions_max) as i32;
    let segment_ms = settings.segment_ms[random.index(settings.segment_ms.len())];
    let mut configs = vec![
        ("segment.ms", segment_ms.to_string()),
        ("retention.ms", "-1".to_owned()),
    ];
    if settings.written_topics && random.one_in(2) {
        configs.push(("ringlog.durability", "written".to_owned()));
    }
    create_topic(client, link, name, partitions, &configs).await
}

/// Creates a topic with these settings; whether it is known to exist now.
pub(crate) async fn create_topic(
    client: &Client,
    link: &mut Link,
    name: &str,
    partitions: i32,
    configs: &[(&'static str, String)],
) -> bool {
    let config = |(name, value): &(&'static str, String)| CreatableTopicConfig {
        name: Text::from_static(name),
        value: Some(Text::copy_from(value)),
    };
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Text::copy_from(name),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        }],
        timeout_ms: TIMEOUT_MS,
        ..CreateTopicsRequest::default()
    };
    let Ok(response) = link.call(&request).await else {
        return false;
    };
    let Some(result) = response.topics.first() else {
        client
            .history
            .violation(format!("creating {name}: no answer in the answer"));
        return false;
    };
    let known = match ErrorCode::from_code(result.error_code) {
        Some(ErrorCode::None) => Some((result.topic_id, partitions)),
        // An earlier try had no answer.
        Some(ErrorCode::TopicAlreadyExists) => match topic_ids(link).await {
            Ok(topics) => topics.get(name).copied(),
            Err(_) => None,
        },
        Some(ErrorCode::KafkaStorageError | ErrorCode::RequestTimedOut) => None,
        other => {
            client
                .history
                .violation(format!("creating {name}: {other:?}"));
            None
        }
    };
    let Some((id, partitions)) = known else {
        return false;
    };
    client.history.facts_mut().topics.push(KnownTopic {
        name: name.to_owned(),
        id,
        partitions,
        fate: TopicFate::Alive,
    });
    true
}

/// Ids and partition counts of all topics, by name.
pub async fn topic_ids(link: &mut Link) -> Result<BTreeMap<String, (TopicId, i32)>, ClientError> {
    let request = MetadataRequest {
        topics: None::<Vec<MetadataRequestTopic>>,
        ..MetadataRequest::default()
    };
    let response = link.call(&request).await?;
    let topics = response.topics.into_iter().filter_map(|topic| {
        let partitions = i32::try_from(topic.partitions.len()).ok()?;
        Some((String::from(topic.name?), (topic.topic_id, partitions)))
    });
    Ok(topics.collect())
}

fn set_fate(client: &Client, id: TopicId, fate: TopicFate) {
    let mut facts = client.history.facts_mut();
    if let Some(topic) = facts.topics.iter_mut().find(|topic| topic.id == id) {
        topic.fate = fate;
    }
}

async fn delete(client: &Client, link: &mut Link) {
    let doomed: Vec<(TopicId, String)> = {
        let facts = client.history.facts();
        let candidates = facts
            .topics
            .iter()
            .filter(|topic| topic.fate != TopicFate::Deleted && topic.name.starts_with("goes"));
        candidates
            .map(|topic| (topic.id, topic.name.clone()))
            .collect()
    };
    if doomed.is_empty() {
        return;
    }
    let (id, name) = &doomed[client.random.index(doomed.len())];
    delete_topic(client, link, (*id, name)).await;
}

/// Asks once for the deletion of a topic; its fate says what came of it.
pub(crate) async fn delete_topic(client: &Client, link: &mut Link, topic: (TopicId, &str)) {
    let (id, name) = topic;
    set_fate(client, id, TopicFate::Deleting);
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: None,
            topic_id: id,
        }],
        timeout_ms: TIMEOUT_MS,
        ..DeleteTopicsRequest::default()
    };
    let Ok(response) = link.call(&request).await else {
        return;
    };
    let code = response
        .responses
        .first()
        .map(|result| ErrorCode::from_code(result.error_code));
    match code {
        Some(Some(ErrorCode::None | ErrorCode::UnknownTopicId)) => {
            set_fate(client, id, TopicFate::Deleted);
            client.history.facts_mut().tallies.topics_deleted += 1;
        }
        Some(Some(ErrorCode::KafkaStorageError | ErrorCode::RequestTimedOut)) => {}
        other => client
            .history
            .violation(format!("deleting {name}: {other:?}")),
    }
}

async fn delete_records(client: &Client, link: &mut Link) {
    let alive = client.history.alive();
    if alive.is_empty() {
        return;
    }
    let (topic, id) = &alive[client.random.index(alive.len())];
    let end = client.history.high_watermark_floor(*id);
    let offset = Offset(client.random.below(end.0.unsigned_abs() / 2 + 1) as i64);
    delete_records_to(client, link, (topic, *id), offset).await;
}

/// Asks once for the deletion of the records below `offset`; whether they are gone.
pub(crate) async fn delete_records_to(
    client: &Client,
    link: &mut Link,
    from: (&str, TopicPartition),
    offset: Offset,
) -> bool {
    let (topic, id) = from;
    {
        let mut facts = client.history.facts_mut();
        let seen = facts.partitions.entry(id).or_default();
        seen.start_max = seen.start_max.max(offset);
    }
    let request = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: Text::copy_from(topic),
            partitions: vec![DeleteRecordsPartition {
                partition_index: id.partition.0,
                offset: offset.0,
            }],
        }],
        timeout_ms: TIMEOUT_MS,
    };
    let Ok(response) = link.call(&request).await else {
        return false;
    };
    let part = response
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .next();
    match part.map(|part| {
        (
            ErrorCode::from_code(part.error_code),
            Offset(part.low_watermark),
        )
    }) {
        Some((Some(ErrorCode::None), low)) if low >= offset => true,
        Some((
            Some(
                ErrorCode::KafkaStorageError
                | ErrorCode::RequestTimedOut
                | ErrorCode::NotLeaderOrFollower,
            ),
            _,
        )) => false,
        Some((Some(ErrorCode::UnknownTopicOrPartition), _))
            if client.history.may_be_deleted(id.topic) =>
        {
            false
        }
        other => {
            client.history.violation(format!(
                "deleting records of {id} below {offset}: {other:?}"
            ));
            false
        }
    }
}
