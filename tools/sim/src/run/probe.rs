//! A client that asks one thing at a time and holds the broker to a time for each answer.
//!
//! Owned by a course. What it produces is in the history like any other client's batches, so the checker judges it too.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use client::Acks;
use model::{ErrorCode, Offset, TopicPartition};
use runtime::Io;

use crate::checker::fetch;
use crate::history::Fate;
use crate::payload::BatchId;
use crate::workload::{
    Answer, Client, Link, Outgoing, WorkloadSettings, absorb_partition, make_batch, produce_answer,
    produce_request,
};

/// How long a request is waited for at all; longer than it may take, so that the answer is seen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// What the broker is told: it must not be this deadline that makes it answer.
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
/// Set apart from the producers of the workload.
const PRODUCER: u32 = 1_000_000;
/// Answers that say "not now" while a shard loads or a leader is elected.
const READ_TRIES_MAX: u32 = 40;
/// Pause after such an answer.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A partition and the name of its topic.
pub(super) type Target = (String, TopicPartition);

/// See the module's text.
pub(super) struct Probe {
    pub(super) client: Client,
    pub(super) link: Link,
    answer_time_max: Duration,
    number: u64,
}

impl Probe {
    /// A probe whose batches are as `settings` say, and whose questions are to be answered within a time.
    pub(super) fn new(
        client: &Client,
        settings: WorkloadSettings,
        answer_time_max: Duration,
    ) -> Probe {
        let client = Client {
            settings: Rc::new(settings),
            ..client.clone()
        };
        let link = Link::patient(client.io.clone(), &client.bootstrap, PATIENCE);
        Probe {
            client,
            link,
            answer_time_max,
            number: 0,
        }
    }

    /// Sends a batch to each of `targets`, in one request. Those that were refused, with an error that is worth
    /// another try; anything else is a violation.
    pub(super) async fn produce(&mut self, targets: &[Target]) -> Vec<Target> {
        let history = self.client.history.clone();
        if self.link.connected().await.is_none() {
            return targets.to_vec();
        }
        let stream = self.link.number();
        let batches: Vec<Outgoing> = targets.iter().map(|to| self.batch(to, stream)).collect();
        let mut request = produce_request(Acks::All, &batches);
        request.timeout_ms = PRODUCE_TIMEOUT_MS;
        let begun = self.client.io.now();
        let response = self.link.call(&request).await;
        let took = self.client.io.now().since(begun);
        if took > self.answer_time_max {
            let most = self.answer_time_max;
            history.violation(format!(
                "no answer to a produce within {most:?}: it took {took:?}, and is {:?}",
                response.as_ref().err().map(ToString::to_string)
            ));
        }
        let Ok(response) = response else {
            for batch in &batches {
                history.settle(batch.id, Fate::Indeterminate);
            }
            return targets.to_vec();
        };
        let mut refused = Vec::new();
        for (batch, target) in batches.iter().zip(targets) {
            let fate = match produce_answer(&response, batch) {
                Answer::Acknowledged(base) => Fate::Acknowledged(base),
                Answer::Refused(
                    ErrorCode::KafkaStorageError | ErrorCode::NotLeaderOrFollower,
                    _,
                ) => {
                    refused.push(target.clone());
                    Fate::Indeterminate
                }
                Answer::Refused(code, message) => {
                    history.violation(format!(
                        "{:?} was refused with {code:?}, which says nothing about space: {message}",
                        batch.id
                    ));
                    refused.push(target.clone());
                    Fate::Indeterminate
                }
                Answer::Nonsense(code) => {
                    history.violation(format!(
                        "{:?} was answered with code {code} or not at all",
                        batch.id
                    ));
                    refused.push(target.clone());
                    Fate::Indeterminate
                }
            };
            history.settle(batch.id, fate);
        }
        refused
    }

    fn batch(&mut self, to: &Target, stream: u64) -> Outgoing {
        self.number += 1;
        let id = BatchId {
            producer: PRODUCER,
            number: self.number,
        };
        make_batch(&self.client, id, to.clone(), stream, |builder| builder).0
    }

    /// Reads the first records of a partition, which must be there.
    pub(super) async fn read_start(&mut self, target: &Target) {
        let (topic, id) = target;
        let history = self.client.history.clone();
        if history.high_watermark_floor(*id) == Offset::ZERO {
            return;
        }
        let mut said = VecDeque::new();
        for _ in 0..READ_TRIES_MAX {
            let begun = self.client.io.now();
            let answer = fetch(&mut self.link, topic, *id, Offset::ZERO).await;
            let took = self.client.io.now().since(begun);
            if took > self.answer_time_max {
                history.violation(format!("{id} cannot be read: no answer within {took:?}"));
                return;
            }
            match answer {
                Ok(Ok(data)) => {
                    let next = absorb_partition(&history, *id, Offset::ZERO, Offset::ZERO, data);
                    if next > Offset::ZERO {
                        return;
                    }
                    said.push_back("nothing".to_owned());
                }
                Ok(Err(code)) => said.push_back(format!("{code:?}")),
                Err(error) => said.push_back(error.to_string()),
            }
            self.client.io.sleep(RETRY_PAUSE).await;
        }
        let last = said.pop_back();
        history.violation(format!(
            "{id} cannot be read from its start: {READ_TRIES_MAX} answers, the last one {last:?}"
        ));
    }
}
