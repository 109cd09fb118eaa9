//! Topic values: what a real broker accepts and refuses on creation, and what the typed settings become.

use model::config::{CleanupPolicy, CompressionType, ConfigError, Durability, TopicConfig};
use model::record::{CompressedValidation, Compression, TimestampType};

use super::{broker, settings};

/// The "validate only" rows: value, and whether it is accepted.
const CREATE_ROWS: &[(&str, Option<&str>, bool)] = &[
    ("no.such", Some("1"), false),
    ("retention.ms", None, false),
    ("retention.ms", Some("a"), false),
    ("retention.ms", Some("-2"), false),
    ("retention.ms", Some(""), false),
    ("cleanup.policy", Some("burn"), false),
    ("cleanup.policy", Some(""), true),
    ("cleanup.policy", Some("none"), false),
    ("cleanup.policy", Some("compact,compact"), true),
    ("max.message.bytes", Some("-7"), false),
    ("max.message.bytes", Some("2147483648"), false),
    ("segment.bytes", Some("100"), false),
    ("min.insync.replicas", Some("5"), true),
    ("min.insync.replicas", Some("0"), false),
    ("compression.type", Some("brotli"), false),
    ("compression.type", Some("uncompressed"), true),
    ("message.timestamp.type", Some("Never"), false),
    ("message.format.version", Some("2.0"), false),
    ("unclean.leader.election.enable", Some("yes"), false),
    ("message.timestamp.difference.max.ms", Some("5"), false),
    ("remote.storage.enable", Some("true"), false),
    ("segment.ms", Some("0"), false),
    ("min.cleanable.dirty.ratio", Some("1.5"), false),
    // Beyond the rows: edges of the same rules.
    ("retention.ms", Some("-1"), true),
    ("retention.ms", Some("soon"), false),
    ("segment.bytes", Some("1048576"), true),
    ("segment.bytes", Some("1048575"), false),
    ("min.cleanable.dirty.ratio", Some("NaN"), false),
    ("min.cleanable.dirty.ratio", Some("1"), true),
    ("unclean.leader.election.enable", Some("TRUE"), true),
    ("compression.gzip.level", Some("0"), false),
    ("compression.gzip.level", Some("-1"), true),
    ("leader.replication.throttled.replicas", Some("*"), true),
    (
        "leader.replication.throttled.replicas",
        Some("0:1,1:2"),
        true,
    ),
    (
        "leader.replication.throttled.replicas",
        Some("0:1,*"),
        false,
    ),
    ("leader.replication.throttled.replicas", Some("a:1"), false),
    ("ringlog.durability", Some("written"), true),
    ("ringlog.durability", Some("memory"), false),
    ("min.compaction.lag.ms", Some("9223372036854775807"), true),
];

#[test]
fn creation_accepts_and_refuses_as_a_real_broker() {
    let broker = broker(&[]);
    for (name, value, accepted) in CREATE_ROWS {
        let outcome = TopicConfig::from_nullable_overrides([(*name, *value)], &broker);
        assert_eq!(outcome.is_ok(), *accepted, "{name}={value:?}: {outcome:?}");
    }
}

#[test]
fn defaults_and_broker_synonyms() {
    let plain = TopicConfig::defaults(&broker(&[])).unwrap();
    assert_eq!(plain.retention_ms, 604_800_000);
    assert_eq!(plain.segment_bytes, 1 << 30);
    assert_eq!(plain.durability, Durability::Flushed);
    assert_eq!(plain.compression_type, CompressionType::Producer);
    assert_eq!(
        plain.cleanup_policy,
        CleanupPolicy {
            delete: true,
            compact: false
        }
    );
    let rules = plain.validation_rules();
    assert_eq!(rules, model::record::ValidationRules::default());
    let broker = broker(&[
        ("log.retention.minutes", "3"),
        ("log.retention.hours", "9"),
        ("log.roll.hours", "2"),
        ("ringlog.durability", "written"),
        ("ringlog.compressed.validation", "frame"),
        ("log.cleanup.policy", "compact, delete"),
        ("log.message.timestamp.type", "LogAppendTime"),
        ("compression.type", "zstd"),
        ("compression.zstd.level", "7"),
        ("message.max.bytes", "5000"),
    ]);
    let topic = TopicConfig::defaults(&broker).unwrap();
    assert_eq!((topic.retention_ms, topic.segment_ms), (180_000, 7_200_000));
    assert_eq!(topic.durability, Durability::Written);
    assert_eq!(topic.compressed_validation, CompressedValidation::Frame);
    assert_eq!(
        topic.cleanup_policy,
        CleanupPolicy {
            delete: true,
            compact: true
        }
    );
    assert_eq!(
        topic.compression_type,
        CompressionType::Codec(Compression::Zstd)
    );
    assert_eq!(topic.compression_level(Compression::Zstd), Some(7));
    let rules = topic.validation_rules();
    assert_eq!((rules.batch_bytes_max, rules.key_required), (5000, true));
    assert_eq!(rules.timestamp_type, TimestampType::LogAppendTime);
    let own = settings(&[
        ("ringlog.durability", "flushed"),
        ("compression.type", "uncompressed"),
    ]);
    let topic = TopicConfig::from_overrides(&own, &broker).unwrap();
    assert_eq!(topic.durability, Durability::Flushed);
    assert_eq!(
        topic.compression_type,
        CompressionType::Codec(Compression::None)
    );
}

#[test]
fn values_that_do_not_go_together() {
    let lags = settings(&[
        ("min.compaction.lag.ms", "9"),
        ("max.compaction.lag.ms", "8"),
    ]);
    let outcome = TopicConfig::from_overrides(&lags, &broker(&[]));
    assert!(matches!(outcome, Err(ConfigError::Conflict(_))));
    let tiered = broker(&[("remote.log.storage.system.enable", "true")]);
    let remote = settings(&[("remote.storage.enable", "true")]);
    assert!(
        TopicConfig::from_overrides(&remote, &tiered)
            .unwrap()
            .remote_storage_enable
    );
}
