//! What a harness does to the machines: crashes, disks, links, clocks.
//!
//! The second half of [`Simulation`]'s face. Nothing here decides anything: each method hands on to the part that owns
//! what it changes, and leaves a step in the trace.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::io::SimIo;
use super::trace::Step;
use super::world::Power;
use super::{Simulation, disk, network};

impl Simulation {
    /// Ends the process of a node as `kill -9` does: its tasks and timers are gone, its connections are reset,
    /// completed writes stay, writes in flight happen or not.
    pub fn kill(&self, node: usize) {
        self.stop(node, Power::Killed);
    }

    /// Cuts the power of a node: as [`Simulation::kill`], and its disk keeps only what was flushed and a random part
    /// of the rest, torn at sectors. Peers hear nothing.
    pub fn power_cut(&self, node: usize) {
        self.stop(node, Power::Off);
    }

    /// Starts a stopped node over the disk it has, and gives its shards.
    pub fn restart(&self, node: usize) -> Vec<SimIo> {
        let state = self.world.node(node);
        assert!(
            state.power.get() != Power::Up,
            "node {node} runs already (seed {})",
            self.seed()
        );
        state.power.set(Power::Up);
        self.world
            .trace(Step::Restart, "restart", [node as u64, 0, 0]);
        network::resume(&self.world);
        self.ios(node)
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.world.node(node).power.get() == Power::Up
    }

    fn stop(&self, node: usize, power: Power) {
        let world = &self.world;
        let state = world.node(node);
        let is_cut = power == Power::Off;
        let step = if is_cut { Step::PowerCut } else { Step::Stop };
        world.trace(step, "stop", [node as u64, 0, 0]);
        if state.power.get() == Power::Up {
            state.incarnation.set(state.incarnation.get() + 1);
        }
        state.power.set(power);
        state.open_files.take();
        let in_flight = world.clock.extract_node(node);
        let tasks = world.scheduler.extract_node(node);
        network::node_stopped(world, node, power);
        drop(tasks);
        if is_cut {
            disk::power_cut(world, node, in_flight);
        } else {
            disk::kill(world, node, in_flight);
        }
    }

    /// Gives a stopped node an empty disk.
    pub fn wipe(&self, node: usize) {
        assert!(!self.is_up(node), "node {node} runs: stop it first");
        let disk = &self.world.node(node).disk;
        *disk.tree.borrow_mut() = Rc::default();
    }

    /// Bounds the bytes of a node's files; more is ENOSPC.
    pub fn set_disk_capacity(&self, node: usize, bytes: u64) {
        self.world.node(node).disk.capacity_bytes.set(bytes);
    }

    /// What was asked of a node's disk so far.
    pub fn disk_counters(&self, node: usize) -> DiskCounters {
        self.world.node(node).disk.counters.get()
    }

    /// Files that the node's present life holds open.
    pub fn open_files(&self, node: usize) -> usize {
        self.world.open_files(node).get()
    }

    /// Lets operations that a [`Fault::Hang`] holds go on.
    pub fn release_hung(&self, node: usize) {
        disk::release_hung(&self.world, node);
    }

    /// The paths of a node's files, sorted.
    pub fn files(&self, node: usize) -> Vec<PathBuf> {
        let files = self.world.node(node).disk.tree().files();
        files.into_iter().map(|(path, _)| path).collect()
    }

    /// What a reader of a node's file would see; `None` if there is no such file.
    pub fn file_bytes(&self, node: usize, path: &Path) -> Option<Bytes> {
        let inode = self.world.node(node).disk.tree().file(path).ok()?;
        let content = inode.content.borrow();
        let len = usize::try_from(content.length()).unwrap_or(usize::MAX);
        Some(content.read(0, len))
    }

    /// The bytes of a node's file that a power cut keeps for sure.
    pub fn durable_bytes(&self, node: usize, path: &Path) -> Option<Bytes> {
        let inode = self.world.node(node).disk.tree().file(path).ok()?;
        let content = inode.content.borrow();
        Some(content.durable())
    }

    /// Turns over bit `bit` (0 to 7) of the byte at `position` of a node's file.
    pub fn flip_bit(&self, node: usize, path: &Path, position: u64, bit: u8) {
        match self.world.node(node).disk.tree().file(path) {
            Ok(inode) => inode.content.borrow_mut().flip_bit(position, bit),
            Err(error) => panic!("flip_bit in {}: {error}", path.display()),
        }
    }

    /// Stops what `from` sends to `to`. What is sent meanwhile arrives after the heal, as TCP retransmits it.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        network::cut(&self.world, from, to);
    }

    /// Cuts both directions between two nodes.
    pub fn cut(&self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Undoes every cut between two nodes.
    pub fn heal(&self, a: usize, b: usize) {
        network::heal(&self.world, a, b);
        network::heal(&self.world, b, a);
    }

    /// Resets every connection between two nodes.
    pub fn reset_connections(&self, a: usize, b: usize) {
        network::reset_between(&self.world, a, b);
    }

    /// Sets the bounds of the one-way delay between nodes.
    pub fn set_network_delay(&self, least: Duration, greatest: Duration) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let delay = (nanos(least), nanos(greatest));
        self.world.network.delay.set(delay);
    }
}
