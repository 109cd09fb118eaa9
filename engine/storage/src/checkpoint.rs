//! Bytes of a shard's checkpoint: what its logs consist of, and from where the journal must be replayed. Pure.
//!
//! Two files are written in turn; the valid one with the higher sequence counts. FORMAT.md, section "Checkpoint".

use std::rc::Rc;

use model::{ShardId, TopicPartition};
use runtime::align_up;

use crate::cache::tail::JournalPosition;
use crate::encoding::{Decoder, Encoder, Short};
use crate::index::SegmentId;
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::log::Log;
use crate::options::LogConfig;
use crate::producer_state::ProducerStates;
use crate::segment::Segment;

const MAGIC: u32 = u32::from_le_bytes(*b"RLGC");
/// Version of the checkpoint's bytes.
pub(crate) const FORMAT: u16 = 1;
/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 32;
const LOG_BYTES_MIN: usize = 20 + 8 * 3 + 12;
const REMOVAL_BYTES: usize = 29;

/// What the shard was doing when it wrote the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunState {
    /// Running: the journal must be replayed.
    Running = 0,
    /// Recovery had finished: the journal is empty.
    Recovered = 1,
    /// An orderly stop: the journal is empty.
    CleanShutdown = 2,
}

/// Files that the checkpoint no longer names and that may still exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Removal {
    /// A deleted log's directory.
    Partition(TopicPartition),
    /// A segment and its index.
    Segment(SegmentId),
}

impl Removal {
    /// Whose files.
    pub(crate) fn partition(self) -> TopicPartition {
        match self {
            Removal::Partition(id) => id,
            Removal::Segment(segment) => segment.partition,
        }
    }
}

/// A checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) shard: ShardId,
    pub(crate) sequence: u64,
    pub(crate) state: RunState,
    /// Salt of the journal's groups.
    pub(crate) generation: u64,
    /// Where replay begins. The place is where the group is or would be; if it did not fit, it is the first of
    /// another file.
    pub(crate) replay: JournalPosition,
    /// The journal is durable at least through this group.
    pub(crate) durable_through: u64,
    pub(crate) removals: Vec<Removal>,
    pub(crate) logs: Vec<Rc<Log>>,
}

/// Why bytes are not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointError {
    /// Torn or damaged.
    Damaged(&'static str),
    /// Sound but of another version.
    Format(u16),
}

impl From<Short> for CheckpointError {
    fn from(_: Short) -> CheckpointError {
        CheckpointError::Damaged("a field is cut off")
    }
}

impl Checkpoint {
    /// The bytes of the file, padded to a multiple of 4096.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        out.bytes.resize(HEADER_BYTES, 0);
        out.u8(self.state as u8);
        out.u64(self.generation);
        out.u64(self.replay.sequence);
        out.u32(self.replay.previous_checksum);
        out.u32(self.replay.file);
        out.u64(self.replay.position);
        out.u64(self.durable_through);
        out.count(self.removals.len());
        for removal in &self.removals {
            encode_removal(*removal, &mut out);
        }
        out.count(self.logs.len());
        for log in &self.logs {
            encode_log(log, &mut out);
        }
        let body_bytes = out.bytes.len() - HEADER_BYTES;
        let mut head = Encoder::default();
        head.u32(MAGIC);
        head.u16(FORMAT);
        head.u16(self.shard.0);
        head.u64(self.sequence);
        head.u64(body_bytes as u64);
        head.u32(crc32c::crc32c(&out.bytes[HEADER_BYTES..]));
        head.u32(crc32c::crc32c(&head.bytes));
        out.bytes[..HEADER_BYTES].copy_from_slice(&head.bytes);
        out.bytes.resize(align_up(out.bytes.len()), 0);
        out.bytes
    }

    /// Reads a checkpoint file. Logs get the default configuration until they are configured.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let head = bytes.first_chunk::<HEADER_BYTES>().ok_or(Short)?;
        let mut fields = Decoder::new(head);
        if fields.u32()? != MAGIC {
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
        if format != FORMAT {
            return Err(CheckpointError::Format(format));
        }
        let body_bytes = usize::try_from(body_bytes).map_err(|_| Short)?;
        let body = bytes[HEADER_BYTES..].get(..body_bytes).ok_or(Short)?;
        if crc32c::crc32c(body) != body_checksum {
            return Err(CheckpointError::Damaged("the checksum does not match"));
        }
        Checkpoint::decode_body(shard, sequence, body)
    }

    fn decode_body(
        shard: ShardId,
        sequence: u64,
        body: &[u8],
    ) -> Result<Checkpoint, CheckpointError> {
        let mut from = Decoder::new(body);
        let state = match from.u8()? {
            0 => RunState::Running,
            1 => RunState::Recovered,
            2 => RunState::CleanShutdown,
            _ => return Err(CheckpointError::Damaged("an unknown state")),
        };
        let mut checkpoint = Checkpoint {
            shard,
            sequence,
            state,
            generation: from.u64()?,
            replay: JournalPosition {
                sequence: from.u64()?,
                previous_checksum: from.u32()?,
                file: from.u32()?,
                position: from.u64()?,
            },
            durable_through: from.u64()?,
            removals: Vec::new(),
            logs: Vec::new(),
        };
        for _ in 0..from.count(REMOVAL_BYTES)? {
            checkpoint.removals.push(decode_removal(&mut from)?);
        }
        for _ in 0..from.count(LOG_BYTES_MIN)? {
            checkpoint.logs.push(Rc::new(decode_log(&mut from)?));
        }
        if !from.is_empty() {
            return Err(CheckpointError::Damaged("bytes are left over"));
        }
        Ok(checkpoint)
    }
}

fn encode_removal(removal: Removal, out: &mut Encoder) {
    let (kind, id, base_offset) = match removal {
        Removal::Partition(id) => (0, id, model::Offset::ZERO),
        Removal::Segment(segment) => (1, segment.partition, segment.base_offset),
    };
    out.u8(kind);
    out.topic_partition(id);
    out.offset(base_offset);
}

fn decode_removal(from: &mut Decoder<'_>) -> Result<Removal, CheckpointError> {
    let kind = from.u8()?;
    let partition = from.topic_partition()?;
    let base_offset = from.offset()?;
    match kind {
        0 => Ok(Removal::Partition(partition)),
        1 => Ok(Removal::Segment(SegmentId {
            partition,
            base_offset,
            incarnation: 0,
        })),
        _ => Err(CheckpointError::Damaged("an unknown removal")),
    }
}

fn encode_log(log: &Log, out: &mut Encoder) {
    let state = log.state.borrow();
    out.topic_partition(log.id());
    out.u64(state.created_sequence);
    out.offset(log.log_start_offset());
    out.offset(state.written_end_offset);
    out.count(state.segments.len());
    for segment in &state.segments {
        segment.encode(out);
    }
    state.leader_epochs.encode(out);
    state.producers.encode(out);
}

fn decode_log(from: &mut Decoder<'_>) -> Result<Log, CheckpointError> {
    let id = from.topic_partition()?;
    let created_sequence = from.u64()?;
    let log_start_offset = from.offset()?;
    let written_end_offset = from.offset()?;
    let log = Log::new(id, LogConfig::default(), created_sequence);
    let mut size_bytes = 0u64;
    {
        let mut state = log.state.borrow_mut();
        for _ in 0..from.count(Segment::encoded_bytes_min())? {
            let segment = Segment::decode(id, from)?;
            size_bytes = size_bytes.saturating_add(segment.size_bytes);
            state.segments.push(segment);
        }
        state.leader_epochs = LeaderEpochCache::decode(from)?;
        state.producers = ProducerStates::decode(from)?;
        state.written_end_offset = written_end_offset;
    }
    log.log_start_offset.set(log_start_offset);
    log.log_end_offset.set(written_end_offset);
    log.durable_end_offset.set(written_end_offset);
    log.size_bytes.set(size_bytes);
    Ok(log)
}
