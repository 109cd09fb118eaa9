//! The keys of the broker itself: identity, listeners, sockets, limits, metrics, quotas.
//!
//! Names, types, defaults and access are those of Apache Kafka 4.3.1.

use super::key::{Key, Valid, boolean, class, int, list, long, string};
use super::reason::{
    CLUSTER, JAVA, LATER, LZ4, MEMORY, METRICS, PURGATORY, QUOTA, SECURITY, THREADS,
};

/// These keys.
pub(super) const BROKER_KEYS: &[Key] = &[
    int(
        "node.id",
        None,
        "Number of this broker in its cluster; unique and stable.",
    )
    .at_least(0),
    int(
        "broker.id",
        Some("-1"),
        "Older name of `node.id`, used when that is not set.",
    )
    .at_least(-1),
    string(
        "broker.rack",
        None,
        "Failure domain of this broker; replicas of a partition are spread over racks, and consumers may read from their own.",
    ),
    list(
        "process.roles",
        None,
        "Whether this process is a broker, a controller or both.",
    )
    .list_of(&["broker", "controller"])
    .ignored(LATER),
    list(
        "listeners",
        Some("PLAINTEXT://:9092"),
        "Addresses that the broker listens on, as `NAME://host:port`, separated by commas.",
    )
    .per_broker(),
    list(
        "advertised.listeners",
        None,
        "Addresses that clients are told; `listeners` if not set.",
    ),
    string(
        "listener.security.protocol.map",
        Some("SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT"),
        "Security protocol of each listener name, as `NAME:PROTOCOL`, separated by commas. PLAINTEXT is what is served.",
    )
    .per_broker(),
    list(
        "early.start.listeners",
        None,
        "Listeners that open before authorization data has been loaded.",
    )
    .ignored(SECURITY),
    string(
        "inter.broker.listener.name",
        None,
        "Listener that brokers use among themselves.",
    )
    .ignored(CLUSTER),
    string(
        "security.inter.broker.protocol",
        Some("PLAINTEXT"),
        "Security protocol between brokers when no listener name is given.",
    )
    .one_of(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
    .ignored(CLUSTER),
    int(
        "socket.send.buffer.bytes",
        Some("102400"),
        "Size of a connection's kernel send buffer; -1 leaves it to the kernel.",
    )
    .at_least(-1),
    int(
        "socket.receive.buffer.bytes",
        Some("102400"),
        "Size of a connection's kernel receive buffer; -1 leaves it to the kernel.",
    )
    .at_least(-1),
    int(
        "socket.request.max.bytes",
        Some("104857600"),
        "Largest request accepted; a larger one ends the connection.",
    )
    .at_least(1),
    int(
        "socket.listen.backlog.size",
        Some("50"),
        "Connections that the kernel queues until they are accepted.",
    )
    .at_least(1),
    long(
        "socket.connection.setup.timeout.ms",
        Some("10000"),
        "Time allowed for a connection to another broker.",
    )
    .at_least(0)
    .ignored(CLUSTER),
    long(
        "socket.connection.setup.timeout.max.ms",
        Some("30000"),
        "Longest time allowed for such a connection after repeated failures.",
    )
    .at_least(0)
    .ignored(CLUSTER),
    int(
        "max.connections",
        Some("2147483647"),
        "Connections accepted by the broker at a time.",
    )
    .at_least(0)
    .cluster(),
    int(
        "max.connections.per.ip",
        Some("2147483647"),
        "Connections accepted from one address at a time.",
    )
    .at_least(0)
    .ignored(LATER)
    .cluster(),
    string(
        "max.connections.per.ip.overrides",
        Some(""),
        "Exceptions to `max.connections.per.ip`, as `address:count`, separated by commas.",
    )
    .ignored(LATER)
    .cluster(),
    int(
        "max.connection.creation.rate",
        Some("2147483647"),
        "Connections accepted per second.",
    )
    .at_least(0)
    .cluster()
    .ignored(QUOTA),
    long(
        "connections.max.idle.ms",
        Some("600000"),
        "A connection without traffic is closed after this time.",
    ),
    int(
        "connection.failed.authentication.delay.ms",
        Some("100"),
        "Delay of the answer to a failed authentication.",
    )
    .at_least(0)
    .ignored(SECURITY),
    int(
        "queued.max.requests",
        Some("500"),
        "Requests that wait for a thread before reading stops.",
    )
    .at_least(1)
    .ignored(MEMORY),
    long(
        "queued.max.request.bytes",
        Some("-1"),
        "Bytes of such requests.",
    )
    .ignored(MEMORY),
    int(
        "num.network.threads",
        Some("3"),
        "Threads that serve sockets.",
    )
    .at_least(1)
    .cluster()
    .ignored(THREADS),
    int(
        "num.io.threads",
        Some("8"),
        "Threads that process requests.",
    )
    .at_least(1)
    .cluster()
    .ignored(THREADS),
    int(
        "background.threads",
        Some("10"),
        "Threads for housekeeping.",
    )
    .at_least(1)
    .cluster()
    .ignored(THREADS),
    int(
        "num.recovery.threads.per.data.dir",
        Some("2"),
        "Threads that recover logs at start.",
    )
    .at_least(1)
    .cluster()
    .ignored(THREADS),
    int(
        "num.replica.alter.log.dirs.threads",
        None,
        "Threads that move replicas between data directories.",
    )
    .ignored(THREADS),
    int(
        "request.timeout.ms",
        Some("30000"),
        "Time after which a request to another broker fails.",
    )
    .at_least(1)
    .ignored(CLUSTER),
    int(
        "message.max.bytes",
        Some("1048588"),
        "Largest record batch as sent, in bytes; the default of `max.message.bytes`.",
    )
    .at_least(0)
    .cluster(),
    int(
        "fetch.max.bytes",
        Some("57671680"),
        "Largest fetch response, in bytes, beyond a first batch that is larger.",
    )
    .at_least(1024),
    int(
        "max.request.partition.size.limit",
        Some("2000"),
        "Partitions that one DescribeTopicPartitions answer lists.",
    )
    .at_least(1),
    int(
        "max.incremental.fetch.session.cache.slots",
        Some("1000"),
        "Incremental fetch sessions kept per broker.",
    )
    .at_least(0),
    int(
        "fetch.purgatory.purge.interval.requests",
        Some("1000"),
        "Requests between two purges of waiting fetches.",
    )
    .ignored(PURGATORY),
    int(
        "producer.purgatory.purge.interval.requests",
        Some("1000"),
        "Requests between two purges of waiting produces.",
    )
    .ignored(PURGATORY),
    int(
        "delete.records.purgatory.purge.interval.requests",
        Some("1"),
        "Requests between two purges of waiting deletions.",
    )
    .ignored(PURGATORY),
    int(
        "share.fetch.purgatory.purge.interval.requests",
        Some("1000"),
        "Requests between two purges of waiting share fetches.",
    )
    .ignored(PURGATORY),
    boolean(
        "auto.create.topics.enable",
        Some("true"),
        "Whether asking for an unknown topic may create it.",
    ),
    boolean(
        "delete.topic.enable",
        Some("true"),
        "Whether topics can be deleted.",
    ),
    int(
        "num.partitions",
        Some("1"),
        "Partitions of a topic created without a count.",
    )
    .at_least(1),
    int(
        "default.replication.factor",
        Some("1"),
        "Replicas of a topic created without a factor.",
    )
    .at_least(1),
    class(
        "create.topic.policy.class.name",
        None,
        "Policy that checks new topics.",
    )
    .ignored(JAVA),
    class(
        "alter.config.policy.class.name",
        None,
        "Policy that checks changes of configurations.",
    )
    .ignored(JAVA),
    boolean(
        "controlled.shutdown.enable",
        Some("true"),
        "Whether a stopping broker first gives its leaderships away.",
    )
    .ignored(CLUSTER),
    list(
        "config.providers",
        Some(""),
        "Providers that replace variables in configuration values.",
    )
    .cluster()
    .ignored(JAVA),
    string(
        "compression.type",
        Some("producer"),
        "Codec that topics store batches with; `producer` keeps what the producer sent.",
    )
    .one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])
    .cluster(),
    int(
        "compression.gzip.level",
        Some("-1"),
        "Level of gzip where the broker compresses; -1 is the default of the library.",
    )
    .valid(Valid::GzipLevel)
    .cluster(),
    int(
        "compression.lz4.level",
        Some("9"),
        "Level of lz4 where the broker compresses.",
    )
    .range(1, 17)
    .cluster()
    .ignored(LZ4),
    int(
        "compression.zstd.level",
        Some("3"),
        "Level of zstd where the broker compresses.",
    )
    .range(-131072, 22)
    .cluster(),
    list(
        "metric.reporters",
        Some("org.apache.kafka.common.metrics.JmxReporter"),
        "Classes that report metrics.",
    )
    .cluster()
    .ignored(METRICS),
    int(
        "metrics.num.samples",
        Some("2"),
        "Samples that a metric is computed from.",
    )
    .at_least(1)
    .ignored(METRICS),
    long(
        "metrics.sample.window.ms",
        Some("30000"),
        "Time that one sample covers.",
    )
    .at_least(1)
    .ignored(METRICS),
    string(
        "metrics.recording.level",
        Some("INFO"),
        "Detail of metrics.",
    )
    .one_of(&["INFO", "DEBUG", "TRACE"])
    .ignored(METRICS),
    list(
        "kafka.metrics.reporters",
        Some(""),
        "Older form of `metric.reporters`.",
    )
    .ignored(METRICS),
    int(
        "kafka.metrics.polling.interval.secs",
        Some("10"),
        "Seconds between two polls of those reporters.",
    )
    .at_least(1)
    .ignored(METRICS),
    int(
        "telemetry.max.bytes",
        Some("1048576"),
        "Largest push of client telemetry.",
    )
    .at_least(1)
    .ignored(LATER),
    int(
        "quota.window.num",
        Some("11"),
        "Samples that client quotas are computed from.",
    )
    .at_least(1)
    .ignored(QUOTA),
    int(
        "quota.window.size.seconds",
        Some("1"),
        "Time that one sample of a client quota covers.",
    )
    .at_least(1)
    .ignored(QUOTA),
    int(
        "controller.quota.window.num",
        Some("11"),
        "Samples that controller quotas are computed from.",
    )
    .at_least(1)
    .ignored(QUOTA),
    int(
        "controller.quota.window.size.seconds",
        Some("1"),
        "Time that one sample of a controller quota covers.",
    )
    .at_least(1)
    .ignored(QUOTA),
    int(
        "replication.quota.window.num",
        Some("11"),
        "Samples that replication quotas are computed from.",
    )
    .at_least(1)
    .ignored(QUOTA),
    int(
        "replication.quota.window.size.seconds",
        Some("1"),
        "Time that one sample of a replication quota covers.",
    )
    .at_least(1)
    .ignored(QUOTA),
    int(
        "alter.log.dirs.replication.quota.window.num",
        Some("11"),
        "Samples that the quota of moves between directories is computed from.",
    )
    .at_least(1)
    .ignored(QUOTA),
    int(
        "alter.log.dirs.replication.quota.window.size.seconds",
        Some("1"),
        "Time that one sample of that quota covers.",
    )
    .at_least(1)
    .ignored(QUOTA),
    class(
        "client.quota.callback.class",
        None,
        "Class that decides client quotas.",
    )
    .ignored(JAVA),
];
