//! Writes records to one topic, in batches, one request at a time.
//!
//! Owned by one task. Invariants: records of one partition are written in the order they came; with `acks=all` each is
//! written once, because a batch that had no answer is sent again as the same batch of an idempotent producer; what
//! waits in open batches is bounded by [`WriterOptions::batch_bytes`] for each partition.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use model::record::{BatchBuilder, Compression};
use model::{
    ErrorCode, MonotonicTime, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp,
};
use runtime::Io;

use crate::cluster::{Cluster, RETRY_WAIT_MAX, RETRY_WAIT_MIN, Topic};
use crate::error::ClientError;
use crate::partitioner::partition_for_key;
use crate::records::Acks;

/// Batches are sent when they have so many bytes before compression: below what brokers accept unless told otherwise.
pub const BATCH_BYTES: usize = 512 << 10;

/// How records are written.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// What is waited for.
    pub acks: Acks,
    /// Codec of the batches.
    pub compression: Compression,
    /// Bytes of a batch before compression; a larger record is a batch of its own.
    pub batch_bytes: usize,
    /// Longest wait before a batch that had no answer is sent again.
    pub retry_wait_max: Duration,
}

impl Default for WriterOptions {
    fn default() -> WriterOptions {
        WriterOptions {
            acks: Acks::All,
            compression: Compression::None,
            batch_bytes: BATCH_BYTES,
            retry_wait_max: RETRY_WAIT_MAX,
        }
    }
}

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to; `None`: where its key belongs, or without a key wherever a batch is open.
    pub partition: Option<PartitionIndex>,
    /// When it happened; `None`: now.
    pub timestamp: Option<Timestamp>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(String, Option<Bytes>)>,
}

/// What was written to one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Offset of the first; `Offset::NONE` if nobody was asked.
    pub first: Offset,
    /// Offset behind the last; `Offset::NONE` if nobody was asked.
    pub end: Offset,
}

/// See the module.
pub struct Writer<I: Io> {
    cluster: Cluster<I>,
    topic: Topic,
    options: WriterOptions,
    /// With `acks=all`.
    producer: Option<(ProducerId, ProducerEpoch)>,
    sequences: BTreeMap<PartitionIndex, i32>,
    open: BTreeMap<PartitionIndex, BatchBuilder>,
    /// Where records without a key go until that batch is sent.
    sticky: usize,
    written: BTreeMap<PartitionIndex, Written>,
}

impl<I: Io> Writer<I> {
    /// A writer to a topic that exists.
    pub async fn open(
        mut cluster: Cluster<I>,
        topic: &str,
        options: WriterOptions,
    ) -> Result<Writer<I>, ClientError> {
        cluster.describe_topic(topic).await?;
        let topic = cluster.topic(topic).await?;
        let producer = match options.acks {
            Acks::All => Some(cluster.init_producer_id().await?),
            Acks::None | Acks::Leader => None,
        };
        let chance = usize::try_from(cluster.io.random() >> 33).expect("31 bits");
        Ok(Writer {
            sticky: chance % topic.partitions.len().max(1),
            cluster,
            topic,
            options,
            producer,
            sequences: BTreeMap::new(),
            open: BTreeMap::new(),
            written: BTreeMap::new(),
        })
    }

    /// The topic.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// What the broker has taken so far, by partition.
    pub fn written(&self) -> &BTreeMap<PartitionIndex, Written> {
        &self.written
    }

    /// Adds a record to its partition's batch, which is sent first if the record no longer fits into it.
    pub async fn push(&mut self, record: &Outgoing) -> Result<(), ClientError> {
        let (size, bytes_max) = (size_of(record), self.options.batch_bytes);
        let full = |batch: &BatchBuilder| {
            !batch.is_empty() && batch.uncompressed_bytes() + size > bytes_max
        };
        let mut partition = self.partition_of(record)?;
        while self.open.get(&partition).is_some_and(full) {
            self.send(partition).await?;
            // Those without a place go to the next partition now. Each turn empties one, so this ends.
            partition = self.partition_of(record)?;
        }
        let timestamp = record.timestamp.unwrap_or(self.cluster.io.wall_clock());
        let headers: Vec<(&str, Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        self.open.entry(partition).or_default().push_with_headers(
            timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &headers,
        );
        Ok(())
    }

    /// Sends everything that waits.
    pub async fn flush(&mut self) -> Result<(), ClientError> {
        while let Some((partition, _)) = self.open.first_key_value() {
            let partition = *partition;
            self.send(partition).await?;
        }
        Ok(())
    }

    fn partition_of(&self, record: &Outgoing) -> Result<PartitionIndex, ClientError> {
        let count = self.topic.partitions.len();
        if let Some(partition) = record.partition {
            // It exists, or this says that it does not.
            self.cluster.leader(&self.topic, partition)?;
            return Ok(partition);
        }
        Ok(match &record.key {
            Some(key) => partition_for_key(
                key,
                u32::try_from(count).expect("a topic has fewer than 2^31 partitions"),
            ),
            None => self.topic.partitions[self.sticky % count].index,
        })
    }

    /// Sends the open batch of a partition.
    async fn send(&mut self, partition: PartitionIndex) -> Result<(), ClientError> {
        let Some(builder) = self.open.remove(&partition) else {
            return Ok(());
        };
        if self.topic.partitions[self.sticky % self.topic.partitions.len()].index == partition {
            self.sticky = (self.sticky + 1) % self.topic.partitions.len();
        }
        let records = builder.len();
        let sequence = self.sequences.entry(partition).or_insert(0);
        let mut builder = builder.compression(self.options.compression);
        if let Some((id, epoch)) = self.producer {
            builder = builder.producer(id, epoch, *sequence);
        }
        // Sequences wrap to 0 behind 2^31 - 1.
        let after = u64::from(sequence.unsigned_abs()) + records as u64;
        *sequence = i32::try_from(after % (1 << 31)).expect("below 2^31");
        let batch = builder.build().map_err(|error| ClientError::Refused {
            what: format!("a batch of {}-{partition}", self.topic.name),
            reason: error.to_string(),
        })?;
        let first = self.deliver(partition, &batch).await?;
        let count = i64::try_from(records).expect("a batch has fewer than 2^31 records");
        let end = match first {
            Offset::NONE => Offset::NONE,
            first => first.plus(count),
        };
        let written = self.written.entry(partition).or_insert(Written {
            records: 0,
            first,
            end,
        });
        written.records += records as u64;
        written.end = end;
        Ok(())
    }

    /// Sends a batch until it has an answer. Only an idempotent producer's batch may be sent twice.
    async fn deliver(
        &mut self,
        partition: PartitionIndex,
        batch: &Bytes,
    ) -> Result<Offset, ClientError> {
        let deadline: MonotonicTime = {
            let patience = self.cluster.options.operation_timeout;
            self.cluster.io.now().plus(patience)
        };
        let wait_max = self.options.retry_wait_max;
        let mut wait: Duration = RETRY_WAIT_MIN.min(wait_max);
        loop {
            let topic = self.topic.clone();
            let sent = self
                .cluster
                .produce(&topic, partition, self.options.acks, batch.clone());
            let error = match sent.await {
                Ok(offset) => return Ok(offset),
                // It had arrived, and its place is not known any more.
                Err(error) if error.code() == Some(ErrorCode::DuplicateSequenceNumber) => {
                    return Ok(Offset::NONE);
                }
                Err(error) => error,
            };
            let is_elsewhere = matches!(
                error.code(),
                Some(
                    ErrorCode::NotLeaderOrFollower
                        | ErrorCode::LeaderNotAvailable
                        | ErrorCode::UnknownTopicOrPartition
                )
            );
            let again = error.is_retriable() && (is_elsewhere || self.producer.is_some());
            if !again || self.cluster.io.now() >= deadline {
                return Err(error);
            }
            self.cluster.io.sleep(wait).await;
            wait = (wait * 2).min(wait_max);
            match self.cluster.refresh(Some(&[&topic.name])).await {
                Err(error) if !error.is_retriable() => return Err(error),
                _ => {
                    if let Some(topic) = self.cluster.cached(&topic.name) {
                        self.topic = topic.clone();
                    }
                }
            }
        }
    }
}

/// Bytes of a record, with room for its lengths.
fn size_of(record: &Outgoing) -> usize {
    /// Length, attributes, two deltas and the lengths of key, value and headers at most.
    const OVERHEAD: usize = 32;
    let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + len(value) + OVERHEAD)
        .sum();
    len(&record.key) + len(&record.value) + headers + OVERHEAD
}
