//! Logs on disk against the topics of the metadata log: which belong to a topic, to a deleted one, or to none. Pure.
//!
//! A log is made after the record of its topic is durable in the metadata log, and deleted after the record of the
//! deletion is. So a log is deleted at start only if that record was read; a log of which the metadata log says nothing
//! shows that the metadata log has lost its end, or everything.
//!
//! The metadata log is cut behind its snapshots, and the removals in it go. So a snapshot carries those of which some
//! shard of this broker may still have logs ([`crate::removed_topics`]): an id that is in neither means "lost", never
//! "deleted". A snapshot is of this broker alone, and so is what it says about logs.

use std::collections::BTreeSet;

use metadata::MetadataImage;
use model::TopicPartition;

use crate::metadata_log::Contents;
use crate::partitions::METADATA_PARTITION;

/// Logs named in the text of a refusal; the others are counted.
const NAMED_MAX: usize = 3;

/// Logs that belong to no topic of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sorted {
    /// Their topics were deleted: the metadata log says so.
    pub(crate) deleted: BTreeSet<TopicPartition>,
    /// The metadata log says nothing about them.
    pub(crate) unknown: BTreeSet<TopicPartition>,
}

/// Sorts the logs that were found.
pub(crate) fn sort(found: &BTreeSet<TopicPartition>, contents: &Contents) -> Sorted {
    let mut sorted = Sorted::default();
    for id in found {
        if *id == METADATA_PARTITION || contents.image.partition(*id).is_some() {
            continue;
        }
        if contents.pending.contains(id) {
            // It was made when its decision was committed. How far the log is committed is known again later.
            continue;
        }
        if contents.removed.contains(id.topic) {
            sorted.deleted.insert(*id);
        } else {
            sorted.unknown.insert(*id);
        }
    }
    sorted
}

/// The metadata log lacks what it had when these logs were made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} logs belong to topics that the metadata log does not know ({names}): {how}. Their records may have been \
     acknowledged, so nothing was removed. Restore the journal and the checkpoints of shard 0, or start once with \
     ringlog.accept.lost.data=true (--accept-lost-data): these logs are then set aside in lost+found, and their topics \
     are gone"
)]
pub struct MetadataLost {
    pub count: usize,
    /// Some of them.
    pub names: String,
    /// What is wrong with the metadata log.
    pub how: &'static str,
}

impl MetadataLost {
    /// For these logs; `torn` if a journal ended in a group that was not whole.
    pub(crate) fn new(
        unknown: &BTreeSet<TopicPartition>,
        image: &MetadataImage,
        torn: bool,
    ) -> MetadataLost {
        let named = unknown.iter().take(NAMED_MAX);
        let mut names: Vec<String> = named.map(ToString::to_string).collect();
        if unknown.len() > NAMED_MAX {
            names.push("...".to_owned());
        }
        let how = match (image.end_offset().0, torn) {
            (0, _) => "it is empty",
            (_, true) => "its journal ends in a torn or damaged group",
            (_, false) => "its end is missing",
        };
        MetadataLost {
            count: unknown.len(),
            names: names.join(", "),
            how,
        }
    }
}

#[cfg(test)]
mod tests {
    use metadata::{LeaderRecoveryState, MetadataRecord, PartitionRecord, TopicRecord};
    use model::{BrokerId, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, TopicId};

    use super::*;

    fn log(topic: u8, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicId([topic; 16]),
            partition: PartitionIndex(partition),
        }
    }

    fn image() -> MetadataImage {
        let mut image = MetadataImage::new("cluster");
        let topic = TopicRecord {
            name: "orders".into(),
            topic_id: TopicId([1; 16]),
        };
        let partition = PartitionRecord {
            partition_id: PartitionIndex(0),
            topic_id: TopicId([1; 16]),
            replicas: vec![BrokerId(1)],
            isr: vec![BrokerId(1)],
            removing_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            leader: Some(BrokerId(1)),
            leader_recovery_state: LeaderRecoveryState::Recovered,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            directories: Vec::new(),
            eligible_leader_replicas: None,
            last_known_elr: None,
        };
        let records = [
            MetadataRecord::Topic(topic),
            MetadataRecord::Partition(partition),
        ];
        image.apply_batch(Offset::ZERO, &records).unwrap();
        image
    }

    #[test]
    fn a_log_is_deleted_only_for_a_removal_that_was_read() {
        let mut contents = Contents {
            image: image(),
            ..Contents::empty("cluster")
        };
        contents.removed.removed(TopicId([2; 16]), Offset(2));
        let table = [
            (METADATA_PARTITION, "kept"),
            (log(1, 0), "kept"),
            // More partitions were made; the record of that is lost.
            (log(1, 1), "unknown"),
            (log(2, 0), "deleted"),
            (log(2, 7), "deleted"),
            (log(3, 0), "unknown"),
        ];
        for (id, expected) in table {
            let sorted = sort(&BTreeSet::from([id]), &contents);
            let fates = [(&sorted.deleted, "deleted"), (&sorted.unknown, "unknown")];
            let fates = fates.into_iter().filter(|(logs, _)| logs.contains(&id));
            let fates: Vec<&str> = fates.map(|(_, fate)| fate).collect();
            let expected = if expected == "kept" {
                vec![]
            } else {
                vec![expected]
            };
            let fate = fates;
            assert_eq!(fate, expected, "{id}");
        }
    }

    #[test]
    fn a_refusal_says_how_the_metadata_log_was_lost() {
        let unknown: BTreeSet<_> = (0..5).map(|partition| log(3, partition)).collect();
        let empty = MetadataImage::new("cluster");
        let table = [
            (&empty, false, "it is empty"),
            (&empty, true, "it is empty"),
            (
                &image(),
                true,
                "its journal ends in a torn or damaged group",
            ),
            (&image(), false, "its end is missing"),
        ];
        for (image, torn, expected) in table {
            let text = MetadataLost::new(&unknown, image, torn).to_string();
            assert!(
                text.starts_with("5 logs") && text.contains(expected),
                "{text}"
            );
            assert!(
                text.contains("-2, ...)") && text.contains("--accept-lost-data"),
                "{text}"
            );
        }
    }
}
