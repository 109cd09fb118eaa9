//! Small files that are read and replaced as a whole: those that name a data directory and its owner.
//!
//! Invariant: whatever happens in between, a power cut included, a reader finds the old bytes or the new ones. What it
//! finds may still be lost with the power, if the process that wrote it was killed: [`make_durable`] before anything is
//! built on it.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::buffer::{Buffer, align_up};
use crate::file::{File, OpenMode};
use crate::io::Io;

/// Longest small file.
pub const SMALL_FILE_BYTES_MAX: usize = 64 << 10;

/// The bytes of a small file. `InvalidData` if it is larger than [`SMALL_FILE_BYTES_MAX`].
pub async fn read<I: Io>(io: &I, path: &Path) -> io::Result<Bytes> {
    let file = io.open(path, OpenMode::Read).await?;
    let bytes = file.read_at(0, SMALL_FILE_BYTES_MAX + 1).await?;
    file.close().await?;
    if bytes.len() > SMALL_FILE_BYTES_MAX {
        return Err(too_large(io::ErrorKind::InvalidData));
    }
    Ok(bytes)
}

/// Replaces a small file, durably. After an error it is the old or the new one; beside it may lie what was to replace
/// it, which the next call takes over.
pub async fn replace<I: Io>(io: &I, path: &Path, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() > SMALL_FILE_BYTES_MAX {
        return Err(too_large(io::ErrorKind::InvalidInput));
    }
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let temporary = temporary(path)?;
    let file = io.open(&temporary, OpenMode::Write).await?;
    if !bytes.is_empty() {
        let len = align_up(bytes.len());
        let mut buffer = io.buffer(len);
        buffer.truncate(len);
        buffer.as_mut()[..bytes.len()].copy_from_slice(bytes);
        buffer.as_mut()[bytes.len()..].fill(0);
        file.write_at(buffer.freeze(), 0).await?;
    }
    // Also what an earlier call that did not end has left there.
    file.truncate(bytes.len() as u64).await?;
    file.sync_data().await?;
    file.close().await?;
    io.rename(&temporary, path).await?;
    io.sync_dir(parent).await
}

/// Makes a small file durable that may have been written by a process that did not come so far, or by another program.
pub async fn make_durable<I: Io>(io: &I, path: &Path) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let file = io.open(path, OpenMode::Read).await?;
    file.sync_data().await?;
    file.close().await?;
    io.sync_dir(parent).await
}

fn too_large(kind: io::ErrorKind) -> io::Error {
    io::Error::new(
        kind,
        format!("the file is larger than {SMALL_FILE_BYTES_MAX} bytes"),
    )
}

/// `name.tmp` beside `name`.
fn temporary(path: &Path) -> io::Result<PathBuf> {
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    name.push(".tmp");
    Ok(path.with_file_name(name))
}
