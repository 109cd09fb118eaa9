//! What the broker says about itself, against what is known from outside.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use client::{Acks, Cluster, ClusterOptions, FetchLimits, NewTopic, OffsetSpec, Topic};
use model::record::BatchBuilder;
use model::{Offset, PartitionIndex, Timestamp};
use ringlog_sim::cluster::{Broker, BrokerSettings, PORT, Start};
use runtime::sim::{Generator, SimIo, Simulation};
use runtime::{Io, Labels, Snapshot, Value, labels};
use server::request_clock::Stage;

/// Where the broker runs.
const NODE: usize = 0;
const TOPIC: &str = "measured";
const ROUNDS: u64 = 12;
/// Long polls that find nothing.
const EMPTY_POLLS: u64 = 3;
const EMPTY_POLL_MS: i32 = 40;
/// Until nothing is under way any more.
const SETTLE: Duration = Duration::from_secs(2);
/// Both ways through the network (600 us each), the client's own turns, and several of each.
const OUTSIDE_NANOS_MAX: u64 = 2_000_000;

/// What a run did, as its client knows it.
#[derive(Default)]
struct Known {
    batches: u64,
    records: u64,
    bytes: u64,
    fetches: u64,
    /// Requests that were answered, and the time that they took.
    answered: u64,
    nanos: u64,
}

struct Run {
    known: Known,
    /// What changed while the client worked.
    counted: Snapshot,
    disk_write_bytes: u64,
}

async fn start(simulation: &Simulation, io: &SimIo, seed: u64, shards: u16) -> Rc<Broker> {
    let settings = BrokerSettings::draw(&Generator::new(seed, 7));
    let broker = Broker::new(NODE, settings);
    broker.start(simulation, shards);
    while broker.progress() != Start::Done {
        io.sleep(Duration::from_millis(1)).await;
    }
    broker
}

fn batch(records: u64) -> Bytes {
    let mut builder = BatchBuilder::new();
    for number in 0..records {
        builder.push(Timestamp(1_000), None, Some(&[number as u8; 50]));
    }
    builder.build().unwrap()
}

async fn work(io: &SimIo, cluster: &mut Cluster<SimIo>, topic: &Topic) -> Known {
    let mut known = Known::default();
    let partitions = i32::try_from(topic.partitions.len()).unwrap();
    let limits = |wait_ms_max| FetchLimits {
        wait_ms_max,
        bytes_min: 1,
        bytes_max: 1 << 20,
    };
    for round in 0..ROUNDS {
        let partition = PartitionIndex(round as i32 % partitions);
        for acks in [Acks::None, Acks::Leader, Acks::All] {
            let records = 1 + round % 5;
            let batch = batch(records);
            known.batches += 1;
            known.records += records;
            known.bytes += batch.len() as u64;
            let begun = io.now();
            cluster
                .produce(topic, partition, acks, batch)
                .await
                .unwrap();
            if acks != Acks::None {
                known.answered += 1;
                known.nanos += io.now().since(begun).as_nanos() as u64;
            }
        }
        let begun = io.now();
        let fetched = cluster
            .fetch(topic, partition, Offset(0), limits(500))
            .await;
        assert!(!fetched.unwrap().records.is_empty());
        known.fetches += 1;
        known.answered += 1;
        known.nanos += io.now().since(begun).as_nanos() as u64;
    }
    let ends = cluster.offsets(&topic.name, OffsetSpec::Latest).await;
    let (partition, end) = ends.unwrap()[0];
    for _ in 0..EMPTY_POLLS {
        let begun = io.now();
        let fetched = cluster
            .fetch(topic, partition, end, limits(EMPTY_POLL_MS))
            .await;
        assert!(fetched.unwrap().records.is_empty());
        known.fetches += 1;
        known.answered += 1;
        known.nanos += io.now().since(begun).as_nanos() as u64;
    }
    known
}

fn run(seed: u64, shards: u16, partitions: u32) -> Run {
    let simulation = Simulation::new(seed, 1, usize::from(shards));
    simulation.block_on(simulation.client(), async {
        let io = simulation.io(simulation.client(), 0);
        let broker = start(&simulation, &io, seed, shards).await;
        let bootstrap = simulation.address(NODE, PORT).to_string();
        let mut cluster = Cluster::connect(&io, &bootstrap, ClusterOptions::default())
            .await
            .unwrap();
        let new = NewTopic {
            name: TOPIC.to_owned(),
            partitions: i32::try_from(partitions).unwrap(),
            replication_factor: 1,
            configs: Vec::new(),
        };
        let topic = cluster.create_topic(&new).await.unwrap();
        io.sleep(SETTLE).await;
        let (before, disk_before) = (broker.snapshot(), simulation.disk_counters(NODE));
        let known = work(&io, &mut cluster, &topic).await;
        io.sleep(SETTLE).await;
        let (after, disk_after) = (broker.snapshot(), simulation.disk_counters(NODE));
        let run = Run {
            known,
            counted: after.since(&before),
            disk_write_bytes: disk_after.write_bytes - disk_before.write_bytes,
        };
        broker.ended();
        run
    })
}

/// Count and sum of a histogram.
fn totals(counted: &Snapshot, name: &str, names: &Labels) -> (u64, u64) {
    let histogram = counted.get(name, names).and_then(Value::as_histogram);
    histogram.map_or((0, 0), |known| (known.count(), known.sum_nanos()))
}

/// Checks that the stages of one kind of request add up; returns their count and the time of the whole.
fn check_stages(counted: &Snapshot, names: &Labels, unused: &[Stage]) -> (u64, u64) {
    let (count, whole) = totals(counted, "ringlog_request_seconds", names);
    let mut sum = 0;
    for stage in Stage::ALL {
        let mut names = names.clone();
        names.push(("stage", stage.name().into()));
        let (stage_count, nanos) = totals(counted, "ringlog_request_stage_seconds", &names);
        let expected = if unused.contains(&stage) { 0 } else { count };
        assert_eq!(stage_count, expected, "{names:?}");
        sum += nanos;
    }
    assert_eq!(sum, whole, "{names:?}");
    (count, whole)
}

#[test]
fn the_stages_of_requests_add_up_and_nothing_is_missing() {
    for (seed, shards) in [(1, 1), (2, 2), (3, 3), (4, 2)] {
        let Run { known, counted, .. } = run(seed, shards, 5);
        let mut whole = 0;
        for (acks, unused) in [
            (
                "0",
                [
                    Stage::JournalWait,
                    Stage::DeviceWrite,
                    Stage::ReplicationWait,
                    Stage::Purgatory,
                    Stage::Send,
                ]
                .as_slice(),
            ),
            ("1", &[Stage::ReplicationWait]),
            ("all", &[]),
        ] {
            let names = labels([("api", "produce"), ("acks", acks)]);
            let (count, nanos) = check_stages(&counted, &names, unused);
            assert_eq!(count, ROUNDS);
            whole += if acks == "0" { 0 } else { nanos };
        }
        let fetch = labels([("api", "fetch")]);
        let unused = [
            Stage::JournalWait,
            Stage::DeviceWrite,
            Stage::ReplicationWait,
        ];
        let (count, nanos) = check_stages(&counted, &fetch, &unused);
        assert_eq!(count, known.fetches);
        whole += nanos;
        // What the client saw and the broker did not is the way there and back.
        let outside = known.nanos - whole;
        assert!(
            outside > known.answered * 60_000 && outside < known.answered * OUTSIDE_NANOS_MAX,
            "seed {seed}: {} ns per request are not accounted for",
            outside / known.answered
        );
        let purgatory = labels([("api", "fetch"), ("stage", "purgatory")]);
        let (_, waited) = totals(&counted, "ringlog_request_stage_seconds", &purgatory);
        assert!(waited >= EMPTY_POLLS * EMPTY_POLL_MS as u64 * 1_000_000);
        let write = labels([
            ("api", "produce"),
            ("acks", "all"),
            ("stage", "device_write"),
        ]);
        assert!(totals(&counted, "ringlog_request_stage_seconds", &write).1 > 0);
    }
}

#[test]
fn counters_are_what_happened() {
    for (seed, shards) in [(5, 1), (6, 3)] {
        let run = run(seed, shards, 5);
        let (known, counted) = (run.known, run.counted);
        let topic = labels([("topic", TOPIC)]);
        let number = |name| counted.number(name, &topic);
        assert_eq!(number("ringlog_topic_batches_total"), known.batches);
        assert_eq!(number("ringlog_topic_records_total"), known.records);
        assert_eq!(number("ringlog_topic_bytes_total"), known.bytes);
        assert_eq!(counted.total("ringlog_produced_bytes_total"), known.bytes);
        let requests = |api| counted.number("ringlog_requests_total", &labels([("api", api)]));
        assert_eq!(requests("produce"), 3 * ROUNDS);
        assert_eq!(requests("fetch"), known.fetches);
        assert_eq!(requests("list_offsets"), 1);
        assert_eq!(counted.total("ringlog_errors_total"), 0);

        let none = Labels::new();
        let journal = labels([("kind", "journal")]);
        let (groups, group_bytes) = totals(&counted, "ringlog_commit_group_bytes", &none);
        assert!(groups > 0);
        assert_eq!(
            counted.number("ringlog_device_writes_total", &journal),
            groups
        );
        assert_eq!(
            counted.number("ringlog_device_write_bytes_total", &journal),
            group_bytes
        );
        let (_, batches) = totals(&counted, "ringlog_commit_group_batches", &none);
        assert!(batches >= known.batches && group_bytes > known.bytes);
        assert_eq!(
            counted.total("ringlog_device_write_bytes_total"),
            run.disk_write_bytes
        );
        // The topic's, no partition twice; the metadata log is nobody's but the quorum's.
        assert_eq!(counted.total("ringlog_partitions_led"), 5);
        assert!(counted.total("ringlog_connections") >= 1);
    }
}

#[test]
fn partitions_do_not_make_a_snapshot_larger() {
    let series = |partitions| {
        let counted = run(9, 2, partitions).counted;
        let sizes: Vec<(&str, usize)> = counted
            .families()
            .map(|(definition, series)| (definition.name, series.count()))
            .collect();
        sizes
    };
    assert_eq!(series(2), series(400));
}
