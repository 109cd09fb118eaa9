//! The broker's keys about the cluster: replication, the metadata quorum, broker sessions.
//!
//! Names, types, defaults and access are those of Apache Kafka 4.3.1.

use super::key::{Key, boolean, int, list, long, string};
use super::reason::{CLUSTER, ONE_DIRECTORY, THREADS};

/// `replica.selector.class` that lets consumers read in their rack.
pub const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// These keys.
pub(super) const CLUSTER_KEYS: &[Key] = &[
    long(
        "replica.lag.time.max.ms",
        Some("30000"),
        "A follower that has not caught up for this long leaves the in-sync replicas.",
    ),
    int(
        "replica.socket.timeout.ms",
        Some("30000"),
        "Time a follower waits for its leader's answer.",
    )
    .ignored(CLUSTER),
    int(
        "replica.socket.receive.buffer.bytes",
        Some("65536"),
        "Size of a follower's kernel receive buffer.",
    )
    .ignored(CLUSTER),
    int(
        "replica.fetch.max.bytes",
        Some("1048576"),
        "Bytes per partition that a follower asks for.",
    )
    .at_least(0)
    .ignored(CLUSTER),
    int(
        "replica.fetch.response.max.bytes",
        Some("10485760"),
        "Bytes per answer that a follower asks for.",
    )
    .at_least(0)
    .ignored(CLUSTER),
    int(
        "replica.fetch.wait.max.ms",
        Some("500"),
        "Time a leader holds a follower's fetch when there is nothing new.",
    )
    .ignored(CLUSTER),
    int(
        "replica.fetch.min.bytes",
        Some("1"),
        "Bytes for which a leader answers before that time.",
    )
    .ignored(CLUSTER),
    int(
        "replica.fetch.backoff.ms",
        Some("1000"),
        "Pause of a follower after a failed fetch.",
    )
    .at_least(0)
    .ignored(CLUSTER),
    long(
        "replica.high.watermark.checkpoint.interval.ms",
        Some("5000"),
        "Time between two writes of high watermarks.",
    )
    .ignored(CLUSTER),
    string(
        "replica.selector.class",
        None,
        "Who picks the replica that a consumer reads from: a class of Kafka's that does it here, too. With the rack-aware one, consumers that say where they are read from a replica in their rack.",
    )
    .one_of(&[
        "org.apache.kafka.common.replica.LeaderSelector",
        RACK_AWARE_SELECTOR,
    ]),
    int(
        "num.replica.fetchers",
        Some("1"),
        "Connections per leader that a follower fetches over.",
    )
    .cluster()
    .ignored(THREADS),
    boolean(
        "auto.leader.rebalance.enable",
        Some("true"),
        "Whether leadership returns to preferred replicas by itself.",
    ),
    long(
        "leader.imbalance.check.interval.seconds",
        Some("300"),
        "Seconds between two looks for such returns.",
    )
    .at_least(1),
    int(
        "broker.heartbeat.interval.ms",
        Some("250"),
        "Time between two heartbeats of a broker to the controller.",
    )
    .at_least(1),
    int(
        "broker.session.timeout.ms",
        Some("2000"),
        "Time without heartbeats after which a broker counts as down.",
    )
    .at_least(1),
    int(
        "initial.broker.registration.timeout.ms",
        Some("60000"),
        "Time a starting broker tries to register before it gives up.",
    )
    .ignored(CLUSTER),
    list(
        "controller.listener.names",
        None,
        "Listeners that are not for clients: the first of them is where the broker listens for other brokers.",
    ),
    int(
        "controller.socket.timeout.ms",
        Some("30000"),
        "Time allowed for requests to the controller.",
    )
    .ignored(CLUSTER),
    list(
        "controller.quorum.voters",
        Some(""),
        "Members of the metadata quorum, as `id@host:port`, separated by commas.",
    ),
    list(
        "controller.quorum.bootstrap.servers",
        Some(""),
        "Addresses from which the metadata quorum is found.",
    ),
    boolean(
        "controller.quorum.auto.join.enable",
        Some("false"),
        "Whether a new controller joins the quorum by itself.",
    )
    .ignored(CLUSTER),
    int(
        "controller.quorum.election.timeout.ms",
        Some("1000"),
        "Time a candidate waits for votes.",
    )
    .ignored(CLUSTER),
    int(
        "controller.quorum.election.backoff.max.ms",
        Some("1000"),
        "Longest pause before another election.",
    )
    .ignored(CLUSTER),
    int(
        "controller.quorum.fetch.timeout.ms",
        Some("2000"),
        "Time without an answer after which a new quorum leader is elected.",
    )
    .ignored(CLUSTER),
    int(
        "controller.quorum.fetch.max.bytes",
        Some("1048576"),
        "Bytes per fetch of the metadata log.",
    )
    .at_least(0)
    .ignored(CLUSTER),
    int(
        "controller.quorum.fetch.snapshot.max.bytes",
        Some("1048576"),
        "Bytes per fetch of a metadata snapshot.",
    )
    .at_least(0)
    .ignored(CLUSTER),
    int(
        "controller.quorum.append.linger.ms",
        Some("25"),
        "Time the quorum leader collects writes.",
    )
    .ignored(CLUSTER),
    int(
        "controller.quorum.request.timeout.ms",
        Some("2000"),
        "Time allowed for requests within the quorum.",
    )
    .ignored(CLUSTER),
    int(
        "controller.quorum.retry.backoff.ms",
        Some("20"),
        "Pause before such a request is repeated.",
    )
    .ignored(CLUSTER),
    string("metadata.log.dir", None, "Directory of the metadata log.").ignored(ONE_DIRECTORY),
    int(
        "metadata.log.segment.bytes",
        Some("1073741824"),
        "Size at which a segment of the metadata log is closed.",
    )
    .at_least(8388608)
    .ignored(CLUSTER),
    long(
        "metadata.log.segment.ms",
        Some("604800000"),
        "Age at which a segment of the metadata log is closed.",
    )
    .ignored(CLUSTER),
    long(
        "metadata.log.max.record.bytes.between.snapshots",
        Some("20971520"),
        "Bytes of metadata log after which a snapshot is written.",
    )
    .at_least(1),
    long(
        "metadata.log.max.snapshot.interval.ms",
        Some("3600000"),
        "Time after which a snapshot of the metadata is written if there is anything new; 0 is never.",
    )
    .at_least(0),
    long(
        "metadata.max.retention.bytes",
        Some("104857600"),
        "Size at which old metadata segments and snapshots are deleted.",
    )
    .ignored(CLUSTER),
    long(
        "metadata.max.retention.ms",
        Some("604800000"),
        "Age at which old metadata segments and snapshots are deleted.",
    )
    .ignored(CLUSTER),
    int(
        "metadata.max.idle.interval.ms",
        Some("500"),
        "Time without records after which the quorum leader writes an empty one.",
    )
    .at_least(0)
    .ignored(CLUSTER),
];
