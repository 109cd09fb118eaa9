//! Connections between two shards of one node: taken off one, and not yet put onto another.
//!
//! What travels must be `Send`, so it is a number and a token; the connection waits with the network. Invariant: a connection
//! whose number was dropped is ended before the next step of the simulation, as a kernel ends one whose descriptor was
//! closed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::network::{self, Link};
use super::trace::Step;
use super::world::World;

/// A connection of a simulated node that no shard has.
pub struct SimDetached {
    pub(crate) node: usize,
    pub(crate) incarnation: u64,
    number: u64,
    /// Held for its count alone: the network's is the only one left when this value is gone.
    _token: Arc<()>,
}

struct Waiting {
    link: Link,
    side: usize,
    node: usize,
    incarnation: u64,
    token: Arc<()>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Detachments {
    waiting: RefCell<BTreeMap<u64, Waiting>>,
    next: Cell<u64>,
}

/// Takes the end of a connection that a life of a node has.
pub(crate) fn detach(
    world: &World,
    node: usize,
    incarnation: u64,
    link: &Link,
    side: usize,
) -> SimDetached {
    let all = &world.network.detachments;
    let number = all.next.get();
    all.next.set(number + 1);
    let token = Arc::new(());
    let id = link.borrow().id;
    world.trace(Step::HandOver, "detach", [id, side as u64, number]);
    let waiting = Waiting {
        link: link.clone(),
        side,
        node,
        incarnation,
        token: token.clone(),
    };
    all.waiting.borrow_mut().insert(number, waiting);
    SimDetached {
        node,
        incarnation,
        number,
        _token: token,
    }
}

/// Gives back what was taken.
pub(crate) fn attach(world: &World, detached: &SimDetached) -> (Link, usize) {
    let all = &world.network.detachments;
    let waiting = all.waiting.borrow_mut().remove(&detached.number);
    let waiting = waiting.expect("a connection waits as long as its number is there");
    let id = waiting.link.borrow().id;
    let detail = [id, waiting.side as u64, detached.number];
    world.trace(Step::HandOver, "attach", detail);
    (waiting.link, waiting.side)
}

/// Ends those that nobody has any more.
pub(crate) fn end_dropped(world: &World) {
    let all = &world.network.detachments;
    if all.waiting.borrow().is_empty() {
        return;
    }
    let is_dropped = |_: &u64, waiting: &mut Waiting| Arc::strong_count(&waiting.token) == 1;
    let dropped: Vec<(u64, Waiting)> = all
        .waiting
        .borrow_mut()
        .extract_if(.., is_dropped)
        .collect();
    for (_, waiting) in dropped {
        // Otherwise the end of its node has ended it.
        if world.is_alive(waiting.node, waiting.incarnation) {
            network::shut(world, &waiting.link, waiting.side);
        }
    }
}
