//! Bytes of a shard's checkpoint: what its logs consist of, and from where the journal must be replayed. Pure.
//!
//! A whole checkpoint begins one of two files, in turn; increments, which say what has changed since, follow it there:
//! see [`crate::checkpoint_chain`]. FORMAT.md, section "Checkpoint". Formats 1 to 3, which earlier releases wrote, are read
//! too.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use model::{ShardId, TopicPartition};
use runtime::align_up;

use crate::cache::tail::JournalPosition;
use crate::encoding::{Decoder, Encoder, Short};
use crate::identity::BrokerIdentity;
use crate::index::SegmentId;
use crate::journal::generations::Generations;
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::log::Log;
use crate::options::LogConfig;
use crate::producer_state::ProducerStates;
use crate::quorum_state::QuorumState;
use crate::removals::Removal;
use crate::segment::Segment;

const MAGIC: u32 = u32::from_le_bytes(*b"RLGC");
const INCREMENT_MAGIC: u32 = u32::from_le_bytes(*b"RLGN");
/// Version of the checkpoint's bytes.
pub(crate) const FORMAT: u16 = 4;
/// The oldest version that is read.
const FORMAT_MIN: u16 = 1;
/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 32;
const LOG_BYTES_MIN: usize = 20 + 8 * 3 + 12;
const REMOVAL_BYTES: usize = 41;

/// What the shard was doing when it wrote the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Running: the journal must be replayed.
    Running = 0,
    /// Recovery had finished: the journal is empty.
    Recovered = 1,
    /// An orderly stop: the journal holds at most what a full device had no room for, and ends where the checkpoint says.
    CleanShutdown = 2,
}

/// A checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) shard: ShardId,
    pub(crate) sequence: u64,
    /// Which of the two files it is in; known to who has read it from there.
    pub(crate) slot: u8,
    pub(crate) state: RunState,
    /// Into how many shards the data directory was divided; 0 if it is not known (format 1).
    pub(crate) shard_count: u16,
    /// Whose it is; older formats do not say.
    pub(crate) identity: Option<BrokerIdentity>,
    pub(crate) generations: Generations,
    /// Where replay begins. The place is where the group is or would be; if it did not fit, it is the first of
    /// another file.
    pub(crate) replay: JournalPosition,
    /// The journal is durable at least through this group.
    pub(crate) durable_through: u64,
    pub(crate) removals: Vec<Removal>,
    pub(crate) logs: Vec<Rc<Log>>,
}

impl Checkpoint {
    /// Whether the journal holds something that the logs do not.
    pub(crate) fn has_journal(&self) -> bool {
        match self.state {
            RunState::Running => true,
            RunState::Recovered => false,
            RunState::CleanShutdown => self.replay.sequence <= self.durable_through,
        }
    }
}

/// Why bytes are not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointError {
    /// Torn or damaged.
    Damaged(&'static str),
    /// What stands at `position` is damaged and had been durable: there are increments after it. `sequence` is the last that is
    /// known to have been.
    Broken { sequence: u64, position: u64 },
    /// Sound but of another version.
    Format(u16),
}

impl From<Short> for CheckpointError {
    fn from(_: Short) -> CheckpointError {
        CheckpointError::Damaged("a field is cut off")
    }
}

/// Encodes a checkpoint, log by log.
pub(crate) struct CheckpointEncoder {
    out: Encoder,
    magic: u32,
    /// Of an increment: logs that are gone.
    gone: BTreeSet<TopicPartition>,
    log_count: u32,
    log_count_at: usize,
    removals: Vec<Removal>,
}

/// What the encoder is told first.
pub(crate) struct CheckpointHead<'a> {
    pub(crate) state: RunState,
    pub(crate) shard_count: u16,
    pub(crate) identity: Option<&'a BrokerIdentity>,
    pub(crate) generations: &'a Generations,
    pub(crate) replay: JournalPosition,
}

impl CheckpointEncoder {
    /// A whole checkpoint.
    pub(crate) fn new(
        head: &CheckpointHead<'_>,
        removals: impl IntoIterator<Item = Removal>,
    ) -> CheckpointEncoder {
        let mut out = Encoder::default();
        out.bytes.resize(HEADER_BYTES, 0);
        CheckpointEncoder::begin(MAGIC, out, head, removals)
    }

    /// What has changed since the checkpoint whose header has the checksum `previous`. `gone` are logs that may be in that
    /// one; one that was made anew under the name is added like any other.
    pub(crate) fn increment(
        head: &CheckpointHead<'_>,
        previous: u32,
        gone: BTreeSet<TopicPartition>,
        removals: impl IntoIterator<Item = Removal>,
    ) -> CheckpointEncoder {
        assert_eq!(head.state, RunState::Running, "other states are said whole");
        let mut out = Encoder::default();
        out.bytes.resize(HEADER_BYTES, 0);
        out.u32(previous);
        let begun = CheckpointEncoder::begin(INCREMENT_MAGIC, out, head, removals);
        CheckpointEncoder { gone, ..begun }
    }

    fn begin(
        magic: u32,
        mut out: Encoder,
        head: &CheckpointHead<'_>,
        removals: impl IntoIterator<Item = Removal>,
    ) -> CheckpointEncoder {
        out.u8(head.state as u8);
        out.u16(head.shard_count);
        BrokerIdentity::encode(head.identity, &mut out);
        let generations = head.generations.since(head.replay.sequence);
        generations.encode(&mut out);
        out.u64(head.replay.sequence);
        out.u32(head.replay.previous_checksum);
        out.u32(head.replay.file);
        out.u64(head.replay.position);
        let log_count_at = out.bytes.len();
        out.count(0);
        CheckpointEncoder {
            out,
            magic,
            gone: BTreeSet::new(),
            log_count: 0,
            log_count_at,
            removals: removals.into_iter().collect(),
        }
    }

    /// Adds a log as it is now, and its files that it no longer names.
    pub(crate) fn log(&mut self, log: &Log, removals: impl IntoIterator<Item = Removal>) {
        encode_log(log, &mut self.out);
        assert!(self.log_count < u32::MAX, "logs are counted by u32");
        self.log_count += 1;
        self.removals.extend(removals);
    }

    /// A log is as the checkpoint before says, and has lost these files.
    pub(crate) fn unchanged(&mut self, removals: impl IntoIterator<Item = Removal>) {
        assert_eq!(self.magic, INCREMENT_MAGIC, "a whole checkpoint says all");
        self.removals.extend(removals);
    }

    /// The bytes of the file, padded to a multiple of 4096.
    pub(crate) fn finish(self, shard: ShardId, sequence: u64, durable_through: u64) -> Vec<u8> {
        let mut out = self.out;
        out.bytes[self.log_count_at..self.log_count_at + 4]
            .copy_from_slice(&self.log_count.to_le_bytes());
        out.count(self.removals.len());
        for removal in self.removals {
            encode_removal(removal, &mut out);
        }
        if self.magic == INCREMENT_MAGIC {
            out.count(self.gone.len());
            for id in self.gone {
                out.topic_partition(id);
            }
        }
        out.u64(durable_through);
        let body_bytes = out.bytes.len() - HEADER_BYTES;
        let mut head = Encoder::default();
        head.u32(self.magic);
        head.u16(FORMAT);
        head.u16(shard.0);
        head.u64(sequence);
        head.u64(body_bytes as u64);
        head.u32(crc32c::crc32c(&out.bytes[HEADER_BYTES..]));
        head.u32(crc32c::crc32c(&head.bytes));
        out.bytes[..HEADER_BYTES].copy_from_slice(&head.bytes);
        out.bytes.resize(align_up(out.bytes.len()), 0);
        out.bytes
    }
}

/// The checksum of an encoded checkpoint's header.
pub(crate) fn header_checksum(bytes: &[u8]) -> u32 {
    let last = bytes[..HEADER_BYTES].last_chunk().expect("a whole header");
    u32::from_le_bytes(*last)
}

/// Checksum of what a checkpoint says of a log now.
pub(crate) fn checksum_of(log: &Log) -> u32 {
    let mut out = Encoder::default();
    encode_log(log, &mut out);
    crc32c::crc32c(&out.bytes)
}

/// A sound header and body.
struct Part<'a> {
    format: u16,
    shard: ShardId,
    sequence: u64,
    body: &'a [u8],
}

impl Part<'_> {
    fn read(bytes: &[u8], magic: u32) -> Result<Part<'_>, CheckpointError> {
        let head = bytes.first_chunk::<HEADER_BYTES>().ok_or(Short)?;
        let mut fields = Decoder::new(head);
        if fields.u32()? != magic {
            return Err(CheckpointError::Damaged("not a checkpoint"));
        }
        let format = fields.u16()?;
        let shard = ShardId(fields.u16()?);
        let sequence = fields.u64()?;
        let body_bytes = fields.u64()?;
        let body_checksum = fields.u32()?;
        if crc32c::crc32c(&head[..HEADER_BYTES - 4]) != fields.u32()? {
            return Err(CheckpointError::Damaged(
                "the header's checksum does not match",
            ));
        }
        if !(FORMAT_MIN..=FORMAT).contains(&format) {
            return Err(CheckpointError::Format(format));
        }
        let body_bytes = usize::try_from(body_bytes).map_err(|_| Short)?;
        let body = bytes[HEADER_BYTES..].get(..body_bytes).ok_or(Short)?;
        if crc32c::crc32c(body) != body_checksum {
            return Err(CheckpointError::Damaged("the checksum does not match"));
        }
        Ok(Part {
            format,
            shard,
            sequence,
            body,
        })
    }

    /// Bytes in the file.
    fn len(&self) -> usize {
        align_up(HEADER_BYTES + self.body.len())
    }
}

/// An increment as it was read.
pub(crate) struct Increment {
    /// Checksum of the header before.
    pub(crate) previous: u32,
    gone: Vec<TopicPartition>,
    changed: Checkpoint,
}

impl Increment {
    /// Reads an increment; returns its length in the file, too.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Increment, usize), CheckpointError> {
        let part = Part::read(bytes, INCREMENT_MAGIC)?;
        let mut from = Decoder::new(part.body);
        let previous = from.u32()?;
        let mut changed = Checkpoint::decode_logs(&part, &mut from)?;
        changed.removals = decode_removals(&mut from, part.format)?;
        let mut gone = Vec::new();
        for _ in 0..from.count(20)? {
            gone.push(from.topic_partition()?);
        }
        changed.durable_through = from.u64()?;
        if !from.is_empty() || changed.state != RunState::Running {
            return Err(CheckpointError::Damaged("no increment has this"));
        }
        let increment = Increment {
            previous,
            gone,
            changed,
        };
        Ok((increment, part.len()))
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.changed.sequence
    }
}

impl Checkpoint {
    /// Reads a whole checkpoint; returns its length in the file, too. Logs get the default configuration until they are
    /// configured.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Checkpoint, usize), CheckpointError> {
        let part = Part::read(bytes, MAGIC)?;
        let mut from = Decoder::new(part.body);
        let mut checkpoint = Checkpoint::decode_logs(&part, &mut from)?;
        // The first format had these in front of the logs.
        if part.format > 1 {
            checkpoint.removals = decode_removals(&mut from, part.format)?;
            checkpoint.durable_through = from.u64()?;
        }
        if !from.is_empty() {
            return Err(CheckpointError::Damaged("bytes are left over"));
        }
        Ok((checkpoint, part.len()))
    }

    /// What has changed since.
    pub(crate) fn add(&mut self, increment: Increment) -> Result<(), CheckpointError> {
        let changed = increment.changed;
        if changed.shard != self.shard || changed.shard_count != self.shard_count {
            return Err(CheckpointError::Damaged("an increment of another shard"));
        }
        assert_eq!(changed.sequence, self.sequence + 1, "increments follow");
        let logs = self.logs.drain(..).map(|log| (log.id(), log));
        let mut logs: BTreeMap<TopicPartition, Rc<Log>> = logs.collect();
        for id in increment.gone {
            logs.remove(&id);
        }
        logs.extend(changed.logs.into_iter().map(|log| (log.id(), log)));
        *self = Checkpoint {
            logs: logs.into_values().collect(),
            slot: self.slot,
            ..changed
        };
        Ok(())
    }

    /// All up to the logs, which come after the rest in the first format.
    fn decode_logs(part: &Part<'_>, from: &mut Decoder<'_>) -> Result<Checkpoint, CheckpointError> {
        let format = part.format;
        let state = decode_state(from)?;
        let (shard_count, identity, generations) = match format {
            1 => (0, None, Generations::all(from.u64()?)),
            2 => (from.u16()?, None, Generations::decode(from)?),
            _ => (
                from.u16()?,
                BrokerIdentity::decode(from)?,
                Generations::decode(from)?,
            ),
        };
        let replay = decode_position(from)?;
        // The first format had them in another order.
        let early = match format {
            1 => Some((from.u64()?, decode_removals(from, format)?)),
            _ => None,
        };
        let mut logs = Vec::new();
        for _ in 0..from.count(LOG_BYTES_MIN)? {
            logs.push(Rc::new(decode_log(from, format)?));
        }
        let (durable_through, removals) = match early {
            // In that format only a running shard has something in its journal.
            Some((_, removals)) if state != RunState::Running => (0, removals),
            Some(early) => early,
            // They follow.
            None => (0, Vec::new()),
        };
        Ok(Checkpoint {
            shard: part.shard,
            sequence: part.sequence,
            slot: 0,
            state,
            shard_count,
            identity,
            generations,
            replay,
            durable_through,
            removals,
            logs,
        })
    }
}

fn decode_state(from: &mut Decoder<'_>) -> Result<RunState, CheckpointError> {
    match from.u8()? {
        0 => Ok(RunState::Running),
        1 => Ok(RunState::Recovered),
        2 => Ok(RunState::CleanShutdown),
        _ => Err(CheckpointError::Damaged("an unknown state")),
    }
}

fn decode_position(from: &mut Decoder<'_>) -> Result<JournalPosition, CheckpointError> {
    Ok(JournalPosition {
        sequence: from.u64()?,
        previous_checksum: from.u32()?,
        file: from.u32()?,
        position: from.u64()?,
    })
}

fn encode_removal(removal: Removal, out: &mut Encoder) {
    let nothing = SegmentId::first_of(removal.partition());
    let (kind, segment, size_bytes) = match removal {
        Removal::Partition(_) => (0, nothing, 0),
        Removal::Segment(segment) => (1, segment, 0),
        Removal::Behind(segment, size_bytes) => (2, segment, size_bytes),
    };
    out.u8(kind);
    out.topic_partition(segment.partition);
    out.offset(segment.base_offset);
    out.u32(segment.generation);
    out.u64(size_bytes);
}

fn decode_removals(from: &mut Decoder<'_>, format: u16) -> Result<Vec<Removal>, CheckpointError> {
    let bytes = if format > 2 { REMOVAL_BYTES } else { 29 };
    let mut removals = Vec::new();
    for _ in 0..from.count(bytes)? {
        let kind = from.u8()?;
        let mut segment = SegmentId::first_of(from.topic_partition()?);
        segment.base_offset = from.offset()?;
        let mut size_bytes = 0;
        if format > 2 {
            segment.generation = from.u32()?;
            size_bytes = from.u64()?;
        }
        removals.push(match kind {
            0 => Removal::Partition(segment.partition),
            1 => Removal::Segment(segment),
            2 => Removal::Behind(segment, size_bytes),
            _ => return Err(CheckpointError::Damaged("an unknown removal")),
        });
    }
    Ok(removals)
}

fn encode_log(log: &Log, out: &mut Encoder) {
    let state = log.state();
    let ends_before =
        |segment: &Segment, next: &Segment| segment.next_offset <= next.id.base_offset;
    assert!(
        state.segments.is_sorted_by(ends_before),
        "segments are in order"
    );
    let last = state.segments.last();
    assert!(
        last.is_none_or(|last| last.size_bytes == 0
            || last.next_offset <= state.written_end_offset),
        "what is in segments is written"
    );
    let mut older = state.segments.iter().rev().skip(1);
    assert!(older.all(|segment| segment.sealed), "one segment is open");
    out.topic_partition(log.id());
    out.u64(state.created_sequence);
    out.offset(log.log_start_offset());
    out.offset(state.written_end_offset);
    out.offset(log.high_watermark());
    out.u64(state.open_group.0);
    out.offset(log.log_end_offset());
    out.u64(log.cut_in_group());
    out.u32(state.generation);
    state.quorum.encode(out);
    out.count(state.segments.len());
    for segment in &state.segments {
        segment.encode(out);
    }
    state.leader_epochs.encode(out);
    state.producers.encode(out);
}

fn decode_log(from: &mut Decoder<'_>, format: u16) -> Result<Log, CheckpointError> {
    let id = from.topic_partition()?;
    let created_sequence = from.u64()?;
    let log_start_offset = from.offset()?;
    let written_end_offset = from.offset()?;
    let log = Log::new(id, LogConfig::default(), created_sequence);
    let mut size_bytes = 0u64;
    {
        let mut state = log.state_mut();
        if format > 2 {
            log.restore_high_watermark(from.offset()?);
            state.open_group = (from.u64()?, 0);
            state.known_end = Some(from.offset()?);
            log.note_cut(from.u64()?);
            state.generation = from.u32()?;
            state.quorum = QuorumState::decode(from)?;
        }
        for _ in 0..from.count(Segment::encoded_bytes_min())? {
            let segment = Segment::decode(id, from, format)?;
            size_bytes = size_bytes.checked_add(segment.size_bytes).ok_or(Short)?;
            state.segments.push(segment);
        }
        state.leader_epochs = LeaderEpochCache::decode(from)?;
        state.producers = ProducerStates::decode(from, format)?;
        state.written_end_offset = written_end_offset;
    }
    log.restore(log_start_offset, written_end_offset, size_bytes);
    Ok(log)
}
