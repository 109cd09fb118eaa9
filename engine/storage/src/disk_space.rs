//! Who waits for space on the device. Pure.
//!
//! The device counts as full for as long as anybody waits, and no longer: one write that found room says nothing about
//! the others.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use model::MonotonicTime;

/// Time between two looks for files that are kept for later: other shards, which have not met the full device, may go on
/// keeping some.
const GIVE_BACK_INTERVAL: Duration = Duration::from_secs(1);

/// Counts the waiting of one shard.
#[derive(Default)]
pub(crate) struct DiskSpace {
    waiting: Cell<u32>,
    /// When somebody last looked for what can be given back.
    given_back_at: Cell<Option<MonotonicTime>>,
    /// The last try to make another journal file found no room for it.
    refuses_journal: Cell<bool>,
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

    /// Whether the journal has to do with the files that it has, for now.
    pub(crate) fn refuses_journal(&self) -> bool {
        self.refuses_journal.get()
    }

    /// Notes what came of a try to make another journal file.
    pub(crate) fn tried_journal(&self, is_refused: bool) {
        self.refuses_journal.set(is_refused);
    }

    /// Whether one who waits should look for what can be given back. True for one of them at a time.
    pub(crate) fn is_time_to_give_back(&self, now: MonotonicTime) -> bool {
        let given_back_at = self.given_back_at.get();
        let is_time = given_back_at.is_none_or(|last| now.since(last) >= GIVE_BACK_INTERVAL);
        if is_time {
            self.given_back_at.set(Some(now));
        }
        is_time
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
    #[test]
    fn one_of_those_who_wait_gives_back_from_time_to_time() {
        let space = DiskSpace::default();
        let after = |millis| MonotonicTime(0).plus(Duration::from_millis(millis));
        let looks =
            [0, 0, 200, 999, 1000, 1100, 5000].map(|at| space.is_time_to_give_back(after(at)));
        assert_eq!(looks, [true, false, false, false, true, false, true]);
    }
}
