//! Performs a plan. A workload that fails is recorded and the run goes on; only a person ends it.

use std::time::{Duration, Instant};

use super::plan::Slot;
use super::{Entry, Journal, Plan, Step, Window};
use crate::drive::{DriveError, Limits, Measured, Peer, Rig, Server, Setup, Task};
use crate::workloads::{Durability, Group, Metric, Workload};

/// How long each kind of write to the device is measured.
const DEVICE_TIME: Duration = Duration::from_millis(500);
/// How often a window is measured until nothing disturbs it.
const ATTEMPTS: usize = 3;
/// Loads whose limit on the loopback is wanted.
const LOOPBACK: [&str; 6] = [
    "64x1KiB",
    "256x1KiB",
    "900x1KiB",
    "655x100B",
    "1x200B-8x64",
    "open-500x64KiB",
];
/// Shown while it runs.
const SHOWN: [Metric; 6] = [
    Metric::MbPerSecond,
    Metric::RequestsPerSecond,
    Metric::P99Ms,
    Metric::CpuSecondsPerGb,
    Metric::StartSeconds,
    Metric::KilledStartSeconds,
];

/// Performs what is not in the journal yet.
pub fn perform(
    rig: &Rig,
    plan: &Plan,
    warmup: Duration,
    journal: &mut Journal,
) -> Result<(), DriveError> {
    let mut run = Run {
        rig,
        warmup,
        journal,
        started: Instant::now(),
        expected: Duration::ZERO,
        left: Duration::ZERO,
    };
    let steps: Vec<Step> = plan
        .steps
        .iter()
        .filter_map(|step| run.open(step))
        .collect();
    let expected = steps.iter().map(|step| step.expected(run.window(), warmup));
    run.left = expected.sum();
    for step in &steps {
        run.step(step)?;
    }
    Ok(())
}

struct Run<'a> {
    rig: &'a Rig,
    warmup: Duration,
    journal: &'a mut Journal,
    started: Instant,
    /// What was expected of the time so far.
    expected: Duration,
    /// What is expected of the rest.
    left: Duration,
}

impl Run<'_> {
    /// The part of a step that is still to be done.
    fn open(&self, step: &Step) -> Option<Step> {
        match step {
            Step::Limits { number } => (!self.journal.has_limits(*number)).then(|| step.clone()),
            Step::Session {
                round,
                peer,
                group,
                slots,
            } => {
                let is_open = |slot: &&Slot| {
                    let name = slot.workload.name;
                    !self.journal.has(*round, *peer, slot.durability, name)
                };
                let slots: Vec<Slot> = slots.iter().filter(is_open).copied().collect();
                (!slots.is_empty()).then_some(Step::Session {
                    round: *round,
                    peer: *peer,
                    group: *group,
                    slots,
                })
            }
        }
    }

    fn window(&self) -> Duration {
        self.rig.window + self.rig.warmup
    }

    /// Something is done of which this was expected.
    fn pass(&mut self, expected: Duration) {
        self.expected += expected;
        self.left = self.left.saturating_sub(expected);
    }

    fn step(&mut self, step: &Step) -> Result<(), DriveError> {
        let overhead = step.overhead(self.warmup);
        match step {
            Step::Limits { number } => {
                self.limits(*number)?;
                self.pass(overhead);
            }
            Step::Session {
                round,
                peer,
                group,
                slots,
            } => {
                self.session(*round, *peer, *group, slots, overhead)?;
            }
        }
        Ok(())
    }

    fn limits(&mut self, number: usize) -> Result<(), DriveError> {
        self.say("the machine's limits: direct writes, then the loopback");
        let time = DEVICE_TIME.min(self.rig.window);
        let device = self.rig.device_limits(time);
        let loopback = self.rig.loopback_limits(&LOOPBACK);
        let limits = Limits {
            loopback: self.or_nothing(loopback)?,
            ..self.or_nothing(device)?
        };
        self.journal.append(Entry::Limits { number, limits })
    }

    /// A limit that cannot be measured is missing in the report.
    fn or_nothing<T: Default>(&self, result: Result<T, DriveError>) -> Result<T, DriveError> {
        match result {
            Err(error) if !error.is_interrupted() => {
                self.say(&format!("failed: {error}"));
                Ok(T::default())
            }
            other => other,
        }
    }

    fn session(
        &mut self,
        round: usize,
        peer: Peer,
        group: Group,
        slots: &[Slot],
        mut overhead: Duration,
    ) -> Result<(), DriveError> {
        let shared = slots.iter().any(|slot| !slot.workload.has_own_broker());
        let mut server = None;
        for slot in slots {
            let task = Task {
                workload: slot.workload,
                peer,
                durability: slot.durability,
                counting: false,
            };
            if shared && server.is_none() {
                server = self.started(peer, group)?;
            }
            self.pass(std::mem::take(&mut overhead));
            let measured = match &mut server {
                Some(server) => self.quietly(|| self.rig.measure_on(&task, server)),
                None if shared => Err(DriveError::Missing {
                    path: peer.name().into(),
                    hint: "it did not start",
                }),
                None => self.rig.measure_alone(&task),
            };
            if measured.is_err() {
                // Whatever state it is in, the next workload gets a fresh one.
                server = None;
            }
            self.record(round, &task, measured)?;
            self.pass(slot.expected(peer, self.window()));
        }
        Ok(())
    }

    /// A window in which something else used the machine is measured again; the quietest counts.
    fn quietly(
        &self,
        mut measure: impl FnMut() -> Result<Measured, DriveError>,
    ) -> Result<Measured, DriveError> {
        let mut quietest = measure()?;
        for _ in 1..ATTEMPTS {
            if !quietest.noise.is_noisy() {
                break;
            }
            self.say("measured again, for something else used the machine");
            let again = measure()?;
            if again.noise.percent() < quietest.noise.percent() {
                quietest = again;
            }
        }
        Ok(quietest)
    }

    /// A broker that was loaded for a while; none if that failed, which the windows then say.
    fn started(&mut self, peer: Peer, group: Group) -> Result<Option<Server>, DriveError> {
        let started = Server::start(self.rig, peer, &Setup::default()).map(|(server, _)| server);
        let warm = started.and_then(|mut server| {
            self.say(&format!(
                "{}: warming up for {:?}",
                peer.name(),
                self.warmup
            ));
            self.warm(&mut server, peer, group)?;
            Ok(server)
        });
        match warm {
            Ok(server) => Ok(Some(server)),
            Err(error) if error.is_interrupted() => Err(error),
            Err(error) => {
                self.say(&format!("{} did not start: {error}", peer.name()));
                Ok(None)
            }
        }
    }

    /// With what the group is going to do, so that Kafka's compiler has seen it and memory has been used before.
    fn warm(&self, server: &mut Server, peer: Peer, group: Group) -> Result<(), DriveError> {
        let names: &[&str] = match group {
            Group::Batches => &["64x1KiB", "655x100B"],
            Group::Requests => &["4x1KiB", "1x200B-8x64"],
            Group::Reads => &["fetch-1MiB", "fetch-4KiB"],
            Group::Starts => &[],
        };
        for workload in names.iter().filter_map(|name| Workload::named(name)) {
            let task = Task {
                workload,
                peer,
                durability: match peer {
                    Peer::Kafka => Durability::PageCache,
                    Peer::Ringlog => Durability::Flushed,
                },
                counting: false,
            };
            let time = self.warmup / u32::try_from(names.len()).unwrap_or(1);
            self.rig.warm_on(&task, server, time)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        round: usize,
        task: &Task<'_>,
        measured: Result<Measured, DriveError>,
    ) -> Result<(), DriveError> {
        let (loaded, failure, noise) = match measured {
            Ok(measured) => (Some(measured.loaded), None, measured.noise),
            Err(error) if error.is_interrupted() => return Err(error),
            Err(error) => (None, Some(error.to_string()), Default::default()),
        };
        let mut line = format!(
            "{} {} {}, round {}:",
            task.peer.name(),
            class_name(task.peer, task.durability),
            task.workload.name,
            round + 1
        );
        for (metric, value) in loaded.iter().flat_map(|loaded| &loaded.figures) {
            if SHOWN.contains(metric) {
                line += &format!("  {} {}", metric.format(*value), metric.title());
            }
        }
        if let Some(failure) = &failure {
            line += &format!("  FAILED: {failure}");
        }
        if noise.is_noisy() {
            line += "  (noisy)";
        }
        self.say(&line);
        self.journal.append(Entry::Window(Window {
            round,
            peer: task.peer,
            durability: task.durability,
            workload: task.workload.name.to_owned(),
            loaded,
            failure,
            noise,
        }))
    }

    /// A line with the time left.
    fn say(&self, line: &str) {
        let elapsed = self.started.elapsed().as_secs_f64();
        // Steps so far tell how far expectations are off; the first ones tell little.
        let expected = self.expected.as_secs_f64();
        let pace = if expected > 60.0 {
            elapsed / expected
        } else {
            1.0
        };
        let ahead = (elapsed - expected * pace).max(0.0);
        let left = (self.left.as_secs_f64() * pace - ahead).max(0.0);
        let left = Duration::from_secs_f64(left).as_secs();
        eprintln!("[{}:{:02} left] {line}", left / 60, left % 60);
    }
}

/// How a class is called.
fn class_name(peer: Peer, durability: Durability) -> &'static str {
    match (peer, durability) {
        (Peer::Kafka, Durability::PageCache) => "D1",
        (Peer::Kafka, Durability::Flushed) => "D2",
        (Peer::Ringlog, Durability::PageCache) => "written",
        (Peer::Ringlog, Durability::Flushed) => "flushed",
    }
}
