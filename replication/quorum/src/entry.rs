//! One entry of the quorum's log: one record batch of the metadata log.
//!
//! Pure. The mapping between the two: **entry `n` is the `n`-th batch of the log, counted from 1**, its term is the batch's
//! leader epoch, and its offsets follow those of entry `n - 1` without a gap. So offsets and indexes are one order, either
//! side finds its way without a table on disk, and the bytes of a log are the same on every replica. What the library writes
//! of its own has a batch too: the entry with which a term begins is a LeaderChange control batch, a change of the voters a
//! KRaftVoters control batch (Kafka's types 2 and 6). Both use up one offset.
//!
//! Invariants: a term is 1 to 2^31 - 1; a control batch has one record.

use bytes::Bytes;
use model::Offset;
use model::record::{BatchError, BatchHeader, crc_matches};

use crate::control::{self, Control, ControlError};
use crate::key::VoterSet;
use crate::place::Term;

/// Bytes of the largest entry.
pub const ENTRY_BYTES_MAX: usize = 16 << 20;

/// What an entry is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// Records of the controller.
    Decision,
    /// The first entry of a term.
    LeaderChange,
    /// From here on these are the voters.
    Voters(VoterSet),
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("it is no batch: {0}")]
    Batch(#[from] BatchError),
    #[error("a batch of {0} bytes where {1} are")]
    Size(usize, usize),
    #[error("the checksum differs")]
    Checksum,
    #[error("leader epoch {0} is no term")]
    Term(i32),
    #[error("its offsets cannot be")]
    Offsets,
    #[error("a control batch: {0}")]
    Control(#[from] ControlError),
}

/// A record batch that is an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub(crate) term: Term,
    pub(crate) kind: EntryKind,
    pub(crate) base_offset: Offset,
    /// Where the next entry begins.
    pub(crate) end_offset: Offset,
    pub(crate) batch: Bytes,
}

impl Entry {
    /// Reads bytes that came from elsewhere: everything is checked.
    pub fn read(batch: Bytes) -> Result<Entry, EntryError> {
        let entry = Entry::parse(batch)?;
        if !crc_matches(&entry.batch) {
            return Err(EntryError::Checksum);
        }
        Ok(entry)
    }

    /// As [`Entry::read`], of bytes whose checksum was verified before.
    pub(crate) fn parse(batch: Bytes) -> Result<Entry, EntryError> {
        let header = BatchHeader::parse(&batch)?;
        if header.size_bytes() != batch.len() || batch.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::Size(header.size_bytes(), batch.len()));
        }
        let term = match u64::try_from(header.leader_epoch.0) {
            Ok(term) if term > 0 => term,
            _ => return Err(EntryError::Term(header.leader_epoch.0)),
        };
        let records = i64::from(header.record_count);
        let last = i64::from(header.last_offset_delta);
        let end = header.base_offset.0.checked_add(records);
        let (Some(end), true) = (end, records >= 1 && last == records - 1) else {
            return Err(EntryError::Offsets);
        };
        if header.base_offset < Offset::ZERO {
            return Err(EntryError::Offsets);
        }
        let kind = match header.is_control() {
            false => EntryKind::Decision,
            true => match control::decode(&batch)? {
                Control::LeaderChange => EntryKind::LeaderChange,
                Control::Voters(voters) => EntryKind::Voters(voters),
            },
        };
        Ok(Entry {
            term: Term(term),
            kind,
            base_offset: header.base_offset,
            end_offset: Offset(end),
            batch,
        })
    }

    /// The term under which it was appended.
    pub fn term(&self) -> Term {
        self.term
    }

    /// What it is for.
    pub fn kind(&self) -> &EntryKind {
        &self.kind
    }

    /// Its first offset.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// The offset behind its last.
    pub fn end_offset(&self) -> Offset {
        self.end_offset
    }

    /// Its bytes, as they stand in the log.
    pub fn batch(&self) -> &Bytes {
        &self.batch
    }
}
