//! What the allocator keeps of memory that nobody uses, and having it give that back.
//!
//! It keeps freed pages for long (`.cargo/config.toml`), because they are used again at the rate of the traffic. After a
//! burst of large requests they are not.

use std::ffi::{CStr, c_void};
use std::io;
use std::mem;
use std::ptr;

/// Every arena at once: jemalloc's MALLCTL_ARENAS_ALL.
const PURGE_ALL: &CStr = c"arena.4096.purge";

/// A page of the allocator.
const PAGE_BYTES: usize = 4096;

/// Bytes of memory that nobody uses and the allocator keeps. Takes its locks for a moment: now and then, and not on a
/// shard's thread.
pub fn unused_bytes() -> io::Result<usize> {
    refresh()?;
    Ok(read(c"stats.arenas.4096.pdirty")? * PAGE_BYTES)
}

/// Gives every page that nobody uses back to the kernel.
pub fn give_back() -> io::Result<()> {
    // SAFETY: this control takes and returns nothing.
    let error = unsafe {
        tikv_jemalloc_sys::mallctl(
            PURGE_ALL.as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            0,
        )
    };
    checked(error)
}

/// The numbers are those of the last refresh.
fn refresh() -> io::Result<()> {
    let mut epoch: u64 = 1;
    // SAFETY: `epoch` is a 64-bit number that is read during the call.
    let error = unsafe {
        tikv_jemalloc_sys::mallctl(
            c"epoch".as_ptr(),
            ptr::null_mut(),
            ptr::null_mut(),
            (&raw mut epoch).cast::<c_void>(),
            mem::size_of::<u64>(),
        )
    };
    checked(error)
}

fn read(name: &CStr) -> io::Result<usize> {
    let mut value = 0_usize;
    let mut size = mem::size_of::<usize>();
    // SAFETY: the controls read here are of type size_t; `value` and `size` outlive the call.
    let error = unsafe {
        tikv_jemalloc_sys::mallctl(
            name.as_ptr(),
            (&raw mut value).cast::<c_void>(),
            &raw mut size,
            ptr::null_mut(),
            0,
        )
    };
    checked(error)?;
    Ok(value)
}

fn checked(error: i32) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_answers() {
        unused_bytes().unwrap();
        give_back().unwrap();
    }
}
