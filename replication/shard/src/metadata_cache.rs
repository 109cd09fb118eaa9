//! The cluster as one shard knows it: the metadata log applied up to some offset, and what follows from it for the
//! configuration of this broker and of topics.
//!
//! Owned by the shard. Records come in the log's order, from shard 0. Invariants: the end never goes back; the
//! configuration is that of the image, at any time.

use std::cell::{Ref, RefCell};
use std::sync::Arc;

use metadata::{
    ConfigMap, ConfigResourceType, MetadataDelta, MetadataImage, MetadataRecord, Topic,
};
use model::config::dynamic::check_dynamic;
use model::config::{BrokerConfig, TopicConfig};
use model::{BrokerId, Offset, TopicPartition};

use crate::refusal::LeaderHint;

/// The cluster as one shard knows it.
pub(crate) struct MetadataCache {
    image: RefCell<MetadataImage>,
    broker: BrokerId,
    /// As this broker was started with it.
    start_config: Arc<BrokerConfig>,
    /// The same with what was set at run time.
    config: RefCell<Arc<BrokerConfig>>,
}

impl MetadataCache {
    /// For a broker that was started with this configuration.
    pub(crate) fn new(
        image: MetadataImage,
        broker: BrokerId,
        start_config: Arc<BrokerConfig>,
    ) -> MetadataCache {
        let config = effective(&image, broker, &start_config);
        MetadataCache {
            image: RefCell::new(image),
            broker,
            start_config,
            config: RefCell::new(config),
        }
    }

    /// Not to be held across an await.
    pub(crate) fn image(&self) -> Ref<'_, MetadataImage> {
        self.image.borrow()
    }

    pub(crate) fn end_offset(&self) -> Offset {
        self.image.borrow().end_offset()
    }

    /// The broker's configuration, with what was set at run time.
    pub(crate) fn config(&self) -> Arc<BrokerConfig> {
        self.config.borrow().clone()
    }

    /// Applies committed records that end before `end`; without any, `end` is passed over.
    pub(crate) fn apply(&self, end: Offset, records: &[MetadataRecord]) -> MetadataDelta {
        if records.is_empty() {
            self.image.borrow_mut().pass(end);
            return MetadataDelta::default();
        }
        let count = i64::try_from(records.len()).expect("bounded by a batch");
        let base = Offset(end.0 - count);
        let applied = self.image.borrow_mut().apply_batch(base, records);
        // A committed record that cannot be applied means that this shard no longer knows the cluster.
        let delta = applied.expect("committed metadata records apply");
        self.follow(&delta);
        delta
    }

    /// Another image takes the place of this one: a later one.
    pub(crate) fn install(&self, image: &MetadataImage) -> MetadataDelta {
        assert!(
            image.end_offset() > self.end_offset(),
            "the image goes back"
        );
        let delta = image.changes_since(&self.image.borrow());
        let mut image = image.clone();
        // Not part of the log: the quorum knows it.
        image.set_controller_id(self.image.borrow().controller_id());
        *self.image.borrow_mut() = image;
        self.follow(&delta);
        delta
    }

    fn follow(&self, delta: &MetadataDelta) {
        if has_broker_configs(delta) {
            let config = effective(&self.image.borrow(), self.broker, &self.start_config);
            *self.config.borrow_mut() = config;
        }
    }

    /// Who leads a partition that exists.
    pub(crate) fn leader_hint(&self, id: TopicPartition) -> Option<LeaderHint> {
        let image = self.image.borrow();
        let state = image.partition(id)?;
        Some(LeaderHint {
            broker: state.leader_id().0,
            epoch: state.leader_epoch,
        })
    }

    pub(crate) fn topic_config(&self, topic: &Arc<Topic>) -> TopicConfig {
        let image = self.image.borrow();
        let defaults = self.config.borrow();
        let empty = ConfigMap::new();
        let overrides = image.topic_configs(topic.name());
        let overrides = overrides.map_or(&empty, |map| map.as_ref());
        // What the controller accepted an older or newer release may not know: then the defaults hold, loudly.
        TopicConfig::from_overrides(overrides, &defaults).unwrap_or_else(|error| {
            tracing::error!(topic = %topic.name(), %error, "stored configuration is invalid: using defaults");
            TopicConfig::from_overrides(&empty, &defaults)
                .expect("the broker's own defaults were checked")
        })
    }
}

/// Whether values of brokers changed, on which the defaults of every topic depend.
pub(crate) fn has_broker_configs(delta: &MetadataDelta) -> bool {
    let mut kinds = delta.configs.iter().map(|(kind, _)| *kind);
    kinds.any(|kind| kind == ConfigResourceType::Broker)
}

/// The configuration that a broker was started with, and what the image says of all brokers and of this one.
fn effective(
    image: &MetadataImage,
    broker: BrokerId,
    start_config: &Arc<BrokerConfig>,
) -> Arc<BrokerConfig> {
    let accepted = |name: &str, one_broker: bool| -> ConfigMap {
        let stored = image.configs(ConfigResourceType::Broker, name);
        let stored = stored.into_iter().flat_map(|map| map.iter());
        let accepted = stored.filter(|(key, value)| {
            let checked = check_dynamic(key, value, one_broker);
            // As with topics: another release may have accepted it.
            if let Err(error) = &checked {
                tracing::error!(%error, "a stored value of the broker's configuration is left aside");
            }
            checked.is_ok()
        });
        accepted
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let (all, own) = (accepted("", false), accepted(&broker.to_string(), true));
    match start_config.with_dynamic(&all, &own) {
        Ok(config) => Arc::new(config),
        Err(error) => {
            tracing::error!(%error, "the stored configuration of the broker is left aside");
            start_config.clone()
        }
    }
}
