//! The end of a shard: its logs are closed, or left as after a crash if the device has no space for that.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::{Io, TaskClass};
use storage::{Storage, StorageError};

/// A device without space is given this long to get some back. Closing needs it for segments and the checkpoint; what
/// was acknowledged is in the journal already.
const DISK_FULL_PATIENCE: Duration = Duration::from_secs(5);

/// How often the end is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How a shard has ended. Nothing that was acknowledged is lost in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The next start has nothing to replay.
    Clean,
    /// The device is full: the next start replays the journal.
    DiskFull,
}

/// Closes the logs. Requests are refused from now on. Ends in bounded time on a full device.
pub(crate) async fn close<I: Io>(io: &I, storage: &Storage<I>) -> Result<Closed, StorageError> {
    let outcome = Rc::new(RefCell::new(None));
    let (closing, to) = (storage.clone(), outcome.clone());
    io.spawn(TaskClass::Foreground, async move {
        let closed = closing.shutdown().await;
        *to.borrow_mut() = Some(closed);
    });
    let mut full_since = None;
    loop {
        let closed = outcome.borrow_mut().take();
        match closed {
            Some(Ok(())) => return Ok(Closed::Clean),
            Some(Err(StorageError::DiskFull)) => return Ok(Closed::DiskFull),
            Some(Err(error)) => return Err(error),
            None => {}
        }
        let now = io.now();
        full_since = match full_since {
            _ if !storage.is_disk_full() => None,
            None => Some(now),
            since => since,
        };
        if full_since.is_some_and(|since| now.since(since) >= DISK_FULL_PATIENCE) {
            return Ok(Closed::DiskFull);
        }
        io.sleep(LOOK_INTERVAL).await;
    }
}
