//! What the connections of one core share: counts, the clock of the run, the order to stop.
//!
//! Owned by the core; never leaves it. Invariants: counts go into the interval and from there, once a second, into the
//! total, so nothing is counted twice; once `stopping` is set it stays set; an interrupted load ends within
//! [`INTERRUPT_PATIENCE`] and [`ABANDON_PATIENCE`], whatever the broker does.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use client::ClientError;
use model::MonotonicTime;
use runtime::{Io, Signal, Stream, TaskClass};

use crate::process::{Reading, Window};
use crate::tally::Tally;
use crate::waiting::{Gate, Turns};

/// How often deadlines and the end of the run are looked at.
const CHECK: Duration = Duration::from_millis(50);
/// Shortest wait between two looks.
const CHECK_MIN: Duration = Duration::from_millis(1);
/// How often counts are told to whoever watches.
const INTERVAL: Duration = Duration::from_secs(1);
/// Lanes of a core that connect at the same time: more would overflow the broker's queue of new connections.
const CONNECTING_MAX: usize = 64;
/// How long the first request waits for all lanes to be connected.
const GATE_MAX: Duration = Duration::from_secs(60);
/// How long an interrupted load waits for answers to what it has sent.
const INTERRUPT_PATIENCE: Duration = Duration::from_millis(400);
/// How long it waits, after that, for lanes to end: what is left then is connecting and has sent nothing.
const ABANDON_PATIENCE: Duration = Duration::from_millis(200);

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
    /// Gets a tick a second.
    pub progress: Option<SyncSender<Tick>>,
    /// A process to read beside this one.
    pub watch_pid: Option<u32>,
    /// Ends the load when it is set, by a signal for example; what there is by then is the result.
    pub stop: Option<Arc<AtomicBool>>,
}

/// What one core counted in one second.
#[derive(Debug)]
pub struct Tick {
    /// Number of the second since sending began, from 0; seconds before that have number 0 too.
    pub second: u64,
    /// How long the second was: the last one may be shorter.
    pub length: Duration,
    /// Whether it belongs to the warm-up, or to the time before sending began.
    pub warming: bool,
    /// Whether it ends with its second; a second may be told in parts.
    pub is_whole: bool,
    /// The counts.
    pub tally: Tally,
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

/// Where an interrupted load stands on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interruption {
    None,
    /// Since then, nothing new is sent and answers are awaited.
    Answering(MonotonicTime),
    /// Since then, connections that still wait are ended.
    Ending(MonotonicTime),
}

/// A connection's face to the core's watch task.
pub(crate) trait Watched {
    /// When the oldest unanswered request is overdue.
    fn deadline(&self) -> Option<MonotonicTime>;
    /// Ends the connection because of that.
    fn expire(&self);
    /// Lets the connection look at the clock.
    fn wake(&self);
    /// The load is interrupted: whatever need not be waited for is given up.
    fn interrupt(&self);
}

/// Told when sending begins.
type BegunHook = Box<dyn FnOnce(MonotonicTime)>;

/// See the module.
pub(crate) struct CoreState<I: Io> {
    pub(crate) io: I,
    pub(crate) interval: RefCell<Tally>,
    total: RefCell<Tally>,
    progress: RefCell<Option<SyncSender<Tick>>>,
    watch_pid: Option<u32>,
    stop_asked: Option<Arc<AtomicBool>>,
    interruption: Cell<Interruption>,
    start: Cell<MonotonicTime>,
    measured_from: Cell<MonotonicTime>,
    /// Counters of the processes at `measured_from`.
    begin: Cell<Reading>,
    bounds: Bounds,
    stopping: Cell<bool>,
    fatal: RefCell<Option<String>>,
    lanes: Cell<u64>,
    /// Lanes that have not tried to connect yet.
    arriving: Cell<u64>,
    /// Opens when every lane has: only then do lanes send.
    pub(crate) gate: Gate,
    begun: RefCell<Option<BegunHook>>,
    /// Lanes take one to connect.
    pub(crate) connecting: Turns,
    /// When the second that is being counted began, and its number.
    second: Cell<(MonotonicTime, u64)>,
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
            stop_asked: observer.stop,
            interruption: Cell::new(Interruption::None),
            start: Cell::new(now),
            measured_from: Cell::new(now),
            begin: Cell::new(Reading::now(observer.watch_pid)),
            bounds,
            stopping: Cell::new(false),
            fatal: RefCell::default(),
            lanes: Cell::new(lanes),
            arriving: Cell::new(lanes),
            gate: Gate::default(),
            begun: RefCell::default(),
            connecting: Turns::new(CONNECTING_MAX),
            second: Cell::new((now, 0)),
            done: Signal::new(),
            watched: RefCell::default(),
            last_answer: Cell::new(now),
        })
    }

    /// A lane is connected, or has failed to be, for the first time.
    pub(crate) fn arrived(&self) {
        self.arriving.set(self.arriving.get().saturating_sub(1));
        if self.arriving.get() == 0 {
            self.open_gate();
        }
    }

    /// Calls `begun` with the time from which on answers count, when the load begins.
    pub(crate) fn when_begun(&self, begun: impl FnOnce(MonotonicTime) + 'static) {
        *self.begun.borrow_mut() = Some(Box::new(begun));
    }

    /// The load begins.
    fn open_gate(&self) {
        if !self.gate.is_open() {
            let now = self.io.now();
            self.start.set(now);
            self.last_answer.set(now);
            self.measured_from.set(now);
            self.begin.set(Reading::now(self.watch_pid));
            self.publish(now, false);
            self.second.set((now, 0));
            self.gate.open();
            if let Some(begun) = self.begun.take() {
                begun(self.measured_from());
            }
        }
    }

    /// From when on answers count.
    pub(crate) fn measured_from(&self) -> MonotonicTime {
        self.start.get().plus(self.bounds.warmup)
    }

    /// When sending began.
    pub(crate) fn start(&self) -> MonotonicTime {
        self.start.get()
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.interruption.get() != Interruption::None
    }

    /// Ends the run because going on makes no sense.
    pub(crate) fn give_up(&self, reason: String) {
        self.fatal.borrow_mut().get_or_insert(reason);
        self.stop();
    }

    pub(crate) fn stop(&self) {
        self.stopping.set(true);
        self.open_gate();
        self.wake_all();
    }

    pub(crate) fn watch(&self, connection: Weak<dyn Watched>) {
        let mut watched = self.watched.borrow_mut();
        if watched.len() == watched.capacity() {
            watched.retain(|w| w.strong_count() > 0);
        }
        watched.push(connection);
    }

    pub(crate) fn answered_at(&self, now: MonotonicTime) {
        self.last_answer.set(now);
    }

    /// Records counted since the warm-up.
    pub(crate) fn records(&self) -> u64 {
        self.total.borrow().records + self.interval.borrow().records
    }

    /// Whether nothing has succeeded so far: then a refusal that retrying cannot cure ends the run.
    pub(crate) fn nothing_yet(&self) -> bool {
        self.total.borrow().requests == 0 && self.interval.borrow().requests == 0
    }

    pub(crate) fn failed(&self, error: &ClientError, count: u64) {
        self.interval.borrow_mut().failed(&kind(error), count);
    }

    /// One more lane that has not tried to connect yet.
    pub(crate) fn add_lane(&self) {
        self.lanes.set(self.lanes.get() + 1);
        self.arriving.set(self.arriving.get() + 1);
    }

    pub(crate) fn lane_done(&self) {
        // A lane that an interrupted load has given up may still come to its end.
        let left = self.lanes.get().saturating_sub(1);
        self.lanes.set(left);
        if left == 0 {
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
        self.publish(self.io.now(), false);
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
        let gate_end = self.start.get().plus(GATE_MAX);
        while self.lanes.get() > 0 && !self.gate.is_open() {
            let now = self.io.now();
            if now >= gate_end {
                self.open_gate();
            }
            self.tick(now);
            self.follow_interruption(now);
            self.io.sleep(CHECK).await;
        }
        let warm = self.start.get().plus(self.bounds.warmup);
        let end = self.bounds.duration.map(|d| warm.plus(d));
        let mut warming = !self.bounds.warmup.is_zero();
        let mut last_gain = (0, self.start.get());
        while self.lanes.get() > 0 {
            let now = self.io.now();
            if warming && now >= warm {
                warming = false;
                self.publish(now, false);
                self.begin_measuring(now);
            }
            if end.is_some_and(|end| now >= end) && !self.stopping.get() {
                self.stop();
            }
            self.tick(now);
            self.follow_interruption(now);
            self.expire(now);
            if end.is_none() {
                self.give_up_if_stalled(&mut last_gain, now);
            }
            let until_end = end.map_or(CHECK, |end| end.since(now));
            let until_warm = if warming { warm.since(now) } else { CHECK };
            self.io
                .sleep(CHECK.min(until_end).min(until_warm).max(CHECK_MIN))
                .await;
        }
    }

    /// Tells what was counted when a second is over.
    fn tick(&self, now: MonotonicTime) {
        let (began, number) = self.second.get();
        if now >= began.plus(INTERVAL) {
            self.publish(now, true);
            self.second.set((began.plus(INTERVAL), number + 1));
        }
    }

    /// Forgets the counts of the warm-up but its errors; connections stay connected, so they stay counted.
    fn begin_measuring(&self, now: MonotonicTime) {
        self.measured_from.set(now);
        self.begin.set(Reading::now(self.watch_pid));
        let warm = self.total.take();
        let mut total = self.total.borrow_mut();
        total.connects = warm.connects;
        total.rebalances = warm.rebalances;
        total.warmup_errors = warm.errors;
    }

    /// `last_gain` holds the count of records and when it last rose.
    fn give_up_if_stalled(&self, last_gain: &mut (u64, MonotonicTime), now: MonotonicTime) {
        let records = self.records();
        if records != last_gain.0 {
            *last_gain = (records, now);
        } else if now.since(last_gain.1) >= self.bounds.stall && !self.stopping.get() {
            self.give_up(format!(
                "no record for {} s, after {records} on this core",
                self.bounds.stall.as_secs()
            ));
        }
    }

    fn publish(&self, now: MonotonicTime, is_whole: bool) {
        let interval = self.interval.take();
        self.total.borrow_mut().merge(&interval);
        if let Some(progress) = &*self.progress.borrow() {
            let (began, second) = self.second.get();
            let tick = Tick {
                second,
                length: now.since(began),
                is_whole,
                warming: !self.gate.is_open() || began < self.measured_from(),
                tally: interval,
            };
            // A watcher that is slow or gone misses a tick; the total has it all the same.
            drop(progress.try_send(tick));
        }
    }

    fn expire(&self, now: MonotonicTime) {
        for connection in self.watched() {
            if connection
                .deadline()
                .is_some_and(|deadline| deadline <= now)
            {
                connection.expire();
            }
        }
    }

    fn wake_all(&self) {
        for connection in self.watched() {
            connection.wake();
        }
    }

    /// Brings the load to its end if it is to be interrupted: at first in order, then in any case.
    fn follow_interruption(&self, now: MonotonicTime) {
        let asked = |stop: &Arc<AtomicBool>| stop.load(Ordering::Relaxed);
        match self.interruption.get() {
            Interruption::None if self.stop_asked.as_ref().is_some_and(asked) => {
                self.interruption.set(Interruption::Answering(now));
                self.stop();
                for connection in self.watched() {
                    connection.interrupt();
                }
            }
            Interruption::Answering(since) if now.since(since) >= INTERRUPT_PATIENCE => {
                self.interruption.set(Interruption::Ending(now));
                for connection in self.watched() {
                    connection.expire();
                }
            }
            Interruption::Ending(since) if now.since(since) >= ABANDON_PATIENCE => {
                self.lanes.set(0);
                self.done.raise();
            }
            Interruption::None | Interruption::Answering(_) | Interruption::Ending(_) => {}
        }
    }

    /// The connections that live. A copy: what they do may add to the list.
    fn watched(&self) -> Vec<Rc<dyn Watched>> {
        let watched = self.watched.borrow();
        watched.iter().filter_map(Weak::upgrade).collect()
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
        ClientError::Misuse(_) | ClientError::Refused { .. } => "misuse".to_owned(),
    }
}
