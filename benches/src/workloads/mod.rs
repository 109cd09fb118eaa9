//! The workloads that brokers are measured with: one registry for `end-to-end` and `peers`.
//!
//! A workload says what to do (its shape), which figures matter, and which bars they are held against. How it is done
//! is in `drive`.

mod bar;
mod metric;
mod registry;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use bar::{Against, Bar, LIMIT_SHARE};
pub use metric::{Figures, Metric};
pub use registry::WORKLOADS;

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The records are in the kernel's memory: they survive the process, not the machine. Kafka's default. Class D1.
    PageCache,
    /// The records are on the device. Class D2 for Kafka (`flush.messages=1`), the default of Ringlog.
    Flushed,
}

/// A load of produce requests, one batch each.
#[derive(Clone, Copy, Debug)]
pub struct Produce {
    /// Records of a batch.
    pub batch_records: u64,
    /// Bytes of a record's value.
    pub record_bytes: u64,
    /// Connections.
    pub connections: u64,
    /// Unanswered requests of each.
    pub in_flight: u64,
    /// Partitions of the topic.
    pub partitions: u64,
    /// Requests per second, open loop; without it as fast as answers come.
    pub requests_per_second: Option<u64>,
    /// How long it is measured at least.
    pub window_min: Duration,
}

/// A load of fetch requests, one partition each, on a topic filled before.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    /// Records of each batch in the topic.
    pub batch_records: u64,
    /// Bytes of their values.
    pub record_bytes: u64,
    /// Bytes of the topic.
    pub fill_bytes: u64,
    /// Bytes asked for in one request.
    pub request_bytes: u64,
    /// Memory of the broker, if it is not to hold the topic.
    pub memory: Option<&'static str>,
}

/// What a workload does.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// Sends records.
    Produce(Produce),
    /// Reads records, again and again.
    Fetch(Fetch),
    /// Starts the broker in an empty directory.
    EmptyStart,
    /// Creates a topic, sends one small batch to each partition, idles, is killed and started, stopped and started.
    Population {
        /// Partitions of the topic.
        partitions: u64,
        /// Descriptors that the broker's process may have open, if limited.
        descriptors: Option<u64>,
    },
}

/// Workloads of `peers` that are measured in one go, on one broker, so that what is compared lies close in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Produce in large batches.
    Batches,
    /// Produce in small ones, and at a fixed rate.
    Requests,
    /// Fetch.
    Reads,
    /// Starting and holding partitions: each with a broker of its own.
    Starts,
}

/// Who takes part in a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contest {
    /// Not in `peers`: only end-to-end.
    None,
    /// Against Kafka, in both classes.
    Both(Group),
    /// Against Kafka as it is by default: its class makes no difference.
    Default(Group),
    /// Ringlog alone, unless Kafka is asked for.
    Alone(Group),
}

/// One workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Unique.
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    /// What it does.
    pub shape: Shape,
    /// The figures that matter in a comparison.
    pub shows: &'static [Metric],
    /// What they must reach.
    pub bars: &'static [Bar],
    /// Who takes part.
    pub contest: Contest,
}

impl Contest {
    /// The group, of those that are in `peers`.
    pub fn group(self) -> Option<Group> {
        match self {
            Contest::None => None,
            Contest::Both(group) | Contest::Default(group) | Contest::Alone(group) => Some(group),
        }
    }
}

impl Workload {
    /// The workload of that name.
    pub fn named(name: &str) -> Option<&'static Workload> {
        WORKLOADS.iter().find(|workload| workload.name == name)
    }

    /// Those of that name, or else all that have it in their names; all without one.
    pub fn chosen(filter: Option<&str>) -> Vec<&'static Workload> {
        let Some(filter) = filter else {
            return WORKLOADS.iter().collect();
        };
        if let Some(workload) = Workload::named(filter) {
            return vec![workload];
        }
        let contain = WORKLOADS.iter().filter(|w| w.name.contains(filter));
        contain.collect()
    }

    /// Whether it starts brokers of its own instead of using one that runs.
    pub fn has_own_broker(&self) -> bool {
        match self.shape {
            Shape::Produce(_) => false,
            Shape::Fetch(fetch) => fetch.memory.is_some(),
            Shape::EmptyStart | Shape::Population { .. } => true,
        }
    }

    /// How long it is measured at least, so that all that follows from the load is part of it.
    pub fn window_min(&self) -> Duration {
        match self.shape {
            Shape::Produce(produce) => produce.window_min,
            Shape::Fetch(_) | Shape::EmptyStart | Shape::Population { .. } => Duration::ZERO,
        }
    }

    /// The figures to show beside a peer of that class, each once: those that matter, and those with bars.
    pub fn metrics(&self, peer: Durability) -> Vec<Metric> {
        let bars = self.bars.iter().filter(|bar| bar.applies(peer));
        let mut metrics: Vec<Metric> = self.shows.to_vec();
        metrics.extend(bars.map(|bar| bar.metric()));
        metrics.sort_unstable();
        metrics.dedup();
        metrics
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        assert_eq!(names.len(), WORKLOADS.len());
        assert_eq!(Workload::chosen(Some("64x1KiB")).len(), 1);
        assert!(Workload::chosen(Some("fetch")).len() >= 3);
        assert!(Workload::chosen(Some("no such")).is_empty());
    }

    #[test]
    fn a_contest_of_two_classes_has_bars_for_classes_only_there() {
        for workload in WORKLOADS {
            let flushed = workload.bars.iter().any(|bar| {
                matches!(
                    bar,
                    Bar::TimesPeer(_, Durability::Flushed, _)
                        | Bar::ShareOfPeer(_, Durability::Flushed, _)
                )
            });
            let both = matches!(workload.contest, Contest::Both(_));
            assert!(both || !flushed, "{}", workload.name);
        }
    }
}
