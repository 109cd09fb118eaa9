//! Finding records by timestamp (ListOffsets).

use std::cell::RefCell;
use std::rc::Rc;

use model::record::{Batches, DecompressionScratch, read_records};
use model::{LeaderEpoch, Offset, Timestamp};
use runtime::Io;

use crate::error::ReadError;
use crate::index::SegmentId;
use crate::inner::Inner;
use crate::log::{Log, TimestampOffset};
use crate::segment_view::Snapshot;
use crate::storage::Storage;

/// Bounds of a search.
#[derive(Clone, Copy)]
struct Wanted {
    timestamp: Timestamp,
    from: Offset,
    end: Offset,
}

/// What one look at a log has found.
enum Look {
    /// The record.
    Found((Timestamp, Offset)),
    /// There is none.
    Nothing,
    /// It may be in this segment, and if not, behind this offset.
    Segment(Snapshot, Offset),
}

thread_local! {
    // One per core, reused: a shard is one thread.
    static SCRATCH: RefCell<DecompressionScratch> = RefCell::new(DecompressionScratch::new());
}

impl<I: Io> Storage<I> {
    /// The first record below `end` whose timestamp is at least `timestamp`.
    pub async fn offset_for_timestamp(
        &self,
        log: &Rc<Log>,
        timestamp: Timestamp,
        end: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        self.inner.offset_for_timestamp(log, timestamp, end).await
    }

    /// The record below `end` with the largest timestamp; the first of several.
    ///
    /// Known from memory alone. A segment counts only if all of it lies below `end` and its record at or above the
    /// log start.
    pub async fn offset_of_max_timestamp(
        &self,
        log: &Rc<Log>,
        end: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let state = log.state();
        let log_start_offset = log.log_start_offset();
        let segments = state.segments.iter().map(|segment| {
            (
                segment.next_offset,
                segment.max_timestamp,
                segment.offset_of_max_timestamp,
            )
        });
        let written_end = state.written_end_offset;
        let tail = state.tail.range(state.tail_written..).map(|batch| {
            (
                batch.place.next_offset,
                batch.place.max_timestamp,
                batch.place.offset_of_max_timestamp,
            )
        });
        debug_assert!(
            state
                .tail
                .get(state.tail_written)
                .is_none_or(|first| first.place.follows == written_end)
        );
        let mut best: Option<(Timestamp, Offset)> = None;
        for (next_offset, timestamp, offset) in segments.chain(tail) {
            let eligible = next_offset <= end && offset >= log_start_offset && timestamp.0 >= 0;
            if eligible && best.is_none_or(|(known, _)| timestamp > known) {
                best = Some((timestamp, offset));
            }
        }
        Ok(best.map(|(timestamp, offset)| TimestampOffset {
            timestamp,
            offset,
            leader_epoch: state
                .leader_epochs
                .epoch_of(offset)
                .unwrap_or(LeaderEpoch::NONE),
        }))
    }
}

impl<I: Io> Inner<I> {
    async fn offset_for_timestamp(
        &self,
        log: &Rc<Log>,
        timestamp: Timestamp,
        end: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let wanted = Wanted {
            timestamp,
            from: log.log_start_offset(),
            end: end.min(log.log_end_offset()),
        };
        // From place to place: what is in the tail now may be in a segment after the next wait, and gone from the tail.
        let mut from = wanted.from;
        while from < wanted.end {
            match self.look_at(log, from, wanted)? {
                Look::Found(found) => return Ok(Some(self.with_epoch(log, found))),
                Look::Nothing => return Ok(None),
                Look::Segment(segment, next_offset) => {
                    if let Some(found) = self.search_segment(log, segment, wanted).await? {
                        return Ok(Some(self.with_epoch(log, found)));
                    }
                    assert!(next_offset > from, "a search goes forward");
                    from = next_offset;
                }
            }
        }
        Ok(None)
    }

    /// Where to look for the first record at or behind `from`: in the next segment that reaches the timestamp, or, if the
    /// segments end before `from`, in the tail, which is searched at once.
    fn look_at(&self, log: &Rc<Log>, from: Offset, wanted: Wanted) -> Result<Look, ReadError> {
        let state = log.state();
        let first = state
            .segments
            .partition_point(|segment| segment.next_offset <= from);
        let mut reaching = state.segments[first..]
            .iter()
            .filter(|segment| segment.max_timestamp >= wanted.timestamp);
        if let Some(segment) = reaching.next() {
            return Ok(Look::Segment(Snapshot::of(segment), segment.next_offset));
        }
        let first = state
            .tail
            .partition_point(|batch| batch.place.next_offset <= from);
        for batch in state.tail.range(first..) {
            if batch.place.max_timestamp < wanted.timestamp {
                continue;
            }
            let found = first_record(&batch.bytes, wanted).map_err(|position| {
                self.corrupt(tail_id(log), position, "a tail batch cannot be read")
            })?;
            if let Some(found) = found {
                return Ok(Look::Found(found));
            }
        }
        Ok(Look::Nothing)
    }

    fn with_epoch(&self, log: &Log, (timestamp, offset): (Timestamp, Offset)) -> TimestampOffset {
        let leader_epoch = log
            .state()
            .leader_epochs
            .epoch_of(offset)
            .unwrap_or(LeaderEpoch::NONE);
        TimestampOffset {
            timestamp,
            offset,
            leader_epoch,
        }
    }

    /// The first record of a segment with a timestamp of at least `timestamp`, below `end`.
    pub(crate) async fn find_in_segment(
        &self,
        log: &Rc<Log>,
        segment: Snapshot,
        timestamp: Timestamp,
        end: Offset,
    ) -> Result<Option<Offset>, ReadError> {
        let wanted = Wanted {
            timestamp,
            from: segment.id.base_offset,
            end,
        };
        let found = self.search_segment(log, segment, wanted).await?;
        Ok(found.map(|(_, offset)| offset))
    }

    async fn search_segment(
        &self,
        log: &Rc<Log>,
        segment: Snapshot,
        wanted: Wanted,
    ) -> Result<Option<(Timestamp, Offset)>, ReadError> {
        let view = self.view(log, segment).await?;
        let Some(first) = view.chunk_of_timestamp(wanted.timestamp) else {
            return Ok(None);
        };
        // The first chunk that reaches the timestamp holds the record, unless the log starts behind it.
        for number in first..view.len() {
            let bytes = self.chunk_bytes(&view, number).await?;
            let position = view
                .chunk(number)
                .map_or(0, |chunk| u64::from(chunk.position));
            let found = first_record(&bytes, wanted)
                .map_err(|at| self.corrupt(view.id, position + at, "the records cannot be read"))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

fn tail_id(log: &Log) -> SegmentId {
    SegmentId {
        partition: log.id(),
        base_offset: log.log_start_offset(),
        generation: 0,
        incarnation: 0,
    }
}

/// The first record in these batches that fits. An error gives the position of what cannot be read.
fn first_record(bytes: &[u8], wanted: Wanted) -> Result<Option<(Timestamp, Offset)>, u64> {
    let mut batches = Batches::new(bytes);
    loop {
        let position = (bytes.len() - batches.rest().len()) as u64;
        let Some(next) = batches.next() else {
            return Ok(None);
        };
        let (header, batch) = next.map_err(|_| position)?;
        if header.next_offset() > wanted.end {
            return Ok(None);
        }
        if header.max_timestamp < wanted.timestamp || header.next_offset() <= wanted.from {
            continue;
        }
        let found =
            SCRATCH.with_borrow_mut(|scratch| -> Result<Option<(Timestamp, Offset)>, u64> {
                for record in read_records(batch, scratch).map_err(|_| position)? {
                    let record = record.map_err(|_| position)?;
                    if record.timestamp >= wanted.timestamp && record.offset >= wanted.from {
                        return Ok(Some((record.timestamp, record.offset)));
                    }
                }
                Ok(None)
            })?;
        if found.is_some() {
            return Ok(found);
        }
    }
}
