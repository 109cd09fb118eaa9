//! The judgement at the end of a run: everything is read once more, then compared with what clients were told.
//!
//! Promises (reliability.md 1.3, 3.5): no acknowledged record lost, doubled or out of order; offsets dense; what was
//! read stays readable with the same content; the high watermark does not go back; committed offsets survive; topics
//! are there unless deleted.

use std::collections::BTreeMap;
use std::time::Duration;

use client::ClientError;
use model::{ErrorCode, Offset, PartitionIndex, TopicPartition};
use protocol::Text;
use protocol::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use runtime::Io;

use crate::history::{Fate, History, KnownTopic, TopicFate};
use crate::payload::BatchId;
use crate::workload::{Client, Link, absorb_partition, read_back, topic_ids};

/// Answers without progress, or lost connections, before reading counts as impossible.
const TRIES_MAX: u32 = 50;
/// Pause before another try.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// `timestamp` of ListOffsets for the log start.
const EARLIEST: i64 = -2;
/// And for the high watermark.
const LATEST: i64 = -1;

/// Reads everything from a broker that is well, and judges the run. An error says that reading did not work.
pub async fn check(client: &Client) -> Result<(), String> {
    let mut link = Link::new(client.io.clone(), &client.bootstrap);
    check_topics(client, &mut link).await?;
    let topics: Vec<KnownTopic> = client.history.facts().topics.clone();
    for topic in topics.iter().filter(|topic| topic.fate == TopicFate::Alive) {
        for index in 0..topic.partitions {
            let partition = PartitionIndex(index);
            let id = TopicPartition {
                topic: topic.id,
                partition,
            };
            let (start, end) = read_partition(client, &mut link, &topic.name, id).await?;
            check_partition(&client.history, id, start, end);
        }
    }
    check_groups(client, &mut link, &topics).await
}

/// Topics that were created are there, topics that were deleted are not.
async fn check_topics(client: &Client, link: &mut Link) -> Result<(), String> {
    let mut tries = 0;
    let found = loop {
        match topic_ids(link).await {
            Ok(found) => break found,
            Err(error) => retry(client, &mut tries, &error.to_string()).await?,
        }
    };
    let facts = client.history.facts();
    for topic in &facts.topics {
        let there = found.get(&topic.name);
        match topic.fate {
            TopicFate::Alive if there != Some(&(topic.id, topic.partitions)) => {
                client
                    .history
                    .violation(format!("{topic:?} was created, is there as {there:?}"));
            }
            TopicFate::Deleted if there.is_some_and(|(id, _)| *id == topic.id) => {
                client
                    .history
                    .violation(format!("{topic:?} was deleted, and is there"));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn check_groups(
    client: &Client,
    link: &mut Link,
    topics: &[KnownTopic],
) -> Result<(), String> {
    let keys: Vec<(String, TopicPartition)> =
        client.history.facts().commits.keys().cloned().collect();
    for (group, id) in keys {
        let Some(topic) = topics.iter().find(|topic| topic.id == id.topic) else {
            continue;
        };
        let mut tries = 0;
        loop {
            match read_back(client, link, &group, (&topic.name, id)).await {
                Ok(true) => break,
                Ok(false) => retry(client, &mut tries, "the coordinator is not ready").await?,
                Err(error) => retry(client, &mut tries, &error.to_string()).await?,
            }
        }
    }
    Ok(())
}

async fn retry(client: &Client, tries: &mut u32, reason: &str) -> Result<(), String> {
    *tries += 1;
    if *tries > TRIES_MAX {
        return Err(format!("a broker without faults does not answer: {reason}"));
    }
    client.io.sleep(RETRY_PAUSE).await;
    Ok(())
}

/// Reads a partition from its start to its high watermark, which it returns.
async fn read_partition(
    client: &Client,
    link: &mut Link,
    topic: &str,
    id: TopicPartition,
) -> Result<(Offset, Offset), String> {
    let history = &client.history;
    let floor = history.high_watermark_floor(id);
    let mut tries = 0;
    let start = list_offset(client, link, topic, id, EARLIEST).await?;
    let end = list_offset(client, link, topic, id, LATEST).await?;
    history.saw_high_watermark(id, end, floor);
    if start > history.start_max(id) {
        history.violation(format!(
            "{id} starts at {start}, though nobody deleted so much"
        ));
    }
    let mut next = start;
    while next < end {
        match fetch(link, topic, id, next).await {
            Ok(Ok(data)) => {
                let before = next;
                next = absorb_partition(history, id, next, end, data);
                if next == before {
                    retry(
                        client,
                        &mut tries,
                        "a fetch below the high watermark is empty",
                    )
                    .await?;
                }
            }
            Ok(Err(code)) => {
                retry(client, &mut tries, &format!("{id} at {next}: {code:?}")).await?
            }
            Err(error) => retry(client, &mut tries, &error.to_string()).await?,
        }
    }
    // A request that was under way when its connection was lost may have been carried out meanwhile.
    Ok((start, end.max(next)))
}

/// The high watermark of a partition, as a broker that is well tells it.
pub(crate) async fn high_watermark(
    client: &Client,
    link: &mut Link,
    topic: &str,
    id: TopicPartition,
) -> Result<Offset, String> {
    list_offset(client, link, topic, id, LATEST).await
}

async fn list_offset(
    client: &Client,
    link: &mut Link,
    topic: &str,
    id: TopicPartition,
    timestamp: i64,
) -> Result<Offset, String> {
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: Text::copy_from(topic),
            partitions: vec![ListOffsetsPartition {
                partition_index: id.partition.0,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let mut tries = 0;
    loop {
        let reason = match link.call(&request).await {
            Ok(response) => {
                let part = response
                    .topics
                    .iter()
                    .flat_map(|topic| &topic.partitions)
                    .next();
                match part {
                    Some(part) if part.error_code == 0 => return Ok(Offset(part.offset)),
                    Some(part) => format!("{:?}", ErrorCode::from_code(part.error_code)),
                    None => "an empty answer".to_owned(),
                }
            }
            Err(error) => error.to_string(),
        };
        retry(client, &mut tries, &format!("offsets of {id}: {reason}")).await?;
    }
}

/// Asks for records of one partition. The inner error is what the broker answers.
pub(crate) async fn fetch(
    link: &mut Link,
    topic: &str,
    id: TopicPartition,
    from: Offset,
) -> Result<Result<PartitionData, Option<ErrorCode>>, ClientError> {
    let request = FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        topics: vec![FetchTopic {
            topic: Text::copy_from(topic),
            topic_id: id.topic,
            partitions: vec![FetchPartition {
                partition: id.partition.0,
                fetch_offset: from.0,
                partition_max_bytes: 64 << 10,
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    };
    let response = link.call(&request).await?;
    let part = response
        .responses
        .into_iter()
        .flat_map(|topic| topic.partitions)
        .next();
    Ok(match part {
        Some(part) if part.error_code == 0 => Ok(part),
        Some(part) => Err(ErrorCode::from_code(part.error_code)),
        None => Err(ErrorCode::from_code(response.error_code)),
    })
}

/// Compares what is known of a partition with what it holds, from `start` to `end`. Every offset in between was read a
/// moment ago, so what is not known there does not exist.
fn check_partition(history: &History, id: TopicPartition, start: Offset, end: Offset) {
    let facts = history.facts();
    let Some(seen) = facts.partitions.get(&id) else {
        return;
    };
    if let Some((last, record)) = seen.records.last_key_value()
        && *last >= end
    {
        history.violation(format!(
            "{id} ends at {end}, but {record:?} was read at {last}"
        ));
    }
    let held = seen.records.range(start..end).count() as i64;
    if held != end.0 - start.0 {
        history.violation(format!("{id} holds {held} records from {start} to {end}"));
    }
    let mut by_offset: BTreeMap<Offset, (BatchId, u64)> = BTreeMap::new();
    for (batch_id, batch) in facts
        .batches
        .iter()
        .filter(|(_, batch)| batch.partition == id)
    {
        if let Some(base) = batch.seen_at {
            by_offset.insert(base, (*batch_id, batch.stream));
            let after = base.plus(i64::from(batch.records));
            let there = seen.records.range(base..after).count() as u32;
            if base >= start && there != batch.records {
                history.violation(format!(
                    "{id}: {there} records of {batch_id:?} at {base}, sent {}",
                    batch.records
                ));
            }
        }
        let Fate::Acknowledged(base) = batch.fate else {
            continue;
        };
        let after = base.plus(i64::from(batch.records));
        if after > end || (base >= start && batch.seen_at != Some(base)) {
            history.violation(format!(
                "{id}: the acknowledged {batch_id:?} at {base}..{after} is lost: the log has {start}..{end}"
            ));
        }
    }
    let mut last: BTreeMap<(u32, u64), (u64, Offset)> = BTreeMap::new();
    for (base, (batch, stream)) in by_offset {
        let lane = (batch.producer, stream);
        if let Some((number, at)) = last.insert(lane, (batch.number, base))
            && number >= batch.number
        {
            history.violation(format!(
                "{id}: {batch:?} at {base} was sent before number {number}, which is at {at}"
            ));
        }
    }
}
