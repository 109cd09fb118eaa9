//! How fast segments are read for followers that copy a partition, where an administrator limits that (KIP-73).
//!
//! `leader.replication.throttled.rate` of a broker is in bytes per second, and holds for the partitions that the topic's
//! `leader.replication.throttled.replicas` names, and only for followers out of sync: who is in sync gets what has just been
//! appended, from memory. What was read is a debt that is paid with time, so another rate holds at once. Each shard has its
//! share of the rate.

use std::time::Duration;

use metadata::{ConfigResourceType, MetadataImage};
use model::{BrokerId, MonotonicTime, PartitionIndex, TopicPartition};

/// Of a broker, or of all.
pub(crate) const RATE_KEY: &str = "leader.replication.throttled.rate";

/// Of a topic: `partition:broker`, separated by commas, or `*`.
const REPLICAS_KEY: &str = "leader.replication.throttled.replicas";

/// So much of the rate may be owed when the next piece is read: a tick of the shard may come late.
const AHEAD: Duration = Duration::from_millis(100);

/// What the limited reads of one shard owe. Pure.
#[derive(Debug)]
pub(crate) struct Throttle {
    owed_bytes: u64,
    paid_at: MonotonicTime,
}

impl Throttle {
    pub(crate) fn new(now: MonotonicTime) -> Throttle {
        Throttle {
            owed_bytes: 0,
            paid_at: now,
        }
    }

    /// Whether the next piece may be read at this rate.
    pub(crate) fn is_open(&mut self, now: MonotonicTime, rate: u64) -> bool {
        let paid = bytes_in(now.since(self.paid_at), rate);
        // Else what is less than a byte would never be paid.
        if paid > 0 || self.owed_bytes == 0 {
            self.owed_bytes -= paid.min(self.owed_bytes);
            self.paid_at = now;
        }
        rate > 0 && self.owed_bytes <= bytes_in(AHEAD, rate)
    }

    /// So much was read.
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.owed_bytes += bytes as u64;
    }
}

fn bytes_in(time: Duration, rate: u64) -> u64 {
    let bytes = time.as_nanos() * u128::from(rate) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Bytes per second at which `leader` reads a partition for a follower; `None` when nothing limits it.
pub(crate) fn rate_of(
    image: &MetadataImage,
    leader: BrokerId,
    id: TopicPartition,
    follower: BrokerId,
) -> Option<u64> {
    let rate = rate(image, leader)?;
    let topic = image.topic_by_id(id.topic)?;
    let state = topic.partition(id.partition)?;
    let list = image.topic_configs(topic.name())?.get(REPLICAS_KEY)?;
    let is_limited = !state.isr.contains(&follower) && names(list, id.partition, leader);
    is_limited.then_some(rate)
}

/// What is set for a broker, else for all. It was checked when it was set.
fn rate(image: &MetadataImage, broker: BrokerId) -> Option<u64> {
    let set = |name: &str| {
        let values = image.configs(ConfigResourceType::Broker, name)?;
        values.get(RATE_KEY)?.trim().parse().ok()
    };
    set(&broker.to_string()).or_else(|| set(""))
}

fn names(list: &str, partition: PartitionIndex, broker: BrokerId) -> bool {
    let is_named = |word: &str| match word.trim().split_once(':') {
        Some((of, by)) => of.parse() == Ok(partition.0) && by.parse() == Ok(broker.0),
        None => word.trim() == "*",
    };
    list.split(',').any(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_paid_with_time_at_the_present_rate() {
        let at = |ms: u64| MonotonicTime(0).plus(Duration::from_millis(ms));
        let mut throttle = Throttle::new(at(0));
        assert!(throttle.is_open(at(0), 1_000));
        throttle.owe(1_100);
        // (milliseconds, rate, open)
        let table = [
            (0, 1_000, false),
            (999, 1_000, false),
            (1_000, 1_000, true),
            (1_000, 0, false),
            // Less than a byte at a time is paid, too.
            (1_000, 900, false),
            (1_001, 900, false),
            (1_002, 900, false),
            (1_012, 900, true),
            (60_000, 1, false),
        ];
        for (ms, rate, open) in table {
            assert_eq!(throttle.is_open(at(ms), rate), open, "{ms} ms, {rate} B/s");
        }
        throttle.owe(1 << 20);
        assert!(!throttle.is_open(at(60_010), 1 << 20));
        assert!(throttle.is_open(at(60_910), 1 << 20));
    }

    #[test]
    fn a_list_names_partitions_with_their_leaders() {
        let table = [
            ("", false),
            ("*", true),
            ("3:1", true),
            ("3:2,4:1", false),
            ("3:2, 3:1", true),
            ("3:11", false),
        ];
        for (list, expected) in table {
            assert_eq!(
                names(list, PartitionIndex(3), BrokerId(1)),
                expected,
                "{list}"
            );
        }
    }
}
