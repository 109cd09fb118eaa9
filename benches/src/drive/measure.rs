//! Performs a workload on a broker and brings the figures.

use super::{DriveError, Ending, Loaded, Moment, Noise, Peer, Rig, Server, Setup, Topic};
use crate::workloads::{Durability, Fetch, Figures, Metric, Shape, Workload};

/// What a topic may take on disk under a producing load, before its oldest segments go.
const TOPIC_BYTES_MAX: u64 = 4 << 30;
/// A topic that is read must stay whole.
const UNBOUNDED: u64 = 1 << 40;

/// A measurement, with what disturbed it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What came of it.
    pub loaded: Loaded,
    /// What else the machine did.
    pub noise: Noise,
}

/// What is measured, and how.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// The workload.
    pub workload: &'a Workload,
    /// The broker.
    pub peer: Peer,
    /// What its acknowledgements promise.
    pub durability: Durability,
    /// Whether system calls are counted meanwhile.
    pub counting: bool,
}

impl Rig {
    /// On a broker of its own.
    pub fn measure_alone(&self, task: &Task<'_>) -> Result<Measured, DriveError> {
        match task.workload.shape {
            Shape::Produce(_) => {
                let (mut server, _) = Server::start(self, task.peer, &Setup::default())?;
                self.measure_on(task, &mut server)
            }
            Shape::Fetch(fetch) => {
                let setup = Setup {
                    memory: fetch.memory,
                    ..Setup::default()
                };
                let (mut server, _) = Server::start(self, task.peer, &setup)?;
                self.measure_on(task, &mut server)
            }
            Shape::EmptyStart => self.empty_start(task),
            Shape::Population {
                partitions,
                descriptors,
            } => self.population(task, self.scaled(partitions), descriptors),
        }
    }

    /// On a broker that runs, in a topic that is deleted afterwards.
    pub fn measure_on(&self, task: &Task<'_>, server: &mut Server) -> Result<Measured, DriveError> {
        let name = topic_name(task);
        let (partitions, bytes_max) = match task.workload.shape {
            Shape::Produce(produce) => (produce.partitions, TOPIC_BYTES_MAX),
            Shape::Fetch(_) => (FETCH_PARTITIONS, UNBOUNDED),
            Shape::EmptyStart | Shape::Population { .. } => return self.measure_alone(task),
        };
        let topic = Topic {
            name: &name,
            partitions,
            durability: task.durability,
            bytes_max,
        };
        server.create_topic(self, task.peer, &topic)?;
        let words = self.prepare(task.workload.shape, server, &name)?;
        self.wait_for_quiet(Some(server.pid()))?;
        let before = Moment::now();
        let window = self.window_of(task.workload);
        let loaded = self.load(&words, &server.target(), window, task.counting)?;
        let noise = before.until_now(Some(server.pid()));
        server.delete_topic(self, &name)?;
        Ok(Measured { loaded, noise })
    }

    /// Loads a broker for a while, so that it is measured as it is later in its life.
    pub fn warm_on(
        &self,
        task: &Task<'_>,
        server: &mut Server,
        time: std::time::Duration,
    ) -> Result<(), DriveError> {
        let name = format!("warm-{}", topic_name(task));
        let topic = Topic {
            name: &name,
            partitions: FETCH_PARTITIONS,
            durability: task.durability,
            bytes_max: TOPIC_BYTES_MAX,
        };
        server.create_topic(self, task.peer, &topic)?;
        let words = self.prepare(task.workload.shape, server, &name)?;
        self.warm(&words, time)?;
        server.delete_topic(self, &name)
    }

    /// Fills the topic if it is to be read, or sees that it takes records; arguments of the load.
    fn prepare(
        &self,
        shape: Shape,
        server: &Server,
        topic: &str,
    ) -> Result<Vec<String>, DriveError> {
        let target = server.target();
        match shape {
            Shape::Fetch(fetch) => {
                // A topic that must not fit into memory cannot be made smaller.
                let fill_bytes = match fetch.memory {
                    None => self.scaled(fetch.fill_bytes),
                    Some(_) => fetch.fill_bytes,
                };
                let fetch = Fetch {
                    fill_bytes,
                    ..fetch
                };
                self.fill(&target, topic, &fetch)?;
                Ok(self.fetch_words(&target, topic, &fetch))
            }
            Shape::Produce(produce) => {
                // Kafka names the leaders of thousands of partitions some time before they take requests.
                self.touch(&target, topic, produce.partitions)?;
                Ok(self.produce_words(&target, topic, &produce))
            }
            Shape::EmptyStart | Shape::Population { .. } => Ok(Vec::new()),
        }
    }

    fn empty_start(&self, task: &Task<'_>) -> Result<Measured, DriveError> {
        self.wait_for_quiet(None)?;
        let before = Moment::now();
        let (server, started) = Server::start(self, task.peer, &Setup::default())?;
        let noise = before.until_now(Some(server.pid()));
        let figures = Figures::from([
            (Metric::StartSeconds, started.as_secs_f64()),
            (Metric::ResidentMb, server.resident_bytes()? / 1e6),
        ]);
        Ok(measured(figures, noise))
    }

    fn population(
        &self,
        task: &Task<'_>,
        partitions: u64,
        descriptors: Option<u64>,
    ) -> Result<Measured, DriveError> {
        self.wait_for_quiet(None)?;
        let before = Moment::now();
        let setup = Setup {
            descriptors,
            ..Setup::default()
        };
        let (mut server, _) = Server::start(self, task.peer, &setup)?;
        let empty = server.resident_bytes()?;
        let name = topic_name(task);
        let topic = Topic {
            name: &name,
            partitions,
            durability: task.durability,
            bytes_max: UNBOUNDED,
        };
        let created = server.create_topic(self, task.peer, &topic)?;
        self.touch(&server.target(), &name, partitions)?;
        let idle = self.idle_percent(server.pid())?;
        let resident = server.resident_bytes()?;
        let killed = server.restart(self, Ending::Killed, &name, partitions)?;
        let clean = server.restart(self, Ending::Stopped, &name, partitions)?;
        let per_partition = (resident - empty).max(0.0) / 1024.0 / partitions as f64;
        let figures = Figures::from([
            (Metric::CreatedSeconds, created.as_secs_f64()),
            (Metric::ResidentMb, resident / 1e6),
            (Metric::KibPerPartition, per_partition),
            (Metric::IdlePercent, idle),
            (Metric::KilledStartSeconds, killed.as_secs_f64()),
            (Metric::CleanStartSeconds, clean.as_secs_f64()),
        ]);
        let noise = before.until_now(Some(server.pid()));
        let mut measured = measured(figures, noise);
        if self.quick {
            let note = format!("{partitions} partitions only: a quick run");
            measured.loaded.notes.push(note);
        }
        Ok(measured)
    }

    /// CPU of a broker that nobody asks anything, in percent of a core.
    fn idle_percent(&self, pid: u32) -> Result<f64, DriveError> {
        let used = || {
            let usage = load::process::usage(Some(pid)).map_err(DriveError::io("/proc"));
            usage.map(|usage| usage.cpu_seconds)
        };
        // What the load has left to be done is not idleness.
        self.stop.sleep(self.warmup)?;
        let before = used()?;
        self.stop.sleep(self.window)?;
        Ok((used()? - before) / self.window.as_secs_f64() * 100.0)
    }
}

/// Partitions of a topic that is read.
const FETCH_PARTITIONS: u64 = 8;

fn measured(figures: Figures, noise: Noise) -> Measured {
    Measured {
        loaded: Loaded {
            figures,
            ..Loaded::default()
        },
        noise,
    }
}

/// Unlike for each measurement, because a deleted topic may take a while to go.
fn topic_name(task: &Task<'_>) -> String {
    let class = match task.durability {
        Durability::PageCache => "page-cache",
        Durability::Flushed => "flushed",
    };
    format!("{}-{class}", task.workload.name)
}
