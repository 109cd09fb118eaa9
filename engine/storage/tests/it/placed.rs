//! Large appends that go straight to their segment.

use std::rc::Rc;

use runtime::sim::{SimIo, Simulation};
use runtime::{Io as _, Snapshot, labels};
use storage::{Durability, Log, LogConfig, Storage, StorageOptions};

use crate::harness::{
    DIRECTORY, Model, append, batch, check_all, listener, open_single, partition, partition_files,
    pause, tiny_options,
};

fn options() -> StorageOptions {
    StorageOptions {
        place_bytes_min: 8 << 10,
        placed_bytes_max: 512 << 10,
        ..tiny_options()
    }
}

/// Segments that are not soon full.
fn log_config() -> LogConfig {
    LogConfig {
        segment_bytes: 4 << 20,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

/// Appends batches of 10 KiB one by one, each when the one before is durable and in its segment: a log whose writer is busy gets
/// nothing placed.
async fn fill(storage: &Storage<SimIo>, io: &SimIo, model: &Model, log: &Rc<Log>, count: i64) {
    for number in 0..count {
        let bytes = batch(io, 2, 5_000, 1_000 + number);
        storage.admit(bytes.len()).await.unwrap();
        append(storage, model, log, &bytes, Durability::Flushed).unwrap();
        while log.durable_end_offset() < log.log_end_offset() || log.dirty_bytes() > 0 {
            pause(io, 20).await;
        }
    }
}

/// A log of a new node, with so many batches.
async fn filled(io: &SimIo, model: &Model, count: i64) -> (Storage<SimIo>, Rc<Log>) {
    let storage = open_single(io, &options()).await;
    storage.start(listener(model));
    let log = storage.create_log(partition(1, 0), log_config());
    fill(&storage, io, model, &log, count).await;
    (storage, log)
}

fn counted(storage: &Storage<SimIo>) -> (u64, u64) {
    let mut counted = Snapshot::new();
    storage.snapshot_into(&mut counted);
    let journal = labels([("kind", "journal")]);
    (
        counted.total("ringlog_placed_bytes_total"),
        counted.number("ringlog_device_write_bytes_total", &journal),
    )
}

#[test]
fn large_appends_are_written_once_and_outlive_a_loss_of_power() {
    let simulation = Simulation::new(3, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let id = partition(1, 0);
    simulation.block_on(0, async {
        let (storage, log) = filled(&io, &model, 200).await;
        let (placed, journal) = counted(&storage);
        let all = log.size_bytes();
        // Not before a checkpoint names the segment, and where its file has no space yet.
        assert!(placed > all / 2, "{placed} bytes of {all} were placed");
        // What was not placed, and a block for each group.
        assert!(
            journal < all - placed + 200 * 4096,
            "{journal} bytes in the journal, of {all} {placed} placed"
        );
        assert_eq!(check_all(&storage, &model, &log).await, 200);
    });
    let segments = |simulation: &Simulation| {
        let files = partition_files(simulation);
        let is_log = |path: &std::path::Path| path.extension().is_some_and(|kind| kind == "log");
        let lens = files.iter().filter(|(path, _)| is_log(path));
        lens.map(|(_, bytes)| bytes.len()).collect::<Vec<_>>()
    };
    for _ in 0..3 {
        simulation.power_cut(0);
        let io = simulation.restart(0)[0].clone();
        simulation.block_on(0, async {
            let storage = open_single(&io, &options()).await;
            let log = storage.log(id).expect("it was there");
            let known = check_all(&storage, &model, &log).await;
            storage.start(listener(&model));
            storage.set_config(&log, log_config());
            fill(&storage, &io, &model, &log, 60).await;
            assert_eq!(check_all(&storage, &model, &log).await, known + 60);
        });
    }
    simulation.kill(0);
    let io = simulation.restart(0)[0].clone();
    simulation.block_on(0, async {
        let storage = open_single(&io, &options()).await;
        storage.start(listener(&model));
        let log = storage.log(id).expect("it was there");
        storage.shutdown().await.unwrap();
        assert_eq!(check_all(&storage, &model, &log).await, 380);
        // What replay had to leave alone has been given back.
        let files: usize = segments(&simulation).iter().sum();
        assert_eq!(files as u64, log.size_bytes(), "{DIRECTORY}");
    });
}

/// What a start has found placed has only that place until it is written again: the segment that it lies behind does not go
/// before, whatever becomes of the records in it.
#[test]
fn a_segment_that_hides_placed_batches_outlives_its_own_records() {
    for seed in 0..30 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        let model = Model::default();
        let id = partition(1, 0);
        simulation.block_on(0, async {
            filled(&io, &model, 60 + seed as i64).await;
        });
        for _ in 0..3 {
            simulation.power_cut(0);
            let io = simulation.restart(0)[0].clone();
            simulation.block_on(0, async {
                let storage = open_single(&io, &options()).await;
                let log = storage.log(id).expect("it was there");
                storage.start(listener(&model));
                storage.set_config(&log, log_config());
                let end = log.log_end_offset();
                let start = end.0 - 2 - (io.random() % 6) as i64;
                let start = model::Offset(start).max(log.log_start_offset());
                let mark = storage.advance_log_start(&log, start).unwrap();
                storage.wait_for_mark(mark).await.unwrap();
                // Time for a checkpoint or two, or for none.
                pause(&io, io.random() % 40_000).await;
                assert!(storage.fence_reason().is_none());
                assert_eq!((log.log_start_offset(), log.log_end_offset()), (start, end));
            });
        }
    }
}
