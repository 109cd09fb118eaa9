//! Locks of files: flock(2), which belongs to an open file and goes when that is closed.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use crate::blocking::blocking;
use crate::uring_io::Shared;

/// A locked file.
pub struct UringLock {
    _file: File,
}

pub(crate) async fn try_lock(shared: &Shared, path: &Path) -> io::Result<UringLock> {
    let path = path.to_owned();
    blocking(shared, move || {
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(UringLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    })
    .await
}
