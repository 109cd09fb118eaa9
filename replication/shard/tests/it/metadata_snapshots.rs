//! Snapshots of the metadata log: a start goes on from them, and knows of every topic that was and of every one that went.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use metadata::{MetadataRecord, Uuid};
use model::config::BrokerConfig;
use model::config::broker::Settings;
use model::record::read_records_owned;
use model::{Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::sim::{Fault, FaultRule, Simulation};
use runtime::{Buffer, File, Io, OpenMode};
use shard::ShardOptions;
use shard::request::AllocateProducerIds;
use storage::PlantedFault;

use crate::bed::{Broker, try_start};
use crate::lost_metadata::{create, delete, elsewhere, end_of, produce, restart, segments_of};

const METADATA: TopicPartition = TopicPartition {
    topic: TopicId::METADATA,
    partition: PartitionIndex(0),
};

/// A snapshot after so many bytes of records, in the life of this number.
fn snapshots_after(bytes: u64, life: u8) -> impl Fn(&mut ShardOptions) {
    let overrides: Settings = [(
        "metadata.log.max.record.bytes.between.snapshots".to_owned(),
        bytes.to_string(),
    )]
    .into();
    let none = Settings::new();
    let config = Arc::new(BrokerConfig::from_layers(&none, &none, &overrides).unwrap());
    move |options| {
        options.config = config.clone();
        // Each process registers anew.
        Arc::make_mut(&mut options.registration).incarnation_id = Uuid([life; 16]);
    }
}

fn topic(number: u8) -> TopicId {
    TopicId([number; 16])
}

/// Where the metadata log begins.
fn log_start(broker: &Broker) -> Offset {
    let log = broker[0].storage.log(METADATA).unwrap();
    log.log_start_offset()
}

fn snapshot_files(simulation: &Simulation) -> Vec<PathBuf> {
    let directory = Path::new("/data/partitions").join(METADATA.to_string());
    let files = simulation.files(0);
    let ours = files.into_iter().filter(|path| {
        path.starts_with(&directory) && path.extension().is_some_and(|kind| kind == "checkpoint")
    });
    ours.collect()
}

/// Topics by name, with their ids and numbers of partitions.
fn topics(broker: &Broker) -> Vec<(String, TopicId, usize)> {
    let image = broker[0].image();
    let topics = image.topics();
    topics
        .map(|topic| {
            (
                topic.name().to_string(),
                topic.id(),
                topic.partition_count(),
            )
        })
        .collect()
}

/// Topics that come and go, so that several snapshots are written.
fn churn(simulation: &Simulation, broker: &Broker, first: u8) {
    simulation.block_on(0, async {
        for number in first..first + 20 {
            create(&broker[0], &format!("topic-{number}"), topic(number), 4).await;
            if number % 2 == 0 {
                produce(&broker[0], elsewhere(broker, topic(number))).await;
            }
            if number % 4 == 0 {
                delete(&broker[0], topic(number)).await;
            }
            broker[0].io.sleep(Duration::from_millis(30)).await;
        }
        broker[0].io.sleep(Duration::from_secs(1)).await;
    });
}

#[test]
fn a_start_goes_on_from_a_snapshot() {
    for seed in 0..6 {
        let simulation = Simulation::new(seed, 1, 2);
        let mut broker = try_start(&simulation, snapshots_after(2000, 1)).unwrap();
        let mut begun_at = Offset::ZERO;
        for life in 0..3_u8 {
            churn(&simulation, &broker, 1 + life * 20);
            assert!(log_start(&broker) > begun_at, "seed {seed}: never cut");
            begun_at = log_start(&broker);
            assert_eq!(snapshot_files(&simulation).len(), 2);
            let ids = simulation.block_on(0, broker[0].ask(ShardId(0), AllocateProducerIds));
            let before = topics(&broker);
            let end = broker[0].image().end_offset();
            drop(broker);
            match seed % 2 {
                0 => simulation.kill(0),
                _ => simulation.power_cut(0),
            }
            restart(&simulation);
            broker = try_start(&simulation, snapshots_after(2000, life + 2)).unwrap();
            assert_eq!(topics(&broker), before);
            assert!(broker[0].image().end_offset() > end, "it has registered");
            assert_eq!(
                broker[0].image().end_offset(),
                broker[1].image().end_offset()
            );
            let next = simulation.block_on(0, broker[0].ask(ShardId(0), AllocateProducerIds));
            assert!(next.unwrap().first > ids.unwrap().first);
            let kept = elsewhere(&broker, topic(2 + life * 20));
            let (end, _) = simulation.block_on(0, end_of(&broker, kept));
            assert_eq!(end, Offset(10));
        }
        assert_eq!(segments_of(&simulation, "lost+found", METADATA), 0);
    }
}

#[test]
fn a_snapshot_alone_is_a_start() {
    let simulation = Simulation::new(9, 1, 2);
    let broker = try_start(&simulation, snapshots_after(1, 1)).unwrap();
    churn(&simulation, &broker, 1);
    let (before, end) = (topics(&broker), broker[0].image().end_offset());
    let newest = snapshot_files(&simulation).pop().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("{:020}-", end.0)), "{name}");
    drop(broker);
    simulation.power_cut(0);
    restart(&simulation);
    let broker = try_start(&simulation, snapshots_after(1, 2)).unwrap();
    assert_eq!(topics(&broker), before);
    // The registration comes behind the snapshot and the first entry of the term, as broker epochs do.
    let image = broker[0].image();
    let registered = image.brokers().next().unwrap().epoch;
    assert_eq!(registered.0, end.0 + 1);
}

#[test]
fn a_damaged_snapshot_costs_nothing_and_two_are_a_reason_not_to_start() {
    let simulation = Simulation::new(10, 1, 2);
    let configure = snapshots_after(2000, 1);
    let broker = try_start(&simulation, &configure).unwrap();
    churn(&simulation, &broker, 1);
    let (before, kept) = (topics(&broker), elsewhere(&broker, topic(2)));
    drop(broker);
    simulation.kill(0);
    let [older, newer] = snapshot_files(&simulation).try_into().unwrap();
    simulation.flip_bit(0, &newer, 200, 1);
    restart(&simulation);
    // No new one is due for an hour.
    let broker = try_start(&simulation, snapshots_after(1 << 30, 2)).unwrap();
    assert_eq!(topics(&broker), before);
    drop(broker);
    simulation.kill(0);
    simulation.flip_bit(0, &older, 200, 1);
    restart(&simulation);
    let refused = try_start(&simulation, &configure).err().expect("refused");
    assert!(refused.contains(&newer.display().to_string()), "{refused}");
    assert!(refused.contains("does not match its checksum"), "{refused}");
    assert!(refused.contains("--accept-lost-data"), "{refused}");
    assert_eq!(snapshot_files(&simulation), [older, newer]);
    // Accepted, all is set aside, and what comes then is kept.
    simulation.kill(0);
    restart(&simulation);
    let broker = try_start(&simulation, |options| {
        configure(options);
        options.storage.accept_lost_data = true;
    })
    .unwrap();
    assert!(topics(&broker).is_empty());
    assert_eq!(segments_of(&simulation, "lost+found", kept), 1);
    let aside = format!("/data/lost+found/{METADATA}");
    let files = simulation.files(0);
    let aside = files.iter().filter(|path| path.starts_with(&aside));
    let snapshots = aside.filter(|path| path.extension().is_some_and(|end| end == "checkpoint"));
    assert_eq!(snapshots.count(), 2);
    churn(&simulation, &broker, 40);
    let before = topics(&broker);
    drop(broker);
    simulation.power_cut(0);
    restart(&simulation);
    let broker = try_start(&simulation, snapshots_after(2000, 4)).unwrap();
    assert_eq!(topics(&broker), before);
}

/// A broker that has written snapshots while `topics` came and went, killed; its newest snapshot.
fn killed_after(topics: u8) -> (Simulation, Vec<(String, TopicId, usize)>, PathBuf) {
    let simulation = Simulation::new(12, 1, 2);
    let broker = try_start(&simulation, snapshots_after(2000, 1)).unwrap();
    let mut first = 1;
    while first < topics {
        churn(&simulation, &broker, first);
        first += 20;
    }
    let known = self::topics(&broker);
    drop(broker);
    simulation.kill(0);
    let newest = snapshot_files(&simulation).pop().unwrap();
    (simulation, known, newest)
}

#[test]
fn a_snapshot_that_says_more_than_the_log_is_taken_if_that_is_accepted() {
    // The same course, longer: a log that has lost its end, and a snapshot of what it was.
    let (later, known_later, ahead) = killed_after(40);
    let (simulation, known, newest) = killed_after(20);
    let bytes = later.file_bytes(0, &ahead).unwrap();
    assert!(ahead > newest && known_later != known);
    let io = restart(&simulation);
    simulation.block_on(0, async {
        let file = io.open(&ahead, OpenMode::Write).await.unwrap();
        let mut buffer = io.buffer(bytes.len().next_multiple_of(4096));
        buffer.truncate(bytes.len().next_multiple_of(4096));
        buffer.as_mut().fill(0);
        buffer.as_mut()[..bytes.len()].copy_from_slice(&bytes);
        file.write_at(buffer.freeze(), 0).await.unwrap();
        file.truncate(bytes.len() as u64).await.unwrap();
        file.sync_data().await.unwrap();
    });
    let configure = |life| snapshots_after(2000, life);
    let refused = try_start(&simulation, configure(2)).err().expect("refused");
    assert!(refused.contains("its end is missing"), "{refused}");
    assert!(refused.contains("--accept-lost-data"), "{refused}");
    simulation.kill(0);
    restart(&simulation);
    let broker = try_start(&simulation, |options| {
        configure(2)(options);
        options.storage.accept_lost_data = true;
    })
    .unwrap();
    let end: i64 = ahead.file_name().unwrap().to_str().unwrap()[..20]
        .parse()
        .unwrap();
    assert_eq!(log_start(&broker), Offset(end));
    let found = topics(&broker);
    assert!(!found.is_empty() && found.iter().all(|topic| known_later.contains(topic)));
    churn(&simulation, &broker, 80);
    let before = topics(&broker);
    drop(broker);
    simulation.power_cut(0);
    restart(&simulation);
    let broker = try_start(&simulation, configure(3)).unwrap();
    assert_eq!(topics(&broker), before);
}

#[test]
fn no_decision_waits_for_a_snapshot() {
    for fault in [Fault::NoSpace, Fault::Hang] {
        let simulation = Simulation::new(11, 1, 2);
        let broker = try_start(&simulation, snapshots_after(2000, 1)).unwrap();
        let rule = FaultRule::new(fault).path(".checkpoint.part");
        simulation.faults().add(rule);
        churn(&simulation, &broker, 1);
        assert!(simulation.faults().fired() > 0, "{fault:?}");
        assert_eq!(log_start(&broker), Offset::ZERO, "{fault:?}: cut");
        assert!(snapshot_files(&simulation).is_empty());
        simulation.faults().clear();
        simulation.release_hung(0);
        // What was given up is tried again.
        simulation.run_for(Duration::from_secs(11));
        assert!(!snapshot_files(&simulation).is_empty(), "{fault:?}");
        churn(&simulation, &broker, 40);
        assert!(log_start(&broker) > Offset::ZERO, "{fault:?}: not cut");
        assert_eq!(broker[0].storage.fence_reason(), None);
    }
}

/// What a life met that ended among removals, snapshots and deletions.
#[derive(Debug, Default)]
struct Met {
    /// Removals that the snapshot carries.
    carried: usize,
    /// Topics that were removed.
    removed: usize,
    /// Lives in which the metadata log was cut.
    cut: usize,
}

/// Topics with logs on shard 1, whose journal is slow, are removed while snapshots are written all the time; then it
/// ends. The next start knows what to do with every log.
fn ended(seed: u64, planted: Option<PlantedFault>) -> Result<Met, String> {
    let simulation = Simulation::new(seed, 1, 2);
    let configure = |life: u8| {
        move |options: &mut ShardOptions| {
            snapshots_after(250, life)(options);
            options.storage.planted = planted;
        }
    };
    let broker = try_start(&simulation, configure(1))?;
    let last = 16;
    simulation.block_on(0, async {
        for number in 1..=last {
            create(&broker[0], &format!("topic-{number}"), topic(number), 8).await;
            produce(&broker[0], elsewhere(&broker, topic(number))).await;
        }
        broker[0].io.sleep(Duration::from_secs(1)).await;
    });
    let logs: Vec<TopicPartition> = (1..=last)
        .map(|number| elsewhere(&broker, topic(number)))
        .collect();
    let slow = FaultRule::new(Fault::Slow).path("journal/1");
    simulation.faults().add(slow.per_million(400_000));
    let shard = broker[0].clone();
    simulation.spawn(0, 0, async move {
        for number in 1..last {
            delete(&shard, topic(number)).await;
            let pause = shard.io.random() % 8_000;
            shard.io.sleep(Duration::from_micros(pause)).await;
        }
    });
    let step = [1_700, 20_000][(seed % 2) as usize];
    simulation.run_for(Duration::from_micros(seed % 97 * step));
    let is_cut = log_start(&broker) > Offset::ZERO;
    drop(broker);
    match seed % 3 {
        0 => simulation.kill(0),
        _ => simulation.power_cut(0),
    }
    simulation.faults().clear();
    restart(&simulation);
    let broker =
        try_start(&simulation, configure(2)).map_err(|error| format!("{seed}: {error}"))?;
    let mut met = Met {
        cut: usize::from(is_cut),
        ..Met::default()
    };
    let (storage, io) = (broker[0].storage.clone(), broker[0].io.clone());
    met.carried = simulation.block_on(0, async move {
        let log = storage.log(METADATA).unwrap();
        let snapshot = storage.load_snapshot(&log).await.unwrap();
        io.sleep(Duration::from_secs(1)).await;
        let batches = snapshot.iter().flat_map(|snapshot| snapshot.batches());
        let records = batches.flat_map(|batch| read_records_owned(batch.unwrap().1).unwrap());
        let values = records.map(|record| MetadataRecord::decode(&record.value.unwrap()).unwrap());
        let is_removal = |record: &MetadataRecord| matches!(record, MetadataRecord::RemoveTopic(_));
        values.filter(is_removal).count()
    });
    for log in logs {
        let is_known = broker[0].image().topic_by_id(log.topic).is_some();
        let has_log = broker[1].storage.log(log).is_some();
        if is_known != has_log || segments_of(&simulation, "lost+found", log) > 0 {
            return Err(format!(
                "{seed}: {log} is known: {is_known}, is there: {has_log}"
            ));
        }
        if is_known && simulation.block_on(0, end_of(&broker, log)).0 != Offset(10) {
            return Err(format!("{seed}: {log} has lost records"));
        }
        met.removed += usize::from(!is_known);
    }
    Ok(met)
}

#[test]
fn removals_are_known_as_long_as_a_shard_may_have_their_logs() {
    let mut sum = Met::default();
    for seed in 0..80 {
        let met = ended(seed, None).unwrap();
        sum.carried += met.carried;
        sum.removed += met.removed;
        sum.cut += met.cut;
    }
    println!("{sum:?}");
    assert!(sum.carried > 0 && sum.removed > 0 && sum.cut > 0, "{sum:?}");
}

#[test]
fn removals_that_are_forgotten_early_are_noticed() {
    let planted = Some(PlantedFault::DeletionsConfirmedEarly);
    let noticed = (0..80).find_map(|seed| ended(seed, planted).err());
    let noticed = noticed.expect("nobody noticed");
    assert!(
        noticed.contains("that the metadata log does not know"),
        "{noticed}"
    );
}
