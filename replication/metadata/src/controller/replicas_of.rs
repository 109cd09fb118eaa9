//! What becomes of the partitions that a broker has replicas of, when it comes or goes.
//!
//! One pass over the partitions; a record for each that changes, and for no other.

use model::{BrokerId, TopicPartition};

use super::election::{Election, ElectionKind};
use super::eligible::{Departure, Holders, durability, min_insync_replicas, min_isr_effective};
use super::last_stop::LastStop;
use super::moves::completed;
use crate::image::{MetadataImage, PartitionState, Topic};
use crate::planted::PlantedFault;
use crate::record::{MetadataRecord, PartitionChangeRecord, Uuid};

/// A broker leaves: it is fenced, shuts down, or is forgotten. It leads nothing then, and is in no ISR.
pub(super) fn left(
    image: &MetadataImage,
    broker: BrokerId,
    allow_unclean: &dyn Fn(&str) -> bool,
) -> Vec<MetadataRecord> {
    let may_lead: &dyn Fn(BrokerId) -> bool = &|id| id != broker && image.is_active(id);
    changes_of(image, broker, |topic| {
        let min = min_insync_replicas(image, topic.name());
        let kind = kind_of(topic, allow_unclean);
        move |id, state: &PartitionState| {
            if !state.isr.contains(&broker) && state.leader != Some(broker) {
                return None;
            }
            let holders = Holders::of(state).without(broker, Departure::Whole);
            election(image, (id, state), min, may_lead, kind).hold(holders)
        }
    })
}

/// A broker becomes active: partitions without a leader may have one now.
pub(super) fn joined(
    image: &MetadataImage,
    broker: BrokerId,
    allow_unclean: &dyn Fn(&str) -> bool,
) -> Vec<MetadataRecord> {
    let may_lead: &dyn Fn(BrokerId) -> bool = &|id| id == broker || image.is_active(id);
    changes_of(image, broker, |topic| {
        let min = min_insync_replicas(image, topic.name());
        let kind = kind_of(topic, allow_unclean);
        move |id, state: &PartitionState| {
            if state.leader.is_some() {
                return None;
            }
            election(image, (id, state), min, may_lead, kind).hold(Holders::of(state))
        }
    })
}

/// A broker registers anew, fenced. What it has lost it neither leads with nor counts for, and what it leads it leads no
/// longer: under the old epoch it may have told of records that it has lost.
pub(super) fn registered(
    image: &MetadataImage,
    broker: BrokerId,
    log_dirs: &[Uuid],
    stop: LastStop,
) -> Vec<MetadataRecord> {
    let may_lead: &dyn Fn(BrokerId) -> bool = &|id| id != broker && image.is_active(id);
    changes_of(image, broker, |topic| {
        let min = min_insync_replicas(image, topic.name());
        let is_whole = stop.is_whole(durability(image, topic.name()));
        move |id, state: &PartitionState| {
            let is_there = is_where_it_was(image, broker, log_dirs, state);
            let departure = match (is_there, is_whole) {
                (false, _) => Departure::Wiped,
                (true, true) => Departure::Whole,
                (true, false) if image.is_planted(PlantedFault::SuspectsStay) => Departure::Whole,
                (true, false) => Departure::Suspect,
            };
            if departure == Departure::Whole && image.is_planted(PlantedFault::RestartedLeads) {
                return None;
            }
            let holders = Holders::of(state).without(broker, departure);
            let partition = (id, state);
            let election = election(image, partition, min, may_lead, ElectionKind::Online);
            let change = election.hold(holders);
            let directories = match is_there {
                true => None,
                false => directories_after(broker, log_dirs, state),
            };
            match directories {
                None => change,
                Some(directories) => Some(PartitionChangeRecord {
                    partition_id: id.partition,
                    topic_id: id.topic,
                    directories: Some(directories),
                    ..change.unwrap_or_default()
                }),
            }
        }
    })
}

/// Whether the broker's replica is in the directory that it was in. One whose directory the broker has never named is
/// where it was if none of the broker's directories is gone.
fn is_where_it_was(
    image: &MetadataImage,
    broker: BrokerId,
    log_dirs: &[Uuid],
    state: &PartitionState,
) -> bool {
    let is_there = |directory: &Uuid| log_dirs.contains(directory);
    match state.directory_of(broker) {
        _ if image.is_planted(PlantedFault::AnyDirectory) => true,
        Some(known) if known != Uuid::ZERO => is_there(&known),
        _ => {
            let previous = image.broker(broker);
            previous.is_some_and(|previous| previous.log_dirs.iter().all(is_there))
        }
    }
}

/// The directories of a partition's replicas when the broker's replica begins anew; `None` when they stay as they are.
fn directories_after(
    broker: BrokerId,
    log_dirs: &[Uuid],
    state: &PartitionState,
) -> Option<Vec<Uuid>> {
    let mut directories = state.directories.to_vec();
    let mine = state.replicas.iter().zip(&mut directories);
    for (_, directory) in mine.filter(|(id, _)| **id == broker) {
        *directory = match log_dirs {
            [only] => *only,
            _ => Uuid::ZERO,
        };
    }
    (directories.as_slice() != state.directories.as_slice()).then_some(directories)
}

fn kind_of(topic: &Topic, allow_unclean: &dyn Fn(&str) -> bool) -> ElectionKind {
    match allow_unclean(topic.name()) {
        true => ElectionKind::Unclean,
        false => ElectionKind::Online,
    }
}

fn election<'a>(
    image: &MetadataImage,
    (id, state): (TopicPartition, &'a PartitionState),
    minimum: usize,
    may_lead: &'a dyn Fn(BrokerId) -> bool,
    kind: ElectionKind,
) -> Election<'a> {
    Election {
        id,
        state,
        min_isr: min_isr_effective(image, minimum, state),
        may_lead,
        kind,
    }
}

/// Goes through the partitions that the broker has a replica of. `of_topic` judges a topic once, what it returns judges
/// each of its partitions.
fn changes_of<J>(
    image: &MetadataImage,
    broker: BrokerId,
    of_topic: impl Fn(&Topic) -> J,
) -> Vec<MetadataRecord>
where
    J: Fn(TopicPartition, &PartitionState) -> Option<PartitionChangeRecord>,
{
    let mut records = Vec::new();
    for topic in image.topics() {
        let mut judge = None;
        for (partition, state) in topic.partitions() {
            if !state.has_replica(broker) {
                continue;
            }
            let id = TopicPartition {
                topic: topic.id(),
                partition,
            };
            let judge = judge.get_or_insert_with(|| of_topic(topic));
            let change = judge(id, state).map(|change| completed(image, id, state, change));
            records.extend(change.map(MetadataRecord::PartitionChange));
        }
    }
    records
}
