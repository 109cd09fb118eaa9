//! Directories and whole file systems: calls that block, on the blocking pool.

use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use runtime::FileSystemSpace;

use crate::blocking::blocking;
use crate::uring_io::Shared;

pub(crate) async fn create_dir_all(shared: &Shared, path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(shared, move || create_durably(&path)).await
}

/// Creates the missing directories from the top down; each is made durable by syncing the one above it.
fn create_durably(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.is_dir())
        .collect();
    for directory in missing.into_iter().rev() {
        create(directory)?;
        sync(parent_of(directory))?;
    }
    Ok(())
}

/// Another core may be faster.
fn create(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        other => other,
    }
}

pub(crate) async fn create_dir(shared: &Shared, path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(shared, move || create(&path)).await
}

/// The directory that holds the entry `path`.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

pub(crate) async fn read_dir(shared: &Shared, path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = path.to_owned();
    blocking(shared, move || {
        let mut names = fs::read_dir(&path)?
            .map(|entry| Ok(PathBuf::from(entry?.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    })
    .await
}

pub(crate) async fn rename(shared: &Shared, from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.to_owned(), to.to_owned());
    blocking(shared, move || fs::rename(from, to)).await
}

pub(crate) async fn remove_file(shared: &Shared, path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(shared, move || absent_is_fine(fs::remove_file(path))).await
}

pub(crate) async fn remove_dir_all(shared: &Shared, path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(shared, move || absent_is_fine(fs::remove_dir_all(path))).await
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(crate) async fn sync_dir(shared: &Shared, path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(shared, move || sync(&path)).await
}

pub(crate) async fn sync_file_system(shared: &Shared, path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    blocking(shared, move || {
        let file = File::open(path)?;
        // SAFETY: the descriptor is open, because `file` lives until after the call.
        match unsafe { libc::syncfs(file.as_raw_fd()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    })
    .await
}

pub(crate) async fn file_system_space(shared: &Shared, path: &Path) -> io::Result<FileSystemSpace> {
    let path = path.to_owned();
    blocking(shared, move || {
        let file = File::open(path)?;
        let mut answer = MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: the descriptor is open, because `file` lives until after the call; `answer` is a live local of the
        // type that the call fills.
        if unsafe { libc::fstatvfs(file.as_raw_fd(), answer.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it has filled all of it.
        let answer = unsafe { answer.assume_init() };
        let bytes = |blocks: u64| {
            let bytes = blocks.checked_mul(answer.f_frsize);
            bytes.ok_or_else(|| io::Error::other("a file system of more than 2^64 bytes"))
        };
        Ok(FileSystemSpace {
            total_bytes: bytes(answer.f_blocks)?,
            available_bytes: bytes(answer.f_bavail)?,
        })
    })
    .await
}
