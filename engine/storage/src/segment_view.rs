//! What a read knows of a segment: its chunks at one moment. Pure.

use std::rc::Rc;

use model::{Offset, Timestamp};

use crate::index::{ChunkEntry, SegmentId, chunk_of_offset};
use crate::segment::Segment;

/// What a read needs of a segment, copied out of the borrow.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) id: SegmentId,
    pub(crate) pages: u32,
    size_bytes: u64,
    pub(crate) sealed: bool,
    pub(crate) recent: Vec<ChunkEntry>,
}

impl Snapshot {
    pub(crate) fn of(segment: &Segment) -> Snapshot {
        let open = segment.chunks.open();
        let recent = segment
            .pending
            .iter()
            .copied()
            .chain((open.length > 0).then_some(open))
            .collect();
        Snapshot {
            id: segment.id,
            pages: segment.index_pages,
            size_bytes: segment.size_bytes,
            sealed: segment.sealed,
            recent,
        }
    }

    /// How much of the segment the index file describes.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.recent
            .first()
            .map_or(self.size_bytes, |chunk| chunk.position.into())
    }
}

/// The chunks of a segment at one moment.
pub(crate) struct SegmentView {
    pub(crate) id: SegmentId,
    pub(crate) stored: Rc<Vec<ChunkEntry>>,
    /// Chunks that are not in the index file, the unfinished one last.
    pub(crate) recent: Vec<ChunkEntry>,
}

impl SegmentView {
    /// Count of chunks.
    pub(crate) fn len(&self) -> usize {
        self.stored.len() + self.recent.len()
    }

    /// Count of those in the index file.
    pub(crate) fn stored_len(&self) -> usize {
        self.stored.len()
    }

    /// A chunk.
    pub(crate) fn chunk(&self, number: usize) -> Option<&ChunkEntry> {
        match number.checked_sub(self.stored.len()) {
            None => self.stored.get(number),
            Some(recent) => self.recent.get(recent),
        }
    }

    /// The chunk that an offset is in, or that comes before it.
    pub(crate) fn chunk_of(&self, offset: Offset) -> Option<usize> {
        // An offset in the gap before the segment is served by its first chunk.
        let relative = (offset.0 - self.id.base_offset.0).max(0);
        // One far behind it, by its last.
        let relative = u32::try_from(relative).unwrap_or(u32::MAX);
        let recent = chunk_of_offset(&self.recent, relative).map(|found| found + self.stored.len());
        recent.or_else(|| chunk_of_offset(&self.stored, relative))
    }

    /// The first chunk with a timestamp of at least this.
    pub(crate) fn chunk_of_timestamp(&self, timestamp: Timestamp) -> Option<usize> {
        let stored = crate::index::chunk_of_timestamp(&self.stored, timestamp);
        stored.or_else(|| {
            crate::index::chunk_of_timestamp(&self.recent, timestamp)
                .map(|found| found + self.stored.len())
        })
    }

    /// The chunks that begin in the run `extent` of the file.
    pub(crate) fn chunks_of_extent(
        &self,
        extent: u32,
        extent_bytes: u32,
    ) -> std::ops::Range<usize> {
        let before = |bound: u64| {
            let precedes = |entry: &ChunkEntry| u64::from(entry.position) < bound;
            self.stored.partition_point(precedes) + self.recent.partition_point(precedes)
        };
        let start = u64::from(extent) * u64::from(extent_bytes);
        before(start)..before(start + u64::from(extent_bytes))
    }
}
