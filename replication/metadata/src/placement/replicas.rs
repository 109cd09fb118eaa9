//! Brokers for the replicas of new partitions.
//!
//! Leaders go round the active brokers, racks alternating; followers prefer racks that the partition does not have yet
//! and shift by one each round, so that a lost broker's load spreads over all others. Fenced and drained brokers get replicas
//! only when the active ones do not suffice, and never the first (KIP-631).

use std::collections::BTreeMap;
use std::sync::Arc;

use model::BrokerId;

use crate::image::{BrokerRegistration, MetadataImage, Replicas};

/// Why replicas cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// More replicas than brokers.
    #[error(
        "the replication factor {wanted} cannot be reached: {registered} broker(s) are registered"
    )]
    TooFewBrokers {
        /// The replication factor.
        wanted: usize,
        /// Registered brokers.
        registered: usize,
    },
    /// No broker may lead.
    #[error("all brokers are fenced, shutting down or drained")]
    NoActiveBroker,
}

/// Replicas for `partition_count` new partitions of one topic, the first of which is number `first_partition`.
///
/// `start` shifts the whole pattern: give every topic its own (such as a hash of its id), and the same one again when
/// partitions are added. Each result's first broker is the preferred leader and is active.
pub fn place(
    image: &MetadataImage,
    start: u64,
    first_partition: usize,
    partition_count: usize,
    replication_factor: usize,
) -> Result<Vec<Replicas>, PlacementError> {
    let takes =
        |broker: &&Arc<BrokerRegistration>| broker.is_active() && !image.is_drained(broker.id);
    let active = alternate_racks(image.brokers().filter(takes));
    let inactive = alternate_racks(image.brokers().filter(|broker| !takes(broker)));
    let registered = active.len() + inactive.len();
    if replication_factor > registered {
        return Err(PlacementError::TooFewBrokers {
            wanted: replication_factor,
            registered,
        });
    }
    if active.is_empty() {
        return Err(PlacementError::NoActiveBroker);
    }
    let begin = (start % (active.len() as u64)) as usize;
    let placed = (first_partition..first_partition + partition_count)
        .map(|partition| place_one(&active, &inactive, begin + partition, replication_factor))
        .collect();
    Ok(placed)
}

/// A broker and its rack.
type Candidate<'a> = (BrokerId, Option<&'a str>);

/// Brokers ordered so that neighbours are in different racks as far as possible.
fn alternate_racks<'a>(
    brokers: impl Iterator<Item = &'a Arc<BrokerRegistration>>,
) -> Vec<Candidate<'a>> {
    let mut racks: BTreeMap<Option<&str>, Vec<BrokerId>> = BTreeMap::new();
    for broker in brokers {
        racks
            .entry(broker.rack.as_deref())
            .or_default()
            .push(broker.id);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    let mut order = Vec::new();
    for round in 0..longest {
        for (rack, ids) in &racks {
            order.extend(ids.get(round).map(|id| (*id, *rack)));
        }
    }
    order
}

fn place_one(
    active: &[Candidate<'_>],
    inactive: &[Candidate<'_>],
    turn: usize,
    replication_factor: usize,
) -> Replicas {
    let count = active.len();
    let (leader_at, round) = (turn % count, turn / count);
    let followers: Vec<Candidate<'_>> = (0..count - 1)
        .map(|step| active[(leader_at + 1 + (round + step) % (count - 1)) % count])
        .chain(inactive.iter().copied())
        .collect();
    let (leader, leader_rack) = active[leader_at];
    let mut replicas = Replicas::from_slice(&[leader]);
    let mut racks = vec![leader_rack];
    // New racks first, then anyone; a broker without a rack is a rack of its own only once.
    for any_rack in [false, true] {
        for (broker, rack) in &followers {
            if replicas.len() >= replication_factor {
                return replicas;
            }
            if !replicas.contains(broker) && (any_rack || !racks.contains(rack)) {
                replicas.push(*broker);
                racks.push(*rack);
            }
        }
    }
    replicas
}
