//! Moves committed batches from the tails to segment files, in the background.
//!
//! Invariants: one task at a time writes a log's segments; only committed batches are written; a write never touches
//! bytes below the last partial 4 KiB block, and that block is rewritten with the same bytes in front; a batch counts
//! as written when the device has accepted it, and as safe to forget in the journal only after a sync and a checkpoint.

use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use model::Offset;
use runtime::{ALIGNMENT, Buffer, File, Io, align_up};

use crate::disk_space::{Wait, is_disk_full};
use crate::error::StorageError;
use crate::file_cache::FileKind;
use crate::index::{PAGE_ENTRIES, SegmentId};
use crate::inner::Inner;
use crate::log::{Log, LogState, TailBatch};
use crate::options::PlantedFault;
use crate::page_writer::empty;
use crate::segment::{Planned, Segment};
use crate::transaction_index::{PAGE_ABORTED, SEGMENT_WRITE_BYTES_MAX};
use crate::unsynced::Unsynced;

/// Largest single write to a segment, unless one batch is larger.
const WRITE_BYTES_MAX: usize = SEGMENT_WRITE_BYTES_MAX;
/// Zeros behind the last batch, for those who read the file of a segment that is still written: it may hold older
/// batches from there on. No batch header is all zeros.
pub(crate) const END_MARK_BYTES: usize = 64;
/// Segment files grow by this part of what they hold, within these bounds: small logs stay small, large ones pay few
/// size changes, and what all open segments have ahead is a small part of the device.
const GROW_PART: u64 = 8;
const GROW_BYTES_MIN: u64 = 64 << 10;
const GROW_BYTES_MAX: u64 = 64 << 20;
/// Pause before what found the device full is tried again.
const DISK_FULL_PAUSE: Duration = Duration::from_millis(200);

/// The next step for a log.
enum Step<B> {
    Nothing,
    /// Pages of its indexes are owed: they found no space before.
    Index(SegmentId),
    Seal(SegmentId),
    ReadBack(SegmentId, u64, usize),
    Write(WritePlan<B>),
}

struct WritePlan<B> {
    id: SegmentId,
    position: u64,
    buffer: B,
    /// Tail batches it holds.
    count: usize,
    bytes: usize,
    new_file: bool,
    allocated_bytes: u64,
    /// The file will not become longer than this, unless one batch makes it.
    file_bytes_max: u64,
}

impl<I: Io> Inner<I> {
    /// Puts a log into the queue if it has enough to write.
    pub(crate) fn queue_if_dirty(&self, log: &Rc<Log>) {
        let mut state = log.memory_mut();
        let is_worth_it = state.dirty_bytes >= self.options.segment_write_bytes as u64;
        if is_worth_it && state.writer.is_idle() && state.writer.request(false) {
            drop(state);
            self.write_queue.push(log);
        }
    }

    /// Writes everything committed of these logs and waits for it.
    pub(crate) async fn write_all(&self, logs: Vec<Rc<Log>>) -> Result<(), StorageError> {
        self.request_all(&logs);
        for log in &logs {
            loop {
                self.life.check()?;
                if log.state().writer.is_idle() || log.is_deleted() {
                    break;
                }
                self.write_queue.changed.changed().await;
            }
        }
        Ok(())
    }

    /// Puts these logs into the queue, for all that they have.
    pub(crate) fn request_all(&self, logs: &[Rc<Log>]) {
        for log in logs {
            if log.memory_mut().writer.request(true) {
                self.write_queue.push(log);
            }
        }
    }

    /// One segment writer: a long-lived task.
    pub(crate) async fn write_segments(self: Rc<Self>) {
        let queue = &self.write_queue;
        while self.life.writes() {
            let Some(log) = queue.pop() else {
                queue.rest().await;
                continue;
            };
            if let Err(error) = self.write_log(&log).await {
                tracing::debug!(%error, "segment writing stopped");
            }
            self.relieve_tail();
            self.io.yield_if_needed().await;
        }
    }

    /// Writes all that the tail of a log holds, without a task; at start.
    pub(crate) async fn write_now(&self, log: &Rc<Log>) -> Result<(), StorageError> {
        assert!(self.life.is_opening(), "tasks write while running");
        let is_first = log.memory_mut().writer.request(true);
        assert!(is_first, "nobody else writes yet");
        self.write_log(log).await
    }

    /// Writes what the tail of a log that was queued holds; all of it, or only if it is worth a write.
    pub(crate) async fn write_log(&self, log: &Rc<Log>) -> Result<(), StorageError> {
        let all = log.memory_mut().writer.begin();
        self.write_queue.begin(log.id());
        let mut wait = None;
        let mut result = Ok(());
        while !log.is_deleted() && !self.life.is_fenced() {
            let step = self.plan(log, all);
            let under_way = self.deadlines.begin("writing segments", self.io.now());
            let done = match step {
                Step::Nothing => break,
                Step::Index(id) => self.write_full_pages(log, id).await,
                Step::Seal(id) => {
                    let sealed = self.seal_segment(log, id).await;
                    self.rolled(log);
                    sealed
                }
                Step::ReadBack(id, position, len) => self.read_back(log, id, position, len).await,
                Step::Write(plan) => self.write_plan(log, plan).await,
            };
            drop(under_way);
            match done {
                Ok(()) => self.space_found(wait.take()),
                Err(error) if is_disk_full(&error) && self.life.is_running() => {
                    self.wait_for_space(&mut wait).await;
                }
                // At start and at the end nobody makes space.
                Err(error) if is_disk_full(&error) => {
                    result = Err(StorageError::DiskFull);
                    break;
                }
                Err(error) => {
                    self.fence(&format!("writing segments of {}: {error}", log.id()));
                    break;
                }
            }
        }
        self.space_found(wait);
        self.end_writing(log);
        self.life.check()?;
        result
    }

    /// Takes the writer's place of a log that nobody writes.
    pub(crate) fn begin_alone(&self, log: &Rc<Log>) {
        let mut state = log.memory_mut();
        let is_first = state.writer.request(false);
        assert!(is_first, "nobody else writes");
        // Without a place in the queue: it begins at once.
        let _all = state.writer.begin();
        self.write_queue.begin(log.id());
    }

    /// A log's writer is done.
    pub(crate) fn end_writing(&self, log: &Rc<Log>) {
        let again = log.memory_mut().writer.end();
        self.write_queue.end(log.id());
        if again {
            self.write_queue.push(log);
        }
        self.write_queue.changed.notify();
    }

    /// The device is full: appends are refused until all who wait have found space. Gives back what is kept for later,
    /// and lets the other tasks go on for a while.
    pub(crate) async fn wait_for_space<'a>(&'a self, wait: &mut Option<Wait<'a>>) {
        let is_first = !self.space.is_full();
        if wait.is_none() {
            *wait = Some(self.space.wait());
        }
        if is_first {
            tracing::warn!(
                shard = self.options.shard.0,
                "no space left on the device: appends are refused until there is"
            );
            self.admission.notify();
        }
        if is_first || self.space.is_time_to_give_back(self.io.now()) {
            self.give_back_spares().await;
            if self.give_back_ahead().await.is_err() {
                // Fenced: whoever waits looks at that next.
                return;
            }
        }
        self.io.sleep(DISK_FULL_PAUSE).await;
    }

    /// Ends a wait for space, if there was one.
    pub(crate) fn space_found(&self, wait: Option<Wait<'_>>) {
        if wait.is_none() {
            return;
        }
        drop(wait);
        if !self.space.is_full() {
            tracing::info!(shard = self.options.shard.0, "the device has space again");
            self.admission.notify();
        }
    }

    fn plan(&self, log: &Log, all: bool) -> Step<I::Buffer> {
        let mut state = log.memory_mut();
        let state = &mut *state;
        if log.is_held() || self.removals.occupies(log.id()) {
            return Step::Nothing;
        }
        if let Some(active) = state.segments.last().filter(|segment| !segment.sealed)
            && active.owes_page()
        {
            return Step::Index(active.id);
        }
        let worth = all || state.dirty_bytes >= self.options.segment_write_bytes as u64;
        let durable_end = log.durable_end_offset();
        let Some(first) = state
            .tail
            .get(state.tail_written)
            .filter(|batch| worth && batch.place.next_offset <= durable_end)
        else {
            return Step::Nothing;
        };
        if state.segments.last().is_none_or(|segment| segment.sealed) {
            state.segments.push(Segment::new(SegmentId {
                partition: log.id(),
                base_offset: first.place.base_offset,
                generation: state.generation,
                incarnation: state.created_sequence,
            }));
            log.note_change();
        }
        let active = state.segments.last().expect("one is open");
        if active.must_roll(
            Planned::default(),
            first.bytes.len(),
            &first.place,
            &state.config,
        ) {
            return Step::Seal(active.id);
        }
        let partial_bytes = (active.size_bytes % ALIGNMENT as u64) as usize;
        let position = active.size_bytes - partial_bytes as u64;
        if active.partial.as_ref().map_or(0, |partial| partial.len()) != partial_bytes {
            return Step::ReadBack(active.id, position, partial_bytes);
        }
        let (count, bytes) = choose_batches(state, active, durable_end);
        assert!(
            count > 0 && bytes as u64 <= state.dirty_bytes,
            "what is written was dirty"
        );
        assert!(
            position.is_multiple_of(ALIGNMENT as u64) && partial_bytes < ALIGNMENT,
            "writes are whole blocks"
        );
        let batches = state
            .tail
            .range(state.tail_written..state.tail_written + count);
        let buffer = self.blocks(active.partial.as_deref(), batches, partial_bytes + bytes);
        Step::Write(WritePlan {
            id: active.id,
            position,
            buffer,
            count,
            bytes,
            new_file: !active.file_created,
            allocated_bytes: active.allocated_bytes,
            file_bytes_max: state
                .config
                .segment_bytes
                .next_multiple_of(ALIGNMENT as u64),
        })
    }

    /// A segment's last partial block and batches behind it, `bytes` together, in whole blocks.
    pub(crate) fn blocks<'a>(
        &self,
        partial: Option<&[u8]>,
        batches: impl Iterator<Item = &'a TailBatch>,
        bytes: usize,
    ) -> I::Buffer {
        let len = align_up(bytes + END_MARK_BYTES);
        let mut buffer = self.io.buffer(len);
        buffer.truncate(len);
        let out = buffer.as_mut();
        let mut end = 0;
        for piece in partial
            .into_iter()
            .chain(batches.map(|batch| &*batch.bytes))
        {
            out[end..end + piece.len()].copy_from_slice(piece);
            end += piece.len();
        }
        out[end..].fill(0);
        buffer
    }

    async fn write_plan(&self, log: &Rc<Log>, plan: WritePlan<I::Buffer>) -> io::Result<()> {
        let path = self.layout.segment(plan.id);
        let mut is_taken_over = false;
        if plan.new_file {
            self.io.create_dir(&self.layout.partition(log.id())).await?;
            is_taken_over = self.take_spare(log, plan.id, &path).await?;
        }
        let file = self
            .files
            .open(&self.io, plan.id, FileKind::LogWrite, &path)
            .await?;
        let mut allocated = plan.allocated_bytes;
        if is_taken_over {
            allocated = file.len().await?;
        } else if plan.new_file {
            empty(&*file).await?;
            allocated = 0;
        }
        let len = plan.buffer.as_ref().len() as u64;
        let end = plan.position + len;
        if end > allocated {
            let step = (plan.position / GROW_PART).clamp(GROW_BYTES_MIN, GROW_BYTES_MAX);
            allocated = (plan.position + step).min(plan.file_bytes_max).max(end);
            match file.allocate(allocated).await {
                // On a device that is nearly full what is needed now must do.
                Err(error) if is_disk_full(&error) && allocated > end => {
                    allocated = end;
                    file.allocate(end).await?;
                }
                done => done?,
            }
        }
        assert!(allocated >= end, "what is written is allocated");
        let frozen = plan.buffer.freeze();
        file.write_at(frozen.clone(), plan.position).await?;
        self.counters.segment.wrote(len);
        if log.is_deleted() {
            return Ok(());
        }
        self.note_unsynced(
            log,
            plan.id,
            Unsynced {
                log: true,
                directory: plan.new_file,
                ..Unsynced::default()
            },
        );
        self.apply_write(
            log,
            plan.id,
            (plan.count, plan.bytes),
            allocated,
            frozen.as_ref(),
        );
        self.write_full_pages(log, plan.id).await
    }

    /// Writes the pages of both indexes that are full.
    async fn write_full_pages(&self, log: &Rc<Log>, id: SegmentId) -> io::Result<()> {
        self.write_index_pages(log, id, PAGE_ENTRIES).await?;
        self.write_aborted(log, id, PAGE_ABORTED).await
    }

    /// Gives the file that another segment has left the name of a new one, if there is such a file.
    async fn take_spare(&self, log: &Rc<Log>, id: SegmentId, path: &Path) -> io::Result<bool> {
        let filled_bytes = log.state().filled_bytes;
        let Some(number) = self.removals.take_spare(filled_bytes) else {
            return Ok(false);
        };
        let file = self.layout.spare(self.options.shard, number);
        match self.io.rename(&file, path).await {
            Ok(()) => {}
            // Another shard has found the device full and given the spares back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => {
                self.remove_spares(vec![number]).await;
                return Err(error);
            }
        }
        // A write that failed before, of a full device, has opened the file that was there.
        self.files.forget(id);
        self.counters.segments_taken_over.increment();
        Ok(true)
    }

    pub(crate) fn apply_write(
        &self,
        log: &Log,
        id: SegmentId,
        (count, bytes): (usize, usize),
        allocated: u64,
        block: &[u8],
    ) {
        let mut state = log.state_mut();
        let state = &mut *state;
        let found = state
            .segments
            .binary_search_by_key(&id.base_offset, |segment| segment.id.base_offset)
            .expect("a segment that is written does not expire");
        let segment = &mut state.segments[found];
        let before = (segment.size_bytes % ALIGNMENT as u64) as usize;
        let mut tail = self.tail.borrow_mut();
        for batch in state
            .tail
            .range(state.tail_written..state.tail_written + count)
        {
            segment.push(&batch.bytes, batch.place, self.options.index_chunk_bytes);
            tail.cleaned(batch.sequence, 1);
        }
        for aborted in state.producers.take_aborted(segment.next_offset) {
            if !self.options.is_planted(PlantedFault::AbortedForgotten) {
                segment.transactions.add(aborted);
            }
        }
        assert!(
            !segment.sealed && segment.size_bytes <= allocated,
            "an open segment lies in its file"
        );
        segment.file_created = true;
        segment.allocated_bytes = allocated;
        segment.written_at = self.io.wall_clock();
        let end = before + bytes;
        let partial = &block[end / ALIGNMENT * ALIGNMENT..end];
        segment.partial = (!partial.is_empty()).then(|| partial.into());
        assert!(
            segment.next_offset > state.written_end_offset,
            "a write goes forward"
        );
        assert!(
            segment.next_offset <= log.durable_end_offset(),
            "only what is committed is in segments"
        );
        state.written_end_offset = segment.next_offset;
        state.tail_written += count;
        assert!(
            state.dirty_bytes >= bytes as u64,
            "what was written was dirty"
        );
        state.dirty_bytes -= bytes as u64;
        self.removals.add(state.take_shields());
    }

    /// Fetches the last partial block of a segment that was open before a restart.
    async fn read_back(
        &self,
        log: &Rc<Log>,
        id: SegmentId,
        position: u64,
        len: usize,
    ) -> io::Result<()> {
        let path = self.layout.segment(id);
        let file = self
            .files
            .open(&self.io, id, FileKind::LogWrite, &path)
            .await?;
        let bytes = if len == 0 {
            bytes::Bytes::new()
        } else {
            let bytes = file.read_at(position, len).await?;
            self.counters.segment.read(len as u64);
            bytes
        };
        if bytes.len() != len {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a segment is shorter than its checkpoint says",
            ));
        }
        if let Some(segment) = log.state_mut().segment_mut(id) {
            segment.partial = (len > 0).then(|| bytes.as_ref().into());
        }
        Ok(())
    }

    /// Ends a segment: closes its last chunk, writes the rest of its indexes, cuts the file to its exact size.
    pub(crate) async fn seal_segment(&self, log: &Rc<Log>, id: SegmentId) -> io::Result<()> {
        if let Some(segment) = log.state_mut().segment_mut(id) {
            assert!(!segment.sealed, "a segment is sealed once");
            segment.pending.extend(segment.chunks.close());
        }
        self.write_index_pages(log, id, 1).await?;
        self.write_aborted(log, id, 1).await?;
        self.trim_segment(log, id).await?;
        let mut state = log.state_mut();
        if let Some(segment) = state.segment_mut(id) {
            let is_complete =
                segment.pending.is_empty() && segment.transactions.pending().is_empty();
            assert!(is_complete, "its indexes are complete");
            segment.sealed = true;
            segment.partial = None;
            let filled_bytes = segment.size_bytes;
            state.filled_bytes = filled_bytes;
        }
        Ok(())
    }

    /// Cuts a segment's file to the bytes it holds.
    pub(crate) async fn trim_segment(&self, log: &Rc<Log>, id: SegmentId) -> io::Result<()> {
        let size = log.state_mut().segment_mut(id).map_or(0, |segment| {
            segment.allocated_bytes = segment.size_bytes;
            segment.size_bytes
        });
        let path = self.layout.segment(id);
        let file = self
            .files
            .open(&self.io, id, FileKind::LogWrite, &path)
            .await?;
        file.truncate(size).await?;
        self.note_unsynced(
            log,
            id,
            Unsynced {
                log: true,
                ..Unsynced::default()
            },
        );
        Ok(())
    }

    /// Notes what the next checkpoint has to flush. Not for a segment that is gone: its files may be too.
    pub(crate) fn note_unsynced(&self, log: &Log, id: SegmentId, what: Unsynced) {
        if log.is_deleted() || log.memory_mut().segment_mut(id).is_none() {
            return;
        }
        let mut unsynced = self.unsynced.borrow_mut();
        let known = unsynced.entry(id).or_default();
        known.log |= what.log;
        known.index |= what.index;
        known.aborted |= what.aborted;
        known.directory |= what.directory;
    }

    /// Drops tail memory beyond three quarters of the budget, and beyond what the tails have grown to by now; asks for
    /// cleaning if more of the budget is dirty.
    pub(crate) fn relieve_tail(&self) {
        let kept_max = self.options.tail_kept_bytes_max();
        let left = {
            let mut tail = self.tail.borrow_mut();
            let allowed = tail.allowed_bytes().min(kept_max);
            if tail.bytes() <= allowed {
                tail.drop_empty();
                return;
            }
            tail.evict(allowed);
            tail.bytes()
        };
        if left > kept_max {
            self.reclaim_signal.raise();
        }
        self.admission.notify();
    }
}

/// How many tail batches fit the active segment and one write, and their bytes.
fn choose_batches(state: &LogState, active: &Segment, durable_end: Offset) -> (usize, usize) {
    let mut planned = Planned::default();
    let (mut count, mut bytes) = (0, 0);
    for batch in state.tail.range(state.tail_written..) {
        let len = batch.bytes.len();
        let stop = batch.place.next_offset > durable_end
            || active.must_roll(planned, len, &batch.place, &state.config)
            || (count > 0 && bytes + len > WRITE_BYTES_MAX);
        if stop {
            break;
        }
        if count == 0 {
            planned.first_timestamp = batch.place.max_timestamp;
        }
        planned.bytes += len as u64;
        bytes += len;
        count += 1;
    }
    (count, bytes)
}
