//! What happened between two [`Document`]s of one broker, as a person wants to see it: rates, quantiles, shares.
//!
//! Pure, and without a word about how it is shown. Works with what is there: a metric that a broker does not have is
//! `None` here, so tools and brokers of different versions get along.

use std::collections::BTreeMap;

use runtime::HistogramSnapshot;
use serde::Serialize;

use crate::document::{Document, Family, Series, Value};
use crate::replication::Replication;

/// The stages of a request in their order in time.
pub const STAGES: [&str; 9] = [
    "read",
    "decode",
    "queue",
    "append",
    "journal_wait",
    "device_write",
    "replication_wait",
    "purgatory",
    "send",
];

/// What an overview holds of topics, those with the most bytes.
pub const TOPICS_MAX: usize = 100;

/// A broker over a stretch of time. Rates are per second, sizes in bytes, times in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overview {
    /// Version of the broker.
    pub version: String,
    /// Since the broker served, seconds.
    pub uptime_seconds: f64,
    /// Time covered, seconds.
    pub seconds: f64,
    /// Shards.
    pub shards: usize,
    /// Shards that did not answer.
    pub silent_shards: Vec<u16>,
    /// What clients produced.
    pub produced: Flow,
    /// Bytes that clients fetched, per second.
    pub fetched_bytes: Option<f64>,
    /// Requests taken from the wire, per second.
    pub requests: Option<f64>,
    /// Requests by API, the busiest first.
    pub apis: Vec<Api>,
    /// Commit groups.
    pub groups: Groups,
    /// The device.
    pub device: Device,
    /// Parts found in the extent cache, of those looked for: 0 to 1.
    pub cache_hit_rate: Option<f64>,
    /// Reads of logs that recent batches in memory answered: 0 to 1.
    pub tail_read_share: Option<f64>,
    /// What has a limit.
    pub occupancy: Vec<Occupancy>,
    /// Connections.
    pub connections: Connections,
    /// Errors answered, by code, per second, the most frequent first; those without any left out.
    pub errors: Vec<(String, f64)>,
    /// Waiting and stalling.
    pub health: Health,
    /// The process.
    pub process: Process,
    /// The broker in its cluster.
    pub replication: Option<Replication>,
    /// Topics that were produced to, most bytes first.
    pub topics: Vec<Topic>,
}

/// A stream of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Flow {
    /// Bytes per second.
    pub bytes: f64,
    /// Records per second.
    pub records: f64,
    /// Batches per second.
    pub batches: f64,
    /// Mean bytes of a batch.
    pub bytes_per_batch: Option<f64>,
    /// Mean records of a batch.
    pub records_per_batch: Option<f64>,
}

/// One API, for produce one acks level of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Api {
    /// Its name, such as `produce acks=all`.
    pub name: String,
    /// Requests per second.
    pub requests: f64,
    /// Their time on the broker.
    pub time: Quantiles,
    /// Where the time goes, in the order of time; empty if it is not divided.
    pub stages: Vec<Stage>,
}

/// A stage of an API's requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Its part of the time of all stages, 0 to 1.
    pub share: f64,
    /// Its time.
    pub time: Quantiles,
}

/// A distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p999: u64,
    /// The largest, within a bucket.
    pub max: u64,
}

/// Commit groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Groups {
    /// Groups per second.
    pub rate: f64,
    /// Their sizes.
    pub bytes: Quantiles,
    /// Their batches.
    pub batches: Quantiles,
}

/// The device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Device {
    /// Bytes written per second.
    pub write_bytes: Option<f64>,
    /// Writes per second.
    pub writes: Option<f64>,
    /// Bytes read per second.
    pub read_bytes: Option<f64>,
    /// Flushes and durable writes per second.
    pub flushes: Option<f64>,
    /// Bytes written per byte produced.
    pub write_bytes_per_produced: Option<f64>,
    /// Bytes written per second by kind of file, most first.
    pub write_bytes_by_kind: Vec<(String, f64)>,
}

/// Something with a limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Occupancy {
    /// What.
    pub name: &'static str,
    /// Bytes in use.
    pub used: f64,
    /// Bytes at most.
    pub capacity: f64,
}

impl Occupancy {
    /// 0 to 1.
    pub fn ratio(&self) -> f64 {
        ratio(self.used, self.capacity)
            .unwrap_or(0.0)
            .clamp(0.0, 1.0)
    }
}

/// Connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Connections {
    /// Open now.
    pub open: Option<f64>,
    /// Accepted per second.
    pub accepted: Option<f64>,
    /// Refused per second.
    pub refused: Option<f64>,
}

/// Waiting and stalling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Health {
    /// Stalls of the executors during the time covered.
    pub stalls: Option<u64>,
    /// The longest of them, within a bucket.
    pub longest_stall: Option<u64>,
    /// Messages in the shards' mailboxes now.
    pub mailbox_depth: Option<f64>,
    /// Produce requests that wait to be acknowledged now.
    pub purgatory: Option<f64>,
    /// Shards that acknowledge nothing since a write failed.
    pub fenced_shards: Option<f64>,
}

/// The process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Process {
    /// CPUs kept busy.
    pub cpus: Option<f64>,
    /// Memory in RAM.
    pub resident_bytes: Option<f64>,
    /// Open descriptors.
    pub descriptors: Option<f64>,
}

/// A topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What was produced to it.
    pub produced: Flow,
}

impl Overview {
    /// What happened between two documents. `None` if they do not follow each other: the broker was started anew, or
    /// other shards answered.
    pub fn between(earlier: &Document, later: &Document) -> Option<Overview> {
        let seconds = later.uptime_seconds - earlier.uptime_seconds;
        let usable = seconds.is_finite() && seconds > 0.0;
        if !usable || earlier.shards != later.shards {
            return None;
        }
        let window = Window {
            earlier,
            later,
            seconds,
        };
        Some(window.overview())
    }
}

/// Two documents, the time between them, and what can be asked about it.
struct Window<'a> {
    earlier: &'a Document,
    later: &'a Document,
    seconds: f64,
}

impl Window<'_> {
    fn overview(&self) -> Overview {
        let topics = self.topics();
        let silent = self.later.shards.iter().filter(|shard| !shard.up);
        Overview {
            version: self.later.version.clone(),
            uptime_seconds: self.later.uptime_seconds,
            seconds: self.seconds,
            shards: self.later.shards.len(),
            silent_shards: silent.map(|shard| shard.shard).collect(),
            produced: Flow::sum(topics.iter().map(|topic| &topic.produced)),
            fetched_bytes: self.rate("ringlog_fetched_bytes_total"),
            requests: self.rate("ringlog_requests_total"),
            apis: self.apis(),
            groups: self.groups(),
            device: self.device(),
            cache_hit_rate: self.cache_hit_rate(),
            tail_read_share: self.tail_read_share(),
            occupancy: self.occupancy(),
            connections: Connections {
                open: self.gauge("ringlog_connections"),
                accepted: self.rate("ringlog_connections_accepted_total"),
                refused: self.rate("ringlog_connections_refused_total"),
            },
            errors: self.rates_by("ringlog_errors_total", "error"),
            health: self.health(),
            process: Process {
                cpus: self.rate("process_cpu_seconds_total"),
                resident_bytes: self.gauge("process_resident_memory_bytes"),
                descriptors: self.gauge("process_open_fds"),
            },
            replication: Replication::of(self.later),
            topics: topics.into_iter().take(TOPICS_MAX).collect(),
        }
    }

    fn apis(&self) -> Vec<Api> {
        let mut stages: BTreeMap<String, BTreeMap<String, HistogramSnapshot>> = BTreeMap::new();
        for (labels, histogram) in self.histograms("ringlog_request_stage_seconds") {
            let stage = labels.get("stage").cloned().unwrap_or_default();
            stages
                .entry(api_name(labels))
                .or_default()
                .insert(stage, histogram);
        }
        let whole = self.histograms("ringlog_request_seconds").into_iter();
        let mut apis: Vec<Api> = whole
            .map(|(labels, histogram)| {
                let name = api_name(labels);
                Api {
                    requests: histogram.count() as f64 / self.seconds,
                    time: Quantiles::of(&histogram),
                    stages: stages.get(&name).map(in_order).unwrap_or_default(),
                    name,
                }
            })
            .filter(|api| api.requests > 0.0)
            .collect();
        apis.sort_by(|a, b| b.requests.total_cmp(&a.requests).then(a.name.cmp(&b.name)));
        apis
    }

    fn topics(&self) -> Vec<Topic> {
        let by_topic = |name| {
            let rates = self.rates_by(name, "topic");
            rates.into_iter().collect::<BTreeMap<_, _>>()
        };
        let records = by_topic("ringlog_topic_records_total");
        let batches = by_topic("ringlog_topic_batches_total");
        let of = |from: &BTreeMap<String, f64>, name: &str| from.get(name).copied().unwrap_or(0.0);
        let bytes = self.rates_by("ringlog_topic_bytes_total", "topic");
        bytes
            .into_iter()
            .map(|(name, bytes)| Topic {
                produced: Flow::new(bytes, of(&records, &name), of(&batches, &name)),
                name,
            })
            .collect()
    }

    fn groups(&self) -> Groups {
        let of = |name| self.histogram(name).unwrap_or_default();
        let bytes = of("ringlog_commit_group_bytes");
        Groups {
            rate: bytes.count() as f64 / self.seconds,
            bytes: Quantiles::of(&bytes),
            batches: Quantiles::of(&of("ringlog_commit_group_batches")),
        }
    }

    fn device(&self) -> Device {
        let write_bytes = self.rate("ringlog_device_write_bytes_total");
        let flushes = self.rate("ringlog_device_flushes_total");
        let durable = self.rate("ringlog_journal_durable_writes_total");
        let produced = self.rate("ringlog_produced_bytes_total");
        Device {
            write_bytes,
            writes: self.rate("ringlog_device_writes_total"),
            read_bytes: self.rate("ringlog_device_read_bytes_total"),
            flushes: flushes.map(|flushes| flushes + durable.unwrap_or(0.0)),
            write_bytes_per_produced: write_bytes
                .zip(produced)
                .and_then(|(written, produced)| ratio(written, produced)),
            write_bytes_by_kind: self.rates_by("ringlog_device_write_bytes_total", "kind"),
        }
    }

    fn cache_hit_rate(&self) -> Option<f64> {
        let hits = self.rate("ringlog_cache_hits_total")?;
        let misses = self.rate("ringlog_cache_misses_total")?;
        ratio(hits, hits + misses)
    }

    fn tail_read_share(&self) -> Option<f64> {
        let by_source = self.rates_by("ringlog_log_reads_total", "source");
        let all: f64 = by_source.iter().map(|(_, rate)| rate).sum();
        let tail = by_source.iter().filter(|(source, _)| source == "tail");
        ratio(tail.map(|(_, rate)| rate).sum(), all)
    }

    fn occupancy(&self) -> Vec<Occupancy> {
        let names = ["journal", "tail", "cache", "request_budget"];
        let shown = ["journal", "tails", "cache", "requests"];
        let one = |(name, shown): (&str, &'static str)| {
            Some(Occupancy {
                name: shown,
                used: self.gauge(&format!("ringlog_{name}_used_bytes"))?,
                capacity: self.gauge(&format!("ringlog_{name}_capacity_bytes"))?,
            })
        };
        names.into_iter().zip(shown).filter_map(one).collect()
    }

    fn health(&self) -> Health {
        let stalls = self.histogram("ringlog_executor_stall_seconds");
        Health {
            stalls: stalls.as_ref().map(HistogramSnapshot::count),
            longest_stall: stalls.as_ref().map(HistogramSnapshot::max_nanos),
            mailbox_depth: self.gauge("ringlog_mailbox_depth"),
            purgatory: self.gauge("ringlog_purgatory_produce_requests"),
            fenced_shards: self.gauge("ringlog_fenced"),
        }
    }

    fn series(&self, name: &str) -> &[Series] {
        let family = self.later.family(name);
        family.map_or(&[], |family| family.series.as_slice())
    }

    /// A gauge now, over all shards. `None` if there is none.
    fn gauge(&self, name: &str) -> Option<f64> {
        self.series(name).iter().map(number).reduce(|a, b| a + b)
    }

    /// A counter's rate over all series. `None` if it does not exist.
    fn rate(&self, name: &str) -> Option<f64> {
        self.later.family(name)?;
        let before = index(self.earlier.family(name));
        let series = self.series(name).iter();
        let sum: f64 = series.map(|series| increase(&before, series)).sum();
        Some(sum / self.seconds)
    }

    /// A counter's rates by one label over all others, the largest first; those that stand still left out.
    fn rates_by(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let before = index(self.earlier.family(name));
        let mut rates: BTreeMap<&str, f64> = BTreeMap::new();
        for series in self.series(name) {
            if let Some(value) = series.labels.get(label) {
                *rates.entry(value).or_default() += increase(&before, series) / self.seconds;
            }
        }
        let mut rates: Vec<(String, f64)> = rates
            .into_iter()
            .filter(|(_, rate)| *rate > 0.0)
            .map(|(name, rate)| (name.to_owned(), rate))
            .collect();
        rates.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        rates
    }

    /// What was counted in the meantime, over all shards and labels. `None` if it does not exist.
    fn histogram(&self, name: &str) -> Option<HistogramSnapshot> {
        self.later.family(name)?;
        let mut all = HistogramSnapshot::default();
        for (_, histogram) in self.histograms(name) {
            all.merge(&histogram);
        }
        Some(all)
    }

    /// What was counted in the meantime, over all shards, by labels.
    fn histograms(&self, name: &str) -> Vec<(&BTreeMap<String, String>, HistogramSnapshot)> {
        let before = index(self.earlier.family(name));
        let mut merged: BTreeMap<&BTreeMap<String, String>, HistogramSnapshot> = BTreeMap::new();
        for series in self.series(name) {
            let Value::Histogram(now) = &series.value else {
                continue;
            };
            let since = match before.get(&(series.shard, &series.labels)) {
                Some(Value::Histogram(then)) => now.0.since(&then.0),
                _ => now.0.clone(),
            };
            merged.entry(&series.labels).or_default().merge(&since);
        }
        merged.into_iter().collect()
    }
}

type Index<'a> = BTreeMap<(Option<u16>, &'a BTreeMap<String, String>), &'a Value>;

fn index(family: Option<&Family>) -> Index<'_> {
    let series = family.into_iter().flat_map(|family| &family.series);
    series
        .map(|series| ((series.shard, &series.labels), &series.value))
        .collect()
}

/// How much a counter grew. One that is new began at zero; one that fell tells nothing.
fn increase(before: &Index<'_>, series: &Series) -> f64 {
    let then = before.get(&(series.shard, &series.labels));
    let then = match then {
        Some(Value::Number(number)) => number.as_f64(),
        _ => 0.0,
    };
    (number(series) - then).max(0.0)
}

fn number(series: &Series) -> f64 {
    match &series.value {
        Value::Number(number) => number.as_f64(),
        Value::Histogram(histogram) => histogram.0.count() as f64,
    }
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn api_name(labels: &BTreeMap<String, String>) -> String {
    let api = labels.get("api").map_or("", String::as_str);
    match labels.get("acks") {
        Some(acks) => format!("{api} acks={acks}"),
        None => api.to_owned(),
    }
}

/// Stages in the order of time; those that this version does not know follow by name.
fn in_order(stages: &BTreeMap<String, HistogramSnapshot>) -> Vec<Stage> {
    let total: f64 = stages.values().map(|stage| stage.sum_nanos() as f64).sum();
    let known = STAGES.iter().filter_map(|name| stages.get_key_value(*name));
    let unknown = stages
        .iter()
        .filter(|(name, _)| !STAGES.contains(&name.as_str()));
    known
        .chain(unknown)
        .map(|(name, histogram)| Stage {
            name: name.clone(),
            share: ratio(histogram.sum_nanos() as f64, total).unwrap_or(0.0),
            time: Quantiles::of(histogram),
        })
        .collect()
}

impl Quantiles {
    fn of(histogram: &HistogramSnapshot) -> Quantiles {
        Quantiles {
            mean: ratio(histogram.sum_nanos() as f64, histogram.count() as f64).unwrap_or(0.0),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max_nanos(),
        }
    }
}

impl Flow {
    fn new(bytes: f64, records: f64, batches: f64) -> Flow {
        Flow {
            bytes,
            records,
            batches,
            bytes_per_batch: ratio(bytes, batches),
            records_per_batch: ratio(records, batches),
        }
    }

    fn sum<'a>(flows: impl Iterator<Item = &'a Flow>) -> Flow {
        let (bytes, records, batches) = flows.fold((0.0, 0.0, 0.0), |sum, flow| {
            (
                sum.0 + flow.bytes,
                sum.1 + flow.records,
                sum.2 + flow.batches,
            )
        });
        Flow::new(bytes, records, batches)
    }
}
