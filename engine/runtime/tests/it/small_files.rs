//! Locks and small files over the ends of processes and machines.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::{Fault, FaultRule, Simulation};
use runtime::{Io, TaskClass, small_file};

const SEEDS: u64 = 200;

fn path() -> &'static Path {
    Path::new("/data/file")
}

/// A node that holds a lock: in a task, as a process does.
fn locked(seed: u64) -> Simulation {
    let simulation = Simulation::new(seed, 1, 1);
    let io = simulation.io(0, 0);
    simulation
        .block_on(0, io.create_dir_all(Path::new("/data")))
        .unwrap();
    let holder = io.clone();
    io.spawn(TaskClass::Foreground, async move {
        let _lock = holder.try_lock(path()).await.unwrap();
        std::future::pending::<()>().await;
    });
    simulation.run_for(Duration::from_millis(10));
    simulation
}

async fn is_free(io: &impl Io) -> bool {
    match io.try_lock(path()).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    }
}

#[test]
fn a_lock_dies_with_its_process() {
    for seed in 0..SEEDS {
        for cut in [false, true] {
            let simulation = locked(seed);
            let io = simulation.io(0, 0);
            assert!(!simulation.block_on(0, is_free(&io)), "seed {seed}");
            if cut {
                simulation.power_cut(0);
            } else {
                simulation.kill(0);
            }
            let io = simulation.restart(0).remove(0);
            let free = simulation.block_on(0, async {
                io.create_dir_all(Path::new("/data")).await.unwrap();
                is_free(&io).await && is_free(&io).await
            });
            assert!(free, "seed {seed}, cut {cut}");
        }
    }
}

/// A lock that was asked for in a life that has ended is nobody's.
#[test]
fn a_lock_under_way_is_not_taken_by_the_dead() {
    for seed in 0..SEEDS {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        let asking = io.clone();
        io.spawn(TaskClass::Foreground, async move {
            asking.create_dir_all(Path::new("/data")).await.unwrap();
            let _lock = asking.try_lock(path()).await;
            std::future::pending::<()>().await;
        });
        simulation.run_for(Duration::from_micros(seed * 2));
        simulation.kill(0);
        let io = simulation.restart(0).remove(0);
        let free = simulation.block_on(0, async {
            io.create_dir_all(Path::new("/data")).await.unwrap();
            is_free(&io).await
        });
        assert!(free, "seed {seed}");
    }
}

#[test]
fn a_late_unlock_is_late_and_ends() {
    let mut waited = 0;
    for seed in 0..SEEDS {
        let simulation = locked(seed);
        simulation.faults().add(FaultRule::new(Fault::LateUnlock));
        simulation.kill(0);
        let io = simulation.restart(0).remove(0);
        waited += u32::from(!simulation.block_on(0, is_free(&io)));
        simulation.run_for(Duration::from_secs(2));
        assert!(simulation.block_on(0, is_free(&io)), "seed {seed}");
    }
    assert_eq!(u64::from(waited), SEEDS);
}

/// A call that replaces the file's 5,000 bytes by 100 others, some time after its begin; whether it has returned.
fn replacing(seed: u64) -> (Simulation, bool) {
    let simulation = Simulation::new(seed, 1, 1);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        io.create_dir_all(Path::new("/data")).await.unwrap();
        small_file::replace(&io, path(), &[1; 5_000]).await.unwrap();
    });
    let writer = io.clone();
    let replaced = Rc::new(Cell::new(false));
    let done = Rc::clone(&replaced);
    io.spawn(TaskClass::Foreground, async move {
        small_file::replace(&writer, path(), &[2; 100])
            .await
            .unwrap();
        done.set(true);
    });
    simulation.run_for(Duration::from_micros(seed * 3));
    (simulation, replaced.get())
}

/// Whether the file has the new bytes. They are whole, or the old ones are.
fn is_new(simulation: &Simulation) -> bool {
    let bytes = simulation.file_bytes(0, path()).unwrap();
    let is_new = bytes.len() == 100;
    let expected = if is_new { vec![2; 100] } else { vec![1; 5_000] };
    assert!(bytes == expected, "torn, seed {}", simulation.seed());
    is_new
}

/// The old bytes or the new ones, and the new ones once the call has returned.
#[test]
fn a_small_file_is_old_or_new_after_a_power_cut() {
    let mut seen = BTreeSet::new();
    for seed in 0..10 * SEEDS {
        let (simulation, returned) = replacing(seed);
        simulation.power_cut(0);
        let is_new = is_new(&simulation);
        assert!(is_new || !returned, "lost, seed {seed}");
        seen.insert((is_new, returned));
    }
    let expected = [(false, false), (true, false), (true, true)];
    assert_eq!(seen, BTreeSet::from(expected));
}

/// What a killed process has left may go with the power until somebody makes it durable.
#[test]
fn what_was_made_durable_stays() {
    let (mut new, mut lost) = (0, 0);
    for seed in 0..10 * SEEDS {
        for makes_durable in [false, true] {
            let (simulation, _) = replacing(seed);
            simulation.kill(0);
            let io = simulation.restart(0).remove(0);
            let found_new = is_new(&simulation);
            if makes_durable {
                let durable = small_file::make_durable(&io, path());
                simulation.block_on(0, durable).unwrap();
            }
            simulation.power_cut(0);
            let is_lost = is_new(&simulation) != found_new;
            assert!(!(makes_durable && is_lost), "lost, seed {seed}");
            new += u32::from(found_new);
            lost += u32::from(is_lost);
        }
    }
    assert!(new > 100 && lost > 10, "{new} {lost}");
}
