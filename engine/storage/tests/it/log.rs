//! One storage without faults: reading cold and from the tail, time, retention, restart, deletion.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use model::{LeaderEpoch, Offset, ShardId, Timestamp};
use proptest::prelude::*;
use runtime::sim::{SimIo, Simulation};
use runtime::{Io as _, Snapshot, labels};
use storage::{
    Durability, Log, LogConfig, ReadError, ReadRequest, Storage, StorageOptions, recover_data_dir,
};

use crate::harness::{
    DIRECTORY, Model, append, batch, check_all, context, info, listener, open_single, partition,
    pause, read_all, tiny_log, tiny_options,
};

/// Appends `count` batches of one to four records and waits until all are durable.
async fn fill(storage: &Storage<SimIo>, io: &SimIo, model: &Model, log: &Rc<Log>, count: usize) {
    for number in 0..count {
        let bytes = batch(
            io,
            1 + number % 4,
            (io.random() % 900) as usize,
            1_000 + 100 * number as i64,
        );
        storage.admit(bytes.len()).await.unwrap();
        append(storage, model, log, &bytes, Durability::Flushed).unwrap();
    }
    while log.durable_end_offset() < log.log_end_offset() {
        pause(io, 50).await;
    }
}

#[test]
fn every_offset_reads_the_same_cold_and_warm_before_and_after_a_restart() {
    let simulation = Simulation::new(5, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let id = partition(1, 0);
    let options = tiny_options();
    let all = simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        let log = storage.create_log(id, tiny_log());
        fill(&storage, &io, &model, &log, 600).await;
        let all = read_all(&storage, &log, 4000).await.unwrap();
        assert!(log.segment_count() > 3, "{} segments", log.segment_count());
        for (base, next, bytes) in &all {
            for from in base.0..next.0 {
                let request = ReadRequest {
                    from: Offset(from),
                    end: log.log_end_offset(),
                    bytes_max: 1,
                    at_least_one_batch: true,
                };
                let read = storage.read(&log, request).await.unwrap();
                assert_eq!((read.batches.len(), read.next_offset), (1, *next));
                assert_eq!(&read.batches[0], bytes);
            }
            let none = ReadRequest {
                from: *base,
                end: log.log_end_offset(),
                bytes_max: 1,
                at_least_one_batch: false,
            };
            assert_eq!(storage.read(&log, none).await.unwrap().bytes, 0);
            let bounded = ReadRequest {
                from: *base,
                end: *next,
                bytes_max: 1 << 20,
                at_least_one_batch: true,
            };
            assert_eq!(
                storage.read(&log, bounded).await.unwrap().next_offset,
                *next
            );
        }
        let beyond = ReadRequest {
            from: log.log_end_offset().plus(1),
            end: Offset(i64::MAX),
            bytes_max: 1,
            at_least_one_batch: true,
        };
        assert!(matches!(
            storage.read(&log, beyond).await,
            Err(ReadError::OffsetOutOfRange { .. })
        ));
        storage.shutdown().await.unwrap();
        all
    });
    simulation.run_for(std::time::Duration::from_millis(200));
    assert_eq!(
        simulation.task_count(0),
        2,
        "only the timers of retention and of the watch are left"
    );
    simulation.kill(0);
    simulation.restart(0);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let report = recover_data_dir(&io, &options, |_| ShardId(0), 1)
            .await
            .unwrap();
        assert!(report.clean && report.batches_replayed == 0, "{report:?}");
        let storage = Storage::open(io.clone(), options.clone()).await.unwrap();
        let log = storage.log(id).unwrap();
        assert_eq!(read_all(&storage, &log, 4000).await.unwrap(), all);
        // Segment files are batches back to back, cut to their size.
        let bytes: usize = log_files(&simulation)
            .iter()
            .map(|path| simulation.file_bytes(0, path).unwrap().len())
            .sum();
        assert_eq!(bytes as u64, log.size_bytes());
        // Appending goes on where it stopped.
        storage.start(listener(&model));
        fill(&storage, &io, &model, &log, 50).await;
        assert_eq!(
            read_all(&storage, &log, 4000).await.unwrap()[..all.len()],
            all[..]
        );
    });
}

#[test]
fn tail_reads_never_touch_the_device() {
    let simulation = Simulation::new(6, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    simulation.block_on(0, async {
        let storage = open_single(
            &io,
            &StorageOptions {
                tail_bytes_max: 8 << 20,
                ..tiny_options()
            },
        )
        .await;
        storage.start(listener(&model));
        let log = storage.create_log(partition(1, 0), tiny_log());
        fill(&storage, &io, &model, &log, 300).await;
        let before = simulation.disk_counters(0).reads;
        read_all(&storage, &log, 100_000).await.unwrap();
        assert_eq!(simulation.disk_counters(0).reads, before);
        let mut counted = Snapshot::new();
        storage.snapshot_into(&mut counted);
        let cold = labels([("source", "segment")]);
        assert_eq!(counted.number("ringlog_log_reads_total", &cold), 0);
    });
}

#[test]
fn timestamps_find_the_first_record_that_is_not_older() {
    let simulation = Simulation::new(7, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    simulation.block_on(0, async {
        let storage = open_single(&io, &tiny_options()).await;
        storage.start(listener(&model));
        let log = storage.create_log(partition(1, 0), tiny_log());
        let end = Offset(i64::MAX);
        assert_eq!(
            storage
                .offset_for_timestamp(&log, Timestamp(0), end)
                .await
                .unwrap(),
            None
        );
        assert_eq!(
            storage.offset_of_max_timestamp(&log, end).await.unwrap(),
            None
        );
        fill(&storage, &io, &model, &log, 500).await;
        let mut records = Vec::new();
        for (_, _, bytes) in read_all(&storage, &log, 4000).await.unwrap() {
            for record in model::record::read_records_owned(&bytes).unwrap() {
                records.push((record.timestamp, record.offset));
            }
        }
        for target in (900..52_000).step_by(333) {
            let expected = records.iter().find(|(timestamp, _)| timestamp.0 >= target);
            let found = storage
                .offset_for_timestamp(&log, Timestamp(target), end)
                .await
                .unwrap();
            assert_eq!(
                found.map(|found| (found.timestamp, found.offset)),
                expected.copied(),
                "timestamp {target}"
            );
        }
        let newest = records
            .iter()
            .max_by_key(|(timestamp, offset)| (*timestamp, -offset.0))
            .copied();
        let found = storage
            .offset_of_max_timestamp(&log, end)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (Some((found.timestamp, found.offset)), found.leader_epoch),
            (newest, LeaderEpoch(3))
        );
    });
}

/// Segment files on disk.
fn log_files(simulation: &Simulation) -> Vec<PathBuf> {
    let mut files = simulation.files(0);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files
}

/// Bytes of the files that are kept for new segments.
fn spare_bytes(simulation: &Simulation) -> u64 {
    let files = simulation.files(0);
    let spares = files.iter().filter(|path| {
        let mut names = path.components();
        names.any(|name| name.as_os_str() == "spares")
    });
    spares
        .map(|path| simulation.file_bytes(0, path).unwrap().len() as u64)
        .sum()
}

fn taken_over(storage: &Storage<SimIo>) -> u64 {
    let mut counted = Snapshot::new();
    storage.snapshot_into(&mut counted);
    counted.total("ringlog_segments_taken_over_total")
}

#[test]
fn files_of_a_deleted_log_serve_another_one() {
    let simulation = Simulation::new(82, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let options = tiny_options();
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        let old = storage.create_log(partition(1, 0), tiny_log());
        let new = storage.create_log(partition(2, 0), tiny_log());
        fill(&storage, &io, &model, &old, 400).await;
        pause(&io, 500_000).await;
        storage.delete_log(old.id());
        pause(&io, 500_000).await;
        let kept = spare_bytes(&simulation);
        assert!(
            kept > 100 << 10 && kept <= options.spares_bytes_max,
            "{kept} bytes"
        );
        // The first segment of a log may stay small for ever: it begins in a file of its own.
        fill(&storage, &io, &model, &new, 50).await;
        assert_eq!(taken_over(&storage), 0);
        fill(&storage, &io, &model, &new, 350).await;
        assert!(
            taken_over(&storage) >= 3,
            "{} segments",
            taken_over(&storage)
        );
        let read = check_all(&storage, &model, &new).await;
        assert_eq!(read, model.borrow()[&new.id()].attempted.len());
        // What nobody takes does not stay.
        storage.delete_log(new.id());
        pause(&io, 500_000).await;
        assert!(spare_bytes(&simulation) > 0);
        let long = Duration::from_secs(120) + 2 * options.retention_check_interval;
        pause(&io, long.as_micros() as u64).await;
        assert_eq!(spare_bytes(&simulation), 0);
    });
}

#[test]
fn a_start_removes_what_was_kept() {
    let simulation = Simulation::new(83, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let options = tiny_options();
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        let log = storage.create_log(partition(1, 0), tiny_log());
        fill(&storage, &io, &model, &log, 400).await;
        storage.delete_log(log.id());
        pause(&io, 500_000).await;
    });
    assert!(spare_bytes(&simulation) > 0);
    simulation.kill(0);
    simulation.restart(0);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        open_single(&io, &options).await;
    });
    assert_eq!(spare_bytes(&simulation), 0);
}

#[test]
fn a_log_in_balance_uses_its_files_again() {
    let simulation = Simulation::new(81, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let options = tiny_options();
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        let log = storage.create_log(
            partition(1, 0),
            LogConfig {
                retention_bytes: 120 << 10,
                ..tiny_log()
            },
        );
        for _ in 0..10 {
            fill(&storage, &io, &model, &log, 200).await;
            pause(&io, 100_000).await;
            let files = log_files(&simulation).len();
            assert!(files <= log.segment_count(), "{files} files");
            assert!(spare_bytes(&simulation) <= options.spares_bytes_max);
            // Whatever the files held before, readers get what was written.
            assert!(check_all(&storage, &model, &log).await > 0);
        }
        assert!(
            taken_over(&storage) >= 8,
            "{} segments",
            taken_over(&storage)
        );
        // Somebody who reads the file of the open segment meets zeros at its end, not older batches.
        let open = log_files(&simulation).pop().unwrap();
        let bytes = simulation.file_bytes(0, &open).unwrap();
        let mut end = 0;
        while let Some(Ok((_, batch))) = model::record::Batches::new(&bytes[end..]).next() {
            end += batch.len();
        }
        assert!(bytes[end..].iter().take(64).all(|byte| *byte == 0));
        assert!(bytes.len() > end + 4096, "an older segment was longer");
        storage.shutdown().await.unwrap();
        assert_eq!(log_files(&simulation).len(), log.segment_count());
    });
}

#[test]
fn retention_and_delete_records_move_the_start_and_remove_files() {
    let simulation = Simulation::new(8, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let id = partition(1, 0);
    let options = tiny_options();
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        let log = storage.create_log(id, tiny_log());
        fill(&storage, &io, &model, &log, 600).await;
        let segments = log.segment_count();
        storage.advance_log_start(&log, Offset(500)).unwrap();
        let read = ReadRequest {
            from: Offset(499),
            end: log.log_end_offset(),
            bytes_max: 1,
            at_least_one_batch: true,
        };
        assert!(matches!(
            storage.read(&log, read).await,
            Err(ReadError::OffsetOutOfRange { .. })
        ));
        storage.set_config(
            &log,
            LogConfig {
                retention_bytes: 100 << 10,
                ..tiny_log()
            },
        );
        storage.enforce_retention(io.wall_clock());
        pause(&io, 500_000).await;
        assert!(log.segment_count() < segments);
        assert!(log.size_bytes() >= 100 << 10 && log.log_start_offset() > Offset(500));
        assert_eq!(log_files(&simulation).len(), log.segment_count());
        assert!(spare_bytes(&simulation) > 0);
        let start = log.log_start_offset();
        storage.delete_log(partition(9, 9));
        storage.shutdown().await.unwrap();
        assert_eq!(log_files(&simulation).len(), log.segment_count());
        assert_eq!(spare_bytes(&simulation), 0);
        let storage = open_single(&io, &options).await;
        assert_eq!(storage.log(id).unwrap().log_start_offset(), start);
        storage.start(listener(&model));
        storage.delete_log(id);
        pause(&io, 500_000).await;
        assert!(log_files(&simulation).is_empty());
        // The name is free: a new log begins at 0 and keeps its own records only.
        let log = storage.create_log(id, tiny_log());
        append(
            &storage,
            &model,
            &log,
            &batch(&io, 1, 10, 5),
            Durability::Flushed,
        )
        .unwrap();
        storage.shutdown().await.unwrap();
        let storage = open_single(&io, &options).await;
        assert_eq!(storage.log(id).unwrap().log_end_offset(), Offset(1));
    });
}

#[test]
fn a_duplicate_is_answered_with_its_offsets_also_after_a_crash() {
    let simulation = Simulation::new(9, 1, 1);
    let id = partition(1, 0);
    let model = Model::default();
    let build = |sequence: i32| {
        let mut builder = model::record::BatchBuilder::new().producer(
            model::ProducerId(5),
            model::ProducerEpoch(0),
            sequence,
        );
        builder
            .push(Timestamp(1), None, Some(b"a"))
            .push(Timestamp(1), None, Some(b"b"));
        builder.build().unwrap()
    };
    for life in 0..3 {
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            let storage = open_single(&io, &tiny_options()).await;
            storage.start(listener(&model));
            let log = storage.create_log(id, tiny_log());
            for sequence in [0, 2, 4] {
                let bytes = build(sequence);
                let appended = storage
                    .append(&log, &bytes, &info(&bytes), context(Durability::Flushed))
                    .unwrap();
                assert_eq!(
                    (appended.base_offset, appended.duplicate),
                    (Offset(sequence.into()), life > 0)
                );
            }
            while log.durable_end_offset() < log.log_end_offset() {
                pause(&io, 50).await;
            }
        });
        simulation.power_cut(0);
        simulation.restart(0);
    }
}

#[test]
fn twenty_four_thousand_idle_logs_touch_nothing() {
    let simulation = Simulation::new(10, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    simulation.block_on(0, async {
        let storage = open_single(&io, &tiny_options()).await;
        storage.start(listener(&model));
        let before = simulation.files(0).len();
        for index in 0..24_000 {
            storage.create_log(partition(1, index), tiny_log());
        }
        assert_eq!(simulation.files(0).len(), before);
        storage.shutdown().await.unwrap();
        let storage = open_single(&io, &tiny_options()).await;
        assert_eq!(storage.logs().len(), 24_000);
        assert_eq!(std::path::Path::new(DIRECTORY).components().count(), 2);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// An index search returns what a linear scan returns, whatever the batch sizes and chunk sizes are.
    #[test]
    fn index_search_equals_linear_scan(seed in 0u64..1000, chunk in 64u32..20_000, extent in 4096u32..40_000, count in 20usize..120) {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        let model = Model::default();
        let options = StorageOptions { index_chunk_bytes: chunk, extent_bytes: extent, tail_bytes_max: 64 << 10, ..tiny_options() };
        simulation.block_on(0, async {
            let storage = open_single(&io, &options).await;
            storage.start(listener(&model));
            let log = storage.create_log(partition(1, 0), tiny_log());
            fill(&storage, &io, &model, &log, count).await;
            storage.shutdown().await.unwrap();
            let storage = open_single(&io, &options).await;
            let log = storage.log(partition(1, 0)).unwrap();
            let all = read_all(&storage, &log, 1 << 20).await.unwrap();
            for (base, next, bytes) in &all {
                let request = ReadRequest { from: Offset(next.0 - 1), end: log.log_end_offset(), bytes_max: 1, at_least_one_batch: true };
                let read = storage.read(&log, request).await.unwrap();
                assert_eq!(&read.batches[0], bytes, "offset {base}");
            }
        });
    }
}
