//! Producers and consumers in one process: the time from a batch's intended send to its receipt.
//!
//! Each batch's first record carries a [`crate::trace::Trace`]. Invariants: consumers stand at the end of every
//! partition before the first request is sent; only batches intended behind the warm-up count; consumers end when
//! producers have ended and nothing more arrives.

use std::rc::Rc;
use std::time::Duration;

use model::MonotonicTime;
use runtime::{Io, Oneshot, TaskClass};

use crate::consume::{Consumed, Consuming, Reading};
use crate::core_state::{Observer, Share};
use crate::produce::{self, Produced};
use crate::workload::{ConsumeWorkload, Limit, ProduceWorkload};

/// How long nothing may arrive before consumers end.
const IDLE: Duration = Duration::from_secs(1);
/// How long consumers may go on behind the producers at most.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs this core's share of both sides, with so many readers that each read everything. `produced` must name the run
/// of its traces.
pub async fn end_to_end<I: Io>(
    io: I,
    produced: ProduceWorkload,
    (consumed, readers): (ConsumeWorkload, u64),
    share: Share,
    observer: Observer,
) -> (Produced, Vec<Consumed>) {
    let consumed = ConsumeWorkload {
        traced_run: produced.traced_run,
        until_end: false,
        // Ended from outside; a bound so that it ends at all.
        limit: Limit {
            duration: Some(Duration::MAX),
            records: None,
        },
        warmup: Duration::ZERO,
        ..consumed
    };
    let mut running = Vec::new();
    for _ in 0..readers.max(1) {
        // Readers end when the producers have ended and nothing more arrives, also if they are interrupted.
        let quiet = Observer {
            progress: None,
            stop: None,
            ..observer.clone()
        };
        running.push(Reader::start(&io, consumed.clone(), share, quiet));
    }
    for reader in &running {
        reader.ready.take().await;
    }
    let counting: Vec<Rc<Reading<I>>> = running.iter().map(|r| r.reading.clone()).collect();
    let sent = produce::produce_from(io.clone(), produced, share, observer, move |from| {
        for reading in counting {
            reading.traced_from.set(from);
        }
    })
    .await;
    let end = io.now().plus(DRAIN_MAX);
    let mut received = Vec::new();
    for reader in running {
        reader.drain(&io, end).await;
        received.push(reader.result.take().await);
    }
    (sent, received)
}

/// One reader of everything.
struct Reader<I: Io> {
    reading: Rc<Reading<I>>,
    /// Set when it stands where it begins.
    ready: Rc<Oneshot<()>>,
    result: Rc<Oneshot<Consumed>>,
}

impl<I: Io> Reader<I> {
    fn start(io: &I, workload: ConsumeWorkload, share: Share, observer: Observer) -> Reader<I> {
        let consuming = Consuming::new(io.clone(), workload, share, observer);
        let reader = Reader {
            reading: consuming.reading.clone(),
            ready: Oneshot::new(),
            result: Oneshot::new(),
        };
        reader.reading.traced_from.set(MonotonicTime(u64::MAX));
        let ready = reader.ready.clone();
        reader.reading.core.when_begun(move |_| ready.set(()));
        let result = reader.result.clone();
        io.spawn(TaskClass::Foreground, async move {
            result.set(consuming.run().await);
        });
        reader
    }

    /// Waits until nothing more arrives, and ends the reader.
    async fn drain(&self, io: &I, end: MonotonicTime) {
        let core = &self.reading.core;
        let (mut records, mut since) = (core.records(), io.now());
        while io.now() < end && io.now().since(since) < IDLE && !core.stopping() {
            io.sleep(LOOK).await;
            if core.records() != records {
                (records, since) = (core.records(), io.now());
            }
        }
        core.stop();
    }
}
