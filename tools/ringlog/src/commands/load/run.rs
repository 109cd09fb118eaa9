//! Running a workload on several cores from code: the command line, the demo and sweeps call this.
//!
//! Invariant: a report is made from the merged counts of every core, never from averages.

use std::time::Duration;

use client::{ClientError, Cluster, NewTopic};
use load::process::Window;
use load::report::Interval;
use load::seconds::Second;
use load::verify::{Findings, Ledger, Verifier};
use load::{ConsumeWorkload, Consumed, Limit, ProduceWorkload, Produced, Report, Tally, validity};
use model::ErrorCode;
use uring::UringOptions;

use super::cores::on_cores;
use crate::commands::CommandError;
use crate::interrupt::Interrupt;
use crate::stdio::noteln;

/// Seconds that a report tells one by one; a longer load tells the rest in its totals only.
const INTERVALS_MAX: usize = 86_400;

/// How long an interrupted load still reads back what it produced.
const READ_BACK_WHEN_INTERRUPTED: Duration = Duration::from_millis(200);

/// Connections that read back what many may have produced.
const READ_BACK_CONNECTIONS_MAX: u64 = 64;

/// Where a load runs and who watches it.
#[derive(Clone, Debug)]
pub struct Runner {
    /// CPU of each executor, at least one; `None` is one that is not pinned.
    pub cpus: Vec<Option<usize>>,
    /// A process whose use of the machine is reported too.
    pub watch_pid: Option<u32>,
    /// Whether a progress line is shown on the terminal.
    pub progress: bool,
    /// Ends the load before its time; reports are then of the time until then.
    pub interrupt: Interrupt,
}

/// Runs a producing load to its end and, if its records are stamped, reads everything back. The topics must exist.
/// Errors of the load are in the report.
pub fn run_produce(workload: &ProduceWorkload, runner: &Runner) -> Result<Report, CommandError> {
    Ok(run_produce_counted(workload, runner, &mut |_| {})?.0)
}

/// [`run_produce`] that tells `watch` every second, and gives the counts of all cores beside the report.
pub fn run_produce_counted(
    workload: &ProduceWorkload,
    runner: &Runner,
    watch: &mut dyn FnMut(&Second),
) -> Result<(Report, Tally), CommandError> {
    check(workload.validate())?;
    let mut sum = Sum::default();
    let results: Vec<Produced> = on_cores(runner, &mut |s| sum.second(s, watch), {
        let workload = workload.clone();
        move |io, share, observer| load::produce(io, workload.clone(), share, observer)
    })?;
    let mut ledger = Ledger::default();
    for result in results {
        sum.add(&result.tally, result.elapsed, result.window, result.fatal);
        ledger.merge(result.ledger);
    }
    let mut report = sum.report("produce", runner);
    judge(&mut report, workload, &runner.interrupt);
    if report.requests == 0 {
        report.note = Some("no request succeeded in the measured time".to_owned());
    }
    note_early_end(&mut report, workload.limit, &runner.interrupt);
    if let Some(run) = workload.stamp_run.filter(|_| report.fatal.is_none()) {
        match read_back(workload, runner, run, &ledger)? {
            Ok(findings) => report.verification = Some(findings),
            Err(reason) if runner.interrupt.is_set() => {
                report.warnings.push(format!("not read back: {reason}"));
            }
            Err(reason) => report.fatal = Some(format!("reading back: {reason}")),
        }
    }
    Ok((report, sum.tally))
}

/// Runs a consuming load to its end.
pub fn run_consume(
    workload: &ConsumeWorkload,
    runner: &Runner,
    watch: &mut dyn FnMut(&Second),
) -> Result<Report, CommandError> {
    check(workload.validate())?;
    let mut sum = Sum::default();
    let results: Vec<Consumed> = on_cores(runner, &mut |s| sum.second(s, watch), {
        let workload = workload.clone();
        move |io, share, observer| load::consume(io, workload.clone(), share, observer)
    })?;
    let mut verifier = Verifier::new(None);
    for result in results {
        sum.add(&result.tally, result.elapsed, result.window, result.fatal);
        verifier.merge(result.verifier);
    }
    let mut report = sum.report("consume", runner);
    if report.records == 0 {
        report.note = Some(format!(
            "nothing to read: topic {} has no record there",
            workload.topic
        ));
    }
    note_early_end(&mut report, workload.limit, &runner.interrupt);
    if workload.verify {
        report.verification = Some(verifier.finish(None));
    }
    Ok(report)
}

/// Runs producers and consumers in one process. The report is that of the producers, with the time to receipt.
pub fn run_end_to_end(
    produced: &ProduceWorkload,
    consumed: &ConsumeWorkload,
    readers: u64,
    runner: &Runner,
    watch: &mut dyn FnMut(&Second),
) -> Result<Report, CommandError> {
    check(produced.validate())?;
    let mut sum = Sum::default();
    let results = on_cores(runner, &mut |s| sum.second(s, watch), {
        let (produced, consumed) = (produced.clone(), consumed.clone());
        move |io, share, observer| {
            load::end_to_end(
                io,
                produced.clone(),
                (consumed.clone(), readers),
                share,
                observer,
            )
        }
    })?;
    let mut received = Tally::default();
    for (sent, readers) in results {
        sum.add(&sent.tally, sent.elapsed, sent.window, sent.fatal);
        for reader in readers {
            sum.fatal = sum.fatal.take().or(reader.fatal);
            received.merge(&reader.tally);
        }
    }
    sum.tally.end_to_end = received.end_to_end;
    for (kind, count) in &received.errors {
        sum.tally.failed(kind, *count);
    }
    let mut report = sum.report("end-to-end", runner);
    report.consumed_records = received.records;
    report.consumed_bytes = received.batch_bytes;
    report.rebalances = received.rebalances;
    judge(&mut report, produced, &runner.interrupt);
    note_early_end(&mut report, produced.limit, &runner.interrupt);
    let expected = report.requests * readers;
    if report.end_to_end_batches < expected {
        report.warnings.push(format!(
            "{} of {expected} acknowledged batches were not received in time",
            expected - report.end_to_end_batches
        ));
    }
    Ok(report)
}

/// What the cores of a load counted, together.
#[derive(Default)]
struct Sum {
    tally: Tally,
    elapsed: Duration,
    fatal: Option<String>,
    window: Option<Window>,
    intervals: Vec<Interval>,
}

impl Sum {
    fn second(&mut self, second: &Second, watch: &mut dyn FnMut(&Second)) {
        if self.intervals.len() < INTERVALS_MAX {
            self.intervals.push(Interval::of(second));
        }
        watch(second);
    }

    fn add(&mut self, tally: &Tally, elapsed: Duration, window: Window, fatal: Option<String>) {
        self.tally.merge(tally);
        self.elapsed = self.elapsed.max(elapsed);
        self.fatal = self.fatal.take().or(fatal);
        self.window = Some(self.window.map_or(window, |known| known.join(window)));
    }

    fn report(&mut self, mode: &'static str, runner: &Runner) -> Report {
        let mut report = Report::new(mode, &self.tally, self.elapsed);
        report.intervals = std::mem::take(&mut self.intervals);
        report.fatal = self.fatal.take();
        report.generator_cores = runner.cpus.len() as u64;
        if let Some(window) = self.window {
            report.generator = window.own();
            report.watched = window.watched();
        }
        if let Some(pid) = runner.watch_pid.filter(|_| report.watched.is_none()) {
            noteln!(
                "ringlog: process {pid} cannot be watched: it is not there, or not ours to read"
            );
        }
        report
    }
}

pub(super) fn check(validated: Result<(), load::WorkloadError>) -> Result<(), CommandError> {
    validated.map_err(|error| CommandError::Usage(error.to_string()))
}

/// Judges a producing load: an interrupted one by what was due until then.
fn judge(report: &mut Report, workload: &ProduceWorkload, interrupt: &Interrupt) {
    if !interrupt.is_set() {
        return validity::judge(report, workload);
    }
    let ended = ProduceWorkload {
        limit: Limit {
            duration: Some(Duration::from_secs_f64(report.seconds)),
            records: None,
        },
        ..workload.clone()
    };
    validity::judge(report, &ended);
}

/// Says so when answers ended long before the load did, or a signal ended it: the rates are of the time until then.
fn note_early_end(report: &mut Report, limit: Limit, interrupt: &Interrupt) {
    if interrupt.is_set() {
        report.note = Some(format!(
            "interrupted after {:.2} s; everything here is of the time until then",
            report.seconds
        ));
        return;
    }
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

/// Creates the topics that are not there.
pub fn ensure_topics(bootstrap: &str, topics: Vec<NewTopic>) -> Result<(), CommandError> {
    let bootstrap = bootstrap.to_owned();
    let ensured = uring::block_on(None, UringOptions::default(), async move |io| {
        let options = load::cluster_options("ringlog-load");
        let mut cluster = Cluster::connect(&io, &bootstrap, options).await?;
        for new in topics {
            match cluster.describe_topic(&new.name).await {
                Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
                Err(error) => return Err(error),
                Ok(_) => continue,
            }
            match cluster.create_topic(&new).await {
                Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
                // A broker that does not create topics may still know this one by the time it is asked.
                Err(ClientError::Unsupported { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;
    Ok(ensured?)
}

/// Reads the whole topics and compares them with what the producers know, or why that cannot be.
fn read_back(
    produced: &ProduceWorkload,
    runner: &Runner,
    run: u64,
    ledger: &Ledger,
) -> Result<Result<Findings, String>, CommandError> {
    let mut runner = runner.clone();
    let interrupted = runner.interrupt.is_set();
    if interrupted {
        // The flag has ended the load; what that left behind is read for a moment all the same.
        runner.interrupt = Interrupt::default();
        let soon = runner.interrupt.clone();
        std::thread::spawn(move || {
            std::thread::sleep(READ_BACK_WHEN_INTERRUPTED);
            soon.set();
        });
    }
    let workload = ConsumeWorkload {
        bootstrap: produced.bootstrap.clone(),
        topic: produced.topic.clone(),
        topics: produced.topics,
        connections: produced.connections.min(READ_BACK_CONNECTIONS_MAX),
        verify: true,
        verify_run: Some(run),
        verify_keys: produced.keys != load::keys::KeyDistribution::None,
        request_timeout: produced.request_timeout,
        ..ConsumeWorkload::default()
    };
    let results: Vec<Consumed> = on_cores(&runner, &mut |_| {}, move |io, share, observer| {
        load::consume(io, workload.clone(), share, observer)
    })?;
    let mut verifier = Verifier::new(Some(run));
    for result in results {
        if let Some(fatal) = result.fatal {
            return Ok(Err(fatal));
        }
        verifier.merge(result.verifier);
    }
    Ok(Ok(match interrupted || runner.interrupt.is_set() {
        true => verifier.finish_early(ledger),
        false => verifier.finish(Some(ledger)),
    }))
}
