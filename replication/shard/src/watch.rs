//! Long polls: a reader that waits until one of its partitions has more to read.
//!
//! A watch lives on the shard of the partitions it watches and fires once. It is dropped when its reader gives up,
//! which watchers of a partition notice lazily.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};

use model::{MonotonicTime, Offset};
use runtime::Signal;

use crate::message::ShardReply;
use crate::peer::Peers;
use crate::reply::ReplyTo;
use crate::request::Isolation;

/// One long poll, as its reader holds it. Dropping it ends the watch.
pub struct WatchState {
    ready: RefCell<Vec<u32>>,
    signal: Rc<Signal>,
    fired: Cell<bool>,
}

impl WatchState {
    /// `signal` is raised when the first partition has more to read.
    pub fn new(signal: Rc<Signal>) -> Rc<WatchState> {
        Rc::new(WatchState {
            ready: RefCell::default(),
            signal,
            fired: Cell::new(false),
        })
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

    /// Tells the reader.
    pub fn tell(&self) {
        if let Some(state) = self.state.upgrade() {
            state.ready.borrow_mut().push(self.index);
            state.fired.set(true);
            state.signal.raise();
        }
    }
}

/// Watches that other shards asked for. Each is answered once: when it fires or when its time is over.
#[derive(Default)]
pub struct RemoteWatches {
    watches: RefCell<BTreeMap<(MonotonicTime, u64), RemoteWatch>>,
    number_next: Cell<u64>,
    fired: Rc<Signal>,
}

struct RemoteWatch {
    state: Rc<WatchState>,
    reply: ReplyTo,
}

impl RemoteWatches {
    /// Adds a watch that is answered by [`RemoteWatches::answer_due`] or at `deadline`.
    pub fn add(&self, deadline: MonotonicTime, reply: ReplyTo) -> Rc<WatchState> {
        let state = WatchState::new(self.fired.clone());
        let number = self.number_next.get();
        self.number_next.set(number + 1);
        let watch = RemoteWatch {
            state: state.clone(),
            reply,
        };
        self.watches.borrow_mut().insert((deadline, number), watch);
        state
    }

    /// Raised when some watch has fired.
    pub fn signal(&self) -> &Rc<Signal> {
        &self.fired
    }

    /// Answers the watches that have fired, and those whose time is over.
    pub fn answer_due(&self, now: MonotonicTime, peers: &Peers) {
        let mut watches = self.watches.borrow_mut();
        let due: Vec<_> = watches
            .iter()
            .filter(|(key, watch)| key.0 <= now || watch.state.has_fired())
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let watch = watches.remove(&key).expect("just seen");
            let mut ready = watch.state.take();
            ready.sort_unstable();
            ready.dedup();
            peers.answer(watch.reply, ShardReply::Watch(ready));
        }
    }
}
