//! Rates and shares from two documents.

use std::sync::Arc;

use console::document::Histograms;
use console::process::ProcessStatus;
use console::{Document, Overview};
use model::ShardId;
use runtime::{Histogram, Labels, MetricDefinition, Snapshot, Unit, labels};

static REQUEST: MetricDefinition =
    MetricDefinition::histogram("ringlog_request_seconds", Unit::Seconds, "Whole.");
static STAGE: MetricDefinition =
    MetricDefinition::histogram("ringlog_request_stage_seconds", Unit::Seconds, "Stages.");
static PRODUCED: MetricDefinition =
    MetricDefinition::counter("ringlog_produced_bytes_total", Unit::Bytes, "In.");
static WRITTEN: MetricDefinition =
    MetricDefinition::counter("ringlog_device_write_bytes_total", Unit::Bytes, "Out.");
static TOPIC_BYTES: MetricDefinition =
    MetricDefinition::counter("ringlog_topic_bytes_total", Unit::Bytes, "In.");
static TOPIC_BATCHES: MetricDefinition =
    MetricDefinition::counter("ringlog_topic_batches_total", Unit::Count, "In.");

/// A shard after `requests` requests: 1 us to decode and 3 us to write each, 100 bytes in a batch, 150 written.
fn shard(requests: u64) -> Snapshot {
    let (whole, decode, write) = (Histogram::new(), Histogram::new(), Histogram::new());
    for _ in 0..requests {
        whole.record_nanos(4_000);
        decode.record_nanos(1_000);
        write.record_nanos(3_000);
    }
    let mut snapshot = Snapshot::new();
    let produce = || labels([("api", "produce"), ("acks", "all")]);
    snapshot.histogram(&REQUEST, produce(), whole.snapshot());
    for (stage, histogram) in [("decode", decode), ("device_write", write)] {
        let mut labels = produce();
        labels.push(("stage", stage.into()));
        snapshot.histogram(&STAGE, labels, histogram.snapshot());
    }
    let topic = || labels([("topic", Arc::<str>::from("t"))]);
    snapshot.counter(&PRODUCED, Labels::new(), requests * 100);
    snapshot.counter(&WRITTEN, labels([("kind", "journal")]), requests * 150);
    snapshot.counter(&TOPIC_BYTES, topic(), requests * 100);
    snapshot.counter(&TOPIC_BATCHES, topic(), requests);
    snapshot
}

fn document(uptime_seconds: f64, requests: [u64; 2], histograms: Histograms) -> Document {
    let answers = [
        (ShardId(0), Some(shard(requests[0]))),
        (ShardId(1), Some(shard(requests[1]))),
    ];
    let process = ProcessStatus::default();
    Document::new("1", uptime_seconds, &answers, &process, histograms)
}

#[test]
fn differences_become_rates_however_histograms_come() {
    for histograms in [Histograms::Merged, Histograms::PerShard] {
        let earlier = document(10.0, [50, 0], histograms);
        let later = document(12.0, [70, 20], histograms);
        let overview = Overview::between(&earlier, &later).expect("they follow each other");
        assert_eq!(overview.seconds, 2.0);
        assert_eq!(overview.produced.bytes, 2_000.0);
        assert_eq!(overview.produced.batches, 20.0);
        assert_eq!(overview.produced.bytes_per_batch, Some(100.0));
        assert_eq!(overview.device.write_bytes, Some(3_000.0));
        assert_eq!(overview.device.write_bytes_per_produced, Some(1.5));
        let api = overview.apis.first().expect("one");
        assert_eq!(
            (api.name.as_str(), api.requests),
            ("produce acks=all", 20.0)
        );
        assert_eq!(api.time.mean, 4_000.0);
        assert!((4_000..4_200).contains(&api.time.p99));
        let shares: Vec<_> = api
            .stages
            .iter()
            .map(|s| (s.name.as_str(), s.share))
            .collect();
        assert_eq!(shares, [("decode", 0.25), ("device_write", 0.75)]);
        // What a broker does not count is unknown, not zero.
        assert_eq!(overview.fetched_bytes, None);
        assert_eq!(overview.connections.open, None);
    }
}

#[test]
fn a_broker_at_rest_divides_by_nothing() {
    let earlier = document(10.0, [50, 0], Histograms::Merged);
    let later = document(11.0, [50, 0], Histograms::Merged);
    let overview = Overview::between(&earlier, &later).expect("they follow each other");
    assert_eq!(overview.produced.bytes_per_batch, None);
    assert_eq!(overview.device.write_bytes_per_produced, None);
    assert!(overview.apis.is_empty() && overview.topics.is_empty());
    // Numbers that JSON cannot carry would be null in it.
    let json = serde_json::to_string(&overview).expect("written");
    assert!(!json.contains("NaN"));
}
