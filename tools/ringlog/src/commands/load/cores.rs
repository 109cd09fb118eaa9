//! One executor per core: starting them, showing their progress, collecting what they bring.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use load::report::grouped;
use load::{Observer, Share, Tally};
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
            "--cores names {} CPUs for {} connections to share: fewer CPUs, or more --connections",
            cpus.len(),
            connections
        )));
    }
    Ok(cpus)
}

/// Runs one task per core, shows their progress, and collects their results.
pub fn on_cores<T, Make, Task>(runner: &Runner, make: Make) -> Result<Vec<T>, CommandError>
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
        };
        let (make, results) = (make.clone(), results.clone());
        threads.push(std::thread::spawn(move || {
            let result = uring::block_on(cpu, UringOptions::default(), move |io| {
                make(io, share, observer)
            });
            // The receiver lives until every core has sent its result.
            drop(results.send(result));
        }));
    }
    drop((progress, results));
    show_progress(&ticks, cpus.len(), runner.progress);
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
fn show_progress(ticks: &Receiver<Tally>, cores: usize, shown: bool) {
    let bar = match shown {
        false => indicatif::ProgressBar::hidden(),
        true => indicatif::ProgressBar::new_spinner(),
    };
    bar.enable_steady_tick(Duration::from_millis(250));
    let (mut second, mut waiting, mut errors) = (Tally::default(), cores, 0);
    loop {
        match ticks.recv_timeout(TICK_TIMEOUT) {
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
