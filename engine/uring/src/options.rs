//! Settings of the executors, with the reasons for the defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::locked::LockedPlan;

/// Submission entries per ring. Cancelling more than this many operations in one turn could cancel an unrelated one
/// (the connections closed at once must stay below it), so it is deep.
pub(crate) const RING_DEPTH: usize = 4096;

/// How long a task queue may run before the reactor gets its turn. I/O is submitted only then; a turn costs about
/// 20 us, so 2 ms spends at most 1 % on it.
pub(crate) const PREEMPT_TIMER: Duration = Duration::from_millis(2);

/// Period of the heartbeat of a busy core: the longest time a lost turn can last. An idle core's is up to eight times
/// longer, which keeps the cost of idling below 1 % of a core.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(5);

/// glommio's slab for reads, registered with three rings. Three times this per core counts against RLIMIT_MEMLOCK: where
/// the limit does not allow it, [`crate::LockedPlan`] has a smaller one.
pub(crate) const IO_MEMORY_BYTES: usize = 2 << 20;

/// Idle buffers kept per shard for reuse, in bytes. Buffers in use are the budget of whoever holds them.
pub(crate) const POOL_BYTES_MAX: usize = 64 << 20;

/// Threads per executor for calls that block. Two, so that one slow `syncfs` does not hold up a rename.
pub(crate) const BLOCKING_THREADS: usize = 2;

/// Settings of the executors.
#[derive(Clone, Debug)]
pub struct UringOptions {
    /// Directories that are created if they are not there, and whose devices are primed and tested on every core, before
    /// [`crate::start`] returns. Devices not named here are primed when the first file on them is opened.
    pub data_directories: Vec<PathBuf>,
    /// Submission entries per ring, at least 1024.
    pub ring_depth: usize,
    /// Longest run of a task queue between two turns of the reactor.
    pub preempt_timer: Duration,
    /// Period of the heartbeat on a busy core. `None` only to show what happens without it: the executor may then sleep for ever with
    /// runnable tasks.
    pub heartbeat: Option<Duration>,
    /// Bytes of glommio's slab per executor.
    pub io_memory_bytes: usize,
    /// Bytes of idle buffers kept per shard.
    pub pool_bytes_max: usize,
    /// Executors that run at the same time beside those that are started with these settings, in this process: the limit
    /// of locked memory is for all of them.
    pub other_executors: usize,
}

impl Default for UringOptions {
    fn default() -> Self {
        UringOptions {
            data_directories: Vec::new(),
            ring_depth: RING_DEPTH,
            preempt_timer: PREEMPT_TIMER,
            heartbeat: Some(HEARTBEAT),
            io_memory_bytes: IO_MEMORY_BYTES,
            pool_bytes_max: POOL_BYTES_MAX,
            other_executors: 0,
        }
    }
}

impl UringOptions {
    /// The same, with rings and slabs that the limit of locked memory allows.
    pub(crate) fn within(self, locked: &LockedPlan) -> UringOptions {
        UringOptions {
            ring_depth: locked.ring_depth,
            io_memory_bytes: locked.io_memory_bytes,
            ..self
        }
    }
}
