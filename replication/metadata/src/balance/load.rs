//! How much each broker has, in shares of the whole.
//!
//! A replica counts twice: as one of all replicas, and by its bytes among all bytes. So a broker with many small replicas
//! and one with a few large ones carry the same, and partitions without bytes are spread, too.

use std::collections::BTreeMap;

use model::BrokerId;

use super::shape::{ClusterShape, PartitionShape};

/// All replicas, or all bytes, are this much.
const WHOLE: u128 = 1 << 40;

/// What brokers carry.
#[derive(Clone, Debug)]
pub(super) struct Loads {
    replicas: u128,
    bytes: u128,
    by_broker: BTreeMap<BrokerId, u128>,
}

impl Loads {
    pub(super) fn of(shape: &ClusterShape) -> Loads {
        let replicas: usize = shape.partitions.iter().map(|one| one.replicas.len()).sum();
        let bytes = shape.partitions.iter();
        let bytes: u128 = bytes
            .map(|one| u128::from(one.bytes) * one.replicas.len() as u128)
            .sum();
        let mut loads = Loads {
            replicas: replicas as u128,
            bytes,
            by_broker: shape.brokers.keys().map(|id| (*id, 0)).collect(),
        };
        for partition in &shape.partitions {
            for broker in &partition.replicas {
                *loads.by_broker.entry(*broker).or_default() += loads.weight(partition);
            }
        }
        loads
    }

    /// What a replica of this partition adds to a broker.
    pub(super) fn weight(&self, partition: &PartitionShape) -> u128 {
        let by_bytes = match self.bytes {
            0 => 0,
            all => u128::from(partition.bytes) * WHOLE / all,
        };
        WHOLE / self.replicas.max(1) + by_bytes
    }

    pub(super) fn at(&self, broker: BrokerId) -> u128 {
        self.by_broker.get(&broker).copied().unwrap_or_default()
    }

    /// A replica goes from one broker to another one.
    pub(super) fn shift(&mut self, weight: u128, from: BrokerId, to: BrokerId) {
        let giver = self.by_broker.get_mut(&from);
        let giver = giver.expect("a broker with a replica carries something");
        *giver = giver
            .checked_sub(weight)
            .expect("what it carries was added");
        *self.by_broker.entry(to).or_default() += weight;
    }
}
