//! Transactions of a log: which records are stable, which were aborted, and what a cut or a damaged file changes of that.

use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use model::record::{BatchBuilder, BatchHeader, ControlRecord, EndMarker, control};
use model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};
use runtime::sim::{SimIo, Simulation};
use runtime::{Io as _, Snapshot};
use storage::{
    AbortedTransaction, AppendContext, AppendError, Durability, FollowError, Log, LogConfig,
    ProducerStates, ReplicatedBatch, SequenceCheck, Storage, StorageOptions,
};

use crate::harness::{
    Model, append_as, context, listener, open_single, partition, partition_files, pause, stored,
    tiny_log, tiny_options, verify_transactions,
};
use crate::transaction_model::{end_of, next_step, records_of};

/// What comes next in a log.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Records of a transaction: producer, epoch, sequence.
    Data(i64, i16, i32),
    /// Records outside any.
    Plain(i64, i16, i32),
    /// The end of a transaction: producer, epoch, epoch of the coordinator.
    Commit(i64, i16, i32),
    Abort(i64, i16, i32),
    /// A control record that ends nothing.
    Other(i64, i16),
}

/// What became of it, if not an append.
#[derive(Debug, PartialEq)]
enum Refusal {
    Duplicate,
    OutOfOrder,
    Fenced,
    Open(i64),
    Coordinator,
}

fn batch_of(step: Step, base_offset: i64) -> (BatchHeader, Option<ControlRecord>) {
    let records = |producer, epoch, sequence, transactional| {
        let mut builder = BatchBuilder::new()
            .producer(ProducerId(producer), ProducerEpoch(epoch), sequence)
            .transactional(transactional);
        builder.push(Timestamp(1), None, Some(b"v"));
        builder.build().unwrap()
    };
    let end = |producer, epoch, coordinator, marker| {
        let (producer, epoch) = (ProducerId(producer), ProducerEpoch(epoch));
        control::end_marker_batch(marker, producer, epoch, coordinator, Timestamp(1)).unwrap()
    };
    let bytes = match step {
        Step::Data(producer, epoch, sequence) => records(producer, epoch, sequence, true),
        Step::Plain(producer, epoch, sequence) => records(producer, epoch, sequence, false),
        Step::Commit(producer, epoch, coordinator) => {
            end(producer, epoch, coordinator, EndMarker::Commit)
        }
        Step::Abort(producer, epoch, coordinator) => {
            end(producer, epoch, coordinator, EndMarker::Abort)
        }
        Step::Other(producer, epoch) => {
            let mut builder = BatchBuilder::new()
                .producer(ProducerId(producer), ProducerEpoch(epoch), -1)
                .control(true);
            builder.push(Timestamp(1), Some(&[0, 0, 0, 5]), Some(b"x"));
            builder.build().unwrap()
        }
    };
    let control = BatchHeader::parse(&bytes).unwrap().is_control();
    let control = control.then(|| model::record::read_control_batch(&bytes).unwrap());
    let bytes = stored(&bytes, Offset(base_offset), LeaderEpoch(0));
    (BatchHeader::parse(&bytes).unwrap(), control.flatten())
}

/// Judges a batch and learns it if it is taken.
fn take(states: &mut ProducerStates, step: Step, end: i64) -> Result<(), Refusal> {
    let (batch, control) = batch_of(step, end);
    match states.check(&batch, control) {
        Ok(SequenceCheck::Append) => {
            states.learn(&batch, control, Timestamp(5));
            Ok(())
        }
        Ok(SequenceCheck::Duplicate(_)) => Err(Refusal::Duplicate),
        Err(AppendError::OutOfOrderSequence { .. }) => Err(Refusal::OutOfOrder),
        Err(AppendError::InvalidProducerEpoch { .. }) => Err(Refusal::Fenced),
        Err(AppendError::TransactionOpen { first_offset }) => Err(Refusal::Open(first_offset.0)),
        Err(AppendError::CoordinatorFenced { .. }) => Err(Refusal::Coordinator),
        Err(error) => panic!("{error}"),
    }
}

/// Producer, first offset, marker, last stable offset behind it.
fn aborted(states: &ProducerStates) -> Vec<(i64, i64, i64, i64)> {
    let all = states.aborted();
    all.map(|one| {
        (
            one.producer_id.0,
            one.first_offset.0,
            one.last_offset.0,
            one.last_stable_offset.0,
        )
    })
    .collect()
}

/// What comes, how it is judged, the first unstable offset with a high watermark at the end, and with one at 0.
type Row = (Step, Result<(), Refusal>, Option<i64>, Option<i64>);

#[test]
fn transactions_open_and_end_as_in_kafka() {
    use Step::{Abort, Commit, Data, Other, Plain};
    let rows: [Row; 25] = [
        (Plain(1, 0, 0), Ok(()), None, None),
        // Nothing to end.
        (Commit(1, 0, 3), Ok(()), None, None),
        (Data(1, 0, 1), Ok(()), Some(2), Some(2)),
        (Data(1, 0, 1), Err(Refusal::Duplicate), Some(2), Some(2)),
        (Data(2, 0, 7), Ok(()), Some(2), Some(2)),
        (Data(1, 0, 2), Ok(()), Some(2), Some(2)),
        // Records outside the transaction.
        (Plain(1, 0, 3), Err(Refusal::Open(2)), Some(2), Some(2)),
        (Other(1, 0), Ok(()), Some(2), Some(2)),
        // A former coordinator, a former producer.
        (Abort(1, 0, 2), Err(Refusal::Coordinator), Some(2), Some(2)),
        (Abort(1, -1, 3), Err(Refusal::Fenced), Some(2), Some(2)),
        (Abort(1, 0, 3), Ok(()), Some(3), Some(2)),
        (Commit(2, 0, 3), Ok(()), None, Some(2)),
        // Ended twice: once.
        (Abort(1, 0, 3), Ok(()), None, Some(2)),
        // The marker begins a new epoch, as with transactions of version 2: sequences begin anew.
        (Data(1, 0, 3), Ok(()), Some(9), Some(2)),
        (Abort(1, 1, 4), Ok(()), None, Some(2)),
        (Data(1, 0, 4), Err(Refusal::Fenced), None, Some(2)),
        (Data(1, 1, 4), Err(Refusal::OutOfOrder), None, Some(2)),
        (Data(1, 1, 0), Ok(()), Some(11), Some(2)),
        // A producer that takes over goes on in the transaction: only a marker ends it.
        (Data(1, 2, 0), Ok(()), Some(11), Some(2)),
        (Commit(1, 2, 4), Ok(()), None, Some(2)),
        (Plain(1, 2, 1), Ok(()), None, Some(2)),
        // Of a producer that nobody knows any sequence is right, after a marker only the first.
        (Commit(3, 5, 4), Ok(()), None, Some(2)),
        (Data(3, 5, 4), Err(Refusal::OutOfOrder), None, Some(2)),
        (Data(3, 5, 0), Ok(()), Some(16), Some(2)),
        (Abort(3, 5, 4), Ok(()), None, Some(2)),
    ];
    let mut states = ProducerStates::default();
    let mut end = 0;
    for (number, (step, judged, at_end, at_start)) in rows.into_iter().enumerate() {
        let outcome = take(&mut states, step, end);
        end += i64::from(outcome.is_ok());
        assert_eq!(outcome, judged, "row {number}: {step:?}");
        for (high_watermark, first) in [(end, at_end), (0, at_start)] {
            let found = states.first_unstable_offset(Offset(high_watermark));
            let found = found.map(|first| first.0);
            assert_eq!(found, first, "row {number}: {step:?} at {high_watermark}");
        }
    }
    let expected = [(1, 2, 6, 3), (1, 9, 10, 11), (3, 16, 17, 18)];
    assert_eq!(aborted(&states), expected);
    // Below the high watermark nothing is unstable any more, whatever is asked.
    states.settle(Offset(end));
    assert_eq!(states.first_unstable_offset(Offset(0)), None);
}

/// All that can be asked of producers.
fn view(states: &ProducerStates) -> impl PartialEq + std::fmt::Debug + use<> {
    let producers: Vec<_> = (0..6)
        .map(|id| states.get(ProducerId(id)).cloned())
        .collect();
    let unstable: Vec<_> = (0..80)
        .map(|high_watermark| states.first_unstable_offset(Offset(high_watermark)))
        .collect();
    (producers, unstable, aborted(states), states.len())
}

#[test]
fn what_is_cut_off_was_never_there() {
    for seed in 0..60 {
        let io = Simulation::new(seed, 1, 1).io(0, 0);
        let mut states = ProducerStates::default();
        let mut history = vec![states.clone()];
        let mut steps = Vec::new();
        for end in 0..80 {
            let producer = 1 + (io.random() % 4) as i64;
            let known = states.get(ProducerId(producer));
            let epoch = known.map_or(0, |known| known.epoch.0);
            let sequence = known
                .and_then(|known| known.batches.last())
                .map_or(0, |last| last.last_sequence + 1);
            let is_open = known.is_some_and(|known| known.transaction.is_some());
            let step = match io.random() % 8 {
                0 => Step::Commit(producer, epoch, 1),
                1 => Step::Abort(producer, epoch, 1),
                2 => Step::Abort(producer, epoch + 1, 1),
                3 => Step::Data(producer, epoch + 1, 0),
                4 if !is_open => Step::Plain(producer, epoch, sequence),
                _ => Step::Data(producer, epoch, sequence),
            };
            assert_eq!(take(&mut states, step, end), Ok(()), "{step:?}");
            steps.push(step);
            history.push(states.clone());
        }
        for (end, before) in history.iter().enumerate() {
            let mut cut = states.clone();
            let to = Offset(end as i64);
            assert!(cut.reaches(to));
            cut.truncate(to);
            assert_eq!(view(&cut), view(before), "seed {seed}, cut at {end}");
            // And goes on from there as it did.
            for (number, step) in steps.iter().enumerate().skip(end) {
                let (batch, control) = batch_of(*step, number as i64);
                cut.learn(&batch, control, Timestamp(5));
            }
            assert_eq!(view(&cut), view(&states), "seed {seed}, again from {end}");
        }
    }
}

#[test]
fn producers_with_an_open_transaction_are_not_forgotten() {
    let mut states = ProducerStates::default();
    let mut end = 0;
    let mut learn = |states: &mut ProducerStates, step| {
        let (batch, control) = batch_of(step, end);
        let room = states.check_room(&batch);
        if room.is_ok() {
            states.learn(&batch, control, Timestamp(end));
            end += 1;
        }
        room
    };
    let open_max = 5_000;
    for producer in 0..open_max {
        assert_eq!(learn(&mut states, Step::Data(producer, 0, 0)), Ok(()));
    }
    let full = Err(AppendError::TooManyTransactions { open: 5_000 });
    assert_eq!(learn(&mut states, Step::Data(open_max, 0, 0)), full);
    assert_eq!(
        learn(&mut states, Step::Data(3, 0, 1)),
        Ok(()),
        "it goes on"
    );
    // Twice as many others as there is room for.
    for producer in 0..20_000 {
        let step = Step::Plain(100_000 + producer, 0, 0);
        assert_eq!(learn(&mut states, step), Ok(()));
    }
    assert!(states.len() <= 10_000, "{} producers", states.len());
    states.expire(Timestamp(i64::MAX), 1);
    assert_eq!(states.len(), 5_000, "all others have expired");
    for producer in 0..open_max {
        let known = states.get(ProducerId(producer)).unwrap();
        assert_eq!(known.transaction, Some(Offset(producer)));
    }
    assert_eq!(learn(&mut states, Step::Abort(7, 0, 0)), Ok(()));
    assert_eq!(learn(&mut states, Step::Data(open_max, 0, 0)), Ok(()));
}

/// A storage with one log that many transactions were appended to.
struct Filled {
    storage: Storage<SimIo>,
    model: Model,
    log: Rc<Log>,
}

fn unchecked() -> AppendContext {
    AppendContext {
        check_producer: false,
        ..context(Durability::Flushed)
    }
}

fn options() -> StorageOptions {
    StorageOptions {
        cache_bytes_max: 512 << 10,
        ..tiny_options()
    }
}

fn settings() -> LogConfig {
    LogConfig {
        segment_bytes: 60 << 10,
        ..tiny_log()
    }
}

impl Filled {
    async fn new(io: &SimIo, batches: usize, next: impl FnMut(usize) -> Bytes) -> Filled {
        let storage = open_single(io, &options()).await;
        let model = Model::default();
        storage.start(listener(&model));
        let log = storage.create_log(partition(1, 0), settings());
        let filled = Filled {
            storage,
            model,
            log,
        };
        filled.append(io, batches, next).await;
        filled
    }

    async fn append(&self, io: &SimIo, batches: usize, mut next: impl FnMut(usize) -> Bytes) {
        for number in 0..batches {
            let bytes = next(number);
            self.storage.admit(bytes.len()).await.unwrap();
            append_as(&self.storage, &self.model, &self.log, &bytes, unchecked()).unwrap();
        }
        while self.log.durable_end_offset() < self.log.log_end_offset() {
            pause(io, 50).await;
        }
    }

    async fn check(&self, why: &str) {
        let transactions = self.model.borrow()[&self.log.id()].transactions();
        let checked = verify_transactions(&self.storage, &self.log, &transactions).await;
        let aborted = checked.unwrap_or_else(|error| panic!("{why}: {error}"));
        assert!(aborted > 0, "{why}: none was aborted");
    }

    async fn all(&self) -> Vec<AbortedTransaction> {
        let (from, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        let all = self.storage.aborted_transactions(&self.log, from, end);
        all.await.unwrap()
    }

    fn rebuilt(&self) -> u64 {
        let mut counted = Snapshot::new();
        self.storage.snapshot_into(&mut counted);
        counted.total("ringlog_transaction_indexes_rebuilt_total")
    }

    async fn again(io: &SimIo, model: &Model) -> Filled {
        let storage = open_single(io, &options()).await;
        storage.start(listener(model));
        assert!(storage.log(partition(1, 0)).is_some());
        let log = storage.create_log(partition(1, 0), settings());
        Filled {
            storage,
            model: model.clone(),
            log,
        }
    }
}

fn index_files(simulation: &Simulation) -> Vec<(PathBuf, Bytes)> {
    let mut files = partition_files(simulation);
    files.retain(|(path, _)| path.extension().is_some_and(|kind| kind == "txnindex"));
    files
}

/// Short transactions, one behind the other; every fourth is committed. One that stays open begins before them.
fn short(number: usize) -> Bytes {
    let producer = 2 + (number / 2 % 7) as i64;
    match (number, number % 8) {
        (0, _) => records_of(1, 1, b"open", 1_000),
        (_, 0 | 2 | 4 | 6) => records_of(producer, 1, b"v", 1_000),
        (_, 7) => end_of(producer, EndMarker::Commit, 1_000),
        _ => end_of(producer, EndMarker::Abort, 1_000),
    }
}

#[test]
fn many_aborted_transactions_fill_pages_and_are_found_again() {
    let simulation = Simulation::new(5, 1, 1);
    let io = simulation.io(0, 0);
    let model = simulation.block_on(0, async {
        let filled = Filled::new(&io, 12_000, short).await;
        filled.check("while it runs").await;
        assert!(filled.log.segment_count() > 5);
        filled.model
    });
    let largest = index_files(&simulation)
        .iter()
        .map(|(_, bytes)| bytes.len())
        .max();
    assert!(largest >= Some(2 * 4096), "several pages: {largest:?}");
    simulation.power_cut(0);
    let io = simulation.restart(0)[0].clone();
    simulation.block_on(0, async {
        let filled = Filled::again(&io, &model).await;
        filled.check("after a start").await;
        assert_eq!(filled.rebuilt(), 0, "nothing was damaged");
        // What is left of a segment that is gone is nothing.
        let to = Offset(filled.log.log_end_offset().0 / 2);
        let mark = filled.storage.advance_log_start(&filled.log, to).unwrap();
        filled.storage.wait_for_mark(mark).await.unwrap();
        filled.check("behind the new start").await;
        filled.storage.enforce_retention(Timestamp(1 << 40));
        io.sleep(std::time::Duration::from_secs(1)).await;
        filled.check("when segments are gone").await;
    });
    for (path, _) in index_files(&simulation) {
        let log = path.with_extension("log");
        let is_there = simulation.file_bytes(0, &log).is_some();
        assert!(is_there, "{} is of no segment", path.display());
    }
}

#[test]
fn one_large_segment_is_searched_by_halves() {
    let simulation = Simulation::new(6, 1, 1);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let storage = open_single(&io, &options()).await;
        let model = Model::default();
        storage.start(listener(&model));
        let log = storage.create_log(
            partition(1, 0),
            LogConfig {
                segment_bytes: 8 << 20,
                ..settings()
            },
        );
        let filled = Filled {
            storage,
            model,
            log,
        };
        // 6,000 of them are 48 pages, three runs.
        filled.append(&io, 16_000, short).await;
        filled.check("all").await;
        let all = filled.all().await;
        assert_eq!(all.len(), 5_999, "the first marker ended nothing");
        let end = filled.log.log_end_offset();
        for one in all.iter().step_by(97) {
            let (from, behind) = (one.last_offset, one.last_offset.plus(1));
            let aborted = |from, end| filled.storage.aborted_transactions(&filled.log, from, end);
            let found = aborted(from, behind).await.unwrap();
            assert_eq!(found, [*one]);
            let found = aborted(from, end).await.unwrap();
            let expected = all.iter().filter(|other| other.last_offset >= from);
            assert!(found.iter().eq(expected), "from {from}");
        }
    });
    let pages: usize = index_files(&simulation)
        .iter()
        .map(|(_, bytes)| bytes.len() / 4096)
        .sum();
    assert!(pages > 32, "{pages} pages");
}

#[test]
fn damaged_and_missing_indexes_are_read_from_the_log_again() {
    for seed in 0..12 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        let (model, expected) = simulation.block_on(0, async {
            let filled = Filled::new(&io, 5_000, |number| match seed % 2 {
                0 => short(number),
                _ => next_step(&io, 1_000),
            });
            let filled = filled.await;
            filled.check("before").await;
            let expected = filled.all().await;
            filled.storage.shutdown().await.unwrap();
            (filled.model.clone(), expected)
        });
        simulation.kill(0);
        let files = index_files(&simulation);
        assert!(files.len() > 3, "seed {seed}: {} files", files.len());
        let io = simulation.restart(0)[0].clone();
        simulation.block_on(0, async {
            for (number, (path, bytes)) in files.iter().enumerate() {
                let at = (seed as usize * 977 + number * 131) % bytes.len();
                match (seed as usize + number) % 3 {
                    0 => simulation.flip_bit(0, path, at as u64, 3),
                    1 => io.remove_file(path).await.unwrap(),
                    _ => {}
                }
            }
            let filled = Filled::again(&io, &model).await;
            let all = filled.all().await;
            assert_eq!(all, expected, "seed {seed}");
            filled.check("damaged").await;
            assert!(filled.rebuilt() > 0, "seed {seed}: nothing was noticed");
            filled.storage.shutdown().await.unwrap();
        });
        simulation.kill(0);
        let io = simulation.restart(0)[0].clone();
        simulation.block_on(0, async {
            let filled = Filled::again(&io, &model).await;
            assert_eq!(filled.all().await, expected, "seed {seed}");
            assert_eq!(filled.rebuilt(), 0, "seed {seed}: it was stored");
        });
    }
}

#[test]
fn cuts_reopen_what_they_take_the_end_of() {
    for seed in 0..20 {
        let simulation = Simulation::new(seed, 1, 1);
        let io = simulation.io(0, 0);
        let model = simulation.block_on(0, async {
            let filled = Filled::new(&io, 400, |_| next_step(&io, 1_000)).await;
            let log = &filled.log;
            for round in 0..6 {
                // Below it nothing can be undone: then producers are learned anew.
                if round % 2 == 1 {
                    log.set_high_watermark(log.durable_end_offset());
                }
                let back = (io.random() % log.log_end_offset().0 as u64 / 2) as i64;
                let to = Offset(log.log_end_offset().0 - back);
                let cut = [(log.clone(), to)];
                let ends = filled.storage.truncate(&cut).await.unwrap();
                let known = |log| {
                    filled
                        .model
                        .borrow_mut()
                        .entry(log)
                        .or_default()
                        .is_cut(ends[0])
                };
                known(log.id());
                filled.check(&format!("seed {seed}, cut at {to}")).await;
                filled.append(&io, 150, |_| next_step(&io, 1_000)).await;
                filled.check(&format!("seed {seed}, behind {to}")).await;
            }
            filled.model.clone()
        });
        simulation.power_cut(0);
        let io = simulation.restart(0)[0].clone();
        simulation.block_on(0, async {
            let filled = Filled::again(&io, &model).await;
            filled.check(&format!("seed {seed}, after a start")).await;
            let log = &filled.log;
            filled.storage.reset(log, Offset(100_000)).await.unwrap();
            assert_eq!(log.last_stable_offset(), log.high_watermark());
            let all = filled.all().await;
            assert_eq!(all, [], "seed {seed}: it is empty");
        });
    }
}

#[test]
fn a_leader_that_sends_a_damaged_marker_is_refused() {
    let simulation = Simulation::new(1, 1, 1);
    let io = simulation.io(0, 0);
    simulation.block_on(0, async {
        let storage = open_single(&io, &tiny_options()).await;
        storage.start(listener(&Model::default()));
        let log = storage.create_log(partition(4, 0), tiny_log());
        let send = |bytes: &Bytes| {
            let bytes = stored(bytes, log.log_end_offset(), LeaderEpoch(1));
            let batch = ReplicatedBatch {
                bytes: &bytes,
                offset_delta_of_max_timestamp: 0,
            };
            storage.append_replicated(&log, &[batch], Durability::Flushed, Timestamp(1))
        };
        send(&records_of(1, 3, b"v", 1)).unwrap();
        let mut builder = BatchBuilder::new()
            .producer(ProducerId(1), ProducerEpoch(0), -1)
            .transactional(true)
            .control(true);
        builder.push(Timestamp(1), Some(&[0, 0]), Some(b""));
        let damaged = builder.build().unwrap();
        assert_eq!(send(&damaged), Err(FollowError::Damaged(Offset(3))));
        assert_eq!(log.log_end_offset(), Offset(3));
        send(&end_of(1, EndMarker::Abort, 1)).unwrap();
        assert_eq!(log.last_stable_offset(), Offset(0), "not on the device yet");
        while log.durable_end_offset() < log.log_end_offset() {
            pause(&io, 50).await;
        }
        log.set_high_watermark(Offset(3));
        assert_eq!(
            log.last_stable_offset(),
            Offset(0),
            "its end may be cut off"
        );
        log.set_high_watermark(Offset(4));
        assert_eq!(log.last_stable_offset(), Offset(4));
    });
}
