//! Errors: why executors do not start, and glommio's errors as `io::Error`.

use std::io;
use std::path::PathBuf;

use glommio::GlommioError;

/// Why executors could not be started. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel has no io_uring, or it is forbidden here.
    #[error(
        "io_uring is not usable ({0}): it needs Linux 5.8 or newer, sysctl kernel.io_uring_disabled=0, and a container \
         profile that allows io_uring_setup, io_uring_enter and io_uring_register"
    )]
    NoUring(io::Error),
    /// RLIMIT_MEMLOCK is too small for the rings.
    #[error(
        "the limit of locked memory is {} KiB; the rings of {executors} cores need {} KiB, and {} KiB is best: raise it \
         with `ulimit -l {}`, LimitMEMLOCK= (systemd) or --ulimit memlock= (containers), or run on fewer cores",
        .limit / 1024, .needed.div_ceil(1024), .wanted.div_ceil(1024), .wanted.div_ceil(1024)
    )]
    Memlock {
        /// The hard limit, in bytes.
        limit: u64,
        /// How many have rings of their own.
        executors: usize,
        /// What the smallest rings need, in bytes.
        needed: u64,
        /// What the best ones need, in bytes.
        wanted: u64,
    },
    /// There is less locked memory than the limit says: others of the same user have some.
    #[error(
        "the limit of locked memory is {} KiB and {} KiB are needed here, but other processes of this user have taken \
         too much of it: raise it with `ulimit -l`, LimitMEMLOCK= (systemd) or --ulimit memlock= (containers)",
        .limit / 1024, .needed.div_ceil(1024)
    )]
    MemlockTaken {
        /// The limit, in bytes.
        limit: u64,
        /// What this process needs, in bytes.
        needed: u64,
    },
    /// A CPU list that does not parse.
    #[error("not a CPU list: {0:?} (write 0 or 0,1 or 0-3 or all)")]
    CpuList(String),
    /// A CPU that this process may not run on.
    #[error("CPU {cpu} is not available to this process (allowed: {allowed:?})")]
    CpuNotAllowed {
        /// The CPU asked for.
        cpu: usize,
        /// The process's affinity mask.
        allowed: Vec<usize>,
    },
    /// A system call at start failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// glommio could not make an executor.
    #[error("executor for CPU {cpu:?}: {reason}")]
    Executor {
        /// The CPU, if the executor is pinned.
        cpu: Option<usize>,
        /// glommio's words.
        reason: String,
    },
    /// A data directory does not work with direct I/O.
    #[error("data directory {directory:?}: {source}")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What went wrong, and what to do.
        source: io::Error,
    },
    /// A shard's thread ended before it was ready.
    #[error("the thread of CPU {0} ended during start")]
    ThreadEnded(usize),
}

/// glommio's error with the operating system's number kept, which glommio's own conversion loses.
///
/// A cancelled operation (glommio reports it as a time-out) has an unknown outcome: it may have been performed.
pub(crate) fn io_error(error: GlommioError<()>) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ETIMEDOUT | libc::ECANCELED) => io::Error::new(
            io::ErrorKind::TimedOut,
            "the operation was cancelled and its outcome is unknown",
        ),
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.into(),
    }
}
