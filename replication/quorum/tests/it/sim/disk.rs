//! The disk of a simulated replica: what is durable, and what is on its way there, in order.

use std::collections::VecDeque;

use bytes::Bytes;
use model::Offset;
use ringlog_quorum::{
    Entry, HardState, Recovered, RecoveredLog, Recovery, ReplicaKey, Shown, SnapshotMark, Write,
    WriteNumber,
};

use super::image::Image;

/// A snapshot file.
pub(crate) type Snapshot = (SnapshotMark, Image);

/// One step towards durability.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    State(HardState),
    Snapshot(Snapshot),
    Reset(Offset),
    Truncate(Offset),
    Append(Entry),
    Trim(Offset),
    /// Everything of this write is durable.
    Done(WriteNumber),
}

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) state: HardState,
    pub(crate) snapshot: Option<Snapshot>,
    /// Older snapshot files, which followers may still be fetching.
    pub(crate) older: Vec<Snapshot>,
    pub(crate) log_start: Offset,
    pub(crate) log: Vec<Entry>,
    pub(crate) under_way: VecDeque<Op>,
}

impl Disk {
    pub(crate) fn log_end(&self) -> Offset {
        self.log.last().map_or(self.log_start, Entry::end_offset)
    }

    /// The durable entry that begins at this offset.
    pub(crate) fn entry_at(&self, base: Offset) -> Option<&Entry> {
        let at = self.log.binary_search_by_key(&base, Entry::base_offset);
        at.ok().map(|at| &self.log[at])
    }

    /// Takes the steps of a write. `installed` is the file that it installs.
    pub(crate) fn write(&mut self, write: Write, installed: Option<Snapshot>) {
        self.under_way.extend(write.state.map(Op::State));
        if let Some(mark) = write.install {
            let (fetched, image) = installed.expect("a snapshot was fetched");
            assert_eq!(fetched, mark, "another snapshot was fetched");
            self.under_way.push_back(Op::Snapshot((fetched, image)));
            self.under_way.push_back(Op::Reset(mark.end_offset));
        }
        self.under_way.extend(write.truncate_to.map(Op::Truncate));
        for batch in write.append {
            let entry = Entry::read(batch).expect("what is written is an entry");
            self.under_way.push_back(Op::Append(entry));
        }
        self.under_way.push_back(Op::Done(write.number));
    }

    /// The next step becomes durable. The number of a write that is complete with it.
    pub(crate) fn step(&mut self) -> Option<WriteNumber> {
        match self.under_way.pop_front()? {
            Op::State(next) => {
                let present = self.state;
                let keeps_vote = present.vote == 0 || present.vote == next.vote;
                assert!(
                    next.commit >= present.commit
                        && (next.term > present.term || (next.term == present.term && keeps_vote)),
                    "hard state went back: {present:?} to {next:?}"
                );
                self.state = next;
            }
            Op::Snapshot(snapshot) => self.keep_snapshot(snapshot),
            Op::Reset(start) => {
                self.log.clear();
                self.log_start = start;
            }
            Op::Truncate(to) => {
                let at = self.log.partition_point(|entry| entry.base_offset() < to);
                assert!(at < self.log.len(), "nothing to cut at {to}");
                assert_eq!(self.log[at].base_offset(), to, "a cut inside of a batch");
                self.log.truncate(at);
            }
            Op::Append(entry) => {
                assert_eq!(entry.base_offset(), self.log_end(), "a gap in the log");
                self.log.push(entry);
            }
            Op::Trim(start) => {
                if start > self.log_start {
                    let at = self
                        .log
                        .partition_point(|entry| entry.base_offset() < start);
                    self.log.drain(..at);
                    self.log_start = start;
                }
            }
            Op::Done(number) => return Some(number),
        }
        None
    }

    /// A snapshot file takes the place of an older one.
    pub(crate) fn keep_snapshot(&mut self, snapshot: Snapshot) {
        let present = self.snapshot.as_ref();
        if present.is_none_or(|(mark, _)| mark.index < snapshot.0.index) {
            self.older.extend(self.snapshot.replace(snapshot));
        }
    }

    /// The file of a snapshot.
    pub(crate) fn file(&self, mark: &SnapshotMark) -> Option<Snapshot> {
        let mut files = self.snapshot.iter().chain(self.older.iter().rev());
        files.find(|(present, _)| present == mark).cloned()
    }

    /// A crash: the first `kept` steps under way have made it, the rest has not.
    pub(crate) fn crash(&mut self, kept: u64) {
        for _ in 0..kept {
            self.step();
        }
        self.under_way.clear();
    }

    /// The batches from one offset to another.
    pub(crate) fn read(&self, start: Offset, end: Offset) -> Vec<Bytes> {
        let entries = self.log.iter();
        let inside = entries.filter(|e| e.base_offset() >= start && e.end_offset() <= end);
        inside.map(|entry| entry.batch().clone()).collect()
    }

    /// What a start makes of it. `forget` plants a fault.
    pub(crate) fn recover(&mut self, key: ReplicaKey, forget: bool) -> (RecoveredLog, Image) {
        for _ in 0..2 {
            let mark = self.snapshot.as_ref().map(|(mark, _)| mark.clone());
            let mut image = self
                .snapshot
                .as_ref()
                .map(|(_, image)| *image)
                .unwrap_or_default();
            let mut recovery = Recovery::new(key, self.state, mark, self.log_start)
                .unwrap_or_else(|error| panic!("a disk that kept everything: {error}"));
            if forget {
                recovery.forget_proven_voters();
            }
            for entry in &self.log {
                let shown = recovery.show(entry.batch().clone());
                match shown.unwrap_or_else(|error| panic!("a log that kept everything: {error}")) {
                    Shown::Apply => image.apply(entry),
                    Shown::Covered | Shown::Wait => {}
                }
            }
            let finished = recovery.finish();
            match finished.unwrap_or_else(|error| panic!("a disk that kept everything: {error}")) {
                Recovered::Ready(recovered) => return (recovered, image),
                Recovered::ResetLog(mark) => {
                    self.log.clear();
                    self.log_start = mark.end_offset;
                }
            }
        }
        panic!("a log that was reset must be as the snapshot wants it");
    }
}
