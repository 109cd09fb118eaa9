//! What loads see of a server that pauses for a second.

use std::time::Duration;

use load::{BatchSize, Limit, Observer, ProduceWorkload, Produced, Share, null_server};
use load::{Report, validity};
use null_server::Pause;
use runtime::sim::Simulation;

const PORT: u16 = 9092;

/// 20 s of one-record requests to a server that pauses for the second behind the fifth.
fn run(rate: Option<u64>, in_flight: usize) -> (ProduceWorkload, Produced) {
    let simulation = Simulation::new(7, 1, 1);
    let (io, address) = (simulation.io(0, 0), simulation.address(0, PORT));
    simulation.spawn(0, 0, async move {
        let pause = Pause {
            after: Duration::from_secs(5),
            length: Duration::from_secs(1),
        };
        null_server::serve_pausing(io, address, 4, Some(pause), |_| {})
            .await
            .unwrap();
    });
    simulation.run_for(Duration::from_millis(1));
    let workload = ProduceWorkload {
        bootstrap: address.to_string(),
        batch: BatchSize::Records(1),
        connections: 2,
        in_flight,
        rate,
        limit: Limit {
            duration: Some(Duration::from_secs(20)),
            records: None,
        },
        ..ProduceWorkload::default()
    };
    let io = simulation.io(simulation.client(), 0);
    let share = Share { core: 0, cores: 1 };
    let load = load::produce(io, workload.clone(), share, Observer::default());
    let produced = simulation.block_on(simulation.client(), load);
    (workload, produced)
}

/// Requests that took longer than 100 ms.
fn slow(produced: &Produced) -> u64 {
    let latency = &produced.tally.latency;
    latency.count_between(100_000_000, latency.high())
}

#[test]
fn an_open_loop_shows_the_pause_in_every_request_that_waited() {
    let (workload, produced) = run(Some(1000), 100);
    let tally = &produced.tally;
    assert!(
        (19_990..=20_010).contains(&tally.records),
        "{}",
        tally.records
    );
    // Of the 1,000 requests due in that second, those of its first 900 ms waited longer than 100 ms.
    let slow = slow(&produced);
    assert!((850..=950).contains(&slow), "{slow}");
    assert!(
        tally.latency_ms(0.999) >= 900.0,
        "{}",
        tally.latency_ms(0.999)
    );
    assert!(
        tally.latency_ms(0.99) >= 700.0,
        "{}",
        tally.latency_ms(0.99)
    );
    assert!(tally.latency_ms(0.9) < 50.0, "{}", tally.latency_ms(0.9));
    // The generator did what it should: the broker kept requests waiting, not it.
    assert!(tally.held_back > 700, "{}", tally.held_back);
    let mut report = Report::new("produce", tally, produced.elapsed);
    validity::judge(&mut report, &workload);
    assert!(report.valid, "{:?}", report.invalid_reasons);
    assert!(report.achieved_ratio.unwrap() > 0.99);
}

#[test]
fn a_closed_loop_hides_the_pause() {
    let (_, produced) = run(None, 5);
    let tally = &produced.tally;
    assert!(slow(&produced) <= 10, "at most the requests in flight");
    assert!(
        tally.latency_ms(0.999) < 50.0,
        "{}",
        tally.latency_ms(0.999)
    );
    // The same server, the same second: only the slowest request tells.
    assert!(tally.latency.max() >= 900_000_000);
}
