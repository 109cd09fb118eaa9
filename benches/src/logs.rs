//! One partition's log on the simulated machine: appends, group commits, reads of the tail.
//!
//! The device is memory, and the simulator's own work is in the figures: it fills each buffer with garbage, in memory
//! that is often touched for the first time, and in `log/commit` it keeps every page that is written. For large batches
//! that is most of the cost: such a figure is an upper bound that shows regressions, not what an append costs a broker.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use model::record::{BatchInfo, Compression};
use model::{LeaderEpoch, Offset, PartitionIndex, ShardId, TopicId, TopicPartition};
use runtime::sim::{SimIo, Simulation};
use runtime::{Signal, Snapshot, labels};
use storage::{
    AppendContext, CommitListener, CommitTimes, Durability, FlushMethod, Log, LogConfig,
    ReadRequest, Storage, StorageOptions, recover_data_dir,
};

use crate::meter::{Meter, timed};
use crate::payload;

const SEED: u64 = 1;

/// A size of batch.
pub(crate) struct Size {
    records: usize,
    value_bytes: usize,
    /// Appends between two waits for the commit: a little over one full commit group.
    burst: u64,
    /// Appends per run.
    appends: u64,
    /// Batches of one read of the tail.
    read_batches: u64,
}

/// Batches of 64 KiB.
pub(crate) const LARGE: Size = Size {
    records: 64,
    value_bytes: 1010,
    burst: 20,
    appends: 800,
    read_batches: 1,
};

/// Batches of one record of 200 bytes.
pub(crate) const SMALL: Size = Size {
    records: 1,
    value_bytes: 200,
    burst: 4_000,
    appends: 40_000,
    read_batches: 300,
};

/// A storage with one log.
pub(crate) struct Opened {
    pub(crate) simulation: Simulation,
    pub(crate) storage: Storage<SimIo>,
    pub(crate) log: Rc<Log>,
    committed: Rc<Signal>,
}

struct Listener(Rc<Signal>);

impl CommitListener for Listener {
    fn committed(&self, _log: &Rc<Log>, _durable_end: Offset, _times: CommitTimes) {
        self.0.raise();
    }
    fn group_done(&self) {}
    fn fenced(&self, reason: &str) {
        panic!("the simulated device is sound, yet the storage is fenced: {reason}");
    }
}

impl Opened {
    /// What the storage has counted so far.
    pub(crate) fn counted(&self) -> Snapshot {
        let mut counted = Snapshot::new();
        self.storage.snapshot_into(&mut counted);
        counted
    }

    /// A fresh one. The flush method is given, because probing for it takes time.
    pub(crate) fn new(options: StorageOptions) -> Opened {
        let options = StorageOptions {
            directory: "/data".into(),
            flush_method: FlushMethod::DurableWrite,
            ..options
        };
        let simulation = Simulation::new(SEED, 1, 1);
        let io = simulation.io(0, 0);
        let storage = simulation.block_on(0, async {
            recover_data_dir(&io, &options, |_| ShardId(0), 1)
                .await
                .expect("an empty directory can be recovered");
            Storage::open(io.clone(), options)
                .await
                .expect("an empty directory can be opened")
        });
        let committed = Signal::new();
        storage.start(Rc::new(Listener(committed.clone())));
        let id = TopicPartition {
            topic: TopicId([7; 16]),
            partition: PartitionIndex(0),
        };
        let log = storage.create_log(id, LogConfig::default());
        Opened {
            simulation,
            storage,
            log,
            committed,
        }
    }

    /// Appends to the open commit group.
    pub(crate) fn append(&self, batch: &[u8], info: &BatchInfo) {
        let context = AppendContext {
            leader_epoch: LeaderEpoch(0),
            durability: Durability::Flushed,
            now: payload::FIRST_TIMESTAMP,
            log_append_time: None,
            check_producer: true,
        };
        self.storage
            .append(&self.log, batch, info, context)
            .expect("a sound log takes a good batch");
    }

    /// Waits until there is room for as much.
    pub(crate) async fn admit(&self, bytes: usize) {
        self.storage
            .admit(bytes)
            .await
            .expect("a sound storage admits");
    }

    /// Waits until everything appended is durable.
    pub(crate) async fn all_committed(&self) {
        while self.log.durable_end_offset() < self.log.log_end_offset() {
            self.committed.wait().await;
        }
    }
}

fn batch(size: &Size) -> (Bytes, BatchInfo) {
    let batch = payload::batch(size.records, size.value_bytes, Compression::None);
    let info = payload::info(&batch);
    (batch, info)
}

/// Appends to the open group, sealing it whenever it is full. The commits happen between the timed bursts.
pub(crate) fn append(meter: &mut Meter, size: &Size) {
    let (batch, info) = batch(size);
    meter.runs(size.appends, batch.len(), |appends| {
        let opened = Opened::new(StorageOptions::default());
        opened.simulation.block_on(0, async {
            let mut time = Duration::ZERO;
            let mut left = appends;
            while left > 0 {
                let burst = left.min(size.burst);
                left -= burst;
                let bytes = usize::try_from(burst).map_or(usize::MAX, |count| count * batch.len());
                opened.admit(bytes).await;
                time += timed(|| {
                    for _ in 0..burst {
                        opened.append(&batch, &info);
                    }
                });
                opened.all_committed().await;
            }
            time
        })
    });
}

/// Everything an append costs until it is durable, and what moving it to its segment costs: with all tasks of the
/// storage and with the simulated device.
pub(crate) fn commit(meter: &mut Meter, size: &Size) {
    let (batch, info) = batch(size);
    meter.runs(size.appends, batch.len(), |appends| {
        let opened = Opened::new(StorageOptions::default());
        timed(|| {
            opened.simulation.block_on(0, async {
                for number in 1..=appends {
                    opened.admit(batch.len()).await;
                    opened.append(&batch, &info);
                    if number.is_multiple_of(size.burst) {
                        opened.all_committed().await;
                    }
                }
                opened.all_committed().await;
            });
        })
    });
}

/// Reads about 64 KiB from the tail: one batch as a slice, so that no rate in bytes is given, or many that are copied
/// together.
pub(crate) fn tail_read(meter: &mut Meter, size: &Size) {
    const READS: u64 = 10_000;
    let (batch, info) = batch(size);
    let opened = Opened::new(StorageOptions::default());
    opened.simulation.block_on(0, async {
        for _ in 0..size.read_batches * 2 {
            opened.append(&batch, &info);
        }
        opened.all_committed().await;
    });
    let bytes = usize::try_from(size.read_batches).expect("a small number") * batch.len();
    let request = ReadRequest {
        from: Offset::ZERO,
        end: opened.log.durable_end_offset(),
        bytes_max: bytes,
        at_least_one_batch: true,
    };
    let copied_bytes = if size.read_batches > 1 { bytes } else { 0 };
    meter.runs(READS, copied_bytes, |reads| {
        timed(|| {
            opened.simulation.block_on(0, async {
                for _ in 0..reads {
                    let read = opened.storage.read(&opened.log, request).await;
                    assert_eq!(read.expect("the tail can be read").bytes, bytes);
                }
            });
        })
    });
    let cold = labels([("source", "segment")]);
    let cold_reads = opened.counted().number("ringlog_log_reads_total", &cold);
    assert_eq!(cold_reads, 0, "reads came from the tail");
}
