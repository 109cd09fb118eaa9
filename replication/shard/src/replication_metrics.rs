//! What is counted about replicas: those of a shard, and on shard 0 the cluster as far as this broker knows it.
//!
//! Gauges are looked up when they are asked for: one look at each partition of the shard. What concerns a partition is told
//! by its leader, what concerns the cluster by the controller, so that sums over all brokers are right.

use std::collections::BTreeMap;
use std::sync::Arc;

use metadata::{MetadataDelta, MetadataImage, PartitionDelta};
use model::{BrokerId, Offset, TopicPartition};
use quorum::QuorumStatus;
use runtime::metrics::{Labels, labels};
use runtime::{Counter, Io, MetricDefinition, Snapshot, Unit};
use storage::Durability;

use crate::metadata_replica::MetadataReplica;
use crate::metrics::{OTHER_TOPICS, PARTITIONS, TOPICS_TRACKED_MAX};
use crate::partition::Partition;
use crate::partition_table::PartitionTable;
use crate::partitions::Partitions;
use crate::role::Led;

/// Replicas of this shard, led or followed.
static REPLICAS: MetricDefinition = MetricDefinition::gauge(
    "ringlog_replicas",
    Unit::Count,
    "Replicas of partitions that the shard has, those it leads and those that follow other brokers.",
);
static UNDER_REPLICATED: MetricDefinition = MetricDefinition::gauge(
    "ringlog_under_replicated_partitions",
    Unit::Count,
    "Partitions that the shard leads of which not every replica is in sync.",
);
static UNDER_MIN_ISR: MetricDefinition = MetricDefinition::gauge(
    "ringlog_under_min_isr_partitions",
    Unit::Count,
    "Partitions that the shard leads of which fewer replicas than min.insync.replicas are in sync: acks=all is refused.",
);
/// Of followers that were heard of in this leader epoch.
static FOLLOWER_LAG: MetricDefinition = MetricDefinition::gauge(
    "ringlog_follower_lag_records_max",
    Unit::Count,
    "Records that the slowest follower of a partition that the shard leads lacks, of followers heard of since it leads.",
);
static TOPIC_FOLLOWER_LAG: MetricDefinition = MetricDefinition::gauge(
    "ringlog_topic_follower_lag_records",
    Unit::Count,
    "Records that the followers of partitions that the shard leads lack, all added up, by topic.",
);
static ISR_SHRINKS: MetricDefinition = MetricDefinition::counter(
    "ringlog_isr_shrinks_total",
    Unit::Count,
    "Times that the in-sync set of a partition that the shard leads became smaller.",
);
static ISR_EXPANDS: MetricDefinition = MetricDefinition::counter(
    "ringlog_isr_expands_total",
    Unit::Count,
    "Times that the in-sync set of a partition that the shard leads became larger.",
);
static ELECTIONS: MetricDefinition = MetricDefinition::counter(
    "ringlog_leader_elections_total",
    Unit::Count,
    "Times that the shard was made the leader of a partition that was there before, or anew under a later epoch.",
);
static UNCLEAN_ELECTIONS: MetricDefinition = MetricDefinition::counter(
    "ringlog_unclean_leader_elections_total",
    Unit::Count,
    "Leaders of any broker that were elected from outside the in-sync set, while this broker ran: each may have cost acknowledged records.",
);
/// A label for joins, always 1; on shard 0, as all that follow.
static BROKER_INFO: MetricDefinition = MetricDefinition::gauge(
    "ringlog_broker_info",
    Unit::Count,
    "Who this broker is in its cluster; always 1.",
);
static ACTIVE_CONTROLLER: MetricDefinition = MetricDefinition::gauge(
    "ringlog_active_controller",
    Unit::Count,
    "1 on the broker that is the controller.",
);
static METADATA_END: MetricDefinition = MetricDefinition::gauge(
    "ringlog_metadata_log_end_offset",
    Unit::Count,
    "Where this broker's replica of the metadata log ends.",
);
static METADATA_LAG: MetricDefinition = MetricDefinition::gauge(
    "ringlog_metadata_lag_records",
    Unit::Count,
    "Metadata records in this broker's log that it does not act on yet: not agreed on as far as it knows, or not applied.",
);
static METADATA_REPLICA_LAG: MetricDefinition = MetricDefinition::gauge(
    "ringlog_metadata_replica_lag_records_max",
    Unit::Count,
    "On the controller: metadata records by which the slowest broker that it has heard of lately is behind.",
);
static BROKERS: MetricDefinition = MetricDefinition::gauge(
    "ringlog_brokers",
    Unit::Count,
    "On the controller: brokers that are registered.",
);
static BROKERS_FENCED: MetricDefinition = MetricDefinition::gauge(
    "ringlog_brokers_fenced",
    Unit::Count,
    "On the controller: brokers that are registered and fenced: not heard of, or not ready.",
);
static CLUSTER_PARTITIONS: MetricDefinition = MetricDefinition::gauge(
    "ringlog_partitions",
    Unit::Count,
    "On the controller: partitions of the cluster.",
);
static OFFLINE_PARTITIONS: MetricDefinition = MetricDefinition::gauge(
    "ringlog_offline_partitions",
    Unit::Count,
    "On the controller: partitions without a leader.",
);

/// Changes of leaders and in-sync sets that this shard has seen.
#[derive(Default)]
pub(crate) struct RoleChanges {
    isr_shrinks: Counter,
    isr_expands: Counter,
    elections: Counter,
    unclean_elections: Counter,
}

impl RoleChanges {
    /// Counts what a change of the metadata makes of the partitions that are led here; `follow` makes it.
    pub(crate) fn count<I: Io, T>(
        &self,
        partitions: &Partitions<I>,
        delta: &MetadataDelta,
        follow: impl FnOnce() -> T,
    ) -> T {
        let led = |id: &TopicPartition| partitions.get(*id).and_then(|partition| partition.led());
        let changed = delta.partitions.iter();
        let changed = changed.filter(|(_, what)| matches!(what, PartitionDelta::Changed { .. }));
        let before: Vec<(TopicPartition, Option<Led>)> =
            changed.map(|(id, _)| (*id, led(id))).collect();
        let followed = follow();
        for (id, before) in before {
            if let Some(after) = led(&id) {
                self.compare(before, after);
            }
        }
        self.unclean_elections.add(delta.unclean_elections);
        followed
    }

    fn compare(&self, before: Option<Led>, after: Led) {
        if before.is_none_or(|before| before.epoch != after.epoch) {
            self.elections.increment();
        }
        if let Some(before) = before {
            self.isr_shrinks
                .add(u64::from(after.in_sync < before.in_sync));
            self.isr_expands
                .add(u64::from(after.in_sync > before.in_sync));
        }
    }

    fn snapshot_into(&self, into: &mut Snapshot) {
        for (definition, counter) in [
            (&ISR_SHRINKS, &self.isr_shrinks),
            (&ISR_EXPANDS, &self.isr_expands),
            (&ELECTIONS, &self.elections),
        ] {
            into.counter(definition, Labels::new(), counter.get());
        }
    }
}

/// What is true of the partitions of a shard right now.
#[derive(Debug, Default, PartialEq, Eq)]
struct Gauges {
    replicas: u64,
    led_flushed: u64,
    led_written: u64,
    under_replicated: u64,
    under_min_isr: u64,
    lag_max: u64,
    lag_by_topic: BTreeMap<Arc<str>, u64>,
}

impl Gauges {
    fn add(&mut self, image: &MetadataImage, partition: &Partition) {
        self.replicas += 1;
        let Some(led) = partition.led() else {
            return;
        };
        match partition.rules().durability {
            Durability::Flushed => self.led_flushed += 1,
            Durability::Written => self.led_written += 1,
        }
        self.under_replicated += u64::from(led.in_sync < led.replicas);
        self.under_min_isr += u64::from(!led.has_enough_in_sync);
        self.lag_max = self.lag_max.max(led.lag_max);
        if led.is_replicated {
            let lag = led.lag_sum;
            let topic = image.topic_by_id(partition.id.topic);
            self.add_lag(
                topic.map_or(OTHER_TOPICS.into(), |topic| topic.name().clone()),
                lag,
            );
        }
    }

    /// A bounded number of topics have a value of their own.
    fn add_lag(&mut self, topic: Arc<str>, lag: u64) {
        let has_room = self.lag_by_topic.len() < TOPICS_TRACKED_MAX;
        let topic = match has_room || self.lag_by_topic.contains_key(&topic) {
            true => topic,
            false => OTHER_TOPICS.into(),
        };
        *self.lag_by_topic.entry(topic).or_default() += lag;
    }

    fn snapshot_into(self, into: &mut Snapshot) {
        for (definition, value) in [
            (&REPLICAS, self.replicas),
            (&UNDER_REPLICATED, self.under_replicated),
            (&UNDER_MIN_ISR, self.under_min_isr),
            (&FOLLOWER_LAG, self.lag_max),
        ] {
            into.gauge(definition, Labels::new(), value);
        }
        for (level, count) in [("flushed", self.led_flushed), ("written", self.led_written)] {
            into.gauge(&PARTITIONS, labels([("durability", level)]), count);
        }
        for (topic, lag) in self.lag_by_topic {
            into.gauge(&TOPIC_FOLLOWER_LAG, labels([("topic", topic)]), lag);
        }
    }
}

/// What a shard has of replicas.
pub(crate) struct Replicas<'a> {
    pub(crate) broker: BrokerId,
    pub(crate) image: &'a MetadataImage,
    pub(crate) table: &'a PartitionTable,
    pub(crate) changes: &'a RoleChanges,
    /// Of the metadata log, on shard 0.
    pub(crate) metadata: Option<&'a MetadataReplica>,
}

/// Adds what a shard knows of replicas.
pub(crate) fn snapshot_into(replicas: &Replicas<'_>, into: &mut Snapshot) {
    let Replicas {
        broker,
        image,
        table,
        changes,
        metadata,
    } = replicas;
    let mut gauges = Gauges::default();
    for partition in table.iter() {
        gauges.add(image, partition);
    }
    gauges.snapshot_into(into);
    changes.snapshot_into(into);
    let Some(replica) = metadata else {
        return;
    };
    let unclean = changes.unclean_elections.get();
    into.counter(&UNCLEAN_ELECTIONS, Labels::new(), unclean);
    let own = labels([
        ("broker_id", broker.to_string()),
        ("cluster_id", image.cluster_id().to_owned()),
    ]);
    into.gauge(&BROKER_INFO, own, 1);
    let status = replica.status();
    metadata_log(&status, image.end_offset(), into);
    into.gauge(
        &ACTIVE_CONTROLLER,
        Labels::new(),
        u64::from(replica.is_active()),
    );
    if replica.is_active() {
        cluster(image, &status, into);
    }
}

fn metadata_log(status: &QuorumStatus, applied: Offset, into: &mut Snapshot) {
    let end = status.log_end_offset;
    into.gauge(&METADATA_END, Labels::new(), distance(Offset::ZERO, end));
    into.gauge(&METADATA_LAG, Labels::new(), distance(applied, end));
}

/// What the controller tells.
fn cluster(image: &MetadataImage, status: &QuorumStatus, into: &mut Snapshot) {
    let replicas = status.replicas.iter().filter(|replica| replica.is_active);
    let ends = replicas.filter_map(|replica| replica.log_end_offset);
    let slowest = ends.min().unwrap_or(status.log_end_offset);
    let count = |count: usize| u64::try_from(count).expect("counts have 64 bits");
    let fenced = image.brokers().filter(|broker| broker.fenced).count();
    let offline = image
        .partitions()
        .filter(|(_, state)| state.leader.is_none());
    for (definition, value) in [
        (
            &METADATA_REPLICA_LAG,
            distance(slowest, status.log_end_offset),
        ),
        (&BROKERS, count(image.brokers().count())),
        (&BROKERS_FENCED, count(fenced)),
        (&CLUSTER_PARTITIONS, count(image.partition_count())),
        (&OFFLINE_PARTITIONS, count(offline.count())),
    ] {
        into.gauge(definition, Labels::new(), value);
    }
}

/// Records between two offsets; none if the first is the later one, which it may be for a moment: two parts tell them.
fn distance(from: Offset, to: Offset) -> u64 {
    u64::try_from((to.0 - from.0).max(0)).expect("not negative")
}

#[cfg(test)]
mod tests {
    use model::LeaderEpoch;

    use super::*;

    fn led(epoch: i32, in_sync: usize) -> Led {
        Led {
            epoch: LeaderEpoch(epoch),
            replicas: 3,
            in_sync,
            has_enough_in_sync: true,
            is_replicated: true,
            lag_max: 0,
            lag_sum: 0,
        }
    }

    #[test]
    fn changes_of_roles_are_counted_as_what_they_are() {
        for (before, after, expected) in [
            (None, led(1, 2), (0, 0, 1)),
            (Some(led(1, 3)), led(1, 2), (1, 0, 0)),
            (Some(led(1, 2)), led(1, 3), (0, 1, 0)),
            (Some(led(1, 2)), led(1, 2), (0, 0, 0)),
            (Some(led(1, 3)), led(2, 1), (1, 0, 1)),
        ] {
            let changes = RoleChanges::default();
            changes.compare(before, after);
            let counted = (
                changes.isr_shrinks.get(),
                changes.isr_expands.get(),
                changes.elections.get(),
            );
            assert_eq!(counted, expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_bounded_number_of_topics_have_a_lag_of_their_own() {
        let mut gauges = Gauges::default();
        for number in 0..TOPICS_TRACKED_MAX + 10 {
            gauges.add_lag(Arc::from(format!("topic-{number:04}")), 7);
        }
        gauges.add_lag(Arc::from("topic-0000"), 9);
        gauges.add_lag(Arc::from("topic-0000"), 8);
        assert_eq!(gauges.lag_by_topic.len(), TOPICS_TRACKED_MAX + 1);
        assert_eq!(gauges.lag_by_topic["topic-0000"], 7 + 9 + 8);
        assert_eq!(gauges.lag_by_topic[OTHER_TOPICS], 7 * 10);
    }

    #[test]
    fn a_distance_is_never_negative() {
        assert_eq!(distance(Offset(3), Offset(10)), 7);
        assert_eq!(distance(Offset(10), Offset(3)), 0);
    }
}
