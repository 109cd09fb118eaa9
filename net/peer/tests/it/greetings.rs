//! Who is let in, and what both sides learn when somebody is not.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BrokerEpoch, BrokerId, ShardId};
use peer::handshake::{Expected, Hello, VERSIONS};
use peer::{
    Admission, House, NotSent, PeerIdentity, PlantedFault, ProbeError, Purpose, Refusal, Settings,
    Target,
};
use quorum::{DirectoryId, ReplicaKey};
use runtime::sim::Simulation;

use crate::bed::{self, CLUSTER, entry, id, key};

fn identity(node: i32, directory: u8) -> PeerIdentity {
    PeerIdentity {
        key: ReplicaKey {
            broker: BrokerId(node),
            directory: DirectoryId([directory; 16]),
        },
        epoch: BrokerEpoch(5),
    }
}

fn hello() -> Hello {
    Hello {
        versions: VERSIONS,
        purpose: Purpose::Raft.code(),
        source_shard: ShardId(4),
        target_shard: ShardId(0),
        from: identity(1, 1),
        to: Expected {
            node: BrokerId(2),
            directory: Some(DirectoryId([2; 16])),
        },
        cluster: "c".to_owned(),
    }
}

fn house() -> House<'static> {
    House {
        cluster: "c",
        identity: identity(2, 2),
        shard: ShardId(0),
        hands_over: false,
        served: &[Purpose::Raft, Purpose::Probe],
        caller_directory: Some(DirectoryId([1; 16])),
        is_closing: false,
        is_full: false,
        objection: None,
        planted: None,
    }
}

#[test]
fn admission_is_a_table() {
    let directory = |byte| DirectoryId([byte; 16]);
    let check = |change: fn(&mut Hello, &mut House<'_>), expected: Option<Refusal>| {
        let (mut hello, mut house) = (hello(), house());
        change(&mut hello, &mut house);
        assert_eq!(house.admit(&hello).err(), expected);
    };
    check(|_, _| {}, None);
    check(|hello, _| hello.to.directory = None, None);
    check(|_, house| house.caller_directory = None, None);
    check(|hello, _| hello.purpose = Purpose::Probe.code(), None);
    check(
        |hello, _| hello.versions.least = 9,
        Some(Refusal::Version(VERSIONS)),
    );
    check(
        |hello, _| hello.cluster.push('x'),
        Some(Refusal::Cluster("c".to_owned())),
    );
    check(
        |hello, house| hello.from = house.identity,
        Some(Refusal::Oneself),
    );
    check(
        |hello, house| hello.from.key.broker = house.identity.key.broker,
        Some(Refusal::DuplicateNode(directory(2))),
    );
    check(
        |hello, _| hello.to.node = BrokerId(3),
        Some(Refusal::Node(BrokerId(2))),
    );
    check(
        |hello, _| hello.to.directory = Some(DirectoryId([3; 16])),
        Some(Refusal::Directory(directory(2))),
    );
    check(
        |hello, _| hello.from.key.directory = DirectoryId([3; 16]),
        Some(Refusal::CallerDirectory(directory(1))),
    );
    check(
        |hello, _| hello.purpose = Purpose::Forward.code(),
        Some(Refusal::Purpose(2)),
    );
    check(|hello, _| hello.purpose = 99, Some(Refusal::Purpose(99)));
    check(
        |hello, _| hello.target_shard = ShardId(1),
        Some(Refusal::Shard(ShardId(1))),
    );
    check(
        |_, house| house.is_closing = true,
        Some(Refusal::ShuttingDown),
    );
    check(
        |_, house| house.is_full = true,
        Some(Refusal::TooManyConnections),
    );
    // What is wrong for good comes first.
    check(
        |hello, house| {
            hello.cluster.push('x');
            hello.to.node = BrokerId(3);
            house.is_closing = true;
        },
        Some(Refusal::Cluster("c".to_owned())),
    );
}

#[test]
fn whoever_would_serve_is_asked_last() {
    let mut house = house();
    house.objection = Some(Refusal::Crossed);
    assert_eq!(house.admit(&hello()), Err(Refusal::Crossed));
    house.is_full = true;
    assert_eq!(house.admit(&hello()), Err(Refusal::TooManyConnections));
}

#[test]
fn what_is_meant_for_another_shard_is_for_that_one_to_decide() {
    let check = |change: fn(&mut Hello, &mut House<'_>), expected: Result<Admission, Refusal>| {
        let (mut hello, mut house) = (hello(), house());
        hello.target_shard = ShardId(1);
        // Who is full or serves nothing of it here is not asked.
        (house.hands_over, house.is_full, house.served) = (true, true, &[]);
        change(&mut hello, &mut house);
        assert_eq!(house.admit(&hello), expected);
    };
    check(|_, _| {}, Ok(Admission::Elsewhere));
    check(
        |hello, _| hello.purpose = Purpose::Stream.code(),
        Ok(Admission::Elsewhere),
    );
    // It was handed over once.
    check(
        |_, house| house.hands_over = false,
        Err(Refusal::Shard(ShardId(1))),
    );
    // What every shard of this broker would say is said at once.
    check(|hello, _| hello.purpose = 99, Err(Refusal::Purpose(99)));
    check(
        |hello, _| hello.cluster.push('x'),
        Err(Refusal::Cluster("c".to_owned())),
    );
    check(
        |hello, _| hello.to.node = BrokerId(3),
        Err(Refusal::Node(BrokerId(2))),
    );
    check(
        |_, house| house.is_closing = true,
        Err(Refusal::ShuttingDown),
    );
}

/// What broker 0 finds when it probes broker 1, which is set up otherwise than the address book says.
fn probe(
    seed: u64,
    directory: u8,
    cluster: &str,
    expected: Option<u8>,
    planted: Option<PlantedFault>,
) -> Result<PeerIdentity, ProbeError> {
    let simulation = Simulation::new(seed, 2, 1);
    let settings = Settings {
        planted,
        ..Settings::default()
    };
    let asking = bed::make(&simulation, 0, 1, CLUSTER, settings.clone());
    let asked = bed::make(&simulation, 1, directory, cluster, settings);
    asked.network.set_epoch(BrokerEpoch(42));
    bed::listen(&simulation, &asked, 1);
    simulation.run_for(Duration::from_millis(10));
    let book = BTreeMap::from([(id(1), entry(&simulation, 1, expected))]);
    asking.network.set_book(book).unwrap();
    let found = simulation.block_on(0, asking.network.probe(id(1)));
    let refused = asked.network.counters().refused.get();
    assert_eq!(
        refused,
        u64::from(matches!(found, Err(ProbeError::Refused(_))))
    );
    found
}

#[test]
fn a_refusal_reaches_the_one_who_connected() {
    for seed in 0..10 {
        let found = probe(seed, 1, CLUSTER, Some(1), None).unwrap();
        assert_eq!((found.key, found.epoch), (key(1, 1), BrokerEpoch(42)));
        let found = probe(seed, 7, CLUSTER, None, None).unwrap();
        assert_eq!(found.key, key(1, 7));
        for (directory, cluster, refusal, planted) in [
            (
                7,
                CLUSTER,
                Refusal::Directory(key(1, 7).directory),
                PlantedFault::DirectoryUnchecked,
            ),
            (
                1,
                "another",
                Refusal::Cluster("another".to_owned()),
                PlantedFault::ClusterUnchecked,
            ),
        ] {
            let found = probe(seed, directory, cluster, Some(1), None);
            assert_eq!(found, Err(ProbeError::Refused(refusal)));
            let found = probe(seed, directory, cluster, Some(1), Some(planted));
            assert!(found.is_ok(), "{planted:?} is not noticed");
        }
    }
}

#[test]
fn a_probe_tells_a_dead_process_from_a_dead_machine() {
    let simulation = Simulation::new(3, 2, 1);
    let asking = bed::start(&simulation, 0, Settings::default());
    let none = simulation.block_on(0, asking.network.probe(id(5)));
    assert_eq!(none, Err(ProbeError::Unknown));
    let none = simulation.block_on(0, asking.network.probe(id(1)));
    assert_eq!(none, Err(ProbeError::NoProcess));
    simulation.power_cut(1);
    let began = simulation.now();
    let none = simulation.block_on(0, asking.network.probe(id(1)));
    assert_eq!(none, Err(ProbeError::NoAnswer));
    let took = simulation.now().since(began);
    assert!(took <= Settings::default().connect_timeout * 2, "{took:?}");
}

#[test]
fn an_address_of_another_broker_or_of_oneself_is_noticed() {
    let simulation = Simulation::new(5, 3, 1);
    let brokers: Vec<_> = (0..3)
        .map(|node| bed::start(&simulation, node, Settings::default()))
        .collect();
    simulation.run_for(Duration::from_millis(10));
    let mut book = bed::book(&simulation, 0);
    book.insert(id(1), entry(&simulation, 2, None));
    book.insert(id(2), entry(&simulation, 0, None));
    brokers[0].network.set_book(book).unwrap();
    let found = simulation.block_on(0, brokers[0].network.probe(id(1)));
    assert_eq!(found, Err(ProbeError::Refused(Refusal::Node(id(2)))));
    let found = simulation.block_on(0, brokers[0].network.probe(id(2)));
    assert_eq!(found, Err(ProbeError::Refused(Refusal::Oneself)));
}

#[test]
fn a_second_broker_with_the_same_number_is_refused_with_the_reason() {
    let simulation = Simulation::new(6, 2, 1);
    let first = bed::make(&simulation, 0, 1, CLUSTER, Settings::default());
    bed::listen(&simulation, &first, 0);
    simulation.run_for(Duration::from_millis(10));
    // On another machine, with the number of the first.
    let local = peer::Local {
        cluster: CLUSTER.to_owned(),
        key: key(0, 9),
        shard: ShardId(0),
    };
    let second = peer::PeerNetwork::new(
        simulation.io(1, 0),
        local,
        Settings::default(),
        std::rc::Rc::new(peer::resolve_literal),
        runtime::Signal::new(),
    )
    .unwrap();
    let book = BTreeMap::from([(id(0), entry(&simulation, 0, None))]);
    second.set_book(book).unwrap();
    let found = simulation.block_on(1, second.probe(id(0)));
    let duplicate = Refusal::DuplicateNode(key(0, 1).directory);
    assert_eq!(found, Err(ProbeError::Refused(duplicate)));
}

#[test]
fn what_nobody_serves_and_shards_that_are_not_there_are_refused() {
    let simulation = Simulation::new(7, 2, 1);
    let brokers: Vec<_> = (0..2)
        .map(|node| bed::start(&simulation, node, Settings::default()))
        .collect();
    simulation.run_for(Duration::from_millis(10));
    let shard = Target {
        node: id(1),
        shard: ShardId(1),
    };
    let found = simulation.block_on(0, brokers[0].network.probe(shard));
    let refused = Refusal::Shard(ShardId(1));
    assert_eq!(found, Err(ProbeError::Refused(refused)));
    // Streams have a way of their own.
    let misplaced =
        brokers[0]
            .network
            .send(id(1), Purpose::Stream, bytes::Bytes::from_static(b"x"));
    assert_eq!(misplaced, Err(NotSent::Misplaced));
}

#[test]
fn a_cluster_without_a_name_cannot_be_made() {
    let simulation = Simulation::new(8, 1, 1);
    for length in [0, 256] {
        let local = peer::Local {
            cluster: "x".repeat(length),
            key: key(0, 1),
            shard: ShardId(0),
        };
        let made = peer::PeerNetwork::new(
            simulation.io(0, 0),
            local,
            Settings::default(),
            std::rc::Rc::new(peer::resolve_literal),
            runtime::Signal::new(),
        );
        assert_eq!(made.err(), Some(peer::ClusterName(length)));
    }
}
