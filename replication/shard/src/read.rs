//! Reading for consumers: fetch, offset lookups, epoch ends, and removing records from the front.

use std::rc::Rc;

use model::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use runtime::Io;
use storage::{ReadError, ReadRequest, Storage};

use crate::partition::Partition;
use crate::partitions::Partitions;
use crate::refusal::{AppendRefusal, DeleteRecordsRefusal, LeadRefusal, ReadRefusal};
use crate::request::{
    DeleteRecords, EpochEnd, EpochEnded, Fetch, FetchPartition, Fetched, FoundOffset, Isolation,
    ListOffset, LogSize, LogSized, OffsetSpec, Watch,
};
use crate::watch::{WatchState, Watcher};

/// Reads the logs of one shard.
pub(crate) struct Reader<I: Io> {
    storage: Storage<I>,
    partitions: Rc<Partitions<I>>,
}

impl<I: Io> Reader<I> {
    pub(crate) fn new(storage: Storage<I>, partitions: Rc<Partitions<I>>) -> Reader<I> {
        Reader {
            storage,
            partitions,
        }
    }

    /// Reads what is there, without waiting for more. What is in memory is served without suspending.
    pub(crate) async fn fetch(&self, fetch: &Fetch) -> Vec<Result<Fetched, ReadRefusal>> {
        let mut results = Vec::with_capacity(fetch.partitions.len());
        let mut bytes_left = fetch.bytes_max;
        let mut at_least_one = fetch.at_least_one_batch;
        for part in &fetch.partitions {
            let fetched = self
                .fetch_partition(fetch, part, bytes_left, at_least_one)
                .await;
            let bytes = fetched.as_ref().map_or(0, Fetched::bytes);
            // The first batch may be larger than what was left.
            bytes_left -= bytes.min(bytes_left);
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
    ) -> Result<Fetched, ReadRefusal> {
        let believed = part.current_leader_epoch;
        let partition = self.partitions.lead(part.id, believed);
        let partition = partition.or_else(|refusal| {
            let follows = || self.partitions.followed(part.id, believed);
            fetch.from_followers.then(follows).flatten().ok_or(refusal)
        })?;
        let mut fetched = Fetched {
            high_watermark: partition.high_watermark(),
            closest: None,
            last_stable_offset: partition.last_stable_offset(),
            log_start_offset: partition.log.log_start_offset(),
            diverging: self.diverging(&partition, part),
            records: Vec::new(),
            aborted: None,
        };
        if fetched.diverging.is_some() {
            return Ok(fetched);
        }
        let is_committed = fetch.isolation == Isolation::ReadCommitted;
        fetched.aborted = is_committed.then(Vec::new);
        let end = partition.readable_end(fetch.isolation);
        if part.offset < fetched.log_start_offset || part.offset > partition.log.log_end_offset() {
            return Err(ReadRefusal::OffsetOutOfRange);
        }
        // Only from the leader is a client sent elsewhere, and only if what it wants is there.
        if part.closest.is_some() && partition.leads() && part.offset <= fetched.high_watermark {
            fetched.closest = part.closest;
            return Ok(fetched);
        }
        let bytes_max = bytes_left.min(part.bytes_max);
        if part.offset >= end || (bytes_max == 0 && !at_least_one) {
            return Ok(fetched);
        }
        let read = ReadRequest {
            from: part.offset,
            end,
            bytes_max,
            at_least_one_batch: at_least_one,
        };
        let read = self.storage.read(&partition.log, read).await;
        let read = read.map_err(|error| refused(part.id, &error))?;
        if let Some(aborted) = &mut fetched.aborted {
            let (log, read_end) = (&partition.log, read.next_offset);
            let found = self
                .storage
                .aborted_transactions(log, part.offset, read_end);
            let found = found.await.map_err(|error| refused(part.id, &error))?;
            let concerned = found.iter().map(|one| (one.producer_id, one.first_offset));
            aborted.extend(concerned);
        }
        fetched.records = read.batches.into_vec();
        Ok(fetched)
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

    /// Lets `state` be told about partitions that have more to read than was seen.
    pub(crate) fn watch(&self, watch: &Watch, state: &Rc<WatchState>) {
        for (index, (id, seen)) in (0u32..).zip(&watch.partitions) {
            let watcher = Watcher::new(state, index, watch.isolation, *seen);
            match self.partitions.get(*id) {
                Some(partition) => partition.watch(watcher),
                // It has just gone: the reader finds out by looking again.
                None => watcher.tell(),
            }
        }
    }

    /// Looks up offsets (ListOffsets).
    pub(crate) async fn list_offsets(
        &self,
        asked: &[ListOffset],
    ) -> Vec<Result<Option<FoundOffset>, ReadRefusal>> {
        let mut results = Vec::with_capacity(asked.len());
        for one in asked {
            results.push(self.list_offset(one).await);
        }
        results
    }

    async fn list_offset(&self, asked: &ListOffset) -> Result<Option<FoundOffset>, ReadRefusal> {
        let partition = self.partitions.lead(asked.id, asked.current_leader_epoch)?;
        let end = partition.readable_end(asked.isolation);
        let found = match asked.spec {
            OffsetSpec::Earliest => {
                let offset = partition.log.log_start_offset();
                let epoch = self.storage.leader_epoch_at(&partition.log, offset);
                return Ok(Some(FoundOffset {
                    timestamp: Timestamp::NONE,
                    offset,
                    leader_epoch: epoch.unwrap_or(partition.leader_epoch()),
                }));
            }
            OffsetSpec::Latest => {
                return Ok(Some(FoundOffset {
                    timestamp: Timestamp::NONE,
                    offset: end,
                    leader_epoch: partition.leader_epoch(),
                }));
            }
            OffsetSpec::LatestTiered => return Ok(None),
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
        let found = found.map_err(|error| refused(asked.id, &error))?;
        Ok(found.map(|found| FoundOffset {
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: found.leader_epoch,
        }))
    }

    /// Where leader epochs end (OffsetForLeaderEpoch).
    pub(crate) fn epoch_ends(
        &self,
        asked: &[EpochEnd],
    ) -> Vec<Result<Option<EpochEnded>, LeadRefusal>> {
        asked.iter().map(|one| self.epoch_end(one)).collect()
    }

    fn epoch_end(&self, asked: &EpochEnd) -> Result<Option<EpochEnded>, LeadRefusal> {
        let partition = self.partitions.lead(asked.id, asked.current_leader_epoch)?;
        if asked.epoch == LeaderEpoch::NONE || asked.epoch > partition.leader_epoch() {
            return Ok(None);
        }
        // Below every epoch of the log: Kafka answers with the epoch asked about and the start of the log.
        if asked.epoch < LeaderEpoch(0) {
            return Ok(Some(EpochEnded {
                epoch: asked.epoch,
                end_offset: partition.log.log_start_offset(),
            }));
        }
        let known = self
            .storage
            .end_offset_for_epoch(&partition.log, asked.epoch);
        Ok(match known {
            Some((epoch, end_offset)) => Some(EpochEnded { epoch, end_offset }),
            // Nothing has been written in any epoch up to this one: it ends where the log ends.
            None if asked.epoch == partition.leader_epoch() => Some(EpochEnded {
                epoch: asked.epoch,
                end_offset: partition.log.log_end_offset(),
            }),
            None => None,
        })
    }

    /// Logs as they are, whoever leads them; `None` where this shard has no such log.
    pub(crate) fn log_sizes(&self, asked: &[LogSize]) -> Vec<Option<LogSized>> {
        let size = |asked: &LogSize| {
            let partition = self.partitions.get(asked.id);
            Some(LogSized {
                size_bytes: self.storage.log(asked.id)?.size_bytes(),
                // The metadata log, and one that waits to be deleted, have no leader that tells.
                lag: partition.map_or(0, |partition| partition.committed_lag()),
            })
        };
        asked.iter().map(size).collect()
    }

    /// Removes records from the front (DeleteRecords), durably. Returns the new starts of the logs.
    pub(crate) async fn delete_records(
        &self,
        asked: &[DeleteRecords],
    ) -> Vec<Result<Offset, DeleteRecordsRefusal>> {
        let mut results = Vec::with_capacity(asked.len());
        for one in asked {
            results.push(self.delete_before(one).await);
        }
        results
    }

    async fn delete_before(&self, asked: &DeleteRecords) -> Result<Offset, DeleteRecordsRefusal> {
        let partition = self.partitions.lead(asked.id, LeaderEpoch::NONE)?;
        if !partition.rules().deletes {
            return Err(DeleteRecordsRefusal::NotDeletable);
        }
        let high_watermark = partition.high_watermark();
        let before = match asked.before {
            Offset::NONE => high_watermark,
            offset if offset < Offset::ZERO || offset > high_watermark => {
                return Err(DeleteRecordsRefusal::OffsetOutOfRange);
            }
            offset => offset,
        };
        if before > partition.log.log_start_offset() {
            let mark = self
                .storage
                .advance_log_start(&partition.log, before)
                .map_err(AppendRefusal::from)?;
            partition.front_removed();
            if let Err(error) = self.storage.wait_for_mark(mark).await {
                tracing::warn!(partition = %asked.id, %error, "the new start is not durable");
                return Err(DeleteRecordsRefusal::NotDurable);
            }
        }
        Ok(partition.log.log_start_offset())
    }
}

/// What the client is told; damage and failures of the machine are for the broker's log, too.
fn refused(id: TopicPartition, error: &ReadError) -> ReadRefusal {
    let refusal = ReadRefusal::from(error);
    if refusal == ReadRefusal::Unreadable {
        tracing::error!(partition = %id, %error, "cannot read");
    }
    refusal
}
