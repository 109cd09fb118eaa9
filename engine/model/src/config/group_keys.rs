//! The keys of groups and of client metrics subscriptions.
//!
//! Names, types, defaults and access are those of Apache Kafka 4.3.1.

use super::key::{Key, boolean, int, list, string};
use super::reason::LATER;

/// Keys of a group.
pub(super) const GROUP_KEYS: &[Key] = &[
    int("consumer.assignment.interval.ms", Some("1000"), "Time between two assignments of the consumer group.").at_least(0).cluster().synonyms(&["group.consumer.assignment.interval.ms"]).ignored(LATER),
    int("consumer.heartbeat.interval.ms", Some("5000"), "Heartbeat interval of the consumer group.").at_least(1).cluster().synonyms(&["group.consumer.heartbeat.interval.ms"]).ignored(LATER),
    int("consumer.session.timeout.ms", Some("45000"), "Session timeout of the consumer group.").at_least(1).cluster().synonyms(&["group.consumer.session.timeout.ms"]).ignored(LATER),
    int("share.assignment.interval.ms", Some("1000"), "Time between two assignments of the share group.").at_least(0).cluster().synonyms(&["group.share.assignment.interval.ms"]).ignored(LATER),
    string("share.auto.offset.reset", Some("latest"), "Where a share group begins: `latest`, `earliest` or `by_duration:` and an ISO 8601 duration.").cluster().ignored(LATER),
    int("share.delivery.count.limit", Some("5"), "Times a record is delivered before it is given up.").at_least(2).cluster().synonyms(&["group.share.delivery.count.limit"]).ignored(LATER),
    int("share.heartbeat.interval.ms", Some("5000"), "Heartbeat interval of the share group.").at_least(1).cluster().synonyms(&["group.share.heartbeat.interval.ms"]).ignored(LATER),
    string("share.isolation.level", Some("read_uncommitted"), "Whether a share group sees records of open and aborted transactions.").one_of(&["read_committed", "read_uncommitted"]).cluster().ignored(LATER),
    int("share.partition.max.record.locks", Some("2000"), "Records of a partition held by the group's members at a time.").at_least(100).cluster().synonyms(&["group.share.partition.max.record.locks"]).ignored(LATER),
    int("share.record.lock.duration.ms", Some("30000"), "Time a member holds a record.").at_least(1000).cluster().synonyms(&["group.share.record.lock.duration.ms"]).ignored(LATER),
    boolean("share.renew.acknowledge.enable", Some("true"), "Whether members may prolong the time they hold a record.").cluster().ignored(LATER),
    int("share.session.timeout.ms", Some("45000"), "Session timeout of the share group.").at_least(1).cluster().synonyms(&["group.share.session.timeout.ms"]).ignored(LATER),
    int("streams.assignment.interval.ms", Some("1000"), "Time between two assignments of the streams group.").at_least(0).cluster().synonyms(&["group.streams.assignment.interval.ms"]).ignored(LATER),
    int("streams.heartbeat.interval.ms", Some("5000"), "Heartbeat interval of the streams group.").at_least(1).cluster().synonyms(&["group.streams.heartbeat.interval.ms"]).ignored(LATER),
    int("streams.initial.rebalance.delay.ms", Some("3000"), "Time the empty streams group waits for more members.").at_least(0).cluster().synonyms(&["group.streams.initial.rebalance.delay.ms"]).ignored(LATER),
    int("streams.num.standby.replicas", Some("0"), "Standby replicas per task.").at_least(0).cluster().synonyms(&["group.streams.num.standby.replicas"]).ignored(LATER),
    int("streams.session.timeout.ms", Some("45000"), "Session timeout of the streams group.").at_least(1).cluster().synonyms(&["group.streams.session.timeout.ms"]).ignored(LATER),
];

/// Keys of a client metrics subscription.
pub(super) const CLIENT_METRICS_KEYS: &[Key] = &[
    int(
        "interval.ms",
        Some("300000"),
        "Time between two pushes of client metrics.",
    )
    .range(100, 3600000)
    .cluster()
    .ignored(LATER),
    list("match", Some(""), "Clients that the subscription is for.")
        .cluster()
        .ignored(LATER),
    list(
        "metrics",
        Some(""),
        "Prefixes of the metrics that are pushed.",
    )
    .cluster()
    .ignored(LATER),
];
