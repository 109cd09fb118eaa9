//! `ringlog load produce | consume`: load for any broker that speaks Kafka's protocol, one executor per core.

mod cores;
pub mod run;
pub mod values;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use client::{Acks, Cluster, NewTopic, OffsetSpec};
use load::keys::KeyDistribution;
use load::{BatchSize, ConsumeWorkload, From, Limit, ProduceWorkload, Report};
use model::record::Compression;
use runtime::Io as _;
use uring::{UringIo, UringOptions};

use super::CommandError;
use super::table::{Format, print_json, print_table};
pub use cores::cores;
use run::Runner;
use values::{compression, count, duration, size};

/// Load without --duration and --records runs this long.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// What `--help` says about how a load ends.
const EXIT_CODES: &str = "Exit code: 0 if every request succeeded and verification, if asked for, found nothing; \
    1 if a request failed, the load was given up or produced nothing, or verification found a violation; \
    2 if the command line cannot be parsed. The report is printed in either case, unless the load could not begin.";

/// Arguments of `ringlog load`.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub struct LoadArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send records.
    #[command(after_help = EXIT_CODES)]
    Produce(Box<ProduceArgs>),
    /// Read records.
    #[command(after_help = EXIT_CODES)]
    Consume(Box<ConsumeArgs>),
    /// Answer every produce request without keeping anything, to measure the generator alone.
    #[command(hide = true)]
    NullServer(NullServerArgs),
}

#[derive(Debug, Args)]
struct SharedArgs {
    /// Broker to ask, HOST:PORT, several with commas.
    #[arg(
        long,
        visible_alias = "bootstrap-server",
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    bootstrap: String,
    /// Topic to load.
    #[arg(long, default_value = "ringlog-load")]
    topic: String,
    /// Connections over all cores.
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Unanswered requests per connection.
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    /// How long to measure: 500ms, 30s, 5m. [default: 10s if --records is not given]
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Stop after so many records over all connections.
    #[arg(long, value_parser = count)]
    records: Option<u64>,
    /// Load for so long before measuring.
    #[arg(long, value_parser = duration, default_value = "0s")]
    warmup: Duration,
    /// CPUs to run on, one executor each: 0 or 0,1 or 0-3. [default: one executor, not pinned]
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// How long a response may take.
    #[arg(long, value_parser = duration, default_value = "30s")]
    request_timeout: Duration,
    /// Also report CPU time and device bytes of this process, for example the broker's.
    #[arg(long, value_name = "PID")]
    watch_pid: Option<u32>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AcksArg {
    #[value(name = "0")]
    None,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

#[derive(Debug, Args)]
struct ProduceArgs {
    #[command(flatten)]
    shared: SharedArgs,
    /// Partitions, if the topic has to be created.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Replicas, if the topic has to be created.
    #[arg(long)]
    replication_factor: Option<i16>,
    /// Bytes of each value: 100, 1k, 1m.
    #[arg(long, value_parser = size, default_value = "1024")]
    record_bytes: usize,
    /// Fill batches up to so many bytes before compression: 16k, 1m.
    #[arg(long, value_parser = size, conflicts_with = "batch_records")]
    batch_bytes: Option<usize>,
    /// Records of each batch. [default: 64]
    #[arg(long, value_parser = count)]
    batch_records: Option<u64>,
    /// With --rate: how long records gather before a batch that is not full is sent.
    #[arg(long, value_parser = duration)]
    linger: Option<Duration>,
    /// What the broker confirms.
    #[arg(long, value_enum, default_value = "all", allow_negative_numbers = true)]
    acks: AcksArg,
    /// Keys: none, uniform[:COUNT] or zipf[:COUNT[:EXPONENT]].
    #[arg(long, default_value = "none")]
    keys: KeyDistribution,
    /// Codec: none, gzip, snappy, lz4 or zstd.
    #[arg(long, value_parser = compression, default_value = "none")]
    compression: Compression,
    /// Records per second over all connections, sent at fixed times (open loop). [default: as fast as answers come]
    #[arg(long, value_parser = count)]
    rate: Option<u64>,
    /// Idempotent producers.
    #[arg(long)]
    idempotent: bool,
    /// Stamp every record, read everything back afterwards, and prove that nothing is lost, duplicated or changed.
    #[arg(long)]
    verify: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FromArg {
    Start,
    End,
}

#[derive(Debug, Args)]
struct ConsumeArgs {
    #[command(flatten)]
    shared: SharedArgs,
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
}

#[derive(Debug, Args)]
struct NullServerArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:19999")]
    listen: SocketAddr,
    /// Partitions that every topic seems to have.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// CPU to run on.
    #[arg(long)]
    core: Option<usize>,
}

/// Runs the command.
pub fn run(args: LoadArgs) -> Result<(), CommandError> {
    match args.action {
        Action::Produce(args) => finish(&produce(&args)?, args.shared.format),
        Action::Consume(args) => finish(&consume(&args)?, args.shared.format),
        Action::NullServer(args) => null_server(&args),
    }
}

fn null_server(args: &NullServerArgs) -> Result<(), CommandError> {
    let (address, partitions) = (args.listen, args.partitions);
    let ready = |bound| println!("null server ready on {bound}");
    let served = uring::block_on(args.core, UringOptions::default(), move |io| {
        load::null_server::serve(io, address, partitions, ready)
    })?;
    served.map_err(|error| CommandError::io(format!("serving on {address}"), error))
}

/// What a producing load given as words of a command line came to; errors of the load are in the report.
pub fn produce_report(args: LoadArgs) -> Result<Report, CommandError> {
    match args.action {
        Action::Produce(args) => produce(&args),
        Action::Consume(_) | Action::NullServer(_) => Err(CommandError::Usage(
            "only `produce` makes this report".to_owned(),
        )),
    }
}

fn produce(args: &ProduceArgs) -> Result<Report, CommandError> {
    let workload = produce_workload(args)?;
    workload
        .validate()
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    let runner = runner(&args.shared)?;
    run::ensure_topic(
        &args.shared.bootstrap,
        NewTopic {
            name: args.shared.topic.clone(),
            partitions: args.partitions,
            replication_factor: args.replication_factor.unwrap_or(-1),
            configs: Vec::new(),
        },
    )?;
    run::run_produce(&workload, &runner)
}

fn runner(shared: &SharedArgs) -> Result<Runner, CommandError> {
    Ok(Runner {
        cpus: cores(shared.cores.as_deref(), shared.connections)?,
        watch_pid: shared.watch_pid,
        progress: shared.format == Format::Text,
    })
}

fn produce_workload(args: &ProduceArgs) -> Result<ProduceWorkload, CommandError> {
    let batch = match (args.batch_bytes, args.batch_records) {
        (Some(bytes), _) => BatchSize::Bytes(bytes),
        (None, records) => BatchSize::Records(records.unwrap_or(64)),
    };
    let run = uring::block_on(None, UringOptions::default(), async |io: UringIo| {
        io.random()
    })?;
    Ok(ProduceWorkload {
        bootstrap: args.shared.bootstrap.clone(),
        topic: args.shared.topic.clone(),
        record_bytes: args.record_bytes,
        batch,
        linger: args.linger,
        connections: args.shared.connections,
        in_flight: args.shared.in_flight,
        acks: match args.acks {
            AcksArg::None => Acks::None,
            AcksArg::Leader => Acks::Leader,
            AcksArg::All => Acks::All,
        },
        keys: args.keys,
        compression: args.compression,
        rate: args.rate,
        limit: limit(&args.shared, false),
        warmup: args.shared.warmup,
        idempotent: args.idempotent,
        stamp_run: args.verify.then_some(run),
        request_timeout: args.shared.request_timeout,
    })
}

fn limit(shared: &SharedArgs, ends_by_itself: bool) -> Limit {
    let bounded = shared.records.is_some() || ends_by_itself;
    Limit {
        duration: shared.duration.or((!bounded).then_some(DURATION_DEFAULT)),
        records: shared.records,
    }
}

fn consume(args: &ConsumeArgs) -> Result<Report, CommandError> {
    let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let ends_by_itself = args.until_end && !args.repeat;
    let workload = ConsumeWorkload {
        bootstrap: args.shared.bootstrap.clone(),
        topic: args.shared.topic.clone(),
        connections: args.shared.connections,
        in_flight: args.shared.in_flight,
        from: match args.from {
            FromArg::Start => From::Start,
            FromArg::End => From::End,
        },
        until_end: args.until_end,
        repeat: args.repeat,
        limit: limit(&args.shared, ends_by_itself),
        warmup: args.shared.warmup,
        partition_bytes_max: size(args.partition_bytes),
        response_bytes_max: size(args.response_bytes),
        bytes_min: size(args.bytes_min),
        wait: args.wait,
        verify: args.verify,
        verify_run: None,
        request_timeout: args.shared.request_timeout,
    };
    workload
        .validate()
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    let runner = runner(&args.shared)?;
    check_readable(&args.shared)?;
    run::run_consume(&workload, &runner)
}

/// Fails early, with a clear reason, when the topic cannot be read.
fn check_readable(shared: &SharedArgs) -> Result<(), CommandError> {
    let (bootstrap, topic) = (shared.bootstrap.clone(), shared.topic.clone());
    let checked = uring::block_on(None, UringOptions::default(), async move |io| {
        let options = load::cluster_options("ringlog-load");
        let mut cluster = Cluster::connect(&io, &bootstrap, options).await?;
        cluster.describe_topic(&topic).await?;
        cluster.offsets(&topic, OffsetSpec::Latest).await
    })?;
    checked?;
    Ok(())
}

/// Prints the report; an error if the load did not go well, so that scripts notice.
fn finish(report: &Report, format: Format) -> Result<(), CommandError> {
    match format {
        Format::Json => print_json(report)?,
        Format::Text => {
            let rows = report
                .rows()
                .into_iter()
                .map(|(name, value)| vec![name, value]);
            print_table(&[], rows.collect(), &[]);
        }
    }
    if let Some(fatal) = &report.fatal {
        return Err(CommandError::Failed(format!("given up: {fatal}")));
    }
    if let Some(findings) = report.verification.as_ref().filter(|f| !f.is_clean()) {
        return Err(CommandError::Failed(format!(
            "verification found {} violations",
            findings.violations()
        )));
    }
    if report.errors > 0 {
        return Err(CommandError::Failed(format!(
            "{} requests failed",
            report.errors
        )));
    }
    if report.mode == "produce" && report.requests == 0 {
        return Err(CommandError::Failed(
            "nothing was produced in the measured time".to_owned(),
        ));
    }
    Ok(())
}
