//! Appending to the logs of this shard: records that clients produced, and the broker's own.
//!
//! From admission to the commit group everything is synchronous, so that the room that was found is still there: order
//! of admissions is order in the log. Only waiting for room ([`Appender::admit`]) and for acknowledgement suspends.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use model::record::{
    self, BatchCheck, BatchInfo, DecompressionScratch, ValidationError, ValidationRules,
};
use model::{LeaderEpoch, Offset, Timestamp};
use runtime::{Counter, Io};
use storage::{AppendContext, Appended, Storage};

use crate::partition::Partition;
use crate::partition_rules::PartitionRules;
use crate::partitions::Partitions;
use crate::refusal::{AppendRefusal, ProduceRefusal, ProduceRefused};
use crate::request::{Acks, Checked, Produce, ProducePartition, Produced};

/// Whether the next part of a request waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Waits,
    /// An earlier part waited in vain: the others do not wait as long again.
    Over,
}

/// A partition's records are in the open commit group.
pub(crate) struct Accepted {
    pub(crate) partition: Rc<Partition>,
    pub(crate) until: Offset,
}

/// Appends to the logs of one shard.
pub(crate) struct Appender<I: Io> {
    io: I,
    storage: Storage<I>,
    partitions: Rc<Partitions<I>>,
    scratch: RefCell<DecompressionScratch>,
    /// Bytes that clients produced, as stored.
    pub(crate) produced_bytes: Counter,
    /// Bytes of the broker's own batches.
    pub(crate) own_bytes: Counter,
}

impl<I: Io> Appender<I> {
    pub(crate) fn new(io: I, storage: Storage<I>, partitions: Rc<Partitions<I>>) -> Appender<I> {
        Appender {
            io,
            storage,
            partitions,
            scratch: RefCell::default(),
            produced_bytes: Counter::default(),
            own_bytes: Counter::default(),
        }
    }

    /// Waits while the journal or the memory behind it is full. Whoever is not admitted appends all the same, and is
    /// told why it is refused.
    pub(crate) async fn admit(&self, bytes: usize) -> Admission {
        match self.storage.admit(bytes).await {
            Ok(()) => Admission::Waits,
            Err(error) => {
                tracing::debug!(%error, "not admitted: each append says why");
                Admission::Over
            }
        }
    }

    /// Appends one partition's part of a client's request, once there is room. Says up to which offset the client must
    /// wait, if it must.
    pub(crate) async fn append(
        &self,
        request: &Produce,
        part: &ProducePartition,
        admission: &mut Admission,
    ) -> Result<(Produced, Option<Accepted>), Box<ProduceRefused>> {
        let acks = request.acks;
        let partition = self.writable(part, acks)?;
        let rules = partition.rules();
        let now = self.io.wall_clock();
        let (batch, info) = self
            .validate(&rules, request.zstd_allowed, part, now)
            .map_err(|error| refused_by_validation(error, &partition))?;
        if *admission == Admission::Waits {
            *admission = self.admit(batch.len()).await;
        }
        // It may have gone while there was no room.
        let partition = self.writable(part, acks)?;
        let appended = self
            .append_valid(&partition, &rules, &batch, &info, now)
            .map_err(|refusal| {
                Box::new(ProduceRefused {
                    reason: refusal.into(),
                    log_start_offset: partition.log.log_start_offset(),
                })
            })?;
        let until = appended.last_offset.plus(1);
        let result = Produced {
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time.unwrap_or(Timestamp::NONE),
            log_start_offset: partition.log.log_start_offset(),
        };
        let waits = !partition.is_acknowledged(acks, until);
        Ok((result, waits.then_some(Accepted { partition, until })))
    }

    /// The partition, if a client may append to it now.
    fn writable(
        &self,
        part: &ProducePartition,
        acks: Acks,
    ) -> Result<Rc<Partition>, Box<ProduceRefused>> {
        let partition = self
            .partitions
            .lead(part.id, LeaderEpoch::NONE)
            .map_err(ProduceRefused::because)?;
        if acks == Acks::All && !partition.has_enough_in_sync() {
            return Err(ProduceRefused::because(ProduceRefusal::NotEnoughInSync));
        }
        Ok(partition)
    }

    /// The batch to append, and what is in it.
    fn validate(
        &self,
        rules: &PartitionRules,
        zstd_allowed: bool,
        part: &ProducePartition,
        now: Timestamp,
    ) -> Result<(Bytes, BatchInfo), ValidationError> {
        let validation = ValidationRules {
            zstd_allowed,
            ..rules.validation
        };
        let timestamp_type = validation.timestamp_type;
        let mut scratch = self.scratch.borrow_mut();
        let (batch, info) = match &part.checked {
            Checked::Refused(error) => return Err(ValidationError::clone(error)),
            Checked::Good(checked) => (part.records.clone(), checked.info(timestamp_type, now)),
            Checked::Not if rules.recompress.is_none() => {
                let info = record::validate(&part.records, &validation, now, &mut scratch)?;
                (part.records.clone(), info)
            }
            Checked::Not => {
                let to = rules.recompress;
                let check = BatchCheck::begin(&part.records, &validation, to, now)?;
                let mut checked = check.run(&mut scratch)?;
                let recompressed = checked.recompressed.take();
                let info = checked.info(timestamp_type, now);
                (recompressed.unwrap_or_else(|| part.records.clone()), info)
            }
        };
        Ok((batch.slice(..info.size_bytes), info))
    }

    fn append_valid(
        &self,
        partition: &Partition,
        rules: &PartitionRules,
        batch: &[u8],
        info: &BatchInfo,
        now: Timestamp,
    ) -> Result<Appended, AppendRefusal> {
        let context = AppendContext {
            leader_epoch: partition.leader_epoch(),
            durability: rules.durability,
            now,
            log_append_time: rules.log_append_time.then_some(now),
            check_producer: true,
        };
        let appended = self.storage.append(&partition.log, batch, info, context)?;
        if !appended.duplicate {
            if partition.is_replicated() {
                partition.appended(self.io.now());
            }
            let records = u64::try_from(info.header.record_count);
            let records = records.expect("a valid batch has no negative number of records");
            let counters = &partition.counters;
            counters.batches.increment();
            counters.records.add(records);
            counters.bytes.add(batch.len() as u64);
            self.produced_bytes.add(batch.len() as u64);
        }
        Ok(appended)
    }

    /// Appends a batch of the broker's own: it was built here, so only its place in the log is new.
    pub(crate) fn append_own(
        &self,
        partition: &Partition,
        batch: &[u8],
    ) -> Result<Appended, AppendRefusal> {
        let now = self.io.wall_clock();
        let rules = ValidationRules {
            batch_bytes_max: batch.len(),
            segment_bytes_max: batch.len(),
            timestamp_after_ms_max: i64::MAX,
            ..ValidationRules::default()
        };
        let info = record::validate(batch, &rules, now, &mut self.scratch.borrow_mut())
            .map_err(|error| AppendRefusal::Malformed(error.to_string()))?;
        let context = AppendContext {
            leader_epoch: partition.leader_epoch(),
            durability: partition.rules().durability,
            now,
            log_append_time: None,
            check_producer: false,
        };
        let appended = self.storage.append(&partition.log, batch, &info, context)?;
        if partition.is_replicated() {
            partition.appended(self.io.now());
        }
        self.own_bytes.add(batch.len() as u64);
        Ok(appended)
    }
}

fn refused_by_validation(error: ValidationError, partition: &Partition) -> Box<ProduceRefused> {
    let log_start_offset = match error.has_log_start_offset() {
        true => partition.log.log_start_offset(),
        false => Offset::NONE,
    };
    Box::new(ProduceRefused {
        reason: ProduceRefusal::Invalid(Box::new(error)),
        log_start_offset,
    })
}
