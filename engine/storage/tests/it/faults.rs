//! A faulty device: what is damaged is never served and never silently cut, what fails is never acknowledged.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use model::{Offset, ShardId};
use runtime::sim::{Fault, FaultRule, SimIo, Simulation};
use storage::{
    AppendError, Durability, FlushMethod, LogConfig, OpenError, ReadError, ReadRequest, Storage,
    StorageOptions, recover_data_dir,
};

use crate::harness::{
    Listener, Model, append, batch, check_all, listener, open_single, partition, pause, read_all,
    tiny_log, tiny_options,
};

struct Bed {
    simulation: Simulation,
    io: SimIo,
    model: Model,
    options: StorageOptions,
}

fn bed(seed: u64) -> Bed {
    let simulation = Simulation::new(seed, 1, 1);
    let io = simulation.io(0, 0);
    Bed {
        simulation,
        io,
        model: Model::default(),
        options: tiny_options(),
    }
}

impl Bed {
    async fn start(&self) -> (Storage<SimIo>, Rc<Listener>) {
        let storage = open_single(&self.io, &self.options).await;
        let listener = listener(&self.model);
        storage.start(listener.clone());
        (storage, listener)
    }

    /// Appends until told to stop or refused; returns the refusal.
    async fn fill(&self, storage: &Storage<SimIo>, count: usize) -> Result<(), AppendError> {
        let log = storage.create_log(partition(1, 0), tiny_log());
        for number in 0..count {
            let bytes = batch(&self.io, 2, 400, number as i64);
            storage.admit(bytes.len()).await?;
            append(storage, &self.model, &log, &bytes, Durability::Flushed)?;
            if number % 4 == 0 {
                pause(&self.io, 100).await;
            }
        }
        pause(&self.io, 100_000).await;
        Ok(())
    }
}

#[test]
fn an_error_of_write_or_flush_fences_for_good() {
    let table = [
        (Fault::WriteError, "journal", FlushMethod::DurableWrite),
        (Fault::SyncError, "journal", FlushMethod::WriteThenSync),
        (Fault::WriteError, ".log", FlushMethod::DurableWrite),
        (Fault::SyncError, ".log", FlushMethod::DurableWrite),
        (Fault::WriteError, "checkpoint", FlushMethod::DurableWrite),
    ];
    for (fault, path, flush_method) in table {
        let mut bed = bed(1);
        bed.options.flush_method = flush_method;
        bed.options.sync_files_max = 1000;
        bed.simulation.block_on(0, async {
            let (storage, listener) = bed.start().await;
            bed.fill(&storage, 40).await.unwrap();
            bed.simulation
                .faults()
                .add(FaultRule::new(fault).path(path).times(1));
            let refused = bed.fill(&storage, 2000).await;
            assert!(
                matches!(refused, Err(AppendError::Fenced(_))),
                "{fault:?} {path}: {refused:?}"
            );
            assert!(listener.fenced.borrow().is_some());
            let acknowledged = bed.model.borrow()[&partition(1, 0)].acknowledged_end;
            pause(&bed.io, 1_000_000).await;
            assert_eq!(
                bed.model.borrow()[&partition(1, 0)].acknowledged_end,
                acknowledged,
                "acknowledged after the fence"
            );
            assert!(matches!(
                bed.fill(&storage, 1).await,
                Err(AppendError::Fenced(_))
            ));
            assert!(storage.shutdown().await.is_err());
        });
        bed.simulation.faults().clear();
        let end = bed.model.borrow()[&partition(1, 0)].acknowledged_end;
        bed.simulation.kill(0);
        bed.simulation.restart(0);
        let io = bed.simulation.io(0, 0);
        bed.simulation.block_on(0, async {
            let storage = open_single(&io, &bed.options).await;
            let log = storage.log(partition(1, 0)).unwrap();
            assert!(
                log.log_end_offset() >= end,
                "{fault:?} {path}: lost {} of {end}",
                log.log_end_offset()
            );
            read_all(&storage, &log, 4000).await.unwrap();
        });
    }
}

/// A kill leaves names that a power cut may still take away, with all that was written into the files meanwhile.
#[test]
fn a_journal_file_that_a_killed_run_was_making_is_kept() {
    let mut lost = Vec::new();
    for seed in 0..60 {
        let mut bed = bed(seed);
        let second = || {
            let files = files(&bed.simulation, "1.journal");
            let found = files.into_iter().find(|path| path.ends_with("1.journal"));
            found.and_then(|path| bed.simulation.file_bytes(0, &path))
        };
        bed.simulation.block_on(0, async {
            let (storage, _) = bed.start().await;
            let log = storage.create_log(partition(1, 0), tiny_log());
            let bytes = batch(&bed.io, 2, 400, 0);
            append(&storage, &bed.model, &log, &bytes, Durability::Flushed).unwrap();
        });
        while second().is_none() {
            bed.simulation.run_for(Duration::from_micros(20));
        }
        // Its directory is being flushed.
        bed.simulation.kill(0);
        bed.simulation.restart(0);
        let io = bed.simulation.io(0, 0);
        let (model, options) = (bed.model.clone(), bed.options.clone());
        let writer = io.clone();
        bed.simulation.spawn(0, 0, async move {
            let storage = open_single(&writer, &options).await;
            storage.start(listener(&model));
            let log = storage.create_log(partition(1, 0), tiny_log());
            loop {
                let bytes = batch(&writer, 2, 400, 0);
                storage.admit(bytes.len()).await.unwrap();
                append(&storage, &model, &log, &bytes, Durability::Flushed).unwrap();
                pause(&writer, 20).await;
            }
        });
        while !second().is_some_and(|bytes| bytes.starts_with(b"RLGJ")) {
            bed.simulation.run_for(Duration::from_micros(20));
        }
        bed.simulation
            .run_for(Duration::from_micros(300 + 30 * seed));
        bed.simulation.power_cut(0);
        bed.simulation.restart(0);
        bed.io = bed.simulation.io(0, 0);
        let end = bed.simulation.block_on(0, async {
            let storage = open_single(&bed.io, &bed.options).await;
            storage.log(partition(1, 0)).unwrap().log_end_offset()
        });
        if end < bed.model.borrow()[&partition(1, 0)].acknowledged_end {
            lost.push(seed);
        }
    }
    assert!(
        lost.is_empty(),
        "acknowledged records are lost with seeds {lost:?}"
    );
}

/// The device is full now and then while logs use files of expired segments again.
#[test]
fn a_device_that_is_full_at_times_does_not_mix_up_files() {
    for seed in 0..10 {
        let bed = bed(seed);
        let config = LogConfig {
            retention_bytes: 60 << 10,
            ..tiny_log()
        };
        let ids = [partition(1, 0), partition(1, 1), partition(1, 2)];
        bed.simulation.faults().add(
            FaultRule::new(Fault::NoSpace)
                .path(".log")
                .per_million(30_000),
        );
        bed.simulation.block_on(0, async {
            let (storage, _) = bed.start().await;
            for number in 0..3000 {
                let log = storage.create_log(ids[number % ids.len()], config.clone());
                storage.set_config(&log, config.clone());
                let bytes = batch(&bed.io, 2, 400, number as i64);
                while storage.admit(bytes.len()).await.is_err() {
                    pause(&bed.io, 50_000).await;
                }
                append(&storage, &bed.model, &log, &bytes, Durability::Flushed).unwrap();
                pause(&bed.io, 5_000).await;
                if number % 16 == 0 {
                    check_all(&storage, &bed.model, &log).await;
                }
            }
            assert!(bed.simulation.faults().fired() > 5);
        });
    }
}

#[test]
fn a_full_device_refuses_appends_until_there_is_space_again() {
    let bed = bed(2);
    bed.simulation.block_on(0, async {
        let (storage, _) = bed.start().await;
        bed.fill(&storage, 100).await.unwrap();
        bed.simulation.set_disk_capacity(0, 1_200_000);
        let refused = bed.fill(&storage, 5000).await;
        assert_eq!(refused, Err(AppendError::DiskFull));
        let log = storage.log(partition(1, 0)).unwrap();
        read_all(&storage, &log, 4000).await.unwrap();
        assert_eq!(storage.fence_reason(), None);
        bed.simulation.set_disk_capacity(0, 1 << 40);
        pause(&bed.io, 2_000_000).await;
        bed.fill(&storage, 200).await.unwrap();
        assert_eq!(log.durable_end_offset(), log.log_end_offset());
        storage.shutdown().await.unwrap();
    });
}

fn files(simulation: &Simulation, part: &str) -> Vec<PathBuf> {
    simulation
        .files(0)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(part))
        .collect()
}

#[test]
fn damaged_segments_are_never_served_and_damaged_indexes_are_rebuilt() {
    let bed = bed(3);
    bed.simulation.block_on(0, async {
        let (storage, _) = bed.start().await;
        bed.fill(&storage, 300).await.unwrap();
        let log = storage.log(partition(1, 0)).unwrap();
        let all = read_all(&storage, &log, 4000).await.unwrap();
        storage.shutdown().await.unwrap();
        for path in files(&bed.simulation, ".index") {
            bed.simulation.flip_bit(0, &path, 100, 3);
        }
        let storage = open_single(&bed.io, &bed.options).await;
        let log = storage.log(partition(1, 0)).unwrap();
        assert_eq!(read_all(&storage, &log, 4000).await.unwrap(), all);
        let damaged = files(&bed.simulation, ".log")[0].clone();
        bed.simulation.flip_bit(0, &damaged, 3000, 0);
        let storage = open_single_again(&bed).await;
        let log = storage.log(partition(1, 0)).unwrap();
        let mut served = 0;
        let mut refused = 0;
        for (base, next, bytes) in &all {
            let request = ReadRequest {
                from: *base,
                end: *next,
                bytes_max: 1,
                at_least_one_batch: true,
            };
            match storage.read(&log, request).await {
                Ok(read) => {
                    assert_eq!(&read.batches[0], bytes);
                    served += 1;
                }
                Err(ReadError::Corrupt { path, .. }) => {
                    assert_eq!(path, damaged);
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(
            refused > 0 && served > refused,
            "{refused} refused, {served} served"
        );
    });
}

async fn open_single_again(bed: &Bed) -> Storage<SimIo> {
    open_single(&bed.io, &bed.options).await
}

#[test]
fn damage_in_the_middle_of_the_journal_is_an_error_and_a_torn_end_is_not() {
    let (mut refused, mut accepted) = (0, 0);
    for seed in 0..40u64 {
        let bed = bed(seed);
        bed.simulation.block_on(0, async {
            let (storage, _) = bed.start().await;
            bed.fill(&storage, 30).await.unwrap();
        });
        bed.simulation.kill(0);
        let journal = files(&bed.simulation, ".journal")[0].clone();
        let bytes = bed.simulation.file_bytes(0, &journal).unwrap();
        // (block, sequence, durable sequence) of each group.
        let field =
            |block: &[u8], at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
        let groups: Vec<(u64, u64, u64)> = (0u64..)
            .zip(bytes.chunks(4096))
            .filter(|(_, block)| block.starts_with(b"RLGJ"))
            .map(|(number, block)| (number, field(block, 16), field(block, 24)))
            .collect();
        let (block, sequence, _) = groups[seed as usize % groups.len()];
        let proven = groups.iter().any(|(_, _, durable)| *durable >= sequence);
        bed.simulation.flip_bit(0, &journal, block * 4096 + 70, 5);
        bed.simulation.restart(0);
        let io = bed.simulation.io(0, 0);
        let before = bed.simulation.file_bytes(0, &journal);
        let recovered = bed.simulation.block_on(0, async {
            recover_data_dir(&io, &bed.options, |_| ShardId(0), 1).await?;
            Storage::open(io.clone(), bed.options.clone()).await
        });
        match recovered {
            Err(OpenError::Corrupt { path, position, .. }) => {
                assert!(proven, "seed {seed}: a torn end was refused");
                assert_eq!((&path, position <= block * 4096), (&journal, true));
                assert_eq!(
                    bed.simulation.file_bytes(0, &journal),
                    before,
                    "seed {seed}: something was changed"
                );
                refused += 1;
            }
            Err(error) => panic!("{error}"),
            Ok(storage) => {
                let report = storage.recovery_report();
                assert!(!proven, "seed {seed}: damage was cut off silently");
                assert!(report.torn_tail && !report.clean);
                accepted += 1;
            }
        }
    }
    assert!(
        refused > 5 && accepted > 5,
        "{refused} refused, {accepted} accepted"
    );
}

#[test]
fn a_lost_checkpoint_is_not_taken_for_an_empty_disk() {
    let bed = bed(4);
    bed.simulation.block_on(0, async {
        let (storage, _) = bed.start().await;
        bed.fill(&storage, 200).await.unwrap();
        storage.shutdown().await.unwrap();
        let checkpoints = files(&bed.simulation, "checkpoint");
        assert_eq!(checkpoints.len(), 2);
        // One damaged: the other serves.
        bed.simulation.flip_bit(0, &checkpoints[0], 50, 1);
        let storage = open_single(&bed.io, &bed.options).await;
        assert!(storage.log(partition(1, 0)).unwrap().log_end_offset() > Offset::ZERO);
        for path in &checkpoints {
            bed.simulation.flip_bit(0, path, 60, 1);
        }
        let refused = recover_data_dir(&bed.io, &bed.options, |_| ShardId(0), 1).await;
        assert!(
            matches!(refused, Err(OpenError::Corrupt { .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn damage_to_the_last_group_of_an_idle_journal_is_an_error() {
    // (how long the journal rested before the kill, whether the damage is told from a torn write)
    for (millis, is_told) in [(1, false), (90, false), (110, true)] {
        let bed = bed(11);
        bed.simulation.block_on(0, async {
            let (storage, _) = bed.start().await;
            let log = storage.create_log(partition(1, 0), tiny_log());
            for number in 0..10 {
                let bytes = batch(&bed.io, 2, 400, number);
                append(&storage, &bed.model, &log, &bytes, Durability::Flushed).unwrap();
                while log.durable_end_offset() < log.log_end_offset() {
                    pause(&bed.io, 10).await;
                }
            }
        });
        bed.simulation.run_for(Duration::from_millis(millis));
        bed.simulation.kill(0);
        let mut last = None;
        for path in files(&bed.simulation, ".journal") {
            let bytes = bed.simulation.file_bytes(0, &path).unwrap();
            for (number, block) in (0u64..).zip(bytes.chunks(4096)) {
                let field = |at: usize| u64::from_le_bytes(block[at..at + 8].try_into().unwrap());
                let has_entries = block[40..44] != [0; 4];
                if block.starts_with(b"RLGJ") && has_entries {
                    let found = (field(16), path.clone(), number);
                    last = last.max(Some(found));
                }
            }
        }
        let (_, journal, block) = last.unwrap();
        bed.simulation.flip_bit(0, &journal, block * 4096 + 70, 5);
        bed.simulation.restart(0);
        let io = bed.simulation.io(0, 0);
        let recovered = bed.simulation.block_on(0, async {
            recover_data_dir(&io, &bed.options, |_| ShardId(0), 1).await?;
            Storage::open(io.clone(), bed.options.clone()).await
        });
        match recovered {
            Err(OpenError::Corrupt { reason, .. }) => {
                assert!(is_told, "after {millis} ms: {reason}")
            }
            Err(error) => panic!("{error}"),
            Ok(_) => assert!(!is_told, "after {millis} ms: damage was cut off silently"),
        }
    }
}
