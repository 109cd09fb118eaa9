//! The table of a network's connections, and the one task that looks at their times.
//!
//! One shard. A connection is in the table from before its handshake until its reader has ended. Invariant: of accepted
//! connections at most `accepted_max` have shown who they are, and at most `greeting_max` have not.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use model::MonotonicTime;
use runtime::Io;

use crate::connection::{Connection, End, Side};
use crate::purpose::Purpose;
use crate::settings::{PlantedFault, Settings};

/// Names a connection in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(u64);

/// The connections of one network.
pub(crate) struct Table<I: Io> {
    connections: RefCell<BTreeMap<Place, Rc<Connection<I>>>>,
    next: Cell<u64>,
}

impl<I: Io> Table<I> {
    pub(crate) fn new() -> Table<I> {
        Table {
            connections: RefCell::default(),
            next: Cell::new(0),
        }
    }

    pub(crate) fn add(&self, connection: Rc<Connection<I>>) -> Place {
        let place = Place(self.next.get());
        self.next.set(place.0 + 1);
        self.connections.borrow_mut().insert(place, connection);
        place
    }

    pub(crate) fn remove(&self, place: Place) {
        let gone = self.connections.borrow_mut().remove(&place);
        assert!(gone.is_some(), "a connection ends once");
    }

    /// The present ones; closing one does not change the table at once.
    pub(crate) fn all(&self) -> Vec<Rc<Connection<I>>> {
        self.connections.borrow().values().cloned().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// Accepted connections: all, and those whose handshake is not done.
    pub(crate) fn accepted(&self) -> (usize, usize) {
        let connections = self.connections.borrow();
        let accepted = connections.values().filter(|c| c.side == Side::Accepted);
        accepted.fold((0, 0), |(all, greeting), connection| {
            let is_greeting = connection.remote().is_none();
            (all + 1, greeting + usize::from(is_greeting))
        })
    }

    /// Ends what the same shard of the same broker had for the same purpose: that it connects anew says that it knows no
    /// other.
    pub(crate) fn supersede(&self, newcomer: &Rc<Connection<I>>) {
        let of = |connection: &Connection<I>| {
            let remote = connection.remote()?;
            Some((remote.identity.node(), remote.shard, remote.purpose))
        };
        for other in self.all() {
            let is_older = other.side == Side::Accepted && !Rc::ptr_eq(&other, newcomer);
            if is_older && of(&other) == of(newcomer) {
                other.close(End::Superseded);
            }
        }
    }

    /// Ends what takes too long, and pings what is due.
    pub(crate) fn look(&self, now: MonotonicTime, settings: &Settings) {
        for connection in self.all() {
            if connection.remote().is_none() {
                if now.since(connection.began_at) >= settings.greeting_timeout {
                    connection.close(End::Slow);
                }
                continue;
            }
            if let Some(reason) = overdue(&connection, now, settings) {
                connection.close(reason);
            } else if now.since(connection.pinged_at.get()) >= settings.ping_interval {
                connection.ping(now);
            }
        }
    }
}

fn overdue<I: Io>(
    connection: &Connection<I>,
    now: MonotonicTime,
    settings: &Settings,
) -> Option<End> {
    let silence = now.since(connection.heard_at.get());
    if !connection.waits_for_room.get()
        && silence >= settings.silence_max
        && !settings.is_planted(PlantedFault::SilenceUnnoticed)
    {
        return Some(End::Silent(silence));
    }
    let stall = connection.write_began_at.get();
    if stall.is_some_and(|since| now.since(since) >= settings.stall_max) {
        return Some(End::Stalled);
    }
    // What a stream stands for is its driver's to know.
    let may_idle = connection.side == Side::Dialled
        && connection
            .remote()
            .is_none_or(|remote| remote.purpose != Purpose::Stream);
    let is_idle = may_idle
        && connection.outbox.is_empty()
        && now.since(connection.used_at.get()) >= settings.idle_max;
    is_idle.then_some(End::Idle)
}
