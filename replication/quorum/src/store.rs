//! The log as the library sees it: its `Storage`.
//!
//! Pure. Entries come from memory. For a follower that lags behind what is in memory, a read is asked for and the library
//! told to try again; it does when the read is done. For everything else the library looks only at terms and kinds, which are
//! in memory for all entries.
//! Invariants: at most [`READS_MAX`] reads are under way or waiting for their use.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry as RaftEntry, EntryType, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::codec::MESSAGE_ENTRIES_MAX;
use crate::effects::ReadEntries;
use crate::entry::Entry;
use crate::entry_log::EntryLog;
use crate::message::SnapshotMark;
use crate::place::EntryIndex;

/// Reads for followers at a time. Others wait for the next heartbeat's answer.
const READS_MAX: usize = 8;

/// A read of old entries, by its first one.
#[derive(Debug)]
enum Read {
    /// To be asked for: up to this entry.
    Wanted(u64),
    /// With the driver.
    UnderWay(u64),
    /// Here, for the call that is made next.
    Done(Vec<Bytes>),
}

/// The log and what belongs to it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) log: EntryLog,
    initial: RaftState,
    offer: Option<SnapshotMark>,
    reads: RefCell<BTreeMap<u64, Read>>,
}

impl Store {
    pub(crate) fn new(log: EntryLog, initial: RaftState, offer: Option<SnapshotMark>) -> Store {
        Store {
            log,
            initial,
            offer,
            reads: RefCell::default(),
        }
    }

    /// The snapshot that followers get that need what is not in the log any more.
    pub(crate) fn offer(&self) -> Option<&SnapshotMark> {
        self.offer.as_ref()
    }

    pub(crate) fn set_offer(&mut self, mark: SnapshotMark) {
        self.offer = Some(mark);
    }

    /// The next read to ask the driver for.
    pub(crate) fn next_read(&mut self) -> Option<ReadEntries> {
        let log = &self.log;
        let reads = self.reads.get_mut();
        let wanted = |read: (&u64, &Read)| match read {
            (first, Read::Wanted(last)) => Some((*first, *last)),
            _ => None,
        };
        let (first, last) = reads.iter().find_map(wanted)?;
        reads.insert(first, Read::UnderWay(last));
        Some(ReadEntries {
            first: EntryIndex(first),
            start_offset: log.base_offset(first).expect("an entry of the log"),
            end_offset: log.end_offset_of(last).expect("an entry of the log"),
        })
    }

    /// A read is over: with its batches, or without. Whether the entries may be asked for again now.
    pub(crate) fn finish_read(&mut self, first: u64, batches: Option<Vec<Bytes>>) -> bool {
        let reads = self.reads.get_mut();
        let Some(Read::UnderWay(last)) = reads.remove(&first) else {
            return false;
        };
        let Some(batches) = batches else {
            return false;
        };
        // The log may have been cut or compacted meanwhile, or the disk have damaged it.
        let is_entry = |(index, batch): (u64, &Bytes)| {
            Entry::read(batch.clone()).is_ok_and(|entry| {
                self.log.term(index) == Some(entry.term.0)
                    && self.log.base_offset(index) == Some(entry.base_offset)
            })
        };
        let is_whole =
            batches.len() as u64 == last + 1 - first && (first..).zip(&batches).all(is_entry);
        if is_whole {
            reads.insert(first, Read::Done(batches));
        }
        is_whole
    }

    /// Nobody will use what was read any more.
    pub(crate) fn drop_done(&mut self) {
        let reads = self.reads.get_mut();
        reads.retain(|_, read| !matches!(read, Read::Done(_)));
    }

    /// An entry as the library knows it, with or without its bytes.
    fn entry(&self, index: u64, data: Bytes) -> RaftEntry {
        let term = self.log.term(index).expect("an entry of the log");
        raft_entry(index, term, self.log.is_voters(index), data)
    }

    /// The last entry of a run from `low` that has at most `bytes_max` bytes, or a single entry.
    fn last_of_run(&self, low: u64, high: u64, bytes_max: u64) -> u64 {
        let high = high.min(low + MESSAGE_ENTRIES_MAX as u64);
        let (mut last, mut bytes) = (low, 0);
        for index in low..high {
            bytes += self.log.size(index).expect("an entry of the log") as u64;
            if bytes > bytes_max {
                break;
            }
            last = index;
        }
        last
    }

    /// Entries from `low` on for a follower.
    fn for_follower(&self, low: u64, high: u64, bytes_max: u64) -> Result<Vec<RaftEntry>> {
        let last = self.last_of_run(low, high, bytes_max);
        let mut reads = self.reads.borrow_mut();
        if let Some(Read::Done(batches)) = reads.get(&low) {
            let read = (low..).zip(batches);
            return Ok(read
                .map(|(index, batch)| self.entry(index, batch.clone()))
                .collect());
        }
        let in_memory = |index| Some(self.entry(index, self.log.batch(index)?.clone()));
        if let Some(entries) = (low..=last).map(in_memory).collect() {
            return Ok(entries);
        }
        // What is in memory is not read.
        let last = last.min(self.log.first_in_memory() - 1);
        if reads.len() < READS_MAX && !reads.contains_key(&low) {
            reads.insert(low, Read::Wanted(last));
        }
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }
}

impl Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> Result<Vec<RaftEntry>> {
        assert!(low < high && high <= self.log.last_index() + 1);
        if low < self.log.first_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        if context.can_async() {
            let bytes_max = max_size.into().unwrap_or(u64::MAX);
            return self.for_follower(low, high, bytes_max);
        }
        // Only looked at for changes of the voters.
        Ok((low..high)
            .map(|index| self.entry(index, Bytes::new()))
            .collect())
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index < self.log.before().index {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.log
            .term(index)
            .ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.log.last_index())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        let unavailable = Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        let offer = self.offer.as_ref().ok_or(unavailable)?;
        assert!(
            request_index <= offer.index.0,
            "nobody asks for a newer one"
        );
        Ok(to_raft_snapshot(offer, &[]))
    }
}

/// An entry as the library takes it. It looks at the kind, never into the data.
pub(crate) fn raft_entry(index: u64, term: u64, is_voters: bool, data: Bytes) -> RaftEntry {
    let mut entry = RaftEntry {
        index,
        term,
        data,
        ..RaftEntry::default()
    };
    if is_voters {
        entry.set_entry_type(EntryType::EntryConfChangeV2);
    }
    entry
}

/// A snapshot's mark as the library takes it. `learners` are those that it must know beside the voters.
pub(crate) fn to_raft_snapshot(mark: &SnapshotMark, learners: &[u64]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = mark.index.0;
    metadata.term = mark.term.0;
    let voters = mark.voters.keys().iter().map(|voter| voter.id());
    metadata.set_conf_state(conf_state(voters.collect(), learners.to_vec()));
    snapshot
}

/// Voters and learners as the library takes them.
pub(crate) fn conf_state(voters: Vec<u64>, learners: Vec<u64>) -> ConfState {
    let mut state = ConfState::default();
    state.set_voters(voters);
    state.set_learners(learners);
    state
}
