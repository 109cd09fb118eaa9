//! Starts on data directories that have lost something: no log is removed for it.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use metadata::controller::{CreateTopicsRequest, DeletableTopic, NewTopic};
use model::record::BatchBuilder;
use model::{Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::Io;
use runtime::sim::{SimIo, Simulation};
use shard::Shard;
use shard::request::{Acks, Produce, ProducePartition};
use storage::ReadRequest;

use crate::bed::{Broker, begin, start, try_start};

const FIRST: TopicId = TopicId([8; 16]);
const LAST: TopicId = TopicId([9; 16]);

pub(crate) async fn create(shard: &Rc<Shard<SimIo>>, name: &str, id: TopicId, partitions: i32) {
    let create = CreateTopicsRequest {
        topics: vec![NewTopic {
            name: name.into(),
            topic_id: id,
            partition_count: partitions,
            replication_factor: 1,
            ..NewTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let created = shard.ask(ShardId(0), create).await.unwrap();
    assert!(created[0].1.is_ok(), "{created:?}");
}

pub(crate) async fn delete(shard: &Rc<Shard<SimIo>>, id: TopicId) {
    let topics = vec![DeletableTopic {
        topic_id: id,
        ..DeletableTopic::default()
    }];
    shard.ask(ShardId(0), topics).await.unwrap();
}

/// A partition of the topic that a shard other than 0 serves.
pub(crate) fn elsewhere(shards: &Broker, id: TopicId) -> TopicPartition {
    (0..16)
        .map(|index| TopicPartition {
            topic: id,
            partition: PartitionIndex(index),
        })
        .find(|partition| shards[0].owner(*partition) == ShardId(1))
        .unwrap()
}

/// Appends one batch of ten records; returns when it is acknowledged.
pub(crate) async fn produce(shard: &Rc<Shard<SimIo>>, partition: TopicPartition) {
    let mut batch = BatchBuilder::new();
    for _ in 0..10 {
        batch.push(shard.io.wall_clock(), None, Some(&[7; 100]));
    }
    let request = Produce {
        acks: Acks::All,
        timeout_ms: 10_000,
        zstd_allowed: true,
        partitions: vec![ProducePartition {
            id: partition,
            records: batch.build().unwrap(),
            checked: shard::request::Checked::Not,
        }],
    };
    let produced = shard.ask(shard.owner(partition), request).await;
    assert!(produced.results[0].is_ok(), "{produced:?}");
}

pub(crate) async fn end_of(shards: &Broker, partition: TopicPartition) -> (Offset, usize) {
    let shard = &shards[usize::from(shards[0].owner(partition).0)];
    let log = shard.partition(partition).unwrap().log.clone();
    let end = log.log_end_offset();
    let request = ReadRequest {
        from: log.log_start_offset(),
        end,
        bytes_max: 1 << 20,
        at_least_one_batch: true,
    };
    let bytes = shard.storage.read(&log, request).await.unwrap().batches;
    (end, bytes.iter().map(|batch| batch.len()).sum())
}

/// Two topics with acknowledged records on shard 1; the record of the last one is the last of the metadata log.
fn filled(simulation: &Simulation) -> (TopicPartition, TopicPartition) {
    let broker = start(simulation);
    let (first, last) = (elsewhere(&broker, FIRST), elsewhere(&broker, LAST));
    simulation.block_on(0, async {
        create(&broker[0], "first", FIRST, 16).await;
        produce(&broker[0], first).await;
        create(&broker[0], "last", LAST, 16).await;
        for _ in 0..20 {
            produce(&broker[0], last).await;
        }
    });
    (first, last)
}

/// Damages the end of shard 0's journal, from the group on that holds the decision on the last topic: that one at `byte`,
/// and those behind it, in which the quorum notes that it is committed.
fn damage_end(simulation: &Simulation, byte: u64) {
    let journal = Path::new("/data/journal/0/0.journal");
    let bytes = simulation.file_bytes(0, journal).unwrap();
    let sequence = |block: &[u8]| u64::from_le_bytes(block[16..24].try_into().unwrap());
    let groups = (0..).zip(bytes.chunks(4096));
    let groups = groups.filter(|(_, block)| block.starts_with(b"RLGJ"));
    let groups: Vec<(u64, &[u8])> = groups.collect();
    let names = |block: &[u8]| block.windows(LAST.0.len()).any(|window| window == LAST.0);
    let decided = groups.iter().filter(|(_, block)| names(block));
    let decided = decided.map(|(_, block)| sequence(block)).max().unwrap();
    for (number, block) in &groups {
        match sequence(block).cmp(&decided) {
            Ordering::Less => {}
            Ordering::Equal => simulation.flip_bit(0, journal, number * 4096 + byte, 3),
            Ordering::Greater => simulation.flip_bit(0, journal, number * 4096 + 17, 3),
        }
    }
}

pub(crate) fn restart(simulation: &Simulation) -> SimIo {
    simulation.restart(0);
    simulation.io(0, 0)
}

pub(crate) fn segments_of(
    simulation: &Simulation,
    directory: &str,
    partition: TopicPartition,
) -> usize {
    let directory = PathBuf::from(format!("/data/{directory}/{partition}"));
    let files = simulation.files(0);
    files
        .iter()
        .filter(|path| path.starts_with(&directory) && path.extension().unwrap() == "log")
        .count()
}

/// After a refusal: the flag sets the log aside, and the log that is known is as it was.
fn accept(simulation: &Simulation, kept: Option<TopicPartition>, unknown: TopicPartition) {
    simulation.kill(0);
    restart(simulation);
    let broker = try_start(simulation, |options| {
        options.storage.accept_lost_data = true
    })
    .unwrap();
    assert_eq!(segments_of(simulation, "lost+found", unknown), 1);
    assert_eq!(segments_of(simulation, "partitions", unknown), 0);
    simulation.block_on(0, async {
        if let Some(kept) = kept {
            assert_eq!(end_of(&broker, kept).await.0, Offset(10));
            produce(&broker[0], kept).await;
        }
        create(&broker[0], "new", TopicId([7; 16]), 16).await;
        produce(&broker[0], elsewhere(&broker, TopicId([7; 16]))).await;
    });
    drop(broker);
    // Once is enough.
    simulation.power_cut(0);
    restart(simulation);
    let broker = start(simulation);
    assert_eq!(segments_of(simulation, "lost+found", unknown), 1);
    simulation.block_on(0, async {
        if let Some(kept) = kept {
            assert_eq!(end_of(&broker, kept).await.0, Offset(20));
        }
    });
}

#[test]
fn a_damaged_last_record_of_the_metadata_log_costs_no_log() {
    // In the group's header, and behind it.
    for (seed, byte) in [(1, 17), (2, 70), (3, 300)] {
        let simulation = Simulation::new(seed, 1, 2);
        let (first, last) = filled(&simulation);
        simulation.kill(0);
        damage_end(&simulation, byte);
        // It stays refused, also when the torn end has been cut off.
        for _ in 0..2 {
            restart(&simulation);
            let reason = try_start(&simulation, |_| {}).err().expect("refused");
            assert!(reason.contains(&last.to_string()), "{reason}");
            assert!(reason.contains("--accept-lost-data"), "{reason}");
            assert!(!reason.contains(&first.to_string()), "{reason}");
            simulation.kill(0);
        }
        accept(&simulation, Some(first), last);
    }
}

#[test]
fn a_torn_end_of_the_metadata_log_with_no_log_behind_it_is_cut_off() {
    let simulation = Simulation::new(4, 1, 2);
    let broker = start(&simulation);
    let first = elsewhere(&broker, FIRST);
    simulation.block_on(0, async {
        create(&broker[0], "first", FIRST, 16).await;
        produce(&broker[0], first).await;
        create(&broker[0], "last", LAST, 16).await;
    });
    drop(broker);
    simulation.kill(0);
    damage_end(&simulation, 70);
    restart(&simulation);
    let broker = start(&simulation);
    assert!(broker[0].image().topic_by_name("last").is_none());
    let end = simulation.block_on(0, end_of(&broker, first));
    assert_eq!(end.0, Offset(10));
}

async fn lose_shard(io: &SimIo, shard: u16) {
    let journal = PathBuf::from(format!("/data/journal/{shard}"));
    io.remove_dir_all(&journal).await.unwrap();
    for slot in 0..2 {
        let checkpoint = PathBuf::from(format!("/data/checkpoint/{shard}.{slot}"));
        io.remove_file(&checkpoint).await.unwrap();
    }
}

#[test]
fn a_shard_that_is_gone_is_not_a_new_one() {
    for clean in [false, true] {
        let simulation = Simulation::new(5, 1, 2);
        let (_, last) = filled(&simulation);
        if clean {
            // Both shards have written their logs to segments.
            simulation.kill(0);
            restart(&simulation);
            drop(start(&simulation));
        }
        simulation.kill(0);
        let io = restart(&simulation);
        simulation.block_on(0, lose_shard(&io, 0));
        let before = simulation.files(0);
        let reason = try_start(&simulation, |_| {}).err().expect("refused");
        assert!(reason.contains("journal of shard 0 are gone"), "{reason}");
        assert_eq!(simulation.files(0), before, "something was changed");
        accept(&simulation, None, last);
    }
}

#[test]
fn the_last_shard_is_missed_if_its_number_was_noted() {
    let simulation = Simulation::new(6, 1, 2);
    let (_, last) = filled(&simulation);
    simulation.kill(0);
    restart(&simulation);
    // A stop in order leaves its logs in segments.
    let broker = start(&simulation);
    for shard in &broker {
        let shard = shard.clone();
        simulation
            .block_on(0, async move { shard.close().await })
            .unwrap();
    }
    drop(broker);
    simulation.kill(0);
    let io = restart(&simulation);
    simulation.block_on(0, lose_shard(&io, 1));
    let known = |options: &mut shard::ShardOptions| options.storage.shards_known = 2;
    let reason = try_start(&simulation, known).err().expect("refused");
    assert!(reason.contains("journal of shard 1 are gone"), "{reason}");
    simulation.kill(0);
    restart(&simulation);
    // Nobody noted it, or somebody accepts it: a new log does not write into the old one's files.
    let broker = start(&simulation);
    assert_eq!(segments_of(&simulation, "lost+found", last), 1);
    simulation.block_on(0, async {
        produce(&broker[0], last).await;
        assert_eq!(end_of(&broker, last).await.0, Offset(10));
    });
}

#[test]
fn a_running_shard_without_a_journal_is_damage() {
    let simulation = Simulation::new(7, 1, 2);
    filled(&simulation);
    simulation.kill(0);
    let io = restart(&simulation);
    simulation.block_on(0, async {
        // How many files it has by then depends on what had its turn first.
        let directory = Path::new("/data/journal/0");
        for name in io.read_dir(directory).await.unwrap() {
            io.remove_file(&directory.join(name)).await.unwrap();
        }
    });
    let reason = try_start(&simulation, |_| {}).err().expect("refused");
    // How many files it had depends on when it was killed.
    assert!(reason.contains("the shard was running, but"), "{reason}");
}

/// A broker that was refused because the end of its metadata log is damaged; it is to be started again.
fn refused(seed: u64) -> (Simulation, TopicPartition, TopicPartition) {
    let simulation = Simulation::new(seed, 1, 2);
    let (first, last) = filled(&simulation);
    simulation.kill(0);
    damage_end(&simulation, 70);
    restart(&simulation);
    try_start(&simulation, |_| {}).err().expect("refused");
    simulation.kill(0);
    restart(&simulation);
    (simulation, first, last)
}

#[test]
fn setting_aside_survives_a_power_cut_at_any_moment() {
    const MOMENTS: u32 = 100;
    let accepting = |options: &mut shard::ShardOptions| options.storage.accept_lost_data = true;
    let took = {
        let (simulation, ..) = refused(99);
        let before = simulation.now();
        try_start(&simulation, accepting).unwrap();
        simulation.now().since(before)
    };
    let (mut before, mut after) = (0, 0);
    for moment in 0..MOMENTS {
        let (simulation, first, last) = refused(100 + u64::from(moment));
        let (done, _) = begin(&simulation, accepting);
        simulation.run_for(took * moment / MOMENTS);
        assert!(!done.get() || moment > MOMENTS / 2, "{took:?}");
        simulation.power_cut(0);
        restart(&simulation);
        let held = |directory| segments_of(&simulation, directory, last);
        // At first it is in the journal only.
        let (there, aside) = (held("partitions"), held("lost+found"));
        assert!(there + aside <= 1, "moment {moment}");
        before += 1 - aside;
        after += aside;
        accept(&simulation, Some(first), last);
    }
    assert!(before > 10 && after > 10, "{before} before, {after} after");
}

#[test]
fn the_log_of_a_deleted_topic_is_deleted_after_a_crash() {
    let mut late = 0;
    for seed in 0..20 {
        let simulation = Simulation::new(200 + seed, 1, 2);
        let (_, last) = filled(&simulation);
        simulation.kill(0);
        restart(&simulation);
        let broker = start(&simulation);
        let shard = broker[0].clone();
        simulation.spawn(0, 0, async move { delete(&shard, LAST).await });
        // The record may be durable while the other shard has not yet noted the deletion.
        simulation.run_for(Duration::from_micros(seed * 40));
        drop(broker);
        simulation.power_cut(0);
        restart(&simulation);
        let broker = start(&simulation);
        simulation.run_for(Duration::from_secs(1));
        let is_known = broker[0].image().topic_by_id(LAST).is_some();
        let has_log = broker[1].storage.log(last).is_some();
        assert_eq!(is_known, has_log, "seed {seed}");
        late += usize::from(!is_known);
        assert_eq!(segments_of(&simulation, "lost+found", last), 0);
    }
    assert!(late > 3 && late < 20, "{late} deletions were durable");
}
