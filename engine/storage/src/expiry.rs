//! Applies retention to logs, and lets go of spares that nobody takes.

use std::rc::Rc;

use model::Timestamp;
use runtime::Io;

use crate::inner::Inner;
use crate::log::Log;
use crate::retention::removable_segments;
use crate::segment::Segment;
use crate::storage::Storage;

impl<I: Io> Inner<I> {
    /// Looks for expired segments and producers from time to time: one long-lived task.
    pub(crate) async fn check_retention(self: Rc<Self>) {
        loop {
            self.io.sleep(self.options.retention_check_interval).await;
            if !self.life.keeps() {
                return;
            }
            let logs: Vec<Rc<Log>> = self.logs.borrow().values().cloned().collect();
            let now = self.io.wall_clock();
            for log in logs {
                self.expire(&log, now);
                self.io.yield_if_needed().await;
            }
            let expired = self.removals.expired_spares(self.io.now());
            self.remove_spares(expired).await;
            self.removal_signal.raise();
        }
    }

    /// A log has filled a segment. In balance it loses one for it, whose file is then there for the next that is begun.
    pub(crate) fn rolled(&self, log: &Rc<Log>) {
        if !self.life.is_running() || log.is_deleted() {
            return;
        }
        self.expire(log, self.io.wall_clock());
        if !self.removals.is_empty() {
            self.removal_signal.raise();
        }
    }

    /// Applies retention to one log. Its files go after the next checkpoint; what was in the journal only is forgotten
    /// with it.
    pub(crate) fn expire(&self, log: &Rc<Log>, now: Timestamp) {
        if log.is_held() {
            return;
        }
        let mut state = log.memory_mut();
        let state = &mut *state;
        let expiration_ms = state.config.producer_id_expiration_ms;
        if state.producers.expire(now, expiration_ms) {
            log.note_change();
        }
        let summaries = state.summaries(log.durable_end_offset(), log.log_end_offset());
        let mut gone = removable_segments(
            &summaries,
            log.log_start_offset(),
            log.size_bytes(),
            &state.config,
            now,
        );
        // A writer may be adding to the last segment: it can go next time.
        if state.writer.is_writing() {
            gone = gone.min(state.segments.len().max(1) - 1);
        }
        let written_end = state.written_end_offset;
        let covers = |segment: &Segment| state.shields.covers(segment.id, written_end);
        if let Some(needed) = state.segments.iter().position(covers)
            && gone > needed
        {
            // Behind it lie batches that are in no other file yet; it can go when they are.
            gone = needed;
            if state.writer.request(true) {
                self.write_queue.push(log);
            }
        }
        let Some(last) = gone.checked_sub(1) else {
            return;
        };
        assert!(gone <= summaries.len(), "what goes was there");
        let log_start_offset = log.log_start_offset().max(summaries[last].next_offset);
        let gone_bytes: u64 = summaries[..gone].iter().map(|gone| gone.size_bytes).sum();
        log.shrink(gone_bytes);
        for segment in state.segments.drain(..gone.min(state.segments.len())) {
            let bytes = segment.file_bytes().map(|(_, bytes)| bytes);
            self.removals.segment_gone(segment.id, bytes);
        }
        if state.segments.is_empty() {
            let mut tail = self.tail.borrow_mut();
            for group in state.forget_dirty(log_start_offset) {
                tail.cleaned(group, 1);
            }
        }
        assert!(
            log_start_offset <= log.log_end_offset(),
            "a log does not begin beyond its end"
        );
        log.advance_start(log_start_offset);
        state.leader_epochs.truncate_front(log_start_offset);
    }
}

impl<I: Io> Storage<I> {
    /// Applies retention to all logs as of `now`, as the periodic check does.
    pub fn enforce_retention(&self, now: Timestamp) {
        let logs: Vec<Rc<Log>> = self.inner.logs.borrow().values().cloned().collect();
        for log in logs {
            self.inner.expire(&log, now);
        }
        self.inner.removal_signal.raise();
    }
}
