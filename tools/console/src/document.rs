//! All metrics of a broker at one moment: what `/metrics.json` carries and what the Prometheus text is made of.
//!
//! Owned data without lifetimes of the broker's statics, so that it can be read back from JSON by `ringlog top`.
//! Families are in order of name, series in order of labels and then of shard. Size is bounded by construction: series
//! with a `topic` label are summed over the shards (500 topics on 64 shards would be 32,000 series each) and there are
//! at most [`TOPICS_MAX`] of them, all others are a fixed set per shard.

use std::collections::BTreeMap;

use model::ShardId;
use runtime::{HistogramSnapshot, Labels, MetricDefinition, MetricKind, Snapshot};
use serde::{Deserialize, Serialize};

use crate::process::ProcessStatus;

/// The label whose series are summed over shards.
const TOPIC_LABEL: &str = "topic";

/// Topics with series of their own. Each shard has such a limit, too, but the shards may have different topics.
pub const TOPICS_MAX: usize = 500;

/// The name of all other topics, which no topic can have.
pub const OTHER_TOPICS: &str = "other topics";

/// Largest count of one bucket that is believed: a million requests a second for 35 years. [`BUCKETS_MAX`] of them do
/// not overflow when they are summed.
const BUCKET_COUNT_MAX: u64 = 1 << 50;

/// Largest number of buckets of one histogram that is believed.
const BUCKETS_MAX: usize = 4096;

/// All metrics at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Version of the broker.
    pub version: String,
    /// Seconds since the console started, by a clock that never jumps: differences of it are the time between two
    /// documents.
    pub uptime_seconds: f64,
    /// The shards and whether they answered.
    pub shards: Vec<Shard>,
    /// The metrics.
    pub families: Vec<Family>,
}

/// One shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its number.
    pub shard: u16,
    /// Whether it answered in time; if not, its series are missing.
    pub up: bool,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Goes up only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// How often which value was seen.
    Histogram,
}

/// What values mean. Histograms of durations are in nanoseconds, other durations in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Durations.
    Seconds,
    /// Bytes.
    Bytes,
    /// Things.
    Count,
}

/// One metric with all its series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// As in Prometheus.
    pub name: String,
    /// How it behaves.
    pub kind: Kind,
    /// What values mean.
    pub unit: Unit,
    /// One sentence.
    pub help: String,
    /// The values.
    pub series: Vec<Series>,
}

/// One value with its labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The shard; absent for the whole broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u16>,
    /// Further labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The value.
    #[serde(flatten)]
    pub value: Value,
}

impl Series {
    /// A value of the whole broker without labels.
    pub fn of(value: Value) -> Series {
        Series {
            shard: None,
            labels: BTreeMap::new(),
            value,
        }
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// Of a counter or gauge.
    #[serde(rename = "value")]
    Number(Number),
    /// Of a histogram.
    Histogram(Histogram),
}

impl Value {
    /// Adds another value of the same metric.
    fn add(&mut self, more: &Value) {
        match (self, more) {
            (Value::Number(Number::Whole(sum)), Value::Number(Number::Whole(more))) => {
                *sum = sum.wrapping_add(*more);
            }
            (Value::Number(sum), Value::Number(more)) => {
                *sum = Number::Real(sum.as_f64() + more.as_f64());
            }
            (Value::Histogram(sum), Value::Histogram(more)) => sum.0.merge(&more.0),
            (sum, more) => debug_assert!(false, "one metric of two kinds: {sum:?}, {more:?}"),
        }
    }
}

/// A number, whole wherever the broker counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Number {
    /// Things and bytes.
    Whole(u64),
    /// Seconds.
    Real(f64),
}

impl Number {
    /// As a floating point number; whole numbers are exact up to 2^53.
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Whole(number) => number as f64,
            Number::Real(number) => number,
        }
    }
}

/// A histogram at full resolution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram(pub HistogramSnapshot);

/// How a histogram is written.
#[derive(Serialize, Deserialize)]
struct HistogramFields {
    count: u64,
    sum: u64,
    max: u64,
    /// Upper bound and count of the buckets that are not empty.
    buckets: Vec<(u64, u64)>,
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        HistogramFields {
            count: self.0.count(),
            sum: self.0.sum_nanos(),
            max: self.0.max_nanos(),
            buckets: self.0.buckets().collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = HistogramFields::deserialize(deserializer)?;
        if fields.buckets.len() > BUCKETS_MAX
            || fields
                .buckets
                .iter()
                .any(|(_, count)| *count > BUCKET_COUNT_MAX)
        {
            return Err(serde::de::Error::custom("a histogram with absurd counts"));
        }
        let (sum, max) = (fields.sum, fields.max);
        Ok(Histogram(HistogramSnapshot::from_buckets(
            fields.buckets,
            sum,
            max,
        )))
    }
}

/// Whether histograms are kept per shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Histograms {
    /// One per shard.
    PerShard,
    /// One for all shards.
    Merged,
}

impl Document {
    /// From the answers of the shards.
    pub fn new(
        version: &str,
        uptime_seconds: f64,
        answers: &[(ShardId, Option<Snapshot>)],
        process: &ProcessStatus,
        histograms: Histograms,
    ) -> Document {
        let mut collected: BTreeMap<&'static str, Collected<'_>> = BTreeMap::new();
        for (shard, snapshot) in answers {
            let Some(snapshot) = snapshot else {
                continue;
            };
            for (definition, series) in snapshot.families() {
                let collected = collected.entry(definition.name).or_insert(Collected {
                    definition,
                    series: BTreeMap::new(),
                });
                for (labels, value) in series {
                    let place = place(definition, labels, *shard, histograms);
                    collected.add((labels, place), value);
                }
            }
        }
        let mut families: Vec<Family> = collected.into_values().map(Collected::finish).collect();
        families.push(shards_up(answers));
        families.extend(process.families(version));
        families.sort_by(|a, b| a.name.cmp(&b.name));
        Document {
            version: version.to_owned(),
            uptime_seconds,
            shards: answers
                .iter()
                .map(|(shard, snapshot)| Shard {
                    shard: shard.0,
                    up: snapshot.is_some(),
                })
                .collect(),
            families,
        }
    }

    /// A metric by its name.
    pub fn family(&self, name: &str) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// Whether every shard answered.
    pub fn is_complete(&self) -> bool {
        self.shards.iter().all(|shard| shard.up)
    }
}

/// Which shard a series is shown under; `None` sums it over all.
fn place(
    definition: &MetricDefinition,
    labels: &Labels,
    shard: ShardId,
    histograms: Histograms,
) -> Option<u16> {
    let merged = definition.kind == MetricKind::Histogram && histograms == Histograms::Merged;
    let by_topic = labels.iter().any(|(name, _)| *name == TOPIC_LABEL);
    (!merged && !by_topic).then_some(shard.0)
}

/// One metric while the shards' values are put together.
struct Collected<'a> {
    definition: &'static MetricDefinition,
    series: BTreeMap<(&'a Labels, Option<u16>), runtime::Value>,
}

impl<'a> Collected<'a> {
    fn add(&mut self, key: (&'a Labels, Option<u16>), value: &runtime::Value) {
        use runtime::Value::{Counter, Gauge, Histogram};
        match (self.series.get_mut(&key), value) {
            (Some(Counter(sum)), Counter(value)) => *sum = sum.wrapping_add(*value),
            (Some(Gauge(sum)), Gauge(value)) => *sum = sum.saturating_add(*value),
            (Some(Histogram(sum)), Histogram(value)) => sum.merge(value),
            // The registry has one kind per name, which `Snapshot` asserts.
            (_, value) => {
                self.series.insert(key, value.clone());
            }
        }
    }

    fn finish(self) -> Family {
        let unit = self.definition.unit.into();
        let series = self
            .series
            .into_iter()
            .map(|((labels, shard), value)| Series {
                shard,
                labels: labels
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.as_str().to_owned()))
                    .collect(),
                value: match value {
                    runtime::Value::Counter(value) | runtime::Value::Gauge(value) => {
                        Value::Number(number(unit, value))
                    }
                    runtime::Value::Histogram(value) => Value::Histogram(Histogram(value)),
                },
            });
        Family {
            name: self.definition.name.to_owned(),
            kind: self.definition.kind.into(),
            unit,
            help: self.definition.help.to_owned(),
            series: fold_topics(series.collect()),
        }
    }
}

/// Adds up the topics after the first [`TOPICS_MAX`] in order of name. The order of names decides, not their traffic:
/// a topic that came and went would make counters fall.
fn fold_topics(series: Vec<Series>) -> Vec<Series> {
    let mut topics = 0;
    let mut other: Option<Series> = None;
    let mut kept = Vec::with_capacity(series.len());
    for mut series in series {
        let Some(topic) = series.labels.get_mut(TOPIC_LABEL) else {
            kept.push(series);
            continue;
        };
        if topic != OTHER_TOPICS && topics < TOPICS_MAX {
            topics += 1;
            kept.push(series);
            continue;
        }
        OTHER_TOPICS.clone_into(topic);
        match (&mut other, &series.value) {
            (Some(other), value) => other.value.add(value),
            (None, _) => other = Some(series),
        }
    }
    kept.extend(other);
    kept
}

/// A counter or gauge in the unit it is shown in: the broker counts durations in nanoseconds.
fn number(unit: Unit, value: u64) -> Number {
    match unit {
        Unit::Seconds => Number::Real(value as f64 / 1e9),
        Unit::Bytes | Unit::Count => Number::Whole(value),
    }
}

fn shards_up(answers: &[(ShardId, Option<Snapshot>)]) -> Family {
    Family {
        name: "ringlog_shard_up".to_owned(),
        kind: Kind::Gauge,
        unit: Unit::Count,
        help: "1 if the shard answered this scrape within a second, 0 if not.".to_owned(),
        series: answers
            .iter()
            .map(|(shard, snapshot)| Series {
                shard: Some(shard.0),
                ..Series::of(Value::Number(Number::Whole(u64::from(snapshot.is_some()))))
            })
            .collect(),
    }
}

impl From<MetricKind> for Kind {
    fn from(kind: MetricKind) -> Kind {
        match kind {
            MetricKind::Counter => Kind::Counter,
            MetricKind::Gauge => Kind::Gauge,
            MetricKind::Histogram => Kind::Histogram,
        }
    }
}

impl From<runtime::Unit> for Unit {
    fn from(unit: runtime::Unit) -> Unit {
        match unit {
            runtime::Unit::Seconds => Unit::Seconds,
            runtime::Unit::Bytes => Unit::Bytes,
            runtime::Unit::Count => Unit::Count,
        }
    }
}
