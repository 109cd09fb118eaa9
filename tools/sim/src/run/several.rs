//! Several brokers in one world, each with clients of its own, while a nemesis does what the fault atlases allow.
//!
//! They do not replicate yet, so each is judged alone: what its clients were told (`history`, `checker`), and what
//! somebody sees who looks into it (`god`). A broker to whose clients nothing is promised may lose its disk; from then on
//! nothing of before is judged, and it must be a broker like any other. At the end everything is well, all clients get
//! their answers, and often the power fails everywhere at once before all is read again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use runtime::Io;
use runtime::sim::{Generator, SimIo, Simulation};

use super::{FINISH_PATIENCE, LOOK_INTERVAL, Outcome, planted_in_storage};
use crate::atlas::{Atlas, Harm, Promise};
use crate::checker;
use crate::cluster::{Broker, Cluster, SHARDS_MAX};
use crate::god::{God, Observation, collect};
use crate::history::{History, Tallies};
use crate::nemesis::Nemesis;
use crate::nemesis::planner::{Act, Planner};
use crate::planted::Planted;
use crate::scenarios::{MemberPlan, SeveralPlan};
use crate::workload::{self, Client, WorkloadSettings};

/// Random streams; those of the members' clients follow the last one.
const PLANNER_STREAM: u64 = 110;
const NEMESIS_STREAM: u64 = 111;
const DRIVER_STREAM: u64 = 112;
const CLIENT_STREAM: u64 = 120;
/// Violations kept; more are only counted.
const VIOLATIONS_MAX: usize = 12;
/// How long clients work with a broker that has lost its disk, once everything is well.
const AFTERLIFE: Duration = Duration::from_millis(60);

/// A broker, and what is known of it.
struct Member {
    broker: Rc<Broker>,
    client: Client,
    god: God,
    /// Of its first start.
    cluster_id: Option<Arc<str>>,
    /// How it lost its disk last, if it did.
    loss: Option<Harm>,
}

struct Several<'a> {
    cluster: &'a Cluster<'a>,
    members: Vec<Member>,
    nemesis: Nemesis<'a>,
    plan: SeveralPlan,
    planted: Option<Planted>,
    random: Generator,
    io: SimIo,
    violations: Vec<String>,
    tallies: Tallies,
}

/// Plays a seed.
pub(super) fn run(mut plan: SeveralPlan, seed: u64, planted: Option<Planted>) -> Outcome {
    for member in &mut plan.members {
        member.broker.storage.planted = planted_in_storage(planted);
    }
    let simulation = Simulation::new(seed, plan.members.len(), SHARDS_MAX);
    let settings = plan.members.iter().map(|member| member.broker.clone());
    let cluster = Cluster::new(&simulation, settings.collect());
    let mut course = Several::new(&cluster, plan, seed, planted);
    let ended = simulation.block_on(simulation.client(), course.play());
    if let Err(what) = ended {
        course.violation(what);
    }
    course.count();
    let Several {
        violations,
        tallies,
        ..
    } = course;
    cluster.ended();
    Outcome {
        seed,
        violations,
        tallies,
        background_work: (0, 0),
        trace_hash: simulation.trace_hash(),
        trace_count: simulation.trace_count(),
    }
}

impl<'a> Several<'a> {
    fn new(
        cluster: &'a Cluster<'a>,
        plan: SeveralPlan,
        seed: u64,
        planted: Option<Planted>,
    ) -> Several<'a> {
        let simulation = cluster.simulation();
        let io = simulation.io(simulation.client(), 0);
        let members = cluster.brokers().iter().zip(&plan.members);
        let members = members.zip(CLIENT_STREAM..);
        let members = members.map(|((broker, planned), stream)| Member {
            client: Client {
                io: io.clone(),
                bootstrap: cluster.bootstrap(&[broker.node()]),
                history: Rc::new(History::default()),
                broker: broker.clone(),
                settings: Rc::new(planned.workload.clone()),
                random: Rc::new(Generator::new(seed, stream)),
            },
            broker: broker.clone(),
            god: God::default(),
            cluster_id: None,
            loss: None,
        });
        // Each is a cluster of its own.
        let atlas = |(node, planned): (usize, &MemberPlan)| {
            let outage = plan.outage;
            Atlas::new(planned.promise, outage, [node])
        };
        let atlases = plan.members.iter().enumerate().map(atlas).collect();
        let planner = Planner::new(
            Generator::new(seed, PLANNER_STREAM),
            atlases,
            plan.harms.clone(),
            plan.shapes.clone(),
            (plan.members.len(), simulation.client()),
        );
        Several {
            members: members.collect(),
            nemesis: Nemesis::new(cluster, planner, Generator::new(seed, NEMESIS_STREAM)),
            random: Generator::new(seed, DRIVER_STREAM),
            violations: Vec::new(),
            tallies: Tallies::default(),
            cluster,
            plan,
            planted,
            io,
        }
    }

    fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }

    async fn play(&mut self) -> Result<(), String> {
        for node in self.cluster.nodes() {
            self.cluster.start(node);
        }
        for node in self.cluster.nodes() {
            self.cluster.await_start(node, &self.io).await?;
            let member = &mut self.members[node];
            member.cluster_id = member.broker.cluster_id();
            workload::create_first_topics(&member.client).await?;
            workload::start(&member.client);
        }
        let rolls_back = self.planted == Some(Planted::RolledBack);
        let doomed = self.trusted().filter(|_| rolls_back);
        let copy = doomed.map(|node| self.cluster.simulation().disk_snapshot(node));
        self.suffer().await;
        tracing::info!("all is made well");
        self.nemesis.calm(&self.io).await?;
        if let Some((node, copy)) = doomed.zip(copy) {
            self.cluster.kill(node);
            self.cluster.simulation().restore_disk(node, &copy);
            self.cluster.start(node);
            self.cluster.await_start(node, &self.io).await?;
        }
        self.judge_clients().await?;
        self.begin_again().await?;
        self.read_all().await?;
        if self.violations.is_empty() && self.random.one_in(2) {
            tracing::info!("the power fails everywhere");
            for node in self.cluster.nodes() {
                self.cluster.power_cut(node);
            }
            for node in self.cluster.nodes() {
                self.cluster.start(node);
            }
            for node in self.cluster.nodes() {
                self.cluster.await_start(node, &self.io).await?;
            }
            self.read_all().await?;
        }
        Ok(())
    }

    /// A broker whose clients rely on its disk.
    fn trusted(&self) -> Option<usize> {
        let members = self.plan.members.iter();
        let mut promises = members.map(|member| member.promise);
        promises.position(|promise| promise != Promise::Nothing)
    }

    /// The nemesis acts; somebody looks now and then.
    async fn suffer(&mut self) {
        let (least, most) = self.plan.between_us;
        for _ in 0..self.plan.acts {
            let micros = self.random.between(least, most);
            self.io.sleep(Duration::from_micros(micros)).await;
            // A run that is allowed nothing has only its clients.
            if let Some(Act::Harm(node, harm @ (Harm::Wipe | Harm::OldDisk))) = self.nemesis.act() {
                self.lost(node, harm);
            }
            if let Some(what) = self.nemesis.needless_fence() {
                self.violation(what);
            }
            if self.random.one_in(2) {
                let node = self.random.index(self.members.len());
                self.look(node).await;
            }
        }
    }

    /// A broker has lost its disk: what was before is judged now or never.
    fn lost(&mut self, node: usize, harm: Harm) {
        let member = &mut self.members[node];
        assert_eq!(
            self.plan.members[node].promise,
            Promise::Nothing,
            "the atlas has not seen to it"
        );
        member.loss = Some(harm);
        member.god = God::default();
        member.client.history.stop();
        self.take_violations(node);
        // What its clients see from now on is told to nobody.
        self.members[node].client.history = Rc::default();
    }

    /// What the history of a member's clients has noted.
    fn take_violations(&mut self, node: usize) {
        let member = &self.members[node];
        let (id, history) = (member.broker.id(), member.client.history.clone());
        self.tallies.add(&history.facts().tallies);
        for what in history.violations() {
            self.violation(format!("broker {id}: {what}"));
        }
    }

    /// Looks into a broker that runs.
    async fn look(&mut self, node: usize) {
        let simulation = self.cluster.simulation();
        if !simulation.is_up(node) || simulation.is_paused(node) {
            return;
        }
        let member = &mut self.members[node];
        let history = member.client.history.clone();
        // What is told later is not yet to be seen.
        let mut told = collect::acknowledged(&history);
        let Some(view) = collect::look(&member.broker, &self.io).await else {
            return;
        };
        told.retain(|batch| !history.may_be_deleted(batch.partition.topic));
        self.tallies.looks += 1;
        let seen = Observation {
            replicas: vec![&view],
            metadata: vec![&view],
            acknowledged: &told,
        };
        for what in member.god.observe(&seen) {
            self.violation(what);
        }
    }

    /// Clients of brokers that kept their disks get their answers.
    async fn judge_clients(&mut self) -> Result<(), String> {
        for node in self.cluster.nodes() {
            let member = &self.members[node];
            let id = member.broker.id();
            if member.loss.is_some() {
                continue;
            }
            if member.broker.cluster_id() != member.cluster_id {
                let (found, known) = (member.broker.cluster_id(), &member.cluster_id);
                return Err(format!(
                    "broker {id} is of cluster {found:?}, was of {known:?}"
                ));
            }
            self.finish(node).await?;
        }
        Ok(())
    }

    /// Tells clients to finish, and waits for them.
    async fn finish(&self, node: usize) -> Result<(), String> {
        let member = &self.members[node];
        let (id, history) = (member.broker.id(), &member.client.history);
        history.stop();
        let deadline = self.io.now().plus(FINISH_PATIENCE);
        while history.working() > 0 {
            if let Some(reason) = member.broker.fence_reason() {
                return Err(format!(
                    "broker {id} is fenced though nothing fails any more: {reason}"
                ));
            }
            if self.io.now() >= deadline {
                return Err(format!(
                    "clients of broker {id} do not get their answers though all is well; the last refusal: {}",
                    history.last_refusal()
                ));
            }
            self.io.sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// New clients for brokers that lost their disks: nothing may be wrong with what they see.
    async fn begin_again(&mut self) -> Result<(), String> {
        for node in self.cluster.nodes() {
            let member = &mut self.members[node];
            let id = member.broker.id();
            let Some(loss) = member.loss else {
                continue;
            };
            if loss == Harm::Wipe && member.broker.cluster_id() == member.cluster_id {
                return Err(format!(
                    "broker {id} has an empty disk and knows its cluster"
                ));
            }
            member.client.settings = Rc::new(WorkloadSettings {
                suffix: "-again",
                ..WorkloadSettings::clone(&member.client.settings)
            });
            member.loss = None;
            member.cluster_id = member.broker.cluster_id();
            workload::create_first_topics(&member.client).await?;
            workload::start(&member.client);
            self.io.sleep(AFTERLIFE).await;
            self.finish(node).await?;
        }
        Ok(())
    }

    /// Everything is read by a client, and looked at.
    async fn read_all(&mut self) -> Result<(), String> {
        for node in self.cluster.nodes() {
            self.look(node).await;
            let member = &self.members[node];
            let id = member.broker.id();
            let read = checker::check(&member.client).await;
            read.map_err(|what| format!("broker {id}: {what}"))?;
        }
        Ok(())
    }

    /// Adds up what happened.
    fn count(&mut self) {
        for node in self.cluster.nodes() {
            self.take_violations(node);
        }
        self.tallies.harms = self.nemesis.harms();
    }
}
