//! What a shard counts about itself, and the registry of its metrics. Topics have series of their own, partitions have
//! none: the size of a snapshot does not depend on how many partitions there are.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use runtime::metrics::{Labels, labels};
use runtime::{Counter, MetricDefinition, Snapshot, Unit};

/// Topics with series of their own: 500 x 3 series of about 100 bytes of text.
pub const TOPICS_TRACKED_MAX: usize = 500;

/// The label of all other topics. No topic can have a name with a space.
pub const OTHER_TOPICS: &str = "other topics";

#[derive(Default)]
pub struct TopicCounters {
    /// Record batches appended, duplicates not counted.
    pub batches: Counter,
    pub records: Counter,
    /// Their bytes as stored.
    pub bytes: Counter,
}

/// Counters of the topics that have partitions on this shard.
#[derive(Default)]
pub(crate) struct TopicTable {
    topics: RefCell<BTreeMap<Arc<str>, Rc<TopicCounters>>>,
    other: Rc<TopicCounters>,
}

impl TopicTable {
    /// The counters for a topic's partitions to share. Counters of topics without partitions make room when it is
    /// needed.
    pub(crate) fn of(&self, name: &Arc<str>) -> Rc<TopicCounters> {
        let mut topics = self.topics.borrow_mut();
        if let Some(known) = topics.get(name) {
            return known.clone();
        }
        if topics.len() >= TOPICS_TRACKED_MAX {
            topics.retain(|_, counters| Rc::strong_count(counters) > 1);
        }
        if topics.len() >= TOPICS_TRACKED_MAX {
            return self.other.clone();
        }
        let counters = Rc::<TopicCounters>::default();
        topics.insert(name.clone(), counters.clone());
        counters
    }

    pub(crate) fn snapshot_into(&self, into: &mut Snapshot) {
        let mut add = |labels: Labels, counters: &TopicCounters| {
            if counters.batches.get() > 0 {
                into.counter(&TOPIC_BATCHES, labels.clone(), counters.batches.get());
                into.counter(&TOPIC_RECORDS, labels.clone(), counters.records.get());
                into.counter(&TOPIC_BYTES, labels, counters.bytes.get());
            }
        };
        for (name, counters) in &*self.topics.borrow() {
            add(labels([("topic", name.clone())]), counters);
        }
        add(labels([("topic", OTHER_TOPICS)]), &self.other);
    }
}

pub static TOPIC_BATCHES: MetricDefinition = MetricDefinition::counter(
    "ringlog_topic_batches_total",
    Unit::Count,
    "Record batches that clients produced, by topic.",
);
pub static TOPIC_RECORDS: MetricDefinition = MetricDefinition::counter(
    "ringlog_topic_records_total",
    Unit::Count,
    "Records that clients produced, by topic.",
);
pub static TOPIC_BYTES: MetricDefinition = MetricDefinition::counter(
    "ringlog_topic_bytes_total",
    Unit::Bytes,
    "Bytes of record batches that clients produced, as stored, by topic.",
);
/// Bytes that clients produced to all topics.
pub static PRODUCED_BYTES: MetricDefinition = MetricDefinition::counter(
    "ringlog_produced_bytes_total",
    Unit::Bytes,
    "Bytes of record batches that clients produced, as stored.",
);
/// Bytes of the broker's own records.
pub static OWN_BYTES: MetricDefinition = MetricDefinition::counter(
    "ringlog_own_bytes_total",
    Unit::Bytes,
    "Bytes of record batches of the broker itself: metadata, consumer groups.",
);
/// Messages waiting for this shard.
pub static MAILBOX_DEPTH: MetricDefinition = MetricDefinition::gauge(
    "ringlog_mailbox_depth",
    Unit::Count,
    "Messages of other shards that wait in this shard's mailbox.",
);
pub static MAILBOX_FULL: MetricDefinition = MetricDefinition::counter(
    "ringlog_mailbox_full_total",
    Unit::Count,
    "Messages of this shard that found another shard's mailbox full.",
);
/// Messages that wait for room in one.
pub static MAILBOX_OVERFLOW: MetricDefinition = MetricDefinition::gauge(
    "ringlog_mailbox_overflow",
    Unit::Count,
    "Messages of this shard that wait for room in another shard's mailbox.",
);
/// Produce requests that wait for their acknowledgement.
pub static PURGATORY: MetricDefinition = MetricDefinition::gauge(
    "ringlog_purgatory_produce_requests",
    Unit::Count,
    "Produce requests that wait to be acknowledged.",
);
/// Partitions led, by durability level.
pub static PARTITIONS: MetricDefinition = MetricDefinition::gauge(
    "ringlog_partitions_led",
    Unit::Count,
    "Partitions that the shard leads, by what an acknowledgement means there.",
);
/// Snapshots of the metadata log written; shard 0 only.
pub static METADATA_SNAPSHOTS: MetricDefinition = MetricDefinition::counter(
    "ringlog_metadata_snapshots_total",
    Unit::Count,
    "Snapshots of the metadata log that were written.",
);
/// Size of the last one.
pub static METADATA_SNAPSHOT_BYTES: MetricDefinition = MetricDefinition::gauge(
    "ringlog_metadata_snapshot_bytes",
    Unit::Bytes,
    "Size of the last snapshot of the metadata log that this process wrote; 0 if it wrote none.",
);
/// Whether the shard has stopped acknowledging.
pub static FENCED: MetricDefinition = MetricDefinition::gauge(
    "ringlog_fenced",
    Unit::Count,
    "1 after a write or flush failed: the shard acknowledges nothing until a restart.",
);

/// What a shard has counted, besides its topics.
pub(crate) struct Counts {
    pub(crate) produced_bytes: u64,
    pub(crate) own_bytes: u64,
    pub(crate) mailbox_full: u64,
    pub(crate) mailbox_depth: usize,
    pub(crate) mailbox_overflow: usize,
    pub(crate) produce_waiting: usize,
    pub(crate) is_fenced: bool,
}

impl Counts {
    pub(crate) fn snapshot_into(&self, into: &mut Snapshot) {
        for (definition, value) in [
            (&PRODUCED_BYTES, self.produced_bytes),
            (&OWN_BYTES, self.own_bytes),
            (&MAILBOX_FULL, self.mailbox_full),
        ] {
            into.counter(definition, Labels::new(), value);
        }
        for (definition, value) in [
            (&MAILBOX_DEPTH, self.mailbox_depth),
            (&MAILBOX_OVERFLOW, self.mailbox_overflow),
            (&PURGATORY, self.produce_waiting),
            (&FENCED, usize::from(self.is_fenced)),
        ] {
            into.gauge(definition, Labels::new(), value as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use runtime::Snapshot;
    use runtime::metrics::labels;

    use super::{OTHER_TOPICS, TOPICS_TRACKED_MAX, TopicTable};

    #[test]
    fn a_bounded_number_of_topics_have_series() {
        let table = TopicTable::default();
        let name = |number: usize| Arc::<str>::from(format!("topic-{number}"));
        let mut held = Vec::new();
        for number in 0..TOPICS_TRACKED_MAX + 10 {
            let counters = table.of(&name(number));
            counters.batches.increment();
            held.push(counters);
        }
        let series = || {
            let mut snapshot = Snapshot::new();
            table.snapshot_into(&mut snapshot);
            let other = labels([("topic", OTHER_TOPICS)]);
            let total = snapshot.total("ringlog_topic_batches_total");
            (
                total,
                snapshot.number("ringlog_topic_batches_total", &other),
            )
        };
        assert_eq!(series(), (TOPICS_TRACKED_MAX as u64 + 10, 10));
        // A topic whose partitions are gone makes room for a new one.
        held.remove(3);
        table.of(&name(9999)).batches.add(7);
        assert_eq!(series(), (TOPICS_TRACKED_MAX as u64 + 16, 10));
    }
}
