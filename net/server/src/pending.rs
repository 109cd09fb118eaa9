//! Produce requests that wait for their shards: what the outbox keeps in the place of the answer.

use std::rc::Rc;

use bytes::Bytes;
use model::ErrorCode;
use protocol::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceResponse, ProduceResponse,
    TopicProduceResponse,
};
use protocol::{RequestHeader, Text};
use shard::message::ShardReply;
use shard::reply::ReplySlot;
use shard::request::{ProduceTimes, Produced};

use crate::memory::RequestCharge;
use crate::metrics::ErrorCounters;
use crate::request_clock::RequestClock;

/// Where the result of one partition comes from.
pub(crate) enum Place {
    /// Decided before any shard was asked.
    Decided(ErrorCode),
    /// Part and position of a shard's answer.
    Shard(usize, usize),
}

pub(crate) struct PendingTopic {
    pub(crate) name: Text,
    pub(crate) id: model::TopicId,
    pub(crate) partitions: Vec<(i32, Place)>,
}

/// A produce request whose records are on their way to the disk.
pub struct PendingProduce {
    pub(crate) header: RequestHeader,
    pub(crate) topics: Vec<PendingTopic>,
    pub(crate) slot: Rc<ReplySlot>,
    pub(crate) clock: RequestClock,
    /// The memory of the frame, while another shard may have records of it.
    pub(crate) _charge: Option<Rc<RequestCharge>>,
}

/// Records sent with acks=0 that are on their way to other shards.
pub struct PendingPost {
    pub(crate) slot: Rc<ReplySlot>,
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
        for reply in self.slot.take() {
            let ShardReply::Produce(results, _) = reply else {
                unreachable!("a shard answered produce with {reply:?}")
            };
            for result in results.iter().filter(|result| !result.error.is_none()) {
                errors.count(result.error);
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
        let mut parts: Vec<Vec<Option<Produced>>> = self
            .slot
            .take()
            .into_iter()
            .map(|reply| match reply {
                ShardReply::Produce(results, times) => {
                    if times.answered_at >= last.answered_at {
                        last = times;
                    }
                    results.into_iter().map(Some).collect()
                }
                other => unreachable!("a shard answered produce with {other:?}"),
            })
            .collect();
        self.clock.produced(&last);
        let responses = self.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|(index, place)| {
                let result = match place {
                    Place::Decided(error) => Produced::refused(error),
                    Place::Shard(part, at) => parts[part][at].take().expect("one place each"),
                };
                errors.count(result.error);
                partition_response(index, result)
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

fn partition_response(index: i32, result: Produced) -> PartitionProduceResponse {
    let errors = result.record_errors.iter();
    PartitionProduceResponse {
        index,
        error_code: result.error.code(),
        base_offset: result.base_offset.0,
        log_append_time_ms: result.log_append_time.0,
        log_start_offset: result.log_start_offset.0,
        record_errors: errors
            .map(|(batch_index, reason)| BatchIndexAndErrorMessage {
                batch_index,
                batch_index_error_message: reason.map(Text::copy_from),
            })
            .collect(),
        error_message: result.message.as_deref().map(Text::copy_from),
        current_leader: result
            .leader
            .map_or_else(LeaderIdAndEpoch::default, |leader| LeaderIdAndEpoch {
                leader_id: leader.broker,
                leader_epoch: leader.epoch.0,
            }),
    }
}
