//! The storage engine of a broker: opened, read, and given writes in the order that they want.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::record::Batches;
use model::{Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use ringlog_quorum::{HardState, Write};
use runtime::Io as _;
use runtime::sim::SimIo;
use storage::{
    AppendError, CommitListener, CommitTimes, Durability, FollowError, Log, LogConfig, QuorumState,
    ReadRequest, ReplicatedBatch, Storage, StorageOptions, recover_data_dir,
};

const METADATA: TopicPartition = TopicPartition {
    topic: TopicId::METADATA,
    partition: PartitionIndex(0),
};

struct Listener;

impl CommitListener for Listener {
    fn committed(&self, _log: &Rc<Log>, _durable_end: Offset, _times: CommitTimes) {}
    fn group_done(&self) {}
    fn fenced(&self, reason: &str) {
        panic!("{reason}");
    }
}

fn options() -> StorageOptions {
    StorageOptions {
        directory: PathBuf::from("/data"),
        journal_first_file_bytes: 128 << 10,
        journal_file_bytes: 192 << 10,
        journal_bytes_max: 1 << 20,
        group_bytes_max: 32 << 10,
        group_overlap_bytes_min: 4 << 10,
        tail_bytes_max: 192 << 10,
        cache_bytes_max: 64 << 10,
        segment_write_bytes: 6 << 10,
        carry_bytes_max: 2 << 10,
        index_chunk_bytes: 1 << 10,
        extent_bytes: 8 << 10,
        spares_bytes_max: 256 << 10,
        spare_bytes_min: 8 << 10,
        ..StorageOptions::default()
    }
}

pub(super) async fn open(io: &SimIo) -> (Storage<SimIo>, Rc<Log>) {
    recover_data_dir(io, &options(), |_| ShardId(0), 1)
        .await
        .unwrap();
    let storage = Storage::open(io.clone(), options()).await.unwrap();
    storage.start(Rc::new(Listener));
    let config = LogConfig {
        retention_ms: -1,
        retention_bytes: -1,
        delete_enabled: false,
        ..LogConfig::default()
    };
    let log = storage.create_log(METADATA, config);
    (storage, log)
}

pub(super) async fn read(
    storage: &Storage<SimIo>,
    log: &Rc<Log>,
    mut from: Offset,
    end: Offset,
) -> Vec<Bytes> {
    let mut batches = Vec::new();
    while from < end {
        let request = ReadRequest {
            from,
            end,
            bytes_max: 4_000,
            at_least_one_batch: true,
        };
        for slice in &storage.read(log, request).await.unwrap().batches {
            for batch in Batches::new(slice) {
                let (header, batch) = batch.unwrap();
                batches.push(slice.slice_ref(batch));
                from = header.next_offset();
            }
        }
    }
    batches
}

/// Carries out a write, in the order of its fields. `None`: it is under way, and nobody waits for it.
pub(super) async fn carry_out(
    io: &SimIo,
    (storage, log): (&Storage<SimIo>, &Rc<Log>),
    write: &Write,
    waits: bool,
) -> Option<()> {
    let mut mark = None;
    if let Some(state) = write.state {
        let HardState { term, vote, commit } = state;
        let state = QuorumState { term, vote, commit };
        mark = Some(storage.set_quorum_state(log, state).unwrap());
    }
    if let Some(snapshot) = &write.install {
        storage.reset(log, snapshot.end_offset).await.unwrap();
    }
    if let Some(to) = write.truncate_to {
        storage.truncate(&[(log.clone(), to)]).await.unwrap();
    }
    if !write.append.is_empty() {
        let batch = |bytes| ReplicatedBatch {
            bytes,
            offset_delta_of_max_timestamp: 0,
        };
        let batches: Vec<ReplicatedBatch<'_>> = write.append.iter().map(|b| batch(b)).collect();
        let bytes = write.append.iter().map(Bytes::len).sum();
        storage.admit(bytes).await.unwrap();
        // A full journal gets room in time.
        while let Err(error) =
            storage.append_replicated(log, &batches, Durability::Flushed, io.wall_clock())
        {
            assert_eq!(error, FollowError::Append(AppendError::JournalFull));
            io.sleep(Duration::from_millis(1)).await;
        }
    }
    if !waits {
        return None;
    }
    if let Some(mark) = mark {
        storage.wait_for_mark(mark).await.unwrap();
    }
    while log.durable_end_offset() < log.log_end_offset() {
        io.sleep(Duration::from_micros(50)).await;
    }
    Some(())
}
