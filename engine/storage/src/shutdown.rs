//! The orderly end of a shard's storage.

use std::rc::Rc;

use runtime::Io;

use crate::at_once::at_once;
use crate::checkpoint::RunState;
use crate::error::StorageError;
use crate::inner::Inner;
use crate::life::Phase;
use crate::log::Log;
use crate::storage::Storage;

impl<I: Io> Storage<I> {
    /// Commits and writes everything, leaves a checkpoint that says so, and ends the tasks. Appends are refused from now
    /// on: after a clean stop the journal is not replayed.
    ///
    /// On a full device what does not fit its segments stays in the journal, and the next start finds it there.
    pub async fn shutdown(&self) -> Result<(), StorageError> {
        let inner = &self.inner;
        inner.life.check()?;
        inner.life.advance(Phase::Closing);
        inner.admission.notify();
        let through = inner.request_barrier();
        inner.wait_durable(through).await?;
        // Directories of deleted logs stand in the way of logs made anew under their names, and what they hold may be
        // missing.
        while inner.has_waiting_deletions() {
            inner.checkpoint(RunState::Running).await?;
        }
        if !inner.removals.is_empty() {
            inner.checkpoint(RunState::Running).await?;
        }
        let logs: Vec<Rc<Log>> = inner.logs.borrow().values().cloned().collect();
        let dirty = |log: &&Rc<Log>| log.state().is_dirty();
        inner
            .write_all(logs.iter().filter(dirty).cloned().collect())
            .await?;
        inner.trim_open_segments(&logs).await?;
        inner.life.advance(Phase::Ending);
        let spares = inner.removals.clear_spares();
        inner.remove_spares(spares).await;
        // What is left needs the journal.
        let left = logs.iter().filter(dirty).count();
        if left > 0 {
            tracing::warn!(
                shard = inner.options.shard.0,
                logs = left,
                "records stay in the journal, because the device is full"
            );
        } else {
            let oldest = inner.tail.borrow().oldest_dirty();
            assert!(oldest.is_none(), "no log is dirty, so no group is");
        }
        inner.checkpoint(RunState::CleanShutdown).await?;
        inner.checkpoint(RunState::CleanShutdown).await?;
        for log in &logs {
            log.assert_offsets();
            let (durable, end) = (log.durable_end_offset(), log.log_end_offset());
            assert!(
                log.is_deleted() || durable == end,
                "a clean stop leaves nothing on its way"
            );
        }
        inner.life.advance(Phase::Ended);
        for slot in &inner.slots {
            slot.raise();
        }
        inner.journal_extend.raise();
        inner.journal_rests.raise();
        inner.reclaim_signal.raise();
        inner.removal_signal.raise();
        inner.write_queue.wake();
        inner.read_ahead.wake();
        inner.admission.notify();
        Ok(())
    }
}

impl<I: Io> Inner<I> {
    /// Cuts the files of open segments to their exact size, so that other tools can read them.
    pub(crate) async fn trim_open_segments(&self, logs: &[Rc<Log>]) -> Result<(), StorageError> {
        at_once(logs, async |log| {
            // A writer may be adding to the file just now: what it wrote would be cut off.
            while !log.state().writer.is_idle() {
                self.life.check()?;
                self.write_queue.changed.changed().await;
            }
            let open = {
                let state = log.state();
                state
                    .segments
                    .last()
                    .filter(|segment| {
                        !segment.sealed && segment.allocated_bytes > segment.size_bytes
                    })
                    .map(|segment| segment.id)
            };
            if let Some(id) = open {
                self.trim_alone(log, id).await?;
            }
            self.life.check()
        })
        .await
    }
}
