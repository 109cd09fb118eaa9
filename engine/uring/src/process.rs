//! What the process needs before its first executor.

use std::io;
use std::mem;
use std::sync::{Once, OnceLock};

use crate::error::StartError;
use crate::locked::{Charges, LockedPlan};
use crate::options::UringOptions;
use crate::probe;

/// `MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED` of linux/membarrier.h.
const MEMBARRIER_REGISTER_PRIVATE_EXPEDITED: libc::c_int = 1 << 4;

/// Prepares the process: call it first in `main`, before there are threads. Harmless when called again.
///
/// Registers membarrier (with threads running, registration makes the first sleep of the process take 30-80 ms) and
/// raises the soft limits of locked memory and of descriptors to the hard ones.
pub fn prepare_process() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: registration takes no pointers and only changes how later membarrier calls behave.
        let registered = unsafe {
            libc::syscall(
                libc::SYS_membarrier,
                MEMBARRIER_REGISTER_PRIVATE_EXPEDITED,
                0,
                0,
            )
        };
        if registered != 0 {
            tracing::debug!(error = %io::Error::last_os_error(), "membarrier is not available");
        }
        for resource in [libc::RLIMIT_MEMLOCK, libc::RLIMIT_NOFILE] {
            if let Err(error) = raise_to_hard_limit(resource) {
                tracing::debug!(%error, "a resource limit stays as it is");
            }
        }
    });
}

/// Whether executors can run here at all: io_uring is there, and the limit of locked memory is enough for one.
pub fn available() -> Result<(), StartError> {
    locked_plan(1, &UringOptions::default()).map(drop)
}

/// How large the rings of so many executors, and of `options.other_executors`, may be here below the limit of locked memory.
/// Who may raise the limit has it raised.
pub fn locked_plan(executors: usize, options: &UringOptions) -> Result<LockedPlan, StartError> {
    prepare_process();
    let charges = charges()
        .as_ref()
        .map_err(|code| StartError::NoUring(io::Error::from_raw_os_error(*code)))?;
    let executors = executors + options.other_executors;
    let wanted = LockedPlan::new(u64::MAX, executors, *charges, options)?.wanted_bytes;
    let mut limit = locked_limit()?;
    if limit < wanted && raise_hard_limit(libc::RLIMIT_MEMLOCK, wanted).is_ok() {
        limit = wanted;
    }
    LockedPlan::new(limit, executors, *charges, options)
}

/// The limit of locked memory in bytes.
pub fn locked_limit() -> Result<u64, StartError> {
    let limit = limit(libc::RLIMIT_MEMLOCK).map_err(|source| StartError::System {
        what: "reading RLIMIT_MEMLOCK",
        source,
    })?;
    Ok(limit.rlim_cur)
}

/// What the kernel counts against the limit; the error's number where it has no io_uring for us. Asked once, because the
/// limit is lowered meanwhile.
fn charges() -> &'static Result<Charges, i32> {
    static CHARGES: OnceLock<Result<Charges, i32>> = OnceLock::new();
    CHARGES.get_or_init(|| {
        probe::charges().map_err(|error| error.raw_os_error().unwrap_or(libc::ENOSYS))
    })
}

pub(crate) fn limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    // SAFETY: all-zero is a valid rlimit, and the call writes one rlimit to a live local.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        match libc::getrlimit(resource, &mut limit) {
            0 => Ok(limit),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn raise_to_hard_limit(resource: libc::__rlimit_resource_t) -> io::Result<()> {
    let mut limit = limit(resource)?;
    limit.rlim_cur = limit.rlim_max;
    set_limit(resource, &limit)
}

/// Needs CAP_SYS_RESOURCE.
fn raise_hard_limit(resource: libc::__rlimit_resource_t, to: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: to,
        rlim_max: to,
    };
    set_limit(resource, &limit)
}

pub(crate) fn set_limit(
    resource: libc::__rlimit_resource_t,
    limit: &libc::rlimit,
) -> io::Result<()> {
    // SAFETY: the call reads one rlimit from a live local.
    match unsafe { libc::setrlimit(resource, limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
