//! Whose a data directory is, on the simulated disk.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use broker::data_directory::{DataDirectory, DirectoryError};
use broker::identity::{Identity, Owner};
use broker::{BrokerPlan, StartError};
use model::BrokerId;
use runtime::sim::{Fault, FaultRule, SimIo, Simulation};
use runtime::{Io, TaskClass};

use crate::bed::{DATA, PORT, contents, plan, start, start_as, write};

const SHARDS: u16 = 2;
const META: &str = "/data/meta.properties";

fn owner() -> Owner {
    Owner {
        node: BrokerId(1),
        cluster_id: None,
    }
}

async fn open(io: &SimIo) -> Result<DataDirectory<SimIo>, DirectoryError> {
    DataDirectory::open(io, Path::new(DATA), &owner()).await
}

fn refusal(simulation: &Simulation, plan: BrokerPlan) -> DirectoryError {
    match start_as(simulation, plan).refused(simulation, SHARDS) {
        StartError::Directory(error) => error,
        other => panic!("refused for another reason: {other}"),
    }
}

/// A directory that a broker has used and left.
fn used(seed: u64) -> Simulation {
    let simulation = Simulation::new(seed, 1, usize::from(SHARDS));
    start(&simulation, SHARDS).running(&simulation, SHARDS);
    simulation.kill(0);
    simulation.restart(0);
    simulation
}

fn usual(simulation: &Simulation) -> BrokerPlan {
    plan(SHARDS, simulation.address(0, PORT))
}

#[test]
fn a_used_directory_refuses_who_is_not_its_owner() {
    let simulation = used(1);
    let before = contents(&simulation);
    let text = String::from_utf8(before[Path::new(META)].to_vec()).unwrap();
    assert!(text.ends_with("ringlog.shards=2\n"), "{text}");

    write(&simulation, META, &text.replace("node.id=1", "node.id=2"));
    let said = refusal(&simulation, usual(&simulation)).to_string();
    assert!(said.contains("belongs to node.id=2"), "{said}");

    write(&simulation, META, &text);
    let other = BrokerPlan {
        cluster_id: Some("another".to_owned()),
        ..usual(&simulation)
    };
    let said = refusal(&simulation, other).to_string();
    assert!(said.contains("to join another"), "{said}");
    assert_eq!(contents(&simulation), before, "a refusal changed something");

    // As it was, it starts.
    start(&simulation, SHARDS).running(&simulation, SHARDS);
}

#[test]
fn a_damaged_or_missing_identity_is_refused_beside_data() {
    let simulation = used(2);
    let whole = contents(&simulation)[Path::new(META)].to_vec();
    let whole = String::from_utf8(whole).unwrap();
    let needed = whole.find("\nringlog").unwrap();
    for end in (0..needed).step_by(7) {
        write(&simulation, META, &whole[..end]);
        let before = contents(&simulation);
        let error = refusal(&simulation, usual(&simulation));
        assert!(matches!(error, DirectoryError::Damaged { .. }), "{error}");
        assert_eq!(contents(&simulation), before, "a refusal changed something");
    }
    for text in ["\u{0}", &"x".repeat(40_000)] {
        write(&simulation, META, text);
        let error = refusal(&simulation, usual(&simulation));
        assert!(matches!(error, DirectoryError::Damaged { .. }), "{error}");
    }
    let io = simulation.io(0, 0);
    simulation
        .block_on(0, io.remove_file(Path::new(META)))
        .unwrap();
    let before = contents(&simulation);
    let error = refusal(&simulation, usual(&simulation));
    assert!(matches!(error, DirectoryError::Missing(_)), "{error}");
    assert_eq!(contents(&simulation), before, "a refusal changed something");
    // Whoever has a copy of the file puts it back.
    write(&simulation, META, &whole);
    start(&simulation, SHARDS).running(&simulation, SHARDS);
}

/// Its `meta.properties` has all that ours has.
#[test]
fn a_directory_of_apache_kafka_is_not_touched() {
    let simulation = Simulation::new(3, 1, usize::from(SHARDS));
    let text = "#\n#Mon Nov 30 09:00:00 UTC 2026\ncluster.id=MkU3OEVBNTcwNTJENDM2Qg\n\
        directory.id=AAAAAAAAAAAAAAAAAAAAAQ\nnode.id=1\nversion=1\n";
    for (path, text) in [
        (META, text),
        ("/data/orders-0/00000000000000000000.log", "records"),
        ("/data/__cluster_metadata-0/quorum-state", "{}"),
    ] {
        write(&simulation, path, text);
    }
    let before = contents(&simulation);
    let said = refusal(&simulation, usual(&simulation)).to_string();
    assert!(said.contains("Apache Kafka"), "{said}");
    assert!(said.contains("--data-dir"), "{said}");
    let io = simulation.io(0, 0);
    let names = simulation
        .block_on(0, io.read_dir(Path::new(DATA)))
        .unwrap();
    let expected = ["__cluster_metadata-0", "meta.properties", "orders-0"];
    assert_eq!(names, expected.map(PathBuf::from), "not even a lock");
    assert_eq!(contents(&simulation), before);
}

/// The first start is cut at each of its steps: the directory is nobody's or has the identity that was told, and never
/// anything in between.
#[test]
fn an_identity_that_was_told_survives_a_power_cut_at_any_step() {
    let (mut told_before, mut nobodys) = (0, 0);
    for seed in 0..600 {
        let simulation = Simulation::new(seed, 1, 1);
        let told: Rc<RefCell<Option<Identity>>> = Rc::default();
        let (io, to) = (simulation.io(0, 0), told.clone());
        io.clone().spawn(TaskClass::Foreground, async move {
            let directory = open(&io).await.unwrap();
            *to.borrow_mut() = Some(directory.identity.clone());
            std::future::pending::<()>().await;
        });
        simulation.run_for(Duration::from_micros(seed * 10));
        simulation.power_cut(0);
        let io = simulation.restart(0).remove(0);
        let found = simulation.block_on(0, async { open(&io).await.unwrap().identity.clone() });
        if let Some(told) = told.take() {
            assert_eq!(told, found, "seed {seed}");
            told_before += 1;
        } else {
            nobodys += 1;
        }
    }
    assert!(
        told_before > 100 && nobodys > 100,
        "{told_before} {nobodys}"
    );
}

#[test]
fn the_count_of_shards_is_noted_whole_or_not_at_all() {
    let mut counts = [0, 0];
    for seed in 0..300 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        let known = simulation.block_on(0, async {
            let directory = open(&io).await.unwrap();
            let identity = directory.identity.clone();
            directory.release();
            identity
        });
        let noting = io.clone();
        io.spawn(TaskClass::Foreground, async move {
            let mut directory = open(&noting).await.unwrap();
            directory.note(3, None, None).await;
            std::future::pending::<()>().await;
        });
        simulation.run_for(Duration::from_micros(seed * 20));
        simulation.power_cut(0);
        let io = simulation.restart(0).remove(0);
        let found = simulation.block_on(0, async { open(&io).await.unwrap().identity.clone() });
        let shards = found.shards;
        assert!(shards == 0 || shards == 3, "seed {seed}: {shards}");
        assert_eq!(found, Identity { shards, ..known }, "seed {seed}");
        counts[usize::from(shards == 3)] += 1;
    }
    assert!(counts[0] > 50 && counts[1] > 50, "{counts:?}");
}

/// What a start cannot note for lack of space it goes without, and the next one notes it.
#[test]
fn a_count_that_cannot_be_noted_does_not_keep_a_broker_from_starting() {
    let simulation = Simulation::new(4, 1, usize::from(SHARDS));
    let rule = FaultRule::new(Fault::NoSpace)
        .path("meta.properties")
        .after(1);
    let fault = simulation.faults().add(rule);
    start(&simulation, SHARDS).running(&simulation, SHARDS);
    let shards = |simulation: &Simulation| {
        let text = simulation.file_bytes(0, Path::new(META)).unwrap();
        let text = String::from_utf8(text.to_vec()).unwrap();
        text.rsplit_once('=').unwrap().1.trim().to_owned()
    };
    assert_eq!(shards(&simulation), "0");
    simulation.faults().remove(fault);
    simulation.kill(0);
    simulation.restart(0);
    start(&simulation, SHARDS).running(&simulation, SHARDS);
    assert_eq!(shards(&simulation), "2");
}

#[test]
fn a_lock_that_is_let_go_soon_is_waited_for_and_no_longer() {
    for seed in 0..20 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            let first = open(&io).await.unwrap();
            let begun = io.now();
            let error = open(&io).await.err().expect("it is held");
            assert!(matches!(error, DirectoryError::Locked(_)), "{error}");
            let waited = io.now().since(begun);
            let expected = Duration::from_secs(5)..Duration::from_secs(6);
            assert!(expected.contains(&waited), "{waited:?}");
            let later = io.clone();
            io.spawn(TaskClass::Foreground, async move {
                later.sleep(Duration::from_secs(2)).await;
                first.release();
            });
            open(&io).await.map(drop).expect("it was let go");
        });
        // Dropped, not released: the process has it until its end.
        let again = simulation.block_on(0, async { open(&io).await.map(drop) });
        assert!(matches!(again, Err(DirectoryError::Locked(_))));
        simulation.kill(0);
        let io = simulation.restart(0).remove(0);
        let next = simulation.block_on(0, async { open(&io).await.map(drop) });
        next.expect("its holder is gone");
    }
}
