//! A producer without idempotence: bursts of pipelined requests, each batch sent once whatever happens to it.

use std::collections::VecDeque;

use bytes::Bytes;
use client::{Acks, Pending};
use model::record::{BatchBuilder, Compression};
use model::{ErrorCode, Offset, Timestamp, TopicPartition};
use protocol::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use protocol::{Records, Text};
use runtime::Io;

use super::Client;
use super::link::{IN_FLIGHT_MAX, Link};
use crate::history::{Fate, SentBatch};
use crate::payload::{BatchId, RecordId};

/// Partitions of one request.
const PARTITIONS_PER_REQUEST_MAX: u64 = 3;
/// One in so many compressed batches is small only on the wire: its check takes several turns of the shard, and what
/// the connection sends behind it must not overtake it.
const LONG_SHARE: u64 = 40;
/// What the value of such a batch has at least, and at most beyond that.
const LONG_VALUE_BYTES: usize = 5 << 18;
const LONG_VALUE_MORE_BYTES: u64 = 1 << 18;
/// How long the broker may take, as it is told.
const PRODUCE_TIMEOUT_MS: i32 = 600;

/// A batch on its way.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) id: BatchId,
    pub(crate) topic: String,
    pub(crate) partition: TopicPartition,
    pub(crate) bytes: Bytes,
    /// Whether its shard was fenced when it was sent: then no acknowledgement may come.
    pub(crate) fenced: bool,
}

/// What was said about a batch.
pub(crate) enum Answer {
    Acknowledged(Offset),
    Refused(ErrorCode, String),
    /// The answer does not mention it, or with a code that Kafka does not have.
    Nonsense(i16),
}

/// Builds a batch and notes it as sent. `finish` adds the producer's identity.
pub(crate) fn make_batch(
    client: &Client,
    id: BatchId,
    to: (String, TopicPartition),
    stream: u64,
    finish: impl FnOnce(BatchBuilder) -> BatchBuilder,
) -> (Outgoing, u32) {
    let settings = &client.settings;
    let random = &client.random;
    let mut count = random.between(1, settings.records_max) as u32;
    let mut value_bytes =
        crate::payload::ID_BYTES + random.below(settings.value_bytes_max + 1) as usize;
    let codec = settings.codecs[random.index(settings.codecs.len())];
    if codec != Compression::None && random.one_in(LONG_SHARE) {
        count = 1;
        value_bytes = LONG_VALUE_BYTES + random.below(LONG_VALUE_MORE_BYTES) as usize;
    }
    let mut builder = finish(BatchBuilder::new().compression(codec));
    let now = client.io.wall_clock();
    for index in 0..count {
        let record = RecordId { batch: id, index };
        let key = record.key();
        let value = record.value(value_bytes);
        let timestamp = Timestamp(now.0 + i64::from(index));
        builder.push(timestamp, key.as_ref().map(|key| &key[..]), Some(&value));
    }
    let bytes = builder.build().expect("a batch with records can be built");
    let (topic, partition) = to;
    let batch = SentBatch {
        partition,
        records: count,
        value_bytes,
        hash: crate::hash::of_batch(&bytes),
        stream,
        acks_all: true,
        fate: Fate::Indeterminate,
        seen_at: None,
    };
    client.history.sent(id, batch);
    let outgoing = Outgoing {
        id,
        topic,
        partition,
        bytes,
        fenced: client.broker.is_fenced(partition),
    };
    (outgoing, count)
}

/// One request with these batches, at most one per partition.
pub(crate) fn request(acks: Acks, batches: &[Outgoing]) -> ProduceRequest {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for batch in batches {
        let data = PartitionProduceData {
            index: batch.partition.partition.0,
            records: Some(Records::from(batch.bytes.clone())),
        };
        match topics
            .iter_mut()
            .find(|topic| topic.topic_id == batch.partition.topic)
        {
            Some(topic) => topic.partition_data.push(data),
            None => topics.push(TopicProduceData {
                name: Text::copy_from(&batch.topic),
                topic_id: batch.partition.topic,
                partition_data: vec![data],
            }),
        }
    }
    ProduceRequest {
        transactional_id: None,
        acks: acks.code(),
        timeout_ms: PRODUCE_TIMEOUT_MS,
        topic_data: topics,
    }
}

/// What a response says about one batch.
pub(crate) fn answer(response: &ProduceResponse, batch: &Outgoing) -> Answer {
    let id = batch.partition;
    let topics = response
        .responses
        .iter()
        .filter(|topic| topic.topic_id == id.topic);
    let mut parts = topics
        .flat_map(|topic| &topic.partition_responses)
        .filter(|part| part.index == id.partition.0);
    let Some(part) = parts.next() else {
        return Answer::Nonsense(0);
    };
    match ErrorCode::from_code(part.error_code) {
        Some(ErrorCode::None) => Answer::Acknowledged(Offset(part.base_offset)),
        Some(code) => {
            let message = part.error_message.as_deref().unwrap_or_default();
            Answer::Refused(code, message.to_owned())
        }
        None => Answer::Nonsense(part.error_code),
    }
}

/// Notes how a batch that is not sent again ended. Refusals that say nothing was written are failures.
fn settle(client: &Client, batch: &Outgoing, answer: &Answer) {
    let history = &client.history;
    let fate = match answer {
        Answer::Acknowledged(_) if batch.fenced => {
            let (id, partition) = (batch.id, batch.partition);
            history.violation(format!(
                "{id:?} was acknowledged by the fenced shard of {partition}"
            ));
            Fate::Indeterminate
        }
        Answer::Acknowledged(base) => Fate::Acknowledged(*base),
        Answer::Refused(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition, _) => {
            let code = ErrorCode::UnknownTopicId.code();
            history.unknown(batch.partition, code, "producing");
            Fate::Indeterminate
        }
        // A leader that resigns says so also to those whose records it has appended: it may lead again.
        Answer::Refused(
            ErrorCode::KafkaStorageError
            | ErrorCode::RequestTimedOut
            | ErrorCode::NotLeaderOrFollower,
            _,
        ) => Fate::Indeterminate,
        Answer::Refused(ErrorCode::NotEnoughReplicas, _) => Fate::Failed,
        Answer::Refused(code, message) => {
            history.violation(format!(
                "{:?} was refused with {code:?}: {message}",
                batch.id
            ));
            Fate::Failed
        }
        Answer::Nonsense(code) => {
            history.violation(format!(
                "{:?} was answered with code {code} or not at all",
                batch.id
            ));
            Fate::Indeterminate
        }
    };
    history.settle(batch.id, fate);
}

/// Produces until the run stops.
pub(super) async fn run(client: Client, producer: u32) {
    let mut link = Link::new(client.io.clone(), &client.bootstrap);
    let mut number = 0;
    while !client.history.is_stopping() {
        client.pause().await;
        burst(&client, &mut link, producer, &mut number).await;
    }
}

/// Sends some requests at once, then reads their answers.
async fn burst(client: &Client, link: &mut Link, producer: u32, number: &mut u64) {
    if link.connected().await.is_none() {
        return;
    }
    let random = &client.random;
    let stream = link.number();
    let acks = [Acks::All, Acks::All, Acks::Leader, Acks::None][random.index(4)];
    let mut waiting: VecDeque<(Pending<ProduceResponse>, Vec<Outgoing>)> = VecDeque::new();
    for _ in 0..random.between(1, IN_FLIGHT_MAX as u64 - 1) {
        let mut targets = client.history.writable();
        let mut batches = Vec::new();
        for _ in 0..random.between(1, PARTITIONS_PER_REQUEST_MAX) {
            if targets.is_empty() {
                break;
            }
            let to = targets.swap_remove(random.index(targets.len()));
            *number += 1;
            let id = BatchId {
                producer,
                number: *number,
            };
            batches.push(make_batch(client, id, to, stream, |builder| builder).0);
            if acks != Acks::All {
                client.history.relies_on_leader(id);
            }
        }
        if batches.is_empty() {
            break;
        }
        let request = request(acks, &batches);
        let Some(connection) = link.open() else {
            settle_unanswered(client, &batches);
            break;
        };
        if acks == Acks::None {
            let sent = connection.send_unanswered(&request).await;
            settle_unanswered(client, &batches);
            if sent.is_err() {
                link.lose();
                break;
            }
            continue;
        }
        match connection.send(&request).await {
            Ok(pending) => waiting.push_back((pending, batches)),
            Err(_) => {
                settle_unanswered(client, &batches);
                link.lose();
                break;
            }
        }
    }
    collect(client, link, waiting).await;
}

async fn collect(
    client: &Client,
    link: &mut Link,
    mut waiting: VecDeque<(Pending<ProduceResponse>, Vec<Outgoing>)>,
) {
    while let Some((pending, batches)) = waiting.pop_front() {
        let response = match link.open() {
            Some(connection) => connection.receive(pending).await.ok(),
            None => None,
        };
        match response {
            Some(response) => {
                for batch in &batches {
                    settle(client, batch, &answer(&response, batch));
                }
            }
            None => {
                link.lose();
                settle_unanswered(client, &batches);
            }
        }
    }
}

fn settle_unanswered(client: &Client, batches: &[Outgoing]) {
    for batch in batches {
        client.history.settle(batch.id, Fate::Indeterminate);
    }
}
