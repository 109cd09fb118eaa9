//! What a harness does to the machines: crashes, pauses, disks, links, clocks.
//!
//! The second half of [`Simulation`]'s face. Nothing here decides anything: each method hands on to the part that owns
//! what it changes, and leaves a step in the trace.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::io::SimIo;
use super::paths::PathRule;
use super::trace::Step;
use super::tree::Tree;
use super::world::Power;
use super::{DiskCounters, Simulation, disk, network};

/// What a disk held at one time. Clones share it; it never changes.
#[derive(Clone)]
pub struct DiskSnapshot(Rc<Tree>);

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
        world.resume(node);
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
        self.world.trace(Step::Disk, "wipe", [node as u64, 0, 0]);
        let disk = &self.world.node(node).disk;
        *disk.tree.borrow_mut() = Rc::default();
    }

    /// A copy of what a node's files hold now, whether it runs or not, for [`Simulation::restore_disk`].
    pub fn disk_snapshot(&self, node: usize) -> DiskSnapshot {
        let tree = self.world.node(node).disk.tree();
        DiskSnapshot(Rc::new(tree.settled_copy()))
    }

    /// Gives a stopped node the disk of an earlier time, or of another node. All of it is durable.
    pub fn restore_disk(&self, node: usize, snapshot: &DiskSnapshot) {
        assert!(!self.is_up(node), "node {node} runs: stop it first");
        self.world.trace(Step::Disk, "restore", [node as u64, 0, 0]);
        let disk = &self.world.node(node).disk;
        *disk.tree.borrow_mut() = Rc::new(snapshot.0.settled_copy());
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
        self.world.network.paths.set_delay(least, greatest);
    }

    /// Gives one direction between two nodes delays and losses of its own.
    pub fn set_path(&self, from: usize, to: usize, rule: PathRule) {
        let detail = [from as u64, to as u64, u64::from(rule.loss_per_million)];
        self.world.trace(Step::Path, "path", detail);
        self.world.network.paths.set_rule(from, to, rule);
    }

    /// Makes every direction as every other one again.
    pub fn clear_paths(&self) {
        self.world.trace(Step::Path, "clear paths", [0, 0, 0]);
        self.world.network.paths.clear_rules();
    }

    /// Cuts a node off from every other one, the client's included.
    pub fn isolate(&self, node: usize) {
        for other in (0..=self.client()).filter(|other| *other != node) {
            self.cut(node, other);
        }
    }

    /// Undoes every cut.
    pub fn heal_all(&self) {
        network::heal_all(&self.world);
    }

    /// Stops the process of a node as SIGSTOP does, for so much world time: nothing of it runs, its disk goes on with
    /// what it was asked, its kernel takes what peers send as far as windows allow, and time passes. A pause within a
    /// pause makes it longer at most.
    pub fn pause(&self, node: usize, duration: Duration) {
        assert!(self.is_up(node), "node {node} does not run");
        self.world.pause(node, self.now().plus(duration).0);
    }

    /// Ends a pause before its time.
    pub fn resume(&self, node: usize) {
        self.world.resume(node);
    }

    /// Whether the process of a node is stopped.
    pub fn is_paused(&self, node: usize) -> bool {
        self.world.scheduler.is_paused(node)
    }

    /// Sets a node's wall clock off by so many milliseconds from now on.
    pub fn set_wall_offset_ms(&self, node: usize, offset_ms: i64) {
        let detail = [node as u64, offset_ms as u64, 0];
        self.world.trace(Step::Clock, "set wall clock", detail);
        self.world.node(node).clock.set_wall_offset_ms(offset_ms);
    }

    /// Makes a node's wall clock jump, forward or back.
    pub fn jump_wall_clock(&self, node: usize, by_ms: i64) {
        let before = self.world.node(node).clock.wall_offset_ms();
        let after = before.checked_add(by_ms).expect("a jump of centuries");
        self.set_wall_offset_ms(node, after);
    }

    /// Makes a node's monotonic clock run fast (above zero) or slow from now on, by millionths; at most
    /// [`super::CLOCK_DRIFT_PPM_MAX`]. What sleeps on that node wakes by its clock, not by the world's.
    pub fn set_clock_drift(&self, node: usize, ppm: i32) {
        let detail = [node as u64, i64::from(ppm) as u64, 1];
        self.world.trace(Step::Clock, "set drift", detail);
        let now = self.now().0;
        self.world.node(node).clock.set_drift(now, ppm);
    }

    /// Puts the monotonic clock of a node forward, before anything runs there: monotonic times of two machines have
    /// nothing to do with each other, and whoever compares them should be found out.
    pub fn put_clock_forward(&self, node: usize, by: Duration) {
        assert_eq!(self.task_count(node), 0, "node {node} has told the time");
        let nanos = u64::try_from(by.as_nanos()).expect("clocks run for centuries");
        self.world
            .trace(Step::Clock, "put forward", [node as u64, nanos, 2]);
        let now = self.now().0;
        self.world.node(node).clock.put_forward(now, nanos);
    }
}
