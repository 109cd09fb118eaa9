//! Long polls: a reader that waits until one of its partitions has more to read.
//!
//! A watch lives on the shard of the partitions it watches and fires once. It is dropped when its reader gives up,
//! which watchers of a partition notice lazily.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use model::{MonotonicTime, Offset};
use runtime::Signal;

use crate::message::ReplyTo;
use crate::peer::Peers;
use crate::request::{Isolation, Watch};

/// One long poll, as its reader holds it. Dropping it ends the watch.
pub struct WatchState {
    ready: RefCell<Vec<u32>>,
    signal: Rc<Signal>,
    fired: Cell<bool>,
    /// Where its name goes when it fires, if somebody looks for those that did.
    announce: Option<(WatchName, Rc<RefCell<Vec<WatchName>>>)>,
}

/// Deadline and number of another shard's watch.
type WatchName = (MonotonicTime, u64);

impl WatchState {
    /// `signal` is raised when the first partition has more to read.
    pub fn new(signal: Rc<Signal>) -> Rc<WatchState> {
        Rc::new(WatchState {
            ready: RefCell::default(),
            signal,
            fired: Cell::new(false),
            announce: None,
        })
    }

    fn fire(&self, index: u32) {
        self.ready.borrow_mut().push(index);
        if self.fired.replace(true) {
            return;
        }
        if let Some((name, fired)) = &self.announce {
            fired.borrow_mut().push(*name);
        }
        self.signal.raise();
    }

    /// Whether a partition has more to read.
    pub fn has_fired(&self) -> bool {
        self.fired.get()
    }

    /// Indices of the partitions that have more to read.
    pub fn take(&self) -> Vec<u32> {
        self.ready.take()
    }
}

/// A watch, as one partition holds it.
pub struct Watcher {
    /// What the reader may see.
    pub isolation: Isolation,
    /// How far it has seen.
    pub seen: Offset,
    index: u32,
    state: Weak<WatchState>,
}

impl Watcher {
    /// Watches the partition at `index` of the reader's list.
    pub fn new(state: &Rc<WatchState>, index: u32, isolation: Isolation, seen: Offset) -> Watcher {
        Watcher {
            isolation,
            seen,
            index,
            state: Rc::downgrade(state),
        }
    }

    /// Whether the reader still waits.
    pub fn is_alive(&self) -> bool {
        self.state.strong_count() > 0
    }

    pub fn tell(&self) {
        if let Some(state) = self.state.upgrade() {
            state.fire(self.index);
        }
    }
}

/// Watches that other shards asked for. Each is answered once: when it fires or when its time is over.
#[derive(Default)]
pub struct RemoteWatches {
    watches: RefCell<BTreeMap<WatchName, RemoteWatch>>,
    number_next: Cell<u64>,
    /// Names of those that fired since the last answers.
    fired: Rc<RefCell<Vec<WatchName>>>,
    signal: Rc<Signal>,
}

struct RemoteWatch {
    state: Rc<WatchState>,
    reply: ReplyTo<Watch>,
}

impl RemoteWatches {
    /// Adds a watch that is answered by [`RemoteWatches::answer_due`] or at `deadline`.
    pub fn add(&self, deadline: MonotonicTime, reply: ReplyTo<Watch>) -> Rc<WatchState> {
        let name = (deadline, self.number_next.get());
        self.number_next.set(name.1 + 1);
        let state = Rc::new(WatchState {
            ready: RefCell::default(),
            signal: self.signal.clone(),
            fired: Cell::new(false),
            announce: Some((name, self.fired.clone())),
        });
        let watch = RemoteWatch {
            state: state.clone(),
            reply,
        };
        self.watches.borrow_mut().insert(name, watch);
        state
    }

    /// Raised when some watch has fired.
    pub fn signal(&self) -> &Rc<Signal> {
        &self.signal
    }

    /// Answers the watches that have fired, and those whose time is over.
    pub fn answer_due(&self, now: MonotonicTime, peers: &Peers) {
        let mut watches = self.watches.borrow_mut();
        let mut due = self.fired.take();
        let over = watches.range(..=(now, u64::MAX));
        // One that has fired and is over is named twice.
        due.extend(over.map(|(name, _)| *name));
        for name in due {
            let Some(watch) = watches.remove(&name) else {
                continue;
            };
            let mut ready = watch.state.take();
            ready.sort_unstable();
            ready.dedup();
            peers.answer(watch.reply, ready);
        }
    }
}
