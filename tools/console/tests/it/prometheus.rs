//! Snapshots become text and JSON that others can read.

use std::sync::Arc;
use std::time::Instant;

use console::document::{Histograms, Kind, OTHER_TOPICS, Value};
use console::process::ProcessStatus;
use console::{Document, prometheus};
use model::ShardId;
use runtime::{Histogram, Labels, MetricDefinition, Snapshot, Unit, labels};

use crate::exposition::{Sample, parse};

static REQUESTS: MetricDefinition = MetricDefinition::counter(
    "ringlog_requests_total",
    Unit::Count,
    "Requests, with a \\ and\na second line.",
);
static STALLED: MetricDefinition =
    MetricDefinition::counter("ringlog_stalled_seconds_total", Unit::Seconds, "Stalls.");
static OPEN: MetricDefinition =
    MetricDefinition::gauge("ringlog_connections", Unit::Count, "Open connections.");
static PRODUCED: MetricDefinition =
    MetricDefinition::counter("ringlog_topic_bytes_total", Unit::Bytes, "Per topic.");
static LATENCY: MetricDefinition =
    MetricDefinition::histogram("ringlog_request_seconds", Unit::Seconds, "Whole requests.");
static GROUP: MetricDefinition =
    MetricDefinition::histogram("ringlog_group_bytes", Unit::Bytes, "Commit groups.");

/// A shard with one of each.
fn snapshot(scale: u64) -> Snapshot {
    let mut snapshot = Snapshot::new();
    snapshot.counter(&REQUESTS, labels([("api", "fetch")]), 2 * scale);
    snapshot.counter(&STALLED, Labels::new(), 1_500_000_000 * scale);
    snapshot.gauge(&OPEN, Labels::new(), scale);
    let topic: Arc<str> = "a \"b\"\\c\nd".into();
    snapshot.counter(&PRODUCED, labels([("topic", topic)]), 100 * scale);
    let latency = Histogram::new();
    for nanos in [900, 1_024, 1_025, 3_000_000, 100_000_000_000] {
        latency.record_nanos(nanos);
    }
    snapshot.histogram(&LATENCY, labels([("api", "fetch")]), latency.snapshot());
    snapshot.histogram(
        &LATENCY,
        labels([("api", "produce")]),
        Histogram::new().snapshot(),
    );
    let group = Histogram::new();
    group.record_value(4096 * scale);
    snapshot.histogram(&GROUP, Labels::new(), group.snapshot());
    snapshot
}

fn document(answers: &[(ShardId, Option<Snapshot>)], histograms: Histograms) -> Document {
    Document::new(
        "9.8.7",
        12.5,
        answers,
        &ProcessStatus::default(),
        histograms,
    )
}

fn three_shards() -> Vec<(ShardId, Option<Snapshot>)> {
    vec![
        (ShardId(0), Some(snapshot(1))),
        (ShardId(1), None),
        (ShardId(2), Some(snapshot(2))),
    ]
}

#[test]
fn the_text_is_as_it_always_was() {
    let text = prometheus::render(&document(&three_shards(), Histograms::Merged));
    let without_buckets: Vec<&str> = text.lines().filter(|l| !l.contains("_bucket")).collect();
    assert_eq!(
        without_buckets,
        [
            "# HELP ringlog_build_info Always 1; the labels say what runs.",
            "# TYPE ringlog_build_info gauge",
            "ringlog_build_info{version=\"9.8.7\"} 1",
            "# HELP ringlog_connections Open connections.",
            "# TYPE ringlog_connections gauge",
            "ringlog_connections{shard=\"0\"} 1",
            "ringlog_connections{shard=\"2\"} 2",
            "# HELP ringlog_group_bytes Commit groups.",
            "# TYPE ringlog_group_bytes histogram",
            "ringlog_group_bytes_sum 12288",
            "ringlog_group_bytes_count 2",
            "# HELP ringlog_request_seconds Whole requests.",
            "# TYPE ringlog_request_seconds histogram",
            "ringlog_request_seconds_sum{api=\"fetch\"} 200.006005898",
            "ringlog_request_seconds_count{api=\"fetch\"} 10",
            "# HELP ringlog_requests_total Requests, with a \\\\ and\\na second line.",
            "# TYPE ringlog_requests_total counter",
            "ringlog_requests_total{shard=\"0\",api=\"fetch\"} 2",
            "ringlog_requests_total{shard=\"2\",api=\"fetch\"} 4",
            "# HELP ringlog_shard_up 1 if the shard answered this scrape within a second, 0 if not.",
            "# TYPE ringlog_shard_up gauge",
            "ringlog_shard_up{shard=\"0\"} 1",
            "ringlog_shard_up{shard=\"1\"} 0",
            "ringlog_shard_up{shard=\"2\"} 1",
            "# HELP ringlog_stalled_seconds_total Stalls.",
            "# TYPE ringlog_stalled_seconds_total counter",
            "ringlog_stalled_seconds_total{shard=\"0\"} 1.5",
            "ringlog_stalled_seconds_total{shard=\"2\"} 3",
            "# HELP ringlog_topic_bytes_total Per topic.",
            "# TYPE ringlog_topic_bytes_total counter",
            "ringlog_topic_bytes_total{topic=\"a \\\"b\\\"\\\\c\\nd\"} 300",
        ]
    );
    for line in [
        "ringlog_group_bytes_bucket{le=\"4096\"} 1",
        "ringlog_group_bytes_bucket{le=\"1073741824\"} 2",
        "ringlog_request_seconds_bucket{api=\"fetch\",le=\"0.000001024\"} 4",
        "ringlog_request_seconds_bucket{api=\"fetch\",le=\"0.000002048\"} 6",
        "ringlog_request_seconds_bucket{api=\"fetch\",le=\"0.004194304\"} 8",
        "ringlog_request_seconds_bucket{api=\"fetch\",le=\"+Inf\"} 10",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_reader_of_the_format_gets_back_what_was_counted() {
    for histograms in [Histograms::Merged, Histograms::PerShard] {
        let text = prometheus::render(&document(&three_shards(), histograms));
        let samples = parse(&text).expect("well-formed");
        let topic = samples
            .iter()
            .find(|s| s.name == "ringlog_topic_bytes_total");
        let topic = topic.expect("the topic");
        assert_eq!(topic.labels["topic"], "a \"b\"\\c\nd");
        assert_eq!(topic.value, 300.0);
        let buckets = samples
            .iter()
            .filter(|s| s.name == "ringlog_group_bytes_bucket");
        let shards = if histograms == Histograms::Merged {
            1
        } else {
            2
        };
        assert_eq!(buckets.count(), 32 * shards);
        // Nothing was produced: no line, not even of zeros.
        assert!(!text.contains("api=\"produce\""));
    }
}

#[test]
fn no_shard_is_a_document_too() {
    let text = prometheus::render(&document(&[], Histograms::Merged));
    let samples = parse(&text).expect("well-formed");
    assert_eq!(samples.len(), 1, "{text}");
}

#[test]
fn json_comes_back_as_it_was() {
    for histograms in [Histograms::Merged, Histograms::PerShard] {
        let before = document(&three_shards(), histograms);
        let text = serde_json::to_string(&before).expect("written");
        let after: Document = serde_json::from_str(&text).expect("read");
        assert_eq!(after, before);
        let latency = after.family("ringlog_request_seconds").expect("there");
        assert_eq!(latency.kind, Kind::Histogram);
        let counts: Vec<u64> = latency
            .series
            .iter()
            .map(|series| match &series.value {
                Value::Histogram(histogram) => histogram.0.count(),
                Value::Number(number) => panic!("{number:?}"),
            })
            .collect();
        let expected: &[u64] = match histograms {
            Histograms::Merged => &[10, 0],
            Histograms::PerShard => &[5, 5, 0, 0],
        };
        assert_eq!(counts, expected);
        assert!(!after.is_complete());
    }
}

#[test]
fn absurd_histograms_are_refused() {
    let text = |count: u64| {
        format!(
            r#"{{"version":"","uptime_seconds":0,"shards":[],"families":[{{"name":"h","kind":"histogram","unit":"seconds",
            "help":"","series":[{{"histogram":{{"count":1,"sum":1,"max":1,"buckets":[[1,{count}]]}}}}]}}]}}"#
        )
    };
    serde_json::from_str::<Document>(&text(1)).expect("a small one is fine");
    let refused = serde_json::from_str::<Document>(&text(u64::MAX));
    assert!(refused.is_err());
}

/// The largest broker: 64 shards, 500 topics with partitions on all of them, and every API with all its stages.
#[test]
fn a_large_broker_fits_two_megabytes() {
    static STAGE: MetricDefinition =
        MetricDefinition::histogram("ringlog_request_stage_seconds", Unit::Seconds, "Stages.");
    static RECORDS: MetricDefinition =
        MetricDefinition::counter("ringlog_topic_records_total", Unit::Count, "Records.");
    static BATCHES: MetricDefinition =
        MetricDefinition::counter("ringlog_topic_batches_total", Unit::Count, "Batches.");
    let latency = Histogram::new();
    for exponent in 0..400 {
        latency.record_nanos((1000.0 * 1.04_f64.powi(exponent)) as u64);
    }
    let mut snapshot = Snapshot::new();
    for topic in 0..500 {
        let topic: Arc<str> = format!("a-topic-with-a-rather-long-name-{topic:03}").into();
        for counter in [&PRODUCED, &RECORDS, &BATCHES] {
            snapshot.counter(counter, labels([("topic", topic.clone())]), 1 << 40);
        }
    }
    for api in 0..90 {
        let api: Arc<str> = format!("DescribeSomething{api}").into();
        snapshot.histogram(&LATENCY, labels([("api", api)]), latency.snapshot());
    }
    for series in 0..36 {
        let stage: Arc<str> = format!("a_stage_of_a_request_{series}").into();
        let name = labels([("api", "produce".into()), ("stage", stage)]);
        snapshot.histogram(&STAGE, name, latency.snapshot());
    }
    for counter in 0..100 {
        let kind: Arc<str> = format!("some_kind_of_counter_{counter}").into();
        snapshot.counter(&REQUESTS, labels([("api", kind)]), 1 << 40);
    }
    let mut answers: Vec<_> = (0..64)
        .map(|shard| (ShardId(shard), Some(snapshot.clone())))
        .collect();
    // Shards need not have the same topics.
    for (shard, snapshot) in &mut answers {
        let topic: Arc<str> = format!("z-topic-of-{shard:?}").into();
        let snapshot = snapshot.as_mut().expect("there");
        snapshot.counter(&PRODUCED, labels([("topic", topic)]), 1);
    }
    let start = Instant::now();
    let document = document(&answers, Histograms::Merged);
    let text = prometheus::render(&document);
    let json = serde_json::to_string(&document).expect("written");
    let took = start.elapsed();
    assert!(text.len() < 2 << 20, "{} bytes of text", text.len());
    assert!(json.len() < 2 << 20, "{} bytes of JSON", json.len());
    // A tenth of a second would do; the limit is for a development build on a machine that is busy otherwise.
    assert!(took.as_millis() < 3_000, "{took:?}");
    let samples = parse(&text).expect("well-formed");
    let topics = samples.iter().filter(|s| s.labels.contains_key("topic"));
    assert_eq!(topics.count(), 1501);
    let other = |s: &&Sample| s.labels.get("topic").is_some_and(|t| t == OTHER_TOPICS);
    let other: Vec<f64> = samples.iter().filter(other).map(|s| s.value).collect();
    assert_eq!(other, [64.0]);
}
