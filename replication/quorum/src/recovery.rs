//! What a replica knows when it starts: its log read once, from front to back.
//!
//! Pure. The driver shows every batch of the log; a batch that is known to be committed it applies on the spot, the others
//! come out of the quorum when they are.
//!
//! | on disk                                               | what it means                                               |
//! |-------------------------------------------------------|-------------------------------------------------------------|
//! | no snapshot, log from offset 0                        | entry 1 is the first batch                                  |
//! | a snapshot, the log reaches over its end              | the batch that ends there is its last entry                 |
//! | a snapshot, the log ends before or has another batch  | it was fetched, and the crash came before the log was reset |
//! | a snapshot, the log begins behind its end             | entries are missing: damaged                                |
//! | the state names an entry that is not there            | what was durable is gone: damaged                           |
//! | an entry of a term that the state has not seen        | the state was written first, so it is older: damaged        |
//!
//! Two things are committed though the state may not say so. **Entry 1**, the first voters: all that have it were made with
//! it. **A change of the voters that another one follows**: a leader begins a change only when it has seen the one before
//! committed. The second is needed: a replica that comes back with both in its log, but without the word that the first is
//! committed, would hold elections by a set of voters two changes old, of which a majority need not meet a majority of today.

use bytes::Bytes;
use model::Offset;

use crate::effects::HardState;
use crate::entry::{Entry, EntryError, EntryKind};
use crate::entry_log::{Before, EntryLog};
use crate::key::{ReplicaKey, VoterSet};
use crate::message::SnapshotMark;
use crate::place::Term;

/// Why a log cannot be that of a replica. Such a directory has lost what it had promised: it must not vote again under the
/// same identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    #[error("the batch at offset {0} is no entry: {1}")]
    Entry(Offset, EntryError),
    #[error("a batch begins at offset {found}, the one before ends at {expected}")]
    Gap {
        /// Where the batch begins.
        found: Offset,
        /// Where it should.
        expected: Offset,
    },
    #[error("term {1:?} follows term {0:?}")]
    TermWentBack(Term, Term),
    #[error("the log begins at offset {log_start}, the snapshot ends at {snapshot_end}")]
    MissingBehindSnapshot {
        /// Where the log begins.
        log_start: Offset,
        /// Where the snapshot ends; 0 if there is none.
        snapshot_end: Offset,
    },
    #[error("entry {committed} is committed, but the log ends with entry {last}")]
    CommittedMissing {
        /// What the state says.
        committed: u64,
        /// What there is.
        last: u64,
    },
    #[error("the log has term {log}, the state only {state}")]
    TermMissing {
        /// Of the last entry.
        log: u64,
        /// Of the state.
        state: u64,
    },
}

/// What to do with a batch that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is in the snapshot.
    Covered,
    /// It is committed: apply it now. It does not come out of the quorum again.
    Apply,
    /// It will come out of the quorum when it is committed, or be cut off.
    Wait,
}

/// How a log was read.
#[derive(Debug)]
pub enum Recovered {
    /// The quorum can begin.
    Ready(RecoveredLog),
    /// The log is older than the snapshot, or another: reset it to the snapshot's end, durably, then recover once more.
    ResetLog(SnapshotMark),
}

/// The log of a replica that was read.
#[derive(Debug)]
pub struct RecoveredLog {
    pub(crate) me: ReplicaKey,
    /// As it is on disk.
    pub(crate) state: HardState,
    pub(crate) snapshot: Option<SnapshotMark>,
    pub(crate) log: EntryLog,
    /// What the driver has applied ends here.
    pub(crate) applied: u64,
    /// What is known to be committed ends here.
    pub(crate) committed: u64,
    /// The voters then.
    pub(crate) voters: VoterSet,
}

impl RecoveredLog {
    /// The voters, as far as the log is known to be committed.
    pub fn voters(&self) -> &VoterSet {
        &self.voters
    }
}

/// The log of a replica as it is read.
#[derive(Debug)]
pub struct Recovery {
    me: ReplicaKey,
    state: HardState,
    snapshot: Option<SnapshotMark>,
    log: EntryLog,
    covered: Covered,
    applied: u64,
    /// The voters after the last entry that is known to be committed.
    voters: VoterSet,
    /// The last change of the voters that is not known to be committed.
    proposed: Option<(u64, VoterSet)>,
    forgets_proven: bool,
}

/// The part of the log that a snapshot covers.
#[derive(Debug)]
enum Covered {
    /// Is being read; nothing of it at first. The indexes count from 0 until the snapshot's last entry is found, from which
    /// back all entries have their places. The first serves as the one before: of what lies before it nothing is known.
    Reading(Option<EntryLog>),
    /// Was read, or there is none.
    Over,
    /// It is not the snapshot's log.
    Mismatch,
}

impl Recovery {
    /// A log from `log_start` on, with the newest snapshot that is whole.
    pub fn new(
        me: ReplicaKey,
        state: HardState,
        snapshot: Option<SnapshotMark>,
        log_start: Offset,
    ) -> Result<Recovery, RecoveryError> {
        let before = snapshot.as_ref().map(Before::from).unwrap_or_default();
        if log_start > before.end_offset {
            return Err(RecoveryError::MissingBehindSnapshot {
                log_start,
                snapshot_end: before.end_offset,
            });
        }
        let covered = match log_start < before.end_offset {
            true => Covered::Reading(None),
            false => Covered::Over,
        };
        let voters = snapshot.as_ref().map(|mark| mark.voters.clone());
        Ok(Recovery {
            me,
            state,
            log: EntryLog::new(before),
            applied: before.index,
            voters: voters.unwrap_or_else(VoterSet::unknown),
            snapshot,
            covered,
            proposed: None,
            forgets_proven: false,
        })
    }

    /// The next batch of the log.
    pub fn show(&mut self, batch: Bytes) -> Result<Shown, RecoveryError> {
        let at = self.end_offset();
        let entry = Entry::read(batch).map_err(|error| RecoveryError::Entry(at, error))?;
        match &mut self.covered {
            Covered::Mismatch => return Ok(Shown::Covered),
            Covered::Over => {}
            Covered::Reading(read) => {
                match read {
                    None => *read = Some(EntryLog::new(Before::entry(0, &entry))),
                    Some(log) => {
                        check_follows(&entry, log)?;
                        log.append_on_disk(&entry);
                    }
                }
                self.check_covered(&entry);
                return Ok(Shown::Covered);
            }
        }
        check_follows(&entry, &self.log)?;
        Ok(self.add(entry))
    }

    fn end_offset(&self) -> Offset {
        match &self.covered {
            Covered::Reading(read) => read.as_ref().map_or(Offset::ZERO, EntryLog::end_offset),
            _ => self.log.end_offset(),
        }
    }

    /// Looks whether `last`, which was just read, is the snapshot's last entry.
    fn check_covered(&mut self, last: &Entry) {
        let (Some(mark), Covered::Reading(Some(log))) = (&self.snapshot, &mut self.covered) else {
            return;
        };
        if last.end_offset < mark.end_offset {
            return;
        }
        let is_it = last.end_offset == mark.end_offset && last.term == mark.term;
        if !is_it || log.last_index() >= mark.index.0 {
            self.covered = Covered::Mismatch;
            return;
        }
        log.number_from_end(mark.index.0);
        let Covered::Reading(Some(log)) = std::mem::replace(&mut self.covered, Covered::Over)
        else {
            unreachable!("looked at above");
        };
        self.log = log;
    }

    fn add(&mut self, entry: Entry) -> Shown {
        let index = self.log.last_index() + 1;
        let is_committed = index <= self.state.commit;
        if is_committed {
            self.log.append_on_disk(&entry);
            self.applied = index;
        } else {
            self.log.append(&entry);
        }
        if let EntryKind::Voters(voters) = entry.kind {
            if is_committed || index == 1 {
                self.voters = voters;
            } else if let Some((_, proven)) = self.proposed.replace((index, voters))
                && !self.forgets_proven
            {
                self.voters = proven;
            }
        }
        match is_committed {
            true => Shown::Apply,
            false => Shown::Wait,
        }
    }

    /// The whole log was shown.
    pub fn finish(self) -> Result<Recovered, RecoveryError> {
        let last = self.log.last_index();
        let missing = RecoveryError::CommittedMissing {
            committed: self.state.commit,
            last,
        };
        if !matches!(self.covered, Covered::Over) {
            let mark = self.snapshot.expect("only a snapshot covers");
            if self.state.commit > mark.index.0 {
                return Err(missing);
            }
            return Ok(Recovered::ResetLog(mark));
        }
        if self.state.commit > last {
            return Err(missing);
        }
        let term = self.log.term(last).expect("the last has a place");
        if term > self.state.term {
            return Err(RecoveryError::TermMissing {
                log: term,
                state: self.state.term,
            });
        }
        Ok(Recovered::Ready(RecoveredLog {
            committed: self.known_committed(),
            me: self.me,
            state: self.state,
            snapshot: self.snapshot,
            log: self.log,
            applied: self.applied,
            voters: self.voters,
        }))
    }

    /// The last entry that is known to be committed.
    fn known_committed(&self) -> u64 {
        let first = self.log.last_index().min(1);
        let known = self.state.commit.max(self.log.before().index).max(first);
        let known = known.max(self.applied);
        match self.proposed {
            Some((last_change, _)) if !self.forgets_proven => {
                let mut changes = (known + 1..last_change).rev();
                let proven = changes.find(|index| self.log.is_voters(*index));
                proven.unwrap_or(known)
            }
            _ => known,
        }
    }

    /// Plants a fault: a change of voters that a later one proves is not in force.
    #[doc(hidden)]
    pub fn forget_proven_voters(&mut self) {
        self.forgets_proven = true;
    }
}

fn check_follows(entry: &Entry, log: &EntryLog) -> Result<(), RecoveryError> {
    if entry.base_offset != log.end_offset() {
        return Err(RecoveryError::Gap {
            found: entry.base_offset,
            expected: log.end_offset(),
        });
    }
    let term = log.term(log.last_index()).expect("the last has a place");
    if entry.term < Term(term) {
        return Err(RecoveryError::TermWentBack(Term(term), entry.term));
    }
    Ok(())
}
