//! Counts things in progress, so that shutdown can wait for the last of them.
//!
//! One shard. Invariant: after [`Gate::close`] has begun nobody enters; it returns when everybody has left.

use std::cell::Cell;
use std::rc::Rc;

use crate::signal::Signal;

/// The gate of one kind of work (connections, appends).
#[derive(Default)]
pub struct Gate {
    inside: Cell<usize>,
    is_closed: Cell<bool>,
    empty: Signal,
}

/// The right to be inside. Dropping it leaves.
pub struct Pass {
    gate: Rc<Gate>,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Rc<Gate> {
        Rc::new(Gate::default())
    }

    /// Enters, unless the gate is closed.
    pub fn enter(self: &Rc<Self>) -> Option<Pass> {
        if self.is_closed.get() {
            return None;
        }
        self.inside.set(self.inside.get() + 1);
        Some(Pass {
            gate: Rc::clone(self),
        })
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside.get()
    }

    /// Whether nobody may enter any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Refuses newcomers, and waits until nobody is inside. Called by one task only.
    pub async fn close(&self) {
        self.is_closed.set(true);
        while self.inside.get() > 0 {
            self.empty.wait().await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let inside = self.gate.inside.get() - 1;
        self.gate.inside.set(inside);
        if inside == 0 {
            self.gate.empty.raise();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Gate;
    use crate::io::Io;
    use crate::sim::Simulation;

    #[test]
    fn close_waits_for_the_last_to_leave() {
        let simulation = Simulation::new(3, 1, 1);
        let io = simulation.io(0, 0);
        let gate = Gate::new();
        for millis in [5, 20, 10] {
            let pass = gate.enter().unwrap();
            let io = io.clone();
            simulation.spawn(0, 0, async move {
                io.sleep(Duration::from_millis(millis)).await;
                drop(pass);
            });
        }
        let start = simulation.now();
        simulation.block_on(0, async {
            gate.close().await;
            assert_eq!(gate.inside(), 0);
            assert!(io.now().since(start) >= Duration::from_millis(20));
        });
        assert!(gate.enter().is_none());
        assert!(gate.is_closed());
    }

    #[test]
    fn an_empty_gate_closes_at_once() {
        let simulation = Simulation::new(3, 1, 1);
        let gate = Gate::new();
        drop(gate.enter());
        simulation.block_on(0, gate.close());
    }
}
