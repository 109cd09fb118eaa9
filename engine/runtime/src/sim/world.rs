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
use super::node_clock::NodeClock;
use super::random::{NodeStreams, Streams};
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
    pub(crate) clock: NodeClock,
    pub(crate) random: NodeStreams,
    /// World time in nanoseconds until which the process is stopped; it runs if that has passed.
    pub(crate) paused_until: Cell<u64>,
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
        let clock = Clock::new();
        let node = |number| Node {
            power: Cell::new(Power::Up),
            incarnation: Cell::new(1),
            clock: NodeClock::new(clock.nanos()),
            random: NodeStreams::new(seed, number),
            paused_until: Cell::new(0),
            open_files: Cell::new(Rc::new(Cell::new(0))),
            disk: Disk::new(),
        };
        World {
            seed,
            random: Streams::new(seed),
            scheduler: Scheduler::new(),
            faults: Faults::default(),
            network: Network::new(),
            ended: Cell::new(false),
            nodes: (0..nodes).map(node).collect(),
            clock,
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
            _ => &self.node(node).random.disk,
        };
        let fires = self.faults.fires(fault, node, path, random);
        if fires {
            self.trace(Step::Fault, "fault", [node as u64, fault as u64, 0]);
        }
        fires
    }

    /// Stops the process of a node, or leaves it stopped for longer.
    pub(crate) fn pause(&self, node: usize, until: u64) {
        let paused_until = &self.node(node).paused_until;
        paused_until.set(paused_until.get().max(until));
        self.scheduler.pause(node);
        self.trace(Step::Pause, "pause", [node as u64, until, 0]);
        self.clock.schedule_at(until, Event::Resume { node });
    }

    /// Lets the process of a node run.
    pub(crate) fn resume(&self, node: usize) {
        self.node(node).paused_until.set(0);
        if self.scheduler.resume(node) {
            self.trace(Step::Resume, "resume", [node as u64, 0, 0]);
        }
    }

    fn resume_due(&self, node: usize) {
        // A later pause, maybe of a later life, is not over.
        if self.clock.nanos() >= self.node(node).paused_until.get() {
            self.resume(node);
        }
    }

    pub(crate) fn handle(self: &Rc<Self>, event: Event) {
        match event {
            Event::Timer { node, due, slot } => {
                let clock = &self.node(node).clock;
                if clock.monotonic(self.clock.nanos()) < due {
                    // The node's clock has become slower since.
                    let at = clock.world_time(due);
                    self.clock.schedule_at(at, Event::Timer { node, due, slot });
                    return;
                }
                self.trace(Step::Timer, "timer", [node as u64, 0, 0]);
                slot.complete(());
            }
            Event::Resume { node } => self.resume_due(node),
            Event::Disk(request) => disk::complete(self, request),
            Event::Network(event) => network::handle(self, event),
        }
    }
}
