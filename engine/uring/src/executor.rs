//! Executors: one per core, pinned, for the life of the process.
//!
//! A start has two phases, so that it succeeds on all cores or on none: every thread makes its executor and primes the
//! data directories, and only when all have done so does any of them run its shard.

use std::future::Future;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};
use runtime::{Io, Oneshot, OpenMode, TaskClass};

use crate::cpus::{Affinity, allowed_cpus, check_allowed};
use crate::error::StartError;
use crate::locked::LockedPlan;
use crate::options::{BLOCKING_THREADS, UringOptions};
use crate::pool::Pool;
use crate::prime;
use crate::probe::NoHugePages;
use crate::process::{locked_limit, locked_plan};
use crate::reserve::Reserve;
use crate::slice;
use crate::uring_io::UringIo;
use crate::watchdog::Watch;

/// How long the end of an executor waits for operations under way. If some have not ended by then, the executor's memory
/// is left alone for the rest of the process, because the kernel may still write to it.
const OPERATIONS_END_MAX: Duration = Duration::from_secs(1);

/// How often the end of something is looked for.
const END_POLL: Duration = Duration::from_millis(1);

/// How long locked memory that is missing is waited for, and how often is looked for it.
const LOCKED_MEMORY_WAIT_MAX: Duration = Duration::from_secs(2);
const LOCKED_MEMORY_POLL: Duration = Duration::from_millis(50);

/// How many times longer the heartbeat's period is on an idle core.
const HEARTBEAT_STRETCH_MAX: u32 = 8;

/// A core that ran no more tasks than these between two beats is idle: the heartbeat and one other.
const IDLE_TASKS_MAX: u64 = 2;

/// One core's thread.
struct ShardThread {
    cpu: usize,
    beats: Arc<AtomicU64>,
    thread: JoinHandle<()>,
    /// Lets the shard run. Dropped instead when another core did not start.
    go: Sender<()>,
}

/// The executors that run.
pub struct Running {
    shards: Vec<ShardThread>,
}

/// Executors did not end as they should.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// These CPUs' shards were still running at the deadline.
    #[error("the shards of CPUs {0:?} have not ended in time")]
    Deadline(Vec<usize>),
    /// These CPUs' threads panicked.
    #[error("the shards of CPUs {0:?} panicked")]
    Panicked(Vec<usize>),
}

impl Running {
    /// CPU and heartbeat counter of each shard. A counter grows at every heartbeat; one that stands still for seconds
    /// belongs to a core that hangs.
    pub fn heartbeats(&self) -> Vec<(usize, Arc<AtomicU64>)> {
        self.shards
            .iter()
            .map(|shard| (shard.cpu, Arc::clone(&shard.beats)))
            .collect()
    }

    /// Whether a shard's thread has ended. Before a shutdown that means that it panicked.
    pub fn any_ended(&self) -> bool {
        self.shards.iter().any(|shard| shard.thread.is_finished())
    }

    /// Waits until every shard's future has ended, at most `deadline` from now. After an error the process should exit
    /// without waiting for more.
    pub fn join(self, deadline: Duration) -> Result<(), JoinError> {
        let end = Instant::now() + deadline;
        let (mut late, mut panicked) = (Vec::new(), Vec::new());
        for shard in self.shards {
            while !shard.thread.is_finished() && Instant::now() < end {
                thread::sleep(END_POLL);
            }
            if !shard.thread.is_finished() {
                late.push(shard.cpu);
            } else if shard.thread.join().is_err() {
                panicked.push(shard.cpu);
            }
        }
        if !panicked.is_empty() {
            return Err(JoinError::Panicked(panicked));
        }
        if !late.is_empty() {
            return Err(JoinError::Deadline(late));
        }
        Ok(())
    }
}

/// Starts one executor per CPU of `cpus` and runs `make(shard index, io)` on each until it ends.
///
/// Returns when all of them run. `make` is called inside the executor; its future and what it spawns stay on that core.
pub fn start<Make, Shard>(
    cpus: &[usize],
    options: UringOptions,
    make: Make,
) -> Result<Running, StartError>
where
    Make: Fn(usize, UringIo) -> Shard + Send + Clone + 'static,
    Shard: Future<Output = ()> + 'static,
{
    if cpus.is_empty() {
        return Err(StartError::CpuList(String::new()));
    }
    let locked = locked_plan(cpus.len(), &options)?;
    // Each of them starts beside the others.
    let options = UringOptions {
        other_executors: options.other_executors + cpus.len() - 1,
        ..options.within(&locked)
    };
    let allowed = allowed_cpus()?;
    for &cpu in cpus {
        check_allowed(cpu, &allowed)?;
    }
    let _small_pages = small_pages(&locked);
    let mut shards = Vec::with_capacity(cpus.len());
    let mut reports = Vec::with_capacity(cpus.len());
    for (index, &cpu) in cpus.iter().enumerate() {
        let (shard, report) = spawn(index, cpu, options.clone(), make.clone())?;
        shards.push(shard);
        reports.push(report);
    }
    for (shard, report) in shards.iter().zip(reports) {
        report
            .recv()
            .unwrap_or(Err(StartError::ThreadEnded(shard.cpu)))?;
    }
    for shard in &shards {
        shard
            .go
            .send(())
            .map_err(|_| StartError::ThreadEnded(shard.cpu))?;
    }
    Ok(Running { shards })
}

/// One thread, which reports when its executor is ready and then waits for the word to go.
fn spawn<Make, Shard>(
    index: usize,
    cpu: usize,
    options: UringOptions,
    make: Make,
) -> Result<(ShardThread, Receiver<Result<(), StartError>>), StartError>
where
    Make: Fn(usize, UringIo) -> Shard + Send + 'static,
    Shard: Future<Output = ()> + 'static,
{
    let beats = Arc::new(AtomicU64::new(0));
    let (go, gone) = mpsc::channel();
    let (report, reported) = mpsc::channel();
    let thread_beats = Arc::clone(&beats);
    let thread = thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let opened = Executor::open(Some(cpu), &options, thread_beats);
            let (executor, outcome) = match opened {
                Ok(executor) => (Some(executor), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Whoever started us is still waiting for this, or has given up and hears nothing of it.
            let heard = report.send(outcome).is_ok();
            if let Some(executor) = executor
                && heard
                && gone.recv().is_ok()
            {
                executor.run(|io| make(index, io));
            }
        })
        .map_err(|source| StartError::System {
            what: "starting a shard's thread",
            source,
        })?;
    let shard = ShardThread {
        cpu,
        beats,
        thread,
        go,
    };
    Ok((shard, reported))
}

/// Runs one future on an executor on the calling thread, pinned to `cpu` meanwhile if one is given. For tools that need
/// one executor.
pub fn block_on<T: 'static, Main: Future<Output = T> + 'static>(
    cpu: Option<usize>,
    options: UringOptions,
    make: impl FnOnce(UringIo) -> Main,
) -> Result<T, StartError> {
    let locked = locked_plan(1, &options)?;
    let options = options.within(&locked);
    let affinity = Affinity::current()?;
    if let Some(cpu) = cpu {
        check_allowed(cpu, &allowed_cpus()?)?;
    }
    let small_pages = small_pages(&locked);
    let opened = Executor::open(cpu, &options, Arc::default());
    drop(small_pages);
    let result = opened.map(|executor| executor.run(make));
    if cpu.is_some() {
        affinity.restore().map_err(|source| StartError::System {
            what: "restoring the CPU affinity",
            source,
        })?;
    }
    result
}

/// An executor on its thread, primed, with its heartbeat.
struct Executor {
    executor: LocalExecutor,
    io: UringIo,
    /// None if it has no heartbeat.
    watch: Option<Watch>,
}

impl Executor {
    fn open(
        cpu: Option<usize>,
        options: &UringOptions,
        beats: Arc<AtomicU64>,
    ) -> Result<Executor, StartError> {
        // Before this thread is pinned: it may run anywhere.
        let reserve = Reserve::start().map_err(|source| StartError::System {
            what: "starting the thread that prepares memory",
            source,
        })?;
        let executor = make_executor(cpu, options)?;
        let watch = options
            .heartbeat
            .map(|_| Watch::new(Arc::clone(&beats)))
            .transpose()
            .map_err(|source| StartError::System {
                what: "starting the watchdog",
                source,
            })?;
        // Behind the start of threads that should not inherit it.
        slice::lengthen();
        let io = executor.run(prepare(options, beats, reserve))?;
        Ok(Executor {
            executor,
            io,
            watch,
        })
    }

    fn run<T: 'static, Main: Future<Output = T> + 'static>(
        self,
        make: impl FnOnce(UringIo) -> Main,
    ) -> T {
        let Executor {
            executor,
            io,
            watch,
        } = self;
        let (output, quiet) = executor.run(async {
            let output = in_foreground(&io, make(io.clone())).await;
            (output, wait_for_operations(&io).await)
        });
        drop(watch);
        Pool::uninstall();
        if !quiet {
            tracing::warn!(
                operations = io.shared.operation_count(),
                "an executor ended with file operations under way"
            );
            // The kernel may still write to its memory.
            mem::forget(executor);
        }
        output
    }
}

/// glommio's part of an executor. The kernel gives back the locked memory of a ring some time after its end, so that what
/// another process had a moment ago may still be missing.
fn make_executor(cpu: Option<usize>, options: &UringOptions) -> Result<LocalExecutor, StartError> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let end = Instant::now() + LOCKED_MEMORY_WAIT_MAX;
    loop {
        let made = LocalExecutorBuilder::new(placement.clone())
            .ring_depth(options.ring_depth)
            .preempt_timer(options.preempt_timer)
            .io_memory(options.io_memory_bytes)
            .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
            .make();
        let error = match made {
            Ok(executor) => return Ok(executor),
            Err(error) => error,
        };
        if error.raw_os_error() != Some(libc::ENOMEM) {
            return Err(StartError::Executor {
                cpu,
                reason: error.to_string(),
            });
        }
        if Instant::now() >= end {
            return Err(StartError::MemlockTaken {
                limit: locked_limit()?,
                needed: locked_plan(1, options)?.needed_bytes,
            });
        }
        thread::sleep(LOCKED_MEMORY_POLL);
    }
}

/// Where slabs are small because little may be locked, they are not to lie in huge pages, which are counted as a whole.
fn small_pages(locked: &LockedPlan) -> Option<NoHugePages> {
    locked.has_small_slab().then(NoHugePages::begin).flatten()
}

/// Inside a new executor: its `Io`, its heartbeat, its devices.
async fn prepare(
    options: &UringOptions,
    beats: Arc<AtomicU64>,
    reserve: Reserve,
) -> Result<UringIo, StartError> {
    let io = UringIo::new(options, reserve).map_err(|source| StartError::System {
        what: "reading random bytes for a seed",
        source,
    })?;
    io.shared.pool.install();
    if let Some(period) = options.heartbeat {
        let shard = io.clone();
        io.spawn(TaskClass::Foreground, heartbeat(shard, period, beats));
    }
    let (shard, directories) = (io.clone(), options.data_directories.clone());
    in_foreground(&io, async move {
        for directory in directories {
            let opened = async {
                shard.create_dir_all(&directory).await?;
                prime::ensure(&shard.shared, &directory, OpenMode::Write).await
            };
            opened
                .await
                .map_err(|source| StartError::Directory { directory, source })?;
        }
        Ok(())
    })
    .await?;
    Ok(io)
}

/// Bounds every sleep of the executor, counts, and takes over the buffers that came back from other cores.
///
/// glommio's loop takes "the preempt timer fired before anything ran" for "nothing to do" and parks, although tasks are
/// runnable; only an event wakes it then. With this timer armed such a lost turn lasts one period at most, unless it is
/// the heartbeat's own turn that is lost, which the watchdog repairs.
///
/// One beat of a sleeping core costs 60 to 130 us (nine system calls and an interrupt to the other cores), so the period
/// doubles with every beat that finds the core idle.
async fn heartbeat(io: UringIo, period: Duration, beats: Arc<AtomicU64>) {
    let mut stretch = 1;
    loop {
        let due_at = io.now().plus(period * stretch);
        glommio::timer::sleep(period * stretch).await;
        beats.fetch_add(1, Ordering::Relaxed);
        io.shared.counters.beat(io.now().since(due_at));
        io.shared.pool.maintain();
        // Since the last beat, which is one of them.
        let tasks_run = glommio::executor().executor_stats().tasks_executed();
        stretch = if tasks_run <= IDLE_TASKS_MAX {
            (stretch * 2).min(HEARTBEAT_STRETCH_MAX)
        } else {
            1
        };
    }
}

/// Runs `task` detached in the foreground queue and waits for it with a local wake only: the executor's own main task
/// has a join handle, which must not meet a wake from another thread.
async fn in_foreground<T: 'static>(io: &UringIo, task: impl Future<Output = T> + 'static) -> T {
    let done = Oneshot::new();
    let deliver = done.clone();
    io.spawn(TaskClass::Foreground, async move {
        deliver.set(task.await);
    });
    done.take().await
}

/// Waits for file and blocking operations to end, then lets the reactor submit what is queued. False if some did not end.
async fn wait_for_operations(io: &UringIo) -> bool {
    let end = io.now().plus(OPERATIONS_END_MAX);
    while io.shared.operation_count() > 0 && io.now() < end {
        io.sleep(END_POLL).await;
    }
    // Closes of dropped files and sockets are queued; a sleep is a turn of the reactor.
    io.sleep(END_POLL).await;
    io.sleep(END_POLL).await;
    io.shared.operation_count() == 0
}
