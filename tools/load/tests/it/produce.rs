//! Counts, ends, rates and failures of a producing load.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use client::Acks;
use load::keys::KeyDistribution;
use load::verify::Verifier;
use load::{
    Arrivals, BatchSize, Limit, Observer, ProduceWorkload, Produced, RecordSizes, Share,
    null_server,
};
use model::record::Compression;
use runtime::sim::Simulation;

const PORT: u16 = 9092;

fn workload(simulation: &Simulation) -> ProduceWorkload {
    ProduceWorkload {
        bootstrap: simulation.address(0, PORT).to_string(),
        topic: "t".to_owned(),
        record_sizes: RecordSizes::Fixed(100),
        batch: BatchSize::Records(10),
        connections: 3,
        in_flight: 4,
        limit: Limit {
            duration: None,
            records: Some(1000),
        },
        request_timeout: Duration::from_secs(5),
        ..ProduceWorkload::default()
    }
}

/// A machine with a server of four partitions on node 0.
fn machine(seed: u64) -> Simulation {
    let simulation = Simulation::new(seed, 1, 1);
    let (io, address) = (simulation.io(0, 0), simulation.address(0, PORT));
    simulation.spawn(0, 0, async move {
        null_server::serve(io, address, 4, |_| {}).await.unwrap();
    });
    simulation.run_for(Duration::from_millis(1));
    simulation
}

fn run(simulation: &Simulation, workload: ProduceWorkload, share: Share) -> Produced {
    let io = simulation.io(simulation.client(), 0);
    simulation.block_on(
        simulation.client(),
        load::produce(io, workload, share, Observer::default()),
    )
}

const ALONE: Share = Share { core: 0, cores: 1 };

#[test]
fn a_count_of_records_is_sent_exactly_whatever_the_settings() {
    let cases: [fn(&mut ProduceWorkload); 9] = [
        |_| {},
        |w| w.acks = Acks::None,
        |w| w.idempotent = true,
        |w| w.compression = Compression::Zstd,
        |w| w.keys = KeyDistribution::Uniform { count: 100 },
        |w| w.in_flight = 1,
        |w| w.rate = Some(10_000),
        |w| w.topics = 3,
        |w| {
            w.rate = Some(10_000);
            w.arrivals = Arrivals::Poisson;
        },
    ];
    for (number, change) in cases.into_iter().enumerate() {
        let simulation = machine(number as u64);
        let mut workload = workload(&simulation);
        change(&mut workload);
        let produced = run(&simulation, workload, ALONE);
        let tally = &produced.tally;
        assert_eq!(produced.fatal, None, "case {number}");
        assert_eq!(
            (tally.records, tally.requests, tally.error_count()),
            (1000, 100, 0),
            "case {number}"
        );
        assert_eq!(tally.connects, 3, "case {number}");
        assert_eq!(tally.latency.len(), 100, "case {number}");
    }
}

#[test]
fn cores_share_connections_and_records() {
    let mut records = 0;
    for core in 0..2 {
        let simulation = machine(20 + core);
        let produced = run(&simulation, workload(&simulation), Share { core, cores: 2 });
        assert_eq!(produced.tally.connects, [2, 1][core as usize]);
        records += produced.tally.records;
    }
    assert_eq!(records, 1000);
}

#[test]
fn an_open_loop_keeps_its_rate_and_the_warm_up_does_not_count() {
    let simulation = machine(30);
    let mut workload = workload(&simulation);
    workload.rate = Some(1000);
    workload.limit = Limit {
        duration: Some(Duration::from_secs(4)),
        records: None,
    };
    workload.warmup = Duration::from_secs(2);
    let produced = run(&simulation, workload, ALONE);
    // 4 s at 1,000 records/s, give or take the requests at the edges.
    let records = produced.tally.records;
    assert!((3900..=4100).contains(&records), "{records}");
    let elapsed = produced.elapsed.as_secs_f64();
    assert!((3.9..=4.1).contains(&elapsed), "{elapsed}");
    assert_eq!(produced.tally.connects, 3, "made during the warm-up");
}

#[test]
fn what_a_dead_broker_did_not_answer_counts_as_failed_and_as_unknown() {
    let simulation = machine(40);
    let mut workload = workload(&simulation);
    workload.stamp_run = Some(7);
    workload.limit = Limit {
        duration: Some(Duration::from_secs(20)),
        records: None,
    };
    workload.rate = Some(100);
    let client = simulation.client();
    let io = simulation.io(client, 0);
    let result = Rc::new(RefCell::new(None));
    let done = result.clone();
    simulation.spawn(client, 0, async move {
        let produced = load::produce(io, workload, ALONE, Observer::default()).await;
        *done.borrow_mut() = Some(produced);
    });
    simulation.run_for(Duration::from_secs(3));
    simulation.cut(0, client);
    simulation.run_until(|| result.borrow().is_some());
    let produced = result.take().unwrap();
    let tally = &produced.tally;
    assert!(tally.records > 0);
    assert!(tally.errors.contains_key("timeout"), "{:?}", tally.errors);
    assert!(produced.ledger.records() > tally.records);
    // A reader that sees nothing at all misses exactly what was acknowledged.
    let findings = Verifier::new(Some(7)).finish(Some(&produced.ledger));
    assert_eq!(findings.lost, tally.records);
    assert_eq!(findings.lost + findings.unknown, produced.ledger.records());
}

#[test]
fn a_load_that_gets_nowhere_is_given_up() {
    let simulation = Simulation::new(50, 1, 1);
    let workload = workload(&simulation);
    let stall = workload.stall();
    let start = simulation.now();
    let produced = run(&simulation, workload, ALONE);
    let reason = produced.fatal.unwrap();
    assert!(reason.contains("no record for 10 s"), "{reason}");
    assert!(produced.tally.error_count() > 0);
    assert!(simulation.now().since(start) < stall * 2);
}

#[test]
fn connections_that_have_nothing_to_send_keep_nobody_waiting() {
    let simulation = machine(91);
    let limit = Limit {
        duration: None,
        records: Some(10),
    };
    let workload = ProduceWorkload {
        limit,
        ..workload(&simulation)
    };
    let begin = simulation.now();
    let produced = run(&simulation, workload, ALONE);
    assert_eq!(produced.tally.records, 10);
    let took = simulation.now().since(begin);
    assert!(took < Duration::from_secs(1), "{took:?}");
}
