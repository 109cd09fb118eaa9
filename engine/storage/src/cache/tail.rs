//! Which commit groups the tails pin in memory, and what keeps each from being dropped. Pure.
//!
//! Invariants: groups are in sequence order without gaps; a group's memory is let go only when all its batches are in
//! segment files (or carried to a later group); `bytes` is the sum of the capacities held.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::log::Log;

/// What the tails may hold before they grow: enough for what is on its way to segments and to consumers.
const ALLOWED_BYTES_MIN: usize = 64 << 20;
/// From there they grow by this part of what comes; the rest takes the place of older groups. Memory that is used for
/// the first time comes slowly from the kernel, on virtual machines at a few hundred megabytes per second, and a shard
/// whose tails grew as fast as records come would stand still again and again.
const GROWTH_PART: usize = 16;

/// Where a group lies in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalPosition {
    pub(crate) sequence: u64,
    /// Checksum of the group before it.
    pub(crate) previous_checksum: u32,
    pub(crate) file: u32,
    pub(crate) position: u64,
}

impl JournalPosition {
    /// Of the first group of a journal.
    pub(crate) fn first() -> JournalPosition {
        JournalPosition {
            sequence: 1,
            ..JournalPosition::default()
        }
    }
}

/// A sealed group that the tails may hold slices of.
pub(crate) struct TailGroup {
    pub(crate) place: JournalPosition,
    pub(crate) capacity: usize,
    /// Batches that are in no segment file yet.
    pub(crate) dirty_batches: u32,
    pub(crate) logs: Vec<Rc<Log>>,
}

/// The groups behind the tails of a shard.
#[derive(Default)]
pub(crate) struct TailGroups {
    groups: VecDeque<TailGroup>,
    bytes: usize,
    /// The last group that eviction has come to. Those up to it were let go, but for the dirty ones.
    evicted_through: u64,
    /// Dirty ones that eviction has passed and that are clean now.
    passed: VecDeque<u64>,
    /// Growth beyond [`ALLOWED_BYTES_MIN`].
    grown_bytes: usize,
}

impl TailGroups {
    /// Memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the tails may hold by now, if the budget allows it.
    pub(crate) fn allowed_bytes(&self) -> usize {
        ALLOWED_BYTES_MIN.saturating_add(self.grown_bytes)
    }

    /// Adds the newest group.
    pub(crate) fn push(&mut self, group: TailGroup) {
        assert!(
            self.groups
                .back()
                .is_none_or(|last| last.place.sequence + 1 == group.place.sequence),
            "groups come in order"
        );
        self.bytes += group.capacity;
        if self.bytes > self.allowed_bytes() {
            self.grown_bytes = self
                .grown_bytes
                .saturating_add(group.capacity / GROWTH_PART);
        }
        self.groups.push_back(group);
    }

    /// A held group.
    pub(crate) fn get_mut(&mut self, sequence: u64) -> Option<&mut TailGroup> {
        let first = self.groups.front()?.place.sequence;
        self.groups
            .get_mut(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// Notes that `count` batches of a group reached a segment file or a later group.
    pub(crate) fn cleaned(&mut self, sequence: u64, count: u32) {
        let group = self
            .get_mut(sequence)
            .expect("a group with a dirty batch is held");
        assert!(group.dirty_batches >= count, "a batch is cleaned once");
        group.dirty_batches -= count;
        let is_clean = group.dirty_batches == 0;
        if is_clean && sequence <= self.evicted_through {
            self.passed.push_back(sequence);
        }
    }

    /// Where replay must begin: the oldest group with a dirty batch.
    pub(crate) fn oldest_dirty(&self) -> Option<JournalPosition> {
        self.groups
            .iter()
            .find(|group| group.dirty_batches > 0)
            .map(|group| group.place)
    }

    /// Logs with something in dirty groups up to `sequence`; a log may come more than once.
    pub(crate) fn dirty_through(&self, sequence: u64) -> impl Iterator<Item = &Rc<Log>> {
        self.groups
            .iter()
            .take_while(move |group| group.place.sequence <= sequence)
            .filter(|group| group.dirty_batches > 0)
            .flat_map(|group| &group.logs)
    }

    /// Lets go of clean groups, oldest first, until at most `bytes_max` are held. Passes over dirty ones: a log that
    /// gets little must not keep the memory of all that came after it. Their turn comes when they are clean.
    pub(crate) fn evict(&mut self, bytes_max: usize) {
        let last = self.groups.back().map_or(0, |group| group.place.sequence);
        while self.bytes > bytes_max {
            if let Some(sequence) = self.passed.pop_front() {
                self.release(sequence);
                continue;
            }
            if self.evicted_through >= last {
                break;
            }
            let first = self.groups.front().map_or(0, |group| group.place.sequence);
            self.evicted_through = first.max(self.evicted_through + 1);
            self.release(self.evicted_through);
        }
        self.drop_empty();
    }

    /// Forgets groups at the front that hold nothing, like those of marks.
    pub(crate) fn drop_empty(&mut self) {
        while let Some(front) = self.groups.front()
            && front.dirty_batches == 0
            && front.capacity == 0
        {
            self.groups.pop_front();
        }
    }

    /// Lets go of a group's memory, if it is clean.
    fn release(&mut self, sequence: u64) {
        let Some(group) = self
            .get_mut(sequence)
            .filter(|group| group.dirty_batches == 0)
        else {
            return;
        };
        let capacity = std::mem::take(&mut group.capacity);
        // All that these logs have in older groups is in segments too, so they can do without it.
        for log in std::mem::take(&mut group.logs) {
            log.memory_mut().evict_tail(sequence);
        }
        assert!(self.bytes >= capacity, "what is let go was held");
        self.bytes -= capacity;
    }

    /// The last group that has to be clean before holdings can fall to `bytes_max`.
    pub(crate) fn sequence_to_clean(&self, bytes_max: usize) -> Option<u64> {
        let mut bytes = self.bytes;
        let mut last = None;
        for group in &self.groups {
            if bytes <= bytes_max {
                break;
            }
            bytes -= group.capacity;
            last = Some(group.place.sequence);
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn group(sequence: u64, capacity: usize, dirty_batches: u32) -> TailGroup {
        TailGroup {
            place: JournalPosition {
                sequence,
                ..JournalPosition::default()
            },
            capacity,
            dirty_batches,
            logs: Vec::new(),
        }
    }

    #[test]
    fn dirty_groups_are_passed_over() {
        let mut tail = TailGroups::default();
        for sequence in 1..=5 {
            tail.push(group(sequence, MIB, u32::from([1, 4].contains(&sequence))));
        }
        tail.evict(3 * MIB);
        assert_eq!(tail.bytes(), 3 * MIB);
        assert_eq!(tail.oldest_dirty().unwrap().sequence, 1);
        // Clean by now, the oldest goes first.
        tail.cleaned(1, 1);
        assert_eq!(tail.bytes(), 3 * MIB);
        tail.evict(2 * MIB);
        assert_eq!(tail.bytes(), 2 * MIB);
        assert_eq!(tail.groups.front().unwrap().place.sequence, 4);
        // What is dirty stays, whatever is asked for.
        tail.evict(0);
        assert_eq!((tail.bytes(), tail.groups.len()), (MIB, 2));
        tail.push(group(6, MIB, 0));
        tail.cleaned(4, 1);
        tail.evict(MIB);
        assert_eq!((tail.bytes(), tail.groups.len()), (MIB, 1));
        tail.evict(0);
        assert!(tail.groups.is_empty() && tail.passed.is_empty());
    }

    #[test]
    fn tails_grow_by_a_part_of_what_comes() {
        let mut tail = TailGroups::default();
        tail.push(group(1, ALLOWED_BYTES_MIN, 0));
        assert_eq!(tail.allowed_bytes(), ALLOWED_BYTES_MIN);
        tail.push(group(2, 16 * MIB, 0));
        assert_eq!(tail.allowed_bytes(), ALLOWED_BYTES_MIN + MIB);
        tail.evict(tail.allowed_bytes());
        // There is room again.
        tail.push(group(3, 16 * MIB, 0));
        assert_eq!(tail.allowed_bytes(), ALLOWED_BYTES_MIN + MIB);
    }
}
