//! What the connections of one core share: counts, the clock of the run, the order to stop.
//!
//! Owned by the core; never leaves it. Invariants: counts go into the interval and from there, once a second, into the
//! total, so nothing is counted twice; once `stopping` is set it stays set.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use client::ClientError;
use model::MonotonicTime;
use runtime::{Io, Signal, Stream, TaskClass};

use crate::process::{Reading, Window};
use crate::tally::Tally;

/// How often deadlines and the end of the run are looked at.
const CHECK: Duration = Duration::from_millis(50);
/// How often counts are told to whoever watches.
const INTERVAL: Duration = Duration::from_secs(1);

/// Which share of a load this core has.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// Number of this core, from 0.
    pub core: u64,
    /// How many there are.
    pub cores: u64,
}

impl Share {
    /// The connections of this core, out of `connections` in all.
    pub fn connections(self, connections: u64) -> impl Iterator<Item = u64> {
        let step = usize::try_from(self.cores.max(1)).unwrap_or(usize::MAX);
        (self.core..connections).step_by(step)
    }
}

/// Who is told about a load while it runs, and whose use of the machine is read.
#[derive(Clone, Debug, Default)]
pub struct Observer {
    /// Gets a tally a second.
    pub progress: Option<SyncSender<Tally>>,
    /// A process to read beside this one.
    pub watch_pid: Option<u32>,
}

/// When a core's load begins to count and when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Time before counting.
    pub(crate) warmup: Duration,
    /// Time that counts, if time ends the load.
    pub(crate) duration: Option<Duration>,
    /// Without such an end: how long a load may stay without one more record before it is given up.
    pub(crate) stall: Duration,
}

/// What a core's load came to.
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) window: Window,
    pub(crate) fatal: Option<String>,
}

/// A connection's face to the core's watch task.
pub(crate) trait Watched {
    /// When the oldest unanswered request is overdue.
    fn deadline(&self) -> Option<MonotonicTime>;
    /// Ends the connection because of that.
    fn expire(&self);
    /// Lets the connection look at the clock.
    fn wake(&self);
}

/// See the module.
pub(crate) struct CoreState<I: Io> {
    pub(crate) io: I,
    pub(crate) interval: RefCell<Tally>,
    total: RefCell<Tally>,
    progress: RefCell<Option<SyncSender<Tally>>>,
    watch_pid: Option<u32>,
    start: Cell<MonotonicTime>,
    measured_from: Cell<MonotonicTime>,
    /// Counters of the processes at `measured_from`.
    begin: Cell<Reading>,
    bounds: Bounds,
    stopping: Cell<bool>,
    fatal: RefCell<Option<String>>,
    lanes: Cell<u64>,
    done: Rc<Signal>,
    watched: RefCell<Vec<Weak<dyn Watched>>>,
    last_answer: Cell<MonotonicTime>,
}

impl<I: Io> CoreState<I> {
    pub(crate) fn new(io: I, lanes: u64, bounds: Bounds, observer: Observer) -> Rc<CoreState<I>> {
        let now = io.now();
        Rc::new(CoreState {
            io,
            interval: RefCell::default(),
            total: RefCell::default(),
            progress: RefCell::new(observer.progress),
            watch_pid: observer.watch_pid,
            start: Cell::new(now),
            measured_from: Cell::new(now),
            begin: Cell::new(Reading::now(observer.watch_pid)),
            bounds,
            stopping: Cell::new(false),
            fatal: RefCell::default(),
            lanes: Cell::new(lanes),
            done: Signal::new(),
            watched: RefCell::default(),
            last_answer: Cell::new(now),
        })
    }

    /// When sending began.
    pub(crate) fn start(&self) -> MonotonicTime {
        self.start.get()
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Ends the run because going on makes no sense.
    pub(crate) fn give_up(&self, reason: String) {
        self.fatal.borrow_mut().get_or_insert(reason);
        self.stop();
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.wake_all();
    }

    pub(crate) fn watch(&self, connection: Weak<dyn Watched>) {
        let mut watched = self.watched.borrow_mut();
        watched.retain(|w| w.strong_count() > 0);
        watched.push(connection);
    }

    pub(crate) fn answered_at(&self, now: MonotonicTime) {
        self.last_answer.set(now);
    }

    /// Whether nothing has succeeded so far: then a refusal that retrying cannot cure ends the run.
    pub(crate) fn nothing_yet(&self) -> bool {
        self.total.borrow().requests == 0 && self.interval.borrow().requests == 0
    }

    pub(crate) fn failed(&self, error: &ClientError, count: u64) {
        self.interval.borrow_mut().failed(&kind(error), count);
    }

    pub(crate) fn lane_done(&self) {
        self.lanes.set(self.lanes.get().saturating_sub(1));
        if self.lanes.get() == 0 {
            self.done.raise();
        }
    }

    /// Starts the watch task and waits until every lane has ended.
    pub(crate) async fn run(self: &Rc<Self>) -> Outcome {
        let core = self.clone();
        self.io.spawn(
            TaskClass::Foreground,
            async move { core.watch_clock().await },
        );
        while self.lanes.get() > 0 {
            self.done.wait().await;
        }
        self.stopping.set(true);
        self.publish();
        // A detached task may outlive this future and keep the state: hang up now, or the watcher waits for ever.
        self.progress.take();
        Outcome {
            tally: std::mem::take(&mut *self.total.borrow_mut()),
            elapsed: self.last_answer.get().since(self.measured_from.get()),
            window: Window {
                begin: self.begin.get(),
                end: Reading::now(self.watch_pid),
            },
            fatal: self.fatal.borrow_mut().take(),
        }
    }

    async fn watch_clock(self: Rc<Self>) {
        let warm = self.start.get().plus(self.bounds.warmup);
        let end = self.bounds.duration.map(|d| warm.plus(d));
        let mut warming = !self.bounds.warmup.is_zero();
        let mut last_gain = (0, self.start.get());
        let mut next_interval = self.start.get().plus(INTERVAL);
        while self.lanes.get() > 0 {
            let now = self.io.now();
            if warming && now >= warm {
                warming = false;
                self.begin_measuring(now);
            }
            if end.is_some_and(|end| now >= end) && !self.stopping.get() {
                self.stop();
            }
            if now >= next_interval {
                next_interval = next_interval.plus(INTERVAL);
                self.publish();
            }
            self.expire(now);
            if end.is_none() {
                self.give_up_if_stalled(&mut last_gain, now);
            }
            let until_end = end.map_or(CHECK, |end| end.since(now));
            self.io
                .sleep(CHECK.min(until_end.max(Duration::from_millis(1))))
                .await;
        }
    }

    /// Forgets the counts of the warm-up; connections stay connected, so they stay counted.
    fn begin_measuring(&self, now: MonotonicTime) {
        self.measured_from.set(now);
        self.begin.set(Reading::now(self.watch_pid));
        let mut total = self.total.take();
        total.merge(&self.interval.take());
        self.total.borrow_mut().connects = total.connects;
    }

    /// `last_gain` holds the count of records and when it last rose.
    fn give_up_if_stalled(&self, last_gain: &mut (u64, MonotonicTime), now: MonotonicTime) {
        let records = self.total.borrow().records + self.interval.borrow().records;
        if records != last_gain.0 {
            *last_gain = (records, now);
        } else if now.since(last_gain.1) >= self.bounds.stall && !self.stopping.get() {
            self.give_up(format!(
                "no record for {} s, after {records} on this core",
                self.bounds.stall.as_secs()
            ));
        }
    }

    fn publish(&self) {
        let interval = self.interval.take();
        self.total.borrow_mut().merge(&interval);
        if let Some(progress) = &*self.progress.borrow() {
            // A watcher that is slow or gone misses a tick; the total has it all the same.
            drop(progress.try_send(interval));
        }
    }

    fn expire(&self, now: MonotonicTime) {
        for connection in self.watched.borrow().iter().filter_map(Weak::upgrade) {
            if connection
                .deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                connection.expire();
            }
        }
    }

    fn wake_all(&self) {
        for connection in self.watched.borrow().iter().filter_map(Weak::upgrade) {
            connection.wake();
        }
    }
}

/// Ends a stream and remembers that it was for a missed deadline.
pub(crate) struct Expiry<S> {
    pub(crate) stream: S,
    pub(crate) expired: Cell<bool>,
}

impl<S: Stream> Expiry<S> {
    pub(crate) fn new(stream: S) -> Expiry<S> {
        Expiry {
            stream,
            expired: Cell::new(false),
        }
    }

    pub(crate) fn expire(&self) {
        self.expired.set(true);
        self.stream.shutdown();
    }
}

/// Under which name an error is counted.
pub(crate) fn kind(error: &ClientError) -> String {
    match error {
        ClientError::Connect { .. } => "cannot connect".to_owned(),
        ClientError::Lost(_) | ClientError::Closed => "connection lost".to_owned(),
        ClientError::Timeout(_) => "timeout".to_owned(),
        ClientError::Broker { code, .. } => client::code_name(*code),
        ClientError::UnknownCode { code, .. } => format!("error code {code}"),
        ClientError::FrameLength { .. }
        | ClientError::Correlation { .. }
        | ClientError::Malformed { .. } => "malformed response".to_owned(),
        ClientError::Unsupported { api } => format!("{api} not supported"),
        ClientError::Misuse(_) => "misuse".to_owned(),
    }
}
