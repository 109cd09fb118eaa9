//! Files of expired segments and of deleted logs that new segments of the shard will take over. Pure.
//!
//! A shard in balance with its retention loses a segment for each that it begins. To give back the old one's blocks and
//! ask for new ones costs twice: file systems mounted with `discard` tell the device to forget the blocks, and devices
//! that allocate on write (most virtual ones) have to find them anew. So a file that is no longer needed moves to the
//! shard's directory of spares, and the next segment that it fits takes it over from there, by renaming it, and writes
//! over blocks that the device knows.
//!
//! A start empties that directory, so nothing has to be remembered about it.
//!
//! Invariant: at most [`SPARES_MAX`] files of together `bytes_max` are kept, each for [`SPARE_AGE_MAX`] and the time
//! between two looks.

use std::collections::VecDeque;
use std::time::Duration;

use model::MonotonicTime;

/// Files of a shard.
const SPARES_MAX: usize = 256;
/// A file that nobody took for so long only takes space: the shard is not in balance.
const SPARE_AGE_MAX: Duration = Duration::from_secs(120);

struct Spare {
    number: u64,
    bytes: u64,
    since: MonotonicTime,
}

/// The files of one shard, oldest first.
pub(crate) struct Spares {
    kept: VecDeque<Spare>,
    /// On their way, not to be taken yet.
    moving: Vec<Spare>,
    /// Of both.
    bytes: u64,
    next_number: u64,
    file_bytes_min: u64,
    bytes_max: u64,
}

impl Spares {
    /// None yet. Files of at least `file_bytes_min` will be kept, of `bytes_max` together.
    pub(crate) fn new(file_bytes_min: u64, bytes_max: u64) -> Spares {
        Spares {
            kept: VecDeque::new(),
            moving: Vec::new(),
            bytes: 0,
            next_number: 0,
            file_bytes_min,
            bytes_max,
        }
    }

    /// Bytes of the files that are kept.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A number for a file of that size, if it is to be kept.
    pub(crate) fn place(&mut self, bytes: u64, now: MonotonicTime) -> Option<u64> {
        let count = self.kept.len() + self.moving.len();
        let has_room = count < SPARES_MAX && self.bytes + bytes <= self.bytes_max;
        if bytes < self.file_bytes_min || !has_room {
            return None;
        }
        self.next_number += 1;
        self.bytes += bytes;
        self.moving.push(Spare {
            number: self.next_number,
            bytes,
            since: now,
        });
        Some(self.next_number)
    }

    /// The file did not come.
    pub(crate) fn forget(&mut self, number: u64) {
        let lost = self.moving.extract_if(.., |spare| spare.number == number);
        self.bytes -= lost.map(|spare| spare.bytes).sum::<u64>();
    }

    /// All that came may be taken.
    pub(crate) fn settle(&mut self) {
        self.kept.extend(self.moving.drain(..));
    }

    /// The file for the segment of a log whose last one held `filled_bytes`. A much larger one would be a waste of space
    /// for as long as the segment is open.
    pub(crate) fn take(&mut self, filled_bytes: u64) -> Option<u64> {
        let fits = |spare: &Spare| spare.bytes / 2 <= filled_bytes;
        let found = self.kept.iter().position(fits)?;
        let spare = self.kept.remove(found)?;
        self.bytes -= spare.bytes;
        Some(spare.number)
    }

    /// Lets go of what nobody has taken for long. Returns the files to be removed.
    pub(crate) fn expire(&mut self, now: MonotonicTime) -> Vec<u64> {
        let is_old = |spare: &Spare| now.since(spare.since) >= SPARE_AGE_MAX;
        let count = self.kept.iter().take_while(|spare| is_old(spare)).count();
        let expired: Vec<Spare> = self.kept.drain(..count).collect();
        self.bytes -= expired.iter().map(|spare| spare.bytes).sum::<u64>();
        expired.iter().map(|spare| spare.number).collect()
    }

    /// Keeps nothing any more. Returns the files to be removed.
    pub(crate) fn clear(&mut self) -> Vec<u64> {
        self.bytes = self.moving.iter().map(|spare| spare.bytes).sum();
        self.kept.drain(..).map(|spare| spare.number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    const BYTES_MAX: u64 = 4 << 30;

    fn kept(spares: &mut Spares, bytes: u64, seconds: u64) -> Option<u64> {
        let now = MonotonicTime(0).plus(Duration::from_secs(seconds));
        let number = spares.place(bytes, now);
        spares.settle();
        number
    }

    #[test]
    fn the_oldest_that_fits() {
        let mut spares = Spares::new(MIB, BYTES_MAX);
        assert_eq!(kept(&mut spares, MIB - 1, 0), None);
        let large = kept(&mut spares, 64 * MIB, 0);
        let small = kept(&mut spares, 3 * MIB, 0);
        let later = kept(&mut spares, 3 * MIB, 0);
        assert_eq!(spares.bytes(), 70 * MIB);
        assert_eq!(spares.take(MIB), None);
        assert_eq!(spares.take(2 * MIB), small);
        assert_eq!(spares.take(63 * MIB), large);
        assert_eq!(spares.take(63 * MIB), later);
        assert_eq!((spares.take(63 * MIB), spares.bytes()), (None, 0));
    }

    #[test]
    fn not_before_it_has_moved() {
        let mut spares = Spares::new(MIB, BYTES_MAX);
        let first = spares.place(MIB, MonotonicTime(0)).unwrap();
        let second = spares.place(2 * MIB, MonotonicTime(0));
        assert_eq!((spares.take(64 * MIB), spares.bytes()), (None, 3 * MIB));
        spares.forget(first);
        spares.settle();
        assert_eq!((spares.bytes(), spares.take(64 * MIB)), (2 * MIB, second));
    }

    #[test]
    fn bounds() {
        let mut spares = Spares::new(MIB, BYTES_MAX);
        for _ in 0..SPARES_MAX {
            assert!(kept(&mut spares, MIB, 0).is_some());
        }
        assert_eq!(kept(&mut spares, MIB, 0), None);
        assert_eq!(spares.clear().len(), SPARES_MAX);
        assert_eq!(kept(&mut spares, BYTES_MAX + 1, 0), None);
        assert!(kept(&mut spares, BYTES_MAX, 0).is_some());
        assert_eq!(kept(&mut spares, MIB, 0), None);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut spares = Spares::new(MIB, BYTES_MAX);
        let first = kept(&mut spares, MIB, 0).unwrap();
        let second = kept(&mut spares, MIB, 60).unwrap();
        let after = |seconds| MonotonicTime(0).plus(Duration::from_secs(seconds));
        assert!(spares.expire(after(119)).is_empty());
        assert_eq!(spares.expire(after(120)), [first]);
        assert_eq!(
            (spares.expire(after(200)), spares.bytes()),
            (vec![second], 0)
        );
    }
}
