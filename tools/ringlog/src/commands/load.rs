//! `ringlog load produce | consume`: load for any broker that speaks Kafka's protocol, one executor per core.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use client::{Acks, ClientError, Cluster, NewTopic, OffsetSpec};
use load::keys::KeyDistribution;
use load::report::{ProcessUse, grouped};
use load::verify::{Findings, Ledger, Verifier};
use load::{
    BatchSize, ConsumeWorkload, Consumed, From, Limit, ProduceWorkload, Produced, Report, Share,
    Tally,
};
use model::ErrorCode;
use model::record::Compression;
use runtime::Io as _;
use uring::{UringIo, UringOptions};

use super::CommandError;
use super::table::{Format, print_json, print_table};

/// Ticks that may wait for the progress line.
const TICKS_MAX: usize = 1024;
/// How long the cores may take to end after their last result.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Load without --duration and --records runs this long.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// Arguments of `ringlog load`.
#[derive(Debug, Args)]
pub struct LoadArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send records.
    Produce(Box<ProduceArgs>),
    /// Read records.
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
        Action::Produce(args) => produce(&args),
        Action::Consume(args) => consume(&args),
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

fn produce(args: &ProduceArgs) -> Result<(), CommandError> {
    let workload = produce_workload(args)?;
    workload
        .validate()
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    ensure_topic(args)?;
    let cpus = cores(&args.shared)?;
    let use_before = Use::now(&args.shared);
    let results: Vec<Produced> = on_cores(&cpus, args.shared.format, {
        let workload = workload.clone();
        move |io, share, progress| load::produce(io, workload.clone(), share, Some(progress))
    })?;
    let (mut tally, mut elapsed, mut ledger) =
        (Tally::default(), Duration::ZERO, Ledger::default());
    let mut fatal = None;
    for result in results {
        tally.merge(&result.tally);
        elapsed = elapsed.max(result.elapsed);
        ledger.merge(result.ledger);
        fatal = fatal.or(result.fatal);
    }
    let mut report = Report::new("produce", &tally, elapsed);
    use_before.report(&args.shared, &mut report);
    report.fatal = fatal;
    if let Some(run) = workload.stamp_run.filter(|_| report.fatal.is_none()) {
        report.verification = Some(read_back(args, &cpus, run, &ledger)?);
    }
    finish(&report, args.shared.format)
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

/// Creates the topic if it is not there.
fn ensure_topic(args: &ProduceArgs) -> Result<(), CommandError> {
    let bootstrap = args.shared.bootstrap.clone();
    let new = NewTopic {
        name: args.shared.topic.clone(),
        partitions: args.partitions,
        replication_factor: args.replication_factor.unwrap_or(-1),
        configs: Vec::new(),
    };
    let ensured = uring::block_on(None, UringOptions::default(), async move |io| {
        let options = load::cluster_options("ringlog-load");
        let mut cluster = Cluster::connect(&io, &bootstrap, options).await?;
        match cluster.describe_topic(&new.name).await {
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
        match cluster.create_topic(&new).await {
            Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => Ok(()),
            // A broker that does not create topics may still know this one by the time it is asked.
            Err(ClientError::Unsupported { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    })?;
    Ok(ensured?)
}

/// Reads the whole topic and compares it with what the producers know.
fn read_back(
    args: &ProduceArgs,
    cpus: &[Option<usize>],
    run: u64,
    ledger: &Ledger,
) -> Result<Findings, CommandError> {
    if args.shared.format == Format::Text {
        println!("reading back and verifying");
    }
    let workload = ConsumeWorkload {
        bootstrap: args.shared.bootstrap.clone(),
        topic: args.shared.topic.clone(),
        connections: args.shared.connections,
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
        verify: true,
        verify_run: Some(run),
        request_timeout: args.shared.request_timeout,
    };
    let results: Vec<Consumed> = on_cores(cpus, args.shared.format, move |io, share, progress| {
        load::consume(io, workload.clone(), share, Some(progress))
    })?;
    let mut verifier = Verifier::new(Some(run));
    for result in results {
        if let Some(fatal) = result.fatal {
            return Err(CommandError::Failed(format!("reading back: {fatal}")));
        }
        verifier.merge(result.verifier);
    }
    Ok(verifier.finish(Some(ledger)))
}

fn consume(args: &ConsumeArgs) -> Result<(), CommandError> {
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
    check_readable(&args.shared)?;
    let cpus = cores(&args.shared)?;
    let use_before = Use::now(&args.shared);
    let results: Vec<Consumed> =
        on_cores(&cpus, args.shared.format, move |io, share, progress| {
            load::consume(io, workload.clone(), share, Some(progress))
        })?;
    let (mut tally, mut elapsed, mut verifier) =
        (Tally::default(), Duration::ZERO, Verifier::new(None));
    let mut fatal = None;
    for result in results {
        tally.merge(&result.tally);
        elapsed = elapsed.max(result.elapsed);
        verifier.merge(result.verifier);
        fatal = fatal.or(result.fatal);
    }
    let mut report = Report::new("consume", &tally, elapsed);
    use_before.report(&args.shared, &mut report);
    report.fatal = fatal;
    if args.verify {
        report.verification = Some(verifier.finish(None));
    }
    finish(&report, args.shared.format)
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

/// CPUs for the executors; `None` is one that is not pinned.
fn cores(shared: &SharedArgs) -> Result<Vec<Option<usize>>, CommandError> {
    match &shared.cores {
        None => Ok(vec![None]),
        Some(list) => Ok(uring::parse_cpus(list)?.into_iter().map(Some).collect()),
    }
}

/// Runs one task per core, shows their progress, and collects their results.
fn on_cores<T, Make, Task>(
    cpus: &[Option<usize>],
    format: Format,
    make: Make,
) -> Result<Vec<T>, CommandError>
where
    T: Send + 'static,
    Make: Fn(UringIo, Share, SyncSender<Tally>) -> Task + Clone + Send + 'static,
    Task: Future<Output = T> + 'static,
{
    let (progress, ticks) = sync_channel(TICKS_MAX);
    let (results, finished) = sync_channel(cpus.len());
    let mut threads = Vec::with_capacity(cpus.len());
    for (core, cpu) in cpus.iter().copied().enumerate() {
        let share = Share {
            core: core as u64,
            cores: cpus.len() as u64,
        };
        let (make, progress, results) = (make.clone(), progress.clone(), results.clone());
        threads.push(std::thread::spawn(move || {
            let result = uring::block_on(cpu, UringOptions::default(), move |io| {
                make(io, share, progress)
            });
            // The receiver lives until every core has sent its result.
            drop(results.send(result));
        }));
    }
    drop((progress, results));
    show_progress(&ticks, cpus.len(), format);
    let mut collected = Vec::with_capacity(cpus.len());
    for _ in cpus {
        let result = finished
            .recv()
            .map_err(|_| CommandError::Failed("a core ended without a result".to_owned()))?;
        collected.push(result?);
    }
    for thread in threads {
        if thread.join().is_err() {
            return Err(CommandError::Failed("a core ended abnormally".to_owned()));
        }
    }
    Ok(collected)
}

/// One line, renewed once a second, until every core has hung up.
fn show_progress(ticks: &Receiver<Tally>, cores: usize, format: Format) {
    let bar = match format {
        Format::Json => indicatif::ProgressBar::hidden(),
        Format::Text => indicatif::ProgressBar::new_spinner(),
    };
    bar.enable_steady_tick(Duration::from_millis(250));
    let (mut second, mut waiting, mut errors) = (Tally::default(), cores, 0);
    loop {
        match ticks.recv_timeout(JOIN_TIMEOUT) {
            Ok(tally) => {
                errors += tally.error_count();
                second.merge(&tally);
                waiting = waiting.saturating_sub(1);
            }
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if waiting == 0 {
            bar.set_message(format!(
                "{} records/s  {:.1} MB/s  p99 {:.2} ms  {} errors",
                grouped(second.records),
                second.batch_bytes as f64 / 1e6,
                second.latency_ms(0.99),
                grouped(errors),
            ));
            (second, waiting) = (Tally::default(), cores);
        }
    }
    bar.finish_and_clear();
}

/// CPU and device use before the load.
struct Use {
    own: ProcessUse,
    watched: Option<ProcessUse>,
}

impl Use {
    fn now(shared: &SharedArgs) -> Use {
        Use {
            own: load::process::usage(None).unwrap_or_default(),
            watched: shared
                .watch_pid
                .and_then(|pid| load::process::usage(Some(pid)).ok()),
        }
    }

    fn report(&self, shared: &SharedArgs, report: &mut Report) {
        let after = Use::now(shared);
        report.generator = load::process::since(&self.own, &after.own);
        if let (Some(before), Some(after)) = (&self.watched, &after.watched) {
            report.watched = Some(load::process::since(before, after));
        }
    }
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
    match &report.verification {
        Some(findings) if !findings.is_clean() => Err(CommandError::Failed(format!(
            "verification found {} violations",
            findings.violations()
        ))),
        _ => Ok(()),
    }
}

/// `500ms`, `30s`, `5m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("expected a number with us, ms, s, m or h, for example 30s".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "expected a number, for example 30s".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

/// `1000`, `16k`, `1m`, `2g`, in powers of 1024.
fn size(text: &str) -> Result<usize, String> {
    let bytes = scaled(text, 1024)?;
    usize::try_from(bytes).map_err(|error| error.to_string())
}

/// `1000`, `16k`, `1m`, in powers of 1000.
fn count(text: &str) -> Result<u64, String> {
    scaled(text, 1000)
}

fn scaled(text: &str, base: u64) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (number, power) = match lower.char_indices().next_back() {
        Some((at, 'k')) => (&lower[..at], 1),
        Some((at, 'm')) => (&lower[..at], 2),
        Some((at, 'g')) => (&lower[..at], 3),
        _ => (lower.as_str(), 0),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number, perhaps with k, m or g".to_owned())?;
    number
        .checked_mul(base.pow(power))
        .ok_or_else(|| "too large".to_owned())
}

fn compression(name: &str) -> Result<Compression, String> {
    Compression::from_name(name)
        .ok_or_else(|| "expected none, gzip, snappy, lz4 or zstd".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("3", 3000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "5 parsecs", "-1s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(size("16k"), Ok(16_384));
        assert_eq!(size("1M"), Ok(1_048_576));
        assert_eq!(count("16k"), Ok(16_000));
        assert_eq!(count("7"), Ok(7));
        for text in ["", "k", "-1", "1t", "99999999999g"] {
            assert!(count(text).is_err(), "{text}");
        }
    }
}
