//! Produce (key 0): record batches to their partitions, one message per shard, answered when acknowledged.

use std::rc::Rc;

use bytes::Bytes;
use model::{ErrorCode, PartitionIndex, TopicPartition};
use protocol::Text;
use protocol::produce::ProduceRequest;
use runtime::Io;
use shard::message::ShardRequest;
use shard::reply::{ReplySlot, ReplyTo};
use shard::request::{Acks, Checked, Produce, ProducePartition};

use crate::connection::ConnectionEnd;
use crate::context::Context;
use crate::handlers::topics;
use crate::memory::RequestCharge;
use crate::outbox::Answer;
use crate::pending::{PendingPost, PendingProduce, PendingTopic, Place};
use crate::request_clock::{RequestKind, Stage};

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
    let split = Split::new(context, request, acks);
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
            shard.admit(produce.bytes()).await;
            shard.produce(produce, ReplyTo::Local(slot.clone(), part));
        } else {
            shard.submit(owner, ShardRequest::Produce(produce), &slot, part);
        }
    }
    context
        .connection
        .outbox
        .push(Answer::Produce(PendingProduce {
            header: context.header.clone(),
            topics: split.topics,
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
    parts: Vec<(model::ShardId, Produce)>,
}

impl Split {
    fn new<I: Io>(
        context: &Context<'_, I>,
        request: ProduceRequest,
        acks: Result<Acks, ErrorCode>,
    ) -> Split {
        let timeout_ms = u32::try_from(request.timeout_ms).unwrap_or(0);
        let transactional = request.transactional_id.is_some();
        let mut split = Split {
            acks: acks.unwrap_or(Acks::All),
            topics: Vec::with_capacity(request.topic_data.len()),
            parts: Vec::new(),
        };
        for topic in request.topic_data {
            let known = resolve(context, &topic.name, topic.topic_id);
            let mut partitions = Vec::with_capacity(topic.partition_data.len());
            for data in topic.partition_data {
                let records = data.records.map(protocol::Records::into_bytes);
                let place = match (&acks, &known, records) {
                    (Err(error), _, _) | (_, Err(error), _) => Place::Decided(*error),
                    (_, _, None) => Place::Decided(ErrorCode::InvalidRecord),
                    (_, Ok(id), Some(records)) => {
                        let id = TopicPartition {
                            topic: *id,
                            partition: PartitionIndex(data.index),
                        };
                        match check_transaction(transactional, &records) {
                            Ok(()) => split.add(context, id, records, timeout_ms),
                            Err(error) => Place::Decided(error),
                        }
                    }
                };
                partitions.push((data.index, place));
            }
            split.topics.push(PendingTopic {
                name: topic.name,
                id: topic.topic_id,
                partitions,
            });
        }
        split
    }

    fn add<I: Io>(
        &mut self,
        context: &Context<'_, I>,
        id: TopicPartition,
        records: Bytes,
        timeout_ms: u32,
    ) -> Place {
        let owner = context.server.shard.owner(id);
        let part = match self.parts.iter().position(|(shard, _)| *shard == owner) {
            Some(part) => part,
            None => {
                let produce = Produce {
                    acks: self.acks,
                    timeout_ms,
                    zstd_allowed: context.version() >= VERSION_WITH_ZSTD,
                    partitions: Vec::with_capacity(1),
                };
                self.parts.push((owner, produce));
                self.parts.len() - 1
            }
        };
        let partitions = &mut self.parts[part].1.partitions;
        partitions.push(ProducePartition {
            id,
            records,
            checked: Checked::Not,
        });
        Place::Shard(part, partitions.len() - 1)
    }

    /// `acks=0`: nothing is answered. If a partition refuses, the connection ends, so that the client looks again.
    async fn post<I: Io>(self, context: &Context<'_, I>) -> Result<(), ConnectionEnd> {
        let shard = &context.server.shard;
        let charge = charge_remote(context, &self).await;
        let mut refused = self
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .any(|(_, place)| matches!(place, Place::Decided(_)));
        let me = shard.id();
        let remote = self.parts.iter().filter(|(owner, _)| *owner != me).count();
        let outbox = &context.connection.outbox;
        let slot = ReplySlot::new(remote, outbox.writer.clone());
        let mut number = 0;
        for (owner, mut produce) in self.parts {
            shard.check(&mut produce).await;
            if owner == me {
                shard.admit(produce.bytes()).await;
                let staged = shard.produce(produce, ReplyTo::Nobody);
                refused |= staged.refused;
                context.on_clock(|clock| {
                    clock.end(Stage::Queue, staged.times.begun_at);
                    clock.end(Stage::Append, staged.times.staged_at);
                });
            } else {
                shard.submit(owner, ShardRequest::Produce(produce), &slot, number);
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

fn resolve<I: Io>(
    context: &Context<'_, I>,
    name: &Text,
    id: model::TopicId,
) -> Result<model::TopicId, ErrorCode> {
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
