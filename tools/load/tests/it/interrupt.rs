//! Loads that are interrupted end soon, whatever the server does, and account for everything they have sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load::verify::Verifier;
use load::{BatchSize, Limit, Observer, ProduceWorkload, Produced, Share, null_server};
use model::MonotonicTime;
use null_server::Pause;
use runtime::sim::Simulation;
use runtime::{Io as _, Listener as _};

const PORT: u16 = 9092;
const RUN: u64 = 5;

/// What the server does.
#[derive(Clone, Copy)]
enum Server {
    /// It answers until so long after the first request.
    AnswersFor(Duration),
    /// It accepts connections and never says a word.
    Silent,
}

/// A verified load without an end, interrupted after 2 s; how long it took.
fn interrupted(server: Server, warmup: Duration) -> (Produced, Duration) {
    let simulation = Simulation::new(7, 1, 1);
    let (io, address) = (simulation.io(0, 0), simulation.address(0, PORT));
    simulation.spawn(0, 0, async move {
        let after = match server {
            Server::AnswersFor(after) => after,
            Server::Silent => {
                let listener = io.listen(address, true).await.unwrap();
                let mut held = Vec::new();
                loop {
                    held.push(listener.accept().await.unwrap());
                }
            }
        };
        let pause = Pause {
            after,
            length: Duration::from_secs(600),
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
        in_flight: 5,
        stamp_run: Some(RUN),
        warmup,
        limit: Limit {
            duration: Some(Duration::from_secs(600)),
            records: None,
        },
        ..ProduceWorkload::default()
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (io, flag) = (simulation.io(simulation.client(), 0), stop.clone());
    let begin: MonotonicTime = io.now();
    simulation.spawn(simulation.client(), 0, async move {
        io.sleep(Duration::from_secs(2)).await;
        flag.store(true, Ordering::Relaxed);
    });
    let observer = Observer {
        stop: Some(stop),
        ..Observer::default()
    };
    let io = simulation.io(simulation.client(), 0);
    let share = Share { core: 0, cores: 1 };
    let load = load::produce(io.clone(), workload, share, observer);
    let produced = simulation.block_on(simulation.client(), load);
    (produced, io.now().since(begin))
}

#[test]
fn one_that_is_served_ends_with_every_answer() {
    for warmup in [Duration::ZERO, Duration::from_secs(60)] {
        let (produced, took) = interrupted(Server::AnswersFor(Duration::from_secs(600)), warmup);
        assert!(took < Duration::from_millis(2200), "{took:?}");
        assert!(produced.tally.records > 1000);
        assert_eq!(
            produced.tally.error_count(),
            0,
            "{:?}",
            produced.tally.errors
        );
        assert_eq!(produced.ledger.records(), produced.tally.records);
    }
}

#[test]
fn one_that_is_not_served_any_more_ends_soon_and_says_what_is_open() {
    let (produced, took) = interrupted(Server::AnswersFor(Duration::from_secs(1)), Duration::ZERO);
    assert!(took < Duration::from_millis(2800), "{took:?}");
    let open = produced.tally.errors["unanswered when interrupted"];
    assert_eq!(open, 10, "{:?}", produced.tally.errors);
    // Nobody knows whether these are there: neither lost nor unread.
    let unread = Verifier::new(Some(RUN)).finish_early(&produced.ledger);
    assert_eq!(
        (unread.unknown, unread.unread),
        (open, produced.tally.records)
    );
    assert!(unread.is_clean());
}

#[test]
fn one_that_cannot_connect_ends_too() {
    let (produced, took) = interrupted(Server::Silent, Duration::ZERO);
    assert!(took < Duration::from_millis(2800), "{took:?}");
    assert_eq!(produced.tally.records, 0);
    assert_eq!(produced.ledger.records(), 0);
}
