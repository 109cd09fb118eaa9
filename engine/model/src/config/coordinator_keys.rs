//! The broker's keys about groups, offsets, transactions and share groups.
//!
//! Names, types, defaults and access are those of Apache Kafka 4.3.1.

use super::key::{Key, boolean, int, list, long, short, string};
use super::reason::{JOURNAL, LATER, MEMORY, THREADS};

/// These keys.
pub(super) const COORDINATOR_KEYS: &[Key] = &[
    int(
        "group.min.session.timeout.ms",
        Some("6000"),
        "Shortest session timeout a member of a classic group may ask for.",
    ),
    int(
        "group.max.session.timeout.ms",
        Some("1800000"),
        "Longest session timeout a member of a classic group may ask for.",
    ),
    int(
        "group.initial.rebalance.delay.ms",
        Some("3000"),
        "Time an empty classic group waits for more members before its first rebalance.",
    ),
    int(
        "group.max.size",
        Some("2147483647"),
        "Members that a classic group may have.",
    )
    .at_least(1),
    list(
        "group.coordinator.rebalance.protocols",
        Some("classic,consumer,streams"),
        "Group protocols that the broker offers.",
    )
    .list_of(&["classic", "consumer", "streams", "share"])
    .ignored(LATER),
    int(
        "group.coordinator.threads",
        Some("4"),
        "Threads of the group coordinator.",
    )
    .at_least(1)
    .ignored(THREADS),
    int(
        "group.coordinator.background.threads",
        Some("2"),
        "Threads of the group coordinator for assignments.",
    )
    .at_least(1)
    .ignored(THREADS),
    int(
        "group.coordinator.append.linger.ms",
        Some("-1"),
        "Time the group coordinator collects writes; -1 adapts.",
    )
    .at_least(-1)
    .ignored(JOURNAL),
    int(
        "group.coordinator.cached.buffer.max.bytes",
        Some("1048588"),
        "Memory that the group coordinator keeps for writing.",
    )
    .at_least(524288)
    .cluster()
    .ignored(MEMORY),
    int(
        "group.consumer.assignment.interval.ms",
        Some("1000"),
        "Time between two assignments of a consumer group.",
    )
    .at_least(0)
    .cluster()
    .ignored(LATER),
    int(
        "group.consumer.min.assignment.interval.ms",
        Some("0"),
        "Smallest `consumer.assignment.interval.ms` of a group.",
    )
    .at_least(0)
    .ignored(LATER),
    int(
        "group.consumer.max.assignment.interval.ms",
        Some("15000"),
        "Largest `consumer.assignment.interval.ms` of a group.",
    )
    .at_least(0)
    .ignored(LATER),
    list(
        "group.consumer.assignors",
        Some("uniform,range"),
        "Assignors of consumer groups, the default first.",
    )
    .ignored(LATER),
    int(
        "group.consumer.heartbeat.interval.ms",
        Some("5000"),
        "Heartbeat interval of consumer groups.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.consumer.min.heartbeat.interval.ms",
        Some("5000"),
        "Smallest `consumer.heartbeat.interval.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.consumer.max.heartbeat.interval.ms",
        Some("15000"),
        "Largest `consumer.heartbeat.interval.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.consumer.session.timeout.ms",
        Some("45000"),
        "Session timeout of consumer groups.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.consumer.min.session.timeout.ms",
        Some("45000"),
        "Smallest `consumer.session.timeout.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.consumer.max.session.timeout.ms",
        Some("60000"),
        "Largest `consumer.session.timeout.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.consumer.max.size",
        Some("2147483647"),
        "Members that a consumer group may have.",
    )
    .at_least(1)
    .ignored(LATER),
    string(
        "group.consumer.migration.policy",
        Some("bidirectional"),
        "Which changes between the classic and the consumer protocol groups may make.",
    )
    .one_of(&["disabled", "upgrade", "downgrade", "bidirectional"])
    .ignored(LATER),
    int(
        "group.streams.assignment.interval.ms",
        Some("1000"),
        "Time between two assignments of a streams group.",
    )
    .at_least(0)
    .cluster()
    .ignored(LATER),
    int(
        "group.streams.min.assignment.interval.ms",
        Some("0"),
        "Smallest `streams.assignment.interval.ms` of a group.",
    )
    .at_least(0)
    .ignored(LATER),
    int(
        "group.streams.max.assignment.interval.ms",
        Some("15000"),
        "Largest `streams.assignment.interval.ms` of a group.",
    )
    .at_least(0)
    .ignored(LATER),
    int(
        "group.streams.heartbeat.interval.ms",
        Some("5000"),
        "Heartbeat interval of streams groups.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.streams.min.heartbeat.interval.ms",
        Some("5000"),
        "Smallest `streams.heartbeat.interval.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.streams.max.heartbeat.interval.ms",
        Some("15000"),
        "Largest `streams.heartbeat.interval.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.streams.session.timeout.ms",
        Some("45000"),
        "Session timeout of streams groups.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.streams.min.session.timeout.ms",
        Some("45000"),
        "Smallest `streams.session.timeout.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.streams.max.session.timeout.ms",
        Some("60000"),
        "Largest `streams.session.timeout.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.streams.initial.rebalance.delay.ms",
        Some("3000"),
        "Time an empty streams group waits for more members.",
    )
    .at_least(0)
    .ignored(LATER),
    int(
        "group.streams.max.size",
        Some("2147483647"),
        "Members that a streams group may have.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.streams.num.standby.replicas",
        Some("0"),
        "Standby replicas per task of streams groups.",
    )
    .at_least(0)
    .ignored(LATER),
    int(
        "group.streams.max.standby.replicas",
        Some("2"),
        "Largest `streams.num.standby.replicas` of a group.",
    )
    .at_least(0)
    .ignored(LATER),
    int(
        "group.share.assignment.interval.ms",
        Some("1000"),
        "Time between two assignments of a share group.",
    )
    .at_least(0)
    .cluster()
    .ignored(LATER),
    int(
        "group.share.min.assignment.interval.ms",
        Some("0"),
        "Smallest `share.assignment.interval.ms` of a group.",
    )
    .at_least(0)
    .ignored(LATER),
    int(
        "group.share.max.assignment.interval.ms",
        Some("15000"),
        "Largest `share.assignment.interval.ms` of a group.",
    )
    .at_least(0)
    .ignored(LATER),
    list(
        "group.share.assignors",
        Some("simple"),
        "Assignors of share groups.",
    )
    .ignored(LATER),
    int(
        "group.share.heartbeat.interval.ms",
        Some("5000"),
        "Heartbeat interval of share groups.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.share.min.heartbeat.interval.ms",
        Some("5000"),
        "Smallest `share.heartbeat.interval.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.share.max.heartbeat.interval.ms",
        Some("15000"),
        "Largest `share.heartbeat.interval.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.share.session.timeout.ms",
        Some("45000"),
        "Session timeout of share groups.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.share.min.session.timeout.ms",
        Some("45000"),
        "Smallest `share.session.timeout.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.share.max.session.timeout.ms",
        Some("60000"),
        "Largest `share.session.timeout.ms` of a group.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.share.max.size",
        Some("200"),
        "Members that a share group may have.",
    )
    .range(1, 1000)
    .ignored(LATER),
    int(
        "group.share.max.share.sessions",
        Some("2000"),
        "Share sessions kept per broker.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "group.share.delivery.count.limit",
        Some("5"),
        "Times a record is delivered to a share group before it is given up.",
    )
    .at_least(2)
    .ignored(LATER),
    int(
        "group.share.min.delivery.count.limit",
        Some("2"),
        "Smallest `share.delivery.count.limit` of a group.",
    )
    .at_least(2)
    .ignored(LATER),
    int(
        "group.share.max.delivery.count.limit",
        Some("10"),
        "Largest `share.delivery.count.limit` of a group.",
    )
    .at_least(5)
    .ignored(LATER),
    int(
        "group.share.record.lock.duration.ms",
        Some("30000"),
        "Time a share consumer holds a record.",
    )
    .at_least(1000)
    .ignored(LATER),
    int(
        "group.share.min.record.lock.duration.ms",
        Some("15000"),
        "Smallest `share.record.lock.duration.ms` of a group.",
    )
    .at_least(1000)
    .ignored(LATER),
    int(
        "group.share.max.record.lock.duration.ms",
        Some("60000"),
        "Largest `share.record.lock.duration.ms` of a group.",
    )
    .at_least(1000)
    .ignored(LATER),
    int(
        "group.share.partition.max.record.locks",
        Some("2000"),
        "Records of a partition held by share consumers at a time.",
    )
    .at_least(100)
    .ignored(LATER),
    int(
        "group.share.min.partition.max.record.locks",
        Some("100"),
        "Smallest `share.partition.max.record.locks` of a group.",
    )
    .at_least(100)
    .ignored(LATER),
    int(
        "group.share.max.partition.max.record.locks",
        Some("4000"),
        "Largest `share.partition.max.record.locks` of a group.",
    )
    .at_least(100)
    .ignored(LATER),
    int(
        "offset.metadata.max.bytes",
        Some("4096"),
        "Largest text that may accompany a committed offset.",
    ),
    int(
        "offsets.commit.timeout.ms",
        Some("5000"),
        "Time a commit waits to be durable.",
    )
    .at_least(1),
    int(
        "offsets.load.buffer.size",
        Some("5242880"),
        "Bytes per read when committed offsets are loaded.",
    )
    .at_least(1)
    .ignored(MEMORY),
    int(
        "offsets.retention.minutes",
        Some("10080"),
        "Time that committed offsets outlive their group's last member.",
    )
    .at_least(1),
    long(
        "offsets.retention.check.interval.ms",
        Some("600000"),
        "Time between two looks for expired offsets.",
    )
    .at_least(1),
    int(
        "offsets.topic.num.partitions",
        Some("50"),
        "Partitions of `__consumer_offsets`; fixed once the topic exists.",
    )
    .at_least(1),
    short(
        "offsets.topic.replication.factor",
        Some("3"),
        "Replicas of `__consumer_offsets`; fewer while the cluster is smaller.",
    )
    .at_least(1),
    int(
        "offsets.topic.segment.bytes",
        Some("104857600"),
        "Segment size of `__consumer_offsets`.",
    )
    .at_least(1),
    int(
        "offsets.topic.compression.codec",
        Some("0"),
        "Number of the codec that `__consumer_offsets` is written with.",
    )
    .ignored(LATER),
    int(
        "transaction.max.timeout.ms",
        Some("900000"),
        "Longest timeout a transaction may ask for.",
    )
    .at_least(1),
    int(
        "transaction.state.log.num.partitions",
        Some("50"),
        "Partitions of `__transaction_state`; fixed once the topic exists.",
    )
    .at_least(1)
    .ignored(LATER),
    short(
        "transaction.state.log.replication.factor",
        Some("3"),
        "Replicas of `__transaction_state`; fewer while the cluster is smaller.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "transaction.state.log.min.isr",
        Some("2"),
        "Minimum of in-sync replicas of `__transaction_state`.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "transaction.state.log.segment.bytes",
        Some("104857600"),
        "Segment size of `__transaction_state`.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "transaction.state.log.load.buffer.size",
        Some("5242880"),
        "Bytes per read when transactions are loaded.",
    )
    .at_least(1)
    .ignored(MEMORY),
    int(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        Some("10000"),
        "Time between two looks for transactions to abort.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        Some("3600000"),
        "Time between two looks for expired transactional ids.",
    )
    .at_least(1)
    .ignored(LATER),
    boolean(
        "transaction.partition.verification.enable",
        Some("true"),
        "Whether a leader asks the coordinator before a transaction's first write.",
    )
    .cluster()
    .ignored(LATER),
    boolean(
        "transaction.two.phase.commit.enable",
        Some("false"),
        "Whether transactions may take part in a two-phase commit.",
    )
    .ignored(LATER),
    int(
        "transactional.id.expiration.ms",
        Some("604800000"),
        "Time after which a silent transactional id is forgotten.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "add.partitions.to.txn.retry.backoff.ms",
        Some("20"),
        "Pause before a leader asks the transaction coordinator again.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "add.partitions.to.txn.retry.backoff.max.ms",
        Some("100"),
        "Longest such pause.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "share.coordinator.append.linger.ms",
        Some("-1"),
        "Time the share coordinator collects writes; -1 adapts.",
    )
    .at_least(-1)
    .ignored(LATER),
    int(
        "share.coordinator.cached.buffer.max.bytes",
        Some("1048588"),
        "Memory that the share coordinator keeps for writing.",
    )
    .at_least(524288)
    .cluster()
    .ignored(MEMORY),
    int(
        "share.coordinator.load.buffer.size",
        Some("5242880"),
        "Bytes per read when share state is loaded.",
    )
    .at_least(1)
    .ignored(MEMORY),
    int(
        "share.coordinator.snapshot.update.records.per.snapshot",
        Some("500"),
        "Updates of share state between two snapshots.",
    )
    .range(0, 500)
    .ignored(LATER),
    int(
        "share.coordinator.state.topic.compression.codec",
        Some("0"),
        "Number of the codec that `__share_group_state` is written with.",
    )
    .ignored(LATER),
    short(
        "share.coordinator.state.topic.min.isr",
        Some("2"),
        "Minimum of in-sync replicas of `__share_group_state`.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "share.coordinator.state.topic.num.partitions",
        Some("50"),
        "Partitions of `__share_group_state`.",
    )
    .at_least(1)
    .ignored(LATER),
    short(
        "share.coordinator.state.topic.replication.factor",
        Some("3"),
        "Replicas of `__share_group_state`.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "share.coordinator.state.topic.segment.bytes",
        Some("104857600"),
        "Segment size of `__share_group_state`.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "share.coordinator.threads",
        Some("1"),
        "Threads of the share coordinator.",
    )
    .at_least(1)
    .ignored(THREADS),
    int(
        "share.coordinator.write.timeout.ms",
        Some("5000"),
        "Time a write of share state waits to be durable.",
    )
    .at_least(1)
    .ignored(LATER),
];
