//! Counters of one shard, and what several shards' counters add up to.
//!
//! A counter is a plain cell: no atomic, no lock, no name. Each crate that counts has a `metrics.rs` with the
//! [`MetricDefinition`]s of what it counts and writes the values under them into a [`Snapshot`]; snapshots are `Send`,
//! travel to whoever shows them and merge there.

use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::histogram::HistogramSnapshot;

/// Counts up, for ever. Wraps after 2^64.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds `count`.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// What was added so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// An amount that goes up and down: connections, queued bytes.
#[derive(Debug, Default)]
pub struct Gauge(Cell<u64>);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.set(value);
    }

    /// Adds `count`, saturating.
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().saturating_add(count));
    }

    /// Takes `count` away, saturating.
    pub fn subtract(&self, count: u64) {
        self.0.set(self.0.get().saturating_sub(count));
    }

    /// The amount now.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up only.
    Counter,
    /// Goes up and down. Shards' gauges add up.
    Gauge,
    /// How often which value was seen.
    Histogram,
}

/// What a metric's values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Durations. Values are nanoseconds; whoever shows them in seconds divides by 10^9.
    Seconds,
    /// Bytes.
    Bytes,
    /// Things.
    Count,
}

/// One metric of the broker: an entry of the registry of the crate that counts it.
#[derive(Debug, PartialEq, Eq)]
pub struct MetricDefinition {
    /// As Prometheus wants it: `ringlog_..._total`, `_bytes`, `_seconds`.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// What its values mean.
    pub unit: Unit,
    /// One sentence for whoever reads the endpoint.
    pub help: &'static str,
}

impl MetricDefinition {
    /// A counter.
    pub const fn counter(name: &'static str, unit: Unit, help: &'static str) -> MetricDefinition {
        MetricDefinition {
            name,
            kind: MetricKind::Counter,
            unit,
            help,
        }
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> MetricDefinition {
        MetricDefinition {
            name,
            kind: MetricKind::Gauge,
            unit,
            help,
        }
    }

    /// A histogram.
    pub const fn histogram(name: &'static str, unit: Unit, help: &'static str) -> MetricDefinition {
        MetricDefinition {
            name,
            kind: MetricKind::Histogram,
            unit,
            help,
        }
    }
}

/// The value of a label: known at compile time, or a name that a user chose.
#[derive(Clone, Debug)]
pub enum LabelValue {
    /// One of a fixed set.
    Static(&'static str),
    /// A name, such as a topic's. Whoever counts bounds how many there are.
    Name(Arc<str>),
}

impl LabelValue {
    /// Its text, unescaped.
    pub fn as_str(&self) -> &str {
        match self {
            LabelValue::Static(text) => text,
            LabelValue::Name(text) => text,
        }
    }
}

impl From<&'static str> for LabelValue {
    fn from(text: &'static str) -> LabelValue {
        LabelValue::Static(text)
    }
}

impl From<Arc<str>> for LabelValue {
    fn from(text: Arc<str>) -> LabelValue {
        LabelValue::Name(text)
    }
}

impl From<String> for LabelValue {
    fn from(text: String) -> LabelValue {
        LabelValue::Name(text.into())
    }
}

impl PartialEq for LabelValue {
    fn eq(&self, other: &LabelValue) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for LabelValue {}

impl PartialOrd for LabelValue {
    fn partial_cmp(&self, other: &LabelValue) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LabelValue {
    fn cmp(&self, other: &LabelValue) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

/// Names and values of a series' labels, in the order its definition's crate gives them.
pub type Labels = SmallVec<[(&'static str, LabelValue); 2]>;

/// Labels from names and values: `labels([("api", "fetch")])`.
pub fn labels<V: Into<LabelValue>>(pairs: impl IntoIterator<Item = (&'static str, V)>) -> Labels {
    let pairs = pairs.into_iter();
    pairs.map(|(name, value)| (name, value.into())).collect()
}

/// The value of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(u64),
    /// Of a histogram.
    Histogram(HistogramSnapshot),
}

impl Value {
    /// The number of a counter or gauge, how many values a histogram counted.
    pub fn number(&self) -> u64 {
        match self {
            Value::Counter(value) | Value::Gauge(value) => *value,
            Value::Histogram(histogram) => histogram.count(),
        }
    }

    /// The histogram, if it is one.
    pub fn as_histogram(&self) -> Option<&HistogramSnapshot> {
        match self {
            Value::Histogram(histogram) => Some(histogram),
            Value::Counter(_) | Value::Gauge(_) => None,
        }
    }

    fn merge(&mut self, other: &Value) {
        match (self, other) {
            (Value::Counter(ours), Value::Counter(theirs)) => *ours = ours.wrapping_add(*theirs),
            (Value::Gauge(ours), Value::Gauge(theirs)) => *ours = ours.saturating_add(*theirs),
            (Value::Histogram(ours), Value::Histogram(theirs)) => ours.merge(theirs),
            (ours, theirs) => unreachable!("one metric of two kinds: {ours:?} and {theirs:?}"),
        }
    }

    fn since(&self, earlier: &Value) -> Value {
        match (self, earlier) {
            (Value::Counter(now), Value::Counter(then)) => Value::Counter(now.wrapping_sub(*then)),
            (Value::Histogram(now), Value::Histogram(then)) => Value::Histogram(now.since(then)),
            (now, _) => now.clone(),
        }
    }
}

/// All series of one metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    definition: &'static MetricDefinition,
    series: BTreeMap<Labels, Value>,
}

/// The values of all metrics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    families: BTreeMap<&'static str, Family>,
}

impl Snapshot {
    /// A snapshot without values.
    pub fn new() -> Snapshot {
        Snapshot::default()
    }

    /// Adds to a counter.
    pub fn counter(&mut self, definition: &'static MetricDefinition, labels: Labels, value: u64) {
        self.add(
            definition,
            MetricKind::Counter,
            labels,
            Value::Counter(value),
        );
    }

    /// Adds to a gauge.
    pub fn gauge(&mut self, definition: &'static MetricDefinition, labels: Labels, value: u64) {
        self.add(definition, MetricKind::Gauge, labels, Value::Gauge(value));
    }

    /// Adds to a histogram.
    pub fn histogram(
        &mut self,
        definition: &'static MetricDefinition,
        labels: Labels,
        value: HistogramSnapshot,
    ) {
        self.add(
            definition,
            MetricKind::Histogram,
            labels,
            Value::Histogram(value),
        );
    }

    fn add(
        &mut self,
        definition: &'static MetricDefinition,
        kind: MetricKind,
        labels: Labels,
        value: Value,
    ) {
        assert_eq!(definition.kind, kind, "{}", definition.name);
        let family = self
            .families
            .entry(definition.name)
            .or_insert_with(|| Family {
                definition,
                series: BTreeMap::new(),
            });
        assert_eq!(
            family.definition, definition,
            "two definitions have one name"
        );
        add_series(&mut family.series, &labels, value);
    }

    /// Adds all values of another shard's snapshot.
    pub fn merge(&mut self, other: &Snapshot) {
        for family in other.families.values() {
            for (labels, value) in &family.series {
                let definition = family.definition;
                self.add(definition, definition.kind, labels.clone(), value.clone());
            }
        }
    }

    /// What changed since an earlier snapshot of the same shards; gauges stay as they are now.
    #[must_use]
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let mut changed = self.clone();
        for (name, family) in &mut changed.families {
            for (labels, value) in &mut family.series {
                let before = earlier.families.get(name);
                if let Some(before) = before.and_then(|family| family.series.get(labels)) {
                    *value = value.since(before);
                }
            }
        }
        changed
    }

    /// The value of one series, if it is there.
    pub fn get(&self, name: &str, labels: &Labels) -> Option<&Value> {
        self.families.get(name)?.series.get(labels)
    }

    /// The number of one series, as [`Value::number`] gives it; zero if it is not there.
    pub fn number(&self, name: &str, labels: &Labels) -> u64 {
        self.get(name, labels).map_or(0, Value::number)
    }

    /// The sum over the series of a counter or gauge; for a histogram, how many values it counted. Zero if unknown.
    pub fn total(&self, name: &str) -> u64 {
        let family = self.families.get(name);
        family.map_or(0, |family| family.series.values().map(Value::number).sum())
    }

    /// Metrics in order of name, with their series in order of labels.
    pub fn families(
        &self,
    ) -> impl Iterator<
        Item = (
            &'static MetricDefinition,
            impl Iterator<Item = (&Labels, &Value)>,
        ),
    > {
        let families = self.families.values();
        families.map(|family| (family.definition, family.series.iter()))
    }
}

fn add_series(series: &mut BTreeMap<Labels, Value>, labels: &Labels, value: Value) {
    match series.get_mut(labels) {
        Some(there) => there.merge(&value),
        None => {
            series.insert(labels.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Counter, Gauge, Labels, MetricDefinition, Snapshot, Unit, labels};
    use crate::histogram::Histogram;

    static REQUESTS: MetricDefinition =
        MetricDefinition::counter("ringlog_requests_total", Unit::Count, "Requests.");
    static CONNECTIONS: MetricDefinition =
        MetricDefinition::gauge("ringlog_connections", Unit::Count, "Open connections.");
    static LATENCY: MetricDefinition =
        MetricDefinition::histogram("ringlog_request_seconds", Unit::Seconds, "Whole requests.");

    fn is_send<T: Send + Clone>(_: &T) {}

    #[test]
    fn snapshots_of_shards_add_up() {
        let counter = Counter::default();
        counter.increment();
        counter.add(4);
        let gauge = Gauge::default();
        gauge.set(3);
        gauge.add(2);
        gauge.subtract(1);
        let histogram = Histogram::new();
        histogram.record_nanos(7);
        let fetch = labels([("api", "fetch")]);
        let mut first = Snapshot::new();
        is_send(&first);
        first.counter(&REQUESTS, fetch.clone(), counter.get());
        first.gauge(&CONNECTIONS, Labels::new(), gauge.get());
        first.histogram(&LATENCY, fetch.clone(), histogram.snapshot());
        let mut total = first.clone();
        total.merge(&first);
        // A name given at run time is the same label as one known at compile time.
        let named = labels([("api", Arc::<str>::from("fetch"))]);
        let number = Snapshot::number;
        assert_eq!(number(&total, "ringlog_requests_total", &named), 10);
        assert_eq!(number(&total, "ringlog_connections", &Labels::new()), 8);
        assert_eq!(number(&total, "ringlog_request_seconds", &fetch), 2);
        let since = total.since(&first);
        assert_eq!(number(&since, "ringlog_requests_total", &fetch), 5);
        assert_eq!(number(&since, "ringlog_connections", &Labels::new()), 8);
        assert_eq!(number(&since, "ringlog_request_seconds", &fetch), 1);
        assert_eq!(since.total("ringlog_requests_total"), 5);
        assert!(total.get("unknown", &fetch).is_none());
        let names: Vec<_> = total
            .families()
            .map(|(definition, series)| (definition.name, series.count()))
            .collect();
        assert_eq!(
            names,
            [
                ("ringlog_connections", 1),
                ("ringlog_request_seconds", 1),
                ("ringlog_requests_total", 1)
            ]
        );
    }
}
