//! The registry of scenarios. Each draws from the seed what may go wrong and how often ("swarm": every seed has its own
//! settings and its own part of the faults).
//!
//! Adding one is one function and one entry of [`SCENARIOS`]; CI plays what the entry says.

mod several;

use std::time::Duration;

use model::record::Compression;
use runtime::sim::{Fault, FaultRule, Generator};

use crate::cluster::BrokerSettings;
use crate::workload::WorkloadSettings;

pub use self::several::{MemberPlan, SeveralPlan};

/// How a life of the broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The machine loses power: only what was flushed stays for sure.
    PowerCut,
    /// `kill -9`: completed writes stay.
    Kill,
    /// SIGTERM.
    Clean,
}

/// Something that goes wrong for a while and then is well again.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Of the broker's disk, while it runs; the node is filled in.
    Disk(FaultRule),
    /// The disk has only so many bytes more than it holds.
    Full(u64),
    /// No packets from the broker to the clients, the other way round, or neither.
    Cut {
        /// To the broker.
        requests: bool,
        /// From the broker.
        answers: bool,
    },
    /// Every connection is reset once.
    Reset,
    /// Some connections are reset while they send; in a million.
    Resets(u32),
    /// Slow packets: this many microseconds at most.
    Delay(u64),
}

/// What a run does between the start and the last reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Lives of the broker with troubles in them; all is made well at the end.
    Lives,
    /// The disk fills up and is never enlarged: see `run/full_disk.rs`.
    FullDisk,
    /// Topics and records are deleted while the journal is nearly full: see `run/many_deletions.rs`.
    ManyDeletions,
}

/// One run, as drawn.
#[derive(Clone)]
pub struct Plan {
    /// What happens.
    pub course: Course,
    /// The broker.
    pub broker: BrokerSettings,
    /// The clients.
    pub workload: WorkloadSettings,
    /// Lives of the broker, or rounds of another course; at least 1.
    pub lives: u64,
    /// Bounds of one life in microseconds.
    pub life_us: (u64, u64),
    /// How lives end; empty: they do not, and `lives` only counts troubles.
    pub stops: Vec<Stop>,
    /// Whether starts are sometimes cut short, too.
    pub stop_in_recovery: bool,
    /// Whether the count of shards changes between lives.
    pub reshard: bool,
    /// What may go wrong during a life; one of them at a time.
    pub troubles: Vec<Trouble>,
}

/// A named scenario.
pub struct Scenario {
    /// As on the command line.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// How many seeds `cargo xtask ci` plays, from seed 0 on. Counts share its minutes: a scenario that plays slowly has
    /// fewer.
    pub ci_seeds: u64,
    /// Draws a run.
    pub draw: Draw,
}

/// What a scenario is about.
#[derive(Clone, Copy)]
pub enum Draw {
    /// One broker.
    One(fn(&Generator) -> Plan),
    /// Several in one world.
    Several(fn(&Generator) -> SeveralPlan),
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "power-cut",
        about: "the power fails at random moments, also during recovery and after kills",
        ci_seeds: 500,
        draw: Draw::One(power_cut),
    },
    Scenario {
        name: "kill",
        about: "kill -9 at random moments, also during recovery",
        ci_seeds: 500,
        draw: Draw::One(kill),
    },
    Scenario {
        name: "disk-faults",
        about: "writes, flushes and reads fail, the disk is full or slow",
        ci_seeds: 500,
        draw: Draw::One(disk_faults),
    },
    Scenario {
        name: "network",
        about: "connections are reset, cut one way or both, delayed",
        ci_seeds: 500,
        draw: Draw::One(network),
    },
    Scenario {
        name: "shards",
        about: "restarts with another count of shards, after every kind of stop",
        ci_seeds: 500,
        draw: Draw::One(shards),
    },
    Scenario {
        name: "full-disk",
        about: "the disk fills up and is never enlarged; deletion and expiry make room, the broker is restarted",
        ci_seeds: 300,
        draw: Draw::One(full_disk),
    },
    Scenario {
        name: "many-deletions",
        about: "topics and records are deleted while the journal is nearly full and segments hang",
        ci_seeds: 300,
        draw: Draw::One(many_deletions),
    },
    Scenario {
        name: "several",
        about: "two to five brokers that do not know each other, and a nemesis; somebody looks into all of them",
        ci_seeds: 100,
        draw: Draw::Several(several::draw),
    },
];

/// The scenario of a name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

fn base(random: &Generator) -> Plan {
    Plan {
        course: Course::Lives,
        broker: BrokerSettings::draw(random),
        workload: WorkloadSettings::draw(random),
        lives: random.between(2, 4),
        life_us: (1_000, [20_000, 60_000, 150_000][random.index(3)]),
        stops: Vec::new(),
        stop_in_recovery: false,
        reshard: false,
        troubles: Vec::new(),
    }
}

/// Some of `all`, in order.
fn some<T>(random: &Generator, all: Vec<T>) -> Vec<T> {
    all.into_iter().filter(|_| random.one_in(2)).collect()
}

/// Snapshots of the metadata log: all the time, now and then, or none.
fn with_snapshots(plan: Plan, random: &Generator) -> Plan {
    Plan {
        broker: with_snapshot_settings(plan.broker, random),
        ..plan
    }
}

fn with_snapshot_settings(broker: BrokerSettings, random: &Generator) -> BrokerSettings {
    let bytes = ["300", "4000", "20971520"][random.index(3)];
    let settings = [
        ("metadata.log.max.record.bytes.between.snapshots", bytes),
        ("metadata.log.max.snapshot.interval.ms", "2000"),
    ];
    broker.with(&settings)
}

fn slow_disk() -> Trouble {
    Trouble::Disk(FaultRule::new(Fault::Slow).per_million(20_000))
}

fn power_cut(random: &Generator) -> Plan {
    let troubles = vec![slow_disk(), Trouble::Reset, Trouble::Delay(5_000)];
    // What a killed run has written and not flushed is read by the next one, and may go with the power after that.
    let stops = match random.one_in(3) {
        true => vec![Stop::PowerCut, Stop::Kill],
        false => vec![Stop::PowerCut],
    };
    let plan = Plan {
        stops,
        stop_in_recovery: random.one_in(2),
        troubles: some(random, troubles),
        ..base(random)
    };
    with_snapshots(plan, random)
}

fn kill(random: &Generator) -> Plan {
    let troubles = vec![slow_disk(), Trouble::Reset, Trouble::Delay(5_000)];
    let mut plan = Plan {
        stops: vec![Stop::Kill],
        stop_in_recovery: random.one_in(2),
        troubles: some(random, troubles),
        ..base(random)
    };
    plan.workload.written_topics = random.one_in(2);
    with_snapshots(plan, random)
}

fn disk_faults(random: &Generator) -> Plan {
    let rule = FaultRule::new;
    let all = vec![
        Trouble::Disk(rule(Fault::WriteError).path("journal").times(1)),
        Trouble::Disk(rule(Fault::WriteError).per_million(50_000).times(3)),
        Trouble::Disk(rule(Fault::SyncError).per_million(200_000).times(1)),
        Trouble::Disk(rule(Fault::ReadError).per_million(200_000)),
        Trouble::Disk(rule(Fault::NoSpace).per_million(200_000)),
        Trouble::Disk(rule(Fault::Hang).per_million(20_000)),
        slow_disk(),
        Trouble::Full(random.below(300) << 10),
    ];
    let mut troubles = some(random, all.clone());
    if troubles.is_empty() {
        troubles = all;
    }
    let plan = Plan {
        lives: random.between(2, 4),
        stops: if random.one_in(2) {
            vec![]
        } else {
            vec![Stop::Kill, Stop::PowerCut]
        },
        troubles,
        ..base(random)
    };
    with_snapshots(plan, random)
}

fn network(random: &Generator) -> Plan {
    let cut = |requests, answers| Trouble::Cut { requests, answers };
    let all = vec![
        cut(true, true),
        cut(true, false),
        cut(false, true),
        Trouble::Reset,
        Trouble::Resets(50_000),
        Trouble::Delay(20_000),
    ];
    let mut troubles = some(random, all.clone());
    if troubles.is_empty() {
        troubles = all;
    }
    let mut plan = Plan {
        lives: random.between(3, 6),
        troubles,
        ..base(random)
    };
    plan.workload.written_topics = random.one_in(3);
    plan
}

fn shards(random: &Generator) -> Plan {
    let plan = Plan {
        stops: vec![Stop::PowerCut, Stop::Kill, Stop::Clean],
        stop_in_recovery: random.one_in(3),
        reshard: true,
        troubles: some(random, vec![Trouble::Reset, slow_disk()]),
        ..base(random)
    };
    with_snapshots(plan, random)
}

/// A broker whose retention looks every second, and clients that mostly read: the course itself fills the disk.
fn pressed(random: &Generator) -> Plan {
    let mut plan = Plan {
        lives: random.between(1, 3),
        ..base(random)
    };
    plan.broker.storage.retention_check_interval = Duration::from_secs(1);
    plan.workload.idempotent_producers = random.below(2) as u32;
    plan.workload.consumers = 1;
    plan.workload.topic_churn = false;
    plan.workload.delete_records = false;
    // Sizes on the wire are sizes on the disk.
    plan.workload.codecs = vec![Compression::None];
    plan.workload.segment_ms = vec![3_600_000];
    plan
}

fn full_disk(random: &Generator) -> Plan {
    let mut plan = Plan {
        course: Course::FullDisk,
        stops: some(random, vec![Stop::PowerCut, Stop::Kill, Stop::Clean]),
        ..pressed(random)
    };
    // The course fills the disk. What others have under way when it ends must fit into the room it leaves.
    plan.workload.plain_producers = 0;
    plan.workload.value_bytes_max = 64;
    with_snapshots(plan, random)
}

fn many_deletions(random: &Generator) -> Plan {
    let mut plan = Plan {
        course: Course::ManyDeletions,
        stops: some(random, vec![Stop::PowerCut, Stop::Kill]),
        ..pressed(random)
    };
    plan.workload.value_bytes_max = [700, 4_000][random.index(2)];
    plan.workload.records_max = random.between(4, 8);
    with_snapshots(plan, random)
}
