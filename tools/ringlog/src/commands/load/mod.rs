//! `ringlog load`: load for any broker that speaks Kafka's protocol, one executor per core.

mod args;
mod broker_times;
mod cores;
mod named;
mod output;
mod perf_payload;
mod perf_test;
pub mod run;
pub mod values;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::time::SystemTime;

use client::{Cluster, OffsetSpec};
use load::seconds::Second;
use load::{ConsumeWorkload, ProduceWorkload, Report, histogram_log};
use runtime::Io as _;
use uring::{UringIo, UringOptions};

use super::CommandError;
use crate::interrupt::Interrupt;
use crate::stdio::announce;
use crate::version::VERSION;
pub use args::LoadArgs;
use args::{
    Action, ConsumeArgs, EndToEndArgs, NullServerArgs, ProduceArgs, ReportFormat, SharedArgs,
};
use broker_times::BrokerWatch;
pub use cores::cores;
use output::{finish, finish_ramp};
use run::Runner;

/// Runs the command.
pub fn run(args: LoadArgs) -> Result<(), CommandError> {
    if let Action::NullServer(args) = &args.action {
        return null_server(args);
    }
    run_until(args, &Interrupt::watch()?)
}

/// Runs the command until its end or a signal. What there is by then is printed in either case.
fn run_until(args: LoadArgs, interrupt: &Interrupt) -> Result<(), CommandError> {
    let finished = match args.action {
        Action::Produce(args) if !args.ramp.is_empty() => ramp(&args, interrupt),
        Action::Produce(args) => finish(&produce(&args, interrupt)?, args.shared.format),
        Action::Consume(args) => finish(&consume(&args, interrupt)?, args.shared.format),
        Action::EndToEnd(args) => finish(&end_to_end(&args, interrupt)?, args.shared.format),
        Action::Workload(args) => named::run(&args, interrupt),
        Action::ProducerPerfTest(args) => perf_test::run(&args, interrupt),
        Action::NullServer(args) => null_server(&args),
    };
    match finished {
        // What an interrupted load has not come to is no fault of the broker's, what it has found is.
        Err(CommandError::Violated(_)) => finished,
        _ => interrupt.check().and(finished),
    }
}

fn null_server(args: &NullServerArgs) -> Result<(), CommandError> {
    let (address, partitions) = (args.listen, args.partitions);
    let ready = |bound| announce(format_args!("null server ready on {bound}"));
    let served = uring::block_on(args.core, UringOptions::default(), move |io| {
        load::null_server::serve(io, address, partitions, ready)
    })?;
    served.map_err(|error| CommandError::io(format!("serving on {address}"), error))
}

/// What a producing load given as words of a command line came to; errors of the load are in the report. `each` is told
/// every second, in place of a line that shows the progress.
pub fn produce_report(
    args: LoadArgs,
    interrupt: &Interrupt,
    each: &mut dyn FnMut(&Second),
) -> Result<Report, CommandError> {
    match args.action {
        Action::Produce(args) => {
            let (workload, runner) = prepared(&args, interrupt)?;
            let runner = Runner {
                progress: false,
                ..runner
            };
            Ok(run::run_produce_counted(&workload, &runner, each)?.0)
        }
        _ => Err(CommandError::Usage(
            "only `produce` makes this report".to_owned(),
        )),
    }
}

/// A producing load whose topics are there.
fn prepared(
    args: &ProduceArgs,
    interrupt: &Interrupt,
) -> Result<(ProduceWorkload, Runner), CommandError> {
    let workload = args.workload(new_run()?);
    run::check(workload.validate())?;
    let runner = runner(&args.shared, args.shared.connections, interrupt)?;
    run::ensure_topics(&args.shared.server.bootstrap, args.new_topics(&workload))?;
    Ok((workload, runner))
}

fn produce(args: &ProduceArgs, interrupt: &Interrupt) -> Result<Report, CommandError> {
    let (workload, runner) = prepared(args, interrupt)?;
    watched(&args.shared, |watch| {
        Ok(run::run_produce_counted(&workload, &runner, watch)?.0)
    })
}

/// One load per rate, each with its own connections and warm-up.
fn ramp(args: &ProduceArgs, interrupt: &Interrupt) -> Result<(), CommandError> {
    let mut reports = Vec::with_capacity(args.ramp.len());
    let runner = runner(&args.shared, args.shared.connections, interrupt)?;
    for rate in args.ramp.iter().take_while(|_| !interrupt.is_set()) {
        let workload = args.step(*rate);
        run::check(workload.validate())?;
        run::ensure_topics(&args.shared.server.bootstrap, args.new_topics(&workload))?;
        reports.push(explained(&args.shared, |watch| {
            Ok(run::run_produce_counted(&workload, &runner, watch)?.0)
        })?);
    }
    finish_ramp(&reports, args.shared.format)
}

fn end_to_end(args: &EndToEndArgs, interrupt: &Interrupt) -> Result<Report, CommandError> {
    let (produced, consumed) = args.workloads(new_run()?)?;
    run::check(produced.validate())?;
    let runner = runner(&args.shared, args.shared.connections, interrupt)?;
    run::ensure_topics(&args.shared.server.bootstrap, args.new_topics(&produced))?;
    watched(&args.shared, |watch| {
        run::run_end_to_end(&produced, &consumed, args.readers, &runner, watch)
    })
}

fn consume(args: &ConsumeArgs, interrupt: &Interrupt) -> Result<Report, CommandError> {
    let workload = args.workload();
    run::check(workload.validate())?;
    let runner = runner(&args.shared, args.lanes(), interrupt)?;
    check_readable(&workload)?;
    watched(&args.shared, |watch| {
        run::run_consume(&workload, &runner, watch)
    })
}

/// A number that tells the records of this run from those of others.
fn new_run() -> Result<u64, CommandError> {
    Ok(uring::block_on(
        None,
        UringOptions::default(),
        async |io: UringIo| io.random(),
    )?)
}

fn runner(shared: &SharedArgs, lanes: u64, interrupt: &Interrupt) -> Result<Runner, CommandError> {
    Ok(Runner {
        interrupt: interrupt.clone(),
        cpus: cores(shared.cores.as_deref(), lanes)?,
        watch_pid: shared.watch_pid,
        progress: shared.format == ReportFormat::Text,
    })
}

/// Runs a load that the histogram log and the broker's metrics may accompany.
fn watched(
    shared: &SharedArgs,
    load: impl FnOnce(&mut dyn FnMut(&Second)) -> Result<Report, CommandError>,
) -> Result<Report, CommandError> {
    explained(shared, |watch| {
        logged(shared, |log| {
            load(&mut |second| {
                watch(second);
                log(second);
            })
        })
    })
}

/// Runs a load and asks the broker, if it is to be asked, where its time went.
fn explained(
    shared: &SharedArgs,
    load: impl FnOnce(&mut dyn FnMut(&Second)) -> Result<Report, CommandError>,
) -> Result<Report, CommandError> {
    let Some(url) = &shared.broker_metrics else {
        return load(&mut |_| {});
    };
    let mut broker = BrokerWatch::begin(url)?;
    let mut report = load(&mut |second| broker.second(second))?;
    broker.finish(&mut report)?;
    Ok(report)
}

/// Runs a load; its seconds go to the histogram log, if there is to be one.
fn logged(
    shared: &SharedArgs,
    load: impl FnOnce(&mut dyn FnMut(&Second)) -> Result<Report, CommandError>,
) -> Result<Report, CommandError> {
    let Some(path) = &shared.histogram_log else {
        return load(&mut |_| {});
    };
    let failed = |error| CommandError::io(format!("writing {}", path.display()), error);
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let comments = [format!(
        "ringlog {} load of {} at {}; values are nanoseconds",
        VERSION, shared.topic, shared.server.bootstrap
    )];
    let report = histogram_log::write(&mut file, SystemTime::now(), &comments, load);
    let report = report.map_err(failed)??;
    file.flush().map_err(failed)?;
    Ok(report)
}

/// Fails early, with a clear reason, when a topic cannot be read.
fn check_readable(workload: &ConsumeWorkload) -> Result<(), CommandError> {
    let (bootstrap, topics) = (workload.bootstrap.clone(), workload.topic_names());
    let checked = uring::block_on(None, UringOptions::default(), async move |io| {
        let options = load::cluster_options("ringlog-load");
        let mut cluster = Cluster::connect(&io, &bootstrap, options).await?;
        for topic in &topics {
            cluster.describe_topic(topic).await?;
            cluster.offsets(topic, OffsetSpec::Latest).await?;
        }
        Ok::<(), client::ClientError>(())
    })?;
    Ok(checked?)
}
