//! The simulator's own complaints: broken rules and stuck programs are told clearly, with the seed.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use bytes::BytesMut;
use runtime::sim::Simulation;
use runtime::{Buffer, File, Io, Listener, OpenMode, Signal, Stream, TaskClass};

const SEED: u64 = 424_242;

/// The message of the panic of `body`.
fn complaint(body: impl FnOnce(&Simulation)) -> String {
    let simulation = Simulation::new(SEED, 1, 1);
    let result = catch_unwind(AssertUnwindSafe(|| body(&simulation)));
    let payload = result.expect_err("no complaint");
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload.downcast::<&str>().unwrap().to_string(),
    }
}

fn assert_says(text: &str, words: &str) {
    assert!(text.contains(words), "{words:?} is not in {text:?}");
    assert!(text.contains(&SEED.to_string()), "no seed in {text:?}");
}

#[test]
fn a_deadlock_lists_the_tasks() {
    let text = complaint(|simulation| {
        let io = simulation.io(0, 0);
        let never = Signal::new();
        let signal = Rc::clone(&never);
        io.spawn(TaskClass::Background, async move { signal.wait().await });
        simulation.block_on(0, never.wait());
    });
    assert_says(&text, "does not happen");
    assert_says(&text, "node 0 shard 0 (Background)");
    assert_says(&text, "rules.rs:");
}

#[test]
fn waiting_too_long_is_told() {
    let text = complaint(|simulation| {
        simulation.set_block_on_max(Duration::from_secs(5));
        let io = simulation.io(0, 0);
        simulation.spawn(0, 0, async move {
            loop {
                io.sleep(Duration::from_millis(100)).await;
            }
        });
        simulation.block_on(0, std::future::pending::<()>());
    });
    assert_says(&text, "does not happen");
}

#[test]
fn dropping_an_operation_in_flight_is_refused() {
    let text = complaint(|simulation| {
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            let path = Path::new("/file");
            let mut open = pin!(io.open(path, OpenMode::Write));
            // One poll, as a select would.
            std::future::poll_fn(|context: &mut Context<'_>| {
                assert!(open.as_mut().poll(context).is_pending());
                std::task::Poll::Ready(())
            })
            .await;
        });
    });
    assert_says(&text, "open on node 0 was dropped while it was in flight");
}

#[test]
fn misaligned_writes_are_refused() {
    let text = complaint(|simulation| {
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            let file = io.open(Path::new("/file"), OpenMode::Write).await.unwrap();
            let result = file.write_at(io.buffer(4096).freeze(), 512).await;
            result.unwrap();
        });
    });
    assert_says(&text, "write of 4096 bytes at 512 of /file is not aligned");
}

#[test]
fn two_reads_of_one_stream_are_refused() {
    let text = complaint(|simulation| {
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            let address = ([127, 0, 0, 1], 9092).into();
            let listener = io.listen(address, false).await.unwrap();
            let stream = io.connect(address).await.unwrap();
            let held = listener.accept().await.unwrap();
            for _ in 0..2 {
                let stream = stream.clone();
                io.spawn(TaskClass::Foreground, async move {
                    let mut buffer = BytesMut::with_capacity(10);
                    stream.read(&mut buffer).await.unwrap();
                });
            }
            io.sleep(Duration::from_millis(1)).await;
            drop(held);
        });
    });
    assert_says(&text, "two reads in flight");
}

#[test]
fn a_node_that_is_down_is_told() {
    let text = complaint(|simulation| {
        simulation.kill(0);
        simulation.io(0, 0);
    });
    assert_says(&text, "node 0 is down");
}

#[test]
fn stopping_the_node_of_block_on_is_told() {
    let text = complaint(|simulation| {
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            simulation.kill(0);
            io.sleep(Duration::from_secs(1)).await;
        });
    });
    assert_says(&text, "node 0 was stopped");
}

/// Handles of an earlier life fail and start nothing.
#[test]
fn an_earlier_life_does_nothing() {
    let simulation = Simulation::new(SEED, 1, 1);
    let old = simulation.io(0, 0);
    simulation.kill(0);
    simulation.restart(0);
    assert!(!old.is_alive());
    old.spawn(TaskClass::Foreground, async { panic!("ran") });
    let client = simulation.client();
    let result = simulation.block_on(client, async { old.read_dir(Path::new("/")).await });
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::NotConnected);
}

/// A scenario runs as one future of the client, which stops and restarts nodes.
#[test]
fn a_scenario_may_stop_and_restart_nodes() {
    let simulation = Simulation::new(SEED, 2, 1);
    let client = simulation.client();
    let io = simulation.io(client, 0);
    simulation.block_on(client, async {
        for node in [0, 1] {
            let node_io = simulation.io(node, 0);
            simulation.spawn(node, 0, async move {
                loop {
                    node_io.sleep(Duration::from_millis(3)).await;
                    node_io.create_dir_all(Path::new("/x")).await.unwrap();
                }
            });
        }
        io.sleep(Duration::from_millis(20)).await;
        simulation.kill(0);
        simulation.power_cut(1);
        assert_eq!(simulation.task_count(0), 0);
        io.sleep(Duration::from_millis(20)).await;
        let again = simulation.restart(1);
        assert!(again[0].is_alive() && !simulation.is_up(0));
    });
}

#[test]
fn a_connection_with_a_clone_does_not_leave_its_shard() {
    let text = complaint(|simulation| {
        let io = simulation.io(0, 0);
        let address = simulation.address(0, 1);
        simulation.block_on(0, async {
            let _listener = io.listen(address, false).await.unwrap();
            let stream = io.connect(address).await.unwrap();
            let _clone = stream.clone();
            let _ = io.detach(stream);
        });
    });
    assert_says(&text, "while a clone of it stayed");
}
