//! A shard that runs, and its end in order: others take over what the broker led, every shard answers what it owes, then
//! every shard closes its logs, then shard 0 lets go of the data directory.
//!
//! A shard that still answers may need the others, so no log is closed before all have drained; and no other process
//! gets the directory before all logs are closed. Where that is not certain, the lock goes with the process.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use model::ShardId;
use runtime::Io;
use server::{Server, listener};
use shard::{Closed, LEAVE_PATIENCE, Shard, leave};
use storage::{RecoveryReport, StorageError};

use crate::data_directory::DataDirectory;
use crate::links::{Barrier, Missing};

/// How much longer than it gives its clients a shard waits for the others to drain.
pub const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// How long closing the logs may take after the last answer.
pub const CLOSE_PATIENCE: Duration = Duration::from_secs(60);

/// Why a shard does not end in order.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StopError {
    /// Another one did not come so far in time.
    #[error("the shards did not {0} in time")]
    TimedOut(&'static str),
    /// A log cannot be closed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A shard that serves.
pub struct Running<I: Io> {
    /// The shard.
    pub shard: Rc<Shard<I>>,
    /// Its connections.
    pub server: Rc<Server<I>>,
    /// What recovery did; on shard 0.
    pub recovery: Option<RecoveryReport>,
    /// Where clients connect: for each listener of the plan.
    pub addresses: Vec<SocketAddr>,
    /// On shard 0.
    pub(crate) directory: Option<DataDirectory<I>>,
    pub(crate) left: Barrier,
    pub(crate) drained: Barrier,
    pub(crate) closed: Barrier,
}

impl<I: Io> Running<I> {
    /// Leaves the cluster and answers what is owed, for `patience` at most; when every shard has, makes everything durable and closes the
    /// logs. To be called on every shard: each waits for the others, in bounded time.
    pub async fn stop(self, patience: Duration) -> Result<Closed, StopError> {
        let Running {
            shard,
            server,
            directory,
            left,
            drained,
            closed,
            ..
        } = self;
        let io = shard.io.clone();
        if shard.id() == ShardId(0) {
            leave(&shard).await;
        }
        // Whoever does not come is missed at the next barrier: clients are answered meanwhile.
        if left.pass(&io, true, LEAVE_PATIENCE + DRAIN_MARGIN).await == Err(Missing) {
            tracing::warn!("a shard does not come to its end");
        }
        listener::drain(&server, patience).await;
        let waits = patience + DRAIN_MARGIN;
        let passed = drained.pass(&io, true, waits).await;
        passed.map_err(|Missing| StopError::TimedOut("drain"))?;
        let outcome = shard.close().await;
        // Also after a failure: the others are not to wait for a shard that has ended. On a full device storage may
        // still be at work.
        let is_clean = matches!(outcome, Ok(Closed::Clean));
        let all_clean = closed.pass(&io, is_clean, CLOSE_PATIENCE).await;
        let outcome = outcome?;
        let all_clean = all_clean.map_err(|Missing| StopError::TimedOut("close their logs"))?;
        if let Some(directory) = directory
            && all_clean
        {
            directory.release();
        }
        Ok(outcome)
    }
}
