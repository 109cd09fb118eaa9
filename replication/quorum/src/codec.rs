//! The bytes of a message: a frame of our own, so that no peer's bytes reach a general decoder.
//!
//! Pure. Big-endian: `checksum u32 | version u8 | kind u8 | flags u8 | sender | receiver | term u64 | fields`, with a replica as
//! `broker i32, directory 16 bytes`. An append ends with record batches. The checksum (CRC-32C) covers what is between it and
//! them, and of each batch the front that the batch's own leaves out: an offset or an epoch that is damaged on its way would
//! make two logs differ where they say that they agree. Around it stands the peers' frame with its length.
//!
//! Invariants: what is decoded has been checked field by field; decoding allocates no more than a few words per entry that
//! is there; batches stay slices of the frame.

use bytes::{BufMut, Bytes, BytesMut};
use model::primitives::{PrimitiveError, Reader};
use model::record::{BatchError, HEADER_LEN, next_batch_size};
use model::{BrokerId, Offset};

use crate::entry::{ENTRY_BYTES_MAX, Entry, EntryError};
use crate::key::{DirectoryId, ReplicaKey, VOTERS_MAX, VoterSet, VotersError};
use crate::message::{Body, Message, SnapshotMark};
use crate::place::{EntryId, EntryIndex, Term};

/// The version that is written, and the only one that is read.
pub const CODEC_VERSION: u8 = 1;
/// Most entries of one message: a message of the usual size holds fewer even if they are as small as entries can be.
pub const MESSAGE_ENTRIES_MAX: usize = 16 << 10;
/// Bytes of everything but the batches, at most: a snapshot's mark is the longest.
const HEAD_BYTES_MAX: usize = 512;
/// Bytes of the longest frame: entries beyond the first are sent only while a message is below `message_bytes_max`, which
/// is no more than one large entry.
pub const FRAME_BYTES_MAX: usize = HEAD_BYTES_MAX + ENTRY_BYTES_MAX;

const KEY_BYTES: usize = 4 + 16;
/// Offset, length, epoch, magic and checksum of a batch: what its checksum does not cover.
const BATCH_FRONT_BYTES: usize = 21;
const CHECKSUM_BYTES: usize = 4;

/// Why a frame is refused. The connection that brought it is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("{0}")]
    Field(#[from] PrimitiveError),
    #[error("the checksum differs")]
    Checksum,
    #[error("version {0} is not known")]
    Version(u8),
    #[error("there is no message of kind {0}")]
    Kind(u8),
    #[error("flags {0:#04x} have no meaning")]
    Flags(u8),
    #[error("{0} is no term")]
    Term(u64),
    #[error("an entry without a term or a term without an entry")]
    EntryId,
    #[error("bytes behind the message")]
    Trailing,
    #[error("more than {MESSAGE_ENTRIES_MAX} entries")]
    TooManyEntries,
    #[error("a batch: {0}")]
    Batch(#[from] BatchError),
    #[error("an entry: {0}")]
    Entry(#[from] EntryError),
    #[error("entries that do not follow each other")]
    Order,
    #[error("{0}")]
    Voters(#[from] VotersError),
    #[error("a snapshot that ends nowhere")]
    Snapshot,
}

/// The bytes of a message, in the pieces that a vectored write takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Everything but the batches.
    pub head: Bytes,
    /// They follow.
    pub batches: Vec<Bytes>,
}

impl Frame {
    /// Bytes of all pieces.
    pub fn size_bytes(&self) -> usize {
        self.head.len() + self.batches.iter().map(Bytes::len).sum::<usize>()
    }

    /// All pieces in one.
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.size_bytes());
        bytes.put_slice(&self.head);
        for batch in &self.batches {
            bytes.put_slice(batch);
        }
        bytes.freeze()
    }
}

const APPEND: u8 = 1;
const APPENDED: u8 = 2;
const REJECTED: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_RESPONSE: u8 = 5;
const VOTE_REQUEST: u8 = 6;
const VOTE_RESPONSE: u8 = 7;
const SNAPSHOT: u8 = 8;
const TIMEOUT_NOW: u8 = 9;

const PRE: u8 = 1;
/// Of a request: for a transfer. Of a response: granted.
const SECOND: u8 = 2;

/// The bytes of a message.
pub fn encode(message: &Message) -> Frame {
    let (kind, flags) = kind_and_flags(&message.body);
    let mut head = BytesMut::with_capacity(HEAD_BYTES_MAX);
    head.put_u32(0);
    head.put_slice(&[CODEC_VERSION, kind, flags]);
    put_key(&mut head, message.from);
    put_key(&mut head, message.to);
    head.put_u64(message.term.0);
    let mut batches = Vec::new();
    match &message.body {
        Body::Append {
            previous,
            commit,
            entries,
        } => {
            put_id(&mut head, *previous);
            head.put_u64(commit.0);
            head.put_u32(u32::try_from(entries.len()).expect("MESSAGE_ENTRIES_MAX"));
            batches = entries.iter().map(|entry| entry.batch.clone()).collect();
        }
        Body::Appended { index, commit } => {
            head.put_u64(index.0);
            head.put_u64(commit.0);
        }
        Body::Rejected {
            index,
            hint,
            commit,
        } => {
            head.put_u64(index.0);
            put_id(&mut head, *hint);
            head.put_u64(commit.0);
        }
        Body::Heartbeat { commit } | Body::HeartbeatResponse { commit } => head.put_u64(commit.0),
        Body::VoteRequest { last, commit, .. } => {
            put_id(&mut head, *last);
            put_id(&mut head, *commit);
        }
        Body::VoteResponse { commit, .. } => put_id(&mut head, *commit),
        Body::Snapshot(mark) => put_mark(&mut head, mark),
        Body::TimeoutNow => {}
    }
    let checksum = checksum(&head, batches.iter());
    head[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_be_bytes());
    Frame {
        head: head.freeze(),
        batches,
    }
}

fn checksum<'a>(head: &[u8], batches: impl Iterator<Item = &'a Bytes>) -> u32 {
    let head = crc32c::crc32c(&head[CHECKSUM_BYTES..]);
    batches.fold(head, |checksum, batch| {
        crc32c::crc32c_append(checksum, &batch[..BATCH_FRONT_BYTES])
    })
}

fn kind_and_flags(body: &Body) -> (u8, u8) {
    let flags = |pre: bool, second: bool| PRE * u8::from(pre) + SECOND * u8::from(second);
    match body {
        Body::Append { .. } => (APPEND, 0),
        Body::Appended { .. } => (APPENDED, 0),
        Body::Rejected { .. } => (REJECTED, 0),
        Body::Heartbeat { .. } => (HEARTBEAT, 0),
        Body::HeartbeatResponse { .. } => (HEARTBEAT_RESPONSE, 0),
        Body::VoteRequest { pre, transfer, .. } => (VOTE_REQUEST, flags(*pre, *transfer)),
        Body::VoteResponse { pre, granted, .. } => (VOTE_RESPONSE, flags(*pre, *granted)),
        Body::Snapshot(_) => (SNAPSHOT, 0),
        Body::TimeoutNow => (TIMEOUT_NOW, 0),
    }
}

/// Reads a message from exactly its bytes.
pub fn decode(frame: &Bytes) -> Result<Message, CodecError> {
    if frame.len() > FRAME_BYTES_MAX {
        return Err(CodecError::TooLong(frame.len()));
    }
    let mut reader = Reader::new(frame);
    let expected = reader.u32()?;
    let version = reader.u8()?;
    if version != CODEC_VERSION {
        return Err(CodecError::Version(version));
    }
    let (kind, flags) = (reader.u8()?, reader.u8()?);
    let (from, to) = (read_key(&mut reader)?, read_key(&mut reader)?);
    let term = read_term(&mut reader)?;
    let body = read_body(&mut reader, kind, flags)?;
    let end = frame.len() - reader.remaining();
    let (body, found) = match body {
        Head::Whole(body) => {
            if !reader.is_empty() {
                return Err(CodecError::Trailing);
            }
            (body, checksum(frame, std::iter::empty()))
        }
        Head::Append(previous, commit, count) => {
            let entries = read_entries(frame.slice(end..), count, previous, term)?;
            let batches = entries.iter().map(|entry| &entry.batch);
            let found = checksum(&frame[..end], batches);
            let append = Body::Append {
                previous,
                commit,
                entries,
            };
            (append, found)
        }
    };
    if found != expected {
        return Err(CodecError::Checksum);
    }
    Ok(Message {
        from,
        to,
        term,
        body,
    })
}

/// A body but for its batches.
enum Head {
    Whole(Body),
    Append(EntryId, EntryIndex, usize),
}

fn read_body(reader: &mut Reader<'_>, kind: u8, flags: u8) -> Result<Head, CodecError> {
    let allowed = match kind {
        VOTE_REQUEST | VOTE_RESPONSE => PRE | SECOND,
        _ => 0,
    };
    if flags & !allowed != 0 {
        return Err(CodecError::Flags(flags));
    }
    let (pre, second) = (flags & PRE != 0, flags & SECOND != 0);
    Ok(Head::Whole(match kind {
        APPEND => {
            let (previous, commit) = (read_id(reader)?, EntryIndex(reader.u64()?));
            let count = reader.u32()? as usize;
            return Ok(Head::Append(previous, commit, count));
        }
        APPENDED => Body::Appended {
            index: EntryIndex(reader.u64()?),
            commit: EntryIndex(reader.u64()?),
        },
        REJECTED => Body::Rejected {
            index: EntryIndex(reader.u64()?),
            hint: read_id(reader)?,
            commit: EntryIndex(reader.u64()?),
        },
        HEARTBEAT => Body::Heartbeat {
            commit: EntryIndex(reader.u64()?),
        },
        HEARTBEAT_RESPONSE => Body::HeartbeatResponse {
            commit: EntryIndex(reader.u64()?),
        },
        VOTE_REQUEST => Body::VoteRequest {
            pre,
            transfer: second,
            last: read_id(reader)?,
            commit: read_id(reader)?,
        },
        VOTE_RESPONSE => Body::VoteResponse {
            pre,
            granted: second,
            commit: read_id(reader)?,
        },
        SNAPSHOT => Body::Snapshot(read_mark(reader)?),
        TIMEOUT_NOW => Body::TimeoutNow,
        other => return Err(CodecError::Kind(other)),
    }))
}

fn read_entries(
    mut rest: Bytes,
    count: usize,
    previous: EntryId,
    term: Term,
) -> Result<Vec<Entry>, CodecError> {
    if count > MESSAGE_ENTRIES_MAX {
        return Err(CodecError::TooManyEntries);
    }
    // No more room than for batches that can be there.
    let mut entries: Vec<Entry> = Vec::with_capacity(count.min(rest.len() / HEADER_LEN));
    for _ in 0..count {
        let size = next_batch_size(&rest)?;
        if size > rest.len() {
            return Err(PrimitiveError::Underflow.into());
        }
        let entry = Entry::read(rest.split_to(size))?;
        let (follows, latest) = match entries.last() {
            Some(last) => (entry.base_offset == last.end_offset, last.term),
            None => (true, previous.term),
        };
        if !follows || entry.term < latest || entry.term > term {
            return Err(CodecError::Order);
        }
        entries.push(entry);
    }
    if !rest.is_empty() {
        return Err(CodecError::Trailing);
    }
    Ok(entries)
}

fn put_key(out: &mut BytesMut, key: ReplicaKey) {
    out.put_i32(key.broker.0);
    out.put_slice(&key.directory.0);
}

fn read_key(reader: &mut Reader<'_>) -> Result<ReplicaKey, CodecError> {
    Ok(ReplicaKey {
        broker: BrokerId(reader.i32()?),
        directory: DirectoryId(reader.array()?),
    })
}

fn read_term(reader: &mut Reader<'_>) -> Result<Term, CodecError> {
    let term = Term(reader.u64()?);
    if term < Term(1) || term > Term::MAX {
        return Err(CodecError::Term(term.0));
    }
    Ok(term)
}

fn put_id(out: &mut BytesMut, id: EntryId) {
    out.put_u64(id.index.0);
    out.put_u64(id.term.0);
}

fn read_id(reader: &mut Reader<'_>) -> Result<EntryId, CodecError> {
    let id = EntryId {
        index: EntryIndex(reader.u64()?),
        term: Term(reader.u64()?),
    };
    if id.term > Term::MAX {
        return Err(CodecError::Term(id.term.0));
    }
    if (id.index == EntryIndex(0)) != (id.term == Term(0)) {
        return Err(CodecError::EntryId);
    }
    Ok(id)
}

fn put_mark(out: &mut BytesMut, mark: &SnapshotMark) {
    out.put_u64(mark.index.0);
    out.put_u64(mark.term.0);
    out.put_i64(mark.end_offset.0);
    out.put_u8(u8::try_from(mark.voters.keys().len()).expect("VOTERS_MAX"));
    for voter in mark.voters.keys() {
        put_key(out, *voter);
    }
}

fn read_mark(reader: &mut Reader<'_>) -> Result<SnapshotMark, CodecError> {
    let id = read_id(reader)?;
    let end_offset = Offset(reader.i64()?);
    // An entry has an offset at least.
    let least = i64::try_from(id.index.0).map_err(|_| CodecError::Snapshot)?;
    if least == 0 || end_offset.0 < least {
        return Err(CodecError::Snapshot);
    }
    let count = usize::from(reader.u8()?);
    if count > VOTERS_MAX {
        return Err(VotersError::TooMany(count).into());
    }
    let mut voters = Vec::with_capacity(count);
    for _ in 0..count {
        voters.push(read_key(reader)?);
    }
    Ok(SnapshotMark {
        index: id.index,
        term: id.term,
        end_offset,
        voters: VoterSet::new(voters)?,
    })
}

const _: () = assert!(3 + 2 * KEY_BYTES + 8 + 25 + VOTERS_MAX * KEY_BYTES <= HEAD_BYTES_MAX);

/// Writes a snapshot's mark as the driver keeps it with the snapshot: as in a message, with a checksum before it.
pub fn encode_mark(mark: &SnapshotMark) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32(0);
    out.put_u8(CODEC_VERSION);
    put_mark(&mut out, mark);
    let checksum = crc32c::crc32c(&out[CHECKSUM_BYTES..]);
    out[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_be_bytes());
    out.freeze()
}

/// Reads what [`encode_mark`] wrote.
pub fn decode_mark(bytes: &[u8]) -> Result<SnapshotMark, CodecError> {
    let mut reader = Reader::new(bytes);
    if reader.u32()? != crc32c::crc32c(reader.rest()) {
        return Err(CodecError::Checksum);
    }
    let version = reader.u8()?;
    if version != CODEC_VERSION {
        return Err(CodecError::Version(version));
    }
    let mark = read_mark(&mut reader)?;
    if !reader.is_empty() {
        return Err(CodecError::Trailing);
    }
    Ok(mark)
}
