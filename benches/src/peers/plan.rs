//! What is measured in which order.
//!
//! Each group of workloads is a block of rounds; in each round either broker runs once, and the order alternates:
//! A-B-B-A. The figures of one round are a pair. The machine's limits are measured at both ends.

use std::time::Duration;

use crate::drive::Peer;
use crate::workloads::{Contest, Durability, Group, Workload};

/// What a window costs beside its own time: creating a topic, waiting for quiet, deleting.
const WINDOW_OVERHEAD: Duration = Duration::from_secs(3);
/// What a broker costs before it can be loaded.
const START: Duration = Duration::from_secs(5);
/// What a workload with its own broker takes, by broker.
const ALONE: [Duration; 2] = [Duration::from_secs(40), Duration::from_secs(15)];
/// What measuring the machine's limits takes.
const LIMITS: Duration = Duration::from_secs(75);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// Rounds.
    pub pairs: usize,
    /// Workloads, of which those that are in a contest are measured.
    pub workloads: Vec<&'static Workload>,
    /// Whether Kafka also does what Ringlog is to do alone.
    pub kafka_everywhere: bool,
    /// Whether the machine's limits are measured.
    pub limits: bool,
}

/// One window of a session.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// What to do.
    pub workload: &'static Workload,
    /// What the broker promises meanwhile.
    pub durability: Durability,
}

/// One step of a run.
#[derive(Clone, Debug)]
pub enum Step {
    /// The machine's limits.
    Limits {
        /// 0 at the begin, 1 at the end.
        number: usize,
    },
    /// One broker, one group.
    Session {
        /// Which round.
        round: usize,
        /// Which broker.
        peer: Peer,
        /// Which group.
        group: Group,
        /// What to do with it.
        slots: Vec<Slot>,
    },
}

/// All steps, in order.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// In order.
    pub steps: Vec<Step>,
}

impl Plan {
    /// From what is asked for.
    pub fn new(options: &PlanOptions) -> Plan {
        let mut steps = Vec::new();
        if options.limits {
            steps.push(Step::Limits { number: 0 });
        }
        for group in [Group::Batches, Group::Requests, Group::Reads, Group::Starts] {
            for round in 0..options.pairs {
                for peer in order(round) {
                    let slots = slots(options, group, peer);
                    if !slots.is_empty() {
                        steps.push(Step::Session {
                            round,
                            peer,
                            group,
                            slots,
                        });
                    }
                }
            }
        }
        if options.limits {
            steps.push(Step::Limits { number: 1 });
        }
        Plan { steps }
    }
}

impl Slot {
    /// About how long it takes.
    pub fn expected(&self, peer: Peer, window: Duration) -> Duration {
        if self.workload.has_own_broker() {
            ALONE[usize::from(peer == Peer::Ringlog)]
        } else {
            let long = self.workload.window_min();
            window.max(long + long / 10) + WINDOW_OVERHEAD
        }
    }
}

impl Step {
    /// About how long it takes, but for its windows.
    pub fn overhead(&self, warmup: Duration) -> Duration {
        match self {
            Step::Limits { .. } => LIMITS,
            Step::Session { slots, .. } => {
                let shared = slots.iter().any(|slot| !slot.workload.has_own_broker());
                START + if shared { warmup } else { Duration::ZERO }
            }
        }
    }

    /// About how long it takes.
    pub fn expected(&self, window: Duration, warmup: Duration) -> Duration {
        let windows = match self {
            Step::Limits { .. } => Duration::ZERO,
            Step::Session { peer, slots, .. } => {
                slots.iter().map(|slot| slot.expected(*peer, window)).sum()
            }
        };
        self.overhead(warmup) + windows
    }
}

/// A-B, then B-A, and again.
fn order(round: usize) -> [Peer; 2] {
    if round.is_multiple_of(2) {
        [Peer::Kafka, Peer::Ringlog]
    } else {
        [Peer::Ringlog, Peer::Kafka]
    }
}

fn slots(options: &PlanOptions, group: Group, peer: Peer) -> Vec<Slot> {
    let mut slots = Vec::new();
    for workload in &options.workloads {
        if workload.contest.group() != Some(group) {
            continue;
        }
        let durabilities: &[Durability] = match (peer, workload.contest) {
            (Peer::Ringlog, _) => &[Durability::Flushed],
            (Peer::Kafka, Contest::Both(_)) => &[Durability::PageCache, Durability::Flushed],
            (Peer::Kafka, Contest::Default(_)) => &[Durability::PageCache],
            (Peer::Kafka, Contest::Alone(_)) if options.kafka_everywhere => {
                &[Durability::PageCache]
            }
            (Peer::Kafka, Contest::Alone(_) | Contest::None) => &[],
        };
        slots.extend(durabilities.iter().map(|durability| Slot {
            workload,
            durability: *durability,
        }));
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(filter: Option<&str>) -> PlanOptions {
        PlanOptions {
            pairs: 2,
            workloads: Workload::chosen(filter),
            kafka_everywhere: false,
            limits: true,
        }
    }

    #[test]
    fn brokers_take_turns_a_b_b_a_in_each_group() {
        let plan = Plan::new(&options(Some("64x1KiB")));
        let peers: Vec<(Peer, usize)> = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::Session { peer, slots, .. } => Some((*peer, slots.len())),
                Step::Limits { .. } => None,
            })
            .collect();
        let (kafka, ringlog) = ((Peer::Kafka, 2), (Peer::Ringlog, 1));
        assert_eq!(peers, [kafka, ringlog, ringlog, kafka]);
        assert!(matches!(plan.steps[0], Step::Limits { number: 0 }));
        assert!(matches!(plan.steps[5], Step::Limits { number: 1 }));
    }

    #[test]
    fn all_of_it_takes_less_than_forty_minutes() {
        let window = Duration::from_millis(9500);
        let plan = Plan::new(&options(None));
        let expected = plan.steps.iter();
        let expected = expected.map(|step| step.expected(window, Duration::from_secs(30)));
        let total: Duration = expected.sum();
        assert!(total < Duration::from_secs(40 * 60), "{total:?}");
    }
}
