//! Space runs out: of the device and of the journal. What frees space never waits behind what needs it, and nobody
//! waits for ever.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use model::{Offset, ShardId, Timestamp, TopicPartition};
use runtime::Io;
use runtime::sim::{Fault, FaultRule, SimIo, Simulation};
use storage::{
    AppendError, Durability, Log, LogConfig, ReplicatedBatch, Storage, StorageOptions,
    recover_data_dir,
};

use crate::harness::{
    DIRECTORY, Model, append, batch, check_all, listener, open_single, partition, pause, tiny_log,
    tiny_options,
};

/// Disk space held, in whole blocks.
fn held(simulation: &Simulation) -> u64 {
    let files = simulation.files(0);
    let bytes = files
        .iter()
        .map(|path| simulation.file_bytes(0, path).unwrap().len() as u64);
    bytes.map(|bytes| bytes.next_multiple_of(4096)).sum()
}

async fn fill(
    storage: &Storage<SimIo>,
    io: &SimIo,
    model: &Model,
    id: i32,
    count: usize,
) -> Result<(), AppendError> {
    let log = storage.create_log(partition(1, id), tiny_log());
    for number in 0..count {
        let bytes = batch(io, 2, 400, number as i64);
        storage.admit(bytes.len()).await?;
        append(storage, model, &log, &bytes, Durability::Flushed)?;
        if number % 4 == 0 {
            pause(io, 100).await;
        }
    }
    Ok(())
}

/// A node whose disk has filled up while producers go on trying.
struct FullDisk {
    simulation: Simulation,
    io: SimIo,
    model: Model,
    options: StorageOptions,
}

impl FullDisk {
    fn new(seed: u64) -> FullDisk {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        FullDisk {
            simulation,
            io,
            model: Model::default(),
            options: tiny_options(),
        }
    }

    /// Log 0 holds something, log 1 is what fills the disk. Appends are refused when this returns.
    async fn fill_up(&self) -> Storage<SimIo> {
        let storage = open_single(&self.io, &self.options).await;
        storage.start(listener(&self.model));
        fill(&storage, &self.io, &self.model, 0, 800).await.unwrap();
        pause(&self.io, 3_000_000).await;
        let capacity = held(&self.simulation) + (200 << 10);
        self.simulation.set_disk_capacity(0, capacity);
        self.keep_trying(&storage, 400).await;
        storage
    }

    async fn keep_trying(&self, storage: &Storage<SimIo>, rounds: usize) {
        let mut refused = 0;
        for _ in 0..rounds {
            if let Err(error) = fill(storage, &self.io, &self.model, 1, 20).await {
                assert_eq!(error, AppendError::DiskFull);
                refused += 1;
                pause(&self.io, 50_000).await;
            }
        }
        assert!(refused > rounds / 2, "{refused} of {rounds} were refused");
    }

    /// Whether appends are taken again and space was given back, within a minute of virtual time.
    async fn heals(&self, storage: &Storage<SimIo>, full: u64) -> bool {
        for _ in 0..60 {
            pause(&self.io, 1_000_000).await;
            let taken = fill(storage, &self.io, &self.model, 1, 3).await.is_ok();
            if taken && held(&self.simulation) < full {
                return true;
            }
        }
        false
    }
}

/// Runs each seed and names those that fail.
fn each_seed(seeds: u64, what: &str, run: impl Fn(u64) -> bool) {
    let failed: Vec<u64> = (0..seeds).filter(|seed| !run(*seed)).collect();
    assert!(failed.is_empty(), "{what} with seeds {failed:?}");
}

#[test]
fn deleting_a_log_empties_a_full_disk() {
    each_seed(20, "a deletion frees nothing", |seed| {
        let disk = FullDisk::new(seed);
        disk.simulation.block_on(0, async {
            let storage = disk.fill_up().await;
            let full = held(&disk.simulation);
            storage.delete_log(partition(1, 0));
            let healed = disk.heals(&storage, full).await;
            let log = storage.log(partition(1, 1)).unwrap();
            check_all(&storage, &disk.model, &log).await;
            healed && storage.fence_reason().is_none()
        })
    });
}

#[test]
fn deleting_records_empties_a_full_disk() {
    each_seed(20, "DeleteRecords frees nothing", |seed| {
        let disk = FullDisk::new(seed);
        disk.simulation.block_on(0, async {
            let storage = disk.fill_up().await;
            let full = held(&disk.simulation);
            let log = storage.log(partition(1, 0)).unwrap();
            let mark = storage
                .advance_log_start(&log, log.durable_end_offset())
                .unwrap();
            storage.wait_for_mark(mark).await.unwrap();
            disk.heals(&storage, full).await && storage.fence_reason().is_none()
        })
    });
}

#[test]
fn expiry_empties_a_full_disk() {
    each_seed(20, "expiry frees nothing", |seed| {
        let disk = FullDisk::new(seed);
        disk.simulation.block_on(0, async {
            let storage = disk.fill_up().await;
            let full = held(&disk.simulation);
            let log = storage.log(partition(1, 0)).unwrap();
            let mut config = log.config();
            config.retention_bytes = 10_000;
            storage.set_config(&log, config);
            storage.enforce_retention(model::Timestamp(0));
            disk.heals(&storage, full).await && storage.fence_reason().is_none()
        })
    });
}

/// A shard that has not met the full disk keeps files of a deleted log for later: they are given back all the same.
#[test]
fn what_another_shard_keeps_is_given_back() {
    each_seed(20, "another shard's spares stay", |seed| {
        let simulation = Simulation::new(seed, 1, 2);
        let ios = simulation.ios(0);
        let model = Model::default();
        let of_shard = |shard: u16| StorageOptions {
            shard: ShardId(shard),
            shard_count: 2,
            spares_bytes_max: 8 << 20,
            ..tiny_options()
        };
        simulation.block_on(0, async {
            let owner = |id: TopicPartition| ShardId(id.partition.0 as u16);
            let recovered = recover_data_dir(&ios[0], &of_shard(0), owner, 2).await;
            recovered.unwrap();
            let mut storages = Vec::new();
            for (shard, io) in (0..).zip(&ios) {
                let storage = Storage::open(io.clone(), of_shard(shard)).await.unwrap();
                storage.start(listener(&model));
                storages.push(storage);
            }
            fill(&storages[1], &ios[1], &model, 1, 800).await.unwrap();
            pause(&ios[0], 3_000_000).await;
            simulation.set_disk_capacity(0, held(&simulation) + (200 << 10));
            let mut refused = 0;
            while refused < 20 {
                if let Err(error) = fill(&storages[0], &ios[0], &model, 0, 20).await {
                    assert_eq!(error, AppendError::DiskFull);
                    refused += 1;
                    pause(&ios[0], 50_000).await;
                }
            }
            assert!(!storages[1].is_disk_full(), "the other one has no need");
            storages[1].delete_log(partition(1, 1));
            pause(&ios[0], 5_000_000).await;
            fill(&storages[0], &ios[0], &model, 0, 3).await.is_ok()
        })
    });
}

/// What the file of a quiet log has ahead of its records goes back to a full device, also after a restart.
#[test]
fn what_open_segments_have_ahead_is_given_back() {
    let simulation = Simulation::new(4, 1, 1);
    let model = Model::default();
    let config = LogConfig {
        segment_bytes: 4 << 20,
        ..tiny_log()
    };
    let files_of = |index: i32| {
        let directory = Path::new(DIRECTORY).join(format!("partitions/{}", partition(1, index)));
        let files = simulation.files(0);
        let ours = files.iter().filter(|path| path.starts_with(&directory));
        let bytes = ours.map(|path| simulation.file_bytes(0, path).unwrap().len() as u64);
        bytes.sum::<u64>()
    };
    for is_restarted in [false, true] {
        let id = i32::from(is_restarted);
        let open = async |io: &SimIo| {
            let storage = open_single(io, &tiny_options()).await;
            storage.start(listener(&model));
            storage
        };
        let mut io = simulation.ios(0)[0].clone();
        simulation.block_on(0, async {
            let storage = open(&io).await;
            let log = storage.create_log(partition(1, id), config.clone());
            while log.size_bytes() - log.dirty_bytes() < 700_000 {
                let bytes = batch(&io, 2, 400, 1);
                storage.admit(bytes.len()).await.unwrap();
                append(&storage, &model, &log, &bytes, Durability::Flushed).unwrap();
                pause(&io, 500).await;
            }
            if !is_restarted {
                fill_and_check(&simulation, &io, &storage, &model, &log, &files_of).await;
            }
        });
        if is_restarted {
            simulation.kill(0);
            io = simulation.restart(0)[0].clone();
            simulation.block_on(0, async {
                let storage = open(&io).await;
                let log = storage.create_log(partition(1, id), config.clone());
                fill_and_check(&simulation, &io, &storage, &model, &log, &files_of).await;
            });
        }
        simulation.set_disk_capacity(0, u64::MAX);
        simulation.kill(0);
        simulation.restart(0);
    }
}

/// Fills the disk with other logs: then the file of `log` is as long as what it holds.
async fn fill_and_check(
    simulation: &Simulation,
    io: &SimIo,
    storage: &Storage<SimIo>,
    model: &Model,
    log: &Rc<Log>,
    files_of: &impl Fn(i32) -> u64,
) {
    let index = log.id().partition.0;
    let index_bytes = 8 << 10;
    let exact = || log.size_bytes() - log.dirty_bytes() + index_bytes;
    assert!(files_of(index) > exact(), "it has something ahead");
    simulation.set_disk_capacity(0, held(simulation) + (100 << 10));
    while fill(storage, io, model, 10 + index, 20).await.is_ok() {}
    pause(io, 3_000_000).await;
    assert!(files_of(index) <= exact(), "it keeps it on a full device");
    assert_eq!(storage.fence_reason(), None);
}

/// A batch larger than a group finds a journal that the device lets grow no more: it gets an answer soon.
#[test]
fn a_large_batch_does_not_wait_for_a_file_that_cannot_be_made() {
    let simulation = Simulation::new(3, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    simulation.block_on(0, async {
        let options = StorageOptions {
            // Nothing goes to a segment, where it would meet the full device as well.
            segment_write_bytes: 1 << 20,
            ..tiny_options()
        };
        let storage = open_single(&io, &options).await;
        simulation.set_disk_capacity(0, held(&simulation));
        storage.start(listener(&model));
        pause(&io, 1_000_000).await;
        let log = storage.create_log(partition(1, 0), tiny_log());
        // Three groups of two blocks: a group of the largest size has room still, and what is kept for marks.
        for _ in 0..3 {
            let bytes = batch(&io, 1, 5_000, 1);
            append(&storage, &model, &log, &bytes, Durability::Flushed).unwrap();
            pause(&io, 100_000).await;
        }
        let bytes = batch(&io, 1, 41_500, 1);
        let begun = io.now();
        storage.admit(bytes.len()).await.unwrap();
        let took = io.now().since(begun);
        assert!(took < Duration::from_secs(2), "after {took:?}");
        let refused = append(&storage, &model, &log, &bytes, Durability::Flushed);
        assert_eq!(refused, Err(AppendError::JournalFull));
        simulation.set_disk_capacity(0, u64::MAX);
        pause(&io, 3_000_000).await;
        storage.admit(bytes.len()).await.unwrap();
        append(&storage, &model, &log, &bytes, Durability::Flushed).unwrap();
    });
}

/// What was decided about a full disk must find its place in the journal although appends do not.
#[test]
fn a_full_disk_takes_what_was_decided() {
    each_seed(20, "what was decided was refused", |seed| {
        let disk = FullDisk::new(seed);
        disk.simulation.block_on(0, async {
            let storage = disk.fill_up().await;
            let log = storage.create_log(partition(9, 0), tiny_log());
            let bytes = batch(&disk.io, 1, 100, 1);
            let decided = [ReplicatedBatch {
                bytes: &bytes,
                offset_delta_of_max_timestamp: 0,
            }];
            let Ok(end) = storage.append_decided(&log, &decided, Timestamp(1)) else {
                return false;
            };
            pause(&disk.io, 1_000_000).await;
            log.durable_end_offset() == end
        })
    });
}

/// Fills the journal to its limit while segment files are slow, calls `marks`, lets the files go on.
fn goes_on_after(seed: u64, marks: impl AsyncFn(&Storage<SimIo>, &SimIo)) -> bool {
    let simulation = Simulation::new(seed, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let options = StorageOptions {
        tail_bytes_max: 8 << 20,
        ..tiny_options()
    };
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        for id in 0..60 {
            storage.create_log(partition(1, id), tiny_log());
        }
        fill(&storage, &io, &model, 0, 300).await.unwrap();
        pause(&io, 1_000_000).await;
        simulation
            .faults()
            .add(FaultRule::new(Fault::Hang).path(".log"));
        let log = storage.log(partition(1, 0)).unwrap();
        let mut refused = 0;
        while refused < 50 {
            let bytes = batch(&io, 2, 400, 1);
            match append(&storage, &model, &log, &bytes, Durability::Flushed) {
                Ok(_) => pause(&io, 100).await,
                Err(error) => {
                    assert_eq!(error, AppendError::JournalFull);
                    refused += 1;
                    pause(&io, 20_000).await;
                }
            }
        }
        marks(&storage, &io).await;
        simulation.faults().clear();
        simulation.release_hung(0);
        pause(&io, 10_000_000).await;
        let bytes = batch(&io, 2, 400, 1);
        let again = append(&storage, &model, &log, &bytes, Durability::Flushed);
        pause(&io, 10_000_000).await;
        let durable = log.durable_end_offset() == log.log_end_offset();
        let sound = check_all(&storage, &model, &log).await > 0;
        again.is_ok() && durable && sound && storage.fence_reason().is_none()
    })
}

#[test]
fn a_full_journal_goes_on_by_itself() {
    each_seed(8, "stuck", |seed| goes_on_after(seed, async |_, _| ()));
}

#[test]
fn a_full_journal_takes_deletions() {
    each_seed(8, "stuck after deletions", |seed| {
        goes_on_after(seed, async |storage, io| {
            for id in 1..60 {
                storage.delete_log(partition(1, id));
                if id % 3 == 0 {
                    pause(io, 5_000).await;
                }
            }
        })
    });
}

#[test]
fn a_full_journal_takes_marks_or_says_that_it_does_not() {
    each_seed(8, "stuck after DeleteRecords", |seed| {
        let taken = Rc::new(Cell::new(0));
        let counted = taken.clone();
        let goes_on = goes_on_after(seed, async move |storage, io| {
            let log = storage.log(partition(1, 0)).unwrap();
            for offset in 1..40 {
                match storage.advance_log_start(&log, Offset(2 * offset)) {
                    Ok(_) => counted.set(counted.get() + 1),
                    Err(error) => assert_eq!(error, AppendError::JournalFull),
                }
                pause(io, 5_000).await;
            }
        });
        goes_on && taken.get() > 0
    });
}

/// The process has no descriptor left for a while: writing waits, nothing is fenced.
#[test]
fn descriptors_are_waited_for() {
    each_seed(
        5,
        "a lack of descriptors ends in a fence or a loss",
        |seed| {
            let simulation = Simulation::new(seed, 1, 1);
            let io = simulation.io(0, 0);
            let model = Model::default();
            simulation.block_on(0, async {
                let storage = open_single(&io, &tiny_options()).await;
                storage.start(listener(&model));
                simulation
                    .faults()
                    .add(FaultRule::new(Fault::NoDescriptors).times(40));
                for id in 0..12 {
                    fill(&storage, &io, &model, id, 60).await.unwrap();
                }
                pause(&io, 5_000_000).await;
                assert!(simulation.faults().fired() == 40, "all were met");
                for id in 0..12 {
                    let log = storage.log(partition(1, id)).unwrap();
                    check_all(&storage, &model, &log).await;
                }
                storage.fence_reason().is_none()
            })
        },
    );
}

/// A device that never answers is noticed, and nothing is acknowledged after that.
#[test]
fn a_device_that_does_not_answer_fences() {
    let simulation = Simulation::new(1, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    simulation.block_on(0, async {
        let storage = open_single(&io, &tiny_options()).await;
        storage.start(listener(&model));
        fill(&storage, &io, &model, 0, 10).await.unwrap();
        pause(&io, 1_000_000).await;
        simulation
            .faults()
            .add(FaultRule::new(Fault::Hang).path("journal"));
        let log = storage.log(partition(1, 0)).unwrap();
        let bytes = batch(&io, 2, 400, 1);
        append(&storage, &model, &log, &bytes, Durability::Flushed).unwrap();
        pause(&io, 25_000_000).await;
        assert_eq!(storage.fence_reason(), None);
        pause(&io, 10_000_000).await;
        let reason = storage.fence_reason().expect("fenced");
        assert!(reason.contains("has not answered for 30 s"), "{reason}");
        simulation.release_hung(0);
        pause(&io, 1_000_000).await;
        assert!(log.durable_end_offset() < log.log_end_offset());
    });
}

/// Data that is in the journal only is subject to retention, as a segment would be.
#[test]
fn small_quiet_logs_expire() {
    let simulation = Simulation::new(2, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    simulation.block_on(0, async {
        let storage = open_single(&io, &tiny_options()).await;
        storage.start(listener(&model));
        let log = storage.create_log(partition(1, 0), tiny_log());
        let bytes = batch(&io, 5, 10, 1_000);
        append(&storage, &model, &log, &bytes, Durability::Flushed).unwrap();
        pause(&io, 1_000_000).await;
        let mut config = log.config();
        config.retention_ms = 2_000;
        storage.set_config(&log, config);
        storage.enforce_retention(model::Timestamp(2_500));
        assert_eq!(log.log_start_offset(), Offset(0), "too young");
        storage.enforce_retention(model::Timestamp(4_000));
        assert_eq!(log.log_start_offset(), Offset(5));
        assert_eq!(log.size_bytes(), 0);
        // It goes on behind it, also after a crash.
        let bytes = batch(&io, 3, 10, 9_000);
        append(&storage, &model, &log, &bytes, Durability::Flushed).unwrap();
        pause(&io, 1_000_000).await;
        check_all(&storage, &model, &log).await;
    });
    simulation.kill(0);
    simulation.restart(0);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let storage = open_single(&io, &tiny_options()).await;
        let log = storage.log(partition(1, 0)).unwrap();
        assert_eq!(log.log_end_offset(), Offset(8));
        check_all(&storage, &model, &log).await;
    });
}
