//! A consumer group without members that commits offsets of its own choice, and reads them back.
//!
//! Offsets rise with every commit. What is read must be the one acknowledged last, or one without an answer.

use client::ClientError;
use model::{ErrorCode, Offset, TopicPartition};
use protocol::Text;
use protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use protocol::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use protocol::{FindCoordinatorRequest, OffsetFetchResponse};
use runtime::Io;

use super::Client;
use super::link::Link;

/// Answers of a coordinator that is loading, moving or behind a faulty disk.
const TRANSIENT: [ErrorCode; 5] = [
    ErrorCode::CoordinatorLoadInProgress,
    ErrorCode::CoordinatorNotAvailable,
    ErrorCode::NotCoordinator,
    ErrorCode::KafkaStorageError,
    ErrorCode::RequestTimedOut,
];

/// Commits until the run stops.
pub(super) async fn run(client: Client, group: String) {
    let mut link = Link::new(client.io.clone(), &client.bootstrap);
    let mut next = 0;
    while !client.history.is_stopping() {
        client.io.sleep(std::time::Duration::from_millis(2)).await;
        client.pause().await;
        // Only topics of the beginning: they stay.
        let Some((topic, id)) = client.history.alive().into_iter().next() else {
            continue;
        };
        let finding = FindCoordinatorRequest {
            coordinator_keys: vec![Text::copy_from(&group)],
            ..FindCoordinatorRequest::default()
        };
        // The first group request of a cluster makes the topic that offsets are kept in.
        if link.call(&finding).await.is_err() {
            continue;
        }
        next += 1;
        commit(&client, &mut link, &group, (&topic, id), Offset(next)).await;
        if client.random.one_in(3) {
            // An error is an answer that did not come: the next round asks again.
            read_back(&client, &mut link, &group, (&topic, id))
                .await
                .ok();
        }
    }
}

async fn commit(
    client: &Client,
    link: &mut Link,
    group: &str,
    of: (&str, TopicPartition),
    offset: Offset,
) {
    let (topic, id) = of;
    let history = &client.history;
    let key = (group.to_owned(), id);
    let request = OffsetCommitRequest {
        group_id: Text::copy_from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: Text::copy_from(topic),
            topic_id: id.topic,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: id.partition.0,
                committed_offset: offset.0,
                ..OffsetCommitRequestPartition::default()
            }],
        }],
        ..OffsetCommitRequest::default()
    };
    history
        .facts_mut()
        .commits
        .entry(key.clone())
        .or_default()
        .indeterminate
        .insert(offset);
    let Ok(response) = link.call(&request).await else {
        return;
    };
    let mut codes = response.topics.iter().flat_map(|topic| &topic.partitions);
    let code = codes
        .next()
        .map(|partition| ErrorCode::from_code(partition.error_code));
    match code {
        Some(Some(ErrorCode::None)) => {
            let mut facts = history.facts_mut();
            facts.tallies.commits += 1;
            let commits = facts.commits.entry(key).or_default();
            commits.indeterminate.remove(&offset);
            commits.acknowledged = Some(offset);
        }
        Some(Some(code)) if TRANSIENT.contains(&code) => {}
        other => history.violation(format!("{group} commits {offset} for {id}: {other:?}")),
    }
}

/// Reads a committed offset and judges it. An error is a lost connection.
pub(crate) async fn read_back(
    client: &Client,
    link: &mut Link,
    group: &str,
    of: (&str, TopicPartition),
) -> Result<bool, ClientError> {
    let (topic, id) = of;
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: Text::copy_from(group),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: Text::copy_from(topic),
                topic_id: id.topic,
                partition_indexes: vec![id.partition.0],
            }]),
            ..OffsetFetchRequestGroup::default()
        }],
        ..OffsetFetchRequest::default()
    };
    let response = link.call(&request).await?;
    Ok(judge(client, group, id, &response))
}

/// Whether the answer was one, and not "later".
fn judge(client: &Client, group: &str, id: TopicPartition, response: &OffsetFetchResponse) -> bool {
    let history = &client.history;
    let Some(answer) = response.groups.first() else {
        history.violation(format!("{group}: the answer does not mention the group"));
        return true;
    };
    let part = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .next();
    let code = match part {
        Some(part) if answer.error_code == 0 => part.error_code,
        _ => answer.error_code,
    };
    let found = match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => part.map_or(Offset::NONE, |part| Offset(part.committed_offset)),
        Some(code) if TRANSIENT.contains(&code) => return false,
        other => {
            history.violation(format!("{group} reads its offset of {id}: {other:?}"));
            return true;
        }
    };
    let key = (group.to_owned(), id);
    let commits = history
        .facts()
        .commits
        .get(&key)
        .cloned()
        .unwrap_or_default();
    let is_right = commits.acknowledged.unwrap_or(Offset::NONE) == found
        || commits.indeterminate.contains(&found);
    if !is_right {
        history.violation(format!(
            "{group} reads {found} for {id}, committed {commits:?}"
        ));
    }
    true
}
