//! Why a key of Kafka's is accepted and reported but does nothing.

pub(super) const LATER: &str = "the feature is not there yet";
pub(super) const SECURITY: &str = "TLS, SASL and authorization are not there yet";
pub(super) const CLUSTER: &str = "what it changes among several brokers is not there yet";
pub(super) const LEADERS_READ: &str = "what leaders read for followers is throttled";
pub(super) const QUOTA: &str = "quotas are not there yet";
pub(super) const TIERED: &str = "tiered storage is not there yet";
pub(super) const KERBEROS: &str = "Kerberos is not supported";
pub(super) const MEMORY: &str = "all memory is part of ringlog.memory.bytes";
pub(super) const THREADS: &str = "each core has one thread, which does this work too";
pub(super) const PURGATORY: &str = "waiting requests are removed when they are answered";
pub(super) const JAVA: &str = "it names a part of Kafka's Java code";
pub(super) const LZ4: &str = "the lz4 encoder has one level";
pub(super) const METRICS: &str = "metrics are kept as counters and histograms";
pub(super) const FENCE: &str = "a broker whose directory fails stops writing at once";
pub(super) const ONE_DIRECTORY: &str = "a broker has one data directory";
pub(super) const JOURNAL: &str = "the commit journal decides when and how data is written";
