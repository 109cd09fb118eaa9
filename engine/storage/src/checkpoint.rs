//! Bytes of a shard's checkpoint: what its logs consist of, and from where the journal must be replayed. Pure.
//!
//! Two files are written in turn; the valid one with the higher sequence counts. FORMAT.md, section "Checkpoint".
//! Format 1, which earlier releases wrote, is read too.

use std::ops::RangeInclusive;
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
pub(crate) const FORMAT: u16 = 2;
/// The oldest version that is read.
const FORMAT_MIN: u16 = 1;
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
    /// An orderly stop: the journal holds at most what a full device had no room for, and ends where the checkpoint says.
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

    /// The segments that it may concern.
    pub(crate) fn segments(self) -> RangeInclusive<SegmentId> {
        match self {
            Removal::Partition(id) => SegmentId::all_of(id),
            Removal::Segment(segment) => segment..=segment,
        }
    }
}

/// Which runs of the broker wrote the groups of a journal: each has a random generation, and goes on where the one before
/// ended. In order of their first groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generations {
    runs: Vec<(u64, u64)>,
}

impl Generations {
    /// A run begins with group `sequence`.
    pub(crate) fn begin(&mut self, sequence: u64, generation: u64) {
        // A run that wrote no group leaves no trace.
        self.runs.pop_if(|(first, _)| *first == sequence);
        let follows = self.runs.last().is_none_or(|(first, _)| *first < sequence);
        assert!(follows, "runs follow each other");
        self.runs.push((sequence, generation));
    }

    /// The run that wrote, or would write, this group; 0 if none is known.
    pub(crate) fn of(&self, sequence: u64) -> u64 {
        let after = self.runs.partition_point(|(first, _)| *first <= sequence);
        after.checked_sub(1).map_or(0, |run| self.runs[run].1)
    }

    /// The present run.
    pub(crate) fn latest(&self) -> u64 {
        self.runs.last().map_or(0, |(_, generation)| *generation)
    }

    /// Those that groups from this one on belong to.
    pub(crate) fn since(&self, sequence: u64) -> Generations {
        let after = self.runs.partition_point(|(first, _)| *first <= sequence);
        Generations {
            runs: self.runs[after.max(1) - 1..].to_vec(),
        }
    }
}

/// A checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) shard: ShardId,
    pub(crate) sequence: u64,
    pub(crate) state: RunState,
    /// Into how many shards the data directory was divided; 0 if it is not known (format 1).
    pub(crate) shard_count: u16,
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
    log_count: u32,
    log_count_at: usize,
    removals: Vec<Removal>,
}

/// What the encoder is told first.
pub(crate) struct CheckpointHead<'a> {
    pub(crate) state: RunState,
    pub(crate) shard_count: u16,
    pub(crate) generations: &'a Generations,
    pub(crate) replay: JournalPosition,
}

impl CheckpointEncoder {
    pub(crate) fn new(
        head: &CheckpointHead<'_>,
        removals: impl IntoIterator<Item = Removal>,
    ) -> CheckpointEncoder {
        let mut out = Encoder::default();
        out.bytes.resize(HEADER_BYTES, 0);
        out.u8(head.state as u8);
        out.u16(head.shard_count);
        let generations = head.generations.since(head.replay.sequence);
        out.count(generations.runs.len());
        for (first, generation) in generations.runs {
            out.u64(first);
            out.u64(generation);
        }
        out.u64(head.replay.sequence);
        out.u32(head.replay.previous_checksum);
        out.u32(head.replay.file);
        out.u64(head.replay.position);
        let log_count_at = out.bytes.len();
        out.count(0);
        CheckpointEncoder {
            out,
            log_count: 0,
            log_count_at,
            removals: removals.into_iter().collect(),
        }
    }

    /// Adds a log as it is now, and its files that it no longer names.
    pub(crate) fn log(&mut self, log: &Log, removals: impl IntoIterator<Item = Removal>) {
        encode_log(log, &mut self.out);
        self.log_count += 1;
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
        out.u64(durable_through);
        let body_bytes = out.bytes.len() - HEADER_BYTES;
        let mut head = Encoder::default();
        head.u32(MAGIC);
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

impl Checkpoint {
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
        if !(FORMAT_MIN..=FORMAT).contains(&format) {
            return Err(CheckpointError::Format(format));
        }
        let body_bytes = usize::try_from(body_bytes).map_err(|_| Short)?;
        let body = bytes[HEADER_BYTES..].get(..body_bytes).ok_or(Short)?;
        if crc32c::crc32c(body) != body_checksum {
            return Err(CheckpointError::Damaged("the checksum does not match"));
        }
        let from = Decoder::new(body);
        if format == 1 {
            Checkpoint::decode_body_1(shard, sequence, from)
        } else {
            Checkpoint::decode_body(shard, sequence, from)
        }
    }

    fn decode_body(
        shard: ShardId,
        sequence: u64,
        mut from: Decoder<'_>,
    ) -> Result<Checkpoint, CheckpointError> {
        let state = decode_state(&mut from)?;
        let shard_count = from.u16()?;
        let mut generations = Generations::default();
        for _ in 0..from.count(16)? {
            generations.runs.push((from.u64()?, from.u64()?));
        }
        if !generations
            .runs
            .is_sorted_by(|before, after| before.0 < after.0)
        {
            return Err(CheckpointError::Damaged("runs out of order"));
        }
        let replay = decode_position(&mut from)?;
        let mut logs = Vec::new();
        for _ in 0..from.count(LOG_BYTES_MIN)? {
            logs.push(Rc::new(decode_log(&mut from, FORMAT)?));
        }
        let mut removals = Vec::new();
        for _ in 0..from.count(REMOVAL_BYTES)? {
            removals.push(decode_removal(&mut from)?);
        }
        let durable_through = from.u64()?;
        if !from.is_empty() {
            return Err(CheckpointError::Damaged("bytes are left over"));
        }
        Ok(Checkpoint {
            shard,
            sequence,
            state,
            shard_count,
            generations,
            replay,
            durable_through,
            removals,
            logs,
        })
    }

    fn decode_body_1(
        shard: ShardId,
        sequence: u64,
        mut from: Decoder<'_>,
    ) -> Result<Checkpoint, CheckpointError> {
        let state = decode_state(&mut from)?;
        let generation = from.u64()?;
        let replay = decode_position(&mut from)?;
        let durable_through = from.u64()?;
        let mut removals = Vec::new();
        for _ in 0..from.count(REMOVAL_BYTES)? {
            removals.push(decode_removal(&mut from)?);
        }
        let mut logs = Vec::new();
        for _ in 0..from.count(LOG_BYTES_MIN)? {
            logs.push(Rc::new(decode_log(&mut from, 1)?));
        }
        if !from.is_empty() {
            return Err(CheckpointError::Damaged("bytes are left over"));
        }
        Ok(Checkpoint {
            shard,
            sequence,
            state,
            shard_count: 0,
            generations: Generations {
                runs: vec![(1, generation)],
            },
            replay,
            // In this format only a running shard has something in its journal.
            durable_through: if state == RunState::Running {
                durable_through
            } else {
                0
            },
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

fn decode_log(from: &mut Decoder<'_>, format: u16) -> Result<Log, CheckpointError> {
    let id = from.topic_partition()?;
    let created_sequence = from.u64()?;
    let log_start_offset = from.offset()?;
    let written_end_offset = from.offset()?;
    let log = Log::new(id, LogConfig::default(), created_sequence);
    let mut size_bytes = 0u64;
    {
        let mut state = log.state.borrow_mut();
        for _ in 0..from.count(Segment::encoded_bytes_min())? {
            let segment = Segment::decode(id, from, format)?;
            size_bytes = size_bytes.checked_add(segment.size_bytes).ok_or(Short)?;
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
