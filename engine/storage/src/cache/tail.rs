//! Which commit groups the tails pin in memory, and what keeps each from being dropped. Pure.
//!
//! Invariants: groups are in sequence order without gaps; a group is dropped only when all its batches are in segment
//! files (or carried to a later group); `bytes` is the sum of the capacities held.

use std::collections::VecDeque;
use std::rc::Rc;

use crate::log::Log;

/// Where a group lies in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct JournalPosition {
    pub(crate) sequence: u64,
    /// Checksum of the group before it.
    pub(crate) previous_checksum: u32,
    pub(crate) file: u32,
    pub(crate) position: u64,
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
}

impl TailGroups {
    /// Memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds the newest group.
    pub(crate) fn push(&mut self, group: TailGroup) {
        debug_assert!(
            self.groups
                .back()
                .is_none_or(|last| last.place.sequence + 1 == group.place.sequence)
        );
        self.bytes += group.capacity;
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
        if let Some(group) = self.get_mut(sequence) {
            group.dirty_batches = group.dirty_batches.saturating_sub(count);
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

    /// Drops clean groups from the front until at most `bytes_max` are held. Stops at a dirty one.
    pub(crate) fn evict(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && self
                .groups
                .front()
                .is_some_and(|group| group.dirty_batches == 0)
        {
            let Some(group) = self.groups.pop_front() else {
                return;
            };
            self.bytes -= group.capacity;
            for log in &group.logs {
                log.state.borrow_mut().evict_tail(group.place.sequence);
            }
        }
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
