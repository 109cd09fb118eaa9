//! Settings and bounds of group coordination.

use std::time::Duration;

use model::{MonotonicTime, Timestamp};

/// Longest group, member, instance or client id in bytes. Kafka's stored strings have at most 32,767; a member id is
/// another id, a dash and 36 characters.
pub(crate) const ID_BYTES_MAX: usize = 32_000;
/// Most protocols that a member may list: assignors of a consumer, of which there are four.
pub(crate) const PROTOCOLS_PER_MEMBER_MAX: usize = 100;
/// Most bytes of metadata over all protocols of a member: what one record of `__consumer_offsets` could hold.
pub(crate) const MEMBER_METADATA_BYTES_MAX: usize = 1 << 20;
/// Most groups of one coordinator: 50 coordinators of 100,000 groups of a few KiB each stay within some GiB, and
/// no known installation comes near.
pub(crate) const GROUPS_MAX: usize = 100_000;
/// Most partitions for which a group commits offsets: five times the partitions of a large cluster.
pub(crate) const OFFSETS_PER_GROUP_MAX: usize = 200_000;
/// Most appends whose durability is awaited. More means that the log stands still: clients are told to retry.
pub(crate) const APPENDS_IN_FLIGHT_MAX: usize = 10_000;
/// A new member may wait this long for its first join to be answered (Kafka's constant).
pub(crate) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Both clocks at one moment: monotonic time decides, wall-clock time labels records and ages offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// For timers.
    pub monotonic: MonotonicTime,
    /// For records.
    pub wall: Timestamp,
}

/// Broker settings, with Kafka's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`: members of a group, and as many more that were only given an id.
    pub group_size_max: usize,
    /// `offset.metadata.max.bytes`, counted as Kafka does in UTF-16 units.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval: Duration,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay: Duration::from_secs(3),
            group_size_max: 10_000,
            offset_metadata_max: 4096,
            offsets_retention: Duration::from_secs(10_080 * 60),
            offsets_retention_check_interval: Duration::from_secs(600),
        }
    }
}
