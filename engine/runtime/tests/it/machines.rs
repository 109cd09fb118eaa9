//! What can be done to one machine of several: pauses, clocks, disks of another time, chance of its own.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::sim::{Fault, FaultRule, PathRule, SimIo, Simulation};
use runtime::{Buffer, File, Io, Listener, OpenMode, Stream};

const SEEDS: u64 = 20;
const MILLI: Duration = Duration::from_millis(1);

/// Ticks once a millisecond of the node's own time; the times it has shown.
fn ticks(simulation: &Simulation, node: usize) -> Rc<RefCell<Vec<u64>>> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (io, ticks) = (simulation.io(node, 0), Rc::clone(&seen));
    simulation.spawn(node, 0, async move {
        loop {
            ticks.borrow_mut().push(io.now().0);
            io.sleep(MILLI).await;
        }
    });
    seen
}

fn fill(io: &SimIo, byte: u8) -> <runtime::sim::SimBuffer as Buffer>::Frozen {
    let mut buffer = io.buffer(4096);
    buffer.as_mut().fill(byte);
    buffer.freeze()
}

/// Writes a page of `byte` to a file, which may be new; durably if `sync` says so.
async fn write_page(io: &SimIo, path: &'static str, byte: u8, sync: bool) {
    io.create_dir_all(Path::new("/d")).await.unwrap();
    let file = io.open(Path::new(path), OpenMode::Write).await.unwrap();
    file.write_at(fill(io, byte), 0).await.unwrap();
    if sync {
        file.sync_data().await.unwrap();
        io.sync_dir(Path::new("/d")).await.unwrap();
    }
}

#[test]
fn a_paused_process_does_nothing_while_time_passes() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 2, 1);
        let (stopped, other) = (ticks(&simulation, 0), ticks(&simulation, 1));
        simulation.run_for(20 * MILLI);
        simulation.pause(0, 100 * MILLI);
        assert!(simulation.is_paused(0) && !simulation.is_paused(1));
        let before = (stopped.borrow().len(), other.borrow().len());
        simulation.run_for(99 * MILLI);
        assert_eq!(stopped.borrow().len(), before.0, "seed {seed}");
        assert!(other.borrow().len() > before.1 + 80, "seed {seed}");
        simulation.run_for(21 * MILLI);
        let after = stopped.borrow().clone();
        assert!(after.len() > before.0 + 10, "it goes on, seed {seed}");
        // The first tick afterwards sees how long it was.
        let gap = after[before.0] - after[before.0 - 1];
        assert!(gap >= 100_000_000, "{gap} ns, seed {seed}");
    }
}

#[test]
fn a_pause_is_made_longer_ended_early_and_dies_with_the_process() {
    let simulation = Simulation::new(1, 1, 1);
    let seen = ticks(&simulation, 0);
    simulation.run_for(5 * MILLI);
    simulation.pause(0, 50 * MILLI);
    simulation.run_for(10 * MILLI);
    simulation.pause(0, 100 * MILLI);
    let count = seen.borrow().len();
    simulation.run_for(95 * MILLI);
    assert_eq!(seen.borrow().len(), count, "the longer one counts");
    simulation.resume(0);
    simulation.run_for(3 * MILLI);
    assert!(seen.borrow().len() > count);
    simulation.pause(0, Duration::from_secs(20));
    simulation.kill(0);
    simulation.restart(0);
    let next = ticks(&simulation, 0);
    simulation.run_for(5 * MILLI);
    assert!(next.borrow().len() > 2, "the next life is not paused");
    // The end of the earlier pause is no end of this one.
    simulation.run_for(Duration::from_secs(15));
    simulation.pause(0, Duration::from_secs(10));
    let count = next.borrow().len();
    simulation.run_for(Duration::from_secs(9));
    assert_eq!(next.borrow().len(), count);
}

#[test]
fn the_kernel_of_a_paused_process_takes_connections_and_bytes() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 1, 1);
        let (client, address) = (simulation.client(), simulation.address(0, 9092));
        let io = simulation.io(0, 0);
        let received = Rc::new(Cell::new(0));
        let count = Rc::clone(&received);
        simulation.spawn(0, 0, async move {
            let listener = io.listen(address, false).await.unwrap();
            let stream = listener.accept().await.unwrap();
            let mut buffer = BytesMut::with_capacity(1 << 16);
            while let Ok(1..) = stream.read(&mut buffer).await {
                count.set(count.get() + buffer.len());
                buffer.clear();
            }
        });
        simulation.run_for(MILLI);
        simulation.pause(0, Duration::from_secs(30));
        let io = simulation.io(client, 0);
        let sent = Rc::new(Cell::new(0));
        let count = Rc::clone(&sent);
        simulation.spawn(client, 0, async move {
            let stream = io.connect(address).await.unwrap();
            for _ in 0..1_000 {
                let mut slices = vec![Bytes::from(vec![1; 1_000])];
                stream.write_all(&mut slices).await.unwrap();
                count.set(count.get() + 1_000);
            }
            std::future::pending::<()>().await;
        });
        simulation.run_for(Duration::from_secs(20));
        assert_eq!(received.get(), 0, "seed {seed}");
        assert!(sent.get() > 0, "the window takes some, seed {seed}");
        assert!(sent.get() < 1_000_000, "and not all, seed {seed}");
        simulation.run_until(|| received.get() == 1_000_000);
    }
}

#[test]
fn a_disk_goes_on_while_its_process_is_paused() {
    let simulation = Simulation::new(3, 1, 1);
    let io = simulation.io(0, 0);
    simulation.block_on(0, write_page(&io, "/d/a", 1, true));
    let wrote = Rc::new(Cell::new(false));
    let told = Rc::clone(&wrote);
    let writer = io.clone();
    simulation.spawn(0, 0, async move {
        write_page(&writer, "/d/a", 2, false).await;
        told.set(true);
    });
    // Create and open come before the write; then it is under way for 15 us at least.
    simulation.run_until(|| simulation.disk_counters(0).metadata_operations >= 4);
    simulation.run_for(Duration::from_micros(5));
    simulation.pause(0, Duration::from_secs(10));
    simulation.run_for(Duration::from_secs(5));
    assert!(!wrote.get(), "nobody has heard of it");
    let bytes = simulation.file_bytes(0, Path::new("/d/a")).unwrap();
    assert_eq!(bytes[0], 2, "it was carried out");
    simulation.run_until(|| wrote.get());
}

#[test]
fn sleeps_follow_the_clock_of_their_node() {
    for (ppm, expected) in [(50_000, 0.952), (0, 1.0), (-50_000, 1.053)] {
        let simulation = Simulation::new(1, 2, 1);
        simulation.set_clock_drift(0, ppm);
        let io = simulation.io(0, 0);
        let begun = simulation.now();
        let passed = simulation.block_on(0, async {
            let begun = io.now();
            io.sleep(Duration::from_secs(1)).await;
            io.now().since(begun)
        });
        assert!(passed >= Duration::from_secs(1), "{passed:?} at {ppm}");
        let world = simulation.now().since(begun).as_secs_f64();
        assert!((world - expected).abs() < 0.002, "{world} s at {ppm}");
        let other = simulation.io(1, 0);
        assert_eq!(other.now(), simulation.now(), "only one clock drifts");
    }
}

#[test]
fn a_sleep_under_way_is_not_cut_short_by_a_clock_that_becomes_slower() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 1, 1);
        simulation.set_clock_drift(0, 50_000);
        let io = simulation.io(0, 0);
        let slept = Rc::new(Cell::new(None));
        let told = Rc::clone(&slept);
        simulation.spawn(0, 0, async move {
            let begun = io.now();
            io.sleep(Duration::from_secs(2)).await;
            told.set(Some(io.now().since(begun)));
        });
        simulation.run_for(Duration::from_secs(1));
        simulation.set_clock_drift(0, -50_000);
        simulation.run_until(|| slept.get().is_some());
        assert!(slept.get() >= Some(Duration::from_secs(2)), "{slept:?}");
    }
}

#[test]
fn wall_clocks_jump_and_monotonic_ones_begin_anywhere() {
    let simulation = Simulation::new(1, 2, 1);
    simulation.put_clock_forward(1, Duration::from_secs(500));
    let (first, second) = (simulation.io(0, 0), simulation.io(1, 0));
    assert_eq!(second.now().since(first.now()), Duration::from_secs(500));
    let before = (first.wall_clock(), first.now());
    simulation.jump_wall_clock(0, 3_600_000);
    simulation.jump_wall_clock(0, -600_000);
    assert_eq!(first.wall_clock().0 - before.0.0, 3_000_000);
    assert_eq!(first.now(), before.1, "a jump of the wall clock is no time");
    assert_eq!(second.wall_clock(), before.0);
}

/// What a node draws does not depend on what others draw, nor its disk on theirs.
#[test]
fn chance_is_each_nodes_own() {
    let draw = |busy: bool| {
        let simulation = Simulation::new(9, 2, 1);
        if busy {
            let other = simulation.io(1, 0);
            for _ in 0..100 {
                other.random();
            }
            simulation.block_on(1, write_page(&other, "/d/b", 1, true));
        }
        let io = simulation.io(0, 0);
        let own: Vec<u64> = (0..8).map(|_| io.random()).collect();
        simulation.block_on(0, write_page(&io, "/d/a", 1, false));
        simulation.power_cut(0);
        (own, simulation.files(0))
    };
    assert_eq!(draw(false), draw(true));
    let simulation = Simulation::new(9, 2, 1);
    assert_ne!(
        simulation.io(0, 0).random(),
        simulation.io(1, 0).random(),
        "and differs from the others'"
    );
}

#[test]
fn an_old_disk_comes_back_whole_and_durable() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 2, 1);
        let io = simulation.io(0, 0);
        simulation.block_on(0, write_page(&io, "/d/a", 1, true));
        // Not flushed: the copy holds what readers see.
        simulation.block_on(0, write_page(&io, "/d/b", 2, false));
        let snapshot = simulation.disk_snapshot(0);
        simulation.block_on(0, write_page(&io, "/d/a", 3, true));
        simulation.block_on(0, write_page(&io, "/d/c", 3, true));
        let restore = |node: usize| {
            simulation.power_cut(node);
            simulation.restore_disk(node, &snapshot);
            // All of it was durable: nothing is left to lose.
            simulation.restart(node);
            simulation.power_cut(node);
            let io = simulation.restart(node).remove(0);
            let first = |path: &str| simulation.file_bytes(node, Path::new(path)).map(|b| b[0]);
            assert_eq!(
                (first("/d/a"), first("/d/b"), first("/d/c")),
                (Some(1), Some(2), None),
                "node {node} of seed {seed}"
            );
            io
        };
        let io = restore(0);
        // What is written to the copy does not change the snapshot, nor the other node's copy.
        simulation.block_on(0, write_page(&io, "/d/a", 4, true));
        restore(1);
        restore(0);
    }
}

#[test]
fn a_wiped_disk_is_empty() {
    let simulation = Simulation::new(1, 2, 1);
    for node in 0..2 {
        let io = simulation.io(node, 0);
        simulation.block_on(node, write_page(&io, "/d/a", 1, true));
    }
    simulation.kill(0);
    simulation.wipe(0);
    let io = simulation.restart(0).remove(0);
    let missing = simulation.block_on(0, async move {
        io.open(Path::new("/d/a"), OpenMode::Read).await.err()
    });
    assert_eq!(missing.map(|error| error.kind()), Some(ErrorKind::NotFound));
    assert_eq!(simulation.files(1).len(), 1, "the other one keeps its own");
}

#[test]
fn faults_of_one_node_are_cleared_alone() {
    let simulation = Simulation::new(1, 2, 1);
    for node in 0..2 {
        simulation
            .faults()
            .add(FaultRule::new(Fault::MetadataError).node(node));
    }
    simulation.faults().clear_node(0);
    let fails = |node: usize| {
        let io = simulation.io(node, 0);
        let made = simulation.block_on(
            node,
            async move { io.create_dir_all(Path::new("/x")).await },
        );
        made.is_err()
    };
    assert_eq!([fails(0), fails(1)], [false, true]);
}

#[test]
fn a_connect_over_a_cut_succeeds_once_it_is_healed() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 1, 1);
        let (client, address) = (simulation.client(), simulation.address(0, 9092));
        let io = simulation.io(0, 0);
        simulation.spawn(0, 0, async move {
            let listener = io.listen(address, false).await.unwrap();
            listener.accept().await.unwrap();
            std::future::pending::<()>().await;
        });
        simulation.run_for(MILLI);
        simulation.isolate(0);
        let connected = Rc::new(Cell::new(false));
        let (io, told) = (simulation.io(client, 0), Rc::clone(&connected));
        simulation.spawn(client, 0, async move {
            io.connect(address).await.unwrap();
            told.set(true);
        });
        simulation.run_for(Duration::from_secs(2));
        assert!(!connected.get(), "it hangs, seed {seed}");
        simulation.heal_all();
        simulation.run_for(Duration::from_secs(3));
        assert!(connected.get(), "seed {seed}");
    }
}

#[test]
fn a_lossy_path_is_slow_in_its_direction_only() {
    let simulation = Simulation::new(2, 2, 1);
    let address = simulation.address(1, 9092);
    let echo = simulation.io(1, 0);
    simulation.spawn(1, 0, async move {
        let listener = echo.listen(address, false).await.unwrap();
        let stream = listener.accept().await.unwrap();
        let mut buffer = BytesMut::with_capacity(64);
        while let Ok(1..) = stream.read(&mut buffer).await {
            let mut slices = vec![buffer.split().freeze()];
            buffer.reserve(64);
            stream.write_all(&mut slices).await.unwrap();
        }
    });
    simulation.run_for(MILLI);
    let io = simulation.io(0, 0);
    let stream = simulation.block_on(0, async { io.connect(address).await.unwrap() });
    let measure = |rule: PathRule| {
        simulation.set_path(0, 1, rule);
        simulation.block_on(0, async {
            let begun = io.now();
            for _ in 0..50 {
                let mut slices = vec![Bytes::from_static(b"x")];
                stream.write_all(&mut slices).await.unwrap();
                let mut buffer = BytesMut::with_capacity(64);
                assert_eq!(stream.read(&mut buffer).await.unwrap(), 1);
            }
            io.now().since(begun)
        })
    };
    let normal = measure(PathRule::default());
    let lossy = measure(PathRule {
        loss_per_million: 200_000,
        ..PathRule::default()
    });
    let slow = measure(PathRule {
        delay: Some((20 * MILLI, 20 * MILLI)),
        ..PathRule::default()
    });
    assert!(normal < 200 * MILLI, "{normal:?}");
    assert!(lossy > normal + 1_000 * MILLI, "{lossy:?} after {normal:?}");
    // One way of each of 50 round trips.
    assert!(slow > 1_000 * MILLI && slow < 2_000 * MILLI, "{slow:?}");
    simulation.clear_paths();
    assert!(measure(PathRule::default()) < 200 * MILLI);
}
