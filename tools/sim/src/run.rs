//! Plays one seed of one scenario.
//!
//! Safety first: the broker lives, suffers and dies as the plan says while clients work. Then everything is made well,
//! and what was begun must end (liveness). Then the checker reads all of it, once more after a last restart.

mod full_disk;
mod many_deletions;
mod probe;
mod several;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::{Fault, FaultRule, Generator, SimIo, Simulation};
use runtime::{Io, TaskClass};
use shard::Closed;

use crate::checker;
use crate::cluster::{Broker, SHARDS_MAX, START_PATIENCE, Start};
use crate::history::{History, Tallies};
use crate::planted::Planted;
use crate::scenarios::{Course, Draw, Plan, Scenario, Stop, Trouble};
use crate::workload::{self, Client};

/// Virtual time in which clients must finish once everything is well.
const FINISH_PATIENCE: Duration = Duration::from_secs(60);
/// Virtual time in which a clean stop must end, whatever the disk is like.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// After one kill in so many the lock of the data directory outlives the process.
const LATE_UNLOCK_SHARE: u64 = 4;
/// How often the driver looks.
const LOOK_INTERVAL: Duration = Duration::from_micros(500);
/// The node of a broker that is alone in its world.
const ONLY_NODE: usize = 0;
/// Starts that may be cut short in a row.
const RECOVERY_STOPS_MAX: u64 = 3;
/// The random stream of plans; those of the simulation have small numbers.
const PLAN_STREAM: u64 = 100;
/// The random stream of the driver.
const DRIVER_STREAM: u64 = 101;
/// The random stream of the clients.
const CLIENT_STREAM: u64 = 102;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Promises that were broken; the first ones.
    pub violations: Vec<String>,
    /// How much happened.
    pub tallies: Tallies,
    /// Checkpoints and segment writes at the ends of lives.
    pub background_work: (u64, u64),
    /// The same for the same seed and program.
    pub trace_hash: u64,
    /// Events of the simulation.
    pub trace_count: u64,
}

struct Driver<'a> {
    simulation: &'a Simulation,
    plan: Plan,
    planted: Option<Planted>,
    broker: Rc<Broker>,
    /// Where it runs.
    node: usize,
    history: Rc<History>,
    random: Generator,
    io: SimIo,
    shards: u16,
    /// The trouble under way can keep the broker from starting.
    disk_trouble: bool,
    background_work: (u64, u64),
}

/// Plays a seed, with something broken on purpose if `planted` says so.
pub fn run(scenario: &Scenario, seed: u64, planted: Option<Planted>) -> Outcome {
    let random = Generator::new(seed, PLAN_STREAM);
    match scenario.draw {
        Draw::One(draw) => run_one(draw(&random), seed, planted),
        Draw::Several(draw) => several::run(draw(&random), seed, planted),
    }
}

/// What of a planted bug is in the storage.
fn planted_in_storage(planted: Option<Planted>) -> Option<storage::PlantedFault> {
    (planted == Some(Planted::EarlyAcknowledgement))
        .then_some(storage::PlantedFault::EarlyAcknowledgement)
}

fn run_one(mut plan: Plan, seed: u64, planted: Option<Planted>) -> Outcome {
    let simulation = Simulation::new(seed, 1, SHARDS_MAX);
    plan.broker.storage.planted = planted_in_storage(planted);
    let history = Rc::new(History::default());
    let broker = Broker::new(ONLY_NODE, plan.broker.clone());
    let mut driver = Driver {
        simulation: &simulation,
        shards: plan.broker.shards,
        plan,
        planted,
        broker: broker.clone(),
        node: broker.node(),
        history: history.clone(),
        random: Generator::new(seed, DRIVER_STREAM),
        io: simulation.io(simulation.client(), 0),
        disk_trouble: false,
        background_work: (0, 0),
    };
    let ended = simulation.block_on(simulation.client(), driver.drive(seed));
    if let Err(what) = ended {
        history.violation(what);
    }
    driver.count_snapshots();
    let background_work = driver.background_work;
    drop(driver);
    broker.ended();
    let tallies = history.facts().tallies;
    Outcome {
        seed,
        violations: history.violations(),
        tallies,
        background_work,
        trace_hash: simulation.trace_hash(),
        trace_count: simulation.trace_count(),
    }
}

impl Driver<'_> {
    async fn drive(&mut self, seed: u64) -> Result<(), String> {
        self.broker.start(self.simulation, self.shards);
        self.await_start().await?;
        let client = Client {
            io: self.io.clone(),
            bootstrap: vec![self.broker.address(self.simulation)],
            history: self.history.clone(),
            broker: self.broker.clone(),
            settings: Rc::new(self.plan.workload.clone()),
            random: Rc::new(Generator::new(seed, CLIENT_STREAM)),
        };
        workload::create_first_topics(&client).await?;
        workload::start(&client);
        match self.plan.course {
            Course::Lives => self.lives().await?,
            Course::FullDisk => full_disk::play(self, &client).await?,
            Course::ManyDeletions => many_deletions::play(self, &client).await?,
        }
        tracing::info!("all is made well");
        self.finish().await?;
        tracing::info!("all is read");
        checker::check(&client).await?;
        if self.history.violation_count() == 0 && self.random.one_in(3) {
            let stop = self.draw_stop().unwrap_or(Stop::Clean);
            self.stop(stop).await?;
            self.restart().await?;
            checker::check(&client).await?;
        }
        Ok(())
    }

    async fn lives(&mut self) -> Result<(), String> {
        for _ in 0..self.plan.lives {
            self.live().await?;
            if let Some(stop) = self.draw_stop() {
                self.stop(stop).await?;
                self.restart().await?;
            }
        }
        Ok(())
    }

    /// An error if a shard is fenced, for no reason but `why_not`.
    fn unfenced(&self, why_not: &str) -> Result<(), String> {
        match self.broker.fence_reason() {
            Some(reason) => Err(format!("fenced, though {why_not}: {reason}")),
            None => Ok(()),
        }
    }

    /// A stop that waits for nothing.
    fn draw_hard_stop(&self) -> Stop {
        [Stop::Kill, Stop::PowerCut][self.random.index(2)]
    }

    fn draw_stop(&self) -> Option<Stop> {
        let stops = &self.plan.stops;
        if self.broker.fence_reason().is_some() {
            return Some(Stop::Kill);
        }
        (!stops.is_empty()).then(|| stops[self.random.index(stops.len())])
    }

    async fn sleep_us(&self, least: u64, most: u64) {
        let micros = self.random.between(least, most);
        self.io.sleep(Duration::from_micros(micros)).await;
    }

    /// Lets clients work for a while, with a trouble in between.
    async fn live(&mut self) -> Result<(), String> {
        let (least, most) = self.plan.life_us;
        self.sleep_us(least / 2, most / 2).await;
        let troubles = &self.plan.troubles;
        if troubles.is_empty() || self.random.one_in(4) {
            self.sleep_us(least / 2, most / 2).await;
            return Ok(());
        }
        let trouble = troubles[self.random.index(troubles.len())].clone();
        let has_fence = self.broker.fence_reason().is_some();
        self.begin(&trouble);
        self.sleep_us(least, most).await;
        if !has_fence && self.broker.fence_reason().is_some() {
            self.history.facts_mut().tallies.fences += 1;
        }
        // Half of the time the life ends in the middle of the trouble.
        if !self.plan.stops.is_empty() && self.random.one_in(2) {
            return Ok(());
        }
        self.make_well();
        if self.broker.fence_reason().is_some() {
            self.stop(Stop::Kill).await?;
            self.restart().await?;
        }
        self.sleep_us(least / 2, most / 2).await;
        Ok(())
    }

    fn begin(&mut self, trouble: &Trouble) {
        let (simulation, node) = (self.simulation, self.node);
        let client = simulation.client();
        tracing::info!(?trouble, "begins");
        match trouble {
            Trouble::Disk(rule) => {
                self.disk_trouble = true;
                simulation.faults().add(rule.clone().node(node));
            }
            Trouble::Full(spare) => {
                self.disk_trouble = true;
                let files = simulation.files(node);
                let sizes = files
                    .iter()
                    .filter_map(|path| simulation.file_bytes(node, path));
                let held: u64 = sizes.map(|bytes| bytes.len() as u64).sum();
                simulation.set_disk_capacity(node, held + spare);
            }
            Trouble::Cut { requests, answers } => {
                if *requests {
                    simulation.cut_one_way(client, node);
                }
                if *answers {
                    simulation.cut_one_way(node, client);
                }
            }
            Trouble::Reset => simulation.reset_connections(client, node),
            Trouble::Resets(per_million) => {
                let rule = FaultRule::new(Fault::ConnectionReset).per_million(*per_million);
                simulation.faults().add(rule);
            }
            Trouble::Delay(micros) => {
                let most = Duration::from_micros(*micros);
                simulation.set_network_delay(Duration::from_micros(50), most);
            }
        }
    }

    /// Ends every trouble.
    fn make_well(&mut self) {
        let (simulation, node) = (self.simulation, self.node);
        let client = simulation.client();
        simulation.faults().clear();
        if self.plan.course != Course::FullDisk {
            simulation.set_disk_capacity(node, u64::MAX);
        }
        simulation.release_hung(node);
        simulation.heal(client, node);
        simulation.set_network_delay(Duration::from_micros(30), Duration::from_micros(600));
        self.disk_trouble = false;
    }

    async fn stop(&mut self, stop: Stop) -> Result<(), String> {
        tracing::info!(?stop, "stops");
        self.history.facts_mut().tallies.stops += 1;
        self.count_snapshots();
        let (checkpoints, writes) = self.broker.background_work();
        self.background_work.0 += checkpoints;
        self.background_work.1 += writes;
        match stop {
            Stop::PowerCut => self.simulation.power_cut(self.node),
            Stop::Kill => self.kill(),
            Stop::Clean => {
                let may_be_full = self.disk_trouble || self.plan.course == Course::FullDisk;
                match self.stop_cleanly().await {
                    Err(reason) if !self.disk_trouble => {
                        return Err(format!("a clean stop failed: {reason}"));
                    }
                    Ok(Closed::DiskFull) if !may_be_full => {
                        return Err("a clean stop found a full disk".to_owned());
                    }
                    _ => {}
                }
                self.simulation.kill(self.node);
            }
        }
        self.broker.ended();
        Ok(())
    }

    /// Adds the metadata snapshots of the life that ends.
    fn count_snapshots(&self) {
        let written = self.broker.metadata_snapshots();
        self.history.facts_mut().tallies.metadata_snapshots += written;
    }

    /// The kernel may keep the dead process's lock of the data directory for a while.
    fn kill(&self) {
        let is_late = self.random.one_in(LATE_UNLOCK_SHARE);
        let rule = FaultRule::new(Fault::LateUnlock).node(self.node);
        let late = is_late.then(|| self.simulation.faults().add(rule));
        self.simulation.kill(self.node);
        if let Some(rule) = late {
            self.simulation.faults().remove(rule);
        }
    }

    /// Asks the broker to end, and waits for no longer than a supervisor would.
    async fn stop_cleanly(&self) -> Result<Closed, String> {
        let ended: Rc<RefCell<Option<Result<Closed, String>>>> = Rc::default();
        let (broker, told) = (self.broker.clone(), ended.clone());
        self.io.spawn(TaskClass::Foreground, async move {
            let result = broker.stop().await;
            *told.borrow_mut() = Some(result);
        });
        let deadline = self.io.now().plus(STOP_PATIENCE);
        loop {
            if let Some(result) = ended.borrow_mut().take() {
                return result;
            }
            if self.io.now() >= deadline {
                return Err(format!("it does not end within {STOP_PATIENCE:?}"));
            }
            self.io.sleep(LOOK_INTERVAL).await;
        }
    }

    /// Starts the broker again, maybe after some starts that are cut short.
    async fn restart(&mut self) -> Result<(), String> {
        self.sleep_us(0, 5_000).await;
        if self.plan.stop_in_recovery {
            for _ in 0..self.random.below(RECOVERY_STOPS_MAX + 1) {
                self.start_once();
                self.sleep_us(0, 8_000).await;
                if self.broker.progress() != Start::Done {
                    self.history.facts_mut().tallies.stops_in_recovery += 1;
                }
                let kills = self.plan.stops.iter().filter(|stop| **stop != Stop::Clean);
                let kills: Vec<Stop> = kills.copied().collect();
                let stop = kills[self.random.index(kills.len())];
                self.stop(stop).await?;
            }
        }
        self.start_once();
        if self.disk_trouble {
            // It may start or not; then the disk is mended, and it must.
            self.sleep_us(1_000, 50_000).await;
            self.make_well();
            match self.broker.progress() {
                Start::Failed(_) => {}
                _ if self.broker.fence_reason().is_some() => {}
                _ => {
                    if self.await_start().await.is_ok() {
                        return Ok(());
                    }
                }
            }
            self.stop(Stop::Kill).await?;
            self.start_once();
        }
        self.await_start().await
    }

    fn start_once(&mut self) {
        if self.plan.reshard {
            self.shards = self.random.between(1, SHARDS_MAX as u64) as u16;
        }
        tracing::info!(shards = self.shards, "starts");
        self.simulation.restart(self.node);
        self.broker.start(self.simulation, self.shards);
    }

    async fn await_start(&self) -> Result<(), String> {
        let deadline = self.io.now().plus(START_PATIENCE);
        loop {
            match self.broker.progress() {
                Start::Done => return Ok(()),
                Start::Failed(reason) => {
                    return Err(format!("the broker does not start: {reason}"));
                }
                Start::UnderWay if self.io.now() >= deadline => {
                    return Err("the broker's start does not end".to_owned());
                }
                Start::UnderWay => self.io.sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Makes everything well and waits for the clients.
    async fn finish(&mut self) -> Result<(), String> {
        self.make_well();
        if self.broker.fence_reason().is_some() {
            self.stop(Stop::Kill).await?;
            self.restart().await?;
        }
        self.history.stop();
        let deadline = self.io.now().plus(FINISH_PATIENCE);
        while self.history.working() > 0 {
            if let Some(reason) = self.broker.fence_reason() {
                return Err(format!("fenced though nothing failed any more: {reason}"));
            }
            if self.io.now() >= deadline {
                return Err(format!(
                    "clients of a broker without faults do not get their answers; the last refusal: {}",
                    self.history.last_refusal()
                ));
            }
            self.io.sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }
}
