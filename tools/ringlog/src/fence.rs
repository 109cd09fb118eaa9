//! A fenced shard ends the process: until a restart it acknowledges nothing, and a supervisor can only restart what has
//! ended.
//!
//! Not at once: what waits is answered first, and who watches gets to see why.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use runtime::{Io, TaskClass};
use shard::Shard;
use uring::UringIo;

/// How often a shard looks at its storage.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// A shard was fenced.
#[derive(Clone, Debug)]
pub struct Fence {
    /// Which shard.
    pub shard: usize,
    /// Why.
    pub reason: String,
}

/// The main thread's end.
pub struct FenceWatch {
    /// `None`: the broker stays.
    delay: Option<Duration>,
    fences: flume::Receiver<Fence>,
    first: RefCell<Option<(Instant, Fence)>>,
}

/// The shards' end and the main thread's. A negative delay is for ever.
pub fn watch(delay_ms: i64) -> (flume::Sender<Fence>, FenceWatch) {
    let (to, fences) = flume::unbounded();
    let watch = FenceWatch {
        delay: u64::try_from(delay_ms).ok().map(Duration::from_millis),
        fences,
        first: RefCell::new(None),
    };
    (to, watch)
}

impl FenceWatch {
    /// The first fence, when it has lasted for the delay.
    pub fn due(&self) -> Option<Fence> {
        let mut first = self.first.borrow_mut();
        if first.is_none() {
            let fence = self.fences.try_recv().ok()?;
            match self.delay {
                Some(delay) => tracing::error!(
                    shard = fence.shard,
                    "this broker ends in {} ms: only a restart helps",
                    delay.as_millis()
                ),
                None => tracing::error!(
                    shard = fence.shard,
                    "only a restart of this broker helps; ringlog.fenced.exit.delay.ms is -1, so it stays"
                ),
            }
            *first = Some((Instant::now(), fence));
        }
        let (since, fence) = first.as_ref()?;
        let is_due = self.delay.is_some_and(|delay| since.elapsed() >= delay);
        is_due.then(|| fence.clone())
    }
}

/// Tells the main thread when this shard's storage is fenced. One message for each shard at most.
pub fn report(
    io: &UringIo,
    index: usize,
    shard: &Rc<Shard<UringIo>>,
    fences: flume::Sender<Fence>,
) {
    let (io, shard) = (io.clone(), shard.clone());
    io.clone().spawn(TaskClass::Foreground, async move {
        loop {
            if let Some(reason) = shard.storage.fence_reason() {
                let fence = Fence {
                    shard: index,
                    reason,
                };
                if fences.send(fence).is_err() {
                    tracing::debug!("the main thread has ended before it heard of a fence");
                }
                return;
            }
            io.sleep(LOOK_INTERVAL).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_due_after_its_delay_or_never() {
        for (delay_ms, at_once, later) in [(0, true, true), (300, false, true), (-1, false, false)]
        {
            let (to, watch) = watch(delay_ms);
            assert!(watch.due().is_none(), "nothing has happened");
            for shard in [3, 4] {
                let reason = "EIO".to_owned();
                to.send(Fence { shard, reason }).unwrap();
            }
            assert_eq!(watch.due().is_some(), at_once, "{delay_ms}");
            std::thread::sleep(Duration::from_millis(400));
            let due = watch.due();
            assert_eq!(due.is_some(), later, "{delay_ms}");
            assert!(due.is_none_or(|fence| fence.shard == 3), "the first one");
        }
    }
}
