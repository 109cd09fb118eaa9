//! The arguments of `ringlog load`, and the workloads they ask for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use client::NewTopic;
use load::keys::KeyDistribution;
use load::workload::COMPRESSIBILITY_DEFAULT;
use load::{
    Arrivals, BatchSize, ConsumeWorkload, From, GroupWorkload, Limit, ProduceWorkload, RecordSizes,
};
use model::record::Compression;

use super::named::WorkloadArgs;
use super::perf_test::PerfTestArgs;
use super::values::compression;
use crate::commands::CommandError;
use crate::commands::acks::AcksArg;
use crate::commands::connect::Bootstrap;
use crate::commands::topic::topic_setting;
use crate::quantity::{count, duration, size};

/// Load without --duration and --records runs this long.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// How often members of a group commit unless told otherwise, as Kafka's consumers do.
const COMMIT_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// How long a member may be silent unless told otherwise.
const SESSION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// What `--help` says about how a load ends.
const ENDS: &str = "It fails (exit code 1) if a request failed, the generator could not keep up with its schedule, the load \
    was given up or produced nothing, or verification found a violation. The report is printed in any case, unless the \
    load could not begin; Ctrl-C prints it so far, and a moment of reading back if records are verified. The table of exit \
    codes is in `ringlog --help`.";

/// Arguments of `ringlog load`.
#[derive(Debug, Args)]
#[command(after_help = ENDS)]
pub struct LoadArgs {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Send records.
    #[command(after_help = ENDS, args_override_self = true)]
    Produce(Box<ProduceArgs>),
    /// Read records, alone or as a consumer group.
    #[command(after_help = ENDS)]
    Consume(Box<ConsumeArgs>),
    /// Send records at a rate, read them, and measure from the intended send to the receipt.
    #[command(after_help = ENDS, args_override_self = true)]
    EndToEnd(Box<EndToEndArgs>),
    /// Run one of the named workloads, or list them.
    Workload(WorkloadArgs),
    /// Take the arguments of kafka-producer-perf-test and print what it prints.
    ProducerPerfTest(Box<PerfTestArgs>),
    /// Answer every produce request without keeping anything, to measure the generator alone.
    #[command(hide = true)]
    NullServer(NullServerArgs),
}

/// How a load prints its report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// Aligned columns for people.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// A line of names and a line of values.
    Csv,
}

#[derive(Debug, Args)]
pub(super) struct SharedArgs {
    #[command(flatten)]
    pub(super) server: Bootstrap,
    /// Topic to load.
    #[arg(long, default_value = "ringlog-load")]
    pub(super) topic: String,
    /// Load so many topics: TOPIC-0, TOPIC-1 and so on.
    #[arg(long, default_value_t = 1)]
    pub(super) topics: u16,
    /// Connections over all cores.
    #[arg(long, default_value_t = 4)]
    pub(super) connections: u64,
    /// Unanswered requests per connection.
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// How long to measure: 500ms, 30s, 5m. [default: 10s if --records is not given]
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Stop after so many records over all connections.
    #[arg(long, visible_alias = "num-records", value_parser = count)]
    records: Option<u64>,
    /// Load for so long before measuring.
    #[arg(long, value_parser = duration, default_value = "0s")]
    warmup: Duration,
    /// CPUs to run on, one executor each: 0 or 0,1 or 0-3. [default: one executor, not pinned]
    #[arg(long, value_name = "LIST")]
    pub(super) cores: Option<String>,
    /// How long a response may take.
    #[arg(long, value_parser = duration, default_value = "30s")]
    request_timeout: Duration,
    /// Also report CPU time and device bytes of this process, for example the broker's.
    #[arg(long, value_name = "PID")]
    pub(super) watch_pid: Option<u32>,
    /// Also report in which stages of a Ringlog broker the requests spent their time; the address is `http=` in its
    /// ready line.
    #[arg(long, value_name = "URL")]
    pub(super) broker_metrics: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: ReportFormat,
    /// Write the latencies of each second to this file, as an HdrHistogram interval log.
    #[arg(long, value_name = "FILE")]
    pub(super) histogram_log: Option<PathBuf>,
}

impl SharedArgs {
    fn limit(&self, ends_by_itself: bool) -> Limit {
        let bounded = self.records.is_some() || ends_by_itself;
        Limit {
            duration: self.duration.or((!bounded).then_some(DURATION_DEFAULT)),
            records: self.records,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ArrivalsArg {
    /// Evenly spaced.
    Uniform,
    /// With exponential gaps, as many independent clients would send.
    Poisson,
}

/// What is sent, and when.
#[derive(Debug, Args)]
struct ShapeArgs {
    /// Partitions, if a topic has to be created.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Replicas, if a topic has to be created.
    #[arg(long)]
    replication_factor: Option<i16>,
    /// A configuration of topics that have to be created; may be repeated.
    #[arg(long = "config", visible_alias = "topic-config", value_name = "KEY=VALUE", value_parser = topic_setting)]
    configs: Vec<(String, String)>,
    /// Bytes of values: 100 or 1k for all, 100..2000 for a range, 100:70,1k:30 for weighted sizes.
    #[arg(long, visible_alias = "record-size", default_value = "1024")]
    record_bytes: RecordSizes,
    /// Share of each value that is constant, 0 to 1; the rest is random.
    #[arg(long, default_value_t = COMPRESSIBILITY_DEFAULT)]
    compressibility: f64,
    /// Fill batches up to so many bytes before compression: 16k, 1m.
    #[arg(long, value_parser = size, conflicts_with = "batch_records")]
    batch_bytes: Option<usize>,
    /// Records of each batch. [default: 64]
    #[arg(long, value_parser = count)]
    batch_records: Option<u64>,
    /// With --rate: how long records gather before a batch that is not full is sent; 0 is at once, as in Kafka. Without
    /// it whole batches gather, and their latency counts from when their last record was due.
    #[arg(long, value_parser = duration)]
    linger: Option<Duration>,
    /// What the broker confirms.
    #[arg(long, value_enum, default_value = "all", allow_negative_numbers = true)]
    acks: AcksArg,
    /// Keys, which choose partitions as Kafka's clients do: none, uniform[:COUNT] or zipf[:COUNT[:EXPONENT]].
    #[arg(long, default_value = "none")]
    keys: KeyDistribution,
    /// Codec: none, gzip, snappy, lz4 or zstd.
    #[arg(long, value_parser = compression, default_value = "none")]
    compression: Compression,
    /// Open loop: so many records per second over all connections, due at fixed times. Latency counts from those
    /// times, so a broker that pauses cannot hide it.
    #[arg(long, value_parser = count)]
    rate: Option<u64>,
    /// Closed loop, which is also what runs without --rate: send as fast as answers come.
    #[arg(long, conflicts_with = "rate")]
    closed_loop: bool,
    /// How the requests of an open loop are spread.
    #[arg(long, value_enum, default_value = "uniform")]
    arrivals: ArrivalsArg,
    /// Where chance begins: the same seed draws the same sizes, keys and times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Idempotent producers.
    #[arg(long)]
    idempotent: bool,
}

impl ShapeArgs {
    fn workload(&self, shared: &SharedArgs) -> ProduceWorkload {
        ProduceWorkload {
            bootstrap: shared.server.bootstrap.clone(),
            topic: shared.topic.clone(),
            topics: shared.topics,
            record_sizes: self.record_bytes.clone(),
            compressibility: self.compressibility,
            batch: match (self.batch_bytes, self.batch_records) {
                (Some(bytes), _) => BatchSize::Bytes(bytes),
                (None, records) => BatchSize::Records(records.unwrap_or(64)),
            },
            linger: self.linger,
            connections: shared.connections,
            in_flight: shared.in_flight,
            acks: self.acks.into(),
            keys: self.keys,
            compression: self.compression,
            rate: self.rate,
            arrivals: match self.arrivals {
                ArrivalsArg::Uniform => Arrivals::Uniform,
                ArrivalsArg::Poisson => Arrivals::Poisson,
            },
            seed: self.seed,
            limit: shared.limit(false),
            warmup: shared.warmup,
            idempotent: self.idempotent,
            request_timeout: shared.request_timeout,
            ..ProduceWorkload::default()
        }
    }

    fn new_topics(&self, workload: &ProduceWorkload) -> Vec<NewTopic> {
        let names = workload.topic_names().into_iter();
        names
            .map(|name| NewTopic {
                name,
                partitions: self.partitions,
                replication_factor: self.replication_factor.unwrap_or(-1),
                configs: self.configs.clone(),
            })
            .collect()
    }
}

#[derive(Debug, Args)]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    /// One open loop after the other with these records per second, a report each: 10k,20k,50k.
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = count,
        conflicts_with_all = ["rate", "closed_loop", "duration", "records", "verify", "histogram_log"],
        value_name = "RATES"
    )]
    pub(super) ramp: Vec<u64>,
    /// How long each step of --ramp is measured.
    #[arg(long, value_parser = duration, default_value = "10s", requires = "ramp")]
    step: Duration,
    /// Stamp every record, read everything back afterwards, and prove that nothing is lost, duplicated or changed.
    #[arg(long)]
    verify: bool,
}

impl ProduceArgs {
    /// One step of a ramp.
    pub(super) fn step(&self, rate: u64) -> ProduceWorkload {
        ProduceWorkload {
            rate: Some(rate),
            limit: Limit {
                duration: Some(self.step),
                records: None,
            },
            ..self.shape.workload(&self.shared)
        }
    }

    /// The load; `run` is a number that no other run has.
    pub(super) fn workload(&self, run: u64) -> ProduceWorkload {
        ProduceWorkload {
            stamp_run: self.verify.then_some(run),
            ..self.shape.workload(&self.shared)
        }
    }

    pub(super) fn new_topics(&self, workload: &ProduceWorkload) -> Vec<NewTopic> {
        self.shape.new_topics(workload)
    }
}

#[derive(Debug, Args)]
pub(super) struct EndToEndArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    #[command(flatten)]
    shape: ShapeArgs,
    /// Consumers that each read everything.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(super) readers: u64,
    /// Where readers start: `start` lets them work off what is there already.
    #[arg(long, value_enum, default_value = "end")]
    from: FromArg,
    /// Read as members of this consumer group.
    #[arg(long, value_name = "NAME", conflicts_with = "readers")]
    group: Option<String>,
    /// Members of the group over all cores.
    #[arg(long, default_value_t = 1, requires = "group")]
    members: u64,
}

impl EndToEndArgs {
    /// Records per second that were asked for.
    #[cfg(test)]
    pub(super) fn rate(&self) -> Option<u64> {
        self.shape.rate
    }

    /// Both sides; `run` is a number that no other run has.
    pub(super) fn workloads(
        &self,
        run: u64,
    ) -> Result<(ProduceWorkload, ConsumeWorkload), CommandError> {
        if self.shape.rate.is_none() && !self.shape.closed_loop {
            return Err(CommandError::Usage(
                "end-to-end latency needs a fixed load: give --rate RECORDS_PER_SECOND (or insist on --closed-loop)"
                    .to_owned(),
            ));
        }
        let produced = ProduceWorkload {
            traced_run: Some(run),
            ..self.shape.workload(&self.shared)
        };
        let consumed = ConsumeWorkload {
            bootstrap: produced.bootstrap.clone(),
            topic: produced.topic.clone(),
            topics: produced.topics,
            connections: produced.connections,
            from: self.from.from(),
            group: self.group.clone().map(|group| GroupWorkload {
                group,
                members: self.members,
                commit_interval: COMMIT_INTERVAL_DEFAULT,
                session_timeout: SESSION_TIMEOUT_DEFAULT,
            }),
            until_end: false,
            request_timeout: produced.request_timeout,
            ..ConsumeWorkload::default()
        };
        Ok((produced, consumed))
    }

    pub(super) fn new_topics(&self, workload: &ProduceWorkload) -> Vec<NewTopic> {
        self.shape.new_topics(workload)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FromArg {
    Start,
    End,
}

impl FromArg {
    fn from(self) -> From {
        match self {
            FromArg::Start => From::Start,
            FromArg::End => From::End,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    pub(super) shared: SharedArgs,
    /// Where reading starts.
    #[arg(long, value_enum, default_value = "start")]
    from: FromArg,
    /// Stop at the end that the partitions had when the load began.
    #[arg(long)]
    until_end: bool,
    /// Begin anew at the end of each partition.
    #[arg(long)]
    repeat: bool,
    /// Bytes per partition in one response.
    #[arg(long, value_parser = size, default_value = "1m")]
    partition_bytes: usize,
    /// Bytes of one response.
    #[arg(long, value_parser = size, default_value = "50m")]
    response_bytes: usize,
    /// Bytes worth answering for.
    #[arg(long, value_parser = size, default_value = "1")]
    bytes_min: usize,
    /// How long the broker may wait for them.
    #[arg(long, value_parser = duration, default_value = "500ms")]
    wait: Duration,
    /// Check checksums and offsets, and the stamps that `load produce --verify` wrote.
    #[arg(long)]
    verify: bool,
    /// Read as members of this consumer group, which share the partitions and commit their positions.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Members of the group over all cores.
    #[arg(long, default_value_t = 1, requires = "group")]
    members: u64,
    /// How often a member commits. [default: 5s]
    #[arg(long, value_parser = duration, requires = "group")]
    commit_interval: Option<Duration>,
    /// How long a member may be silent before its partitions go to others. [default: 10s]
    #[arg(long, value_parser = duration, requires = "group")]
    session_timeout: Option<Duration>,
}

impl ConsumeArgs {
    /// What the cores share: members of a group, or connections.
    pub(super) fn lanes(&self) -> u64 {
        match self.group {
            Some(_) => self.members,
            None => self.shared.connections,
        }
    }

    pub(super) fn workload(&self) -> ConsumeWorkload {
        let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        ConsumeWorkload {
            bootstrap: self.shared.server.bootstrap.clone(),
            topic: self.shared.topic.clone(),
            topics: self.shared.topics,
            group: self.group.clone().map(|group| GroupWorkload {
                group,
                members: self.members,
                commit_interval: self.commit_interval.unwrap_or(COMMIT_INTERVAL_DEFAULT),
                session_timeout: self.session_timeout.unwrap_or(SESSION_TIMEOUT_DEFAULT),
            }),
            connections: self.shared.connections,
            in_flight: self.shared.in_flight,
            from: self.from.from(),
            until_end: self.until_end,
            repeat: self.repeat,
            limit: self.shared.limit(self.until_end && !self.repeat),
            warmup: self.shared.warmup,
            partition_bytes_max: size(self.partition_bytes),
            response_bytes_max: size(self.response_bytes),
            bytes_min: size(self.bytes_min),
            wait: self.wait,
            verify: self.verify,
            request_timeout: self.shared.request_timeout,
            ..ConsumeWorkload::default()
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct NullServerArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:19999")]
    pub(super) listen: SocketAddr,
    /// Partitions that every topic seems to have.
    #[arg(long, default_value_t = 8)]
    pub(super) partitions: i32,
    /// CPU to run on.
    #[arg(long)]
    pub(super) core: Option<usize>,
}
