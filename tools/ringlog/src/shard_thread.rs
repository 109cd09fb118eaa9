//! What the thread of one shard runs: the broker's wiring on that core, and its talk with the main thread.
//!
//! The main thread hears when a shard serves, or why it does not, and how it ended; it says one thing: stop.

use std::net::SocketAddr;
use std::time::Duration;

use broker::{BrokerPlan, Links, Running, StartError, StopError};
use console::Question;
use runtime::{Io, Oneshot, TaskClass};
use shard::Closed;
use storage::RecoveryReport;
use uring::UringIo;

use crate::fence::{self, Fence};
use crate::http;

/// What a shard tells the main thread.
#[derive(Debug)]
pub enum Report {
    /// Every connection will be served.
    Serving {
        /// Where clients connect: for each listener.
        addresses: Vec<SocketAddr>,
        /// On shard 0.
        recovery: Option<RecoveryReport>,
    },
    /// It does not start.
    NotStarted(StartError),
    /// It has ended.
    Stopped(Result<Closed, StopError>),
}

/// What a shard's thread is given.
pub struct ShardThread {
    /// Which shard.
    pub index: usize,
    /// The broker's.
    pub plan: BrokerPlan,
    /// This shard's part.
    pub links: Links<UringIo>,
    /// To the main thread.
    pub reports: flume::Sender<(usize, Report)>,
    /// Brings the one order, with how long to wait for clients.
    pub stop: flume::Receiver<Duration>,
    /// Of the console.
    pub questions: flume::Receiver<Question>,
    /// To the main thread.
    pub fences: flume::Sender<Fence>,
}

impl ShardThread {
    /// Runs the shard from its start to its end.
    pub async fn run(self, io: UringIo) {
        let (index, reports) = (self.index, self.reports.clone());
        let last = self.serve(io).await;
        // The main thread may have given up waiting; then nobody is left to tell.
        if reports.send((index, last)).is_err() {
            tracing::warn!(
                shard = index,
                "ended after the main thread stopped listening"
            );
        }
    }

    /// The last report.
    async fn serve(self, io: UringIo) -> Report {
        let stop = receive(&io, self.stop);
        let running = match broker::start(io.clone(), self.plan, self.links).await {
            Ok(running) => running,
            Err(error) => return Report::NotStarted(error),
        };
        let Running { shard, server, .. } = &running;
        http::answer(&io, shard, server, self.questions);
        fence::report(&io, self.index, shard, self.fences);
        let serving = Report::Serving {
            addresses: running.addresses.clone(),
            recovery: running.recovery.clone(),
        };
        if self.reports.send((self.index, serving)).is_err() {
            tracing::warn!(shard = self.index, "the main thread has stopped listening");
        }
        let patience = stop.take().await;
        Report::Stopped(running.stop(patience).await)
    }
}

/// A value from the main thread, brought in by a detached task of the shard: futures that another thread wakes are
/// awaited by nothing else.
fn receive<T: 'static>(io: &UringIo, from: flume::Receiver<T>) -> std::rc::Rc<Oneshot<T>> {
    let slot = Oneshot::new();
    let to = slot.clone();
    io.spawn(TaskClass::Foreground, async move {
        if let Ok(value) = from.recv_async().await {
            to.set(value);
        }
    });
    slot
}
