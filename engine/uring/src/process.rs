//! What the process needs before its first executor.

use std::io;
use std::mem;
use std::sync::Once;

use crate::error::StartError;

/// glommio refuses to start below this.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

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

/// Whether executors can run here: io_uring is there and the locked-memory limit suffices.
pub fn available() -> Result<(), StartError> {
    prepare_process();
    probe_uring().map_err(StartError::NoUring)?;
    let memlock = limit(libc::RLIMIT_MEMLOCK).map_err(|source| StartError::System {
        what: "reading RLIMIT_MEMLOCK",
        source,
    })?;
    if memlock.rlim_cur < MEMLOCK_BYTES_MIN {
        return Err(StartError::Memlock {
            limit: memlock.rlim_cur,
            needed: MEMLOCK_BYTES_MIN,
        });
    }
    Ok(())
}

/// Sets up a ring of one entry and closes it.
fn probe_uring() -> io::Result<()> {
    /// `struct io_uring_params` is 120 bytes, all of them valid as zero.
    #[repr(C, align(8))]
    struct Parameters([u8; 120]);

    let mut parameters = Parameters([0; 120]);
    // SAFETY: the kernel reads and writes the 120 bytes of `struct io_uring_params`, which `parameters` has.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned to us and nobody else knows it.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
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
    // SAFETY: the call reads one rlimit from a live local.
    match unsafe { libc::setrlimit(resource, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
