//! Priming: teaching glommio, per core and device, to leave its polling ring alone.
//!
//! glommio decides by a trial read of the first file it opens on a device whether the device can be polled. On an empty
//! file the kernel answers that read without asking the device, glommio concludes "yes", and on a device that cannot be
//! polled every later read fails with EOPNOTSUPP. If the first file is open for writing only, the trial fails and the
//! interrupt-driven ring is used for good. That ring is wanted anyway: polling keeps the core busy while I/O is under way.
//!
//! So the first open on each device and core is ours, followed by a write and a read that prove the point.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::rc::Rc;
use std::time::Duration;

use glommio::io::{DmaFile, OpenOptions};
use runtime::{ALIGNMENT, OpenMode};

use crate::directory;
use crate::error::io_error;
use crate::file::open_direct;
use crate::once_woken::once_woken;
use crate::uring_io::Shared;

/// How long a second open waits between looks at a device that is being primed.
const PRIMING_POLL: Duration = Duration::from_millis(1);

/// A pattern that no empty or stale block has by chance.
const PATTERN: [u8; 8] = *b"ringlog?";

/// What is known about a device on this core.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// A task is at it.
    Priming,
    /// Files on it can be opened.
    Primed,
}

/// Makes sure that the device of `directory` is primed on this core.
pub(crate) async fn ensure(
    shared: &Rc<Shared>,
    directory: &Path,
    mode: OpenMode,
) -> io::Result<()> {
    let device = fs::metadata(directory)?.dev();
    loop {
        let known = shared.devices.borrow().get(&device).copied();
        match known {
            Some(Device::Primed) => return Ok(()),
            Some(Device::Priming) => glommio::timer::sleep(PRIMING_POLL).await,
            None => break,
        }
    }
    shared.devices.borrow_mut().insert(device, Device::Priming);
    match prime(shared, directory).await {
        Ok(()) => {
            shared.devices.borrow_mut().insert(device, Device::Primed);
            Ok(())
        }
        Err(error) => {
            shared.devices.borrow_mut().remove(&device);
            // A directory that cannot be written to can still hold files to be read: they have data, so that glommio's
            // own trial tells the truth.
            let read_only = matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            );
            if read_only && mode == OpenMode::Read {
                return Ok(());
            }
            Err(error)
        }
    }
}

async fn prime(shared: &Rc<Shared>, directory: &Path) -> io::Result<()> {
    match exercise(shared, directory, None).await {
        // No O_TMPFILE on this file system.
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)
            ) =>
        {
            let name = format!(".probe-{}-{:p}", process::id(), Rc::as_ptr(shared));
            let path = directory.join(name);
            let result = exercise(shared, directory, Some(path.clone())).await;
            let removed = directory::remove_file(shared, &path).await;
            result.and(removed)
        }
        other => other,
    }
}

/// Opens for writing only, then writes and reads a block. `path` is a file to create, or none for unnamed files.
async fn exercise(shared: &Rc<Shared>, directory: &Path, path: Option<PathBuf>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    match &path {
        Some(_) => options.create(true).truncate(true),
        None => options.tmpfile(true),
    };
    let path = path.as_deref().unwrap_or(directory);
    let write_only = open_direct(shared, &options, path).await?;
    close(shared, write_only).await?;

    let file = open_direct(shared, options.read(true), path).await?;
    let tested = test_block(shared, &file).await;
    close(shared, file).await?;
    tested?;

    let polled = glommio::executor().io_stats().poll_ring;
    if polled.file_reads().0 + polled.file_writes().0 > 0 {
        return Err(io::Error::other(format!(
            "files in {} are read through the polling ring in spite of priming",
            directory.display()
        )));
    }
    Ok(())
}

async fn test_block(shared: &Rc<Shared>, file: &DmaFile) -> io::Result<()> {
    let mut block = glommio::allocate_dma_buffer(ALIGNMENT);
    // SAFETY: the buffer is ALIGNMENT bytes long; written through the pointer because it is not initialised yet.
    unsafe { block.as_mut_ptr().write_bytes(0, ALIGNMENT) };
    for chunk in block.as_bytes_mut().chunks_exact_mut(PATTERN.len()) {
        chunk.copy_from_slice(&PATTERN);
    }
    let operation = shared.operation();
    let written = once_woken(file.write_at(block, 0)).await;
    operation.end();
    let operation = shared.operation();
    let read = once_woken(file.read_at_aligned(0, ALIGNMENT)).await;
    operation.end();
    let written = match written.map_err(io_error) {
        // The open for writing only has primed the device. The proof has to be done without: a broker starts on a full
        // disk too, to empty it.
        Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
        written => written?,
    };
    let read = read.map_err(io_error)?;
    let same = read
        .chunks_exact(PATTERN.len())
        .all(|chunk| chunk == PATTERN);
    if written != ALIGNMENT || read.len() != ALIGNMENT || !same {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "a block written with direct I/O did not read back ({written} bytes written, {} read)",
                read.len()
            ),
        ));
    }
    Ok(())
}

async fn close(shared: &Rc<Shared>, file: DmaFile) -> io::Result<()> {
    let operation = shared.operation();
    let result = once_woken(file.close()).await;
    operation.end();
    result.map_err(io_error)
}
