//! Virtual time: one clock for the whole simulation and the events that wait for it.
//!
//! Invariants: time never goes back; events of one instant happen in the order they were scheduled in.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use model::MonotonicTime;

use super::completion::Slot;
use super::disk::DiskRequest;
use super::network::NetworkEvent;

/// Where virtual time starts: not zero, so that code which treats zero as "never" is found out.
const START_NANOS: u64 = 1_000_000_000;

/// Wall-clock time at the start of the simulation, in milliseconds (2026-01-01 00:00 UTC).
pub(crate) const START_WALL_MS: i64 = 1_767_225_600_000;

/// Something that happens at a time.
pub(crate) enum Event {
    /// A sleep of a task of `node` ends, if the node's own clock shows `due` by then.
    Timer {
        node: usize,
        due: u64,
        slot: Rc<Slot<()>>,
    },
    /// A pause of a node ends, unless it was made longer.
    Resume { node: usize },
    /// A disk operation completes.
    Disk(DiskRequest),
    /// Something arrives over the network.
    Network(NetworkEvent),
}

/// The clock.
pub(crate) struct Clock {
    now: Cell<u64>,
    sequence: Cell<u64>,
    events: RefCell<BTreeMap<(u64, u64), Event>>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            now: Cell::new(START_NANOS),
            sequence: Cell::new(0),
            events: RefCell::new(BTreeMap::new()),
        }
    }

    pub(crate) fn now(&self) -> MonotonicTime {
        MonotonicTime(self.now.get())
    }

    pub(crate) fn nanos(&self) -> u64 {
        self.now.get()
    }

    /// Milliseconds of wall-clock time, before a node's own offset.
    pub(crate) fn wall_ms(&self) -> i64 {
        START_WALL_MS.saturating_add_unsigned((self.now.get() - START_NANOS) / 1_000_000)
    }

    /// Moves time to `time`, if that is later.
    pub(crate) fn advance_to(&self, time: u64) {
        self.now.set(self.now.get().max(time));
    }

    pub(crate) fn schedule_at(&self, time: u64, event: Event) {
        let sequence = self.sequence.get();
        self.sequence.set(sequence + 1);
        self.events.borrow_mut().insert((time, sequence), event);
    }

    pub(crate) fn schedule_in(&self, nanos: u64, event: Event) {
        self.schedule_at(self.now.get().saturating_add(nanos), event);
    }

    /// When the next event is due.
    pub(crate) fn next_due(&self) -> Option<u64> {
        let events = self.events.borrow();
        events.first_key_value().map(|(key, _)| key.0)
    }

    /// Takes the next event if its time has come.
    pub(crate) fn pop_due(&self) -> Option<Event> {
        let mut events = self.events.borrow_mut();
        let entry = events.first_entry()?;
        (entry.key().0 <= self.now.get()).then(|| entry.remove())
    }

    /// Removes the timers and disk operations of a node that stops, and returns the disk operations in order of
    /// completion.
    pub(crate) fn extract_node(&self, node: usize) -> Vec<DiskRequest> {
        let mut events = self.events.borrow_mut();
        let mut requests = Vec::new();
        for (key, event) in std::mem::take(&mut *events) {
            match event {
                Event::Timer { node: owner, .. } if owner == node => {}
                Event::Disk(request) if request.node == node => requests.push(request),
                other => {
                    events.insert(key, other);
                }
            }
        }
        requests
    }

    /// Takes everything out, for the end of the simulation. The caller drops it when it holds no borrow.
    pub(crate) fn take_all(&self) -> Vec<Event> {
        let events = std::mem::take(&mut *self.events.borrow_mut());
        events.into_values().collect()
    }
}
