//! `ringlog sweep`: varies batch bytes, linger, requests in flight and rate, and writes one report.
//!
//! Arguments, progress and signals; what is measured, in which order, and what it says is `load::sweep`.

mod compare;
mod measure;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ::load::sweep::page;
use ::load::sweep::plan::PlanError;
use ::load::sweep::recommend::recommendations;
use ::load::sweep::record::{FORMAT_VERSION, RecordError};
use ::load::sweep::{
    Analysis, Attempt, Axes, End, Fixed, Header, Journal, KneeLimits, Machine, Measurement, Plan,
    Sequence, Target, run as run_sequence, words,
};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::CommandError;
use super::connect::Bootstrap;
use super::load::values::compression;
use super::topic::topic_setting;
use crate::interrupt::Interrupt;
use crate::quantity::{count, duration, size};
use crate::stdio::{noteln, outln};
use crate::version::VERSION;
use compare::CompareArgs;
use measure::Measurer;

/// The file that a sweep is gone on with.
const JOURNAL_FILE: &str = "points.jsonl";

/// What `--help` says at its end.
const AFTER_HELP: &str = "\
Examples:
  ringlog sweep --bootstrap 127.0.0.1:9092
  ringlog sweep --target ringlog=127.0.0.1:9092 --target kafka=127.0.0.1:9192 --batch-bytes 16k,64k
  ringlog sweep --linger full,0,1ms,5ms --rate 50k,100k,200k --p99-max 5ms
  ringlog sweep --resume ringlog-sweep-20260301-090507
  ringlog sweep compare ringlog-sweep-20260301-090507 ringlog-sweep-20260302-101112

Ctrl-C ends the sweep, keeps what was measured and writes the report; --resume goes on with it.
Each run uses a topic of its own, which is deleted afterwards. Lists have commas: 4k,16k,64k.
The table of exit codes is in `ringlog --help`.";

/// Arguments of `ringlog sweep`.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct SweepArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    measured: MeasureArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what has changed from one sweep to another.
    Compare(CompareArgs),
}

/// What a sweep measures.
#[derive(Debug, Args)]
struct MeasureArgs {
    #[command(flatten)]
    server: Bootstrap,
    /// Brokers to compare, repeatable; the first is the baseline of ratios. Instead of --bootstrap.
    #[arg(long = "target", value_name = "NAME=HOST:PORT", value_parser = target, conflicts_with = "bootstrap")]
    targets: Vec<Target>,
    /// Bytes that batches are filled up to, before compression.
    #[arg(long, value_delimiter = ',', value_parser = size, default_value = "4k,16k,64k,256k", value_name = "LIST")]
    batch_bytes: Vec<usize>,
    /// How long records gather before a batch that is not full is sent: 0 is at once, as in Kafka; full waits for whole
    /// batches, whose latency counts from when the last record was due. Matters at a rate only.
    #[arg(long, value_delimiter = ',', value_parser = linger, default_value = "full", value_name = "LIST")]
    linger: Vec<Linger>,
    /// Unanswered requests per connection.
    #[arg(long, value_delimiter = ',', value_parser = count, default_value = "1,4,16", value_name = "LIST")]
    in_flight: Vec<u64>,
    /// Records per second over all connections; max is as fast as answers come.
    #[arg(long, value_delimiter = ',', value_parser = rate, default_value = "max", value_name = "LIST")]
    rate: Vec<OfferedRate>,
    /// How long each point is measured.
    #[arg(long, value_parser = duration, default_value = "5s")]
    duration: Duration,
    /// How long it is loaded before that.
    #[arg(long, value_parser = duration, default_value = "1s")]
    warmup: Duration,
    /// How often each point of the grid is measured on each target.
    #[arg(long, default_value_t = 2)]
    repetitions: u32,
    /// p99 that a knee must not pass.
    #[arg(long, value_parser = duration, default_value = "10ms")]
    p99_max: Duration,
    /// Rates that are tried for each knee at most.
    #[arg(long, default_value_t = KneeLimits::default().steps_max)]
    knee_steps: u32,
    /// Do not look for knees.
    #[arg(long)]
    no_knee: bool,
    #[command(flatten)]
    fixed: FixedArgs,
    /// Folder for the report. [default: ./ringlog-sweep-DATE-TIME]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Go on with a sweep that ended early: its folder or its points.jsonl. Everything else is as it was.
    #[arg(long, value_name = "FILE_OR_DIR", conflicts_with = "output")]
    resume: Option<PathBuf>,
    /// Say what would be measured and how long it would take, and end.
    #[arg(long)]
    dry_run: bool,
}

/// What is the same at every point.
#[derive(Debug, Args)]
struct FixedArgs {
    /// Bytes of each value.
    #[arg(long, value_parser = size, default_value = "1024")]
    record_bytes: usize,
    /// Connections over all cores.
    #[arg(long, default_value_t = 4)]
    connections: u64,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..))]
    partitions: i32,
    /// Replicas of each partition. [default: the broker's]
    #[arg(long, value_parser = clap::value_parser!(i16).range(1..))]
    replication_factor: Option<i16>,
    /// A setting of the topics, repeatable.
    #[arg(long = "topic-config", value_name = "KEY=VALUE", value_parser = topic_setting)]
    topic_configs: Vec<(String, String)>,
    /// What the broker confirms.
    #[arg(long, value_parser = ["1", "all"], default_value = "all")]
    acks: String,
    /// Codec: none, gzip, snappy, lz4 or zstd.
    #[arg(long, default_value = "none")]
    compression: String,
    /// Idempotent producers.
    #[arg(long)]
    idempotent: bool,
    /// CPUs of the generator, one executor each: 0 or 0,1 or 0-3. [default: one executor, not pinned]
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
}

/// A rate on the command line.
#[derive(Clone, Copy, Debug)]
struct OfferedRate(Option<u64>);

fn rate(text: &str) -> Result<OfferedRate, String> {
    if text == "max" {
        return Ok(OfferedRate(None));
    }
    let rate = count(text).map_err(|error| error.to_string())?;
    Ok(OfferedRate(Some(rate)))
}

/// A linger on the command line; `None` is whole batches.
#[derive(Clone, Copy, Debug)]
struct Linger(Option<Duration>);

fn linger(text: &str) -> Result<Linger, String> {
    if text == "full" {
        return Ok(Linger(None));
    }
    let linger = duration(text).map_err(|error| format!("{error}, or full"))?;
    Ok(Linger(Some(linger)))
}

/// `NAME=HOST:PORT`; without a name the address is the name.
fn target(text: &str) -> Result<Target, String> {
    let (name, bootstrap) = text.split_once('=').unwrap_or((text, text));
    if name.trim().is_empty() || !bootstrap.contains(':') {
        return Err("expected NAME=HOST:PORT, for example kafka=127.0.0.1:9192".to_owned());
    }
    Ok(Target {
        name: name.trim().to_owned(),
        bootstrap: bootstrap.trim().to_owned(),
    })
}

impl From<RecordError> for CommandError {
    fn from(error: RecordError) -> CommandError {
        CommandError::Failed(error.to_string())
    }
}

impl From<PlanError> for CommandError {
    fn from(error: PlanError) -> CommandError {
        CommandError::Usage(error.to_string())
    }
}

/// A sweep that is about to run.
struct Sweep {
    folder: PathBuf,
    header: Header,
    journal: Journal,
    sequence: Sequence,
}

/// Runs the command.
pub fn run(args: SweepArgs) -> Result<(), CommandError> {
    match args.action {
        Some(Action::Compare(args)) => compare::run(&args),
        None => measure(args.measured),
    }
}

fn measure(args: MeasureArgs) -> Result<(), CommandError> {
    let interrupt = Interrupt::watch()?;
    let sweep = match &args.resume {
        Some(path) => resume(path)?,
        None => {
            let plan = plan(&args)?;
            announce(&plan, plan.runs_max())?;
            if args.dry_run {
                return Ok(());
            }
            begin(&args, plan)?
        }
    };
    let Sweep {
        folder,
        header,
        mut journal,
        mut sequence,
    } = sweep;
    let mut measurer = Measurer::new(&header, interrupt.clone())?;
    let progress = Progress::new(&sequence);
    let end = run_sequence(
        &mut sequence,
        &mut journal,
        &mut |job, sequence| match interrupt.is_set() {
            true => Attempt::Stopped,
            false => {
                progress.begin(job, sequence);
                measurer.measure(job)
            }
        },
        &mut |measurement, sequence| progress.show(measurement, sequence),
    )?;
    progress.bar.finish_and_clear();
    measurer.finish();
    report(&folder, header, &sequence, &end, &interrupt)
}

fn plan(args: &MeasureArgs) -> Result<Plan, CommandError> {
    let micros = |duration: &Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let millis = |duration: &Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let targets = match args.targets.as_slice() {
        [] => vec![Target {
            name: args.server.bootstrap.clone(),
            bootstrap: args.server.bootstrap.clone(),
        }],
        targets => targets.to_vec(),
    };
    let fixed = &args.fixed;
    compression(&fixed.compression).map_err(CommandError::Usage)?;
    let plan = Plan {
        targets,
        axes: Axes {
            batch_bytes: args.batch_bytes.iter().map(|bytes| *bytes as u64).collect(),
            linger_us: args
                .linger
                .iter()
                .map(|l| l.0.as_ref().map(micros))
                .collect(),
            in_flight: args.in_flight.clone(),
            rates: args.rate.iter().map(|rate| rate.0).collect(),
        },
        fixed: Fixed {
            record_bytes: fixed.record_bytes as u64,
            connections: fixed.connections,
            partitions: fixed.partitions,
            replication_factor: fixed.replication_factor.unwrap_or(-1),
            topic_configs: fixed.topic_configs.clone(),
            acks: fixed.acks.clone(),
            compression: fixed.compression.clone(),
            idempotent: fixed.idempotent,
            cores: fixed.cores.clone(),
        },
        repetitions: args.repetitions,
        warmup_ms: millis(&args.warmup),
        measure_ms: millis(&args.duration),
        knee: (!args.no_knee).then(|| KneeLimits {
            p99_ms_max: args.p99_max.as_secs_f64() * 1e3,
            steps_max: args.knee_steps,
            ..KneeLimits::default()
        }),
    };
    plan.validate()?;
    Ok(plan)
}

/// Says what is about to happen and how long it takes at most.
fn announce(plan: &Plan, runs: usize) -> Result<(), CommandError> {
    let time = plan
        .run_time()
        .saturating_mul(u32::try_from(runs).unwrap_or(u32::MAX));
    let names: Vec<&str> = plan.targets.iter().map(|t| t.name.as_str()).collect();
    outln!(
        "Sweep of {}: up to {runs} runs of {}, about {} in all. Ctrl-C keeps what is measured.",
        names.join(" and "),
        words::length(plan.run_time()),
        words::length(time)
    )?;
    outln!(
        "  points of the grid: {}, each {} times; searches for knees: {}; targets: {}",
        plan.points().len(),
        plan.repetitions,
        plan.knee_groups().len(),
        plan.targets.len()
    )
}

fn begin(args: &MeasureArgs, plan: Plan) -> Result<Sweep, CommandError> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let started = since.map_or(0, |since| since.as_secs());
    let brokers = plan
        .targets
        .iter()
        .map(measure::describe)
        .collect::<Result<Vec<String>, CommandError>>()?;
    let folder = args.output.clone().unwrap_or_else(|| {
        PathBuf::from(format!("ringlog-sweep-{}", words::date_for_files(started)))
    });
    std::fs::create_dir_all(&folder)
        .map_err(|error| CommandError::io(folder.display().to_string(), error))?;
    let header = Header {
        ringlog_sweep: FORMAT_VERSION,
        version: VERSION.to_owned(),
        command: command_line(),
        started,
        machine: Machine::here(),
        brokers,
        plan,
    };
    let path = folder.join(JOURNAL_FILE);
    if path.exists() {
        return Err(CommandError::Usage(format!(
            "{} is there already: go on with it, --resume {}, or name another --output",
            path.display(),
            folder.display()
        )));
    }
    Ok(Sweep {
        journal: Journal::create(&path, &header)?,
        sequence: Sequence::new(header.plan.clone()),
        header,
        folder,
    })
}

/// The command as it could be typed again.
fn command_line() -> String {
    let words = std::env::args().enumerate().map(|(index, word)| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%".contains(c);
        match index {
            0 => "ringlog".to_owned(),
            _ if !word.is_empty() && word.chars().all(plain) => word,
            _ => format!("'{}'", word.replace('\'', "'\\''")),
        }
    });
    words.collect::<Vec<String>>().join(" ")
}

/// The file of a sweep that is named by it or by its folder.
fn journal_of(path: &Path) -> PathBuf {
    match path.is_dir() {
        true => path.join(JOURNAL_FILE),
        false => path.to_owned(),
    }
}

fn resume(path: &Path) -> Result<Sweep, CommandError> {
    let file = journal_of(path);
    let (journal, header, measurements) = Journal::resume(&file)?;
    let measured = measurements.len();
    let sequence = Sequence::resume(header.plan.clone(), measurements)
        .map_err(|mismatch| CommandError::Failed(format!("{}: {mismatch}", file.display())))?;
    outln!("{measured} runs are there already.")?;
    if sequence.next().is_some() {
        announce(&header.plan, sequence.remaining_max())?;
    }
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    Ok(Sweep {
        folder: folder.unwrap_or(Path::new(".")).to_owned(),
        journal,
        header,
        sequence,
    })
}

fn report(
    folder: &Path,
    header: Header,
    sequence: &Sequence,
    end: &End,
    interrupt: &Interrupt,
) -> Result<(), CommandError> {
    let analysis = Analysis::new(header, sequence);
    let page =
        page::write(&analysis, folder).map_err(|error| CommandError::Failed(error.to_string()))?;
    let targets = &analysis.header.plan.targets;
    for (target, named) in targets.iter().enumerate() {
        outln!("\n{}", named.name)?;
        for recommendation in recommendations(&analysis, target) {
            let detail = recommendation
                .detail()
                .map(|d| format!("  ({d})"))
                .unwrap_or_default();
            outln!("  {}{detail}", recommendation.sentence())?;
        }
    }
    outln!("\nReport: {}", page.display())?;
    match end {
        End::Complete => Ok(()),
        End::Stopped => {
            noteln!(
                "ringlog: `ringlog sweep --resume {}` goes on with it",
                folder.display()
            );
            interrupt.check()
        }
        End::GaveUp(reason) => Err(CommandError::Failed(format!(
            "given up, run after run failed: {reason}\n`ringlog sweep --resume {}` goes on with it",
            folder.display()
        ))),
    }
}

/// What is shown while it runs: a bar on a terminal, a line per run elsewhere.
struct Progress {
    bar: ProgressBar,
    began: Instant,
    measured_before: usize,
}

impl Progress {
    fn new(sequence: &Sequence) -> Progress {
        let measured_before = sequence.measurements().len();
        let bar = ProgressBar::new((measured_before + sequence.remaining_max()) as u64);
        // The template is fixed: an error in it would show in the first run of any sweep.
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} runs · {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_position(measured_before as u64);
        bar.enable_steady_tick(Duration::from_millis(250));
        Progress {
            bar,
            began: Instant::now(),
            measured_before,
        }
    }

    fn begin(&self, job: &::load::sweep::Job, sequence: &Sequence) {
        let done = sequence.measurements().len() - self.measured_before;
        let each = match u32::try_from(done) {
            Ok(done) if done > 0 => self.began.elapsed() / done,
            _ => sequence.plan().run_time(),
        };
        let left = each.saturating_mul(u32::try_from(sequence.remaining_max()).unwrap_or(u32::MAX));
        let name = &sequence.plan().targets[job.target].name;
        let left = words::length(left);
        self.bar
            .set_message(format!("at most {left} left · {name}, {}", job.point));
    }

    fn show(&self, measurement: &Measurement, sequence: &Sequence) {
        let (job, point) = (&measurement.job, &measurement.job.point);
        let name = &sequence.plan().targets[job.target].name;
        let rate = point
            .rate
            .map(|rate| format!(" at {} records/s", words::compact(rate as f64)));
        let outcome = match (&measurement.figures, &measurement.error) {
            (Some(figures), _) => format!(
                "{}, p50 {}, p99 {}",
                words::megabytes_per_second(figures.mb_per_second),
                words::milliseconds(figures.latency_ms.p50),
                words::milliseconds(figures.latency_ms.p99)
            ),
            (None, error) => format!("failed: {}", error.as_deref().unwrap_or("no reason")),
        };
        let line = format!("{name}, {point}{}: {outcome}", rate.unwrap_or_default());
        if self.bar.is_hidden() {
            noteln!("{line}");
        } else {
            self.bar.println(line);
        }
        let done = sequence.measurements().len();
        // Searches end early: what is left shrinks faster than what is done grows.
        self.bar
            .set_length((done + sequence.remaining_max()) as u64);
        self.bar.set_position(done as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SweepArgs,
    }

    fn parsed(words: &[&str]) -> Result<Plan, String> {
        let words = std::iter::once("sweep").chain(words.iter().copied());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        plan(&command.args.measured).map_err(|error| error.to_string())
    }

    #[test]
    fn without_words_it_takes_about_five_minutes() {
        let plan = parsed(&[]).unwrap();
        let minutes = plan.estimate().as_secs_f64() / 60.0;
        assert!((4.0..6.0).contains(&minutes), "{minutes}");
        assert_eq!(plan.targets[0].bootstrap, "127.0.0.1:9092");
    }

    #[test]
    fn lists_and_targets() {
        let plan = parsed(&[
            "--target",
            "ringlog=127.0.0.1:9092",
            "--target",
            "kafka=127.0.0.1:9192",
            "--batch-bytes",
            "4k,1m",
            "--linger",
            "full,0,1ms",
            "--in-flight",
            "8",
            "--rate",
            "max,50k",
            "--p99-max",
            "5ms",
        ])
        .unwrap();
        assert_eq!(plan.axes.batch_bytes, [4 << 10, 1 << 20]);
        assert_eq!(plan.axes.linger_us, [None, Some(0), Some(1_000)]);
        assert_eq!(plan.axes.rates, [None, Some(50_000)]);
        assert_eq!(plan.targets[1].name, "kafka");
        assert!((plan.knee.unwrap().p99_ms_max - 5.0).abs() < 1e-9);
        assert!(parsed(&["--no-knee"]).unwrap().knee.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &["--batch-bytes", ""][..],
            &["--rate", "fast"],
            &["--target", "=1"],
            &["--target", "a=h:1", "--bootstrap", "h:1"],
            &["--target", "a=h:1", "--target", "a=h:2"],
            &["--compression", "rar"],
            &["--acks", "0"],
            &["--repetitions", "0"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
    }
}
