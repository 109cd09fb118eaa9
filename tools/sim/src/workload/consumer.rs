//! A consumer: long polls within an incremental fetch session (KIP-227), over partitions that come and go, with jumps
//! back to what was read before.

use std::collections::BTreeMap;

use client::ClientError;
use model::record::{Batches, read_records_owned};
use model::{ErrorCode, Offset, TopicPartition};
use protocol::Text;
use protocol::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
};

use super::Client;
use super::link::Link;
use crate::history::History;
use crate::payload::RecordId;

/// Rounds between two looks for new partitions, and jumps.
const LOOK_EVERY: u64 = 16;
/// Bytes that a partition may add to an answer.
const PARTITION_BYTES: [i32; 3] = [1, 4 << 10, 64 << 10];

/// A partition as this consumer follows it.
struct Followed {
    topic: String,
    position: Offset,
    /// The position that the session knows.
    told: Option<Offset>,
}

struct Consumer {
    client: Client,
    link: Link,
    partitions: BTreeMap<TopicPartition, Followed>,
    forgotten: Vec<(String, TopicPartition)>,
    /// Id and next epoch; (0, 0) opens one.
    session: (i32, i32),
}

/// Consumes until the run stops.
pub(super) async fn run(client: Client) {
    let link = Link::new(client.io.clone(), &client.bootstrap);
    let mut consumer = Consumer {
        client,
        link,
        partitions: BTreeMap::new(),
        forgotten: Vec::new(),
        session: (0, 0),
    };
    while !consumer.client.history.is_stopping() {
        consumer.client.wait_while_held().await;
        if consumer.partitions.is_empty() || consumer.client.random.one_in(LOOK_EVERY) {
            consumer.look_around();
        }
        if consumer.partitions.is_empty() {
            consumer.client.pause().await;
            continue;
        }
        let number = consumer.link.number();
        if consumer.poll().await.is_err() || consumer.link.number() != number {
            consumer.reset_session();
            consumer.client.pause().await;
        }
    }
}

impl Consumer {
    fn look_around(&mut self) {
        let random = &self.client.random;
        let alive = self.client.history.alive();
        for (topic, id) in alive {
            if !self.partitions.contains_key(&id) && !random.one_in(4) {
                self.forgotten.retain(|(_, gone)| *gone != id);
                let new = Followed {
                    topic,
                    position: Offset::ZERO,
                    told: None,
                };
                self.partitions.insert(id, new);
            }
        }
        let chosen = self
            .partitions
            .keys()
            .nth(random.index(self.partitions.len().max(1)));
        let Some(id) = chosen.copied() else {
            return;
        };
        match random.below(4) {
            0 if self.partitions.len() > 1 => {
                if let Some(gone) = self.partitions.remove(&id) {
                    self.forgotten.push((gone.topic, id));
                }
            }
            1 => {
                if let Some(followed) = self.partitions.get_mut(&id) {
                    let back = random.below(followed.position.0.unsigned_abs() + 1);
                    followed.position = Offset(back as i64);
                }
            }
            _ => {}
        }
    }

    fn reset_session(&mut self) {
        self.session = (0, 0);
        self.forgotten.clear();
        for followed in self.partitions.values_mut() {
            followed.told = None;
        }
    }

    fn request(&self) -> FetchRequest {
        let random = &self.client.random;
        let mut topics: Vec<FetchTopic> = Vec::new();
        for (id, followed) in &self.partitions {
            if followed.told == Some(followed.position) {
                continue;
            }
            let partition = FetchPartition {
                partition: id.partition.0,
                fetch_offset: followed.position.0,
                partition_max_bytes: PARTITION_BYTES[random.index(PARTITION_BYTES.len())],
                ..FetchPartition::default()
            };
            match topics.iter_mut().find(|topic| topic.topic_id == id.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(FetchTopic {
                    topic: Text::copy_from(&followed.topic),
                    topic_id: id.topic,
                    partitions: vec![partition],
                }),
            }
        }
        let forgotten = self.forgotten.iter().map(|(topic, id)| ForgottenTopic {
            topic: Text::copy_from(topic),
            topic_id: id.topic,
            partitions: vec![id.partition.0],
        });
        FetchRequest {
            max_wait_ms: [0, 10, 100][random.index(3)],
            min_bytes: [1, 1, 10_000][random.index(3)],
            max_bytes: [4 << 10, 256 << 10][random.index(2)],
            session_id: self.session.0,
            session_epoch: self.session.1,
            forgotten_topics_data: forgotten.collect(),
            topics,
            ..FetchRequest::default()
        }
    }

    async fn poll(&mut self) -> Result<(), ClientError> {
        let request = self.request();
        let history = self.client.history.clone();
        let floors: BTreeMap<TopicPartition, Offset> = self
            .partitions
            .keys()
            .map(|id| (*id, history.high_watermark_floor(*id)))
            .collect();
        for followed in self.partitions.values_mut() {
            followed.told = Some(followed.position);
        }
        let response = self.link.call(&request).await?;
        if response.error_code != 0 {
            let code = ErrorCode::from_code(response.error_code);
            let expected = [
                ErrorCode::FetchSessionIdNotFound,
                ErrorCode::InvalidFetchSessionEpoch,
                ErrorCode::FetchSessionTopicIdError,
                ErrorCode::KafkaStorageError,
            ];
            if code.is_none_or(|code| !expected.contains(&code)) {
                history.violation(format!("a fetch was refused with {code:?}"));
            }
            self.reset_session();
            return Ok(());
        }
        if self.session.1 > 0 {
            history.facts_mut().tallies.session_fetches += 1;
        }
        self.forgotten.clear();
        self.session = match response.session_id {
            0 => (0, 0),
            id => (id, self.session.1.checked_add(1).unwrap_or(1)),
        };
        if self.session.0 == 0 {
            for followed in self.partitions.values_mut() {
                followed.told = None;
            }
        }
        self.absorb(response, &floors);
        Ok(())
    }

    fn absorb(&mut self, response: FetchResponse, floors: &BTreeMap<TopicPartition, Offset>) {
        let history = self.client.history.clone();
        for topic in response.responses {
            for data in topic.partitions {
                let id = TopicPartition {
                    topic: topic.topic_id,
                    partition: model::PartitionIndex(data.partition_index),
                };
                let Some(followed) = self.partitions.get_mut(&id) else {
                    history.violation(format!("a fetch answers for {id}, which it was not asked"));
                    continue;
                };
                let floor = floors.get(&id).copied().unwrap_or(Offset::ZERO);
                match ErrorCode::from_code(data.error_code) {
                    Some(ErrorCode::None) => {
                        let at = followed.position;
                        followed.position = absorb_partition(&history, id, at, floor, data);
                    }
                    Some(ErrorCode::OffsetOutOfRange) => {
                        let allowed = history.start_max(id);
                        if followed.position >= allowed {
                            let at = followed.position;
                            history.violation(format!(
                                "{id}: {at} is out of range, but was read before"
                            ));
                        }
                        followed.position = match data.log_start_offset {
                            0.. => Offset(data.log_start_offset),
                            _ => allowed,
                        };
                    }
                    Some(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition) => {
                        history.unknown(id, data.error_code, "fetching");
                        if let Some(gone) = self.partitions.remove(&id) {
                            self.forgotten.push((gone.topic, id));
                        }
                    }
                    Some(ErrorCode::KafkaStorageError | ErrorCode::NotLeaderOrFollower) => {
                        followed.told = None;
                    }
                    other => history.violation(format!("fetching {id}: {other:?}")),
                }
            }
        }
    }
}

/// Checks and notes what came for one partition; the position after it.
pub(crate) fn absorb_partition(
    history: &History,
    id: TopicPartition,
    position: Offset,
    floor: Offset,
    data: PartitionData,
) -> Offset {
    let high_watermark = Offset(data.high_watermark);
    history.saw_high_watermark(id, high_watermark, floor);
    let bytes = data.records.unwrap_or_default().into_bytes();
    let mut next = position;
    for batch in Batches::new(&bytes) {
        let (header, batch) = match batch {
            Ok(found) => found,
            Err(error) => {
                // The end of an answer may cut a batch, but not the first one.
                if next == position {
                    history.violation(format!("{id} at {next}: {error}"));
                }
                break;
            }
        };
        let is_first = next == position;
        let fits = if is_first {
            header.base_offset <= next && header.next_offset() > next
        } else {
            header.base_offset == next
        };
        if !fits {
            let (from, to) = (header.base_offset, header.next_offset());
            history.violation(format!("{id}: {from}..{to} where {next} was due"));
        }
        if header.next_offset() > high_watermark {
            let to = header.next_offset();
            history.violation(format!("{id}: read up to {to}, beyond {high_watermark}"));
        }
        if !model::record::crc_matches(batch) {
            history.violation(format!(
                "{id} at {}: the checksum is wrong",
                header.base_offset
            ));
        }
        match read_records_owned(batch) {
            Err(error) => history.violation(format!("{id} at {}: {error}", header.base_offset)),
            Ok(records) => {
                for record in &records {
                    let bytes = record.value.as_ref().map_or(0, |value| value.len());
                    match RecordId::of(record) {
                        Ok(found) => history.saw_record(id, record.offset, found, bytes),
                        Err(what) => {
                            history.violation(format!("{id} at {}: {what}", record.offset))
                        }
                    }
                }
            }
        }
        next = header.next_offset();
    }
    next
}
