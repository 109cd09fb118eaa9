//! What only trying tells about a disk: direct I/O, and how long a flush takes. Leaves nothing behind.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{major, minor, statvfs};

/// Flushes that are timed at most, and for how long at most.
const FLUSHES_MAX: usize = 200;
const FLUSHING_MAX: Duration = Duration::from_secs(2);
/// What is written before each: one block, as a small commit group is.
const BLOCK_BYTES: usize = 4096;
/// Blocks of the test file, which are written round and round as a journal's are.
const BLOCKS: u64 = 64;

/// Times of writing a block and flushing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushTimes {
    /// The shortest: what else runs on the machine can only make one longer.
    pub best: Duration,
    /// Half are shorter.
    pub p50: Duration,
    /// One in a hundred is longer.
    pub p99: Duration,
}

/// What was found out by trying.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Nothing was tried.
    NotTried,
    /// The directory cannot be written to.
    NotWritable(String),
    /// Files cannot be opened for direct I/O, or not written.
    NoDirectIo(String),
    /// Both work.
    Works(FlushTimes),
}

/// A data directory and its disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The directory, or the nearest one above it that is there.
    pub directory: PathBuf,
    /// Device numbers.
    pub device: (u32, u32),
    /// Whether a broker has been here: its journals need no more space.
    pub has_data: bool,
    /// Bytes free for this user.
    pub free_bytes: u64,
    /// What trying told.
    pub trial: Trial,
}

/// Looks at the disk of a data directory, which need not be there yet.
pub fn examine(data_dir: &Path, may_write: bool) -> io::Result<Disk> {
    let wanted = std::path::absolute(data_dir)?;
    let mut there = wanted.ancestors().filter(|path| path.is_dir());
    let directory = there.next().unwrap_or(Path::new("/")).canonicalize()?;
    let device = directory.metadata()?.dev();
    let space = statvfs(&directory)?;
    let trial = match may_write {
        true => try_out(&directory),
        false => Trial::NotTried,
    };
    Ok(Disk {
        device: (major(device), minor(device)),
        has_data: wanted.join("meta.properties").exists(),
        free_bytes: space.f_bavail.saturating_mul(space.f_frsize),
        trial,
        directory,
    })
}

fn try_out(directory: &Path) -> Trial {
    let buffered = match unnamed_file(directory, 0) {
        Ok(file) => file,
        Err(error) => return Trial::NotWritable(error.to_string()),
    };
    drop(buffered);
    let timed = unnamed_file(directory, libc::O_DIRECT).and_then(|file| time_flushes(&file));
    match timed {
        Ok(times) => Trial::Works(times),
        Err(error) => Trial::NoDirectIo(error.to_string()),
    }
}

/// A file that is gone when it is closed.
fn unnamed_file(directory: &Path, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true);
    let unnamed = options
        .clone()
        .custom_flags(libc::O_TMPFILE | flags)
        .open(directory);
    match unnamed.as_ref().map_err(io::Error::raw_os_error) {
        // No such files on this file system.
        Err(Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)) => {
            let path = directory.join(format!(".ringlog-doctor-{}", std::process::id()));
            let opened = options.create_new(true).custom_flags(flags).open(&path);
            match &opened {
                Ok(_) => std::fs::remove_file(&path)?,
                // A file that could not be opened as asked may be there all the same.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    std::fs::remove_file(&path)?;
                }
                Err(_) => {}
            }
            opened
        }
        _ => unnamed,
    }
}

fn time_flushes(file: &File) -> io::Result<FlushTimes> {
    let memory = vec![b'r'; 2 * BLOCK_BYTES];
    let aligned = memory.as_ptr().align_offset(BLOCK_BYTES);
    let block = &memory[aligned..aligned + BLOCK_BYTES];
    let write = |number: u64| file.write_all_at(block, number % BLOCKS * BLOCK_BYTES as u64);
    // The blocks are there before the clock runs, as a journal's are.
    (0..BLOCKS).try_for_each(write)?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(FLUSHES_MAX);
    let end = Instant::now() + FLUSHING_MAX;
    for number in (0..).take(FLUSHES_MAX) {
        let begun = Instant::now();
        if begun >= end && !times.is_empty() {
            break;
        }
        write(number)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let at = |hundredth: usize| times[(times.len() - 1) * hundredth / 100];
    Ok(FlushTimes {
        best: at(0),
        p50: at(50),
        p99: at(99),
    })
}
