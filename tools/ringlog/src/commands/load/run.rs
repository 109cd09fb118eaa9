//! Running a workload on several cores from code: the command line, the demo and sweeps call this.
//!
//! Invariant: a report is made from the merged counts of every core, never from averages.

use std::time::Duration;

use client::{ClientError, Cluster, NewTopic};
use load::process::Window;
use load::verify::{Findings, Ledger, Verifier};
use load::{ConsumeWorkload, Consumed, From, Limit, ProduceWorkload, Produced, Report, Tally};
use model::ErrorCode;
use uring::UringOptions;

use super::cores::on_cores;
use crate::commands::CommandError;

/// Where a load runs and who watches it.
#[derive(Clone, Debug)]
pub struct Runner {
    /// CPU of each executor, at least one; `None` is one that is not pinned.
    pub cpus: Vec<Option<usize>>,
    /// A process whose use of the machine is reported too.
    pub watch_pid: Option<u32>,
    /// Whether a progress line is shown on the terminal.
    pub progress: bool,
}

/// Runs a producing load to its end and, if its records are stamped, reads everything back. The topic must exist.
/// Errors of the load are in the report.
pub fn run_produce(workload: &ProduceWorkload, runner: &Runner) -> Result<Report, CommandError> {
    workload
        .validate()
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    let results: Vec<Produced> = on_cores(runner, {
        let workload = workload.clone();
        move |io, share, observer| load::produce(io, workload.clone(), share, observer)
    })?;
    let (mut tally, mut elapsed, mut ledger) =
        (Tally::default(), Duration::ZERO, Ledger::default());
    let (mut fatal, mut window) = (None, None);
    for result in results {
        tally.merge(&result.tally);
        elapsed = elapsed.max(result.elapsed);
        ledger.merge(result.ledger);
        fatal = fatal.or(result.fatal);
        window = join(window, result.window);
    }
    let mut report = Report::new("produce", &tally, elapsed);
    report_use(&mut report, window, runner.watch_pid);
    report.fatal = fatal;
    if report.requests == 0 {
        report.note = Some("no request succeeded in the measured time".to_owned());
    }
    note_early_end(&mut report, workload.limit);
    if let Some(run) = workload.stamp_run.filter(|_| report.fatal.is_none()) {
        report.verification = Some(read_back(workload, runner, run, &ledger)?);
    }
    Ok(report)
}

/// Runs a consuming load to its end.
pub fn run_consume(workload: &ConsumeWorkload, runner: &Runner) -> Result<Report, CommandError> {
    workload
        .validate()
        .map_err(|error| CommandError::Usage(error.to_string()))?;
    let results: Vec<Consumed> = on_cores(runner, {
        let workload = workload.clone();
        move |io, share, observer| load::consume(io, workload.clone(), share, observer)
    })?;
    let (mut tally, mut elapsed, mut verifier) =
        (Tally::default(), Duration::ZERO, Verifier::new(None));
    let (mut fatal, mut window) = (None, None);
    for result in results {
        tally.merge(&result.tally);
        elapsed = elapsed.max(result.elapsed);
        verifier.merge(result.verifier);
        fatal = fatal.or(result.fatal);
        window = join(window, result.window);
    }
    let mut report = Report::new("consume", &tally, elapsed);
    report_use(&mut report, window, runner.watch_pid);
    report.fatal = fatal;
    if report.records == 0 {
        report.note = Some(format!(
            "nothing to read: topic {} has no record there",
            workload.topic
        ));
    }
    note_early_end(&mut report, workload.limit);
    if workload.verify {
        report.verification = Some(verifier.finish(None));
    }
    Ok(report)
}

/// Says so when answers ended long before the load did: the rates are of the time until then.
fn note_early_end(report: &mut Report, limit: Limit) {
    let Some(asked) = limit.duration.map(|duration| duration.as_secs_f64()) else {
        return;
    };
    if report.note.is_none() && report.errors > 0 && report.seconds < asked * 0.9 {
        report.note = Some(format!(
            "the last answer came after {:.2} of {asked:.2} s; rates are of the time until then",
            report.seconds
        ));
    }
}

fn join(known: Option<Window>, window: Window) -> Option<Window> {
    Some(known.map_or(window, |known| known.join(window)))
}

/// Puts in what the processes used while the load was measured.
fn report_use(report: &mut Report, window: Option<Window>, watch_pid: Option<u32>) {
    let Some(window) = window else {
        return;
    };
    report.generator = window.own();
    report.watched = window.watched();
    if let Some(pid) = watch_pid.filter(|_| report.watched.is_none()) {
        eprintln!("ringlog: process {pid} cannot be watched: it is not there, or not ours to read");
    }
}

/// Creates a topic if it is not there.
pub fn ensure_topic(bootstrap: &str, new: NewTopic) -> Result<(), CommandError> {
    let bootstrap = bootstrap.to_owned();
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
    produced: &ProduceWorkload,
    runner: &Runner,
    run: u64,
    ledger: &Ledger,
) -> Result<Findings, CommandError> {
    let workload = ConsumeWorkload {
        bootstrap: produced.bootstrap.clone(),
        topic: produced.topic.clone(),
        connections: produced.connections,
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
        request_timeout: produced.request_timeout,
    };
    let results: Vec<Consumed> = on_cores(runner, move |io, share, observer| {
        load::consume(io, workload.clone(), share, observer)
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
