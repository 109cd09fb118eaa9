//! One state of the model, and what every action does to it.
//!
//! Messages that may be late are kept apart: one acknowledgement per pair of brokers and one proposal per leader, which
//! a newer one replaces, because messages of one connection are delivered in order. One that is never taken is lost.
//! A subscription with its answers, and a push, happen in one step: a late one is refused by its epoch, like that of a
//! leader which is behind, and that is among the steps. What brokers hear of the metadata is the newest, at any time.

use std::time::Duration;

use metadata::controller::{CandidateLog, candidates};
use model::{BrokerEpoch, LeaderEpoch, MonotonicTime, Offset};
use ringlog_replica::{
    Assignment, FollowerFetch, FollowerOutput, Frame, IsrRefusal, LeaderLog, LeaderReplica,
    LeaderSettings, Output, PlantedFault, SubscribeAnswer, Subscription,
};

use crate::bounds::{BROKERS, Bounds, Fault};
use crate::broker::{Broker, Disk, Entry, Process, Role, count, epoch_end, last_epoch, offset};
use crate::controller::{Controller, Proposed, Shown, broker_id, broker_of, directory};

/// Everything happens at this time, so that a follower that has caught up counts as such ...
const NOW: MonotonicTime = MonotonicTime(1);
/// ... but for what a leader does because time has passed: then who has not caught up lags behind.
const LATE: MonotonicTime = MonotonicTime(2_000_000_000);

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The leader appends a record of a producer that wants it on all replicas in sync.
    Append { leader: usize },
    /// One more record of the broker's log becomes durable.
    Flush { broker: usize },
    /// The leader sends the follower its next record, if there is one, and its high watermark.
    Push { leader: usize, follower: usize },
    /// The leader hears what is durable on the follower: from its present session, or late from an earlier one.
    Acknowledge {
        follower: usize,
        leader: usize,
        is_late: bool,
    },
    /// The follower subscribes, and cuts its log as it is told, until it is accepted.
    Connect { follower: usize },
    /// Time passes for the leader: who has not caught up is to leave the ISR.
    Lag { leader: usize },
    /// The leader's proposal comes to the controller; its answer to the leader, or it is lost.
    Propose { leader: usize, is_answered: bool },
    /// The leader has not heard of its proposal, and makes it again. The first may still come to the controller.
    Repeat { leader: usize },
    /// The broker hears of the newest metadata.
    Hear { broker: usize },
    /// The controller hears nothing of the broker.
    Fence { broker: usize },
    /// The controller hears of it again.
    Unfence { broker: usize },
    /// The process is killed. Of what was not durable so many records survive.
    Kill { broker: usize, surviving: usize },
    /// The process stops in order.
    Stop { broker: usize },
    /// The disk of a broker that does not run loses its last record, and shows it.
    Damage { broker: usize },
    /// The disk of a broker that does not run is replaced by a copy from before: a record is missing, and it tells of an
    /// earlier process that stopped in order.
    SetBack { broker: usize },
    /// The directory of a broker that does not run is replaced by an empty one. What the broker says of its last stop is
    /// in another of its directories, and goes on saying so.
    Wipe { broker: usize },
    /// A process starts and registers. It can show that nothing is lost, or not.
    Start { broker: usize, is_whole: bool },
    /// These suspects have answered, and the controller tries to elect the best of them.
    ElectBest { answers: [bool; BROKERS] },
}

/// One state.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct World {
    pub(crate) controller: Controller,
    pub(crate) brokers: [Broker; BROKERS],
    /// On their way, `acknowledgements[follower][leader]`: of the present session, and of one before.
    acknowledgements: [[[Option<FollowerFetch>; 2]; BROKERS]; BROKERS],
    proposals: [Option<Proposed>; BROKERS],
    /// What has been acknowledged to producers and read by consumers, in order.
    pub(crate) committed: Vec<Entry>,
    /// The newest leader epoch with a high watermark, and that.
    pub(crate) highest: (i32, Offset),
    /// A high watermark passed a record other than the one that had been committed there, or went back in its epoch.
    pub(crate) is_contradicted: bool,
    appended: u8,
    stops: u8,
    losses: u8,
    fences: u8,
    repeats: u8,
}

impl World {
    /// All brokers run; the first leads; nothing is written.
    pub(crate) fn new(bounds: &Bounds, fault: Option<Fault>) -> World {
        let controller = Controller::new(bounds, Fault::of_controller(fault));
        let mut world = World {
            brokers: std::array::from_fn(|broker| Broker {
                disk: Disk {
                    registration: controller.registration_of(broker),
                    ..Disk::default()
                },
                process: None,
            }),
            controller,
            acknowledgements: Default::default(),
            proposals: Default::default(),
            committed: Vec::new(),
            highest: (0, Offset::ZERO),
            is_contradicted: false,
            appended: 0,
            stops: 0,
            losses: 0,
            fences: 0,
            repeats: 0,
        };
        for broker in 0..bounds.brokers {
            world.begin(
                broker,
                world.controller.registration_of(broker),
                fault,
                bounds,
            );
        }
        world
    }

    /// The steps that are possible, some of which change nothing.
    pub(crate) fn actions(&self, bounds: &Bounds, actions: &mut Vec<Action>) {
        for broker in 0..bounds.brokers {
            match &self.brokers[broker].process {
                Some(process) => self.running(broker, process, bounds, actions),
                None => self.stopped(broker, bounds, actions),
            }
            if self.proposals[broker].is_some() {
                for is_answered in [true, false] {
                    actions.push(Action::Propose {
                        leader: broker,
                        is_answered,
                    });
                }
            }
            for leader in 0..bounds.brokers {
                for (at, message) in self.acknowledgements[broker][leader].iter().enumerate() {
                    if message.is_some() {
                        actions.push(Action::Acknowledge {
                            follower: broker,
                            leader,
                            is_late: at == 1,
                        });
                    }
                }
            }
        }
        if let Some(suspects) = candidates(self.controller.state()) {
            for chosen in 1_u32..(1 << suspects.len()) {
                let mut answers = [false; BROKERS];
                for (at, suspect) in suspects.iter().enumerate() {
                    answers[broker_of(*suspect)] = chosen & (1 << at) != 0;
                }
                actions.push(Action::ElectBest { answers });
            }
        }
    }

    fn running(
        &self,
        broker: usize,
        process: &Process,
        bounds: &Bounds,
        actions: &mut Vec<Action>,
    ) {
        let durable = self.brokers[broker].disk.log.len();
        if durable < process.log.len() {
            actions.push(Action::Flush { broker });
        }
        match &process.role {
            Role::Leader(leader) => {
                if self.appended < bounds.records && leader.has_enough_in_sync() {
                    actions.push(Action::Append { leader: broker });
                }
                actions.push(Action::Lag { leader: broker });
                if self.repeats < bounds.repeats {
                    actions.push(Action::Repeat { leader: broker });
                }
                let others = (0..bounds.brokers).filter(|other| *other != broker);
                actions.extend(others.map(|follower| Action::Push {
                    leader: broker,
                    follower,
                }));
            }
            Role::Follower(follower) => {
                if follower.leader().is_some() {
                    actions.push(Action::Connect { follower: broker });
                }
            }
        }
        actions.push(Action::Hear { broker });
        match self.controller.is_fenced(broker) {
            true => actions.push(Action::Unfence { broker }),
            false if self.fences < bounds.fences => actions.push(Action::Fence { broker }),
            false => {}
        }
        if self.stops < bounds.stops {
            actions.push(Action::Stop { broker });
            let surviving = durable..=process.log.len();
            actions.extend(surviving.map(|surviving| Action::Kill { broker, surviving }));
        }
    }

    fn stopped(&self, broker: usize, bounds: &Bounds, actions: &mut Vec<Action>) {
        let disk = &self.brokers[broker].disk;
        if !self.controller.is_fenced(broker) {
            actions.push(Action::Fence { broker });
        }
        if self.losses < bounds.losses {
            actions.push(Action::Wipe { broker });
            if !disk.log.is_empty() {
                actions.push(Action::Damage { broker });
                actions.push(Action::SetBack { broker });
            }
        }
        let may_be_whole = !disk.is_damaged;
        if may_be_whole {
            let is_whole = true;
            actions.push(Action::Start { broker, is_whole });
        }
        if !disk.is_clean {
            let is_whole = false;
            actions.push(Action::Start { broker, is_whole });
        }
    }

    /// The state after a step; `None` when it is not possible.
    pub(crate) fn next(
        &self,
        action: Action,
        bounds: &Bounds,
        fault: Option<Fault>,
    ) -> Option<World> {
        let mut world = self.clone();
        match action {
            Action::Append { leader } => world.append(leader),
            Action::Flush { broker } => world.flush(broker),
            Action::Push { leader, follower } => world.push(leader, follower)?,
            Action::Acknowledge {
                follower,
                leader,
                is_late,
            } => world.acknowledge(follower, leader, usize::from(is_late))?,
            Action::Connect { follower } => world.connect(follower)?,
            Action::Lag { leader } => {
                world.with_leader(leader, |leader| leader.handle_timeout(LATE))?
            }
            Action::Propose {
                leader,
                is_answered,
            } => world.propose(leader, is_answered)?,
            Action::Repeat { leader } => world.repeat(leader)?,
            Action::Hear { broker } => world.hear(broker, fault, bounds)?,
            Action::Fence { broker } => {
                world.fences += u8::from(world.brokers[broker].process.is_some());
                world.controller.fence(broker, true);
            }
            Action::Unfence { broker } => world.controller.fence(broker, false),
            Action::Kill { broker, surviving } => world.end(broker, surviving),
            Action::Stop { broker } => {
                let all = world.process(broker).log.len();
                world.end(broker, all);
                world.brokers[broker].disk.is_clean = true;
            }
            Action::Damage { broker } => {
                let disk = &mut world.brokers[broker].disk;
                disk.log.pop();
                disk.is_damaged = true;
                disk.is_clean = false;
                world.lost(broker)?;
            }
            Action::SetBack { broker } => {
                let disk = &mut world.brokers[broker].disk;
                disk.log.pop();
                disk.registration.0 -= 1;
                disk.is_clean = true;
                world.lost(broker)?;
            }
            Action::Wipe { broker } => {
                let disk = &mut world.brokers[broker].disk;
                disk.log.clear();
                disk.directory += 1;
                world.lost(broker)?;
            }
            Action::Start { broker, is_whole } => world.start(broker, is_whole, fault, bounds),
            Action::ElectBest { answers } => world.elect_best(answers)?,
        }
        world.forget_late_messages(fault);
        Some(world)
    }

    fn process(&self, broker: usize) -> &Process {
        let process = self.brokers[broker].process.as_ref();
        process.expect("the broker runs")
    }

    fn process_mut(&mut self, broker: usize) -> &mut Process {
        let process = self.brokers[broker].process.as_mut();
        process.expect("the broker runs")
    }

    /// Hands something to a leader's machine and does what it asks for. `None` if the broker does not lead.
    fn with_leader(&mut self, broker: usize, event: impl FnOnce(&mut LeaderReplica)) -> Option<()> {
        let process = self.brokers[broker].process.as_mut()?;
        let Role::Leader(leader) = &mut process.role else {
            return None;
        };
        event(leader);
        while let Some(output) = leader.poll_output() {
            match output {
                Output::ProposeIsr(proposal) => {
                    let broker_epoch = process.registration;
                    let before = self.proposals[broker].as_ref();
                    let is_twice = before.is_some_and(|before| before.proposal == proposal);
                    self.proposals[broker] = Some(Proposed {
                        broker_epoch,
                        proposal,
                        is_twice,
                    });
                }
                // Producers are answered and consumers woken.
                Output::HighWatermark(end) => {
                    let epoch = leader.leader_epoch().0;
                    let known = &process.log[..count(end).min(process.log.len())];
                    self.is_contradicted |= known.len() < count(end);
                    self.is_contradicted |= epoch == self.highest.0 && end < self.highest.1;
                    if epoch >= self.highest.0 {
                        self.highest = (epoch, end);
                    }
                    let both = known.len().min(self.committed.len());
                    self.is_contradicted |= known[..both] != self.committed[..both];
                    self.committed.extend(&known[both..]);
                }
            }
        }
        Some(())
    }

    /// Does what a follower's machine asks for, but for subscribing, which is a step of its own.
    fn settle_follower(&mut self, broker: usize) {
        let process = self.brokers[broker].process.as_mut();
        let process = process.expect("the broker runs");
        let Role::Follower(follower) = &mut process.role else {
            return;
        };
        while let Some(output) = follower.poll_output() {
            match output {
                FollowerOutput::Acknowledge(leader_epoch, fetch_offset) => {
                    let leader = follower.leader().expect("it has accepted this follower");
                    let fetch = FollowerFetch {
                        broker: broker_id(broker),
                        broker_epoch: process.registration,
                        leader_epoch,
                        fetch_offset,
                        // The controller judges that with newer knowledge.
                        eligible: true,
                    };
                    let [newest, late] = &mut self.acknowledgements[broker][broker_of(leader)];
                    let is_other = |before: &FollowerFetch| {
                        (before.broker_epoch, before.leader_epoch)
                            != (fetch.broker_epoch, fetch.leader_epoch)
                    };
                    let before = newest.replace(fetch);
                    *late = before.filter(is_other).or(*late);
                }
                FollowerOutput::HighWatermark(end) => {
                    let known = &process.log[..count(end)];
                    self.is_contradicted |= !self.committed.starts_with(known);
                }
                FollowerOutput::Subscribe(..) => {
                    follower.handle_disconnected();
                    return;
                }
                FollowerOutput::Truncate { to, .. } | FollowerOutput::StartOver(to) => {
                    process.log.truncate(count(to));
                    self.brokers[broker].disk.log.truncate(count(to));
                    follower.handle_truncated(to, last_epoch(&process.log));
                }
            }
        }
    }

    fn append(&mut self, broker: usize) {
        self.appended += 1;
        let id = self.appended;
        let process = self.process_mut(broker);
        let epoch = process.leader_epoch();
        process.log.push(Entry { epoch, id });
        let end = offset(process.log.len());
        let led = self.with_leader(broker, |leader| leader.handle_append(NOW, end));
        led.expect("only leaders append");
    }

    fn flush(&mut self, broker: usize) {
        let durable = self.brokers[broker].disk.log.len();
        let entry = self.process(broker).log[durable];
        self.brokers[broker].disk.log.push(entry);
        let end = offset(durable + 1);
        if let Role::Follower(follower) = &mut self.process_mut(broker).role {
            follower.handle_durable(end);
            self.settle_follower(broker);
        } else {
            let led = self.with_leader(broker, |leader| leader.handle_durable(NOW, end));
            led.expect("who does not follow leads");
        }
    }

    fn push(&mut self, leader: usize, follower: usize) -> Option<()> {
        let source = self.process(leader);
        let machine = source.leader()?;
        let target = self.brokers[follower].process.as_ref()?;
        if machine.session_of(broker_id(follower)) != Some(target.registration) {
            return None;
        }
        let base = target.log.len();
        let next = source.log.get(base).copied();
        let frame = Frame {
            leader_epoch: machine.leader_epoch(),
            base_offset: offset(base),
            end_offset: offset(base + usize::from(next.is_some())),
            last_epoch: next.map_or(LeaderEpoch::NONE, |entry| entry.epoch),
            high_watermark: machine.high_watermark(),
        };
        if source.log.len() < base {
            return None;
        }
        let process = self.process_mut(follower);
        let Role::Follower(machine) = &mut process.role else {
            return None;
        };
        // A refusal ends the connection: the follower hears nothing more of this leader.
        machine.handle_frame(frame).ok()?;
        process.log.extend(next);
        self.settle_follower(follower);
        Some(())
    }

    fn acknowledge(&mut self, follower: usize, leader: usize, at: usize) -> Option<()> {
        let fetch = self.acknowledgements[follower][leader][at].take()?;
        self.with_leader(leader, |machine| {
            // A refusal ends the connection; the follower subscribes anew.
            let _refused = machine.handle_follower_fetch(NOW, fetch);
        })
    }

    fn connect(&mut self, broker: usize) -> Option<()> {
        let Role::Follower(machine) = &mut self.process_mut(broker).role else {
            return None;
        };
        machine.handle_disconnected();
        loop {
            let process = self.brokers[broker].process.as_mut()?;
            let Role::Follower(machine) = &mut process.role else {
                return None;
            };
            let (leader, subscription) = match machine.poll_output()? {
                FollowerOutput::Subscribe(leader, subscription) => (leader, subscription),
                FollowerOutput::Truncate { to, .. } | FollowerOutput::StartOver(to) => {
                    process.log.truncate(count(to));
                    machine.handle_truncated(to, last_epoch(&process.log));
                    self.brokers[broker].disk.log.truncate(count(to));
                    continue;
                }
                FollowerOutput::HighWatermark(_) | FollowerOutput::Acknowledge(..) => {
                    unreachable!("a follower that is not subscribed tells nothing")
                }
            };
            let answer = self.ask(broker_of(leader), &subscription)?;
            let process = self.process_mut(broker);
            let own = match answer {
                SubscribeAnswer::Diverged(at) => epoch_end(&process.log, None, at.epoch),
                _ => None,
            };
            let Role::Follower(machine) = &mut process.role else {
                return None;
            };
            machine.handle_subscribe_answer(subscription.leader_epoch, answer, own);
            if machine.is_fetching() {
                self.settle_follower(broker);
                return Some(());
            }
        }
    }

    /// What a leader answers to a subscription; `None` if there is no answer, or a refusal.
    fn ask(&mut self, leader: usize, subscription: &Subscription) -> Option<SubscribeAnswer> {
        let process = self.brokers[leader].process.as_mut()?;
        let own = process.leader_epoch();
        let Role::Leader(machine) = &mut process.role else {
            return None;
        };
        let log = LeaderLog {
            log_start_offset: Offset::ZERO,
            epoch_end: epoch_end(&process.log, Some(own), subscription.last_epoch),
        };
        machine.handle_subscribe(subscription, log).ok()
    }

    fn propose(&mut self, leader: usize, is_answered: bool) -> Option<()> {
        let mut proposed = self.proposals[leader].take()?;
        let based_on = proposed.proposal.partition_epoch;
        let result = self.controller.alter(leader, &proposed);
        if proposed.is_twice {
            proposed.is_twice = false;
            self.proposals[leader] = Some(proposed);
        }
        if is_answered {
            // Nothing else has happened to the partition since that version: the leader knows what came before.
            self.with_leader(leader, |machine| {
                machine.handle_isr_result(NOW, based_on, result);
            })?;
        }
        Some(())
    }

    fn repeat(&mut self, leader: usize) -> Option<()> {
        self.repeats += 1;
        let based_on = self.process(leader).leader()?.partition_epoch();
        self.with_leader(leader, |machine| {
            machine.handle_isr_result(NOW, based_on, Err(IsrRefusal::NotNow));
            machine.handle_timeout(LATE);
        })
    }

    fn hear(&mut self, broker: usize, fault: Option<Fault>, bounds: &Bounds) -> Option<()> {
        let state = self.controller.state();
        let process = self.process(broker);
        let leads = state.leader == Some(broker_id(broker));
        match &process.role {
            Role::Leader(machine) if leads => {
                if machine.partition_epoch() >= state.partition_epoch {
                    return None;
                }
                let (replicas, isr) = (state.replicas.to_vec(), state.isr.to_vec());
                let assignment = Assignment {
                    leader_epoch: state.leader_epoch,
                    partition_epoch: state.partition_epoch,
                    replicas: &replicas,
                    isr: &isr,
                };
                self.with_leader(broker, |machine| machine.handle_metadata(NOW, assignment))
            }
            _ if process.leader_epoch() >= state.leader_epoch => None,
            _ => {
                let registration = process.registration;
                self.begin(broker, registration, fault, bounds);
                Some(())
            }
        }
    }

    /// A process takes the role that the newest metadata gives it.
    fn begin(
        &mut self,
        broker: usize,
        registration: BrokerEpoch,
        fault: Option<Fault>,
        bounds: &Bounds,
    ) {
        let state = self.controller.state().clone();
        let mut process = self.brokers[broker].process.take().unwrap_or_else(|| {
            let log = self.brokers[broker].disk.log.clone();
            let durable = log.len();
            let role = Process::fresh_follower(broker, registration, &log, durable, Offset::ZERO);
            Process {
                registration,
                log,
                role: Role::Follower(role),
            }
        });
        let high_watermark = process.high_watermark();
        let durable = self.brokers[broker].disk.log.len();
        if state.leader == Some(broker_id(broker)) {
            self.brokers[broker].process = Some(process);
            let (replicas, isr) = (state.replicas.to_vec(), state.isr.to_vec());
            let assignment = Assignment {
                leader_epoch: state.leader_epoch,
                partition_epoch: state.partition_epoch,
                replicas: &replicas,
                isr: &isr,
            };
            let mut leader = LeaderReplica::take_over(
                NOW,
                broker_id(broker),
                settings(bounds),
                assignment,
                self.brokers[broker].ends(),
                high_watermark,
            );
            if let Some(fault) = Fault::of_replica(fault) {
                leader.plant(fault);
            }
            self.process_mut(broker).role = Role::Leader(leader);
            let led = self.with_leader(broker, |_| {});
            led.expect("it has just begun to lead");
        } else {
            let mut follower = match process.role {
                Role::Follower(follower) => follower,
                Role::Leader(_) => Process::fresh_follower(
                    broker,
                    registration,
                    &process.log,
                    durable,
                    high_watermark,
                ),
            };
            if let Some(fault) = Fault::of_replica(fault) {
                follower.plant(fault);
            }
            follower.handle_leader(state.leader, state.leader_epoch);
            process.role = Role::Follower(follower);
            self.brokers[broker].process = Some(process);
            self.settle_follower(broker);
        }
    }

    fn end(&mut self, broker: usize, surviving: usize) {
        self.stops += 1;
        let process = self.brokers[broker].process.take();
        let process = process.expect("only what runs can end");
        self.brokers[broker].disk.log = process.log[..surviving].to_vec();
        // What was on its way to it is gone with its connections.
        self.proposals[broker] = None;
        for follower in 0..BROKERS {
            self.acknowledgements[follower][broker] = [None; 2];
        }
    }

    /// A disk has lost something. `None` if now nobody has what was acknowledged of those that the controller counts
    /// on: then nothing is promised any more.
    fn lost(&mut self, broker: usize) -> Option<()> {
        self.losses += 1;
        self.brokers[broker].disk.has_lost = true;
        let mut holders = self.controller.counted_on();
        let is_held = holders.any(|holder| self.brokers[holder].holds(&self.committed));
        is_held.then_some(())
    }

    fn start(&mut self, broker: usize, is_whole: bool, fault: Option<Fault>, bounds: &Bounds) {
        let disk = &mut self.brokers[broker].disk;
        let shown = Shown {
            directory: directory(broker, disk.directory),
            clean: disk.is_clean.then_some(disk.registration),
            witness: is_whole.then_some(disk.registration),
        };
        let registration = self.controller.register(broker, shown);
        disk.registration = registration;
        disk.is_clean = false;
        disk.is_damaged = false;
        disk.has_lost = false;
        self.begin(broker, registration, fault, bounds);
    }

    fn elect_best(&mut self, answers: [bool; BROKERS]) -> Option<()> {
        let mut logs = Vec::new();
        for broker in (0..BROKERS).filter(|broker| answers[*broker]) {
            let process = self.brokers[broker].process.as_ref()?;
            let disk = &self.brokers[broker].disk;
            logs.push(CandidateLog {
                broker: broker_id(broker),
                broker_epoch: process.registration,
                directory: directory(broker, disk.directory),
                last_epoch: last_epoch(&disk.log),
                log_end_offset: offset(disk.log.len()),
            });
        }
        self.controller.elect_best(&logs).then_some(())
    }

    /// What nobody would listen to any more makes no difference.
    fn forget_late_messages(&mut self, fault: Option<Fault>) {
        let any_session = fault == Some(Fault::Replica(PlantedFault::AnySession));
        for follower in 0..BROKERS {
            for leader in 0..BROKERS {
                let process = self.brokers[leader].process.as_ref();
                let machine = process.and_then(Process::leader);
                let is_served = |fetch: &FollowerFetch| {
                    machine.is_some_and(|machine| {
                        let session = machine.session_of(fetch.broker);
                        machine.leader_epoch() == fetch.leader_epoch
                            && session == Some(fetch.broker_epoch)
                    })
                };
                for slot in &mut self.acknowledgements[follower][leader] {
                    if !any_session && !slot.as_ref().is_some_and(is_served) {
                        *slot = None;
                    }
                }
            }
        }
    }
}

fn settings(bounds: &Bounds) -> LeaderSettings {
    LeaderSettings {
        min_insync_replicas: u32::try_from(bounds.min_isr).expect("three at most"),
        replica_lag_max: Duration::ZERO,
    }
}
