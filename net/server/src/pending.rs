//! Produce requests that wait for their shards: what the outbox keeps in the place of the answer.

use std::rc::Rc;

use bytes::Bytes;
use model::{ErrorCode, Offset, TopicId};
use protocol::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse, ProduceResponse,
    TopicProduceResponse,
};
use protocol::{RequestHeader, Text};
use shard::refusal::{ProduceRefusal, ProduceRefused};
use shard::reply::ReplySlot;
use shard::request::{ProduceResult, ProduceTimes, Produced, ProducedParts};

use crate::error_codes;
use crate::memory::RequestCharge;
use crate::metrics::ErrorCounters;
use crate::request_clock::RequestClock;
use crate::scatter::Places;

/// Why records of one partition were refused: by the broker's edge, or by the shard.
pub(crate) enum Refused {
    Here(ErrorCode),
    ByShard(Box<ProduceRefused>),
}

/// The outcome for one partition.
pub(crate) type Outcome = Result<Produced, Refused>;

/// A topic of the request, and the indices of its partitions in request order.
pub(crate) struct PendingTopic {
    pub(crate) name: Text,
    pub(crate) id: TopicId,
    pub(crate) partitions: Vec<i32>,
}

/// A produce request whose records are on their way to the disk.
pub struct PendingProduce {
    pub(crate) header: RequestHeader,
    pub(crate) topics: Vec<PendingTopic>,
    pub(crate) places: Places<Outcome>,
    pub(crate) slot: Rc<ReplySlot<ProducedParts>>,
    pub(crate) clock: RequestClock,
    /// The memory of the frame, while another shard may have records of it.
    pub(crate) _charge: Option<Rc<RequestCharge>>,
}

/// Records sent with acks=0 that are on their way to other shards.
pub struct PendingPost {
    pub(crate) slot: Rc<ReplySlot<ProducedParts>>,
    pub(crate) _charge: Option<Rc<RequestCharge>>,
}

impl PendingPost {
    /// Whether every shard has appended or refused its part.
    pub fn is_complete(&self) -> bool {
        self.slot.is_complete()
    }

    /// Whether a partition refused. Its error is counted.
    pub fn is_refused(&self, errors: &ErrorCounters) -> bool {
        let mut refused = false;
        for part in self.slot.take() {
            for refusal in part.results.into_iter().filter_map(Result::err) {
                errors.count(error_codes::produce(&refusal.reason));
                refused = true;
            }
        }
        refused
    }
}

impl PendingProduce {
    /// Whether every shard has answered.
    pub fn is_complete(&self) -> bool {
        self.slot.is_complete()
    }

    /// The answer's frame, and the request's clock at the time when the last shard had answered.
    pub fn encode(mut self, errors: &ErrorCounters) -> (Vec<Bytes>, RequestClock) {
        let mut last = ProduceTimes::default();
        let parts = self.slot.take().into_iter().map(|part| {
            if part.times.answered_at >= last.answered_at {
                last = part.times;
            }
            part.results
        });
        let parts = parts.collect();
        let translate = |result: ProduceResult| result.map_err(Refused::ByShard);
        let mut outcomes = self.places.merge(parts, translate).into_iter();
        self.clock.produced(&last);
        let responses = self.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|index| {
                let outcome = outcomes.next().expect("one outcome per partition");
                let response = partition_response(index, outcome);
                errors.count_code(response.error_code);
                response
            });
            TopicProduceResponse {
                name: topic.name,
                topic_id: topic.id,
                partition_responses: partitions.collect(),
            }
        });
        let response = ProduceResponse {
            responses: responses.collect(),
            ..ProduceResponse::default()
        };
        let frame = protocol::encode_response_message(
            self.header.correlation_id,
            self.header.api_version,
            &response,
        )
        .expect("a produce answer repeats names that were decoded, so it encodes");
        (frame, self.clock)
    }
}

fn partition_response(index: i32, outcome: Outcome) -> PartitionProduceResponse {
    match outcome {
        Ok(produced) => PartitionProduceResponse {
            index,
            error_code: ErrorCode::None.code(),
            base_offset: produced.base_offset.0,
            log_append_time_ms: produced.log_append_time.0,
            log_start_offset: produced.log_start_offset.0,
            ..PartitionProduceResponse::default()
        },
        Err(Refused::Here(error)) => refused(index, error, Offset::NONE),
        Err(Refused::ByShard(refusal)) => refused_by_shard(index, *refusal),
    }
}

fn refused(index: i32, error: ErrorCode, log_start_offset: Offset) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: error.code(),
        base_offset: Offset::NONE.0,
        log_append_time_ms: -1,
        log_start_offset: log_start_offset.0,
        ..PartitionProduceResponse::default()
    }
}

fn refused_by_shard(index: i32, refusal: ProduceRefused) -> PartitionProduceResponse {
    let code = error_codes::produce(&refusal.reason);
    let mut response = refused(index, code, refusal.log_start_offset);
    match refusal.reason {
        ProduceRefusal::Lead(reason) => {
            // Who leads now (KIP-951).
            if let Some(leader) = reason.leader() {
                response.current_leader = LeaderIdAndEpoch {
                    leader_id: leader.broker,
                    leader_epoch: leader.epoch.0,
                };
            }
        }
        ProduceRefusal::Invalid(error) => {
            response.error_message = error.message().as_deref().map(Text::copy_from);
            let records = error.into_rejected_records();
            let records = records.iter();
            response.record_errors = records
                .map(|(batch_index, reason)| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: reason.map(Text::copy_from),
                })
                .collect();
        }
        ProduceRefusal::Append(reason) => {
            response.error_message = Some(Text::copy_from(&reason.to_string()));
        }
        ProduceRefusal::NotEnoughInSync | ProduceRefusal::NotAcknowledged(_) => {}
    }
    response
}
