//! What a load sends and reads, as plain data that every core gets a copy of.

use std::time::Duration;

use client::Acks;
use model::record::Compression;
use model::record::HEADER_LEN;

use crate::keys::KeyDistribution;
use crate::verify::STAMP_BYTES;

/// Bytes of a record beside its key and value at the sizes that loads use: length, attributes, deltas, lengths.
const RECORD_OVERHEAD_BYTES: usize = 12;
/// Bytes of a key that is not null.
const KEY_BYTES: usize = 16;
/// Largest record a load builds.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Largest batch a load builds, before compression.
pub const BATCH_BYTES_MAX: usize = 128 << 20;
/// Most connections of one load.
pub const CONNECTIONS_MAX: u64 = 10_000;
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
    /// Bytes of a value.
    pub record_bytes: usize,
    /// Records of a batch.
    pub batch: BatchSize,
    /// With a rate: how long records gather before a batch that is not full is sent.
    pub linger: Option<Duration>,
    /// Connections over all cores.
    pub connections: u64,
    /// Unanswered requests per connection.
    pub in_flight: usize,
    /// What the broker confirms.
    pub acks: Acks,
    /// Keys.
    pub keys: KeyDistribution,
    /// Codec.
    pub compression: Compression,
    /// Records per second over all connections, open loop; `None` is closed loop, as fast as possible.
    pub rate: Option<u64>,
    /// Its end.
    pub limit: Limit,
    /// Time before measuring begins.
    pub warmup: Duration,
    /// Idempotent producers: sequence numbers in every batch.
    pub idempotent: bool,
    /// Number of this run if records are to be stamped for verification.
    pub stamp_run: Option<u64>,
    /// How long a response may take.
    pub request_timeout: Duration,
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
}

impl ProduceWorkload {
    /// Records of each batch. A linger together with a rate cuts it to what arrives on one of `partitions` in that time.
    pub fn records_per_batch(&self, partitions: usize) -> u64 {
        let full = match self.batch {
            BatchSize::Records(records) => records.max(1),
            BatchSize::Bytes(bytes) => {
                let key = if self.keys == KeyDistribution::None {
                    0
                } else {
                    KEY_BYTES
                };
                let record = self.record_bytes + key + RECORD_OVERHEAD_BYTES;
                let records = bytes.saturating_sub(HEADER_LEN) / record;
                u64::try_from(records).unwrap_or(u64::MAX).max(1)
            }
        };
        match (self.rate, self.linger) {
            (Some(rate), Some(linger)) => {
                let partitions = u128::try_from(partitions.max(1)).unwrap_or(1);
                let arrived = u128::from(rate) * linger.as_nanos() / 1_000_000_000 / partitions;
                full.min(u64::try_from(arrived).unwrap_or(u64::MAX).max(1))
            }
            _ => full,
        }
    }

    /// How long no record may be acknowledged before a load that only a count of records ends is given up: two
    /// timeouts, or as long as the rate may leave between requests.
    pub fn stall(&self) -> Duration {
        let paced = self.rate.map_or(Duration::ZERO, |rate| {
            let records = self.records_per_batch(1).saturating_mul(self.connections);
            Duration::from_secs(records.saturating_mul(2) / rate.max(1))
        });
        paced.max(self.request_timeout.saturating_mul(2))
    }

    /// Checks ranges and combinations.
    pub fn validate(&self) -> Result<(), WorkloadError> {
        let record_min = if self.stamp_run.is_some() {
            STAMP_BYTES
        } else {
            0
        };
        range(
            "the record size",
            self.record_bytes,
            record_min,
            RECORD_BYTES_MAX,
        )?;
        range(
            "the number of connections",
            self.connections,
            1,
            CONNECTIONS_MAX,
        )?;
        range("in-flight", self.in_flight, 1, IN_FLIGHT_MAX)?;
        let records = self.records_per_batch(1);
        let bytes =
            u128::from(records) * (self.record_bytes as u128 + RECORD_OVERHEAD_BYTES as u128);
        let fits = usize::try_from(bytes).unwrap_or(usize::MAX);
        range("the batch size in bytes", fits, 0, BATCH_BYTES_MAX)?;
        if let Some(rate) = self.rate {
            range("the rate", rate, 1, 1_000_000_000)?;
        }
        if self.limit.duration.is_none() && self.limit.records.is_none() {
            return Err(WorkloadError::Endless);
        }
        if self.idempotent && self.acks != Acks::All {
            return Err(WorkloadError::IdempotentAcks);
        }
        Ok(())
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
    /// How long a response may take.
    pub request_timeout: Duration,
}

impl ConsumeWorkload {
    /// Checks ranges and combinations.
    pub fn validate(&self) -> Result<(), WorkloadError> {
        range(
            "the number of connections",
            self.connections,
            1,
            CONNECTIONS_MAX,
        )?;
        range("in-flight", self.in_flight, 1, IN_FLIGHT_MAX)?;
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
