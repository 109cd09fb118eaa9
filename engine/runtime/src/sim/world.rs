//! What all nodes of a simulation share, and the dispatch of events.
//!
//! Owned by [`super::Simulation`] and, through `Rc`, by every handle that tasks hold. Nothing here is borrowed while
//! a task is polled or dropped.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use super::clock::{Clock, Event};
use super::disk::{self, Disk};
use super::faults::{Fault, Faults};
use super::network::{self, Network};
use super::random::Streams;
use super::scheduler::Scheduler;
use super::trace::{Step, Trace};

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    Up,
    /// The process is gone; the kernel answers for it.
    Killed,
    /// The machine is gone: nothing answers.
    Off,
}

/// One node.
pub(crate) struct Node {
    pub(crate) power: Cell<Power>,
    /// Counts lives: handles of an earlier one do nothing.
    pub(crate) incarnation: Cell<u64>,
    pub(crate) wall_offset_ms: Cell<i64>,
    pub(crate) open_files: Cell<Rc<Cell<usize>>>,
    pub(crate) disk: Disk,
}

/// The whole simulated world.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) random: Streams,
    pub(crate) clock: Clock,
    pub(crate) scheduler: Scheduler,
    pub(crate) faults: Faults,
    pub(crate) network: Network,
    pub(crate) ended: Cell<bool>,
    nodes: Vec<Node>,
    trace: Trace,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize) -> World {
        let node = || Node {
            power: Cell::new(Power::Up),
            incarnation: Cell::new(1),
            wall_offset_ms: Cell::new(0),
            open_files: Cell::new(Rc::new(Cell::new(0))),
            disk: Disk::new(),
        };
        World {
            seed,
            random: Streams::new(seed),
            clock: Clock::new(),
            scheduler: Scheduler::new(),
            faults: Faults::default(),
            network: Network::new(),
            ended: Cell::new(false),
            nodes: (0..nodes).map(|_| node()).collect(),
            trace: Trace::new(seed),
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        match self.nodes.get(node) {
            Some(node) => node,
            None => panic!("there is no node {node}, only {}", self.nodes.len()),
        }
    }

    /// Whether that life of that node goes on.
    pub(crate) fn is_alive(&self, node: usize, incarnation: u64) -> bool {
        let state = self.node(node);
        state.power.get() == Power::Up && state.incarnation.get() == incarnation
    }

    /// The counter of open files of a node's present life.
    pub(crate) fn open_files(&self, node: usize) -> Rc<Cell<usize>> {
        let cell = &self.node(node).open_files;
        let count = cell.take();
        cell.set(Rc::clone(&count));
        count
    }

    pub(crate) fn trace(&self, step: Step, label: &'static str, detail: [u64; 3]) {
        self.trace.record(self.clock.nanos(), step, label, detail);
    }

    pub(crate) fn trace_log(&self) -> &Trace {
        &self.trace
    }

    /// Whether a fault happens to an operation of a node.
    pub(crate) fn fault(&self, fault: Fault, node: usize, path: Option<&Path>) -> bool {
        let random = match fault {
            Fault::ConnectionReset => &self.random.network,
            _ => &self.random.disk,
        };
        let fires = self.faults.fires(fault, node, path, random);
        if fires {
            self.trace(Step::Fault, "fault", [node as u64, fault as u64, 0]);
        }
        fires
    }

    pub(crate) fn handle(self: &Rc<Self>, event: Event) {
        match event {
            Event::Timer { node, slot } => {
                self.trace(Step::Timer, "timer", [node as u64, 0, 0]);
                slot.complete(());
            }
            Event::Disk(request) => disk::complete(self, request),
            Event::Network(event) => network::handle(self, event),
        }
    }
}
