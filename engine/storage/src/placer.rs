//! Large appends written once: their batches go straight to the segment, and the commit group only describes them.
//!
//! The decision falls when a group is sealed; the group counts as committed when both are durable. Invariants: what is
//! placed lies in an open segment that a durable checkpoint names, in space that its file has already, behind all that the
//! log has there; whoever places has the log's writer until the group is committed; what waits for the next checkpoint in
//! this way is bounded, since a start brings it back into memory.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use runtime::{ALIGNMENT, Buffer, File, Io, align_up};

use crate::file_cache::FileKind;
use crate::index::PAGE_ENTRIES;
use crate::inner::Inner;
use crate::journal::Frozen;
use crate::journal::group::{GroupBatch, OpenGroup};
use crate::journal::placed::Placed;
use crate::log::{Log, LogState};
use crate::options::PlantedFault;
use crate::placement::{Chosen, Placement};
use crate::segment::{Planned, Segment};
use crate::segment_writer::END_MARK_BYTES;

impl<I: Io> Inner<I> {
    /// Which logs of the open group have their batches placed, by their numbers in the group.
    pub(crate) fn choose_placements(&self, group: &OpenGroup<I::Buffer>) -> BTreeMap<u32, Chosen> {
        let mut chosen = BTreeMap::new();
        let bytes_min = self.options.place_bytes_min;
        if bytes_min == 0 || !self.life.is_running() {
            return chosen;
        }
        let mut runs: BTreeMap<u32, Vec<&GroupBatch>> = BTreeMap::new();
        for batch in &group.batches {
            runs.entry(batch.log).or_default().push(batch);
        }
        let bytes_of = |run: &[&GroupBatch]| run.iter().map(|batch| batch.len).sum::<usize>();
        runs.retain(|_, run| bytes_of(run) >= bytes_min);
        let mut room = self.options.placed_bytes_max - self.placed.outstanding();
        for (number, run) in runs {
            let bytes = bytes_of(&run) as u64;
            let log = &group.logs[number as usize].log;
            if bytes <= room
                && let Some(placement) = self.choose(log, &run, group)
            {
                room -= bytes;
                self.placed.begin(bytes);
                chosen.insert(number, placement);
            }
        }
        if room < self.options.placed_bytes_max / 2 {
            // A checkpoint makes room.
            self.reclaim_signal.raise();
        }
        chosen
    }

    fn choose(
        &self,
        log: &Rc<Log>,
        run: &[&GroupBatch],
        group: &OpenGroup<I::Buffer>,
    ) -> Option<Chosen> {
        if log.is_deleted() || log.is_held() || self.removals.occupies(log.id()) {
            return None;
        }
        let state = log.state();
        let known = match self.options.is_planted(PlantedFault::PlacedUnnamed) {
            true => u64::MAX,
            false => self.checkpoints.sequence(),
        };
        let position = place_of(&state, run, known)?;
        let (first, segment) = (run.first()?, state.segments.last()?.id);
        let mut placed = Placed::new(
            segment.base_offset,
            segment.generation,
            position,
            first.place.base_offset,
        );
        for batch in run {
            let (bytes, place) = (group.bytes_of(batch), &batch.place);
            let delta = place.offset_of_max_timestamp.0 - place.base_offset.0;
            let delta = i32::try_from(delta).expect("within its batch");
            placed.push(bytes, place.next_offset, delta);
        }
        Some(Chosen {
            placed,
            log: log.clone(),
            segment,
        })
    }

    /// Takes the log's writer and prepares the write. The log's tail has the batches by now.
    pub(crate) fn begin_placement(&self, chosen: Chosen) -> Rc<Placement<Frozen<I>>> {
        let log = chosen.log;
        self.begin_alone(&log);
        let state = log.state();
        let active = state.segments.last().expect("it was chosen");
        assert_eq!(active.id, chosen.segment, "nothing has changed since");
        let partial = active.partial.as_deref();
        let partial_bytes = partial.map_or(0, <[u8]>::len);
        let bytes = usize::try_from(state.dirty_bytes).expect("it is in memory");
        let position = active.size_bytes - partial_bytes as u64;
        assert_eq!(
            active.size_bytes + bytes as u64,
            chosen.placed.position + u64::from(chosen.placed.bytes),
            "the group says where they end"
        );
        let dirty = state.tail.range(state.tail_written..);
        let count = dirty.len();
        let block = self.blocks(partial, dirty, partial_bytes + bytes);
        let end = position + block.as_ref().len() as u64;
        assert!(end <= active.allocated_bytes, "in space that there is");
        self.counters
            .placed_bytes
            .add(u64::from(chosen.placed.bytes));
        Rc::new(Placement {
            segment: active.id,
            position,
            block: block.freeze(),
            count,
            bytes,
            placed_bytes: u64::from(chosen.placed.bytes),
            allocated_bytes: active.allocated_bytes,
            log: log.clone(),
        })
    }

    /// Writes what a group has placed and makes it durable, at whatever level it was appended: a later group that is
    /// flushed vouches for this one, and would not know of another file.
    pub(crate) async fn write_placements(
        &self,
        placements: &[Rc<Placement<Frozen<I>>>],
    ) -> io::Result<()> {
        let writes = placements
            .iter()
            .map(|placement| self.write_placement(placement));
        futures_util::future::try_join_all(writes).await.map(|_| ())
    }

    async fn write_placement(&self, placement: &Placement<Frozen<I>>) -> io::Result<()> {
        let path = self.layout.segment(placement.segment);
        let open = self
            .files
            .open(&self.io, placement.segment, FileKind::LogWrite, &path);
        let file = open.await?;
        file.write_at(placement.block.clone(), placement.position)
            .await?;
        self.counters
            .segment
            .wrote(placement.block.as_ref().len() as u64);
        if !self.options.is_planted(PlantedFault::PlacedUnsynced) {
            file.sync_data().await?;
            self.counters.segment.flushes.increment();
        }
        Ok(())
    }

    /// The group is committed: what it has placed is in the segment.
    pub(crate) fn end_placement(&self, placement: &Placement<Frozen<I>>) {
        let log = &placement.log;
        self.placed.commit(placement.placed_bytes);
        if !log.is_deleted() {
            let written = (placement.count, placement.bytes);
            let block = placement.block.as_ref();
            let allocated = placement.allocated_bytes;
            self.apply_write(log, placement.segment, written, allocated, block);
            let owes_index = {
                let state = log.state();
                let last = state.segments.last();
                last.is_some_and(Segment::owes_page)
            };
            if owes_index {
                self.request_all(std::slice::from_ref(log));
            }
        }
        self.end_writing(log);
    }
}

/// Where the batches of a group would lie in the log's segment; `None` if they cannot go there as they are.
fn place_of(state: &LogState, run: &[&GroupBatch], checkpoint: u64) -> Option<u64> {
    let active = state.segments.last()?;
    let is_ready = state.writer.is_idle()
        && !active.sealed
        && active.is_placeable_by(checkpoint)
        && !active.owes_page()
        && run.len() <= PAGE_ENTRIES / 2;
    let partial_bytes = (active.size_bytes % ALIGNMENT as u64) as usize;
    let has_partial = active.partial.as_ref().map_or(0, |partial| partial.len()) == partial_bytes;
    if !is_ready || !has_partial {
        return None;
    }
    let remains = state.tail.range(state.tail_written..);
    if remains.len() > PAGE_ENTRIES / 2 {
        return None;
    }
    let remains = remains.map(|batch| (batch.bytes.len(), &batch.place));
    let mut planned = Planned::default();
    for (len, place) in remains.chain(run.iter().map(|batch| (batch.len, &batch.place))) {
        if active.must_roll(planned, len, place, &state.config) {
            return None;
        }
        planned.bytes += len as u64;
    }
    let is_plain =
        |batch: &&GroupBatch| !batch.carried && batch.place.follows == batch.place.base_offset;
    let end = active.size_bytes + planned.bytes;
    let file_end = align_up(end as usize + END_MARK_BYTES) as u64;
    let new_bytes: u64 = run.iter().map(|batch| batch.len as u64).sum();
    (run.iter().all(is_plain) && file_end <= active.allocated_bytes).then(|| end - new_bytes)
}
