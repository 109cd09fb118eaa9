//! The disk model: what a crash keeps, what it may lose, what faults do.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use runtime::sim::{DiskCounters, Fault, FaultRule, SECTOR, SimFile, SimFrozen, SimIo, Simulation};
use runtime::{ALIGNMENT, Buffer, File, Io, OpenMode, TaskClass};

const PAGE: usize = ALIGNMENT;

fn page(io: &SimIo, byte: u8) -> SimFrozen {
    pages(io, byte, 1)
}

fn pages(io: &SimIo, byte: u8, count: usize) -> SimFrozen {
    let mut buffer = io.buffer(count * PAGE);
    buffer.as_mut().fill(byte);
    buffer.freeze()
}

fn path() -> &'static Path {
    Path::new("/data/file")
}

/// Creates the file durably.
async fn create(io: &SimIo, mode: OpenMode) -> SimFile {
    io.create_dir_all(Path::new("/data")).await.unwrap();
    let file = io.open(path(), mode).await.unwrap();
    io.sync_dir(Path::new("/data")).await.unwrap();
    file
}

/// The bytes of the file after a power cut at the end of `work`.
fn after_power_cut<W>(seed: u64, mode: OpenMode, work: impl FnOnce(SimIo, SimFile) -> W) -> Vec<u8>
where
    W: Future<Output = ()>,
{
    let simulation = Simulation::new(seed, 1, 1);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let file = create(&io, mode).await;
        work(io.clone(), file).await;
    });
    simulation.power_cut(0);
    simulation.restart(0);
    let bytes = simulation.file_bytes(0, path()).unwrap();
    assert_eq!(simulation.durable_bytes(0, path()).unwrap(), bytes);
    bytes.to_vec()
}

#[test]
fn flushed_data_is_never_lost_and_unflushed_data_sometimes() {
    let mut kept_unflushed = 0;
    for seed in 0..200 {
        let bytes = after_power_cut(seed, OpenMode::Write, async |io, file| {
            file.write_at(page(&io, 1), 0).await.unwrap();
            file.sync_data().await.unwrap();
            file.write_at(page(&io, 2), PAGE as u64).await.unwrap();
        });
        assert_eq!(bytes[..PAGE], [1; PAGE], "flushed, seed {seed}");
        kept_unflushed += u32::from(bytes[PAGE..] == [2; PAGE]);
    }
    assert!((20..180).contains(&kept_unflushed), "{kept_unflushed}");
}

#[test]
fn a_new_file_is_lost_unless_its_directory_is_synced() {
    let mut lost = 0;
    for seed in 0..100 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            io.create_dir_all(Path::new("/data")).await.unwrap();
            let file = io.open(path(), OpenMode::WriteDurable).await.unwrap();
            file.write_at(page(&io, 1), 0).await.unwrap();
        });
        simulation.power_cut(0);
        simulation.restart(0);
        lost += u32::from(simulation.file_bytes(0, path()).is_none());
    }
    assert!((10..90).contains(&lost), "{lost}");
}

#[test]
fn an_overwrite_is_torn_at_sectors() {
    let mut torn = 0;
    let mut kinds = BTreeSet::new();
    for seed in 0..300 {
        let bytes = after_power_cut(seed, OpenMode::Write, async |io, file| {
            file.write_at(pages(&io, 1, 2), 0).await.unwrap();
            file.sync_data().await.unwrap();
            file.write_at(pages(&io, 2, 2), 0).await.unwrap();
        });
        assert_eq!(bytes.len(), 2 * PAGE);
        for sector in bytes.chunks(SECTOR) {
            let is_whole = sector.iter().all(|byte| *byte == sector[0]);
            assert!(is_whole, "a sector is torn, seed {seed}");
            assert!(sector[0] == 1 || sector[0] == 2, "seed {seed}");
        }
        let new = bytes.chunks(SECTOR).filter(|s| s[0] == 2).count();
        torn += u32::from(new > 0 && new < 2 * PAGE / SECTOR);
        kinds.insert(new);
    }
    assert!(torn > 20, "{torn} torn writes");
    assert!(kinds.contains(&0) && kinds.contains(&(2 * PAGE / SECTOR)));
}

#[test]
fn a_flush_covers_only_writes_completed_before_it_was_issued() {
    let mut lost = 0;
    for seed in 0..200 {
        let bytes = after_power_cut(seed, OpenMode::Write, async |io, file| {
            file.allocate(2 * PAGE as u64).await.unwrap();
            file.sync_data().await.unwrap();
            let file = Rc::new(file);
            let (late_io, late) = (io.clone(), Rc::clone(&file));
            // Submitted first, but not complete when the flush is issued.
            let written = runtime::Oneshot::new();
            let told = Rc::clone(&written);
            io.spawn(TaskClass::Foreground, async move {
                late.write_at(page(&late_io, 2), PAGE as u64).await.unwrap();
                told.set(());
            });
            file.sync_data().await.unwrap();
            written.take().await;
        });
        lost += u32::from(bytes[PAGE..] != [2; PAGE]);
    }
    assert!(lost > 20, "{lost}: the flush covered a write in flight");
}

#[test]
fn a_durable_write_keeps_itself_and_nothing_before_it() {
    let mut lost_earlier = 0;
    for seed in 0..200 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            let file = create(&io, OpenMode::Write).await;
            file.allocate(4 * PAGE as u64).await.unwrap();
            file.write_at(page(&io, 1), 0).await.unwrap();
            file.write_at(page(&io, 1), PAGE as u64).await.unwrap();
            let durable = io.open(path(), OpenMode::WriteDurable).await.unwrap();
            durable.write_at(page(&io, 2), PAGE as u64).await.unwrap();
            durable
                .write_at(page(&io, 3), 2 * PAGE as u64)
                .await
                .unwrap();
        });
        simulation.power_cut(0);
        simulation.restart(0);
        let bytes = simulation.file_bytes(0, path()).unwrap();
        assert_eq!(bytes[PAGE..2 * PAGE], [2; PAGE], "seed {seed}");
        assert_eq!(bytes[2 * PAGE..3 * PAGE], [3; PAGE], "seed {seed}");
        lost_earlier += u32::from(bytes[..PAGE] != [1; PAGE]);
    }
    assert!(lost_earlier > 20, "{lost_earlier}");
}

#[test]
fn sizes_follow_the_flush() {
    let mut shorter = 0;
    for seed in 0..100 {
        let bytes = after_power_cut(seed, OpenMode::Write, async |io, file| {
            file.write_at(pages(&io, 1, 4), 0).await.unwrap();
            file.sync_data().await.unwrap();
            file.truncate(PAGE as u64 + 10).await.unwrap();
            file.sync_data().await.unwrap();
            file.truncate(3 * PAGE as u64).await.unwrap();
        });
        assert!(bytes.len() == PAGE + 10 || bytes.len() == 3 * PAGE);
        assert_eq!(bytes[..PAGE + 10], [1; PAGE + 10]);
        assert!(bytes[PAGE + 10..].iter().all(|byte| *byte == 0));
        shorter += u32::from(bytes.len() == PAGE + 10);
    }
    assert!((5..95).contains(&shorter), "{shorter}");
}

#[test]
fn renames_are_atomic_and_durable_after_both_directories_are_synced() {
    let (from, to) = (Path::new("/a/file"), Path::new("/b/file"));
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        for syncs in 0..3 {
            let simulation = Simulation::new(seed, 1, 1);
            let io = simulation.io(0, 0);
            simulation.block_on(0, async {
                io.create_dir_all(Path::new("/a")).await.unwrap();
                io.create_dir_all(Path::new("/b")).await.unwrap();
                let file = io.open(from, OpenMode::WriteDurable).await.unwrap();
                file.write_at(page(&io, 1), 0).await.unwrap();
                io.sync_dir(Path::new("/a")).await.unwrap();
                io.rename(from, to).await.unwrap();
                for directory in ["/a", "/b"].into_iter().take(syncs) {
                    io.sync_dir(Path::new(directory)).await.unwrap();
                }
            });
            simulation.power_cut(0);
            simulation.restart(0);
            let is_at = |path| simulation.file_bytes(0, path).is_some();
            assert_ne!(is_at(from), is_at(to), "one name, seed {seed}");
            outcomes.insert((syncs, is_at(to)));
        }
    }
    let expected = [(0, false), (0, true), (1, false), (1, true), (2, true)];
    assert_eq!(outcomes, BTreeSet::from(expected));
}

#[test]
fn a_new_directory_is_durable_after_the_one_above_is_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        for syncs_above in [false, true] {
            let simulation = Simulation::new(seed, 1, 1);
            let io = simulation.io(0, 0);
            let path = Path::new("/above/new/file");
            simulation.block_on(0, async {
                io.create_dir_all(Path::new("/above")).await.unwrap();
                io.create_dir(Path::new("/above/new")).await.unwrap();
                let file = io.open(path, OpenMode::WriteDurable).await.unwrap();
                file.write_at(page(&io, 1), 0).await.unwrap();
                io.sync_dir(Path::new("/above/new")).await.unwrap();
                if syncs_above {
                    io.sync_dir(Path::new("/above")).await.unwrap();
                }
            });
            simulation.power_cut(0);
            simulation.restart(0);
            outcomes.insert((syncs_above, simulation.file_bytes(0, path).is_some()));
        }
    }
    let expected = [(false, false), (false, true), (true, true)];
    assert_eq!(outcomes, BTreeSet::from(expected));
}

#[test]
fn syncing_the_file_system_keeps_everything() {
    for seed in 0..50 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            io.create_dir_all(Path::new("/data/deep")).await.unwrap();
            for name in ["/data/x", "/data/deep/y"] {
                let file = io.open(Path::new(name), OpenMode::Write).await.unwrap();
                file.write_at(page(&io, 9), 0).await.unwrap();
            }
            io.sync_file_system(Path::new("/data")).await.unwrap();
        });
        simulation.power_cut(0);
        simulation.restart(0);
        for name in ["/data/x", "/data/deep/y"] {
            let bytes = simulation.file_bytes(0, Path::new(name)).unwrap();
            assert_eq!(bytes, vec![9; PAGE]);
        }
    }
}

#[test]
fn a_killed_process_keeps_completed_writes_and_maybe_those_in_flight() {
    let mut kept_in_flight = 0;
    for seed in 0..100 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            let file = Rc::new(create(&io, OpenMode::Write).await);
            file.write_at(page(&io, 1), 0).await.unwrap();
            let task_io = io.clone();
            io.spawn(TaskClass::Foreground, async move {
                let memory = page(&task_io, 2);
                file.write_at(memory, PAGE as u64).await.unwrap();
            });
            io.sleep(Duration::from_micros(1)).await;
        });
        simulation.kill(0);
        assert_eq!(simulation.task_count(0), 0);
        simulation.restart(0);
        let bytes = simulation.file_bytes(0, path()).unwrap();
        assert_eq!(bytes[..PAGE], [1; PAGE]);
        kept_in_flight += u32::from(bytes.len() == 2 * PAGE);
    }
    assert!((10..95).contains(&kept_in_flight), "{kept_in_flight}");
}

/// A log of one page per record. `acknowledge_early` plants the bug: it acknowledges what is only written.
async fn toy_writer(io: SimIo, acknowledged: Rc<std::cell::Cell<u64>>, acknowledge_early: bool) {
    let file = create(&io, OpenMode::Write).await;
    for record in 0..200_u8 {
        let position = u64::from(record) * PAGE as u64;
        file.write_at(page(&io, record + 1), position)
            .await
            .unwrap();
        if acknowledge_early {
            acknowledged.set(u64::from(record) + 1);
        }
        file.sync_data().await.unwrap();
        acknowledged.set(u64::from(record) + 1);
    }
}

/// Seeds for which an acknowledged record is lost.
fn losses(acknowledge_early: bool) -> usize {
    let is_lost = |seed: &u64| {
        let simulation = Simulation::new(*seed, 1, 1);
        let acknowledged = Rc::new(std::cell::Cell::new(0));
        let writer = toy_writer(
            simulation.io(0, 0),
            Rc::clone(&acknowledged),
            acknowledge_early,
        );
        simulation.spawn(0, 0, writer);
        let moment = simulation.random().between(1_000_000, 100_000_000);
        simulation.run_for(Duration::from_nanos(moment));
        simulation.power_cut(0);
        simulation.restart(0);
        let bytes = simulation.file_bytes(0, path()).unwrap_or_default();
        (0..acknowledged.get() as usize).any(|record| {
            let range = record * PAGE..(record + 1) * PAGE;
            bytes.get(range) != Some(&[record as u8 + 1; PAGE][..])
        })
    };
    (0..300).filter(is_lost).count()
}

#[test]
fn acknowledging_before_the_flush_is_caught() {
    assert_eq!(losses(false), 0, "the honest writer loses nothing");
    assert!(losses(true) > 20, "the planted bug shows");
}

#[test]
fn errors_come_as_the_kernel_gives_them() {
    const EIO: Option<i32> = Some(5);
    const ENOSPC: Option<i32> = Some(28);
    let simulation = Simulation::new(1, 1, 1);
    let io = simulation.io(0, 0);
    let once = |fault| simulation.faults().add(FaultRule::new(fault).times(1));
    simulation.block_on(0, async {
        let file = create(&io, OpenMode::Write).await;
        file.write_at(page(&io, 1), 0).await.unwrap();
        once(Fault::WriteError);
        let error = file.write_at(page(&io, 1), 0).await.unwrap_err();
        assert_eq!(error.raw_os_error(), EIO);
        once(Fault::ReadError);
        let error = file.read_at(0, 1).await.unwrap_err();
        assert_eq!(error.raw_os_error(), EIO);
        once(Fault::SyncError);
        assert_eq!(file.sync_data().await.unwrap_err().raw_os_error(), EIO);
        once(Fault::MetadataError);
        let error = io.remove_file(path()).await.unwrap_err();
        assert_eq!(error.raw_os_error(), EIO);
        once(Fault::NoSpace);
        let error = file.allocate(9 * PAGE as u64).await.unwrap_err();
        assert_eq!(error.raw_os_error(), ENOSPC);
        simulation.set_disk_capacity(0, 3 * PAGE as u64);
        file.allocate(3 * PAGE as u64).await.unwrap();
        let error = file.write_at(page(&io, 1), 3 * PAGE as u64).await;
        assert_eq!(error.unwrap_err().raw_os_error(), ENOSPC);
        file.write_at(page(&io, 1), 0).await.unwrap();
        assert_eq!(simulation.faults().fired(), 5);
    });
}

#[test]
fn a_failed_flush_may_have_dropped_what_a_later_one_does_not_bring_back() {
    let mut lost = 0;
    for seed in 0..100 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        simulation.block_on(0, async {
            let file = create(&io, OpenMode::Write).await;
            file.write_at(page(&io, 1), 0).await.unwrap();
            let rule = FaultRule::new(Fault::SyncError).times(1);
            simulation.faults().add(rule);
            file.sync_data().await.unwrap_err();
            file.sync_data().await.unwrap();
            assert_eq!(file.read_at(0, PAGE).await.unwrap(), vec![1; PAGE]);
        });
        simulation.power_cut(0);
        simulation.restart(0);
        let bytes = simulation.file_bytes(0, path()).unwrap();
        lost += u32::from(bytes != vec![1; PAGE]);
    }
    assert!((20..80).contains(&lost), "{lost}");
}

#[test]
fn silent_faults_change_what_is_stored() {
    for (fault, changed_pages) in [
        (Fault::LostWrite, 1),
        (Fault::BitFlip, 1),
        (Fault::MisdirectedWrite, 2),
    ] {
        let mut seen = 0;
        for seed in 0..50 {
            let simulation = Simulation::new(seed, 1, 1);
            let io = simulation.io(0, 0);
            let bytes = simulation.block_on(0, async {
                let file = create(&io, OpenMode::Write).await;
                file.write_at(pages(&io, 1, 8), 0).await.unwrap();
                simulation.faults().add(FaultRule::new(fault).times(1));
                file.write_at(page(&io, 2), 0).await.unwrap();
                file.read_at(0, 8 * PAGE).await.unwrap()
            });
            let expected = |page: usize| if page == 0 { [2; PAGE] } else { [1; PAGE] };
            let wrong = bytes
                .chunks(PAGE)
                .enumerate()
                .filter(|(number, chunk)| **chunk != expected(*number))
                .count();
            assert!(wrong == changed_pages || wrong == 0, "{fault:?}: {wrong}");
            seen += u32::from(wrong == changed_pages);
            if fault == Fault::BitFlip {
                let bits: u32 = bytes[..PAGE].iter().map(|b| (b ^ 2).count_ones()).sum();
                assert_eq!(bits, 1);
            }
        }
        assert!(seen > 30, "{fault:?} was seen {seen} times");
    }
}

#[test]
fn slow_and_hung_operations_take_their_time() {
    let simulation = Simulation::new(4, 1, 1);
    let io = simulation.io(0, 0);
    let file = simulation.block_on(0, create(&io, OpenMode::Write));
    simulation.block_on(0, async {
        simulation
            .faults()
            .add(FaultRule::new(Fault::Slow).times(1));
        let start = io.now();
        file.write_at(page(&io, 1), 0).await.unwrap();
        assert!(io.now().since(start) >= Duration::from_millis(10));
    });
    let rule = FaultRule::new(Fault::Hang).path("file").times(1);
    simulation.faults().add(rule);
    let done = Rc::new(std::cell::Cell::new(false));
    let (seen, task_io) = (Rc::clone(&done), io.clone());
    simulation.spawn(0, 0, async move {
        file.write_at(page(&task_io, 2), 0).await.unwrap();
        seen.set(true);
    });
    simulation.run_for(Duration::from_secs(1000));
    assert!(!done.get());
    simulation.release_hung(0);
    simulation.run_until(|| done.get());
}

#[test]
fn bits_flip_on_demand_and_disks_can_be_wiped() {
    let simulation = Simulation::new(5, 1, 1);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let file = create(&io, OpenMode::WriteDurable).await;
        file.write_at(pages(&io, 0, 2), 0).await.unwrap();
    });
    simulation.flip_bit(0, path(), PAGE as u64 + 3, 2);
    simulation.power_cut(0);
    let bytes = simulation.file_bytes(0, path()).unwrap();
    let flipped: Vec<_> = (0..2 * PAGE).filter(|at| bytes[*at] != 0).collect();
    assert_eq!((flipped, bytes[PAGE + 3]), (vec![PAGE + 3], 4));
    assert_eq!(simulation.files(0), [path()]);
    simulation.wipe(0);
    simulation.restart(0);
    assert!(simulation.files(0).is_empty());
}

#[test]
fn counters_and_open_files_are_counted() {
    let simulation = Simulation::new(6, 1, 1);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let file = create(&io, OpenMode::Write).await;
        let before = simulation.disk_counters(0);
        file.write_at(pages(&io, 1, 2), 0).await.unwrap();
        file.sync_data().await.unwrap();
        file.read_at(0, 100).await.unwrap();
        let durable = io.open(path(), OpenMode::WriteDurable).await.unwrap();
        assert_eq!(simulation.open_files(0), 2);
        durable.write_at(page(&io, 1), 0).await.unwrap();
        let expected = DiskCounters {
            reads: 1,
            read_bytes: 100,
            writes: 2,
            write_bytes: 3 * PAGE as u64,
            durable_writes: 1,
            flushes: before.flushes + 1,
            metadata_operations: before.metadata_operations + 1,
        };
        assert_eq!(simulation.disk_counters(0), expected);
        file.close().await.unwrap();
        assert_eq!(simulation.open_files(0), 1);
    });
    assert_eq!(simulation.open_files(0), 0);
}
