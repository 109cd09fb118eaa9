//! What the kernel does, found by asking it: whether it has io_uring, and what it counts as locked memory.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::locked::{Charges, RingCharge};
use crate::process::{limit, set_limit};

/// The first kernel that counted rings by their pages, or not at all.
const EXACT_SINCE: (u32, u32) = (5, 12);
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// `PR_SET_THP_DISABLE` and `PR_GET_THP_DISABLE` of linux/prctl.h.
const SET_NO_HUGE_PAGES: libc::c_int = 41;
const GET_NO_HUGE_PAGES: libc::c_int = 42;
/// `IORING_REGISTER_BUFFERS` of linux/io_uring.h.
const REGISTER_BUFFERS: libc::c_uint = 0;
const PAGE_BYTES: usize = 4096;

/// What counts against the limit of locked memory. An error if there is no io_uring.
///
/// The kernel is asked for a ring and for registered memory with no locked memory allowed: what it gives all the same
/// does not count. That holds also where the right to lock memory (CAP_IPC_LOCK) is only that of a container.
pub(crate) fn charges() -> io::Result<Charges> {
    // Told from a refusal for want of memory.
    let ring = setup_ring()?;
    let before = limit(libc::RLIMIT_MEMLOCK)?;
    let none = libc::rlimit {
        rlim_cur: 0,
        ..before
    };
    set_limit(libc::RLIMIT_MEMLOCK, &none)?;
    let ring_is_counted = setup_ring().is_err();
    let registered = !can_register(&ring);
    set_limit(libc::RLIMIT_MEMLOCK, &before)?;
    let rings = match (ring_is_counted, kernel_version() < EXACT_SINCE) {
        (false, _) => RingCharge::None,
        (true, false) => RingCharge::Pages,
        (true, true) => RingCharge::PowerOfTwo,
    };
    Ok(Charges {
        rings,
        registered,
        huge_pages: has_huge_pages(),
    })
}

/// Sets up a ring of one entry.
fn setup_ring() -> io::Result<OwnedFd> {
    /// `struct io_uring_params` is 120 bytes, all of them valid as zero.
    #[repr(C, align(8))]
    struct Parameters([u8; 120]);

    let mut parameters = Parameters([0; 120]);
    // SAFETY: the kernel reads and writes the 120 bytes of `struct io_uring_params`, which `parameters` has.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters) };
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just returned to us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether a page can be registered with a ring.
fn can_register(ring: &OwnedFd) -> bool {
    let mut page = vec![0_u8; PAGE_BYTES];
    let buffer = libc::iovec {
        iov_base: page.as_mut_ptr().cast(),
        iov_len: page.len(),
    };
    // SAFETY: the kernel reads one iovec from a live local. It keeps the page that is named there until the ring is closed,
    // and neither reads nor writes it: no operation is submitted.
    let registered = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            REGISTER_BUFFERS,
            &raw const buffer,
            1,
        )
    };
    registered == 0
}

fn kernel_version() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    parse_version(&release)
}

/// Major and minor number of `6.18.44-x`; what cannot be read counts as old.
fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor),
        _ => (0, 0),
    }
}

/// Whether any memory may be made of huge pages.
fn has_huge_pages() -> bool {
    let setting = fs::read_to_string(HUGE_PAGES).unwrap_or_default();
    setting.contains("[always]")
}

/// While it lives, memory that is touched for the first time is made of small pages.
pub(crate) struct NoHugePages(());

impl NoHugePages {
    /// `None` where it is so anyway, or cannot be.
    pub(crate) fn begin() -> Option<NoHugePages> {
        // SAFETY: neither call takes a pointer.
        let begun = unsafe {
            libc::prctl(GET_NO_HUGE_PAGES, 0, 0, 0, 0) == 0
                && libc::prctl(SET_NO_HUGE_PAGES, 1, 0, 0, 0) == 0
        };
        begun.then_some(NoHugePages(()))
    }
}

impl Drop for NoHugePages {
    fn drop(&mut self) {
        // SAFETY: the call takes no pointer.
        if unsafe { libc::prctl(SET_NO_HUGE_PAGES, 0, 0, 0, 0) } != 0 {
            tracing::warn!(error = %io::Error::last_os_error(), "this process has no huge pages");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn kernel_versions() {
        for (release, version) in [
            ("6.18.44-fc-v857\n", (6, 18)),
            ("5.4.0", (5, 4)),
            ("5.12-rc1", (5, 12)),
            ("", (0, 0)),
        ] {
            assert_eq!(parse_version(release), version, "{release}");
        }
    }
}
