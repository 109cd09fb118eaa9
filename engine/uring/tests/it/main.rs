//! Tests of the executors, files and sockets on the real kernel.
//!
//! Where io_uring is not available every test says so on standard error and passes.

// Tests start threads, processes and files of their own.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

// The crate's name in the rest of the workspace.
extern crate ringlog_uring as uring;

mod contract;
mod exchange;
mod files;
mod hand_over;
mod leaks;
mod lost_turn;
mod sockets;

use std::fs;
use std::future::Future;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use uring::{UringIo, UringOptions};

/// Runs `make` on an unpinned executor. False, with a word on standard error, where io_uring is not available.
fn on_executor<Main: Future<Output = ()> + 'static>(make: impl FnOnce(UringIo) -> Main) -> bool {
    if !available() {
        return false;
    }
    uring::block_on(None, UringOptions::default(), make).unwrap();
    true
}

fn available() -> bool {
    match uring::available() {
        Ok(()) => true,
        Err(error) => {
            say(&format!("SKIPPED: {error}"));
            false
        }
    }
}

/// Writes a line that shows even when the test passes: the harness captures only the print macros.
fn say(line: &str) {
    let line = format!("{line}\n");
    io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A directory on the disk that holds the build (not tmpfs, where direct I/O means nothing), removed at the end.
struct TestDirectory(PathBuf);

impl TestDirectory {
    fn new(name: &str) -> TestDirectory {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}-{count}", process::id()));
        fs::create_dir_all(&path).unwrap();
        TestDirectory(path)
    }

    fn path(&self) -> PathBuf {
        self.0.clone()
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}
