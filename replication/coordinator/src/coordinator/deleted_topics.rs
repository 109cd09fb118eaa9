//! Committed offsets of deleted topics: they go with their topic, for a topic made anew under the name is another one.
//!
//! As in Kafka, deletions (records without a value) are written for the offsets of all groups. An offset counts as gone
//! from the moment its topic is, not only when its deletion is durable. A deletion that cannot be written, say because
//! the device is full, is tried again until it is, or until somebody has committed for the partition again.
//! Invariant: a deletion is never written behind a commit that came after the end of the topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::{MonotonicTime, PartitionIndex};

use super::GroupCoordinator;
use crate::effects::{AppendId, Completion, KeyValue, PendingAppend};
use crate::records::offset_key;
use crate::settings::{APPENDS_IN_FLIGHT_MAX, Now};

/// Most deletions in one append: some hundred KiB.
const DELETIONS_PER_APPEND_MAX: usize = 1000;

/// Pause before a deletion that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A topic's partition.
type Place = (Arc<str>, PartitionIndex);

/// Offsets that count as gone and whose records still stand in the log. As many as there are offsets at most.
#[derive(Debug, Default)]
pub(super) struct DeletedTopics {
    /// By group: each with the last append that may still have been about the deleted topic.
    gone: BTreeMap<Arc<str>, BTreeMap<Place, AppendId>>,
    retry_at: Option<MonotonicTime>,
}

impl DeletedTopics {
    pub(super) fn hides(&self, group: &str, topic: &str, partition: PartitionIndex) -> bool {
        let places = self.gone.get(group);
        places.is_some_and(|places| places.contains_key(&(Arc::from(topic), partition)))
    }

    pub(super) fn retry_at(&self) -> Option<MonotonicTime> {
        self.retry_at
    }

    pub(super) fn clear(&mut self) {
        *self = DeletedTopics::default();
    }

    /// Offsets of a group were committed by this append.
    pub(super) fn committed(&mut self, append: AppendId, group: &Arc<str>, offsets: &[Place]) {
        let Some(places) = self.gone.get_mut(group) else {
            return;
        };
        for place in offsets {
            if places.get(place).is_some_and(|last| append > *last) {
                places.remove(place);
            }
        }
        if places.is_empty() {
            self.gone.remove(group);
        }
    }
}

impl GroupCoordinator {
    /// Topics for which some group has committed offsets.
    pub fn committed_topics(&self) -> BTreeSet<Arc<str>> {
        let offsets = self.groups.values().map(|group| &group.durable.offsets);
        let topics = offsets.flat_map(|offsets| offsets.topics());
        topics.map(|(topic, _)| topic.clone()).collect()
    }

    /// Whether deletions of offsets are on their way to the log.
    pub fn has_deletions_in_flight(&self) -> bool {
        let mut appends = self.effects.appends.values();
        appends.any(|append| matches!(append.completion, Completion::OffsetsGone { .. }))
    }

    /// Topics were deleted: what was committed for them is gone, and so is what is on its way.
    pub fn topics_deleted(&mut self, now: Now, topics: &BTreeSet<Arc<str>>) {
        let last = self.effects.last_append();
        let gone = &mut self.deleted_topics.gone;
        for (id, group) in &self.groups {
            let offsets = group.durable.offsets.iter();
            let places = offsets.map(|(topic, partition, _)| (topic.clone(), partition));
            for place in places.filter(|(topic, _)| topics.contains(topic)) {
                gone.entry(id.clone()).or_default().insert(place, last);
            }
        }
        for pending in self.effects.appends.values() {
            let places = pending.offsets.iter();
            for place in places.filter(|(topic, _)| topics.contains(topic)) {
                for id in &pending.groups {
                    let places = gone.entry(id.clone()).or_default();
                    places.insert(place.clone(), last);
                }
            }
        }
        self.delete_gone(now);
    }

    /// Writes deletions that are not on their way. Not if a newer commit is: it may succeed, and would be deleted then.
    pub(super) fn delete_gone(&mut self, now: Now) {
        self.deleted_topics.retry_at = None;
        let mut on_the_way = BTreeSet::new();
        // Of a commit that fails the older offset is left.
        let mut may_fail = false;
        for (append, pending) in &self.effects.appends {
            let Some(places) = pending
                .groups
                .first()
                .and_then(|id| self.deleted_topics.gone.get_key_value(id))
            else {
                continue;
            };
            let (id, places) = places;
            if let Completion::OffsetsGone { places } = &pending.completion {
                on_the_way.extend(places.iter().map(|place| (id.clone(), place.clone())));
            }
            for place in &pending.offsets {
                if places.get(place).is_some_and(|last| append > last) {
                    on_the_way.insert((id.clone(), place.clone()));
                    may_fail = true;
                }
            }
        }
        let mut chunks: Vec<(Arc<str>, Vec<Place>)> = Vec::new();
        for (id, places) in &self.deleted_topics.gone {
            let places = places.keys().cloned();
            let places = places.filter(|place| !on_the_way.contains(&(id.clone(), place.clone())));
            let places: Vec<Place> = places.collect();
            for chunk in places.chunks(DELETIONS_PER_APPEND_MAX) {
                chunks.push((id.clone(), chunk.to_vec()));
            }
        }
        let room = APPENDS_IN_FLIGHT_MAX.saturating_sub(self.effects.appends.len());
        if chunks.len() > room || may_fail {
            self.retry_later(now);
        }
        for (id, places) in chunks.into_iter().take(room) {
            let record = |(topic, partition): &Place| (offset_key(&id, topic, *partition), None);
            let records: Vec<KeyValue> = places.iter().map(record).collect();
            if let Some(group) = self.groups.get_mut(&id) {
                group.appends_in_flight += 1;
            }
            self.effects.persist(PendingAppend {
                groups: vec![id],
                offsets: Vec::new(),
                records,
                completion: Completion::OffsetsGone { places },
            });
        }
    }

    /// What became of deletions.
    pub(super) fn gone_deleted(
        &mut self,
        now: Now,
        append: AppendId,
        group: Option<&Arc<str>>,
        places: &[Place],
        is_written: bool,
    ) {
        if !is_written {
            self.retry_later(now);
        } else if let Some(group) = group {
            self.deleted_topics.committed(append, group, places);
        }
    }

    fn retry_later(&mut self, now: Now) {
        self.deleted_topics.retry_at = Some(now.monotonic.plus(RETRY_PAUSE));
    }
}
