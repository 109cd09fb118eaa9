//! The clients of a run: producers, consumers, an administrator, consumer groups, all on the client node.
//!
//! Each is one task that works until it is told to stop, finishes what it has begun, and ends.

mod administrator;
mod consumer;
mod group;
mod idempotent_producer;
mod link;
mod plain_producer;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use model::record::Compression;
use runtime::sim::{Generator, SimIo};
use runtime::{Io, TaskClass};

pub use administrator::{create_first_topics, topic_ids};
pub(crate) use administrator::{create_topic, delete_records_to, delete_topic};
pub(crate) use consumer::absorb_partition;
pub(crate) use group::read_back;
pub use link::Link;
pub(crate) use plain_producer::{
    Answer, Outgoing, answer as produce_answer, make_batch, request as produce_request,
};

use crate::cluster::Broker;
use crate::history::History;

/// How often a client that is held looks whether it still is.
const HELD_PAUSE: Duration = Duration::from_millis(20);

/// How many clients of which kind, and what they send.
#[derive(Clone, Debug)]
pub struct WorkloadSettings {
    /// Producers without idempotence.
    pub plain_producers: u32,
    /// Idempotent producers.
    pub idempotent_producers: u32,
    /// Consumers.
    pub consumers: u32,
    /// Consumer groups that commit offsets.
    pub groups: u32,
    /// Topics at the start; they stay.
    pub topics: u32,
    /// The end of their names.
    pub suffix: &'static str,
    /// Most partitions of a topic.
    pub partitions_max: u64,
    /// Whether topics come and go.
    pub topic_churn: bool,
    /// Whether records are deleted from the front of logs.
    pub delete_records: bool,
    /// Codecs in use.
    pub codecs: Vec<Compression>,
    /// Most bytes of a value.
    pub value_bytes_max: u64,
    /// Most records of a batch.
    pub records_max: u64,
    /// Longest pause of a client between two rounds, in microseconds.
    pub pause_us_max: u64,
    /// Settings of topics, chosen for each topic anew from each list.
    pub segment_ms: Vec<u64>,
    /// Whether some topics acknowledge what is written but not flushed: not with power cuts.
    pub written_topics: bool,
}

impl WorkloadSettings {
    /// Draws a workload.
    pub fn draw(random: &Generator) -> WorkloadSettings {
        let codecs = if random.one_in(2) {
            vec![Compression::None]
        } else {
            Compression::ALL.to_vec()
        };
        WorkloadSettings {
            plain_producers: random.between(1, 2) as u32,
            idempotent_producers: random.between(0, 2) as u32,
            consumers: random.between(1, 2) as u32,
            groups: random.below(2) as u32,
            topics: random.between(1, 3) as u32,
            suffix: "",
            partitions_max: random.between(1, 4),
            topic_churn: random.one_in(3),
            delete_records: random.one_in(4),
            codecs,
            value_bytes_max: [64, 700, 4000][random.index(3)],
            records_max: random.between(1, 8),
            pause_us_max: [500, 3_000, 10_000][random.index(3)],
            segment_ms: [vec![3_600_000], vec![20, 100], vec![5, 50, 3_600_000]][random.index(3)]
                .clone(),
            written_topics: false,
        }
    }
}

/// What every client task has.
#[derive(Clone)]
pub struct Client {
    /// Its machine.
    pub io: SimIo,
    /// Brokers of its cluster that it knows from the start; at least one.
    pub bootstrap: Vec<SocketAddr>,
    /// What happened.
    pub history: Rc<History>,
    /// To ask whether a shard is fenced.
    pub broker: Rc<Broker>,
    /// What to do.
    pub settings: Rc<WorkloadSettings>,
    /// Its own chance.
    pub random: Rc<Generator>,
}

impl Client {
    /// Waits for as long as clients are held.
    pub(crate) async fn wait_while_held(&self) {
        while self.history.is_held() && !self.history.is_stopping() {
            self.io.sleep(HELD_PAUSE).await;
        }
    }

    /// Waits a random time, and for as long as clients are held.
    pub async fn pause(&self) {
        self.wait_while_held().await;
        let micros = self.random.below(self.settings.pause_us_max.max(1));
        self.io.sleep(Duration::from_micros(micros)).await;
    }

    /// Starts a task of the client node, which the run waits for at its end.
    pub(crate) fn start<F: Future<Output = ()> + 'static>(
        &self,
        number: u64,
        work: impl FnOnce(Client) -> F,
    ) {
        let client = Client {
            random: Rc::new(Generator::new(self.random.next(), number)),
            ..self.clone()
        };
        let history = self.history.clone();
        history.begin();
        let work = work(client);
        self.io.spawn(TaskClass::Foreground, async move {
            work.await;
            history.end();
        });
    }
}

/// Starts every client task.
pub fn start(client: &Client) {
    let settings = &client.settings;
    let mut number = 0;
    for _ in 0..settings.plain_producers {
        number += 1;
        client.start(number.into(), |client| plain_producer::run(client, number));
    }
    for _ in 0..settings.idempotent_producers {
        number += 1;
        client.start(number.into(), |client| {
            idempotent_producer::run(client, number)
        });
    }
    for _ in 0..settings.consumers {
        number += 1;
        client.start(number.into(), consumer::run);
    }
    for _ in 0..settings.groups {
        number += 1;
        client.start(number.into(), |client| {
            group::run(client, format!("group-{number}"))
        });
    }
    if settings.topic_churn || settings.delete_records {
        number += 1;
        client.start(number.into(), administrator::run);
    }
}
