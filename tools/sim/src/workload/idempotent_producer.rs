//! An idempotent producer: what has no answer is sent again with the same sequence until it has one, so each batch must
//! be in the log exactly once (KIP-98).
//!
//! Invariant: the unacknowledged batches of a partition are sent in order of their sequence, and from the oldest of them
//! on there are never more than five: as many as the broker remembers. The first batch of a partition goes alone: a log
//! that does not know a producer takes any sequence (as Kafka's does), so a second batch would be accepted after the
//! first was refused.

use std::collections::{BTreeMap, VecDeque};

use client::{Acks, Pending, init_producer_id_request};
use model::{ErrorCode, ProducerEpoch, ProducerId, TopicPartition};
use protocol::produce::ProduceResponse;

use super::Client;
use super::link::{IN_FLIGHT_MAX, Link};
use super::plain_producer::{Answer, Outgoing, answer, make_batch, request};
use crate::history::{Fate, History};
use crate::payload::BatchId;

/// The batches of one partition.
#[derive(Default)]
struct Lane {
    next_sequence: i32,
    /// Whether any batch was acknowledged.
    is_known: bool,
    /// From the oldest unacknowledged one on; with each, whether it is acknowledged.
    window: VecDeque<(Outgoing, bool)>,
}

impl Lane {
    fn unacknowledged(&self) -> usize {
        self.window
            .iter()
            .filter(|(_, acknowledged)| !acknowledged)
            .count()
    }
}

struct Producer {
    client: Client,
    link: Link,
    number: u32,
    identity: (ProducerId, ProducerEpoch),
    batches: u64,
    lanes: BTreeMap<TopicPartition, Lane>,
}

/// Produces until the run stops and everything has an answer.
pub(super) async fn run(client: Client, number: u32) {
    let mut link = Link::new(client.io.clone(), &client.bootstrap);
    let identity = loop {
        if client.history.is_stopping() {
            return;
        }
        client.pause().await;
        let response = link.call(&init_producer_id_request()).await;
        if let Ok(response) = response
            && response.error_code == 0
        {
            break (
                ProducerId(response.producer_id),
                ProducerEpoch(response.producer_epoch),
            );
        }
    };
    if !client.history.facts_mut().producer_ids.insert(identity.0) {
        client.history.violation(format!(
            "the producer id {} was given away twice",
            identity.0
        ));
    }
    let mut producer = Producer {
        client,
        link,
        number,
        identity,
        batches: 0,
        lanes: BTreeMap::new(),
    };
    loop {
        producer.client.pause().await;
        if producer.client.history.is_stopping() {
            if producer.lanes.values().all(|lane| lane.window.is_empty()) {
                return;
            }
        } else {
            producer.fill();
        }
        producer.round().await;
    }
}

impl Producer {
    /// Makes new batches for some partitions.
    fn fill(&mut self) {
        let client = &self.client;
        for to in client.history.writable() {
            let lane = self.lanes.entry(to.1).or_default();
            if lane.window.len() >= IN_FLIGHT_MAX - 1 || !client.random.one_in(2) {
                continue;
            }
            self.batches += 1;
            let id = BatchId {
                producer: self.number,
                number: self.batches,
            };
            let (producer_id, epoch) = self.identity;
            let sequence = lane.next_sequence;
            let stream = producer_id.0.unsigned_abs();
            let (batch, count) = make_batch(client, id, to, stream, |builder| {
                builder.producer(producer_id, epoch, sequence)
            });
            lane.next_sequence += count as i32;
            lane.window.push_back((batch, false));
        }
    }

    /// Sends everything that is unacknowledged, the k-th batch of each partition in the k-th request, and reads the answers.
    async fn round(&mut self) {
        if self.link.connected().await.is_none() {
            return;
        }
        let depth = self
            .lanes
            .values()
            .map(|lane| lane.window.len())
            .max()
            .unwrap_or(0);
        let mut waiting: VecDeque<(Pending<ProduceResponse>, Vec<Outgoing>)> = VecDeque::new();
        for place in 0..depth.min(IN_FLIGHT_MAX) {
            let broker = &self.client.broker;
            let lanes = self
                .lanes
                .values_mut()
                .filter(|lane| place == 0 || lane.is_known);
            let row = lanes.filter_map(|lane| lane.window.get_mut(place));
            let batches: Vec<Outgoing> = row
                .filter(|(_, acknowledged)| !acknowledged)
                .map(|(batch, _)| {
                    batch.fenced = broker.is_fenced(batch.partition);
                    batch.clone()
                })
                .collect();
            if batches.is_empty() {
                continue;
            }
            let Some(connection) = self.link.open() else {
                break;
            };
            match connection.send(&request(Acks::All, &batches)).await {
                Ok(pending) => waiting.push_back((pending, batches)),
                Err(_) => self.link.lose(),
            }
        }
        while let Some((pending, batches)) = waiting.pop_front() {
            let Some(connection) = self.link.open() else {
                break;
            };
            match connection.receive(pending).await {
                Ok(response) => {
                    for batch in &batches {
                        self.settle(batch, &answer(&response, batch));
                    }
                }
                Err(_) => self.link.lose(),
            }
        }
        let left: usize = self.lanes.values().map(Lane::unacknowledged).sum();
        self.client.history.facts_mut().tallies.retried += left as u64;
    }

    fn settle(&mut self, batch: &Outgoing, answer: &Answer) {
        let history = &self.client.history;
        let (id, partition) = (batch.id, batch.partition);
        let lane = self.lanes.entry(partition).or_default();
        let Some(place) = lane.window.iter().position(|(known, _)| known.id == id) else {
            // The topic was deleted, and with it what was left to send.
            return;
        };
        let is_oldest = lane
            .window
            .iter()
            .take(place)
            .all(|(_, acknowledged)| *acknowledged);
        match answer {
            Answer::Acknowledged(_) if batch.fenced => history.violation(format!(
                "{id:?} was acknowledged by the fenced shard of {partition}"
            )),
            // Maybe before an older one, if that was appended but not acknowledged: it is sent again, and known there.
            Answer::Acknowledged(base) => {
                history.settle(id, Fate::Acknowledged(*base));
                lane.window[place].1 = true;
                lane.is_known = true;
                while lane
                    .window
                    .front()
                    .is_some_and(|(_, acknowledged)| *acknowledged)
                {
                    lane.window.pop_front();
                }
            }
            Answer::Refused(ErrorCode::UnknownTopicId | ErrorCode::UnknownTopicOrPartition, _) => {
                let code = ErrorCode::UnknownTopicId.code();
                history.unknown(partition, code, "producing");
                give_up(history, lane);
            }
            Answer::Refused(
                ErrorCode::KafkaStorageError
                | ErrorCode::RequestTimedOut
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::NotLeaderOrFollower,
                reason,
            ) => {
                let bytes = batch.bytes.len();
                history.refused(format!("{id:?} of {bytes} bytes for {partition}: {reason}"));
            }
            Answer::Refused(ErrorCode::OutOfOrderSequenceNumber, _) if !is_oldest => {}
            Answer::Refused(code, message) => {
                let producer_id = self.identity.0;
                history.violation(format!(
                    "the idempotent {id:?} for {partition} of producer id {producer_id} was refused with {code:?}: \
                     {message}"
                ));
                give_up(history, lane);
            }
            Answer::Nonsense(code) => {
                history.violation(format!(
                    "{id:?} was answered with code {code} or not at all"
                ));
            }
        }
    }
}

/// Sends nothing of a lane again.
fn give_up(history: &History, lane: &mut Lane) {
    for (batch, acknowledged) in lane.window.drain(..) {
        if !acknowledged {
            history.settle(batch.id, Fate::Indeterminate);
        }
    }
}
