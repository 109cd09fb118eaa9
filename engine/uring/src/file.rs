//! Files under direct I/O.
//!
//! Built on four operations of glommio's `DmaFile` that are sound: open, write of shared memory, aligned read, fdatasync,
//! fallocate and close. Lengths come from fstat on the descriptor, because glommio's come from the path.
//!
//! Invariants: a write that was accepted in part is an error; a read never asks for bytes behind the end of the file; a
//! read's memory is copied at once, so that glommio's slab is not held.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use glommio::io::{DmaFile, OpenOptions};
use runtime::{ALIGNMENT, File, OpenMode};

use crate::blocking::blocking;
use crate::buffer::{UringBuffer, UringFrozen, WriteView};
use crate::directory::parent_of;
use crate::error::io_error;
use crate::once_woken::once_woken;
use crate::prime;
use crate::uring_io::Shared;

/// Bytes of one read operation. Longer reads are several, one after the other.
const READ_BYTES_MAX: usize = 4 << 20;

/// An open file of one shard.
pub struct UringFile {
    file: DmaFile,
    shared: Rc<Shared>,
}

impl UringFile {
    pub(crate) async fn open(
        shared: &Rc<Shared>,
        path: &Path,
        mode: OpenMode,
    ) -> io::Result<UringFile> {
        prime::ensure(shared, parent_of(path), mode).await?;
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::Write => options.read(true).write(true).create(true),
            OpenMode::WriteDurable => options
                .read(true)
                .write(true)
                .create(true)
                .custom_flags(libc::O_DSYNC),
        };
        let file = open_direct(shared, &options, path).await?;
        Ok(UringFile {
            file,
            shared: Rc::clone(shared),
        })
    }

    /// Reads from `position` to `end`, which is not behind the end of the file, into `bytes`. False if the file turned
    /// out to end earlier.
    async fn read_part(&self, position: u64, end: u64, bytes: &mut BytesMut) -> io::Result<bool> {
        let alignment = ALIGNMENT as u64;
        let start = position - position % alignment;
        let len = (end - start).next_multiple_of(alignment) as usize;
        let operation = self.shared.operation();
        let result = once_woken(self.file.read_at_aligned(start, len)).await;
        operation.end();
        let read = result.map_err(io_error)?;
        let skip = (position - start) as usize;
        let wanted = (end - start) as usize;
        let available = read.len().min(wanted);
        bytes.extend_from_slice(read.get(skip..available).unwrap_or_default());
        Ok(available == wanted)
    }
}

/// Opens with O_DIRECT, or says what is wrong with the file system.
pub(crate) async fn open_direct(
    shared: &Shared,
    options: &OpenOptions,
    path: &Path,
) -> io::Result<DmaFile> {
    let operation = shared.operation();
    let result = once_woken(options.dma_open(path)).await;
    operation.end();
    result.map_err(io_error).map_err(|error| {
        if error.raw_os_error() != Some(libc::EINVAL) {
            return error;
        }
        io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "{} cannot be opened for direct I/O (O_DIRECT): use a data directory on ext4 or xfs",
                path.display()
            ),
        )
    })
}

impl File for UringFile {
    type Buffer = UringBuffer;

    async fn write_at(&self, data: UringFrozen, position: u64) -> io::Result<()> {
        let len = data.as_ref().len();
        if len == 0 || !len.is_multiple_of(ALIGNMENT) || !position.is_multiple_of(ALIGNMENT as u64)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a write of {len} bytes at {position} is not aligned to {ALIGNMENT}"),
            ));
        }
        let view = WriteView::new(data);
        let operation = self.shared.operation();
        let result = once_woken(self.file.write_rc_at(view.share(), position)).await;
        operation.end();
        view.finish();
        let written = result.map_err(io_error)?;
        if written != len {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("{written} of {len} bytes were written at {position}"),
            ));
        }
        Ok(())
    }

    async fn read_at(&self, position: u64, len: usize) -> io::Result<Bytes> {
        let end = position
            .saturating_add(len as u64)
            .min(file_len(&self.file)?);
        if position >= end {
            return Ok(Bytes::new());
        }
        let mut bytes = BytesMut::with_capacity((end - position) as usize);
        let mut position = position;
        while position < end {
            // Parts end at aligned positions, so that none is read twice.
            let aligned = position - position % ALIGNMENT as u64;
            let part_end = end.min(aligned + READ_BYTES_MAX as u64);
            if !self.read_part(position, part_end, &mut bytes).await? {
                break;
            }
            position = part_end;
        }
        Ok(bytes.freeze())
    }

    async fn sync_data(&self) -> io::Result<()> {
        let operation = self.shared.operation();
        let result = once_woken(self.file.fdatasync()).await;
        operation.end();
        result.map_err(io_error)
    }

    async fn allocate(&self, size: u64) -> io::Result<()> {
        if size == 0 {
            return Ok(());
        }
        let operation = self.shared.operation();
        // Not keeping the size: a write that moves the end of the file takes the inode lock on a worker thread.
        let result = once_woken(self.file.pre_allocate(size, false)).await;
        operation.end();
        result.map_err(io_error)
    }

    async fn truncate(&self, size: u64) -> io::Result<()> {
        let size =
            libc::off_t::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        // An own descriptor, so that the call cannot hit another file when this one is closed meanwhile.
        let descriptor = duplicate(&self.file)?;
        blocking(&self.shared, move || {
            // SAFETY: the descriptor is open, because the closure owns it.
            match unsafe { libc::ftruncate(descriptor.as_raw_fd(), size) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        })
        .await
    }

    async fn len(&self) -> io::Result<u64> {
        file_len(&self.file)
    }

    async fn close(self) -> io::Result<()> {
        let operation = self.shared.operation();
        let result = once_woken(self.file.close()).await;
        operation.end();
        result.map_err(io_error)
    }
}

/// The length of an open file, by descriptor.
fn file_len(file: &DmaFile) -> io::Result<u64> {
    // SAFETY: all-zero is a valid stat; the call writes one stat to a live local, and `file` keeps the descriptor open.
    let (stat, result) = unsafe {
        let mut stat: libc::stat = mem::zeroed();
        let result = libc::fstat(file.as_raw_fd(), &mut stat);
        (stat, result)
    };
    match result {
        0 => Ok(stat.st_size as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

fn duplicate(file: &DmaFile) -> io::Result<OwnedFd> {
    // SAFETY: `file` keeps the descriptor open. The call takes no pointers.
    let fd = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
