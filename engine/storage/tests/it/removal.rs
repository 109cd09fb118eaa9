//! What was removed stays removed, whatever ends a life.

use std::path::Path;

use model::TopicPartition;
use runtime::sim::{Fault, FaultRule, SimIo, Simulation};
use runtime::{Io, TaskClass};
use storage::{Durability, Storage, StorageOptions};

use crate::harness::{
    DIRECTORY, Model, append, batch, listener, open_single, partition, pause, tiny_log,
    tiny_options,
};

async fn fill(storage: &Storage<SimIo>, io: &SimIo, model: &Model, id: i32, count: usize) {
    let log = storage.create_log(partition(1, id), tiny_log());
    for number in 0..count {
        let bytes = batch(io, 2, 400, number as i64);
        storage.admit(bytes.len()).await.unwrap();
        append(storage, model, &log, &bytes, Durability::Flushed).unwrap();
        pause(io, 100).await;
    }
}

/// Segment files of a partition, or all of its files if that is asked for.
fn files_of(simulation: &Simulation, id: TopicPartition, all: bool) -> usize {
    let directory = Path::new(DIRECTORY).join(format!("partitions/{id}"));
    let files = simulation.files(0);
    let ours = files.iter().filter(|path| path.starts_with(&directory));
    ours.filter(|path| all || path.extension().is_some_and(|kind| kind == "log"))
        .count()
}

/// A log is deleted, another one's records are; then the power fails, when checkpoints no longer know of it. Whether
/// nothing of them is there after the next start.
fn stays_removed(seed: u64) -> bool {
    let simulation = Simulation::new(seed, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let options = StorageOptions {
        // Nothing is kept for later in one half of the seeds.
        spares_bytes_max: (seed % 2) * (256 << 10),
        sync_files_max: [0, 4][(seed / 2 % 2) as usize],
        ..tiny_options()
    };
    let (gone, cut) = (partition(1, 0), partition(1, 1));
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        for id in 0..3 {
            fill(&storage, &io, &model, id, 200).await;
        }
        pause(&io, 1_000_000).await;
        assert!(files_of(&simulation, gone, false) > 2);
        storage.delete_log(gone);
        let log = storage.log(cut).unwrap();
        let end = log.durable_end_offset();
        let mark = storage.advance_log_start(&log, end).unwrap();
        storage.wait_for_mark(mark).await.unwrap();
        pause(&io, 1_000_000).await;
        assert_eq!(files_of(&simulation, gone, true), 0);
        // Checkpoints go on.
        fill(&storage, &io, &model, 2, 400).await;
    });
    simulation.power_cut(0);
    simulation.restart(0);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        pause(&io, 1_000_000).await;
        let segments = storage.log(cut).unwrap().segment_count();
        let strays = simulation
            .files(0)
            .iter()
            .any(|path| path.starts_with(Path::new(DIRECTORY).join("lost+found")));
        !strays
            && files_of(&simulation, gone, true) == 0
            && files_of(&simulation, cut, false) <= segments
    })
}

#[test]
fn a_power_cut_brings_nothing_back() {
    let failed: Vec<u64> = (0..24).filter(|seed| !stays_removed(*seed)).collect();
    assert!(failed.is_empty(), "something is back with seeds {failed:?}");
}

/// Logs are deleted at a moment of a shutdown. Why it failed, if it did.
fn deleted_while_closing(moment: u64) -> Result<(), String> {
    let simulation = Simulation::new(7, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let options = StorageOptions {
        // Every log has segments, none has records in the journal only.
        carry_bytes_max: 0,
        ..tiny_options()
    };
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        for id in 0..40 {
            fill(&storage, &io, &model, id, 12).await;
        }
        // Trimming takes long, removing does not.
        let slow = FaultRule::new(Fault::Slow).path(".log");
        simulation.faults().add(slow.per_million(300_000));
        let deleting = storage.clone();
        let pausing = io.clone();
        io.spawn(TaskClass::Foreground, async move {
            pause(&pausing, moment * 20_000).await;
            for id in 0..40 {
                deleting.delete_log(partition(1, id));
                pause(&pausing, 20).await;
            }
        });
        storage.shutdown().await.map_err(|error| error.to_string())
    })
}

#[test]
fn a_log_that_is_deleted_while_the_storage_closes_is_no_reason_to_fence() {
    for moment in 0..30 {
        let closed = deleted_while_closing(moment);
        assert_eq!(closed, Ok(()), "moment {moment}");
    }
}
