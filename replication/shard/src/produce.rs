//! Appending records that clients produced, and answering when they are acknowledged.
//!
//! The whole path from request to commit group is synchronous: order of arrival is order in the log. What could take
//! long was done before ([`Shard::check`]).

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::record::{
    self, BatchCheck, BatchInfo, RejectedRecords, ValidationError, ValidationRules,
};
use model::{ErrorCode, Offset, Timestamp};
use runtime::Io;
use storage::{AppendContext, AppendError, Appended};

use crate::message::ShardReply;
use crate::partition::{AcknowledgeTarget, Partition, PartitionRules};
use crate::reply::ReplyTo;
use crate::request::{
    Acks, Checked, LeaderHint, Produce, ProducePartition, ProduceTimes, Produced,
};
use crate::shard::Shard;

/// A wait for acknowledgement never lasts longer, whatever the request says.
const ACKNOWLEDGE_WAIT_MAX: Duration = Duration::from_secs(300);

/// What an append of the broker's own may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// What clients' appends may use.
    Ordinary,
    /// It says how space comes back, or without it nobody could: a full device must take it.
    FreesSpace,
}

/// What became of a produce request at once.
#[derive(Clone, Copy, Debug)]
pub struct Staged {
    /// A partition refused its records.
    pub refused: bool,
    /// When the shard began with it and when its records were in the commit group.
    pub times: ProduceTimes,
}

/// A partition's records are in the open commit group.
struct Accepted {
    partition: Rc<Partition>,
    until: Offset,
}

impl<I: Io> Shard<I> {
    /// Waits while the journal or the memory behind it is full. A fenced log admits everything, to refuse it.
    pub async fn admit(&self, bytes: usize) {
        if let Err(error) = self.storage.admit(bytes).await {
            tracing::debug!(%error, "not admitted: each append says why");
        }
    }

    /// Appends to partitions of this shard. The answer goes to `reply` when it is due.
    pub fn produce(&self, request: Produce, reply: ReplyTo) -> Staged {
        let begun_at = self.io.now();
        let count = request.partitions.len();
        let mut results = Vec::with_capacity(count);
        let mut accepted = Vec::with_capacity(count);
        for part in &request.partitions {
            match self.append(&request, part) {
                Ok((result, wait)) => {
                    results.push(result);
                    accepted.push(wait);
                }
                Err(refused) => {
                    results.push(*refused);
                    accepted.push(None);
                }
            }
        }
        let refused = results.iter().any(|result| !result.error.is_none());
        let staged_at = self.io.now();
        let times = ProduceTimes {
            begun_at,
            staged_at,
            answered_at: staged_at,
            ..ProduceTimes::default()
        };
        let staged = Staged { refused, times };
        if matches!(reply, ReplyTo::Nobody) {
            return staged;
        }
        // Another shard is told that records sent with acks=0 were appended: it holds their memory until then.
        if request.acks == Acks::None || accepted.iter().all(Option::is_none) {
            let answer = ShardReply::Produce(results, times);
            self.peers.answer(reply, answer);
            return staged;
        }
        let waiting = accepted.iter().map(Option::is_some).collect();
        let wait = Duration::from_millis(u64::from(request.timeout_ms)).min(ACKNOWLEDGE_WAIT_MAX);
        let deadline = staged_at.plus(wait);
        let operation = self
            .purgatory
            .borrow_mut()
            .insert(results, waiting, deadline, reply, times);
        for (index, wait) in accepted.into_iter().enumerate() {
            if let Some(Accepted { partition, until }) = wait {
                let target = AcknowledgeTarget::Operation(operation, index);
                partition.wait(request.acks, until, target);
            }
        }
        staged
    }

    /// Appends to one partition. Says up to which offset the client must wait, if it must.
    fn append(
        &self,
        request: &Produce,
        part: &ProducePartition,
    ) -> Result<(Produced, Option<Accepted>), Box<Produced>> {
        let Some(partition) = self.partition(part.id) else {
            return Err(Box::new(self.not_here(part)));
        };
        let acks = request.acks;
        let rules = partition.rules();
        if acks == Acks::All && !partition.has_enough_in_sync() {
            return Err(Box::new(Produced::refused(ErrorCode::NotEnoughReplicas)));
        }
        let now = self.io.wall_clock();
        let (batch, info) = self
            .validate(&rules, request.zstd_allowed, part, now)
            .map_err(|error| Box::new(refused_by_validation(error, &partition)))?;
        let appended = self.append_valid(&partition, &rules, &batch, &info, now)?;
        let until = appended.last_offset.plus(1);
        let result = Produced {
            error: ErrorCode::None,
            base_offset: appended.base_offset,
            log_append_time: appended.log_append_time.unwrap_or(Timestamp::NONE),
            log_start_offset: partition.log.log_start_offset(),
            record_errors: RejectedRecords::default(),
            message: None,
            leader: None,
        };
        let waits = !partition.is_acknowledged(acks, until);
        Ok((result, waits.then_some(Accepted { partition, until })))
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
    ) -> Result<Appended, Box<Produced>> {
        let context = AppendContext {
            leader_epoch: partition.leader_epoch(),
            durability: rules.durability,
            now,
            log_append_time: rules.log_append_time.then_some(now),
            urgent: false,
            check_producer: true,
        };
        let appended = self.storage.append(&partition.log, batch, info, context);
        if let Ok(appended) = &appended
            && !appended.duplicate
        {
            let counters = &partition.counters;
            let records = u64::try_from(info.header.record_count).unwrap_or(0);
            counters.batches.increment();
            counters.records.add(records);
            counters.bytes.add(batch.len() as u64);
            self.counters.produced_bytes.add(batch.len() as u64);
        }
        appended.map_err(|error| {
            let mut refused = Produced::refused(error_code(&error));
            refused.log_start_offset = partition.log.log_start_offset();
            refused.message = Some(error.to_string());
            Box::new(refused)
        })
    }

    /// Why a partition is not served here: it does not exist, or somebody else leads it.
    fn not_here(&self, part: &ProducePartition) -> Produced {
        match self.leader_hint(part.id) {
            None => Produced::refused(ErrorCode::UnknownTopicOrPartition),
            Some(hint) => Produced {
                leader: Some(hint),
                ..Produced::refused(ErrorCode::NotLeaderOrFollower)
            },
        }
    }

    /// Who leads a partition that exists.
    pub(crate) fn leader_hint(&self, id: model::TopicPartition) -> Option<LeaderHint> {
        let image = self.image.borrow();
        let state = image.partition(id)?;
        Some(LeaderHint {
            broker: state.leader_id().0,
            epoch: state.leader_epoch,
        })
    }
}

fn refused_by_validation(error: ValidationError, partition: &Partition) -> Produced {
    let mut refused = Produced::refused(error.error_code());
    if error.has_log_start_offset() {
        refused.log_start_offset = partition.log.log_start_offset();
    }
    refused.message = error.message();
    refused.record_errors = error.into_rejected_records();
    refused
}

impl<I: Io> Shard<I> {
    /// Appends a batch of the broker's own: it was built here, so only its place in the log is new.
    pub(crate) fn append_own(
        &self,
        partition: &Partition,
        batch: &[u8],
        urgency: Urgency,
    ) -> Result<Appended, ErrorCode> {
        let now = self.io.wall_clock();
        let rules = ValidationRules {
            batch_bytes_max: batch.len(),
            segment_bytes_max: batch.len(),
            timestamp_after_ms_max: i64::MAX,
            ..ValidationRules::default()
        };
        let info = record::validate(batch, &rules, now, &mut self.scratch.borrow_mut())
            .map_err(|error| error.error_code())?;
        let context = AppendContext {
            leader_epoch: partition.leader_epoch(),
            durability: partition.rules().durability,
            now,
            log_append_time: None,
            urgent: urgency == Urgency::FreesSpace,
            check_producer: false,
        };
        let appended = self
            .storage
            .append(&partition.log, batch, &info, context)
            .map_err(|error| error_code(&error))?;
        self.counters.own_bytes.add(batch.len() as u64);
        Ok(appended)
    }
}

/// The code a client sees for an append that storage refused.
pub(crate) fn error_code(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::TooLarge { .. } => ErrorCode::RecordListTooLarge,
        AppendError::DiskFull
        | AppendError::JournalFull
        | AppendError::Closing
        | AppendError::Fenced(_) => ErrorCode::KafkaStorageError,
        AppendError::Deleted => ErrorCode::UnknownTopicOrPartition,
        AppendError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        AppendError::LeaderEpochStale { .. } => ErrorCode::FencedLeaderEpoch,
        AppendError::Malformed => ErrorCode::InvalidRecord,
        AppendError::Held => ErrorCode::NotLeaderOrFollower,
        AppendError::Damaged(_) => ErrorCode::CorruptMessage,
        AppendError::NotNext { .. } => ErrorCode::UnknownServerError,
    }
}
