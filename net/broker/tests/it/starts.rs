//! Starts that are cut short, and what they wait for.

use std::time::Duration;

use broker::StartError;
use client::{Cluster, ClusterOptions};
use runtime::sim::{Fault, FaultRule, Generator, Simulation};
use runtime::{Io, Listener as _};

use crate::bed::{PORT, plan, plan_with, start, start_as};

/// A first start, on however many shards, ends after at most so long if nothing keeps it.
const FIRST_START_MAX: Duration = Duration::from_millis(60);

/// Power fails at each step of the first start and of the starts that follow; one that is left alone serves, and the
/// cluster that clients were told of stays.
#[test]
fn first_starts_are_cut_short_at_every_step() {
    let (mut served, mut cut_short) = (0, 0);
    for seed in 0..300 {
        let random = Generator::new(seed, 100);
        let shards = random.between(1, 3) as u16;
        let simulation = Simulation::new(seed, 1, 3);
        let mut told: Option<String> = None;
        for life in 0..4 {
            let started = start(&simulation, shards);
            if life == 3 {
                let running = started.running(&simulation, shards);
                let cluster = &*running[0].shard.options.cluster_id;
                assert!(told.is_none_or(|told| told == cluster), "seed {seed}");
                break;
            }
            simulation.run_for(FIRST_START_MAX.mul_f64(random.below(1_000) as f64 / 1_000.0));
            if started.serves(shards) {
                let running = started.running(&simulation, shards);
                let cluster = running[0].shard.options.cluster_id.to_string();
                let same = told.as_ref().is_none_or(|told| *told == cluster);
                assert!(same, "seed {seed}: another cluster");
                told = Some(cluster);
                served += 1;
            } else {
                cut_short += 1;
            }
            if random.one_in(3) {
                simulation.kill(0);
            } else {
                simulation.power_cut(0);
            }
            simulation.restart(0);
        }
    }
    assert!(served > 100 && cut_short > 100, "{served} {cut_short}");
}

#[test]
fn a_port_is_waited_for_and_not_shared_with_another_process() {
    for shards in [1, 3] {
        let simulation = Simulation::new(u64::from(shards), 1, 3);
        let io = simulation.io(0, 0);
        let address = simulation.address(0, PORT);
        // As another broker's: it would share the port.
        let other = simulation.block_on(0, io.listen(address, true)).unwrap();
        let begun = simulation.now();
        let error = start(&simulation, shards).refused(&simulation, shards);
        assert!(matches!(error, StartError::Listen { .. }), "{error}");
        let waited = simulation.now().since(begun);
        let expected = Duration::from_secs(3)..Duration::from_secs(4);
        assert!(expected.contains(&waited), "{waited:?}");
        simulation.kill(0);
        drop(other);
        let io = simulation.restart(0).remove(0);
        let other = simulation.block_on(0, io.listen(address, true)).unwrap();
        let started = start(&simulation, shards);
        simulation.run_for(Duration::from_secs(1));
        assert!(!started.serves(shards));
        drop(other);
        let running = started.running(&simulation, shards);
        assert!(running.iter().all(|shard| shard.addresses == [address]));
    }
}

#[test]
fn clients_are_told_the_port_that_was_bound() {
    let simulation = Simulation::new(1, 1, 3);
    let started = start_as(&simulation, plan(3, simulation.address(0, 0)));
    let running = started.running(&simulation, 3);
    let bound = running[0].addresses[0];
    assert_ne!(bound.port(), 0);
    for shard in &running {
        assert_eq!(shard.addresses, [bound], "all share it");
        let image = shard.shard.image();
        let broker = image.broker(shard.shard.options.broker).unwrap();
        assert_eq!(broker.endpoints[0].port, bound.port());
        assert_eq!(broker.endpoints[0].host, bound.ip().to_string());
    }
    let io = simulation.io(0, 0);
    let taken = simulation.block_on(0, io.listen(bound, false));
    assert!(taken.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse));
    let free = simulation.block_on(0, io.listen(simulation.address(0, 0), false));
    assert_ne!(free.unwrap().local_addr().unwrap(), bound);
}

/// A kernel that takes its time with the files of the dead does not keep the next life from starting.
#[test]
fn a_dying_process_is_waited_for() {
    for seed in 0..30 {
        let simulation = Simulation::new(seed, 1, 2);
        start(&simulation, 2).running(&simulation, 2);
        simulation.faults().add(FaultRule::new(Fault::LateUnlock));
        simulation.kill(0);
        simulation.restart(0);
        let begun = simulation.now();
        start(&simulation, 2).running(&simulation, 2);
        let waited = simulation.now().since(begun);
        assert!(waited >= Duration::from_millis(10), "{waited:?}");
    }
}

#[test]
fn a_broker_that_cannot_boot_says_why() {
    let simulation = Simulation::new(1, 1, 3);
    start(&simulation, 3).running(&simulation, 3);
    simulation.kill(0);
    simulation.restart(0);
    let rule = FaultRule::new(Fault::ReadError).path("checkpoint");
    simulation.faults().add(rule);
    let error = start(&simulation, 3).refused(&simulation, 3);
    assert!(matches!(error, StartError::Boot(_)), "{error}");
}

#[test]
fn each_listener_tells_its_own_address() {
    let simulation = Simulation::new(2, 1, 3);
    let inside = simulation.address(0, PORT);
    let outside = simulation.address(0, PORT + 1);
    // What clients outside are told is an address of the host's, whatever the port is there.
    let advertised = format!("IN://{inside},OUT://{outside}");
    let settings = [
        ("listeners", "IN://:9092,OUT://:9093"),
        ("advertised.listeners", advertised.as_str()),
        (
            "listener.security.protocol.map",
            "IN:PLAINTEXT,OUT:PLAINTEXT",
        ),
    ];
    let plan = plan_with(3, &[inside, outside], &settings);
    let running = start_as(&simulation, plan).running(&simulation, 3);
    assert!(
        running
            .iter()
            .all(|shard| shard.addresses == [inside, outside])
    );
    let io = simulation.io(simulation.client(), 0);
    for address in [inside, outside] {
        let told = simulation.block_on(simulation.client(), async {
            let options = ClusterOptions::default();
            let cluster = Cluster::connect(&io, &address.to_string(), options).await;
            let cluster = cluster.unwrap();
            let brokers: Vec<_> = cluster.brokers().map(|broker| broker.port).collect();
            brokers
        });
        assert_eq!(told, [address.port()]);
    }
}
