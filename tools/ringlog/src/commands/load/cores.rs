//! One executor per core: starting them, showing their progress, collecting what they bring.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use load::report::grouped;
use load::seconds::{Second, Seconds};
use load::{Observer, Share, Tick};
use uring::{UringIo, UringOptions};

use super::run::Runner;
use crate::commands::CommandError;

/// Ticks that may wait for the progress line.
const TICKS_MAX: usize = 1024;
/// How long to wait for a tick before looking whether the cores have hung up.
const TICK_TIMEOUT: Duration = Duration::from_secs(10);

/// CPUs for the executors out of a list like `0,2-3`; `None` is one that is not pinned.
pub fn cores(list: Option<&str>, connections: u64) -> Result<Vec<Option<usize>>, CommandError> {
    let Some(list) = list else {
        return Ok(vec![None]);
    };
    let cpus: Vec<Option<usize>> = uring::parse_cpus(list)?.into_iter().map(Some).collect();
    if cpus.len() as u64 > connections {
        return Err(CommandError::Usage(format!(
            "--cores names {} CPUs for {connections} connections to share: fewer CPUs, or more --connections",
            cpus.len(),
        )));
    }
    Ok(cpus)
}

/// Runs one task per core, tells `watch` what they counted second by second, and collects their results.
pub fn on_cores<T, Make, Task>(
    runner: &Runner,
    watch: &mut dyn FnMut(&Second),
    make: Make,
) -> Result<Vec<T>, CommandError>
where
    T: Send + 'static,
    Make: Fn(UringIo, Share, Observer) -> Task + Clone + Send + 'static,
    Task: Future<Output = T> + 'static,
{
    let cpus = &runner.cpus;
    let (progress, ticks) = sync_channel(TICKS_MAX);
    let (results, finished) = sync_channel(cpus.len());
    let mut threads = Vec::with_capacity(cpus.len());
    for (core, cpu) in cpus.iter().copied().enumerate() {
        let share = Share {
            core: core as u64,
            cores: cpus.len() as u64,
        };
        let observer = Observer {
            progress: Some(progress.clone()),
            watch_pid: runner.watch_pid,
            stop: Some(runner.interrupt.flag()),
        };
        let (make, results) = (make.clone(), results.clone());
        let options = UringOptions {
            other_executors: cpus.len() - 1,
            ..UringOptions::default()
        };
        threads.push(std::thread::spawn(move || {
            let result = uring::block_on(cpu, options, move |io| make(io, share, observer));
            // The receiver lives until every core has sent its result.
            drop(results.send(result));
        }));
    }
    drop((progress, results));
    follow(&ticks, cpus.len(), runner.progress, watch);
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

/// Tells `watch` each second and shows it in one line, until every core has hung up.
fn follow(ticks: &Receiver<Tick>, cores: usize, shown: bool, watch: &mut dyn FnMut(&Second)) {
    let bar = match shown {
        false => indicatif::ProgressBar::hidden(),
        true => indicatif::ProgressBar::new_spinner(),
    };
    bar.enable_steady_tick(Duration::from_millis(250));
    let mut seconds = Seconds::new(cores);
    let (mut errors, mut connects) = (0, 0);
    loop {
        let tick = match ticks.recv_timeout(TICK_TIMEOUT) {
            Ok(tick) => tick,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        connects += tick.tally.connects;
        let Some(second) = seconds.add(&tick) else {
            continue;
        };
        errors += second.tally.error_count();
        let errors = grouped(errors);
        bar.set_message(match second.tally.requests {
            0 => format!("{} connections  {errors} errors", grouped(connects)),
            _ => format!(
                "{} records/s  {:.1} MB/s  p99 {:.2} ms  {errors} errors",
                grouped(second.tally.records),
                second.tally.batch_bytes as f64 / 1e6,
                second.tally.latency_ms(0.99),
            ),
        });
        watch(&second);
    }
    seconds.finish().for_each(|second| watch(&second));
    bar.finish_and_clear();
}
