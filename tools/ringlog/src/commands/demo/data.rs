//! Where a demo keeps its data: in a temporary directory that goes with it, unless it was told where.

use std::io;
use std::path::{Path, PathBuf};

/// Where temporary data lies when `TMPDIR` does not say: on a disk, and kept from its usual places in memory.
const ON_DISK: &str = "/var/tmp";

/// A directory of this demo's own, removed when dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    keep: bool,
}

impl Temporary {
    /// A directory that nobody else has; `keep` leaves it there.
    pub fn new(keep: bool) -> io::Result<Temporary> {
        let parent = std::env::var_os("TMPDIR").filter(|name| !name.is_empty());
        let parent = parent.map_or_else(|| PathBuf::from(ON_DISK), PathBuf::from);
        let parent = match parent.is_dir() {
            true => parent,
            false => std::env::temp_dir(),
        };
        Temporary::below(&parent, keep)
    }

    fn below(parent: &Path, keep: bool) -> io::Result<Temporary> {
        let path = parent.join(format!("ringlog-demo-{}", std::process::id()));
        // It must be new: what is in one that is there is somebody's.
        std::fs::create_dir(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        Ok(Temporary { path, keep })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!("{} cannot be removed: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_unless_it_is_to_stay_and_is_never_anothers() {
        let parent = std::env::temp_dir().join(format!("ringlog-data-test-{}", std::process::id()));
        std::fs::create_dir(&parent).unwrap();
        let temporary = Temporary::below(&parent, false).unwrap();
        std::fs::write(temporary.path().join("x"), "x").unwrap();
        assert!(Temporary::below(&parent, true).is_err());
        drop(temporary);
        assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 0);
        drop(Temporary::below(&parent, true).unwrap());
        assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 1);
        std::fs::remove_dir_all(&parent).unwrap();
    }
}
