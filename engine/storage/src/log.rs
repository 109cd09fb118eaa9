//! One partition's log, as its shard holds it in memory.
//!
//! Invariants: `log_start_offset <= durable_end_offset <= log_end_offset`;
//! batches below `written_end_offset` are in segment files, those from there on are in the tail or in the open commit
//! group; tail batches are in offset order without gaps, and their group sequences never decrease.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{BufMut as _, Bytes, BytesMut};
use model::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use smallvec::SmallVec;

use crate::index::SegmentId;
use crate::leader_epoch_cache::LeaderEpochCache;
use crate::options::LogConfig;
use crate::producer_state::ProducerStates;
use crate::quorum_state::QuorumState;
use crate::removals::Removal;
use crate::retention::SegmentSummary;
use crate::segment::{BatchPlace, Planned, Segment};
use crate::shield::Shields;
use crate::writer_state::WriterState;

/// Tail batches up to this size are copied together when read: a vectored send of thousands of small slices costs
/// more than the copy.
const COALESCE_BATCH_BYTES_MAX: usize = 4096;

/// One partition's log. Belongs to one shard; shared there by `Rc`.
pub struct Log {
    id: TopicPartition,
    log_start_offset: Cell<Offset>,
    log_end_offset: Cell<Offset>,
    durable_end_offset: Cell<Offset>,
    /// Records below are on enough replicas, as far as this one was told. Stored with checkpoints.
    high_watermark: Cell<Offset>,
    size_bytes: Cell<u64>,
    deleted: Cell<bool>,
    /// The journal has the mark of its deletion.
    gone: Cell<bool>,
    /// It is about to be cut: appends are refused, nothing is written to segments, nothing expires.
    held: Cell<bool>,
    /// Counts cuts: a read that has met one looks again.
    cuts: Cell<u64>,
    /// The group that holds the mark of the last cut.
    cut_in_group: Cell<u64>,
    /// Something that checkpoints say of the log is not as the last one has it.
    is_changed: Cell<bool>,
    /// Of what the last checkpoint says of the log; kept where assertions are on that only tests can afford.
    pub(crate) encoded_checksum: Cell<u32>,
    state: RefCell<LogState>,
}

/// What changes under a borrow.
pub(crate) struct LogState {
    pub(crate) config: LogConfig,
    /// Journal entries of groups up to this one belong to an earlier log of the same name.
    pub(crate) created_sequence: u64,
    /// Batches below are in segment files.
    pub(crate) written_end_offset: Offset,
    pub(crate) segments: Vec<Segment>,
    /// Of segments begun from now on.
    pub(crate) generation: u32,
    pub(crate) quorum: QuorumState,
    /// Bytes of the segment that was filled last, in this run.
    pub(crate) filled_bytes: u64,
    pub(crate) tail: VecDeque<TailBatch>,
    /// How many batches at the front of the tail are in segment files too.
    pub(crate) tail_written: usize,
    /// Bytes of the other tail batches.
    pub(crate) dirty_bytes: u64,
    pub(crate) leader_epochs: LeaderEpochCache,
    pub(crate) producers: ProducerStates,
    /// The commit group that last got something of this log, and which of the group's logs this is.
    pub(crate) open_group: (u64, u32),
    /// Where the log ended when the checkpoint was encoded that replay begins with, until replay has come there.
    pub(crate) known_end: Option<Offset>,
    pub(crate) writer: WriterState,
    /// When records were appended last, by the broker's clock: the age of those without a timestamp.
    pub(crate) appended_at: Timestamp,
    /// Where the last cold read ended, for read-ahead.
    pub(crate) cold_read_end: Offset,
    /// A start has found batches placed that no checkpoint knows.
    pub(crate) shields: Shields,
}

/// A batch of the tail: a slice of its frozen commit group.
#[derive(Clone, Debug)]
pub(crate) struct TailBatch {
    pub(crate) place: BatchPlace,
    /// The group whose memory this is.
    pub(crate) sequence: u64,
    pub(crate) bytes: Bytes,
}

/// What a read yields: whole batches in offset order.
#[derive(Clone, Debug, Default)]
pub struct ReadBatches {
    /// The bytes, as stored. One slice may hold many batches.
    pub batches: SmallVec<[Bytes; 4]>,
    /// Their total size.
    pub bytes: usize,
    /// The offset after the last batch; the offset asked for if there is none.
    pub next_offset: Offset,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    /// First offset wanted. The first batch may begin before it.
    pub from: Offset,
    /// Exclusive bound: high watermark, last stable offset or log end offset.
    pub end: Offset,
    /// Bound in bytes.
    pub bytes_max: usize,
    /// Return the first batch even if it alone is larger than `bytes_max` (KIP-74).
    pub at_least_one_batch: bool,
}

impl Log {
    /// An empty log.
    pub(crate) fn new(id: TopicPartition, config: LogConfig, created_sequence: u64) -> Log {
        Log {
            id,
            log_start_offset: Cell::new(Offset::ZERO),
            log_end_offset: Cell::new(Offset::ZERO),
            durable_end_offset: Cell::new(Offset::ZERO),
            high_watermark: Cell::new(Offset::ZERO),
            size_bytes: Cell::new(0),
            deleted: Cell::new(false),
            gone: Cell::new(false),
            held: Cell::new(false),
            cuts: Cell::new(0),
            cut_in_group: Cell::new(0),
            is_changed: Cell::new(true),
            encoded_checksum: Cell::new(0),
            state: RefCell::new(LogState {
                config,
                created_sequence,
                written_end_offset: Offset::ZERO,
                segments: Vec::new(),
                generation: 0,
                quorum: QuorumState::default(),
                filled_bytes: 0,
                tail: VecDeque::new(),
                tail_written: 0,
                dirty_bytes: 0,
                leader_epochs: LeaderEpochCache::default(),
                producers: ProducerStates::default(),
                open_group: (0, 0),
                known_end: None,
                writer: WriterState::default(),
                appended_at: Timestamp::NONE,
                cold_read_end: Offset::NONE,
                shields: Shields::default(),
            }),
        }
    }

    /// Which partition.
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// The first offset that may be read.
    pub fn log_start_offset(&self) -> Offset {
        self.log_start_offset.get()
    }

    /// The offset of the next record (exclusive end).
    pub fn log_end_offset(&self) -> Offset {
        self.log_end_offset.get()
    }

    /// Records below this offset are committed to the journal at the durability their append asked for.
    pub fn durable_end_offset(&self) -> Offset {
        self.durable_end_offset.get()
    }

    /// The high watermark last told, or stored by the last checkpoint before a start: the true one may be higher.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.get()
    }

    /// Records below `offset` are on enough replicas: they are not cut off but by an unclean election.
    pub fn set_high_watermark(&self, offset: Offset) {
        let log_end_offset = self.log_end_offset.get();
        assert!(
            offset <= log_end_offset,
            "a high watermark of {offset} in a log that ends at {log_end_offset}"
        );
        if offset > self.high_watermark.get() {
            self.high_watermark.set(offset);
            self.note_change();
            // Who cuts the log has seen what can be undone.
            if !self.is_held() {
                self.state_mut().producers.settle(offset);
            }
        }
    }

    /// As a checkpoint has stored it: all of the log is durable and in segments.
    pub(crate) fn restore(&self, start: Offset, written_end: Offset, size_bytes: u64) {
        assert_eq!(self.log_end_offset.get(), Offset::ZERO, "a new log");
        self.log_start_offset.set(start);
        self.log_end_offset.set(written_end);
        self.durable_end_offset.set(written_end);
        self.size_bytes.set(size_bytes);
    }

    /// Records below belong to no transaction that is open, or whose end may still be cut off: who reads committed
    /// transactions stops here. Never beyond the high watermark; of a transaction that began below the log's start nothing
    /// is left but what is behind the start.
    pub fn last_stable_offset(&self) -> Offset {
        let high_watermark = self.high_watermark();
        let state = self.state();
        match state.producers.first_unstable_offset(high_watermark) {
            Some(first) => first.max(self.log_start_offset()).min(high_watermark),
            None => high_watermark,
        }
    }

    /// As a checkpoint has stored it.
    pub(crate) fn restore_high_watermark(&self, offset: Offset) {
        self.high_watermark.set(offset);
    }

    /// What the log consists of.
    pub(crate) fn state(&self) -> Ref<'_, LogState> {
        self.state.borrow()
    }

    /// To change what the log consists of: the next checkpoint says it anew.
    pub(crate) fn state_mut(&self) -> RefMut<'_, LogState> {
        self.note_change();
        self.state.borrow_mut()
    }

    /// To change what no checkpoint says: settings, the tail, whose turn it is to write.
    pub(crate) fn memory_mut(&self) -> RefMut<'_, LogState> {
        self.state.borrow_mut()
    }

    /// The next checkpoint says anew what the log consists of.
    pub(crate) fn note_change(&self) {
        self.is_changed.set(true);
    }

    /// Whether a checkpoint has to say anew what the log consists of. It is asked by the one that does.
    pub(crate) fn take_change(&self) -> bool {
        self.is_changed.replace(false)
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed.get()
    }

    /// A batch that ends at `next_offset` is in the open group.
    pub(crate) fn extend(&self, next_offset: Offset, bytes: u64) {
        assert!(next_offset > self.log_end_offset.get(), "a log grows");
        self.log_end_offset.set(next_offset);
        self.size_bytes.set(self.size_bytes.get() + bytes);
        self.note_change();
    }

    /// Records below `end` are durable.
    pub(crate) fn committed(&self, end: Offset) {
        assert!(
            end <= self.log_end_offset.get(),
            "nothing is durable that was not appended"
        );
        self.durable_end_offset
            .set(self.durable_end_offset.get().max(end));
    }

    /// Records below `offset` are not the log's any more. In the middle of a replay that may be beyond its end.
    pub(crate) fn advance_start(&self, offset: Offset) {
        assert!(
            offset >= self.log_start_offset.get(),
            "a log's start goes forward"
        );
        self.log_start_offset.set(offset);
        self.note_change();
    }

    /// Batches of so many bytes are gone.
    pub(crate) fn shrink(&self, bytes: u64) {
        let present = self.size_bytes.get();
        assert!(present >= bytes, "a log is as large as its batches");
        self.size_bytes.set(present - bytes);
        self.note_change();
    }

    /// Replay takes back what it has brought, `bytes` of it; the log ends at `end` for now.
    pub(crate) fn fall_back(&self, end: Offset, bytes: u64) {
        self.shrink(bytes);
        self.log_end_offset.set(end);
        self.durable_end_offset.set(end);
    }

    /// Nothing is taken from here on.
    pub(crate) fn note_deleted(&self) {
        assert!(!self.deleted.replace(true), "a log is deleted once");
    }

    /// The mark of its deletion is in the open group.
    pub(crate) fn note_gone(&self) {
        assert!(self.deleted.get(), "a log is deleted before it is gone");
        self.gone.set(true);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// Group `sequence` holds the mark of a cut.
    pub(crate) fn note_cut(&self, sequence: u64) {
        let known = self.cut_in_group.replace(sequence);
        assert!(sequence >= known, "marks of cuts come in order");
        self.note_change();
    }

    pub(crate) fn cut_in_group(&self) -> u64 {
        self.cut_in_group.get()
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.get()
    }

    /// What holds at any time but in the middle of a replay.
    pub(crate) fn assert_offsets(&self) {
        let (start, durable, end) = (
            self.log_start_offset(),
            self.durable_end_offset(),
            self.log_end_offset(),
        );
        assert!(start <= end, "{self:?} ends before it starts");
        assert!(durable <= end, "{self:?} is durable up to {durable}");
        assert!(
            self.high_watermark() <= end,
            "{self:?}: the high watermark is behind its end"
        );
    }

    /// The journal begins anew: the log has nothing in it.
    pub(crate) fn forget_journal(&self) {
        let mut state = self.state_mut();
        assert!(
            !state.is_dirty(),
            "what is in the journal only would be lost"
        );
        state.created_sequence = 0;
        state.open_group = (0, 0);
        state.known_end = None;
        self.cut_in_group.set(0);
    }

    /// The log was emptied: it begins, and ends, at `start`.
    pub(crate) fn moved(&self, start: Offset) {
        self.log_start_offset.set(start);
        self.size_bytes.set(0);
        self.moved_end(start);
    }

    /// The log was cut: it ends at `end`, and all that is left is durable.
    pub(crate) fn moved_end(&self, end: Offset) {
        self.note_change();
        self.log_end_offset.set(end);
        self.durable_end_offset.set(end);
        self.high_watermark.set(self.high_watermark.get().min(end));
        self.cuts.set(self.cuts.get() + 1);
    }

    /// What the quorum member that keeps this log has promised last.
    pub fn quorum_state(&self) -> QuorumState {
        self.state().quorum
    }

    /// Holds the log until the hold is dropped. `None` if somebody else holds it.
    pub(crate) fn hold(self: &Rc<Log>) -> Option<Hold> {
        (!self.held.replace(true)).then(|| Hold(self.clone()))
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// The newest leader epoch that appended.
    pub fn latest_leader_epoch(&self) -> Option<LeaderEpoch> {
        self.state().leader_epochs.latest()
    }

    /// Bytes of the batches of the log.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.get()
    }

    /// Bytes that are in the journal only.
    pub fn dirty_bytes(&self) -> u64 {
        self.state().dirty_bytes
    }

    /// Count of segment files.
    pub fn segment_count(&self) -> usize {
        self.state().segments.len()
    }

    /// Current settings.
    pub fn config(&self) -> LogConfig {
        self.state().config.clone()
    }
}

/// While it lives, nobody else changes the log.
pub(crate) struct Hold(Rc<Log>);

impl Drop for Hold {
    fn drop(&mut self) {
        assert!(self.0.held.replace(false), "who holds a log lets it go");
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Log({} {}..{})",
            self.id,
            self.log_start_offset.get(),
            self.log_end_offset.get()
        )
    }
}

impl LogState {
    /// Batches up to `until` were found behind the end of the segment of this name: it ends as it is, what follows begins
    /// another one. Returns the removal that is not to be made for now; `None` if the log, which was deleted later, has no such
    /// segment.
    pub(crate) fn shield(
        &mut self,
        base_offset: Offset,
        generation: u32,
        until: Offset,
    ) -> Option<Removal> {
        let mut segments = self.segments.iter_mut();
        let segment = segments.find(|segment| {
            (segment.id.base_offset, segment.id.generation) == (base_offset, generation)
        })?;
        if !segment.sealed {
            segment.end_early();
            self.generation += 1;
        }
        Some(self.shields.found(segment, until))
    }

    /// Replay is about to write, and may come to batches that were placed behind the end of the open segment.
    pub(crate) fn shield_open_segment(&mut self) {
        let last = self.segments.last();
        if let Some(last) = last.filter(|last| !last.sealed && last.is_placeable_by(u64::MAX)) {
            let (base_offset, generation) = (last.id.base_offset, last.id.generation);
            self.shield(base_offset, generation, Offset::ZERO);
        }
    }

    /// Removals of bytes that nobody needs any more once a checkpoint says what is known now.
    pub(crate) fn take_shields(&mut self) -> Vec<Removal> {
        self.shields.take_over(self.written_end_offset)
    }

    /// Puts a sealed group's batch at the end of the tail.
    pub(crate) fn push_tail(&mut self, batch: TailBatch) {
        assert!(
            self.tail
                .back()
                .is_none_or(|last| last.place.next_offset == batch.place.follows
                    && last.sequence <= batch.sequence),
            "batches come in order of offsets and groups"
        );
        assert!(
            batch.place.follows <= batch.place.base_offset
                && batch.place.base_offset < batch.place.next_offset,
            "a batch has records"
        );
        assert!(
            self.tail_written <= self.tail.len(),
            "what is written is in the tail"
        );
        self.dirty_bytes += batch.bytes.len() as u64;
        self.tail.push_back(batch);
    }

    /// Moves a tail batch to the memory of a later group; returns the group it leaves.
    pub(crate) fn rehome(
        &mut self,
        base_offset: Offset,
        sequence: u64,
        bytes: Bytes,
    ) -> Option<u64> {
        let found = self
            .tail
            .binary_search_by_key(&base_offset, |batch| batch.place.base_offset)
            .ok()?;
        assert!(
            found >= self.tail_written,
            "what is in a segment is not carried"
        );
        let batch = &mut self.tail[found];
        assert!(batch.sequence < sequence, "it moves to a later group");
        assert_eq!(batch.bytes.len(), bytes.len(), "the same batch");
        batch.bytes = bytes;
        Some(std::mem::replace(&mut batch.sequence, sequence))
    }

    /// Drops the written batches of groups up to `sequence` from the front of the tail.
    pub(crate) fn evict_tail(&mut self, sequence: u64) {
        while self.tail_written > 0
            && self
                .tail
                .front()
                .is_some_and(|batch| batch.sequence <= sequence)
        {
            self.tail.pop_front();
            self.tail_written -= 1;
        }
        if self.tail.is_empty() {
            self.tail = VecDeque::new();
        }
    }

    /// The log in segments, as retention sees it: those there are, and those that the dirty tail would fill. Not the last
    /// one while records that would belong to it are on their way to the journal.
    pub(crate) fn summaries(&self, durable_end: Offset, log_end: Offset) -> Vec<SegmentSummary> {
        let mut all: Vec<SegmentSummary> = self.segments.iter().map(Segment::summary).collect();
        let mut begun = None;
        let mut planned = Planned::default();
        let mut end = self.written_end_offset;
        for batch in self.tail.range(self.tail_written..) {
            if batch.place.next_offset > durable_end {
                break;
            }
            let open = begun.as_ref().or(self.segments.last());
            let len = batch.bytes.len();
            if open.is_none_or(|open| open.must_roll(planned, len, &batch.place, &self.config)) {
                let id = SegmentId {
                    partition: TopicPartition::default(),
                    base_offset: batch.place.base_offset,
                    generation: 0,
                    incarnation: 0,
                };
                let segment = begun.insert(Segment::new(id));
                all.push(segment.summary());
                planned = Planned::default();
            }
            if planned.bytes == 0 {
                planned.first_timestamp = batch.place.max_timestamp;
            }
            planned.bytes += len as u64;
            end = batch.place.next_offset;
            let segment = all.last_mut().expect("one was there or begun");
            segment.next_offset = end;
            segment.size_bytes += len as u64;
            segment.max_timestamp = segment.max_timestamp.max(batch.place.max_timestamp);
            segment.written_at = self.appended_at;
        }
        if end < log_end {
            all.pop();
        }
        all
    }

    /// Whether a batch of the tail is in no segment file yet.
    pub(crate) fn is_dirty(&self) -> bool {
        self.tail_written < self.tail.len()
    }

    /// Counts dirty batches below `log_start_offset` as written: nobody will read them. Returns their groups.
    ///
    /// Only for a log whose segments are all gone: a gap between two batches of one segment would be damage.
    pub(crate) fn forget_dirty(&mut self, log_start_offset: Offset) -> Vec<u64> {
        assert!(self.segments.is_empty(), "segments go before the tail");
        assert!(!self.writer.is_writing(), "nobody writes what is forgotten");
        let mut groups = Vec::new();
        while let Some(batch) = self.tail.get(self.tail_written)
            && batch.place.next_offset <= log_start_offset
        {
            let bytes = batch.bytes.len() as u64;
            assert!(
                self.dirty_bytes >= bytes,
                "the bytes of dirty batches are counted"
            );
            groups.push(batch.sequence);
            self.dirty_bytes -= bytes;
            self.written_end_offset = batch.place.next_offset;
            self.tail_written += 1;
        }
        // Their records are gone, and no segment has them.
        drop(self.producers.take_aborted(self.written_end_offset));
        groups
    }

    /// Whether the tail serves reads from this offset on.
    pub(crate) fn tail_covers(&self, offset: Offset) -> bool {
        let first = self.tail.front();
        first.is_some_and(|first| first.place.follows <= offset)
    }

    /// Reads from the tail. The caller has checked that the tail covers `request.from`.
    pub(crate) fn read_tail(&self, request: &ReadRequest) -> ReadBatches {
        let first = self
            .tail
            .partition_point(|batch| batch.place.next_offset <= request.from);
        let mut read = ReadBatches {
            next_offset: request.from,
            ..ReadBatches::default()
        };
        let mut count = 0;
        for batch in self.tail.range(first..) {
            let len = batch.bytes.len();
            let over = read.bytes.saturating_add(len) > request.bytes_max;
            if batch.place.next_offset > request.end
                || (over && !(count == 0 && request.at_least_one_batch))
            {
                break;
            }
            count += 1;
            read.bytes += len;
            read.next_offset = batch.place.next_offset;
        }
        assert!(read.next_offset >= request.from, "a read goes forward");
        collect_slices(
            self.tail
                .range(first..first + count)
                .map(|batch| &batch.bytes),
            &mut read.batches,
        );
        read
    }

    /// Which record has the largest timestamp, of each batch of the tail that ends behind `from` and at `end` or before.
    pub(crate) fn max_timestamp_deltas(&self, from: Offset, end: Offset) -> Vec<i32> {
        let first = self
            .tail
            .partition_point(|batch| batch.place.next_offset <= from);
        let batches = self.tail.range(first..);
        let batches = batches.take_while(|batch| batch.place.next_offset <= end);
        let delta = |batch: &TailBatch| {
            let delta = batch.place.offset_of_max_timestamp.0 - batch.place.base_offset.0;
            i32::try_from(delta).expect("within its batch")
        };
        batches.map(delta).collect()
    }

    /// The segment that holds `offset`, or the one behind the gap it lies in.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<&Segment> {
        let place = self
            .segments
            .partition_point(|segment| segment.next_offset <= offset);
        self.segments.get(place)
    }

    /// The segment of this id.
    pub(crate) fn segment_mut(&mut self, id: SegmentId) -> Option<&mut Segment> {
        let found = self
            .segments
            .binary_search_by_key(&id.base_offset, |segment| segment.id.base_offset)
            .ok()?;
        self.segments.get_mut(found)
    }
}

/// Collects slices, copying runs of small ones together.
fn collect_slices<'a>(
    batches: impl Iterator<Item = &'a Bytes> + Clone,
    out: &mut SmallVec<[Bytes; 4]>,
) {
    let mut batches = batches.peekable();
    while let Some(first) = batches.next() {
        let small = |bytes: &&Bytes| bytes.len() <= COALESCE_BATCH_BYTES_MAX;
        if !small(&first) || !batches.peek().is_some_and(small) {
            out.push(first.clone());
            continue;
        }
        let run_bytes: usize = batches.clone().take_while(small).map(Bytes::len).sum();
        let mut run = BytesMut::with_capacity(first.len() + run_bytes);
        run.put_slice(first);
        while let Some(next) = batches.next_if(|bytes| small(bytes)) {
            run.put_slice(next);
        }
        out.push(run.freeze());
    }
}

/// A record's place in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The epoch it was appended under.
    pub leader_epoch: LeaderEpoch,
}
