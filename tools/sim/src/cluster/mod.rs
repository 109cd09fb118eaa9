//! Brokers of one world, one on each node: starts, ends and what becomes of their disks.
//!
//! Owned by a scenario. A cluster knows which of its brokers has a life; what may happen to which of them is the fault
//! atlas's business ([`crate::atlas`]), what does happen the scenario's or the nemesis's.

mod broker;
mod settings;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use runtime::Io;
use runtime::sim::{SimIo, Simulation};

pub use self::broker::{Broker, PORT, Start};
pub use self::settings::{BrokerSettings, SHARDS_MAX};

/// Most brokers of a cluster here.
pub const BROKERS_MAX: usize = 5;
/// Virtual time that a start may take, a slow disk included.
pub const START_PATIENCE: Duration = Duration::from_secs(120);
/// How often somebody who waits for a broker looks.
const LOOK_INTERVAL: Duration = Duration::from_micros(500);
/// How far apart the monotonic clocks of two machines begin.
const CLOCKS_APART: Duration = Duration::from_secs(1_000);

/// See the module's text.
pub struct Cluster<'a> {
    simulation: &'a Simulation,
    brokers: Vec<Rc<Broker>>,
}

impl<'a> Cluster<'a> {
    /// Brokers that do not run yet, on the nodes from 0 on, with the numbers from 1 on as `node.id`. No node may have
    /// run anything.
    pub fn new(simulation: &'a Simulation, settings: Vec<BrokerSettings>) -> Cluster<'a> {
        assert!(
            (1..=BROKERS_MAX).contains(&settings.len()) && settings.len() <= simulation.nodes(),
            "{} brokers on {} nodes",
            settings.len(),
            simulation.nodes()
        );
        let brokers = settings.into_iter().enumerate();
        let brokers = brokers.map(|(node, settings)| {
            let number = u32::try_from(node).expect("few nodes");
            simulation.put_clock_forward(node, CLOCKS_APART * number);
            let id = i32::try_from(node + 1).expect("few nodes");
            Broker::new(node, settings.with_node_id(id))
        });
        Cluster {
            brokers: brokers.collect(),
            simulation,
        }
    }

    /// The world.
    pub fn simulation(&self) -> &'a Simulation {
        self.simulation
    }

    /// All of them, by node.
    pub fn brokers(&self) -> &[Rc<Broker>] {
        &self.brokers
    }

    /// The nodes that have one.
    pub fn nodes(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.brokers.len()
    }

    /// The one on a node.
    pub fn broker(&self, node: usize) -> &Rc<Broker> {
        &self.brokers[node]
    }

    /// Where clients that know these nodes connect first.
    pub fn bootstrap(&self, nodes: &[usize]) -> Vec<SocketAddr> {
        let addresses = nodes.iter();
        addresses
            .map(|node| self.broker(*node).address(self.simulation))
            .collect()
    }

    /// Begins a life, on a node that may be down.
    pub fn start(&self, node: usize) {
        if !self.simulation.is_up(node) {
            self.simulation.restart(node);
        }
        let broker = self.broker(node);
        tracing::info!(node, shards = broker.settings().shards, "starts");
        broker.start(self.simulation, broker.settings().shards);
    }

    /// Ends a life as `kill -9` does.
    pub fn kill(&self, node: usize) {
        tracing::info!(node, "is killed");
        self.simulation.kill(node);
        self.broker(node).ended();
    }

    /// Ends a life with the power of its machine.
    pub fn power_cut(&self, node: usize) {
        tracing::info!(node, "loses its power");
        self.simulation.power_cut(node);
        self.broker(node).ended();
    }

    /// Waits until a broker serves.
    pub async fn await_start(&self, node: usize, io: &SimIo) -> Result<(), String> {
        let deadline = io.now().plus(START_PATIENCE);
        loop {
            match self.broker(node).progress() {
                Start::Done => return Ok(()),
                Start::Failed(reason) => {
                    return Err(format!(
                        "the broker of node {node} does not start: {reason}"
                    ));
                }
                Start::UnderWay if io.now() >= deadline => {
                    return Err(format!("the start of node {node} does not end"));
                }
                Start::UnderWay => io.sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Forgets every life, before the world ends.
    pub fn ended(&self) {
        for broker in &self.brokers {
            broker.ended();
        }
    }
}
