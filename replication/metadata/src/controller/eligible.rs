//! Which replicas hold every acknowledged record of a partition (KIP-966).
//!
//! The high watermark stands still while the ISR is smaller than the effective `min.insync.replicas`. From then on
//! whoever was in the ISR holds everything below it, also after it has left: such replicas are eligible leaders (the
//! ELR). One of them whose log may have been damaged is a suspect: it holds everything only if its disk kept its word.
//! Kafka's field for suspects is `lastKnownElr`. A replica with another directory than before holds nothing.
//!
//! Invariants: the three lists have no broker in common; while the ISR has its minimum, the other two are empty,
//! because the high watermark then moves on without their members.

use std::sync::Arc;

use model::BrokerId;
use model::config::{Durability, Value, topic_key};

use crate::image::{ConfigMap, MetadataImage, PartitionState};
use crate::planted::PlantedFault;
use crate::record::{MetadataRecord, PartitionChangeRecord};

/// `min.insync.replicas` as a topic sets it.
///
/// A topic that sets none gets its leader's default, which the cluster does not know: 1 is assumed. To assume less
/// than the leader waits for is safe: a replica then ceases to be eligible sooner than it would have to.
pub fn min_insync_replicas(image: &MetadataImage, topic: &str) -> usize {
    minimum_of(image.topic_configs(topic).map(Arc::as_ref))
}

/// The same of the values that a topic has set, or will have.
pub(super) fn minimum_of(configs: Option<&ConfigMap>) -> usize {
    match configs.and_then(|configs| value_of(configs, "min.insync.replicas")) {
        Some(Value::Whole(minimum)) => usize::try_from(minimum).map_or(1, |minimum| minimum.max(1)),
        _ => 1,
    }
}

/// `ringlog.durability` as a topic sets it; `None` when its leader's default holds.
pub(super) fn durability(image: &MetadataImage, topic: &str) -> Option<Durability> {
    match value_of(image.topic_configs(topic)?, "ringlog.durability") {
        Some(Value::Text(text)) if text == "written" => Some(Durability::Written),
        Some(Value::Text(_)) => Some(Durability::Flushed),
        _ => None,
    }
}

/// The value of a key that a topic sets. One value that this program does not know, of whichever key, lets leaders fall
/// back to their defaults for all of them: then nothing counts as set.
fn value_of(configs: &ConfigMap, key: &str) -> Option<Value> {
    let mut found = None;
    for (name, text) in configs {
        let value = topic_key(name).ok()?.parse(text).ok()?;
        if name == key {
            found = Some(value);
        }
    }
    found
}

/// The effective minimum of a partition: it cannot be more than there are replicas.
pub(super) fn min_isr_effective(
    image: &MetadataImage,
    minimum: usize,
    state: &PartitionState,
) -> usize {
    if image.is_planted(PlantedFault::EligibleForever) {
        return usize::MAX;
    }
    minimum.min(state.replicas.len()).max(1)
}

/// The changes of a topic's partitions when its minimum becomes another: where the ISR has the new one, the high
/// watermark moves from then on, and nobody but the ISR keeps up with it. In one batch with the new value, so that no
/// leader moves it while others are still eligible.
pub(super) fn after_new_minimum(
    image: &MetadataImage,
    topic: &str,
    minimum: usize,
) -> Vec<MetadataRecord> {
    let Some(topic) = image.topic_by_name(topic) else {
        return Vec::new();
    };
    let change = |(partition, state): (_, &PartitionState)| {
        let min_isr = min_isr_effective(image, minimum, state);
        let nothing = PartitionChangeRecord {
            partition_id: partition,
            topic_id: topic.id(),
            ..PartitionChangeRecord::default()
        };
        let mut change = nothing.clone();
        let holders = Holders::of(state).settled(min_isr);
        holders.record(state, &mut change);
        (change != nothing).then_some(MetadataRecord::PartitionChange(change))
    };
    topic.partitions().filter_map(change).collect()
}

/// What a replica that leaves takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// Its log stays as it is.
    Whole,
    /// Its log may have lost its end.
    Suspect,
    /// The directory that its log was in is gone.
    Wiped,
}

/// Who holds what was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holders {
    pub(super) isr: Vec<BrokerId>,
    pub(super) eligible: Vec<BrokerId>,
    pub(super) suspects: Vec<BrokerId>,
}

impl Holders {
    pub(super) fn of(state: &PartitionState) -> Holders {
        Holders {
            isr: state.isr.to_vec(),
            eligible: state.eligible_leader_replicas().to_vec(),
            suspects: state.last_known_elr().to_vec(),
        }
    }

    /// One replica leaves the ISR, or what is known of it gets worse.
    pub(super) fn without(mut self, broker: BrokerId, departure: Departure) -> Holders {
        let held = self.isr.contains(&broker) || self.eligible.contains(&broker);
        let suspected = self.suspects.contains(&broker);
        let others = |list: &mut Vec<BrokerId>| list.retain(|member| *member != broker);
        others(&mut self.isr);
        match departure {
            Departure::Whole => {
                if held && !self.eligible.contains(&broker) {
                    self.eligible.push(broker);
                }
            }
            Departure::Suspect => {
                others(&mut self.eligible);
                if held && !suspected {
                    self.suspects.push(broker);
                }
            }
            Departure::Wiped => {
                others(&mut self.eligible);
                others(&mut self.suspects);
            }
        }
        self
    }

    /// The ISR becomes this one, because its members say so or because one of them is elected.
    pub(super) fn with_isr(mut self, isr: Vec<BrokerId>) -> Holders {
        for member in &self.isr {
            if !self.eligible.contains(member) {
                self.eligible.push(*member);
            }
        }
        self.eligible.retain(|member| !isr.contains(member));
        self.suspects.retain(|member| !isr.contains(member));
        self.isr = isr;
        self
    }

    /// A replica leads that may lack acknowledged records: all others are cut to what it has.
    pub(super) fn unclean(leader: BrokerId) -> Holders {
        Holders {
            isr: vec![leader],
            eligible: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// With the minimum in sync the high watermark moves, and whoever is not in sync is left behind.
    pub(super) fn settled(mut self, min_isr: usize) -> Holders {
        if self.isr.len() >= min_isr {
            self.eligible.clear();
            self.suspects.clear();
        }
        self
    }

    /// States in a record what of this is new.
    pub(super) fn record(self, state: &PartitionState, change: &mut PartitionChangeRecord) {
        if self.isr.as_slice() != state.isr.as_slice() {
            change.isr = Some(self.isr);
        }
        if self.eligible.as_slice() != state.eligible_leader_replicas() {
            change.eligible_leader_replicas = Some(self.eligible);
        }
        if self.suspects.as_slice() != state.last_known_elr() {
            change.last_known_elr = Some(self.suspects);
        }
    }
}
