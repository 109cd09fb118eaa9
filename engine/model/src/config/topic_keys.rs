//! The keys of topics.
//!
//! Names, types, defaults and access are those of Apache Kafka 4.3.1.

use super::key::{Key, Valid, boolean, double, int, list, long, string};
use super::reason::{JOURNAL, LEADERS_READ, LZ4, TIERED};

/// Keys of a topic, without those of Ringlog.
pub(super) const TOPIC_KEYS: &[Key] = &[
    list("cleanup.policy", Some("delete"), "What happens to old records: `delete`, `compact`, both, or nothing when empty.").list_of(&["compact", "delete"]).cluster().synonyms(&["log.cleanup.policy"]),
    string("compression.type", Some("producer"), "Codec that batches are stored with; `producer` keeps what the producer sent.").one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]).cluster().synonyms(&["compression.type"]),
    int("compression.gzip.level", Some("-1"), "Level of gzip where the broker compresses; -1 is the default of the library.").valid(Valid::GzipLevel).cluster().synonyms(&["compression.gzip.level"]),
    int("compression.lz4.level", Some("9"), "Level of lz4 where the broker compresses.").range(1, 17).cluster().synonyms(&["compression.lz4.level"]).ignored(LZ4),
    int("compression.zstd.level", Some("3"), "Level of zstd where the broker compresses.").range(-131072, 22).cluster().synonyms(&["compression.zstd.level"]),
    long("delete.retention.ms", Some("86400000"), "Time a tombstone stays in a compacted log.").at_least(0).cluster().synonyms(&["log.cleaner.delete.retention.ms"]),
    long("file.delete.delay.ms", Some("60000"), "Time between a file's removal from the log and its deletion.").at_least(0).cluster().synonyms(&["log.segment.delete.delay.ms"]),
    long("flush.messages", Some("9223372036854775807"), "Messages between two flushes.").at_least(1).cluster().synonyms(&["log.flush.interval.messages"]).ignored(JOURNAL),
    long("flush.ms", Some("9223372036854775807"), "Time between two flushes.").at_least(0).cluster().synonyms(&["log.flush.interval.ms", "log.flush.scheduler.interval.ms"]).ignored(JOURNAL),
    list("follower.replication.throttled.replicas", Some(""), "Replicas whose followers are throttled, as `partition:broker`, separated by commas, or `*`.").valid(Valid::ThrottledReplicas).cluster().ignored(LEADERS_READ),
    list("leader.replication.throttled.replicas", Some(""), "Replicas whose leaders are throttled, as `partition:broker`, separated by commas, or `*`.").valid(Valid::ThrottledReplicas).cluster(),
    int("index.interval.bytes", Some("4096"), "Bytes of log between two index entries.").at_least(0).cluster().synonyms(&["log.index.interval.bytes"]),
    long("local.retention.bytes", Some("-2"), "Size at which local copies of tiered segments are deleted; -2 is `retention.bytes`.").at_least(-2).cluster().synonyms(&["log.local.retention.bytes"]).ignored(TIERED),
    long("local.retention.ms", Some("-2"), "Age at which local copies of tiered segments are deleted; -2 is `retention.ms`.").at_least(-2).cluster().synonyms(&["log.local.retention.ms"]).ignored(TIERED),
    long("max.compaction.lag.ms", Some("9223372036854775807"), "Time a record stays uncompacted at most.").at_least(1).cluster().synonyms(&["log.cleaner.max.compaction.lag.ms"]),
    int("max.message.bytes", Some("1048588"), "Largest record batch as sent, after compression.").at_least(0).cluster().synonyms(&["message.max.bytes"]),
    long("message.timestamp.after.max.ms", Some("3600000"), "How far a record's timestamp may lie ahead of the broker's clock.").at_least(0).cluster().synonyms(&["log.message.timestamp.after.max.ms"]),
    long("message.timestamp.before.max.ms", Some("9223372036854775807"), "How far a record's timestamp may lie behind the broker's clock.").at_least(0).cluster().synonyms(&["log.message.timestamp.before.max.ms"]),
    string("message.timestamp.type", Some("CreateTime"), "Whether producers or the broker stamp records.").one_of(&["CreateTime", "LogAppendTime"]).cluster().synonyms(&["log.message.timestamp.type"]),
    double("min.cleanable.dirty.ratio", Some("0.5"), "Share of a log that must be uncompacted before it is compacted again.").between(0.0, 1.0).cluster().synonyms(&["log.cleaner.min.cleanable.ratio"]),
    long("min.compaction.lag.ms", Some("0"), "Time a record stays uncompacted at least.").at_least(0).cluster().synonyms(&["log.cleaner.min.compaction.lag.ms"]),
    int("min.insync.replicas", Some("1"), "Replicas in sync without which `acks=all` is refused.").at_least(1).cluster().synonyms(&["min.insync.replicas"]),
    boolean("preallocate", Some("false"), "Whether segment files are allocated at once.").cluster().synonyms(&["log.preallocate"]).ignored(JOURNAL),
    boolean("remote.log.copy.disable", Some("false"), "Whether segments are no longer copied to tiered storage.").cluster().ignored(TIERED),
    boolean("remote.log.delete.on.disable", Some("false"), "Whether tiered segments are deleted when tiering is switched off.").cluster().ignored(TIERED),
    boolean("remote.storage.enable", Some("false"), "Whether old segments move to tiered storage.").cluster().ignored(TIERED),
    long("retention.bytes", Some("-1"), "Size at which a partition loses its oldest segments; -1 is none.").cluster().synonyms(&["log.retention.bytes"]),
    long("retention.ms", Some("604800000"), "Age at which records are deleted; -1 is never.").at_least(-1).cluster().synonyms(&["log.retention.ms", "log.retention.minutes", "log.retention.hours"]),
    int("segment.bytes", Some("1073741824"), "Size at which a segment is closed.").at_least(1048576).cluster().synonyms(&["log.segment.bytes"]),
    int("segment.index.bytes", Some("10485760"), "Size at which an index is full and its segment is closed.").at_least(4).cluster().synonyms(&["log.index.size.max.bytes"]),
    long("segment.jitter.ms", Some("0"), "Largest random part taken off `segment.ms`, so that segments do not all close at once.").at_least(0).cluster().synonyms(&["log.roll.jitter.ms", "log.roll.jitter.hours"]),
    long("segment.ms", Some("604800000"), "Age at which a segment is closed.").at_least(1).cluster().synonyms(&["log.roll.ms", "log.roll.hours"]),
    boolean("unclean.leader.election.enable", Some("false"), "Whether a replica out of sync may become leader, losing records.").cluster().synonyms(&["unclean.leader.election.enable"]),
];
