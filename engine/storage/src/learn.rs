//! Learns the producers and transactions of a log anew, from its batches: when a cut goes further back than what can be undone,
//! and when an index of aborted transactions is lost.
//!
//! Invariant: what cannot be read is an error. A transaction that nobody remembers would let readers of committed records see
//! what may be aborted.

use std::fmt::Display;
use std::rc::Rc;

use model::Offset;
use model::record::Batches;
use runtime::Io;

use crate::append::control_of;
use crate::error::ReadError;
use crate::inner::Inner;
use crate::log::{Log, ReadRequest};
use crate::producer_state::ProducerStates;
use crate::transaction_index::AbortedTransaction;

/// Bytes read at once.
const LEARN_BYTES: usize = 1 << 20;

impl<I: Io> Inner<I> {
    /// The producers of a log that is to end at `end`. Segments know the aborted transactions of their own markers.
    pub(crate) async fn learn_from_log(
        &self,
        log: &Rc<Log>,
        end: Offset,
    ) -> Result<ProducerStates, ReadError> {
        let written_end = log.state().written_end_offset;
        self.learn_producers(log, end, written_end, async |_| ())
            .await
    }

    /// Learns the producers of a log from its batches below `end`: what came behind cannot be undone. Those whose batches
    /// are all below the log's start are forgotten, as if they had expired, and so are their transactions. Aborted ones
    /// whose markers lie below `aborted_end` are handed out, and not kept.
    pub(crate) async fn learn_producers(
        &self,
        log: &Rc<Log>,
        end: Offset,
        aborted_end: Offset,
        mut aborted: impl AsyncFnMut(Vec<AbortedTransaction>),
    ) -> Result<ProducerStates, ReadError> {
        let mut producers = ProducerStates::default();
        let now = self.io.wall_clock();
        let mut from = log.log_start_offset().min(end);
        while from < end {
            let request = ReadRequest {
                from,
                end,
                bytes_max: LEARN_BYTES,
                at_least_one_batch: true,
            };
            let read = match self.read(log, request).await {
                // Retention has taken what came first.
                Err(ReadError::OffsetOutOfRange { .. }) if from < log.log_start_offset() => {
                    from = log.log_start_offset();
                    continue;
                }
                read => read?,
            };
            for bytes in &read.batches {
                for next in Batches::new(bytes) {
                    let (header, batch) =
                        next.map_err(|error| self.unlearnable(log, from, &error))?;
                    let control = control_of(&header, batch)
                        .map_err(|error| self.unlearnable(log, header.base_offset, &error))?;
                    producers.learn(&header, control, now);
                }
            }
            if read.bytes == 0 {
                return Err(self.unlearnable(log, from, &"nothing is there"));
            }
            from = read.next_offset;
            producers.settle(log.high_watermark().min(from));
            aborted(producers.take_aborted(aborted_end)).await;
            self.io.yield_if_needed().await;
        }
        producers.forget_undo(end);
        Ok(producers)
    }

    fn unlearnable(&self, log: &Log, from: Offset, why: &dyn Display) -> ReadError {
        ReadError::Corrupt {
            path: self.layout.partition(log.id()),
            position: 0,
            reason: format!("what producers did from offset {from} on cannot be read: {why}"),
        }
    }
}
