//! A cluster as far as balance is concerned: who may take replicas, and who has which.

use std::collections::{BTreeMap, BTreeSet};

use model::{BrokerId, TopicPartition};

use crate::image::{MetadataImage, Replicas};

/// Whether a broker may have replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has replicas and takes more.
    Active,
    /// It is away, for a while: it keeps what it has and takes nothing.
    Away,
    /// It gives away what it has.
    Drained,
    /// It was away for too long, or is not known any more: what it had is rebuilt elsewhere.
    Lost,
}

impl Standing {
    /// Whether its replicas are to go elsewhere.
    pub fn must_leave(self) -> bool {
        matches!(self, Standing::Drained | Standing::Lost)
    }
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerShape {
    /// `broker.rack`.
    pub rack: Option<String>,
    /// Whether it may have replicas.
    pub standing: Standing,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionShape {
    /// Which one.
    pub id: TopicPartition,
    /// Who has replicas when what moves has arrived; the preferred leader first.
    pub replicas: Replicas,
    /// Who has them now.
    pub before: Replicas,
    /// Whether it is on its way.
    pub is_moving: bool,
    /// Whether somebody leads it.
    pub has_leader: bool,
    /// Whether all of its replicas are in sync.
    pub is_whole: bool,
    /// Bytes of a replica, as far as they are known.
    pub bytes: u64,
}

/// What a plan is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterShape {
    /// All that are known.
    pub brokers: BTreeMap<BrokerId, BrokerShape>,
    /// All, in their order.
    pub partitions: Vec<PartitionShape>,
}

impl ClusterShape {
    /// The shape of an image. `lost` are brokers that were away for too long; `bytes` is asked for the size of a partition.
    pub fn of_image(
        image: &MetadataImage,
        lost: &BTreeSet<BrokerId>,
        bytes: &dyn Fn(TopicPartition) -> u64,
    ) -> ClusterShape {
        let brokers = image.brokers().map(|broker| {
            let shape = BrokerShape {
                rack: broker.rack.clone(),
                standing: standing_of(
                    broker.is_active(),
                    image.is_drained(broker.id),
                    lost.contains(&broker.id),
                ),
            };
            (broker.id, shape)
        });
        let partitions = image.partitions().map(|(id, state)| {
            let removing = state.removing_replicas();
            let stays = |broker: &&BrokerId| !removing.contains(broker);
            PartitionShape {
                id,
                replicas: state.replicas.iter().filter(stays).copied().collect(),
                before: state.replicas.clone(),
                is_moving: !removing.is_empty() || !state.adding_replicas().is_empty(),
                has_leader: state.leader.is_some(),
                is_whole: state.isr.len() == state.replicas.len(),
                bytes: bytes(id),
            }
        });
        ClusterShape {
            brokers: brokers.collect(),
            partitions: partitions.collect(),
        }
    }

    /// What a broker is that a partition names.
    pub fn standing(&self, broker: BrokerId) -> Standing {
        let known = self.brokers.get(&broker);
        known.map_or(Standing::Lost, |known| known.standing)
    }

    /// Partitions on their way.
    pub fn moving(&self) -> usize {
        let moving = |partition: &&PartitionShape| partition.is_moving;
        self.partitions.iter().filter(moving).count()
    }

    pub(super) fn rack(&self, broker: BrokerId) -> Option<&str> {
        self.brokers.get(&broker)?.rack.as_deref()
    }

    /// How many racks these brokers are in. A broker that has none is in one with the others of that kind.
    pub(super) fn racks(&self, brokers: &[BrokerId]) -> usize {
        let racks: BTreeSet<Option<&str>> = brokers.iter().map(|id| self.rack(*id)).collect();
        racks.len()
    }

    /// Brokers that take replicas.
    pub(super) fn takers(&self) -> impl Iterator<Item = BrokerId> {
        let takes = |broker: &&BrokerShape| broker.standing == Standing::Active;
        let brokers = self.brokers.iter();
        brokers
            .filter(move |(_, broker)| takes(broker))
            .map(|(id, _)| *id)
    }
}

/// What a broker is that is active or not, drained or not, and was away for too long or not.
pub fn standing_of(is_active: bool, is_drained: bool, is_lost: bool) -> Standing {
    match (is_lost, is_drained, is_active) {
        (true, ..) => Standing::Lost,
        (_, true, _) => Standing::Drained,
        (_, _, true) => Standing::Active,
        (_, _, false) => Standing::Away,
    }
}
