//! What the driver has to do, in order.

use bytes::Bytes;
use model::Offset;

use crate::entry::EntryKind;
use crate::key::ReplicaKey;
use crate::message::{Message, SnapshotMark};
use crate::place::{EntryIndex, Term};

/// What a replica has promised, and how far it knows the log to be committed: the storage's quorum state.
///
/// `commit` only ever names entries that are durable here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term seen.
    pub term: u64,
    /// The [`ReplicaKey::id`] that got the vote in it; 0: nobody.
    pub vote: u64,
    /// Entries up to this one are committed.
    pub commit: u64,
}

/// Names a [`Write`]. They count up from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteNumber(pub u64);

/// What must become durable, in the order of the fields; then [`crate::Quorum::handle_persisted`]. Writes are carried out
/// one after the other, and each is durable no later than the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Its name.
    pub number: WriteNumber,
    /// Replaces the one before.
    pub state: Option<HardState>,
    /// The snapshot that was fetched takes the place of the whole log: it becomes the one that counts at a restart, the log
    /// is emptied and begins at its end.
    pub install: Option<SnapshotMark>,
    /// What lies from here on goes.
    pub truncate_to: Option<Offset>,
    /// Batches that follow, with their offsets and leader epochs.
    pub append: Vec<Bytes>,
}

/// An entry that will never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place.
    pub index: EntryIndex,
    /// Its term.
    pub term: Term,
    /// What it is for.
    pub kind: EntryKind,
    /// The offset behind it: the metadata log is committed up to here.
    pub end_offset: Offset,
    /// Its bytes.
    pub batch: Bytes,
}

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// In which term.
    pub term: Term,
    /// Who, if that is known. It is told before the leader has committed anything: a new controller decides only when the
    /// LeaderChange entry of its term has come out as [`Output::Committed`].
    pub leader: Option<ReplicaKey>,
}

/// Entries that are needed for a follower and are not in memory any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadEntries {
    /// The first of them.
    pub first: EntryIndex,
    /// Where it begins.
    pub start_offset: Offset,
    /// Where the last ends.
    pub end_offset: Offset,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Somebody else leads, or nobody, or this replica.
    Leadership(Leadership),
    /// Make this durable.
    Write(Write),
    /// Send this to [`Message::to`]. It may be lost, late, doubled.
    Send(Message),
    /// Apply this. Each entry comes once per life of the replica, in order, and is durable here.
    Committed(Committed),
    /// Read these from the log, without waiting for it here; then [`crate::Quorum::handle_entries_read`].
    ReadEntries(ReadEntries),
    /// Get this snapshot from that replica, into a file beside what is there, synced; then
    /// [`crate::Quorum::handle_snapshot_fetched`]. One at a time.
    FetchSnapshot(ReplicaKey, SnapshotMark),
    /// The snapshot that was fetched is not needed any more.
    DiscardSnapshot(SnapshotMark),
}
