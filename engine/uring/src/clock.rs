//! The kernel's clocks, read without a system call (vdso).

use std::mem;

use model::MonotonicTime;

/// Time since some moment, which never jumps.
pub(crate) fn monotonic() -> MonotonicTime {
    MonotonicTime(nanos(&read(libc::CLOCK_MONOTONIC)))
}

/// Nanoseconds since 1970, which jump when somebody sets the clock.
pub(crate) fn realtime_nanos() -> u64 {
    nanos(&read(libc::CLOCK_REALTIME))
}

/// A kernel time in nanoseconds.
pub(crate) fn nanos(time: &libc::timespec) -> u64 {
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    // SAFETY: all-zero is a valid timespec, and the call writes one timespec to a live local. The two clocks exist on
    // every Linux, so it cannot fail.
    unsafe {
        let mut time: libc::timespec = mem::zeroed();
        libc::clock_gettime(clock, &mut time);
        time
    }
}
