//! Reading for consumers: fetch, offset lookups, epoch ends, and removing records from the front.

use std::rc::Rc;

use model::{ErrorCode, LeaderEpoch, Offset, Timestamp, TopicPartition};
use runtime::{Io, Oneshot};
use storage::{ReadError, ReadRequest};

use crate::partition::{AcknowledgeTarget, Partition};
use crate::produce::Urgency;
use crate::request::{
    Acks, DeleteRecords, DeletedRecords, EpochEnd, EpochEnded, Fetch, FetchPartition, Fetched,
    ListOffset, ListedOffset, OffsetSpec, Watch,
};
use crate::shard::Shard;
use crate::watch::{WatchState, Watcher};

impl<I: Io> Shard<I> {
    /// Reads what is there, without waiting for more. What is in memory is served without suspending.
    pub async fn fetch(&self, fetch: &Fetch) -> Vec<Fetched> {
        let mut results = Vec::with_capacity(fetch.partitions.len());
        let mut bytes_left = fetch.bytes_max;
        let mut at_least_one = fetch.at_least_one_batch;
        for part in &fetch.partitions {
            let fetched = self
                .fetch_partition(fetch, part, bytes_left, at_least_one)
                .await;
            let bytes = fetched.bytes();
            bytes_left = bytes_left.saturating_sub(bytes);
            at_least_one &= bytes == 0;
            results.push(fetched);
        }
        results
    }

    async fn fetch_partition(
        &self,
        fetch: &Fetch,
        part: &FetchPartition,
        bytes_left: usize,
        at_least_one: bool,
    ) -> Fetched {
        let partition = match self.lead(part.id, part.current_leader_epoch) {
            Ok(partition) => partition,
            Err(error) => {
                let mut refused = Fetched::refused(error);
                refused.leader = self.leader_hint(part.id);
                return refused;
            }
        };
        let mut fetched = Fetched {
            error: ErrorCode::None,
            high_watermark: partition.high_watermark(),
            last_stable_offset: partition.last_stable_offset(),
            log_start_offset: partition.log.log_start_offset(),
            diverging: self.diverging(&partition, part),
            records: Vec::new(),
            leader: None,
        };
        if fetched.diverging.is_some() {
            return fetched;
        }
        let end = partition.readable_end(fetch.isolation);
        if part.offset < fetched.log_start_offset || part.offset > partition.log.log_end_offset() {
            return Fetched::refused(ErrorCode::OffsetOutOfRange);
        }
        let bytes_max = bytes_left.min(part.bytes_max);
        if part.offset >= end || (bytes_max == 0 && !at_least_one) {
            return fetched;
        }
        let read = ReadRequest {
            from: part.offset,
            end,
            bytes_max,
            at_least_one_batch: at_least_one,
        };
        match self.storage.read(&partition.log, read).await {
            Ok(batches) => fetched.records = batches.batches.into_vec(),
            Err(error) => return Fetched::refused(self.read_error(part.id, &error)),
        }
        fetched
    }

    /// Where the reader's log departs from ours (KIP-595), if it told its last epoch.
    fn diverging(
        &self,
        partition: &Partition,
        part: &FetchPartition,
    ) -> Option<(LeaderEpoch, Offset)> {
        if part.last_fetched_epoch < LeaderEpoch(0) {
            return None;
        }
        let (epoch, end) = self
            .storage
            .end_offset_for_epoch(&partition.log, part.last_fetched_epoch)
            .unwrap_or((LeaderEpoch::NONE, Offset::NONE));
        (epoch < part.last_fetched_epoch || end < part.offset).then_some((epoch, end))
    }

    /// The partition, if this shard leads it and the client's idea of the epoch is right.
    fn lead(&self, id: TopicPartition, believed: LeaderEpoch) -> Result<Rc<Partition>, ErrorCode> {
        let Some(partition) = self.partition(id) else {
            return Err(match self.leader_hint(id) {
                Some(_) => ErrorCode::NotLeaderOrFollower,
                None => ErrorCode::UnknownTopicOrPartition,
            });
        };
        if believed >= LeaderEpoch(0) {
            let epoch = partition.leader_epoch();
            if believed < epoch {
                return Err(ErrorCode::FencedLeaderEpoch);
            }
            if believed > epoch {
                return Err(ErrorCode::UnknownLeaderEpoch);
            }
        }
        Ok(partition)
    }

    fn read_error(&self, id: TopicPartition, error: &ReadError) -> ErrorCode {
        match error {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            _ => {
                tracing::error!(partition = %id, %error, "cannot read");
                ErrorCode::KafkaStorageError
            }
        }
    }

    /// Lets `state` be told about partitions that have more to read than was seen.
    pub fn watch(&self, watch: &Watch, state: &Rc<WatchState>) {
        for (index, (id, seen)) in (0u32..).zip(&watch.partitions) {
            let watcher = Watcher::new(state, index, watch.isolation, *seen);
            match self.partition(*id) {
                Some(partition) => partition.watch(watcher),
                // It has just gone: the reader finds out by looking again.
                None => watcher.tell(),
            }
        }
    }

    /// Looks up offsets (ListOffsets).
    pub async fn list_offsets(&self, asked: &[ListOffset]) -> Vec<ListedOffset> {
        let mut results = Vec::with_capacity(asked.len());
        for one in asked {
            results.push(self.list_offset(one).await);
        }
        results
    }

    async fn list_offset(&self, asked: &ListOffset) -> ListedOffset {
        let partition = match self.lead(asked.id, asked.current_leader_epoch) {
            Ok(partition) => partition,
            Err(error) => return ListedOffset::nothing(error),
        };
        let end = partition.readable_end(asked.isolation);
        let at = |offset: Offset| ListedOffset {
            error: ErrorCode::None,
            timestamp: Timestamp::NONE,
            offset,
            leader_epoch: self
                .storage
                .leader_epoch_at(&partition.log, offset)
                .unwrap_or(partition.leader_epoch()),
        };
        let found = match asked.spec {
            OffsetSpec::Earliest => return at(partition.log.log_start_offset()),
            OffsetSpec::Latest => {
                let mut latest = at(end);
                latest.leader_epoch = partition.leader_epoch();
                return latest;
            }
            OffsetSpec::LatestTiered => return ListedOffset::nothing(ErrorCode::None),
            OffsetSpec::MaxTimestamp => {
                self.storage
                    .offset_of_max_timestamp(&partition.log, end)
                    .await
            }
            OffsetSpec::Timestamp(timestamp) => {
                self.storage
                    .offset_for_timestamp(&partition.log, timestamp, end)
                    .await
            }
        };
        match found {
            Ok(Some(found)) => ListedOffset {
                error: ErrorCode::None,
                timestamp: found.timestamp,
                offset: found.offset,
                leader_epoch: found.leader_epoch,
            },
            Ok(None) => ListedOffset::nothing(ErrorCode::None),
            Err(error) => ListedOffset::nothing(self.read_error(asked.id, &error)),
        }
    }

    /// Where a leader epoch ends (OffsetForLeaderEpoch).
    pub fn epoch_end(&self, asked: &EpochEnd) -> EpochEnded {
        let nothing = |error| EpochEnded {
            error,
            epoch: LeaderEpoch::NONE,
            end_offset: Offset::NONE,
        };
        let partition = match self.lead(asked.id, asked.current_leader_epoch) {
            Ok(partition) => partition,
            Err(error) => return nothing(error),
        };
        if asked.epoch == LeaderEpoch::NONE || asked.epoch > partition.leader_epoch() {
            return nothing(ErrorCode::None);
        }
        // Below every epoch of the log: Kafka answers with the epoch asked about and the start of the log.
        if asked.epoch < LeaderEpoch(0) {
            return EpochEnded {
                error: ErrorCode::None,
                epoch: asked.epoch,
                end_offset: partition.log.log_start_offset(),
            };
        }
        let known = self
            .storage
            .end_offset_for_epoch(&partition.log, asked.epoch);
        let (epoch, end_offset) = match known {
            Some(known) => known,
            // Nothing has been written in any epoch up to this one: it ends where the log ends.
            None if asked.epoch == partition.leader_epoch() => {
                (asked.epoch, partition.log.log_end_offset())
            }
            None => return nothing(ErrorCode::None),
        };
        EpochEnded {
            error: ErrorCode::None,
            epoch,
            end_offset,
        }
    }

    /// Removes records from the front (DeleteRecords), durably.
    pub async fn delete_records(&self, asked: &[DeleteRecords]) -> Vec<DeletedRecords> {
        let mut results = Vec::with_capacity(asked.len());
        for one in asked {
            results.push(self.delete_before(one).await);
        }
        results
    }

    async fn delete_before(&self, asked: &DeleteRecords) -> DeletedRecords {
        let partition = self.lead(asked.id, LeaderEpoch::NONE)?;
        if !partition.rules().deletes {
            return Err(ErrorCode::PolicyViolation);
        }
        let high_watermark = partition.high_watermark();
        let before = match asked.before {
            Offset::NONE => high_watermark,
            offset if offset < Offset::ZERO || offset > high_watermark => {
                return Err(ErrorCode::OffsetOutOfRange);
            }
            offset => offset,
        };
        if before > partition.log.log_start_offset() {
            let mark = self
                .storage
                .advance_log_start(&partition.log, before)
                .map_err(|error| crate::produce::error_code(&error))?;
            let durable = self.storage.wait_for_mark(mark).await;
            durable.map_err(|_| ErrorCode::KafkaStorageError)?;
        }
        Ok(partition.log.log_start_offset())
    }

    /// Appends a batch of the broker's own to a partition of this shard and waits until every in-sync replica has it.
    /// Waits for room as clients do: after a restart the journal may be full until its records are in their segments.
    pub async fn append_internal(
        &self,
        id: TopicPartition,
        batch: &[u8],
        urgency: Urgency,
    ) -> Result<Offset, ErrorCode> {
        match urgency {
            Urgency::Ordinary => self.admit(batch.len()).await,
            Urgency::FreesSpace => {
                let admitted = self.storage.admit_urgent(batch.len()).await;
                admitted.map_err(|error| crate::produce::error_code(&error))?;
            }
        }
        let partition = self.lead(id, LeaderEpoch::NONE)?;
        let appended = self.append_own(&partition, batch, urgency)?;
        let until = appended.last_offset.plus(1);
        if !partition.is_acknowledged(Acks::All, until) {
            let done = Oneshot::new();
            partition.wait(Acks::All, until, AcknowledgeTarget::Internal(done.clone()));
            done.take().await?;
        }
        Ok(appended.base_offset)
    }
}
