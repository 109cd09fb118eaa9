//! A shard's storage under load, and a model of what it must still know after a crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::record::{
    BatchBuilder, BatchHeader, BatchInfo, Batches, Compression, DecompressionScratch,
    ValidationRules, set_base_offset, set_leader_epoch, validate,
};
use model::{LeaderEpoch, Offset, PartitionIndex, ShardId, Timestamp, TopicId, TopicPartition};
use runtime::Io;
use runtime::sim::{SimIo, Simulation};
use storage::{
    AppendContext, AppendError, Appended, CommitListener, CommitTimes, Durability, FlushMethod,
    Log, LogConfig, QuorumState, ReadRequest, Storage, StorageOptions, recover_data_dir,
};

use crate::transaction_model::{Transaction, check_aborted, check_stable, transactions_of};

pub(crate) const DIRECTORY: &str = "/data";

pub(crate) fn partition(topic: u8, index: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId([topic; 16]),
        partition: PartitionIndex(index),
    }
}

/// Everything tiny, so that rolls, checkpoints and recycling happen all the time.
pub(crate) fn tiny_options() -> StorageOptions {
    StorageOptions {
        directory: PathBuf::from(DIRECTORY),
        journal_first_file_bytes: 128 << 10,
        journal_file_bytes: 192 << 10,
        journal_bytes_max: 1 << 20,
        group_bytes_max: 32 << 10,
        group_overlap_bytes_min: 4 << 10,
        tail_bytes_max: 192 << 10,
        cache_bytes_max: 64 << 10,
        open_files_max: 8,
        flush_method: FlushMethod::DurableWrite,
        segment_write_bytes: 6 << 10,
        carry_bytes_max: 2 << 10,
        index_chunk_bytes: 1 << 10,
        extent_bytes: 8 << 10,
        sync_files_max: 4,
        spares_bytes_max: 256 << 10,
        spare_bytes_min: 8 << 10,
        segment_writers: 2,
        ..StorageOptions::default()
    }
}

pub(crate) fn tiny_log() -> LogConfig {
    LogConfig {
        segment_bytes: 40 << 10,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

/// A batch of `count` records of `value_bytes` random bytes.
pub(crate) fn batch(io: &SimIo, count: usize, value_bytes: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in 0..count {
        let mut value = vec![0; value_bytes];
        for piece in value.chunks_mut(8) {
            piece.copy_from_slice(&io.random().to_le_bytes()[..piece.len()]);
        }
        builder.push(Timestamp(timestamp + record as i64), None, Some(&value));
    }
    builder.build().unwrap()
}

pub(crate) fn info(batch: &[u8]) -> BatchInfo {
    let header = BatchHeader::parse(batch).unwrap();
    if header.is_control() {
        // No client may send one.
        return BatchInfo {
            header,
            size_bytes: batch.len(),
            compression: Compression::None,
            max_timestamp: header.max_timestamp,
            offset_delta_of_max_timestamp: 0,
            timestamp_patch_needed: false,
        };
    }
    let mut scratch = DecompressionScratch::new();
    let rules = ValidationRules {
        batch_bytes_max: 1 << 30,
        timestamp_after_ms_max: i64::MAX,
        ..ValidationRules::default()
    };
    validate(batch, &rules, Timestamp(1 << 40), &mut scratch).unwrap()
}

pub(crate) fn context(durability: Durability) -> AppendContext {
    AppendContext {
        leader_epoch: LeaderEpoch(3),
        durability,
        now: Timestamp(1 << 40),
        log_append_time: None,
        check_producer: true,
    }
}

/// The bytes that the log must hold for a batch.
pub(crate) fn stored(batch: &[u8], base_offset: Offset, leader_epoch: LeaderEpoch) -> Bytes {
    let mut bytes = batch.to_vec();
    set_base_offset(&mut bytes, base_offset).unwrap();
    set_leader_epoch(&mut bytes, leader_epoch).unwrap();
    Bytes::from(bytes)
}

/// What one log must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelLog {
    /// Batches that were handed in, by base offset: the last attempt at each offset.
    pub(crate) attempted: BTreeMap<Offset, (Offset, Bytes)>,
    /// Reported as committed below this offset.
    pub(crate) acknowledged_end: Offset,
    /// Where DeleteRecords was acknowledged to.
    pub(crate) start: Offset,
    /// The highest start that was asked for or that retention may have set.
    pub(crate) start_max: Offset,
    /// Where the log ended before a batch that does not follow the one before it.
    pub(crate) gaps: BTreeMap<Offset, Offset>,
    /// A cut is under way: what lies at or behind this offset may be gone.
    pub(crate) cut: Option<Offset>,
    /// A reset is under way: the log may be empty and begin here.
    pub(crate) reset: Option<Offset>,
    /// What the quorum's state may be: the last that is durable, and one that may be.
    pub(crate) quorum: Vec<QuorumState>,
    /// The latest epoch that is durable.
    pub(crate) epoch: i32,
    pub(crate) written_only: bool,
    pub(crate) deleted: bool,
}

impl ModelLog {
    /// The end of the last batch that ends at or before `to`.
    pub(crate) fn border(&self, to: Offset) -> Offset {
        let ends = self.attempted.values().map(|(next, _)| *next);
        ends.filter(|next| *next <= to).max().unwrap_or(self.start)
    }

    /// Transactions of all that was appended and not cut off.
    pub(crate) fn transactions(&self) -> Vec<Transaction> {
        transactions_of(self.attempted.values().map(|(_, bytes)| bytes))
    }

    /// A cut is durable.
    pub(crate) fn is_cut(&mut self, end: Offset) {
        // A batch that the log begins in goes with a cut that would leave a part of it.
        self.attempted.retain(|_, (next, _)| *next <= end);
        self.gaps.retain(|base, _| *base < end);
        self.acknowledged_end = self.acknowledged_end.min(end);
        self.cut = None;
    }

    /// A reset is durable.
    pub(crate) fn is_empty_from(&mut self, start: Offset) {
        self.attempted.clear();
        self.gaps.clear();
        self.acknowledged_end = start;
        self.start = start;
        self.start_max = self.start_max.max(start);
        self.reset = None;
    }

    /// What is no record survives, too.
    fn verify_marks(&mut self, log: &Log) -> Result<(), String> {
        let id = log.id();
        let found = log.quorum_state();
        if !self.quorum.is_empty() && !self.quorum.contains(&found) {
            return Err(format!("{id}: {found:?}, promised were {:?}", self.quorum));
        }
        self.quorum = vec![found];
        let epoch = log.latest_leader_epoch().map_or(0, |epoch| epoch.0);
        if epoch < self.epoch {
            return Err(format!("{id}: epoch {epoch}, begun was {}", self.epoch));
        }
        Ok(())
    }
}

pub(crate) type Model = Rc<RefCell<BTreeMap<TopicPartition, ModelLog>>>;

/// Listens for commits and notes them in the model.
pub(crate) struct Listener {
    pub(crate) model: Model,
    pub(crate) fenced: RefCell<Option<String>>,
}

impl CommitListener for Listener {
    fn committed(&self, log: &Rc<Log>, durable_end: Offset, times: CommitTimes) {
        assert!(times.submitted_at <= times.durable_at);
        let mut model = self.model.borrow_mut();
        let known = model.entry(log.id()).or_default();
        assert!(durable_end <= log.log_end_offset());
        known.acknowledged_end = known.acknowledged_end.max(durable_end);
    }
    fn group_done(&self) {}
    fn fenced(&self, reason: &str) {
        *self.fenced.borrow_mut() = Some(reason.to_owned());
    }
}

pub(crate) fn listener(model: &Model) -> Rc<Listener> {
    Rc::new(Listener {
        model: model.clone(),
        fenced: RefCell::new(None),
    })
}

/// Recovers and opens one shard.
pub(crate) async fn open_single(io: &SimIo, options: &StorageOptions) -> Storage<SimIo> {
    recover_data_dir(io, options, |_| ShardId(0), 1)
        .await
        .unwrap();
    Storage::open(io.clone(), options.clone()).await.unwrap()
}

/// Appends and notes the attempt.
pub(crate) fn append(
    storage: &Storage<SimIo>,
    model: &Model,
    log: &Rc<Log>,
    bytes: &[u8],
    durability: Durability,
) -> Result<Appended, AppendError> {
    let context = context(durability);
    append_as(storage, model, log, bytes, context)
}

/// The same, under these circumstances.
pub(crate) fn append_as(
    storage: &Storage<SimIo>,
    model: &Model,
    log: &Rc<Log>,
    bytes: &[u8],
    context: AppendContext,
) -> Result<Appended, AppendError> {
    let appended = storage.append(log, bytes, &info(bytes), context)?;
    if !appended.duplicate {
        let next = appended.last_offset.plus(1);
        let mut model = model.borrow_mut();
        let known = model.entry(log.id()).or_default();
        known.attempted.insert(
            appended.base_offset,
            (next, stored(bytes, appended.base_offset, LeaderEpoch(3))),
        );
    }
    Ok(appended)
}

/// Reads a log from its start: what is there is what was appended. Returns how many batches.
pub(crate) async fn check_all(storage: &Storage<SimIo>, model: &Model, log: &Rc<Log>) -> usize {
    let read = read_all(storage, log, 4000).await.unwrap();
    let attempted = model.borrow()[&log.id()].attempted.clone();
    let first = read.first().map(|(base, ..)| *base);
    assert!(first.is_none_or(|first| first == log.log_start_offset()));
    let count = read.len();
    for (base, next, bytes) in read {
        assert_eq!(attempted[&base], (next, bytes), "{log:?}");
    }
    count
}

/// Everything in a log, batch by batch.
pub(crate) async fn read_all(
    storage: &Storage<SimIo>,
    log: &Rc<Log>,
    bytes_max: usize,
) -> Result<Vec<(Offset, Offset, Bytes)>, String> {
    let mut from = log.log_start_offset();
    let mut found = Vec::new();
    while from < log.durable_end_offset() {
        let request = ReadRequest {
            from,
            end: log.durable_end_offset(),
            bytes_max,
            at_least_one_batch: true,
        };
        let read = storage
            .read(log, request)
            .await
            .map_err(|error| format!("{log:?} at {from}: {error}"))?;
        if read.bytes == 0 {
            return Err(format!("{log:?}: nothing at {from}"));
        }
        for slice in &read.batches {
            for next in Batches::new(slice) {
                let (header, bytes) = next.map_err(|error| format!("{log:?}: {error}"))?;
                found.push((
                    header.base_offset,
                    header.next_offset(),
                    slice.slice_ref(bytes),
                ));
            }
        }
        from = read.next_offset;
    }
    Ok(found)
}

/// Compares a recovered log with the model, and makes the model agree with what survived unacknowledged.
pub(crate) async fn verify(
    storage: &Storage<SimIo>,
    id: TopicPartition,
    known: &mut ModelLog,
    power_cut: bool,
) -> Result<(), String> {
    let Some(log) = storage.log(id) else {
        if known.acknowledged_end == Offset::ZERO || (known.written_only && power_cut) {
            known.attempted.clear();
            known.acknowledged_end = Offset::ZERO;
            return Ok(());
        }
        return Err(format!(
            "{id} is gone, acknowledged up to {}",
            known.acknowledged_end
        ));
    };
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    if let Some(reset) = known.reset.take()
        && start >= reset
    {
        known.is_empty_from(reset);
    }
    if let Some(cut) = known.cut.take() {
        known.acknowledged_end = known.acknowledged_end.min(cut);
    }
    known.verify_marks(&log)?;
    let lossy = known.written_only && power_cut;
    if !lossy && end < known.acknowledged_end {
        return Err(format!(
            "{id} ends at {end}, acknowledged up to {}",
            known.acknowledged_end
        ));
    }
    if start < known.start || start > known.start_max {
        return Err(format!(
            "{id} starts at {start}, acknowledged {}, asked for {}",
            known.start, known.start_max
        ));
    }
    let found = read_all(storage, &log, 3000).await?;
    let mut next = None;
    for (base, after, bytes) in &found {
        let follows = known.gaps.get(base).copied().unwrap_or(*base);
        if next.is_some_and(|next| next != follows) || (next.is_none() && follows > start) {
            return Err(format!("{id}: a gap before {base}"));
        }
        match known.attempted.get(base) {
            Some((_, expected)) if expected == bytes => {}
            Some(_) => return Err(format!("{id}: other bytes at {base}")),
            None => return Err(format!("{id}: a batch nobody sent at {base}")),
        }
        next = Some(*after);
    }
    if next.unwrap_or(start) != end {
        return Err(format!("{id}: reading ends at {next:?}, the log at {end}"));
    }
    known.attempted.retain(|_, (next, _)| *next <= end);
    known.gaps.retain(|base, _| *base < end);
    known.acknowledged_end = end;
    known.start = start;
    verify_transactions(storage, &log, &known.transactions()).await?;
    Ok(())
}

/// Compares what a log knows of its transactions. Nobody appends to it meanwhile. Returns how many aborted ones were found.
pub(crate) async fn verify_transactions(
    storage: &Storage<SimIo>,
    log: &Rc<Log>,
    transactions: &[Transaction],
) -> Result<u64, String> {
    check_stable(log, transactions)?;
    let mut count = 0;
    let (start, end) = (log.log_start_offset().0, log.log_end_offset().0);
    let step = ((end - start) / 3).max(1);
    for from in [start, start + step, end - end.min(3)] {
        for to in [from + 1, from + step, end] {
            let (from, to) = (Offset(from.clamp(start, end)), Offset(to));
            // Of a log that is empty nothing can be read.
            if from >= to {
                continue;
            }
            let found = storage.aborted_transactions(log, from, to).await;
            if log.log_start_offset().0 != start {
                return Ok(count);
            }
            let found = found.map_err(|error| format!("{log:?} at {from}: {error}"))?;
            count += found.len() as u64;
            check_aborted(&found, transactions, Offset(start), (from, to))
                .map_err(|error| format!("{log:?}: {error}"))?;
        }
    }
    Ok(count)
}

/// The partition files of a node.
pub(crate) fn partition_files(simulation: &Simulation) -> Vec<(PathBuf, Bytes)> {
    let files = simulation.files(0);
    let ours = files
        .into_iter()
        .filter(|path| path.starts_with(Path::new(DIRECTORY).join("partitions")));
    ours.map(|path| (path.clone(), simulation.file_bytes(0, &path).unwrap()))
        .collect()
}

pub(crate) async fn pause(io: &SimIo, micros: u64) {
    io.sleep(Duration::from_micros(micros)).await;
}
