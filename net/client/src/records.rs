//! Records of one partition: produce, fetch, offsets. For tools and tests; the load generator has its own fast path.

use bytes::Bytes;
use model::{BrokerId, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp};
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use protocol::messages::init_producer_id::InitProducerIdRequest;
use protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use protocol::{Records, Text};
use runtime::Io;

use crate::admin::missing;
use crate::cluster::{Cluster, RETRY_WAIT_MAX, RETRY_WAIT_MIN, Topic};
use crate::error::ClientError;

/// Which replicas must have a batch before the broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// No answer at all.
    None,
    /// The leader.
    Leader,
    /// Every in-sync replica.
    All,
}

impl Acks {
    /// The number on the wire.
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// A place in a partition, by ListOffsets' special timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record that is as late as this or later; `Offset::NONE` if there is none.
    Time(Timestamp),
}

impl OffsetSpec {
    fn timestamp(self) -> i64 {
        match self {
            OffsetSpec::Earliest => -2,
            OffsetSpec::Latest => -1,
            OffsetSpec::Time(timestamp) => timestamp.0.max(0),
        }
    }
}

/// How much a fetch may return and how long it may wait.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Longest wait in milliseconds when there is less than `bytes_min`.
    pub wait_ms_max: i32,
    /// Bytes worth answering for.
    pub bytes_min: i32,
    /// Bytes at most (one batch may exceed it).
    pub bytes_max: i32,
}

/// What a fetch brought.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Whole batches, the last one perhaps cut off.
    pub records: Bytes,
    /// End of what consumers may read.
    pub high_watermark: Offset,
    /// First offset that is still there.
    pub log_start_offset: Offset,
}

impl<I: Io> Cluster<I> {
    /// Sends one batch to a partition's leader; the base offset it got (`Offset::NONE` with [`Acks::None`]).
    ///
    /// Not repeated after a lost connection: the batch may have been appended.
    pub async fn produce(
        &mut self,
        topic: &Topic,
        partition: PartitionIndex,
        acks: Acks,
        batch: Bytes,
    ) -> Result<Offset, ClientError> {
        let request = ProduceRequest {
            transactional_id: None,
            acks: acks.code(),
            timeout_ms: self.timeout_ms(),
            topic_data: vec![TopicProduceData {
                name: Text::copy_from(&topic.name),
                topic_id: topic.id,
                partition_data: vec![PartitionProduceData {
                    index: partition.0,
                    records: Some(Records::from(batch)),
                }],
            }],
        };
        let what = format!("producing to {}-{partition}", topic.name);
        let leader = self.leader(topic, partition)?;
        if acks == Acks::None {
            self.tell(leader, &request).await?;
            return Ok(Offset::NONE);
        }
        let response = self.ask(leader, &request).await?;
        let answers = response.responses.into_iter().next();
        let answer = answers.and_then(|t| t.partition_responses.into_iter().next());
        let answer = answer.ok_or_else(|| missing("Produce"))?;
        let message = answer.error_message.map(String::from);
        ClientError::check(&what, answer.error_code, message)?;
        Ok(Offset(answer.base_offset))
    }

    /// Reads batches from `offset` on.
    pub async fn fetch(
        &mut self,
        topic: &Topic,
        partition: PartitionIndex,
        offset: Offset,
        limits: FetchLimits,
    ) -> Result<Fetched, ClientError> {
        let request = FetchRequest {
            max_wait_ms: limits.wait_ms_max,
            min_bytes: limits.bytes_min,
            max_bytes: limits.bytes_max,
            topics: vec![FetchTopic {
                topic: Text::copy_from(&topic.name),
                topic_id: topic.id,
                partitions: vec![FetchPartition {
                    partition: partition.0,
                    fetch_offset: offset.0,
                    partition_max_bytes: limits.bytes_max,
                    ..FetchPartition::default()
                }],
            }],
            ..FetchRequest::default()
        };
        let leader = self.leader(topic, partition)?;
        let response = self.ask(leader, &request).await?;
        let what = format!("fetching {}-{partition}", topic.name);
        ClientError::check(&what, response.error_code, None)?;
        let answers = response.responses.into_iter().next();
        let answer = answers.and_then(|t| t.partitions.into_iter().next());
        let answer = answer.ok_or_else(|| missing("Fetch"))?;
        ClientError::check(&what, answer.error_code, None)?;
        Ok(Fetched {
            records: answer.records.unwrap_or_default().into_bytes(),
            high_watermark: Offset(answer.high_watermark),
            log_start_offset: Offset(answer.log_start_offset),
        })
    }

    /// Offsets of all partitions of a topic, in their order. Retries while leaders move.
    pub async fn offsets(
        &mut self,
        topic: &str,
        spec: OffsetSpec,
    ) -> Result<Vec<(PartitionIndex, Offset)>, ClientError> {
        let deadline = self.io.now().plus(self.options.operation_timeout);
        let mut wait = RETRY_WAIT_MIN;
        loop {
            let known = self.topic(topic).await?;
            match self.offsets_once(&known, spec).await {
                Err(error) if error.is_retriable() && self.io.now() < deadline => {}
                outcome => return outcome,
            }
            self.io.sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    }

    async fn offsets_once(
        &mut self,
        topic: &Topic,
        spec: OffsetSpec,
    ) -> Result<Vec<(PartitionIndex, Offset)>, ClientError> {
        let mut by_leader: std::collections::BTreeMap<BrokerId, Vec<ListOffsetsPartition>> =
            std::collections::BTreeMap::new();
        for partition in &topic.partitions {
            let leader = self.leader(topic, partition.index)?;
            by_leader
                .entry(leader)
                .or_default()
                .push(ListOffsetsPartition {
                    partition_index: partition.index.0,
                    timestamp: spec.timestamp(),
                    ..ListOffsetsPartition::default()
                });
        }
        let mut offsets = Vec::with_capacity(topic.partitions.len());
        for (leader, partitions) in by_leader {
            let request = ListOffsetsRequest {
                replica_id: -1,
                topics: vec![ListOffsetsTopic {
                    name: Text::copy_from(&topic.name),
                    partitions,
                }],
                timeout_ms: self.timeout_ms(),
                ..ListOffsetsRequest::default()
            };
            let response = self.ask(leader, &request).await?;
            for answer in response.topics.into_iter().flat_map(|t| t.partitions) {
                let what = format!("offsets of {}-{}", topic.name, answer.partition_index);
                ClientError::check(&what, answer.error_code, None)?;
                offsets.push((
                    PartitionIndex(answer.partition_index),
                    Offset(answer.offset),
                ));
            }
        }
        offsets.sort();
        if offsets.len() != topic.partitions.len() {
            return Err(missing("ListOffsets"));
        }
        Ok(offsets)
    }

    /// A fresh id for an idempotent producer.
    pub async fn init_producer_id(&mut self) -> Result<(ProducerId, ProducerEpoch), ClientError> {
        let response = self.ask_any(&init_producer_id_request()).await?;
        ClientError::check("InitProducerId", response.error_code, None)?;
        Ok((
            ProducerId(response.producer_id),
            ProducerEpoch(response.producer_epoch),
        ))
    }

    pub(crate) fn leader(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
    ) -> Result<BrokerId, ClientError> {
        let known = self.cached(&topic.name).unwrap_or(topic);
        let found = known.partitions.iter().find(|p| p.index == partition);
        let unknown = model::ErrorCode::UnknownTopicOrPartition;
        let Some(found) = found else {
            let what = format!("partition {}-{partition}", topic.name);
            return Err(ClientError::Broker {
                what,
                code: unknown,
                message: None,
            });
        };
        found.leader.ok_or_else(|| ClientError::Broker {
            what: format!("partition {}-{partition}", topic.name),
            code: model::ErrorCode::LeaderNotAvailable,
            message: None,
        })
    }
}

/// The request for a fresh producer id without transactions.
pub fn init_producer_id_request() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    }
}
