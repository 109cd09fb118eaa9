//! What moves by itself, while this broker is the controller: replicas of brokers that are lost or drained, replicas and
//! leaders of brokers that have more than others, leadership that returns to preferred replicas.
//!
//! On shard 0. A plan is made of the image, a few moves at a time, and decided like a request for the same moves; what is
//! under way is in the image, so another controller goes on with it. In memory is only since when brokers are away, and how
//! large partitions are: a new controller learns both again.
//! Bounds: `ringlog.moves.max` partitions on their way, [`ELECTIONS_MAX`] elections at once, one size per partition.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metadata::balance::{ClusterShape, Limits, Move, plan};
use metadata::controller::{
    AlterReassignmentsRequest, ElectionKind, PartitionReassignment, alter_reassignments, elect,
};
use metadata::{MetadataImage, MetadataRecord};
use model::config::BrokerConfig;
use model::{BrokerId, MonotonicTime, Offset, TopicPartition};

/// Leaders that are replaced by preferred ones in one decision, as in Kafka.
const ELECTIONS_MAX: usize = 1_000;

/// What the controller knows beside the image.
#[derive(Default)]
pub(crate) struct Balancer {
    /// Since when brokers are fenced.
    away_since: RefCell<BTreeMap<BrokerId, MonotonicTime>>,
    /// Bytes of partitions, as their leaders have told.
    sizes: RefCell<BTreeMap<TopicPartition, u64>>,
    /// The image of which nothing more follows, until something else changes.
    nothing_to_do: Cell<Option<Offset>>,
    /// When leaders are next compared with preferred ones.
    elections_due: Cell<Option<MonotonicTime>>,
}

impl Balancer {
    /// This broker is the controller, or is not; time has passed. Whether there may be something to decide.
    pub(crate) fn follow(
        &self,
        is_active: bool,
        now: MonotonicTime,
        image: &MetadataImage,
    ) -> bool {
        let mut away_since = self.away_since.borrow_mut();
        if !is_active || image.brokers().count() < 2 {
            away_since.clear();
            self.sizes.borrow_mut().clear();
            self.nothing_to_do.set(None);
            self.elections_due.set(None);
            return false;
        }
        let is_away = |id: &BrokerId| image.broker(*id).is_some_and(|broker| broker.fenced);
        away_since.retain(|id, _| is_away(id));
        for broker in image.brokers().filter(|broker| broker.fenced) {
            away_since.entry(broker.id).or_insert(now);
        }
        let is_waited_for = !away_since.is_empty();
        let elections_due = self.elections_due.get().is_none_or(|due| due <= now);
        let is_news = self.nothing_to_do.get() != Some(image.end_offset());
        is_news || is_waited_for || elections_due
    }

    /// A leader has told how large partitions are.
    pub(crate) fn told_sizes(&self, image: &MetadataImage, sizes: &[(TopicPartition, u64)]) {
        let mut known = self.sizes.borrow_mut();
        if known.len() > image.partition_count() {
            known.retain(|id, _| image.partition(*id).is_some());
        }
        let exist = |(id, _): &&(TopicPartition, u64)| image.partition(*id).is_some();
        for (partition, bytes) in sizes.iter().filter(exist) {
            if known.insert(*partition, *bytes) != Some(*bytes) {
                self.nothing_to_do.set(None);
            }
        }
    }

    /// Brokers that were away for too long.
    pub(crate) fn lost(&self, config: &BrokerConfig, now: MonotonicTime) -> BTreeSet<BrokerId> {
        let Ok(patience) = u64::try_from(config.self_heal_after_ms) else {
            return BTreeSet::new();
        };
        let patience = Duration::from_millis(patience);
        let away_since = self.away_since.borrow();
        let lost = away_since
            .iter()
            .filter(|(_, since)| now.since(**since) >= patience);
        lost.map(|(id, _)| *id).collect()
    }

    /// The moves and elections that are to be decided now.
    pub(crate) fn decide(
        &self,
        image: &MetadataImage,
        config: &BrokerConfig,
        now: MonotonicTime,
    ) -> Vec<MetadataRecord> {
        let records = self.moves(image, config, now);
        // Each is decided on the image: not together with a move of the same partition.
        match records.is_empty() {
            true => self.elections(image, config, now),
            false => records,
        }
    }

    fn moves(
        &self,
        image: &MetadataImage,
        config: &BrokerConfig,
        now: MonotonicTime,
    ) -> Vec<MetadataRecord> {
        if config.moves_max == 0 {
            return Vec::new();
        }
        let shape = {
            let sizes = self.sizes.borrow();
            let bytes = |id| sizes.get(&id).copied().unwrap_or_default();
            ClusterShape::of_image(image, &self.lost(config, now), &bytes)
        };
        let limits = Limits {
            moves_max: config.moves_max.saturating_sub(shape.moving()),
            may_spread: config.balance_enable,
        };
        let plan = plan(&shape, limits);
        if plan.moves.is_empty() {
            self.nothing_to_do.set(Some(image.end_offset()));
        }
        let decision = alter_reassignments(image, &request(image, &plan.moves));
        for (topic, partitions) in &decision.results {
            for (index, result) in partitions {
                if let Err(error) = result {
                    tracing::warn!(topic, partition = %index, reason = %error.message, "a planned move is refused");
                }
            }
        }
        for one in &plan.moves {
            let topic = image.topic_by_id(one.partition.topic);
            tracing::info!(
                topic = topic.map_or("?", |topic| topic.name()),
                partition = %one.partition.partition,
                from = ?one.from,
                to = ?one.to,
                reason = %one.reason,
                "replicas move",
            );
        }
        decision.records
    }

    /// Leadership returns to preferred replicas, when it is time for that.
    fn elections(
        &self,
        image: &MetadataImage,
        config: &BrokerConfig,
        now: MonotonicTime,
    ) -> Vec<MetadataRecord> {
        let seconds = config.leader_imbalance_check_interval_seconds;
        let interval = Duration::from_secs(seconds.unsigned_abs());
        match self.elections_due.get() {
            Some(due) if due <= now => {}
            Some(_) => return Vec::new(),
            None => {
                self.elections_due.set(Some(now.plus(interval)));
                return Vec::new();
            }
        }
        self.elections_due.set(Some(now.plus(interval)));
        if !config.auto_leader_rebalance_enable {
            return Vec::new();
        }
        let elsewhere = image
            .partitions()
            .filter(|(_, state)| state.leader.is_some());
        let elsewhere =
            elsewhere.filter(|(_, state)| state.leader != state.replicas.first().copied());
        let elected = elsewhere.filter_map(|(id, _)| {
            // One that may not lead now may when it is looked again.
            elect(image, id, ElectionKind::Preferred).ok()
        });
        let elected = elected.take(ELECTIONS_MAX);
        let records: Vec<_> = elected.map(MetadataRecord::PartitionChange).collect();
        if !records.is_empty() {
            tracing::info!(partitions = records.len(), "preferred replicas lead again");
        }
        records
    }
}

/// The request for these moves.
fn request(image: &MetadataImage, moves: &[Move]) -> AlterReassignmentsRequest {
    let mut topics: BTreeMap<String, Vec<PartitionReassignment>> = BTreeMap::new();
    for one in moves {
        let topic = image.topic_by_id(one.partition.topic);
        let topic = topic.expect("a plan is of the image");
        let wanted = PartitionReassignment {
            partition: one.partition.partition,
            replicas: Some(one.to.to_vec()),
        };
        let name = topic.name().to_string();
        topics.entry(name).or_default().push(wanted);
    }
    AlterReassignmentsRequest {
        topics: topics.into_iter().collect(),
        allow_replication_factor_change: false,
    }
}
