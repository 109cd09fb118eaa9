//! Produce (key 0): record batches to their partitions, one message per shard, answered when acknowledged.

use std::rc::Rc;

use bytes::Bytes;
use model::{ErrorCode, PartitionIndex, ShardId, TopicId, TopicPartition};
use protocol::Text;
use protocol::produce::ProduceRequest;
use runtime::Io;
use shard::message::ReplyTo;
use shard::reply::ReplySlot;
use shard::request::{Acks, Checked, Produce, ProducePartition};

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::topics;
use crate::memory::RequestCharge;
use crate::outbox::Answer;
use crate::pending::{Outcome, PendingPost, PendingProduce, PendingTopic, Refused};
use crate::request_clock::{RequestKind, Stage};
use crate::scatter::{Places, Scatter};

/// The client id that may write to internal topics, as in Kafka.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// The first version that knows zstd (KIP-110).
const VERSION_WITH_ZSTD: i16 = 7;

/// Hands the records to their shards and leaves a place for the answer.
pub async fn handle<I: Io>(
    context: &Context<'_, I>,
    request: ProduceRequest,
) -> Result<(), ConnectionEnd> {
    let shard = &context.server.shard;
    let acks = match request.acks {
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        _ => Err(ErrorCode::InvalidRequiredAcks),
    };
    let mut ids = resolve_all(context, &request);
    if ids.iter().any(is_unknown) {
        shard.catch_up().await;
        ids = resolve_all(context, &request);
    }
    let split = Split::new(context, request, &ids, acks);
    context.on_clock(|clock| clock.kind = RequestKind::Produce(split.acks));
    context.end_stage(Stage::Decode);
    if split.acks == Acks::None {
        return split.post(context).await;
    }
    let charge = charge_remote(context, &split).await;
    let signal = context.connection.outbox.writer.clone();
    let slot = ReplySlot::new(split.parts.len(), signal);
    let me = shard.id();
    for (part, (owner, mut produce)) in split.parts.into_iter().enumerate() {
        shard.check(&mut produce).await;
        if owner == me {
            let reply = ReplyTo::Local(slot.clone(), part);
            shard.produce(produce, reply).await;
        } else {
            shard.ask_into(owner, produce, &slot, part);
        }
    }
    context
        .connection
        .outbox
        .push(Answer::Produce(PendingProduce {
            header: context.header.clone(),
            topics: split.topics,
            places: split.places,
            slot,
            clock: context.clock.get(),
            _charge: charge,
        }));
    Ok(())
}

/// The memory of the frame, if records of it go to another shard: charged now unless it was when the frame was read.
/// Records of this shard are copied before the next request is looked at.
async fn charge_remote<I: Io>(
    context: &Context<'_, I>,
    split: &Split,
) -> Option<Rc<RequestCharge>> {
    let server = context.server;
    let me = server.shard.id();
    if split.parts.iter().all(|(owner, _)| *owner == me) {
        return None;
    }
    match &context.charge {
        Some(charge) => Some(charge.clone()),
        None => {
            let bytes = context.frame_bytes;
            Some(server.memory.charge_passing(bytes).await)
        }
    }
}

/// A request, split by the shards that own its partitions.
struct Split {
    acks: Acks,
    topics: Vec<PendingTopic>,
    places: Places<Outcome>,
    parts: Vec<(ShardId, Produce)>,
}

impl Split {
    fn new<I: Io>(
        context: &Context<'_, I>,
        request: ProduceRequest,
        ids: &[Result<TopicId, ErrorCode>],
        acks: Result<Acks, ErrorCode>,
    ) -> Split {
        let timeout_ms = u32::try_from(request.timeout_ms).unwrap_or(0);
        let transactional = request.transactional_id.is_some();
        let mut topics = Vec::with_capacity(request.topic_data.len());
        let mut scatter = Scatter::default();
        for (topic, id) in request.topic_data.into_iter().zip(ids) {
            let known = acks.and(*id);
            let mut partitions = Vec::with_capacity(topic.partition_data.len());
            for data in topic.partition_data {
                partitions.push(data.index);
                let records = data.records.map(protocol::Records::into_bytes);
                match (known, records) {
                    (Err(error), _) => scatter.decided(Err(Refused::Here(error))),
                    (_, None) => {
                        scatter.decided(Err(Refused::Here(ErrorCode::InvalidRecord)));
                    }
                    (Ok(topic), Some(records)) => {
                        let id = TopicPartition {
                            topic,
                            partition: PartitionIndex(data.index),
                        };
                        match check_transaction(transactional, &records) {
                            Ok(()) => {
                                scatter.ask(context.server.shard.owner(id), part(id, records))
                            }
                            Err(error) => scatter.decided(Err(Refused::Here(error))),
                        }
                    }
                }
            }
            topics.push(PendingTopic {
                name: topic.name,
                id: topic.topic_id,
                partitions,
            });
        }
        let acks = acks.unwrap_or(Acks::All);
        let zstd_allowed = context.version() >= VERSION_WITH_ZSTD;
        let (places, parts) = scatter.split();
        let parts = parts.into_iter().map(|(owner, partitions)| {
            let produce = Produce {
                acks,
                timeout_ms,
                zstd_allowed,
                partitions,
            };
            (owner, produce)
        });
        Split {
            acks,
            topics,
            places,
            parts: parts.collect(),
        }
    }

    /// `acks=0`: nothing is answered. If a partition refuses, the connection ends, so that the client looks again.
    async fn post<I: Io>(self, context: &Context<'_, I>) -> Result<(), ConnectionEnd> {
        let shard = &context.server.shard;
        let charge = charge_remote(context, &self).await;
        let mut refused = self.places.any_decided(Result::is_err);
        let me = shard.id();
        let remote = self.parts.iter().filter(|(owner, _)| *owner != me).count();
        let outbox = &context.connection.outbox;
        let slot = ReplySlot::new(remote, outbox.writer.clone());
        let mut number = 0;
        for (owner, mut produce) in self.parts {
            shard.check(&mut produce).await;
            if owner == me {
                let staged = shard.produce(produce, ReplyTo::Nobody).await;
                refused |= staged.refused;
                context.on_clock(|clock| {
                    clock.end(Stage::Queue, staged.times.begun_at);
                    clock.end(Stage::Append, staged.times.staged_at);
                });
            } else {
                shard.ask_into(owner, produce, &slot, number);
                number += 1;
                context.end_stage(Stage::Queue);
            }
        }
        context.server.metrics.record(&context.clock.get());
        if remote > 0 {
            outbox.push(Answer::Posted(PendingPost {
                slot,
                _charge: charge,
            }));
        }
        if refused {
            return Err(ConnectionEnd::Protocol(
                "records sent with acks=0 were refused".into(),
            ));
        }
        Ok(())
    }
}

fn part(id: TopicPartition, records: Bytes) -> ProducePartition {
    ProducePartition {
        id,
        records,
        checked: Checked::Not,
    }
}

/// The identity of every topic of a request, in order, or why its records are refused.
fn resolve_all<I: Io>(
    context: &Context<'_, I>,
    request: &ProduceRequest,
) -> Vec<Result<TopicId, ErrorCode>> {
    let topics = request.topic_data.iter();
    topics
        .map(|topic| resolve(context, &topic.name, topic.topic_id))
        .collect()
}

fn is_unknown(id: &Result<TopicId, ErrorCode>) -> bool {
    matches!(
        id,
        Err(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition)
    )
}

fn resolve<I: Io>(
    context: &Context<'_, I>,
    name: &Text,
    id: TopicId,
) -> Result<TopicId, ErrorCode> {
    let image = context.server.shard.image();
    let topic = if context.version() >= 13 {
        image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        image
            .topic_by_name(name)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    let client = context.header.client_id.as_deref();
    if topics::is_internal(topic.name()) && client != Some(ADMIN_CLIENT_ID) {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok(topic.id())
}

/// Transactions do not exist yet: no partition is ever part of one, so a transactional batch is refused as Kafka
/// refuses one whose partition was not added.
fn check_transaction(transactional: bool, records: &[u8]) -> Result<(), ErrorCode> {
    let is_transactional =
        model::record::BatchHeader::parse(records).is_ok_and(|header| header.is_transactional());
    match (is_transactional, transactional) {
        (false, _) => Ok(()),
        (true, false) => Err(ErrorCode::TransactionalIdAuthorizationFailed),
        (true, true) => Err(ErrorCode::InvalidTxnState),
    }
}
