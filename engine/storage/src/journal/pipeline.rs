//! Group commit: which group is written when and how, and when it counts as committed. Pure.
//!
//! Events in: a group is sealed, its write completed, its flush completed. Out: the next write with the flush it needs,
//! groups that are committed, whether there is room. Generic over what is written (`W`), what is reported when it is
//! committed (`R`) and the handle of a file (`F`), so that tables test it without a disk.
//!
//! Invariants: groups are placed, and reported, in sequence order; a group is reported only when all groups before it
//! are; a flushed group is reported only when it and every group before it are durable on the device.

use std::collections::VecDeque;
use std::rc::Rc;

use model::MonotonicTime;
use runtime::align_up;

use super::files::JournalFiles;
use super::frame::GROUP_HEADER_BYTES;
use crate::cache::tail::JournalPosition;

/// A sealed group.
pub(crate) struct Sealed<W, R> {
    pub(crate) bytes: W,
    /// Bytes it takes in the journal.
    pub(crate) len: usize,
    /// Its header's checksum, which the next group repeats.
    pub(crate) checksum: u32,
    /// It is to be durable on the device before it is reported.
    pub(crate) is_flushed: bool,
    pub(crate) batch_count: usize,
    pub(crate) report: R,
}

struct Ready<W, R> {
    sequence: u64,
    group: Sealed<W, R>,
}

/// How far a group that is being written has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Submitted,
    Written,
    Done,
}

struct InFlight<R> {
    sequence: u64,
    submitted_at: MonotonicTime,
    is_flushed: bool,
    progress: Progress,
    report: R,
}

/// What has to be flushed before a group is done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flush<F> {
    /// Nothing.
    Nothing,
    /// This group alone: a write through O_DSYNC will do.
    Group,
    /// Files as a whole, once all earlier groups are written: a sync covers only writes that had completed before it
    /// was issued (reliability R2).
    Files {
        /// The file before this one, which holds unflushed groups that nothing else would flush.
        previous: Option<Rc<F>>,
        /// The group's own.
        own: bool,
    },
}

/// One group to be written.
#[must_use]
pub(crate) struct Write<W, F> {
    pub(crate) sequence: u64,
    pub(crate) bytes: W,
    pub(crate) len: usize,
    pub(crate) batch_count: usize,
    pub(crate) file: Rc<F>,
    pub(crate) file_number: u32,
    pub(crate) position: u64,
    pub(crate) flush: Flush<F>,
    /// It is the first of its file: the one before is full.
    pub(crate) is_first: bool,
}

/// A group that is committed.
#[must_use]
pub(crate) struct Committed<R> {
    pub(crate) sequence: u64,
    pub(crate) submitted_at: MonotonicTime,
    pub(crate) report: R,
}

/// The journal of a shard, but for the group that is still open.
pub(crate) struct Pipeline<W, R, F> {
    next_sequence: u64,
    previous_checksum: u32,
    ready: VecDeque<Ready<W, R>>,
    ready_bytes: usize,
    in_flight: VecDeque<InFlight<R>>,
    durable_sequence: u64,
    /// A group was placed that is not durable by itself; the next flushed group must make it so.
    has_unflushed: bool,
    pub(crate) files: JournalFiles<F>,
}

impl<W, R, F> Pipeline<W, R, F> {
    /// Groups follow the one before `place`; everything before is durable.
    pub(crate) fn new(place: JournalPosition, files: JournalFiles<F>) -> Pipeline<W, R, F> {
        assert!(place.sequence > 0, "groups are counted from 1");
        Pipeline {
            next_sequence: place.sequence,
            previous_checksum: place.previous_checksum,
            ready: VecDeque::new(),
            ready_bytes: 0,
            in_flight: VecDeque::new(),
            durable_sequence: place.sequence - 1,
            has_unflushed: false,
            files,
        }
    }

    /// Replay has ended at `place`: everything before it is durable.
    pub(crate) fn resume(&mut self, place: JournalPosition) {
        assert!(
            !self.has_ready() && !self.is_writing(),
            "before the first group"
        );
        assert!(place.sequence >= self.next_sequence, "replay goes forward");
        self.next_sequence = place.sequence;
        self.previous_checksum = place.previous_checksum;
        self.durable_sequence = place.sequence - 1;
    }

    /// Sequence of the open group.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// All groups up to here are durable on the device.
    pub(crate) fn durable_sequence(&self) -> u64 {
        self.durable_sequence
    }

    /// Bytes of sealed groups that wait.
    pub(crate) fn ready_bytes(&self) -> usize {
        self.ready_bytes
    }

    /// Where the next sealed group would stand in the chain, and, if none waits, in the files.
    pub(crate) fn position(&self) -> JournalPosition {
        let (file, position) = self.files.next_place();
        JournalPosition {
            sequence: self.next_sequence,
            previous_checksum: self.previous_checksum,
            file,
            position,
        }
    }

    /// A group was sealed.
    pub(crate) fn seal(&mut self, group: Sealed<W, R>) {
        self.ready_bytes += group.len;
        self.previous_checksum = group.checksum;
        self.ready.push_back(Ready {
            sequence: self.next_sequence,
            group,
        });
        self.next_sequence += 1;
    }

    /// Whether sealed groups wait.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether groups are being written.
    pub(crate) fn is_writing(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether the next group, or if none is sealed one of `open_bytes`, can be placed.
    pub(crate) fn next_fits(&self, open_bytes: usize) -> bool {
        let len = self
            .ready
            .front()
            .map_or(open_bytes, |ready| ready.group.len);
        self.files.fits([len].into_iter())
    }

    /// Whether the open group, which takes `present` bytes, goes to the active file as it is and not with `grown` bytes. The
    /// next file may hold the room that is kept for marks and barriers: a mark is not to take the records before it there.
    pub(crate) fn would_roll(&self, present: usize, grown: usize) -> bool {
        let room = self.files.active_room();
        let before = self.ready_bytes;
        (before + present) as u64 <= room && (before + align_up(grown)) as u64 > room
    }

    /// Places the next sealed group. `None` if there is none, or no room for it.
    pub(crate) fn take(&mut self, now: MonotonicTime) -> Option<Write<W, F>> {
        let len = self.ready.front()?.group.len;
        let sequence = self.ready.front()?.sequence;
        let placement = self.files.place(len, sequence)?;
        let Ready { group, .. } = self.ready.pop_front()?;
        assert!(
            self.in_flight
                .back()
                .is_none_or(|last| last.sequence + 1 == sequence),
            "groups are placed in order"
        );
        assert!(sequence > self.durable_sequence, "a group is written once");
        self.ready_bytes -= len;
        let covers_earlier = group.is_flushed && self.has_unflushed;
        self.has_unflushed = (self.has_unflushed || !group.is_flushed) && !covers_earlier;
        let is_first = placement.rolled_from.is_some();
        let flush = match (group.is_flushed, covers_earlier, placement.rolled_from) {
            (false, _, None) => Flush::Nothing,
            (true, false, None) => Flush::Group,
            (own, _, previous) => Flush::Files { previous, own },
        };
        self.in_flight.push_back(InFlight {
            sequence,
            submitted_at: now,
            is_flushed: group.is_flushed,
            progress: Progress::Submitted,
            report: group.report,
        });
        Some(Write {
            sequence,
            bytes: group.bytes,
            len,
            batch_count: group.batch_count,
            file: placement.file,
            file_number: placement.number,
            position: placement.position,
            flush,
            is_first,
        })
    }

    /// A group's write has completed.
    pub(crate) fn written(&mut self, sequence: u64) {
        self.advance(sequence, Progress::Written);
    }

    /// A group's write and flush have completed.
    pub(crate) fn done(&mut self, sequence: u64) {
        self.advance(sequence, Progress::Done);
    }

    fn advance(&mut self, sequence: u64, progress: Progress) {
        let first = self
            .in_flight
            .front()
            .expect("a group is in flight")
            .sequence;
        let group = usize::try_from(sequence - first)
            .ok()
            .and_then(|index| self.in_flight.get_mut(index))
            .expect("the group is in flight");
        assert_eq!(group.sequence, sequence, "groups in flight are consecutive");
        assert!(group.progress < progress, "a group makes each step once");
        group.progress = progress;
    }

    /// Whether all groups before this one are written.
    pub(crate) fn earlier_written(&self, sequence: u64) -> bool {
        let mut earlier = self.in_flight.iter();
        earlier.all(|group| group.sequence >= sequence || group.progress >= Progress::Written)
    }

    /// The next committed group, in order.
    pub(crate) fn poll_committed(&mut self) -> Option<Committed<R>> {
        let group = self
            .in_flight
            .pop_front_if(|group| group.progress == Progress::Done)?;
        if group.is_flushed {
            assert!(group.sequence > self.durable_sequence, "reported in order");
            self.durable_sequence = group.sequence;
        }
        Some(Committed {
            sequence: group.sequence,
            submitted_at: group.submitted_at,
            report: group.report,
        })
    }

    /// Test hook: what a group that is in flight will report.
    pub(crate) fn planted_report(&self, sequence: u64) -> &R {
        let mut groups = self.in_flight.iter();
        let group = groups.find(|group| group.sequence == sequence);
        &group.expect("the group is in flight").report
    }

    /// Whether a barrier needs no group: all that was sealed is durable, and nothing is open.
    pub(crate) fn is_all_durable(&self) -> bool {
        self.durable_sequence + 1 == self.next_sequence
    }

    /// Whether one entry of `bytes` can be placed, with `kept` left: in the open group, which takes `open` if it has any
    /// entries, or in a group of its own.
    pub(crate) fn has_room_for_one(
        &self,
        open: Option<usize>,
        bytes: usize,
        kept: usize,
        group_bytes_max: usize,
    ) -> bool {
        let alone = align_up(bytes + GROUP_HEADER_BYTES);
        let groups = match open {
            Some(open) if open + bytes <= group_bytes_max => [0, open + align_up(bytes)],
            Some(open) => [open, alone],
            None => [0, alone],
        };
        let ready = self.ready.iter().map(|ready| ready.group.len);
        self.files.fits(ready.chain(groups).chain([kept]))
    }

    /// Whether `bytes` more of entries can be placed, after an open group that takes `open` so far, with `kept` left.
    pub(crate) fn has_room(
        &self,
        open: usize,
        bytes: usize,
        kept: usize,
        group_bytes_max: usize,
    ) -> bool {
        let pending = self.ready_bytes + open + bytes + kept;
        if pending as u64 <= self.files.active_room() {
            return true;
        }
        let ready = self.ready.iter().map(|ready| ready.group.len);
        if open + bytes <= group_bytes_max {
            return self.files.fits(ready.chain([open + align_up(bytes), kept]));
        }
        // More than one group: whole groups of the largest size and a rest, each with the padding it may need.
        let whole = std::iter::repeat_n(group_bytes_max, bytes / group_bytes_max);
        let largest = if whole.len() == 0 {
            align_up(bytes + GROUP_HEADER_BYTES)
        } else {
            group_bytes_max
        };
        self.files
            .fits(ready.chain([open]).chain(whole).chain([largest, kept]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table = Pipeline<(), u64, &'static str>;

    const BLOCK: usize = 4096;

    /// Files of four and three groups.
    fn pipeline() -> Table {
        let mut files = JournalFiles::default();
        files.add(0, 4 * BLOCK as u64, Rc::new("first"));
        files.add(1, 3 * BLOCK as u64, Rc::new("second"));
        Pipeline::new(JournalPosition::first(), files)
    }

    fn seal(pipeline: &mut Table, is_flushed: bool) {
        let sequence = pipeline.next_sequence();
        pipeline.seal(Sealed {
            bytes: (),
            len: BLOCK,
            checksum: sequence as u32,
            is_flushed,
            batch_count: 1,
            report: sequence,
        });
    }

    fn take(pipeline: &mut Table) -> Write<(), &'static str> {
        pipeline.take(MonotonicTime(0)).expect("there is room")
    }

    fn committed(pipeline: &mut Table) -> Vec<u64> {
        std::iter::from_fn(|| pipeline.poll_committed().map(|group| group.report)).collect()
    }

    #[test]
    fn groups_are_reported_in_order_whatever_the_device_does() {
        let mut pipeline = pipeline();
        for _ in 0..3 {
            seal(&mut pipeline, true);
            let write = take(&mut pipeline);
            assert_eq!(write.flush, Flush::Group);
        }
        pipeline.written(3);
        pipeline.done(3);
        assert!(committed(&mut pipeline).is_empty() && !pipeline.earlier_written(3));
        pipeline.written(1);
        pipeline.done(1);
        assert_eq!(committed(&mut pipeline), [1]);
        assert_eq!(
            (pipeline.durable_sequence(), pipeline.is_all_durable()),
            (1, false)
        );
        pipeline.written(2);
        pipeline.done(2);
        assert_eq!(committed(&mut pipeline), [2, 3]);
        assert!(pipeline.is_all_durable() && !pipeline.is_writing());
    }

    #[test]
    fn what_each_group_has_to_flush() {
        let mut pipeline = pipeline();
        // (flushed, what to flush, first of its file) of seven groups that fill both files
        let own = |previous: Option<&'static str>| Flush::Files {
            previous: previous.map(Rc::new),
            own: true,
        };
        let previous = Flush::Files {
            previous: Some(Rc::new("first")),
            own: false,
        };
        let table = [
            (true, Flush::Group, false),
            (false, Flush::Nothing, false),
            (false, Flush::Nothing, false),
            (true, own(None), false),
            (false, previous, true),
            (true, own(None), false),
            (true, Flush::Group, false),
        ];
        for (number, (is_flushed, flush, is_first)) in table.into_iter().enumerate() {
            seal(&mut pipeline, is_flushed);
            let write = take(&mut pipeline);
            assert_eq!(
                (write.flush, write.is_first),
                (flush, is_first),
                "group {number}"
            );
        }
        seal(&mut pipeline, true);
        assert!(pipeline.take(MonotonicTime(0)).is_none(), "no room");
        assert!(!pipeline.next_fits(0));
        // Unflushed groups do not count as durable, those after them do.
        for sequence in 1..=7 {
            pipeline.written(sequence);
            pipeline.done(sequence);
            assert_eq!(committed(&mut pipeline), [sequence]);
            let durable = [1, 1, 1, 4, 4, 6, 7][sequence as usize - 1];
            assert_eq!(pipeline.durable_sequence(), durable);
        }
        assert_eq!(pipeline.files.recycle(5), 1);
        assert_eq!(take(&mut pipeline).file_number, 0);
    }

    #[test]
    fn room_is_counted_in_whole_groups() {
        let mut pipeline = pipeline();
        // (open, bytes, kept) -> room, with groups of two blocks at most
        let table = [
            ((0, BLOCK, 0), true),
            ((BLOCK, 3 * BLOCK, 0), true),
            ((BLOCK, 100, 2 * BLOCK), true),
            // A group of six blocks fits no file; three of two blocks and the kept one do not fit both.
            ((BLOCK, 5 * BLOCK, 2 * BLOCK), false),
            ((0, BLOCK, 5 * BLOCK), false),
            ((0, 2 * BLOCK, 3 * BLOCK), true),
            ((0, 2 * BLOCK, 4 * BLOCK), false),
        ];
        for ((open, bytes, kept), room) in table {
            let found = pipeline.has_room(open, bytes, kept, 2 * BLOCK);
            assert_eq!(found, room, "{open} {bytes} {kept}");
        }
        for _ in 0..4 {
            seal(&mut pipeline, true);
        }
        assert!(pipeline.has_room(0, BLOCK, 2 * BLOCK, 2 * BLOCK));
        assert!(!pipeline.has_room(0, BLOCK, 3 * BLOCK, 2 * BLOCK));
    }

    #[test]
    fn a_batch_larger_than_a_group_needs_one_place() {
        let mut pipeline = pipeline();
        // Two blocks are left in the first file, three in the second.
        for _ in 0..2 {
            seal(&mut pipeline, true);
            drop(take(&mut pipeline));
        }
        // (open, bytes, kept) -> room, with groups of one block at most
        let table = [
            ((None, 2 * BLOCK, 0), true),
            ((None, 2 * BLOCK, BLOCK), false),
            ((None, BLOCK, 3 * BLOCK), true),
            ((Some(BLOCK), 2 * BLOCK, 0), true),
            ((Some(BLOCK), 3 * BLOCK, 0), false),
        ];
        for ((open, bytes, kept), room) in table {
            let found = pipeline.has_room_for_one(open, bytes, kept, BLOCK);
            assert_eq!(found, room, "{open:?} {bytes} {kept}");
        }
    }

    #[test]
    fn a_group_does_not_grow_out_of_its_file() {
        let mut pipeline = pipeline();
        // (bytes of the open group, with what is to be added, whether it is sealed first)
        let table = [
            (BLOCK, 4 * BLOCK, false),
            (4 * BLOCK, 4 * BLOCK + 1, true),
            // It goes to the next file anyway.
            (5 * BLOCK, 6 * BLOCK, false),
        ];
        for (present, grown, expected) in table {
            assert_eq!(
                pipeline.would_roll(present, grown),
                expected,
                "{present} to {grown}"
            );
        }
        seal(&mut pipeline, true);
        assert!(
            pipeline.would_roll(3 * BLOCK, 3 * BLOCK + 1),
            "behind what waits"
        );
    }

    #[test]
    #[should_panic(expected = "a group makes each step once")]
    fn no_group_is_done_twice() {
        let mut pipeline = pipeline();
        for _ in 0..2 {
            seal(&mut pipeline, true);
            drop(take(&mut pipeline));
        }
        pipeline.done(2);
        pipeline.done(2);
    }
}
