//! Bytes of a shard's checkpoint: what its logs consist of, and from where the journal must be replayed. Pure.
//!
//! Two files are written in turn; the valid one with the higher sequence counts. FORMAT.md, section "Checkpoint".
//! Formats 1 and 2, which earlier releases wrote, are read too.

use std::ops::RangeInclusive;
use std::rc::Rc;

use model::{ShardId, TopicPartition};
use runtime::align_up;

use crate::cache::tail::JournalPosition;
use crate::encoding::{Decoder, Encoder, Short};
use crate::identity::BrokerIdentity;
use crate::index::SegmentId;
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::log::Log;
use crate::options::LogConfig;
use crate::producer_state::ProducerStates;
use crate::quorum_state::QuorumState;
use crate::segment::Segment;

const MAGIC: u32 = u32::from_le_bytes(*b"RLGC");
/// Version of the checkpoint's bytes.
pub(crate) const FORMAT: u16 = 3;
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

/// Files that the checkpoint no longer names and that may still exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Removal {
    /// A deleted log's directory.
    Partition(TopicPartition),
    /// A segment and its index.
    Segment(SegmentId),
    /// What lies behind this many bytes in the file of a segment that was cut.
    Behind(SegmentId, u64),
}

impl Removal {
    /// Whose files.
    pub(crate) fn partition(self) -> TopicPartition {
        match self {
            Removal::Partition(id) => id,
            Removal::Segment(segment) | Removal::Behind(segment, _) => segment.partition,
        }
    }

    /// The segments that go with it; `None` if all stay.
    pub(crate) fn segments(self) -> Option<RangeInclusive<SegmentId>> {
        match self {
            Removal::Partition(id) => Some(SegmentId::all_of(id)),
            Removal::Segment(segment) => Some(segment..=segment),
            Removal::Behind(..) => None,
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

    /// One run wrote everything.
    fn all(generation: u64) -> Generations {
        Generations {
            runs: vec![(1, generation)],
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Generations, CheckpointError> {
        let mut runs = Vec::new();
        for _ in 0..from.count(16)? {
            runs.push((from.u64()?, from.u64()?));
        }
        if runs.is_sorted_by(|before: &(u64, u64), after| before.0 < after.0) {
            Ok(Generations { runs })
        } else {
            Err(CheckpointError::Damaged("runs out of order"))
        }
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
    pub(crate) identity: Option<&'a BrokerIdentity>,
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
        BrokerIdentity::encode(head.identity, &mut out);
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
        assert!(self.log_count < u32::MAX, "logs are counted by u32");
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
        let mut from = Decoder::new(body);
        let checkpoint = Checkpoint::decode_body(shard, sequence, format, &mut from)?;
        if !from.is_empty() {
            return Err(CheckpointError::Damaged("bytes are left over"));
        }
        Ok(checkpoint)
    }

    fn decode_body(
        shard: ShardId,
        sequence: u64,
        format: u16,
        from: &mut Decoder<'_>,
    ) -> Result<Checkpoint, CheckpointError> {
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
            None => {
                let removals = decode_removals(from, format)?;
                (from.u64()?, removals)
            }
        };
        Ok(Checkpoint {
            shard,
            sequence,
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
    let state = log.state.borrow();
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
    out.u64(log.cut_in_group.get());
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
        let mut state = log.state.borrow_mut();
        if format > 2 {
            log.restore_high_watermark(from.offset()?);
            state.open_group = (from.u64()?, 0);
            state.known_end = Some(from.offset()?);
            log.cut_in_group.set(from.u64()?);
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
    log.log_start_offset.set(log_start_offset);
    log.log_end_offset.set(written_end_offset);
    log.durable_end_offset.set(written_end_offset);
    log.size_bytes.set(size_bytes);
    Ok(log)
}
