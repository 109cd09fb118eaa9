//! The scheduler's slice of an executor's thread: long, so that kernel workers do not wait for it.
//!
//! A durable write to a device with a volatile cache ends in a kernel worker, on whatever core the device interrupts.
//! Linux (EEVDF, from 6.12 on) lets a running thread finish its slice before a worker that has just become runnable gets
//! the core, unless the worker's slice is the shorter one. With the same slices, a busy executor on that core makes each
//! flush wait for the next tick: 2.9 ms instead of 0.3 ms were measured. With a long slice it gives way at once, and
//! loses nothing by it: workers run for microseconds. Older kernels ignore the slice.

use std::io;
use std::mem;

/// The longest slice Linux accepts.
const SLICE_NANOS: u64 = 100_000_000;

/// Gives this thread the long slice, and the threads that it starts from now on. Where it may not, all goes on without.
pub(crate) fn lengthen() {
    if let Err(error) = try_lengthen() {
        tracing::debug!(%error, "kernel workers may wait for this thread: its slice cannot be set");
    }
}

fn try_lengthen() -> io::Result<()> {
    let mut attributes = attributes()?;
    let is_fair = [libc::SCHED_OTHER, libc::SCHED_BATCH]
        .iter()
        .any(|policy| attributes.sched_policy == policy.unsigned_abs());
    // Somebody has given it a policy of another kind: that one knows no slices.
    if !is_fair {
        return Ok(());
    }
    attributes.sched_runtime = SLICE_NANOS;
    // SAFETY: the structure is whole, and its `size` says how long it is; the kernel only reads it.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How this thread is scheduled.
fn attributes() -> io::Result<libc::sched_attr> {
    let size = mem::size_of::<libc::sched_attr>();
    // SAFETY: all-zero is a valid value, and the kernel writes at most `size` bytes to the live local.
    unsafe {
        let mut attributes: libc::sched_attr = mem::zeroed();
        match libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) {
            0 => Ok(attributes),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_slice_changes() {
        std::thread::spawn(|| {
            let before = attributes().unwrap();
            lengthen();
            let after = attributes().unwrap();
            assert_eq!(after.sched_policy, before.sched_policy);
            assert_eq!(after.sched_nice, before.sched_nice);
            // Kernels without slices tell 0.
            assert!([0, SLICE_NANOS].contains(&after.sched_runtime));
        })
        .join()
        .unwrap();
    }
}
