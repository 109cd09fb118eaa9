//! The cluster as one shard knows it: the metadata log applied up to some offset.
//!
//! Owned by the shard. Records come in the log's order, from shard 0. Invariant: the end never goes back.

use std::cell::{Ref, RefCell};
use std::sync::Arc;

use metadata::{MetadataDelta, MetadataImage, MetadataRecord, Topic};
use model::config::{BrokerConfig, TopicConfig};
use model::{Offset, TopicPartition};

use crate::refusal::LeaderHint;

/// The cluster as one shard knows it.
pub(crate) struct MetadataCache(RefCell<MetadataImage>);

impl MetadataCache {
    pub(crate) fn new(image: MetadataImage) -> MetadataCache {
        MetadataCache(RefCell::new(image))
    }

    /// Not to be held across an await.
    pub(crate) fn image(&self) -> Ref<'_, MetadataImage> {
        self.0.borrow()
    }

    pub(crate) fn end_offset(&self) -> Offset {
        self.0.borrow().end_offset()
    }

    /// Applies committed records that end before `end`; without any, `end` is passed over.
    pub(crate) fn apply(&self, end: Offset, records: &[MetadataRecord]) -> MetadataDelta {
        if records.is_empty() {
            self.0.borrow_mut().pass(end);
            return MetadataDelta::default();
        }
        let count = i64::try_from(records.len()).expect("bounded by a batch");
        let base = Offset(end.0 - count);
        let applied = self.0.borrow_mut().apply_batch(base, records);
        // A committed record that cannot be applied means that this shard no longer knows the cluster.
        applied.expect("committed metadata records apply")
    }

    /// Who leads a partition that exists.
    pub(crate) fn leader_hint(&self, id: TopicPartition) -> Option<LeaderHint> {
        let image = self.0.borrow();
        let state = image.partition(id)?;
        Some(LeaderHint {
            broker: state.leader_id().0,
            epoch: state.leader_epoch,
        })
    }

    pub(crate) fn topic_config(&self, topic: &Arc<Topic>, defaults: &BrokerConfig) -> TopicConfig {
        let image = self.0.borrow();
        let empty = metadata::ConfigMap::new();
        let overrides = image.topic_configs(topic.name());
        let overrides = overrides.map_or(&empty, |map| map.as_ref());
        // What the controller accepted an older or newer release may not know: then the defaults hold, loudly.
        TopicConfig::from_overrides(overrides, defaults).unwrap_or_else(|error| {
            tracing::error!(topic = %topic.name(), %error, "stored configuration is invalid: using defaults");
            TopicConfig::from_overrides(&empty, defaults)
                .expect("the broker's own defaults were checked at start")
        })
    }
}
