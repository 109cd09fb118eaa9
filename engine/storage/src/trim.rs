//! Cuts open segments to what they hold, for a full device: files grow ahead of what is written, and what a quiet log's
//! file has ahead is of no use while others find no space.
//!
//! Invariant: a file is cut only while nobody writes it, with the writer's place taken.

use std::rc::Rc;

use runtime::Io;

use crate::error::StorageError;
use crate::index::SegmentId;
use crate::inner::Inner;
use crate::log::Log;
use crate::segment::Segment;

impl<I: Io> Inner<I> {
    /// Gives back what the files of this shard's open segments have ahead, of all logs that nobody writes now.
    pub(crate) async fn give_back_ahead(&self) -> Result<(), StorageError> {
        let logs: Vec<Rc<Log>> = self.logs.borrow().values().cloned().collect();
        for log in logs {
            let ahead = {
                let state = log.state();
                let open = state
                    .segments
                    .last()
                    .filter(|_| state.writer.is_idle() && !log.is_held());
                open.filter(|segment| may_be_ahead(segment))
                    .map(|segment| segment.id)
            };
            if let Some(id) = ahead {
                self.trim_alone(&log, id).await?;
            }
            self.io.yield_if_needed().await;
        }
        Ok(())
    }

    /// Cuts a segment in the place of the log's writer.
    pub(crate) async fn trim_alone(
        &self,
        log: &Rc<Log>,
        id: SegmentId,
    ) -> Result<(), StorageError> {
        // Its files may be gone by now. From here on their removal waits for the writer's place.
        if log.is_deleted() {
            return self.life.check();
        }
        self.begin_alone(log);
        let trimmed = self.trim_segment(log, id).await;
        self.end_writing(log);
        if let Err(error) = trimmed {
            self.fence(&format!("trimming a segment of {}: {error}", log.id()));
        }
        self.life.check()
    }
}

/// Whether an open segment's file may be longer than what it holds. Of one that was there at the start nobody knows how
/// long it is, until it is cut.
fn may_be_ahead(segment: &Segment) -> bool {
    segment.file_created && !segment.sealed && segment.allocated_bytes != segment.size_bytes
}
