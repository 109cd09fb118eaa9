//! What the streams of one shard have brought and its driver has not taken, each in its order.
//!
//! One shard. Every other shard has a lane, and the lanes have turns, so that none waits for another's backlog. Bounded by the
//! room of the messages; beside them a lane has two events at most for each connection that brought a message, and two more.
//!
//! Invariants, of one lane: what the driver takes is `Up`, messages of that connection in the order in which they were sent
//! and without a gap, `Down`, and so on; only an `Up` may be missing before a `Down`: nothing was heard on that connection.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;
use runtime::{Reservation, Signal};

use crate::identity::{PeerIdentity, Target};

/// Something about the stream between this shard and one of another broker.
pub enum StreamEvent {
    /// There is a connection, whoever made it. What was sent since the last `Down` goes on it.
    Up(Target, PeerIdentity),
    /// Something has come on it.
    Message(StreamMessage),
    /// There is room again for who was told [`crate::NotSent::Full`].
    Room(Target),
    /// It has ended, or could not be made. What was sent on it may have come or not; what belonged to it begins anew.
    /// Until this is taken nothing more can be sent there.
    Down(Target),
}

/// A message that has come on a stream. While it is held its memory is charged.
pub struct StreamMessage {
    /// The shard that sent it.
    pub from: Target,
    /// The broker as the handshake of the message's connection showed it. Its epoch may be another one by now.
    pub identity: PeerIdentity,
    /// Its bytes: a slice of what was read.
    pub payload: Bytes,
    pub(crate) _room: Reservation,
}

#[derive(Default)]
struct Lane {
    events: VecDeque<StreamEvent>,
    down_count: usize,
    has_room: bool,
}

pub(crate) struct StreamEvents {
    lanes: RefCell<BTreeMap<Target, Lane>>,
    /// Those that have a lane, each once.
    turns: RefCell<VecDeque<Target>>,
    wake: Rc<Signal>,
}

impl StreamEvents {
    pub(crate) fn new(wake: Rc<Signal>) -> StreamEvents {
        StreamEvents {
            lanes: RefCell::default(),
            turns: RefCell::default(),
            wake,
        }
    }

    fn change(&self, peer: Target, change: impl FnOnce(&mut Lane)) {
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.entry(peer).or_insert_with(|| {
            self.turns.borrow_mut().push_back(peer);
            Lane::default()
        });
        change(lane);
        self.wake.raise();
    }

    pub(crate) fn up(&self, peer: Target, identity: PeerIdentity) {
        let event = StreamEvent::Up(peer, identity);
        self.change(peer, |lane| lane.events.push_back(event));
    }

    pub(crate) fn message(&self, message: StreamMessage) {
        let peer = message.from;
        let event = StreamEvent::Message(message);
        self.change(peer, |lane| lane.events.push_back(event));
    }

    pub(crate) fn room(&self, peer: Target) {
        self.change(peer, |lane| lane.has_room = true);
    }

    pub(crate) fn down(&self, peer: Target) {
        self.change(peer, |lane| {
            // It has nothing to wait for on a connection that is gone.
            lane.has_room = false;
            if matches!(lane.events.back(), Some(StreamEvent::Up(..))) {
                lane.events.pop_back();
            }
            // One that is not taken yet says the same: nothing could be sent since.
            if !matches!(lane.events.back(), Some(StreamEvent::Down(_))) {
                lane.events.push_back(StreamEvent::Down(peer));
                lane.down_count += 1;
            }
        });
    }

    /// Whether the driver has not heard yet that a connection has ended.
    pub(crate) fn is_end_untold(&self, peer: Target) -> bool {
        let lanes = self.lanes.borrow();
        lanes.get(&peer).is_some_and(|lane| lane.down_count > 0)
    }

    /// Shards of which there is something to take.
    pub(crate) fn lane_count(&self) -> usize {
        self.lanes.borrow().len()
    }

    pub(crate) fn take(&self) -> Option<StreamEvent> {
        let peer = self.turns.borrow_mut().pop_front()?;
        let mut lanes = self.lanes.borrow_mut();
        let lane = lanes.get_mut(&peer).expect("who has a turn has a lane");
        let event = if std::mem::take(&mut lane.has_room) {
            StreamEvent::Room(peer)
        } else {
            lane.events.pop_front().expect("a lane has something")
        };
        if matches!(event, StreamEvent::Down(_)) {
            let left = lane.down_count.checked_sub(1);
            lane.down_count = left.expect("each is counted");
        }
        if lane.events.is_empty() {
            lanes.remove(&peer);
        } else {
            self.turns.borrow_mut().push_back(peer);
        }
        Some(event)
    }
}
