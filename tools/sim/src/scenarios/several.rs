//! Several brokers in one world, each a cluster of its own as long as brokers do not replicate: what a run with them is
//! drawn from.

use std::time::Duration;

use runtime::sim::Generator;

use super::{some, with_snapshot_settings};
use crate::atlas::{HARMS, Harm, Outage, Promise};
use crate::cluster::BrokerSettings;
use crate::nemesis::partitions::{SHAPES, Shape};
use crate::workload::WorkloadSettings;

/// Acts of the nemesis in one run.
const ACTS: (u64, u64) = (4, 16);
/// Longest waits of messages between shards, in microseconds.
const MAILBOX_MICROS: [u64; 3] = [50, 500, 5_000];

/// One broker of a run.
#[derive(Clone)]
pub struct MemberPlan {
    /// The broker; its number is filled in.
    pub broker: BrokerSettings,
    /// Its clients.
    pub workload: WorkloadSettings,
    /// What they are promised.
    pub promise: Promise,
}

/// A run of several brokers, as drawn.
#[derive(Clone)]
pub struct SeveralPlan {
    /// By node.
    pub members: Vec<MemberPlan>,
    /// What may happen to them in this run.
    pub harms: Vec<Harm>,
    /// How the network may be cut.
    pub shapes: Vec<Shape>,
    /// How much of a group may be away.
    pub outage: Outage,
    /// Acts of the nemesis.
    pub acts: u64,
    /// Bounds of the time between two acts, in microseconds.
    pub between_us: (u64, u64),
}

/// Two to five brokers, one of which may lose its disk: nothing is promised to its clients.
pub(super) fn draw(random: &Generator) -> SeveralPlan {
    let count = random.between(2, 5);
    let spare = random.one_in(2).then(|| random.below(count));
    let members = (0..count).map(|number| MemberPlan {
        broker: draw_broker(random),
        workload: draw_workload(random),
        promise: match Some(number) == spare {
            true => Promise::Nothing,
            false => Promise::Copies {
                replication_factor: 1,
                min_in_sync: 1,
                voters: 0,
            },
        },
    });
    SeveralPlan {
        members: members.collect(),
        harms: some(random, HARMS.to_vec()),
        shapes: some(random, SHAPES.to_vec()),
        // Of a single replica none may be away while it takes records.
        outage: Outage::Total,
        acts: random.between(ACTS.0, ACTS.1),
        between_us: (500, [5_000, 40_000, 120_000][random.index(3)]),
    }
}

fn draw_broker(random: &Generator) -> BrokerSettings {
    let broker = with_snapshot_settings(BrokerSettings::draw(random), random);
    let micros = MAILBOX_MICROS[random.index(MAILBOX_MICROS.len())];
    BrokerSettings {
        mailbox_delay: random.one_in(2).then_some(Duration::from_micros(micros)),
        ..broker
    }
}

/// Smaller than for one broker alone: a run has several of them.
fn draw_workload(random: &Generator) -> WorkloadSettings {
    let drawn = WorkloadSettings::draw(random);
    WorkloadSettings {
        plain_producers: 1,
        idempotent_producers: random.below(2) as u32,
        consumers: 1,
        topics: random.between(1, 2) as u32,
        ..drawn
    }
}
