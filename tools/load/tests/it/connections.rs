//! Many connections from one core.

use std::time::Duration;

use load::{BatchSize, Limit, Observer, ProduceWorkload, Share, null_server};
use runtime::sim::Simulation;

const PORT: u16 = 9092;
const CONNECTIONS: u64 = 2000;

#[test]
fn thousands_of_connections_ask_for_the_topology_once_and_all_send() {
    let simulation = Simulation::new(3, 1, 1);
    let (io, address) = (simulation.io(0, 0), simulation.address(0, PORT));
    simulation.spawn(0, 0, async move {
        null_server::serve(io, address, 16, |_| {}).await.unwrap();
    });
    simulation.run_for(Duration::from_millis(1));
    let workload = ProduceWorkload {
        bootstrap: address.to_string(),
        batch: BatchSize::Records(1),
        connections: CONNECTIONS,
        rate: Some(10_000),
        limit: Limit {
            duration: Some(Duration::from_secs(2)),
            records: None,
        },
        ..ProduceWorkload::default()
    };
    let client = simulation.client();
    let io = simulation.io(client, 0);
    let share = Share { core: 0, cores: 1 };
    let produced = simulation.block_on(
        client,
        load::produce(io, workload, share, Observer::default()),
    );
    let tally = &produced.tally;
    assert_eq!((tally.connects, tally.error_count()), (CONNECTIONS, 0));
    // Every connection sends 5 records a second, from the moment that all are connected.
    let expected = 20_000;
    assert!(tally.records.abs_diff(expected) <= 20, "{}", tally.records);
    assert_eq!(tally.held_back, 0);
}
