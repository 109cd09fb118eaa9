//! What a replica does with a log: cuts at every offset, batches as the leader has them, producers after a cut, whose data it is.

use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::Bytes;
use model::record::BatchBuilder;
use model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, ShardId, Timestamp};
use runtime::Io as _;
use runtime::sim::{SimIo, Simulation};
use storage::{
    AppendError, BrokerIdentity, CutError, Durability, FollowError, Log, OpenError, PlantedFault,
    ReadRequest, ReplicatedBatch, Storage, StorageOptions, TailRead, recover_data_dir,
};

use crate::harness::{
    Model, append, batch, context, info, listener, open_single, partition, pause, read_all, stored,
    tiny_log, tiny_options,
};

/// Base offset, offset behind, bytes of each batch.
type Contents = Vec<(Offset, Offset, Bytes)>;

async fn settle(log: &Rc<Log>, io: &SimIo) {
    while log.durable_end_offset() < log.log_end_offset() {
        pause(io, 50).await;
    }
}

async fn fill(storage: &Storage<SimIo>, io: &SimIo, model: &Model, log: &Rc<Log>, count: i64) {
    for number in 0..count {
        let size = (io.random() % 900) as usize;
        let bytes = batch(io, 3, size, 1_000 + 100 * number);
        storage.admit(bytes.len()).await.unwrap();
        append(storage, model, log, &bytes, Durability::Flushed).unwrap();
    }
    settle(log, io).await;
}

/// What is left of these batches by a cut at `to`.
fn left(contents: &Contents, to: Offset) -> Contents {
    let kept = contents.iter().filter(|(_, next, _)| *next <= to);
    kept.cloned().collect()
}

#[test]
fn a_log_cut_anywhere_goes_on_from_there_and_starts_again() {
    for seed in 0..40 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        let model = Model::default();
        let id = partition(1, 0);
        let options = tiny_options();
        let expected = simulation.block_on(0, async {
            let storage = open_single(&io, &options).await;
            storage.start(listener(&model));
            let log = storage.create_log(id, tiny_log());
            let mut expected = Contents::new();
            for _ in 0..6 {
                fill(&storage, &io, &model, &log, 60).await;
                let all = read_all(&storage, &log, 4000).await.unwrap();
                let to = Offset((io.random() % (log.log_end_offset().0 as u64 + 4)) as i64);
                let ends = storage.truncate(&[(log.clone(), to)]).await.unwrap();
                expected = left(&all, to);
                let end = expected.last().map_or(Offset::ZERO, |(_, next, _)| *next);
                assert_eq!(ends, [end], "seed {seed}");
                assert_eq!(log.log_end_offset(), end);
                assert_eq!(read_all(&storage, &log, 4000).await.unwrap(), expected);
                let newest = expected.iter().flat_map(|(base, _, bytes)| {
                    let header = model::record::BatchHeader::parse(bytes).unwrap();
                    (header.max_timestamp >= Timestamp(0)).then_some((header.max_timestamp, *base))
                });
                let newest = newest.max_by_key(|(timestamp, base)| (*timestamp, -base.0));
                let found = storage.offset_of_max_timestamp(&log, end).await.unwrap();
                let found = found.map(|found| (found.timestamp, found.offset));
                // The harness gives a batch's last record the largest timestamp.
                let newest = newest.map(|(timestamp, base)| (timestamp, base.plus(2)));
                assert_eq!(found, newest, "seed {seed}");
            }
            let bytes: usize = expected.iter().map(|(_, _, bytes)| bytes.len()).sum();
            assert_eq!(log.size_bytes(), bytes as u64);
            expected
        });
        if seed % 2 == 0 {
            simulation.power_cut(0);
        } else {
            simulation.kill(0);
        }
        let io = simulation.restart(0)[0].clone();
        simulation.block_on(0, async {
            let storage = open_single(&io, &options).await;
            let log = storage.log(id).unwrap();
            let found = read_all(&storage, &log, 4000).await.unwrap();
            assert_eq!(found, expected, "seed {seed}");
        });
    }
}

#[test]
fn space_behind_a_cut_is_given_back() {
    let simulation = Simulation::new(3, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let options = StorageOptions {
        spares_bytes_max: 0,
        ..tiny_options()
    };
    simulation.block_on(0, async {
        let storage = open_single(&io, &options).await;
        storage.start(listener(&model));
        let log = storage.create_log(partition(1, 0), tiny_log());
        fill(&storage, &io, &model, &log, 600).await;
        let cut = Offset(20);
        storage.truncate(&[(log.clone(), cut)]).await.unwrap();
        let bytes = || {
            let files = crate::harness::partition_files(&simulation);
            files.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
        };
        for _ in 0..2_000 {
            if bytes() < 50_000 {
                return;
            }
            pause(&io, 1_000).await;
        }
        panic!("{} bytes are left for {}", bytes(), log.size_bytes());
    });
}

#[test]
fn what_the_leader_sends_is_taken_as_it_is_or_not_at_all() {
    let simulation = Simulation::new(4, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let now = Timestamp(1 << 40);
    simulation.block_on(0, async {
        let storage = open_single(&io, &tiny_options()).await;
        storage.start(listener(&model));
        let log = storage.create_log(partition(1, 0), tiny_log());
        let at = |base: i64, epoch: i32| {
            stored(&batch(&io, 2, 50, 1_000), Offset(base), LeaderEpoch(epoch))
        };
        let send = |batches: &[&Bytes]| {
            let batches: Vec<_> = batches
                .iter()
                .map(|bytes| ReplicatedBatch {
                    bytes,
                    offset_delta_of_max_timestamp: 1,
                })
                .collect();
            storage.append_replicated(&log, &batches, Durability::Flushed, now)
        };
        let (first, second, third) = (at(0, 1), at(2, 1), at(9, 4));
        assert_eq!(send(&[&first, &second]), Ok(Offset(4)));
        assert_eq!(send(&[&third]), Ok(Offset(11)), "behind a gap");
        assert_eq!(
            storage.leader_epoch_at(&log, Offset(9)),
            Some(LeaderEpoch(4))
        );
        let mut damaged = at(13, 4).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let (damaged, sound) = (Bytes::from(damaged), at(11, 4));
        let refused = [
            (vec![&sound, &damaged], FollowError::Damaged(Offset(13))),
            (
                vec![&third],
                FollowError::NotNext {
                    found: Offset(9),
                    log_end_offset: Offset(11),
                },
            ),
        ];
        for (batches, error) in refused {
            assert_eq!(send(&batches), Err(error));
            assert_eq!(log.log_end_offset(), Offset(11), "nothing of it is taken");
        }
        let stale = at(11, 3);
        let error = AppendError::LeaderEpochStale {
            found: LeaderEpoch(3),
            latest: LeaderEpoch(4),
        };
        assert_eq!(send(&[&stale]), Err(error.into()));
        let short = sound.slice(..sound.len() - 1);
        assert_eq!(send(&[&short]), Err(AppendError::Malformed.into()));
        settle(&log, &io).await;
        let found = read_all(&storage, &log, 4000).await.unwrap();
        let bytes: Vec<Bytes> = found.into_iter().map(|(_, _, bytes)| bytes).collect();
        assert_eq!(bytes, [first, second, third]);
    });
}

/// What followers are given from memory is what the log holds, from wherever they are, with the record of each batch that
/// has the largest timestamp; the open commit group is no part of it.
#[test]
fn a_tail_is_read_as_it_was_sealed() {
    for seed in 0..10 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        let model = Model::default();
        simulation.block_on(0, async {
            let storage = open_single(&io, &tiny_options()).await;
            storage.start(listener(&model));
            let log = storage.create_log(partition(1, 0), tiny_log());
            let request = |from: Offset, end: Offset| ReadRequest {
                from,
                end,
                bytes_max: 2_000,
                at_least_one_batch: true,
            };
            let first = batch(&io, 3, 50, 1_000);
            append(&storage, &model, &log, &first, Durability::Flushed).unwrap();
            let read = storage.read_tail(&log, &request(Offset(0), Offset(3)));
            assert!(
                matches!(read, Ok(TailRead::Nothing)),
                "not sealed: {read:?}"
            );
            fill(&storage, &io, &model, &log, 300).await;
            settle(&log, &io).await;
            let all = read_all(&storage, &log, 4000).await.unwrap();
            let end = log.log_end_offset();
            let (mut in_memory, mut in_segments) = (0, 0);
            for (number, (base, _, _)) in all.iter().enumerate() {
                match storage.read_tail(&log, &request(*base, end)).unwrap() {
                    TailRead::InSegments => in_segments += 1,
                    TailRead::Nothing => panic!("seed {seed}: nothing at {base}"),
                    TailRead::Batches(read, deltas) => {
                        in_memory += 1;
                        let found: Vec<u8> = read.batches.concat();
                        let expected = all[number..number + deltas.len()].iter();
                        let expected: Vec<Bytes> = expected.map(|one| one.2.clone()).collect();
                        assert_eq!(found, expected.concat(), "seed {seed}");
                        // The harness gives a batch's last record the largest timestamp.
                        for (delta, bytes) in deltas.iter().zip(&expected) {
                            let header = model::record::BatchHeader::parse(bytes).unwrap();
                            assert_eq!(*delta, header.last_offset_delta);
                        }
                    }
                }
            }
            assert!(in_memory > 0 && in_segments > 0, "seed {seed}");
            let read = storage.read_tail(&log, &request(end, end)).unwrap();
            assert!(matches!(read, TailRead::Nothing));
        });
    }
}

#[test]
fn cuts_are_refused_with_a_reason() {
    let simulation = Simulation::new(6, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    simulation.block_on(0, async {
        let storage = open_single(&io, &tiny_options()).await;
        storage.start(listener(&model));
        let log = storage.create_log(partition(1, 0), tiny_log());
        fill(&storage, &io, &model, &log, 10).await;
        storage.advance_log_start(&log, Offset(9)).unwrap();
        let below = storage.truncate(&[(log.clone(), Offset(8))]).await;
        assert!(
            matches!(below, Err(CutError::BelowStart { .. })),
            "{below:?}"
        );
        let twice = [(log.clone(), Offset(12)), (log.clone(), Offset(12))];
        let busy = storage.truncate(&twice).await;
        assert!(matches!(busy, Err(CutError::Busy)), "{busy:?}");
        // The hold of the attempt before is gone.
        storage.reset(&log, Offset(100)).await.unwrap();
        assert_eq!(
            (
                log.log_start_offset(),
                log.log_end_offset(),
                log.size_bytes()
            ),
            (Offset(100), Offset(100), 0)
        );
        storage.delete_log(log.id());
        let gone = storage.truncate(&[(log.clone(), Offset(100))]).await;
        assert!(matches!(gone, Err(CutError::Deleted)), "{gone:?}");
    });
}

/// Whether, after a cut, batches of idempotent producers are judged by what is left, through restarts and both ways to get
/// there: undoing, and learning anew.
fn producers_after_a_cut(seed: u64, planted: Option<PlantedFault>) -> Result<(), String> {
    let simulation = Simulation::new(seed, 1, 1);
    let mut io = simulation.io(0, 0);
    let options = StorageOptions {
        planted,
        ..tiny_options()
    };
    // Of each producer the next sequence, by offset of its batches.
    let mut sent: BTreeMap<Offset, (i64, i32)> = BTreeMap::new();
    for life in 0..3 {
        let model = Model::default();
        simulation.block_on(0, async {
            let storage = open_single(&io, &options).await;
            storage.start(listener(&model));
            let log = storage.create_log(partition(1, 0), tiny_log());
            for _ in 0..4 {
                for _ in 0..40 {
                    let producer = (io.random() % 4) as i64;
                    let known = sent.values().filter(|(id, _)| *id == producer);
                    let sequence = known.map(|(_, next)| *next).max().unwrap_or(0);
                    let mut builder = BatchBuilder::new().producer(
                        ProducerId(producer),
                        ProducerEpoch(0),
                        sequence,
                    );
                    builder.push(Timestamp(1_000), None, Some(&[7; 300]));
                    let bytes = builder.build().unwrap();
                    storage.admit(bytes.len()).await.unwrap();
                    let context = context(Durability::Flushed);
                    let appended = storage
                        .append(&log, &bytes, &info(&bytes), context)
                        .map_err(|error| format!("seed {seed}, life {life}: {error}"))?;
                    if appended.duplicate {
                        return Err(format!("seed {seed}, life {life}: taken for a duplicate"));
                    }
                    sent.insert(appended.base_offset, (producer, sequence + 1));
                }
                settle(&log, &io).await;
                let end = log.log_end_offset().0;
                // What is on enough replicas is not cut in a clean election; one that is not clean learns anew.
                let high_watermark = Offset(end - (io.random() % 30).min(end as u64) as i64);
                log.set_high_watermark(high_watermark.max(log.high_watermark()));
                let to = Offset(end - (io.random() % 60).min(end as u64) as i64);
                storage.truncate(&[(log.clone(), to)]).await.unwrap();
                sent.retain(|offset, _| *offset < to);
            }
            Ok(())
        })?;
        simulation.kill(0);
        io = simulation.restart(0)[0].clone();
    }
    Ok(())
}

#[test]
fn producers_are_judged_by_what_a_cut_leaves() {
    for seed in 0..30 {
        producers_after_a_cut(seed, None).unwrap();
    }
    let planted = Some(PlantedFault::CutKeepsProducers);
    // An assertion may come first.
    let is_noticed = (0..5).any(|seed| {
        let run = || producers_after_a_cut(seed, planted);
        !matches!(std::panic::catch_unwind(run), Ok(Ok(())))
    });
    assert!(is_noticed, "producers that a cut leaves as they were");
}

#[test]
fn the_data_of_another_broker_is_refused() {
    let simulation = Simulation::new(7, 1, 1);
    let io = simulation.io(0, 0);
    let model = Model::default();
    let identity = BrokerIdentity {
        cluster_id: "ring".to_owned(),
        node_id: 1,
        directory_id: [5; 16],
        broker_epoch: -1,
    };
    let options = |identity: Option<&BrokerIdentity>| StorageOptions {
        identity: identity.cloned(),
        ..tiny_options()
    };
    simulation.block_on(0, async {
        let recover = async |identity: Option<&BrokerIdentity>| {
            recover_data_dir(&io, &options(identity), |_| ShardId(0), 1).await
        };
        // Data that says nothing is adopted.
        assert_eq!(recover(None).await.unwrap().broker_epoch, None);
        recover(Some(&identity)).await.unwrap();
        let opened = Storage::open(io.clone(), options(Some(&identity))).await;
        let storage = opened.unwrap();
        storage.start(listener(&model));
        storage.set_broker_epoch(17);
        storage.shutdown().await.unwrap();
        let report = recover(Some(&identity)).await.unwrap();
        assert_eq!((report.clean, report.broker_epoch), (true, Some(17)));
        let other = BrokerIdentity {
            directory_id: [6; 16],
            ..identity.clone()
        };
        let refused = recover(Some(&other)).await;
        assert!(
            matches!(refused, Err(OpenError::OtherBroker { .. })),
            "{refused:?}"
        );
        // Not stopped in order: it proves nothing.
        let opened = Storage::open(io.clone(), options(Some(&identity))).await;
        drop(opened.unwrap());
        assert_eq!(recover(Some(&identity)).await.unwrap().broker_epoch, None);
    });
}
