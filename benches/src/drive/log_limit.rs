//! What a device does at best for a flushed log: the writes of a broker without the broker.
//!
//! Each record goes to a journal first, in large groups, each durable when its write returns; then to a segment, in pieces
//! that somebody flushes now and then. How fast that is depends much on whether the segments' blocks are new to the device.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::limits::{AlignedBlock, FILE_BYTES};
use super::{DriveError, Rig};
use crate::workloads::{Figures, Metric};

/// A commit group of the closed loop, and how many are written at once.
const GROUP_BYTES: u64 = 688 << 10;
const GROUPS_IN_FLIGHT: usize = 3;
/// A piece of a segment, and how many are written at once.
const PIECE_BYTES: u64 = 256 << 10;
const SEGMENT_WRITERS: usize = 4;
/// A segment; it is flushed after each of these parts.
const SEGMENT_BYTES: u64 = 128 << 20;
const FLUSH_BYTES: u64 = 32 << 20;
/// How long a writer waits for the journal to be ahead again.
const PAUSE: Duration = Duration::from_micros(50);

/// What one kind of log reaches.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogLimit {
    /// Whether segments are new files, or files that were written before.
    pub is_new: bool,
    /// Bytes of records per second, and latencies of groups.
    pub figures: Figures,
}

impl Rig {
    /// Measures both kinds for so long. `journal` is a file of [`FILE_BYTES`] that was written before.
    pub(super) fn log_limits(
        &self,
        journal: &Path,
        time: Duration,
    ) -> Result<Vec<LogLimit>, DriveError> {
        let directory = self.work.join("segments");
        super::server::empty(&directory)?;
        let measured = [true, false].map(|is_new| {
            self.stop.check()?;
            let log = Log::new(&directory, is_new);
            let measured = log.and_then(|log| log.run(journal, time));
            measured.map_err(DriveError::io(directory.display().to_string()))
        });
        // What is left is removed with the rig.
        drop(std::fs::remove_dir_all(&directory));
        measured.into_iter().collect()
    }
}

/// A log that is written.
struct Log<'a> {
    directory: &'a Path,
    is_new: bool,
    /// Bytes that groups were begun for.
    begun: AtomicU64,
    /// Bytes in the journal, and on their way to segments.
    durable: AtomicU64,
    taken: AtomicU64,
    is_over: AtomicBool,
}

impl Log<'_> {
    fn new(directory: &Path, is_new: bool) -> io::Result<Log<'_>> {
        let log = Log {
            directory,
            is_new,
            begun: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        };
        if !is_new {
            for writer in 0..SEGMENT_WRITERS {
                let file = direct(&log.segment(writer), 0)?;
                let block = AlignedBlock::new(PIECE_BYTES as usize);
                for position in (0..SEGMENT_BYTES).step_by(PIECE_BYTES as usize) {
                    file.write_all_at(block.bytes(), position)?;
                }
                file.sync_all()?;
            }
        }
        Ok(log)
    }

    fn segment(&self, writer: usize) -> PathBuf {
        self.directory.join(writer.to_string())
    }

    fn run(&self, journal: &Path, time: Duration) -> io::Result<LogLimit> {
        let journal = direct(journal, libc::O_DSYNC)?;
        let started = Instant::now();
        let (times, written) = thread::scope(|scope| {
            let groups: Vec<_> = (0..GROUPS_IN_FLIGHT)
                .map(|_| scope.spawn(|| self.write_groups(&journal)))
                .collect();
            let pieces: Vec<_> = (0..SEGMENT_WRITERS)
                .map(|writer| scope.spawn(move || self.write_pieces(writer)))
                .collect();
            thread::sleep(time);
            let written =
                self.taken.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
            self.is_over.store(true, Ordering::Relaxed);
            let mut times = Vec::new();
            for group in groups {
                times.extend(group.join().unwrap_or_else(|_| Err(panicked()))?);
            }
            for piece in pieces {
                piece.join().unwrap_or_else(|_| Err(panicked()))?;
            }
            io::Result::Ok((times, written))
        })?;
        let mut figures = super::limits::percentiles(times);
        figures.insert(Metric::MbPerSecond, written / 1e6);
        Ok(LogLimit {
            is_new: self.is_new,
            figures,
        })
    }

    /// Groups into the journal, not further ahead of the segments than a journal may be. Returns what each took, in ms.
    fn write_groups(&self, journal: &File) -> io::Result<Vec<f64>> {
        let block = AlignedBlock::new(GROUP_BYTES as usize);
        let mut times = Vec::new();
        while !self.is_over.load(Ordering::Relaxed) {
            if self.begun.load(Ordering::Relaxed)
                > self.taken.load(Ordering::Relaxed) + FILE_BYTES as u64 / 2
            {
                thread::sleep(PAUSE);
                continue;
            }
            let begun = self.begun.fetch_add(GROUP_BYTES, Ordering::Relaxed);
            let places = FILE_BYTES as u64 / GROUP_BYTES;
            let before = Instant::now();
            journal.write_all_at(block.bytes(), begun / GROUP_BYTES % places * GROUP_BYTES)?;
            times.push(before.elapsed().as_secs_f64() * 1e3);
            self.durable.fetch_add(GROUP_BYTES, Ordering::Relaxed);
        }
        Ok(times)
    }

    /// As many bytes into segments, one after the other.
    fn write_pieces(&self, writer: usize) -> io::Result<()> {
        let block = AlignedBlock::new(PIECE_BYTES as usize);
        let path = self.segment(writer);
        let mut file = self.begin_segment(&path)?;
        let mut position = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let durable = self.durable.load(Ordering::Relaxed);
            let taken = self.taken.fetch_add(PIECE_BYTES, Ordering::Relaxed);
            if taken + PIECE_BYTES > durable {
                self.taken.fetch_sub(PIECE_BYTES, Ordering::Relaxed);
                thread::sleep(PAUSE);
                continue;
            }
            if position == SEGMENT_BYTES {
                file = self.begin_segment(&path)?;
                position = 0;
            }
            file.write_all_at(block.bytes(), position)?;
            position += PIECE_BYTES;
            if position.is_multiple_of(FLUSH_BYTES) {
                file.sync_data()?;
            }
        }
        Ok(())
    }

    /// The file of the next segment, allocated. A new one takes the place of the one before.
    fn begin_segment(&self, path: &Path) -> io::Result<File> {
        if !self.is_new {
            return direct(path, 0);
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let allocate = Command::new("fallocate")
            .args(["--length", &SEGMENT_BYTES.to_string()])
            .arg(path)
            .status()?;
        if !allocate.success() {
            return Err(io::Error::other("fallocate failed"));
        }
        direct(path, 0)
    }
}

fn direct(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_DIRECT | flags)
        .open(path)
}

fn panicked() -> io::Error {
    io::Error::other("a writer panicked")
}
