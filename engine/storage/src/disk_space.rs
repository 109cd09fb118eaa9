//! Who waits for space on the device. Pure.
//!
//! The device counts as full for as long as anybody waits, and no longer: one write that found room says nothing about
//! the others.

use std::cell::Cell;
use std::io;

/// Counts the waiting of one shard.
#[derive(Default)]
pub(crate) struct DiskSpace {
    waiting: Cell<u32>,
}

/// One who waits. Dropping it ends the wait, whatever became of it.
pub(crate) struct Wait<'a> {
    space: &'a DiskSpace,
}

impl DiskSpace {
    /// Somebody waits for space.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.get() > 0
    }

    /// Begins a wait.
    pub(crate) fn wait(&self) -> Wait<'_> {
        self.waiting.set(self.waiting.get() + 1);
        Wait { space: self }
    }
}

/// Whether the machine says that the device is full.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::StorageFull
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let waiting = self.space.waiting.get();
        assert!(waiting > 0, "each wait is counted");
        self.space.waiting.set(waiting - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_while_anybody_waits() {
        let space = DiskSpace::default();
        let first = space.wait();
        let second = space.wait();
        drop(first);
        assert!(space.is_full());
        drop(second);
        assert!(!space.is_full());
    }
}
