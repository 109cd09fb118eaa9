//! What differs between two images: what the records between them would have changed.
//!
//! For a replica that goes on from a snapshot which it was given: it has not seen the records.

use std::collections::BTreeSet;

use model::TopicPartition;

use super::MetadataImage;
use super::state::Topic;
use crate::delta::MetadataDelta;
use crate::record::ConfigResourceType;

impl MetadataImage {
    /// What has changed since `before`. Unclean elections in between are not counted: nothing tells of them.
    pub fn changes_since(&self, before: &MetadataImage) -> MetadataDelta {
        let mut delta = MetadataDelta::default();
        for (id, topic) in &before.topics {
            if !self.topics.contains_key(id) {
                for (partition, _) in topic.partitions() {
                    delta.partition_deleted(TopicPartition {
                        topic: *id,
                        partition,
                    });
                }
                delta.topic_deleted(*id, topic.name().clone());
            }
        }
        for (id, topic) in &self.topics {
            match before.topics.get(id) {
                Some(before) => changed_partitions(before, topic, &mut delta),
                None => {
                    delta.topic_created(*id, topic.name().clone());
                    for (partition, _) in topic.partitions() {
                        delta.partition_created(TopicPartition {
                            topic: *id,
                            partition,
                        });
                    }
                }
            }
        }
        // Those of a topic go with it.
        let deleted: BTreeSet<_> = delta.topics_deleted.values().cloned().collect();
        let kinds: BTreeSet<_> = self.configs.keys().chain(before.configs.keys()).collect();
        for kind in kinds {
            let all = |image: &MetadataImage| {
                let of_kind = image.configs.get(kind).cloned();
                of_kind.unwrap_or_default()
            };
            let (old, new) = (all(before), all(self));
            let names: BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
            for name in names {
                let goes_along = *kind == ConfigResourceType::Topic
                    && !new.contains_key(&name)
                    && deleted.contains(&name);
                if old.get(&name) != new.get(&name) && !goes_along {
                    delta.configs.insert((*kind, name));
                }
            }
        }
        let ids: BTreeSet<_> = self.brokers.keys().chain(before.brokers.keys()).collect();
        let changed = ids
            .into_iter()
            .filter(|id| self.brokers.get(id) != before.brokers.get(id));
        delta.brokers.extend(changed);
        delta.features_changed = self.features != before.features;
        delta
    }
}

fn changed_partitions(before: &Topic, after: &Topic, delta: &mut MetadataDelta) {
    for (index, state) in after.partitions() {
        let id = TopicPartition {
            topic: after.id(),
            partition: index,
        };
        match before.partition(index) {
            None => delta.partition_created(id),
            Some(old) if old != state => {
                delta.partition_changed(id, old.leader_epoch != state.leader_epoch);
            }
            Some(_) => {}
        }
    }
}
