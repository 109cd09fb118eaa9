//! Reads the records of one topic, without a group.
//!
//! Owned by one task. Invariants: the next offset of a partition only rises, except where the log has been cut or
//! trimmed, and then that is told ([`Reader::moved`]); a record is given out once, after its batch's checksum was
//! checked; a failure that passes is waited out for as long as one operation may take.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use model::record::{
    BatchError, BatchHeader, Batches, DecompressionScratch, Record, crc_matches, read_records,
};
use model::{BrokerId, ErrorCode, MonotonicTime, Offset, PartitionIndex};
use protocol::Text;
use protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use runtime::Io;

use crate::cluster::{Cluster, RETRY_WAIT_MAX, RETRY_WAIT_MIN, Topic};
use crate::error::ClientError;
use crate::position::{Bounds, Position};

/// Bytes of one partition in an answer.
const PARTITION_BYTES_MAX: i32 = 1 << 20;
/// Bytes of an answer; one batch may exceed it.
const ANSWER_BYTES_MAX: i32 = 16 << 20;

/// A partition that is read from another offset than was asked for or due, because there is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Which.
    pub partition: PartitionIndex,
    /// The offset that is not there.
    pub from: Offset,
    /// Where reading goes on.
    pub to: Offset,
}

/// Where reading of one partition stands.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    partition: PartitionIndex,
    next: Offset,
    /// Where it ends; `None`: never.
    end: Option<Offset>,
}

impl Cursor {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// See the module.
pub struct Reader<I: Io> {
    cluster: Cluster<I>,
    topic: Topic,
    cursors: Vec<Cursor>,
    moved: Vec<Moved>,
    scratch: DecompressionScratch,
    /// Since when nothing but failures has come.
    failing_since: Option<MonotonicTime>,
    wait: Duration,
}

impl<I: Io> Reader<I> {
    /// A reader of these partitions of a topic (empty: all) from one place to another, or for ever.
    pub async fn open(
        mut cluster: Cluster<I>,
        topic: &str,
        partitions: &[PartitionIndex],
        from: Position,
        until: Option<Position>,
    ) -> Result<Reader<I>, ClientError> {
        cluster.describe_topic(topic).await?;
        let known = cluster.topic(topic).await?;
        let bounds = Bounds::ask(&mut cluster, topic).await?;
        let mut reader = Reader {
            cursors: Vec::new(),
            moved: Vec::new(),
            scratch: DecompressionScratch::new(),
            failing_since: None,
            wait: RETRY_WAIT_MIN,
            topic: known,
            cluster,
        };
        let chosen: BTreeSet<PartitionIndex> = match partitions {
            [] => reader.topic.partitions.iter().map(|p| p.index).collect(),
            some => some.iter().copied().collect(),
        };
        let begin = bounds.places(&mut reader.cluster, topic, from).await?;
        let end = match until {
            Some(until) => Some(bounds.places(&mut reader.cluster, topic, until).await?),
            None => None,
        };
        for partition in chosen {
            // The partition exists, or this says that it does not.
            reader.cluster.leader(&reader.topic, partition)?;
            let (Some(&next), Some((low, high))) = (begin.get(&partition), bounds.of(partition))
            else {
                return Err(crate::admin::missing("ListOffsets"));
            };
            let within = next.max(low).min(high);
            if within != next {
                reader.moved.push(Moved {
                    partition,
                    from: next,
                    to: within,
                });
            }
            reader.cursors.push(Cursor {
                partition,
                next: within,
                end: end.as_ref().and_then(|end| end.get(&partition)).copied(),
            });
        }
        Ok(reader)
    }

    /// The topic, as last heard of.
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// Partitions that are read.
    pub fn partition_count(&self) -> usize {
        self.cursors.len()
    }

    /// Whether every partition is read to its end.
    pub fn is_done(&self) -> bool {
        self.cursors.iter().all(Cursor::is_done)
    }

    /// What was not there since this was last asked.
    pub fn moved(&mut self) -> Vec<Moved> {
        std::mem::take(&mut self.moved)
    }

    /// Asks each leader once, waiting up to `wait` in all for something to come, and gives out what came until `take`
    /// breaks. A failure that may pass is no error yet; the caller asks again.
    pub async fn poll(
        &mut self,
        wait: Duration,
        take: &mut dyn FnMut(PartitionIndex, &Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let error = match self.poll_once(wait, take).await {
            Ok(()) => {
                (self.failing_since, self.wait) = (None, RETRY_WAIT_MIN);
                return Ok(());
            }
            Err(error) => error,
        };
        let now = self.cluster.io.now();
        let since = *self.failing_since.get_or_insert(now);
        if !error.is_retriable() || now.since(since) >= self.cluster.options.operation_timeout {
            return Err(error);
        }
        self.cluster.io.sleep(self.wait).await;
        self.wait = (self.wait * 2).min(RETRY_WAIT_MAX);
        match self.cluster.refresh(Some(&[&self.topic.name])).await {
            Err(error) if !error.is_retriable() => Err(error),
            // A topic that is in error keeps its last leaders, until it is back or the time is over.
            _ => {
                if let Some(topic) = self.cluster.cached(&self.topic.name) {
                    self.topic = topic.clone();
                }
                Ok(())
            }
        }
    }

    async fn poll_once(
        &mut self,
        wait: Duration,
        take: &mut dyn FnMut(PartitionIndex, &Record<'_>) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        let mut by_leader: BTreeMap<BrokerId, Vec<FetchPartition>> = BTreeMap::new();
        for cursor in self.cursors.iter().filter(|cursor| !cursor.is_done()) {
            let leader = self.cluster.leader(&self.topic, cursor.partition)?;
            by_leader.entry(leader).or_default().push(FetchPartition {
                partition: cursor.partition.0,
                fetch_offset: cursor.next.0,
                partition_max_bytes: PARTITION_BYTES_MAX,
                ..FetchPartition::default()
            });
        }
        let leaders = u32::try_from(by_leader.len()).expect("fewer than 2^31 brokers");
        let each = wait / leaders.max(1);
        for (leader, partitions) in by_leader {
            let request = FetchRequest {
                max_wait_ms: i32::try_from(each.as_millis()).unwrap_or(i32::MAX),
                min_bytes: 1,
                max_bytes: ANSWER_BYTES_MAX,
                topics: vec![FetchTopic {
                    topic: Text::copy_from(&self.topic.name),
                    topic_id: self.topic.id,
                    partitions,
                }],
                ..FetchRequest::default()
            };
            let response = self.cluster.ask(leader, &request).await?;
            let what = format!("fetching {}", self.topic.name);
            ClientError::check(&what, response.error_code, None)?;
            for data in response.responses.into_iter().flat_map(|t| t.partitions) {
                if self.take_partition(data, take).await?.is_break() {
                    return Ok(());
                }
            }
        }
        // An answer has a limit: whoever came first comes last the next time.
        if !self.cursors.is_empty() {
            self.cursors.rotate_left(1);
        }
        Ok(())
    }

    async fn take_partition(
        &mut self,
        data: PartitionData,
        take: &mut dyn FnMut(PartitionIndex, &Record<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, ClientError> {
        let partition = PartitionIndex(data.partition_index);
        let Some(place) = self.cursors.iter().position(|c| c.partition == partition) else {
            return Err(malformed(format!(
                "partition {partition} was not asked for"
            )));
        };
        if data.error_code == ErrorCode::OffsetOutOfRange.code() {
            self.find_way(place).await?;
            return Ok(ControlFlow::Continue(()));
        }
        let what = format!("fetching {}-{partition}", self.topic.name);
        ClientError::check(&what, data.error_code, None)?;
        let records: Bytes = data.records.unwrap_or_default().into_bytes();
        let cursor = &mut self.cursors[place];
        for batch in Batches::new(&records) {
            let (header, batch) = match batch {
                Ok(batch) => batch,
                // The last batch of an answer may be cut off.
                Err(BatchError::Cut { .. } | BatchError::HeaderCut(_)) => break,
                Err(error) => return Err(malformed(error.to_string())),
            };
            if header.next_offset() <= cursor.next {
                continue;
            }
            let flow = give_out(cursor, &header, batch, &mut self.scratch, take);
            let flow =
                flow.map_err(|reason| malformed(format!("partition {partition}: {reason}")))?;
            if flow.is_break() || cursor.is_done() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The offset of a cursor is not there any more: goes on at the nearest that is.
    async fn find_way(&mut self, place: usize) -> Result<(), ClientError> {
        let bounds = Bounds::ask(&mut self.cluster, &self.topic.name).await?;
        let cursor = &mut self.cursors[place];
        let Some((low, high)) = bounds.of(cursor.partition) else {
            return Err(crate::admin::missing("ListOffsets"));
        };
        let moved = Moved {
            partition: cursor.partition,
            from: cursor.next,
            to: cursor.next.max(low).min(high),
        };
        cursor.next = moved.to;
        self.moved.push(moved);
        Ok(())
    }
}

/// Gives out the records of a batch from the cursor on, and moves it behind them.
fn give_out(
    cursor: &mut Cursor,
    header: &BatchHeader,
    batch: &[u8],
    scratch: &mut DecompressionScratch,
    take: &mut dyn FnMut(PartitionIndex, &Record<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, String> {
    if !crc_matches(batch) {
        return Err(format!(
            "checksum mismatch in the batch at {}",
            header.base_offset
        ));
    }
    if !header.is_control() {
        for record in read_records(batch, scratch).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset < cursor.next {
                continue;
            }
            if cursor.end.is_some_and(|end| record.offset >= end) {
                cursor.next = record.offset;
                return Ok(ControlFlow::Continue(()));
            }
            cursor.next = record.offset.plus(1);
            if take(cursor.partition, &record).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    cursor.next = header.next_offset();
    Ok(ControlFlow::Continue(()))
}

fn malformed(reason: String) -> ClientError {
    ClientError::Malformed {
        api: "Fetch",
        reason,
    }
}
