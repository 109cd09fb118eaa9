//! The nemesis: does to a cluster what its planner draws, and ends with a calm in which everything is well.
//!
//! Owned by a scenario. It performs and decides nothing: the fault atlases say what may happen ([`crate::atlas`]), the
//! [`planner`] draws. Invariant: after [`Nemesis::calm`] every broker serves, no fault is in force, and clocks run as
//! they should.

pub mod partitions;
pub mod planner;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use runtime::sim::{CLOCK_DRIFT_PPM_MAX, DiskSnapshot, Fault, FaultRule, Generator, SimIo};

use self::planner::{Act, Planner};
use crate::atlas::{Harm, Relief};
use crate::cluster::{Cluster, Start};

/// A pause that nobody ends takes so long: from what nobody notices to what every session times out in.
const PAUSE_MICROS: (u64, u64) = (1_000, 20_000_000);
/// The farthest that a wall clock is off. Less than a broker allows a timestamp to be ahead of it.
const WALL_OFFSET_MS_MAX: u64 = 1_200_000;
/// Slow operations of a slow disk, hung ones of a hung disk, of a million.
const SLOW_PER_MILLION: u32 = 50_000;
const HUNG_PER_MILLION: u32 = 200_000;
/// What a full disk takes at most before it is full, in bytes.
const SPARE_BYTES_MAX: u64 = 200 << 10;

/// See the module's text.
pub struct Nemesis<'a> {
    cluster: &'a Cluster<'a>,
    planner: Planner,
    random: Generator,
    copies: BTreeMap<usize, DiskSnapshot>,
    /// Brokers to whose disk something happened in their present life: they may be fenced.
    excused: BTreeSet<usize>,
    /// Harms so far.
    harms: u64,
}

impl<'a> Nemesis<'a> {
    /// `random` is for what acts leave open: how long, how much.
    pub fn new(cluster: &'a Cluster<'a>, planner: Planner, random: Generator) -> Nemesis<'a> {
        Nemesis {
            cluster,
            planner,
            random,
            copies: BTreeMap::new(),
            excused: BTreeSet::new(),
            harms: 0,
        }
    }

    /// Harms so far.
    pub fn harms(&self) -> u64 {
        self.harms
    }

    /// What may happen, to be told what was seen.
    pub fn planner_mut(&mut self) -> &mut Planner {
        &mut self.planner
    }

    /// Does the next thing.
    pub fn act(&mut self) -> Option<Act> {
        let act = self.planner.draw()?;
        self.perform(&act);
        Some(act)
    }

    /// A broker that is fenced though its disk was well all its life, if there is one: nothing else is a reason.
    pub fn needless_fence(&self) -> Option<String> {
        let mut brokers = self.cluster.brokers().iter();
        brokers.find_map(|broker| {
            let reason = broker.fence_reason()?;
            let is_needless = !self.excused.contains(&broker.node());
            let id = broker.id();
            is_needless.then(|| format!("broker {id} is fenced though its disk is well: {reason}"))
        })
    }

    /// Ends everything, and waits until every broker serves: one that a fault of its disk has fenced is started again,
    /// as its supervisor would.
    pub async fn calm(&mut self, io: &SimIo) -> Result<(), String> {
        let simulation = self.cluster.simulation();
        for act in self.planner.calm() {
            self.perform(&act);
        }
        for node in self.cluster.nodes() {
            simulation.set_clock_drift(node, 0);
            simulation.set_wall_offset_ms(node, 0);
        }
        for node in self.cluster.nodes() {
            if self.is_stuck(node) {
                self.cluster.kill(node);
                self.start(node);
            }
        }
        for node in self.cluster.nodes() {
            if let Err(reason) = self.cluster.await_start(node, io).await {
                // What it had begun while its disk was not well may end so; once more, and there is no excuse.
                tracing::info!(node, reason, "is started once more");
                self.cluster.kill(node);
                self.start(node);
                self.cluster.await_start(node, io).await?;
            }
        }
        Ok(())
    }

    /// Whether a broker that runs will not serve again by itself.
    fn is_stuck(&self, node: usize) -> bool {
        let broker = self.cluster.broker(node);
        broker.fence_reason().is_some() || matches!(broker.progress(), Start::Failed(_))
    }

    fn start(&mut self, node: usize) {
        if self.planner.atlas(node).is_disk_well(node) {
            self.excused.remove(&node);
        }
        self.cluster.start(node);
    }

    fn perform(&mut self, act: &Act) {
        let simulation = self.cluster.simulation();
        tracing::info!(?act, "nemesis");
        match act {
            Act::Harm(node, harm) => {
                self.harms += 1;
                self.harm(*node, *harm);
            }
            Act::Relief(node, relief) => self.relieve(*node, *relief),
            Act::Cut(_, cuts) => {
                self.harms += 1;
                for (from, to) in cuts {
                    simulation.cut_one_way(*from, *to);
                }
            }
            Act::Path(from, to, rule) => {
                self.harms += 1;
                simulation.set_path(*from, *to, *rule);
            }
            Act::HealNetwork => {
                simulation.heal_all();
                simulation.clear_paths();
            }
            Act::CopyDisk(node) => {
                self.copies.insert(*node, simulation.disk_snapshot(*node));
            }
        }
    }

    fn harm(&mut self, node: usize, harm: Harm) {
        if matches!(harm, Harm::SlowDisk | Harm::HungDisk | Harm::FullDisk) {
            self.excused.insert(node);
        }
        let (simulation, random) = (self.cluster.simulation(), &self.random);
        let disk = |fault, share| {
            let rule = FaultRule::new(fault).node(node).per_million(share);
            simulation.faults().add(rule);
        };
        match harm {
            Harm::Kill => self.cluster.kill(node),
            Harm::PowerCut => self.cluster.power_cut(node),
            Harm::Pause => {
                let micros = random.between(PAUSE_MICROS.0, PAUSE_MICROS.1);
                // Short ones are as likely as long ones.
                let micros = PAUSE_MICROS.0.max(micros >> random.below(14));
                simulation.pause(node, Duration::from_micros(micros));
            }
            Harm::Wipe => simulation.wipe(node),
            Harm::OldDisk => {
                let copy = self.copies.get(&node);
                let copy = copy.expect("the atlas knows which disks were copied");
                simulation.restore_disk(node, copy);
            }
            Harm::SlowDisk => disk(Fault::Slow, SLOW_PER_MILLION),
            Harm::HungDisk => disk(Fault::Hang, HUNG_PER_MILLION),
            Harm::FullDisk => {
                let files = simulation.files(node);
                let sizes = files.iter().map(|path| {
                    let bytes = simulation.file_bytes(node, path);
                    bytes.map_or(0, |bytes| bytes.len() as u64)
                });
                let held: u64 = sizes.sum();
                let spare = random.below(SPARE_BYTES_MAX);
                simulation.set_disk_capacity(node, held + spare);
            }
            Harm::ClockJump => {
                let ahead = random.below(2 * WALL_OFFSET_MS_MAX);
                let offset = ahead.cast_signed() - WALL_OFFSET_MS_MAX.cast_signed();
                simulation.set_wall_offset_ms(node, offset);
            }
            Harm::ClockDrift => {
                let most = CLOCK_DRIFT_PPM_MAX.unsigned_abs();
                let drift = random.below(u64::from(2 * most) + 1);
                let drift = i32::try_from(drift).expect("bounded") - CLOCK_DRIFT_PPM_MAX;
                simulation.set_clock_drift(node, drift);
            }
        }
    }

    fn relieve(&mut self, node: usize, relief: Relief) {
        let simulation = self.cluster.simulation();
        match relief {
            Relief::Start => self.start(node),
            // It may have ended by itself.
            Relief::Resume => simulation.resume(node),
            Relief::MendDisk => {
                simulation.faults().clear_node(node);
                simulation.set_disk_capacity(node, u64::MAX);
                simulation.release_hung(node);
            }
        }
    }
}
