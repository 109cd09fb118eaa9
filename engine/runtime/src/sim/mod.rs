//! The deterministic machine: several nodes of several shards, their disks, their clocks and their network, all in one
//! thread and decided by one seed.
//!
//! ```
//! # extern crate ringlog_runtime as runtime;
//! use runtime::sim::Simulation;
//! use runtime::{File, Io, OpenMode};
//! use std::path::Path;
//!
//! let simulation = Simulation::new(7, 1, 1);
//! let io = simulation.io(0, 0);
//! let length = simulation.block_on(0, async {
//!     let file = io.open(Path::new("/a"), OpenMode::Write).await?;
//!     file.allocate(8192).await?;
//!     file.len().await
//! });
//! assert_eq!(length.unwrap(), 8192);
//! ```
//!
//! Beside the broker nodes there is always one more, [`Simulation::client`], for the harness and its workload: it is
//! not meant to be killed, and a scenario written as one future runs there (`simulation.block_on(client, ...)`), with
//! calls of `kill`, `power_cut`, `restart`, `cut` inside it.
//!
//! Same seed, same calls: same [`Simulation::trace_hash`]. When a test panics, the seed and the last steps are
//! printed.

mod clock;
mod completion;
mod content;
mod detached;
mod disk;
mod faults;
mod file;
mod io;
mod lock;
mod machines;
mod network;
mod node_clock;
mod paths;
mod random;
mod relay;
mod scheduler;
mod stream;
mod trace;
mod tree;
mod world;

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::Location;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use model::MonotonicTime;

pub use self::content::SECTOR;
pub use self::detached::SimDetached;
pub use self::disk::DiskCounters;
pub use self::faults::{Fault, FaultId, FaultRule, Faults};
pub use self::file::{SimBuffer, SimFile, SimFrozen};
pub use self::io::SimIo;
pub use self::lock::SimLock;
pub use self::machines::DiskSnapshot;
pub use self::node_clock::CLOCK_DRIFT_PPM_MAX;
pub use self::paths::PathRule;
pub use self::random::Generator;
pub use self::relay::delayed;
pub use self::stream::{SimListener, SimStream};

use self::scheduler::Picked;
use self::trace::Step;
use self::world::{Power, World};
use crate::io::{Io, TaskClass};

/// Virtual time that [`Simulation::block_on`] waits for its future, unless told otherwise.
const BLOCK_ON_MAX: Duration = Duration::from_secs(3600);

/// Polls and events in one call of a run function: more is a loop that does not end.
const STEPS_MAX: u64 = 200_000_000;

/// Bounds of the virtual time that one poll of a task takes, in nanoseconds.
const POLL_NANOS: (u64, u64) = (200, 2_000);

/// What one step of the loop did.
enum Progress {
    Ran,
    /// Nothing can run before the time limit.
    Waits,
    /// Nothing can run, ever.
    Stuck,
}

/// A simulated world. See the module's text.
pub struct Simulation {
    world: Rc<World>,
    nodes: usize,
    shards: usize,
    block_on_max: Cell<Duration>,
    is_running: Cell<bool>,
}

impl Simulation {
    /// `nodes` nodes of `shards` shards each, and the client node. All are up, with empty disks.
    pub fn new(seed: u64, nodes: usize, shards: usize) -> Simulation {
        assert!(shards > 0, "a node has at least one shard");
        Simulation {
            world: Rc::new(World::new(seed, nodes + 1)),
            nodes,
            shards,
            block_on_max: Cell::new(BLOCK_ON_MAX),
            is_running: Cell::new(false),
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.world.seed
    }

    /// The number of the node for the harness and clients.
    pub fn client(&self) -> usize {
        self.nodes
    }

    /// Nodes without the client.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Shards of each node.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// One shard of a node that is up.
    pub fn io(&self, node: usize, shard: usize) -> SimIo {
        let power = self.world.node(node).power.get();
        assert!(
            power == Power::Up,
            "node {node} is down ({power:?}): restart it first (seed {})",
            self.seed()
        );
        assert!(shard < self.shards, "there is no shard {shard}");
        SimIo::new(&self.world, node, shard)
    }

    /// All shards of a node that is up.
    pub fn ios(&self, node: usize) -> Vec<SimIo> {
        (0..self.shards).map(|shard| self.io(node, shard)).collect()
    }

    /// The IP address of a node. On itself a node may also use loopback and unspecified addresses.
    pub fn ip(&self, node: usize) -> IpAddr {
        network::ip(node)
    }

    /// A socket address of a node.
    pub fn address(&self, node: usize, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip(node), port)
    }

    /// Starts a foreground task.
    #[track_caller]
    pub fn spawn(&self, node: usize, shard: usize, task: impl Future<Output = ()> + 'static) {
        self.io(node, shard).spawn(TaskClass::Foreground, task);
    }

    /// Runs everything until `future`, a task of shard 0 of `node`, is done.
    ///
    /// Panics with a list of the tasks if that cannot happen any more, or takes over an hour of virtual time (see
    /// [`Simulation::set_block_on_max`]), or if the node is killed.
    #[track_caller]
    pub fn block_on<T>(&self, node: usize, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let owner = self
            .io(node, 0)
            .owner(TaskClass::Foreground, Location::caller());
        let root = self.world.scheduler.add(owner, None);
        let limit = self.now().plus(self.block_on_max.get());
        let mut result = None;
        self.run(limit, |picked| {
            if picked.is_some()
                && let Poll::Ready(value) = self.world.scheduler.poll_root(root, future.as_mut())
            {
                result = Some(value);
            }
            if result.is_none() && !self.world.scheduler.contains(root) {
                panic!(
                    "node {node} was stopped while block_on waited for it (seed {})",
                    self.seed()
                );
            }
            result.is_some()
        });
        self.world.scheduler.remove(root);
        match result {
            Some(value) => value,
            None => self.fail("block_on waits for something that does not happen"),
        }
    }

    /// Lets `duration` of virtual time pass.
    pub fn run_for(&self, duration: Duration) {
        let limit = self.now().plus(duration);
        self.run(limit, |_| false);
        self.world.clock.advance_to(limit.0);
    }

    /// Runs until the virtual time is `deadline`.
    pub fn run_to(&self, deadline: MonotonicTime) {
        self.run_for(deadline.since(self.now()));
    }

    /// Runs until `predicate` holds, looking after every step. Panics as [`Simulation::block_on`] does.
    #[track_caller]
    pub fn run_until(&self, mut predicate: impl FnMut() -> bool) {
        if predicate() {
            return;
        }
        let limit = self.now().plus(self.block_on_max.get());
        let mut holds = false;
        self.run(limit, |_| {
            holds = predicate();
            holds
        });
        if !holds {
            self.fail("run_until waits for something that does not happen");
        }
    }

    /// Runs until nothing can happen any more (`true`) or `limit` has passed.
    pub fn run_until_idle(&self, limit: Duration) -> bool {
        let limit = self.now().plus(limit);
        self.run(limit, |_| false)
    }

    /// Changes how long `block_on` and `run_until` wait, in virtual time.
    pub fn set_block_on_max(&self, duration: Duration) {
        self.block_on_max.set(duration);
    }

    /// Virtual time: what the monotonic clock of a node shows whose clocks nobody touched.
    pub fn now(&self) -> MonotonicTime {
        self.world.clock.now()
    }

    /// The seeded generator of the workload stream, for harnesses.
    pub fn random(&self) -> &Generator {
        &self.world.random.workload
    }

    /// The faults in force.
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// A hash over every scheduling decision, operation, completion and fault so far.
    pub fn trace_hash(&self) -> u64 {
        self.world.trace_log().hash()
    }

    /// How many such events there were.
    pub fn trace_count(&self) -> u64 {
        self.world.trace_log().count()
    }

    /// The unfinished tasks and the last steps, for people.
    pub fn report(&self) -> String {
        format!(
            "simulation of seed {} at {} ns, trace {:016x}\nunfinished tasks:\n{}last steps:\n{}",
            self.seed(),
            self.now().0,
            self.trace_hash(),
            self.world.scheduler.report(),
            self.world.trace_log().recent()
        )
    }

    /// Tasks of a node that have not ended.
    pub fn task_count(&self, node: usize) -> usize {
        self.world.scheduler.count(node)
    }

    /// Runs until `observe` says stop, `limit` has passed, or nothing can happen any more (then true). `observe` is
    /// called after each step, with the number of the root task if it is that one's turn.
    fn run(&self, limit: MonotonicTime, mut observe: impl FnMut(Option<u64>) -> bool) -> bool {
        assert!(
            !self.is_running.replace(true),
            "the simulation runs already: a task must not run it"
        );
        let _running = Running(&self.is_running);
        for _ in 0..STEPS_MAX {
            let mut root = None;
            match self.step(limit, &mut root) {
                Progress::Ran => {}
                Progress::Waits => return false,
                Progress::Stuck => return true,
            }
            if observe(root) {
                return false;
            }
        }
        self.fail("a run of too many steps: some loop does not end")
    }

    fn step(&self, limit: MonotonicTime, root: &mut Option<u64>) -> Progress {
        let world = &self.world;
        detached::end_dropped(world);
        while let Some(event) = world.clock.pop_due() {
            world.handle(event);
        }
        match world.scheduler.pick(&world.random.schedule) {
            Some(picked) => {
                if world.clock.now() > limit {
                    // Put off, not lost.
                    world.scheduler.put_back(&picked);
                    return Progress::Waits;
                }
                let nanos = world.random.schedule.between(POLL_NANOS.0, POLL_NANOS.1);
                let (Picked::Task(id) | Picked::Root(id)) = picked;
                world.trace(Step::Poll, "poll", [id, 0, 0]);
                match picked {
                    Picked::Task(id) => world.scheduler.poll(id),
                    Picked::Root(id) => *root = Some(id),
                }
                world.clock.advance_to(world.clock.nanos() + nanos);
                Progress::Ran
            }
            None => match world.clock.next_due() {
                Some(time) if time > limit.0 => Progress::Waits,
                Some(time) => {
                    world.clock.advance_to(time);
                    Progress::Ran
                }
                None => Progress::Stuck,
            },
        }
    }

    #[track_caller]
    fn fail(&self, reason: &str) -> ! {
        panic!("{reason}\n{}", self.report())
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
        self.world.ended.set(true);
        let tasks = self.world.scheduler.extract_all();
        let events = self.world.clock.take_all();
        drop(tasks);
        drop(events);
    }
}

/// Ends the run also when a task panics.
struct Running<'a>(&'a Cell<bool>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
