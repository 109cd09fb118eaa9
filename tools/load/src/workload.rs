//! What a load sends and reads, as plain data that every core gets a copy of.

use std::time::Duration;

use client::Acks;
use model::record::Compression;
use model::record::HEADER_LEN;

use crate::keys::KeyDistribution;
use crate::payload::{NUMBERS_MAX, Payload};
use crate::schedule::Arrivals;
use crate::script::STEPS_MAX;
use crate::sizes::RecordSizes;
use crate::trace::TRACE_BYTES;
use crate::verify::STAMP_BYTES;

/// Bytes of a record beside its key and value at the sizes that loads use: length, attributes, deltas, lengths.
pub const RECORD_OVERHEAD_BYTES: usize = 12;
/// Bytes of a key that is not null.
pub(crate) const KEY_BYTES: usize = 16;
/// Largest record a load builds.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Largest batch a load builds, before compression.
pub const BATCH_BYTES_MAX: usize = 128 << 20;
/// Share of constant bytes in values unless told otherwise: codecs reach a ratio near two.
pub const COMPRESSIBILITY_DEFAULT: f64 = 0.5;
/// Name the broker logs unless told otherwise.
pub const CLIENT_ID_DEFAULT: &str = "ringlog-load";
/// Most topics of one load.
pub const TOPICS_MAX: u16 = 10_000;
/// Most connections of one load.
pub const CONNECTIONS_MAX: u64 = 10_000;
/// Most members of a consumer group.
pub const MEMBERS_MAX: u64 = 1000;
/// Most requests in flight on one connection.
pub const IN_FLIGHT_MAX: usize = 10_000;

/// How large a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// As many records as fit into so many bytes before compression, at least one.
    Bytes(usize),
    /// So many records.
    Records(u64),
}

/// When a load ends: whichever comes first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// After so long, not counting the warm-up.
    pub duration: Option<Duration>,
    /// After so many records over all connections.
    pub records: Option<u64>,
}

/// A producing load.
#[derive(Clone, Debug)]
pub struct ProduceWorkload {
    /// `HOST:PORT`, several with commas.
    pub bootstrap: String,
    /// The topic, which exists.
    pub topic: String,
    /// How many topics: one is called `topic`, several `topic`-0, `topic`-1 and so on.
    pub topics: u16,
    /// Bytes of values.
    pub record_sizes: RecordSizes,
    /// Share of values that is constant, 0 to 1; the rest is random.
    pub compressibility: f64,
    /// What values are made of. Sizes are those of `record_sizes` in any case: bounds of what is listed.
    pub payload: Payload,
    /// When a batch is full.
    pub batch: BatchSize,
    /// With a rate: how long records gather before a batch that is not full is sent. Latency then counts from the
    /// arrival of a batch's first record.
    pub linger: Option<Duration>,
    /// Connections over all cores. Each is a producer of its own.
    pub connections: u64,
    /// Unanswered requests per connection.
    pub in_flight: usize,
    /// What the broker confirms.
    pub acks: Acks,
    /// Keys, which choose partitions as Kafka's default partitioner does.
    pub keys: KeyDistribution,
    /// Codec.
    pub compression: Compression,
    /// Records per second over all connections, open loop; `None` is closed loop, as fast as possible.
    pub rate: Option<u64>,
    /// How an open loop's requests are spread.
    pub arrivals: Arrivals,
    /// Where chance begins.
    pub seed: u64,
    /// Its end.
    pub limit: Limit,
    /// Time before measuring begins.
    pub warmup: Duration,
    /// Idempotent producers: sequence numbers in every batch.
    pub idempotent: bool,
    /// Number of this run if records are to be stamped for verification.
    pub stamp_run: Option<u64>,
    /// Number of this run if batches are to carry their intended time, for end-to-end latency.
    pub traced_run: Option<u64>,
    /// Name the broker logs.
    pub client_id: String,
    /// How long a response may take.
    pub request_timeout: Duration,
}

impl Default for ProduceWorkload {
    /// A closed loop of 64 x 1 KiB per request over 4 connections for 10 seconds.
    fn default() -> ProduceWorkload {
        ProduceWorkload {
            bootstrap: "127.0.0.1:9092".to_owned(),
            topic: "ringlog-load".to_owned(),
            topics: 1,
            record_sizes: RecordSizes::Fixed(1024),
            compressibility: COMPRESSIBILITY_DEFAULT,
            payload: Payload::Random,
            batch: BatchSize::Records(64),
            linger: None,
            connections: 4,
            in_flight: 5,
            acks: Acks::All,
            keys: KeyDistribution::None,
            compression: Compression::None,
            rate: None,
            arrivals: Arrivals::Uniform,
            seed: 1,
            limit: Limit {
                duration: Some(Duration::from_secs(10)),
                records: None,
            },
            warmup: Duration::ZERO,
            idempotent: false,
            stamp_run: None,
            traced_run: None,
            client_id: CLIENT_ID_DEFAULT.to_owned(),
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// A workload that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// Something is out of range.
    #[error("{name} must be between {min} and {max}")]
    Range {
        /// What.
        name: &'static str,
        /// Lowest.
        min: u64,
        /// Highest.
        max: u64,
    },
    /// No end.
    #[error("give --duration or --records, or the load never ends")]
    Endless,
    /// Sequence numbers need answers.
    #[error("idempotent producers need acks=all")]
    IdempotentAcks,
    /// Nothing gathers in a closed loop.
    #[error(
        "a linger needs --rate: in a closed loop records never have to be waited for, so every batch is full at once"
    )]
    LingerClosed,
    /// Chance needs a schedule.
    #[error("Poisson arrivals need --rate: a closed loop has no schedule")]
    PoissonClosed,
    /// A group's positions only rise.
    #[error("a consumer group cannot read its partitions again and again")]
    GroupRepeat,
    /// Whoever takes over a partition reads what was not committed once more.
    #[error("a consumer group may read records twice when it rebalances, so it cannot be verified")]
    GroupVerify,
    /// Stamps and traces would overwrite them.
    #[error("records with given payloads cannot be verified or timed end to end")]
    PayloadStamped,
    /// One connection keeps an order.
    #[error("numbers as payloads need one connection and no keys, to be in order")]
    NumbersInOrder,
    /// All of them are made beforehand.
    #[error("numbers as payloads need a count of records")]
    NumbersEndless,
    /// Stamps and traces lie in the same bytes.
    #[error("records cannot be verified and timed end to end at once")]
    StampedAndTraced,
}

impl ProduceWorkload {
    /// Names of the topics.
    pub fn topic_names(&self) -> Vec<String> {
        topic_names(&self.topic, self.topics)
    }

    /// Records that arrive on one connection while a batch lingers, at least one; `None` without a linger.
    pub fn lingering_records(&self) -> Option<u64> {
        let (rate, linger) = (self.rate?, self.linger?);
        let connections = u128::from(self.connections.max(1));
        let arrived = u128::from(rate) * linger.as_nanos() / 1_000_000_000 / connections;
        Some(u64::try_from(arrived).unwrap_or(u64::MAX).max(1))
    }

    /// Records of each batch; an estimate where records differ in size.
    pub fn records_per_batch(&self) -> u64 {
        let full = match self.batch {
            BatchSize::Records(records) => records.max(1),
            BatchSize::Bytes(bytes) => {
                let key = if self.keys == KeyDistribution::None {
                    0
                } else {
                    KEY_BYTES
                };
                let record = self.record_sizes.mean() as usize + key + RECORD_OVERHEAD_BYTES;
                let records = bytes.saturating_sub(HEADER_LEN) / record;
                u64::try_from(records).unwrap_or(u64::MAX).max(1)
            }
        };
        full.min(self.lingering_records().unwrap_or(u64::MAX))
    }

    /// Records of each batch, if all are alike.
    pub fn records_per_batch_exact(&self) -> Option<u64> {
        let has_keys = self.keys != KeyDistribution::None;
        let gathers_by_time = self.linger.is_some() && has_keys;
        let is_counted = matches!(self.batch, BatchSize::Records(_)) && !has_keys;
        if !is_counted {
            self.record_sizes.fixed()?;
        }
        (!gathers_by_time).then(|| self.records_per_batch())
    }

    /// Records of the last batch of a load that ends after a count of records, if it is not full.
    pub fn remainder(&self) -> Option<u64> {
        // The last batch of numbers is one of theirs.
        if matches!(self.payload, Payload::Numbers { .. }) {
            return None;
        }
        let rest = self.limit.records? % self.records_per_batch_exact()?;
        (rest > 0).then_some(rest)
    }

    /// Records that lane number `lane` sends; `None` without a limit. With batches that are all alike, the lanes
    /// together send exactly the limit.
    pub fn lane_records(&self, lane: u64) -> Option<u64> {
        let records = self.limit.records?;
        let lanes = self.connections.max(1);
        let Some(batch) = self.records_per_batch_exact() else {
            return Some(records / lanes + u64::from(lane < records % lanes));
        };
        let batches = records / batch;
        let own = batches / lanes + u64::from(lane < batches % lanes);
        let rest = if lane == 0 { records % batch } else { 0 };
        Some(own * batch + rest)
    }

    /// How long no record may be acknowledged before a load that only a count of records ends is given up: two
    /// timeouts, or as long as the rate may leave between requests.
    pub fn stall(&self) -> Duration {
        let paced = self.rate.map_or(Duration::ZERO, |rate| {
            let records = self.records_per_batch().saturating_mul(self.connections);
            Duration::from_secs(records.saturating_mul(2) / rate.max(1))
        });
        paced.max(self.request_timeout.saturating_mul(2))
    }

    /// Checks ranges and combinations.
    pub fn validate(&self) -> Result<(), WorkloadError> {
        let record_min = match (self.stamp_run, self.traced_run) {
            (Some(_), Some(_)) => return Err(WorkloadError::StampedAndTraced),
            (Some(_), None) => STAMP_BYTES,
            (None, Some(_)) => TRACE_BYTES,
            (None, None) => 0,
        };
        for size in [self.record_sizes.min(), self.record_sizes.max()] {
            range("the record size", size, record_min, RECORD_BYTES_MAX)?;
        }
        range(
            "the number of connections",
            self.connections,
            1,
            CONNECTIONS_MAX,
        )?;
        range("the number of topics", self.topics, 1, TOPICS_MAX)?;
        range("in-flight", self.in_flight, 1, IN_FLIGHT_MAX)?;
        if !(0.0..=1.0).contains(&self.compressibility) {
            return Err(WorkloadError::Range {
                name: "the compressibility",
                min: 0,
                max: 1,
            });
        }
        let record = self.record_sizes.max() as u128 + RECORD_OVERHEAD_BYTES as u128;
        let bytes = match self.batch {
            BatchSize::Records(_) => u128::from(self.records_per_batch()) * record,
            BatchSize::Bytes(bytes) => record.max(bytes as u128),
        };
        let fits = usize::try_from(bytes).unwrap_or(usize::MAX);
        range("the batch size in bytes", fits, 0, BATCH_BYTES_MAX)?;
        if let Some(rate) = self.rate {
            range("the rate", rate, 1, 1_000_000_000)?;
        }
        if self.limit.duration.is_none() && self.limit.records.is_none() {
            return Err(WorkloadError::Endless);
        }
        self.validate_payload()?;
        if self.idempotent && self.acks != Acks::All {
            return Err(WorkloadError::IdempotentAcks);
        }
        if self.rate.is_none() && self.linger.is_some() {
            return Err(WorkloadError::LingerClosed);
        }
        if self.rate.is_none() && self.arrivals == Arrivals::Poisson {
            return Err(WorkloadError::PoissonClosed);
        }
        Ok(())
    }
}

impl ProduceWorkload {
    fn validate_payload(&self) -> Result<(), WorkloadError> {
        if self.payload != Payload::Random
            && (self.stamp_run.is_some() || self.traced_run.is_some())
        {
            return Err(WorkloadError::PayloadStamped);
        }
        if let Payload::Listed(texts) = &self.payload {
            range("the number of payloads", texts.len(), 1, usize::MAX)?;
        }
        if !matches!(self.payload, Payload::Numbers { .. }) {
            return Ok(());
        }
        if self.connections != 1 || self.keys != KeyDistribution::None {
            return Err(WorkloadError::NumbersInOrder);
        }
        let records = self.limit.records.ok_or(WorkloadError::NumbersEndless)?;
        let most = self.records_per_batch().saturating_mul(STEPS_MAX as u64);
        range(
            "the number of numbered records",
            records,
            1,
            most.min(NUMBERS_MAX),
        )
    }
}

/// Names of a load's topics: `topic` itself, or with -0, -1 and so on if there are several.
pub fn topic_names(topic: &str, topics: u16) -> Vec<String> {
    match topics {
        0 | 1 => vec![topic.to_owned()],
        topics => (0..topics).map(|n| format!("{topic}-{n}")).collect(),
    }
}

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the log start offset.
    Start,
    /// At the high watermark.
    End,
}

/// A consuming load.
#[derive(Clone, Debug)]
pub struct ConsumeWorkload {
    /// `HOST:PORT`, several with commas.
    pub bootstrap: String,
    /// The topic.
    pub topic: String,
    /// How many topics, as in [`ProduceWorkload::topics`].
    pub topics: u16,
    /// A consumer group to read as, instead of dividing partitions beforehand.
    pub group: Option<GroupWorkload>,
    /// Connections over all cores.
    pub connections: u64,
    /// Unanswered requests per connection, each for its own share of the partitions.
    pub in_flight: usize,
    /// Where reading starts.
    pub from: From,
    /// Stop each partition at the end it had when the load began.
    pub until_end: bool,
    /// Start anew whenever a partition's end is reached.
    pub repeat: bool,
    /// Its end.
    pub limit: Limit,
    /// Time before measuring begins.
    pub warmup: Duration,
    /// Bytes per partition in one response.
    pub partition_bytes_max: i32,
    /// Bytes of one response.
    pub response_bytes_max: i32,
    /// Bytes worth answering for.
    pub bytes_min: i32,
    /// Longest wait of the broker for them.
    pub wait: Duration,
    /// Check CRCs, offsets and stamps of every record.
    pub verify: bool,
    /// The only run whose stamps count.
    pub verify_run: Option<u64>,
    /// Whether keys chose the partitions: then `verify` checks that too.
    pub verify_keys: bool,
    /// Measure the time from the traces of this run to the receipt.
    pub traced_run: Option<u64>,
    /// How long a response may take.
    pub request_timeout: Duration,
}

/// A consumer group that a load reads as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupWorkload {
    /// Its name.
    pub group: String,
    /// Members over all cores; each has its own connections.
    pub members: u64,
    /// How often positions are committed.
    pub commit_interval: Duration,
    /// How long a member may be silent before its partitions go to others.
    pub session_timeout: Duration,
}

impl Default for ConsumeWorkload {
    /// Reads a topic to its end over 4 connections.
    fn default() -> ConsumeWorkload {
        ConsumeWorkload {
            bootstrap: "127.0.0.1:9092".to_owned(),
            topic: "ringlog-load".to_owned(),
            topics: 1,
            group: None,
            connections: 4,
            in_flight: 1,
            from: From::Start,
            until_end: true,
            repeat: false,
            limit: Limit::default(),
            warmup: Duration::ZERO,
            partition_bytes_max: 1 << 20,
            response_bytes_max: 50 << 20,
            bytes_min: 1,
            wait: Duration::from_millis(500),
            verify: false,
            verify_run: None,
            verify_keys: false,
            traced_run: None,
            request_timeout: Duration::from_secs(30),
        }
    }
}

impl ConsumeWorkload {
    /// Names of the topics.
    pub fn topic_names(&self) -> Vec<String> {
        topic_names(&self.topic, self.topics)
    }

    /// Checks ranges and combinations.
    pub fn validate(&self) -> Result<(), WorkloadError> {
        range(
            "the number of connections",
            self.connections,
            1,
            CONNECTIONS_MAX,
        )?;
        range("in-flight", self.in_flight, 1, IN_FLIGHT_MAX)?;
        range("the number of topics", self.topics, 1, TOPICS_MAX)?;
        if let Some(group) = &self.group {
            range("the number of members", group.members, 1, MEMBERS_MAX)?;
            if self.repeat {
                return Err(WorkloadError::GroupRepeat);
            }
            if self.verify {
                return Err(WorkloadError::GroupVerify);
            }
        }
        let endless = self.limit.duration.is_none() && self.limit.records.is_none();
        if endless && (self.repeat || !self.until_end) {
            return Err(WorkloadError::Endless);
        }
        Ok(())
    }
}

fn range<T: TryInto<u64>>(
    name: &'static str,
    value: T,
    min: impl TryInto<u64>,
    max: impl TryInto<u64>,
) -> Result<(), WorkloadError> {
    let number = |n: Result<u64, _>| n.unwrap_or(u64::MAX);
    let (value, min, max) = (
        value.try_into().unwrap_or(u64::MAX),
        number(min.try_into().map_err(|_| ())),
        number(max.try_into().map_err(|_| ())),
    );
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(WorkloadError::Range { name, min, max })
    }
}
